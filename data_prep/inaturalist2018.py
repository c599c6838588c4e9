"""iNaturalist 2018: photographs of 8,142 species, 437,513 + 24,426 images, naturally long-tailed; not medical.

Van Horn et al., CVPR 2018. Get train_val2018.tar.gz, train2018.json, val2018.json and categories.json at
https://github.com/visipedia/inat_comp/tree/master/2018 and put them into one folder:

    train2018.json, val2018.json        COCO-like: images, annotations, categories
    categories.json                     the species' names, published later (without it classes are numbers)
    train_val2018/Plantae/7291/NAME.jpg ...

    python -m data_prep.inaturalist2018 --source DIR --out PREPARED

The labels of the test images are not public, and papers report what they measure on the part val (3 images a class):
here it is the test of both protocols. `official` has nothing to choose settings on; `clean_official` holds out a tenth
of the training images of every class for that.

Non-commercial use; the images have their own licences and must not be passed on.
"""

import argparse
import json
import pathlib
from typing import Any

from data_prep.tools import parts, tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError

CLASSES = 8142
SIZES = {'train': 437513, 'val': 24426}
ORIGIN = 'Get the files at https://github.com/visipedia/inat_comp/tree/master/2018.'


def read_json(path: pathlib.Path) -> Any:
    """Returns what a JSON file holds."""
    try:
        return json.loads(path.read_text('utf-8'))
    except ValueError as error:
        raise UserError(f'{path} is not JSON ({error}): get it again. {ORIGIN}') from None


def read_part(path: pathlib.Path) -> dict[str, int]:
    """Returns the class index by image file of train2018.json or val2018.json."""
    content = read_json(path)
    try:
        files = {image['id']: image['file_name'] for image in content['images']}
        category = {one['image_id']: one['category_id'] for one in content['annotations']}
    except (TypeError, KeyError) as error:
        raise UserError(f'{path} lacks {error}: get it again. {ORIGIN}') from None
    if len(set(files.values())) < len(content['images']):
        raise UserError(f'{path} names an image twice: get it again.')
    if len(category) < len(content['annotations']) or not category.keys() <= files.keys():
        raise UserError(f'{path} has two annotations of an image, or one of none: get it again.')
    without = [name for id_, name in files.items() if id_ not in category]
    if without:
        raise UserError(f'{path} has no annotation of {without[0]}: get it again. {ORIGIN}')
    if not all(0 <= label < CLASSES for label in category.values()):
        raise UserError(f'{path} has a category outside 0..{CLASSES - 1}: get it again.')
    return {name: category[id_] for id_, name in files.items()}


def class_names(path: pathlib.Path | None) -> tuple[str, ...]:
    """Returns number and, where categories.json tells it, name of every species."""
    listed = [] if path is None else read_json(path)
    try:
        names = {int(one['id']): one['name'] for one in listed}
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f'{path} lacks {error}: get it again. {ORIGIN}') from None
    return tuple(f'{k:04d} {names.get(k, "")}'.rstrip() for k in range(CLASSES))


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the two files of annotations and looks for their images."""
    images: dict[str, pathlib.Path] = {}
    labels: dict[str, int] = {}
    part: dict[str, str] = {}
    for side, size in SIZES.items():
        path = tool.find(source, f'{side}2018.json', ORIGIN)
        listed = read_part(path)
        if len(listed) != size and not arguments.partial:
            raise UserError(f'{path} has {len(listed)} images, not {size}: get it again.')
        for name, label in listed.items():
            if name in part:
                raise UserError(f'{name} is also in {part[name]}2018.json: get both again.')
            labels[name], part[name] = label, side
            if (path.parent / name).exists():
                images[name] = path.parent / name
    ids = tool.matched(labels, images, partial=arguments.partial, origin=ORIGIN)
    items = [Item(id_, labels[id_], images[id_]) for id_ in ids]
    sides = {id_: 'test' if part[id_] == 'val' else 'train' for id_ in ids}
    names = class_names(tool.look(source, 'categories.json'))
    return tool.Content(names, items, parts.official(items, sides, arguments.seed))


SOURCE = tool.Source(
    name='inaturalist2018',
    origin=ORIGIN,
    licence="the photographers' own licences, non-commercial; not to be passed on",
    read=read,
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
