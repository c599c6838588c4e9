"""APTOS 2019: diabetic retinopathy in fundus photographs, 5 grades, 3,662 images, 9.4 to 1.

Asia Pacific Tele-Ophthalmology Society; get it at https://www.kaggle.com/c/aptos2019-blindness-detection/data:

    train.csv                          id_code,diagnosis
    train_images/<id_code>.png         (sizes vary; the test images have no published labels and are not used)

    python -m data_prep.aptos2019 --source DIR --out PREPARED

Protocols of papers: `5_fold` (AdUni), `7_3` (ProCo) and `80_20` (ALPA); of the training part of the last two a tenth
and a fifth are validation here; `80_20__0` to `80_20__4` validate on each fifth of it in turn. The grades
are ordered: the challenge measured the quadratic weighted kappa.

The traps: no patient is named, both eyes of one may be there, and some photographs are there more than once, even
under two grades. `clean_5_fold`, `clean_7_3` and `clean_80_20` keep near-duplicates together (see
ltjax/data/near_duplicates.py), but not two eyes of a patient. Image size, border and camera go with the grade: a
network can learn them instead.
"""

import argparse
import pathlib

from data_prep.tools import groups, tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError

COUNTS = {'no DR': 1805, 'mild': 370, 'moderate': 999, 'severe': 193, 'proliferative DR': 295}
CLASSES = tuple(COUNTS)
ORIGIN = 'Get it at https://www.kaggle.com/c/aptos2019-blindness-detection/data.'


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads train.csv and train_images."""
    table = tool.find(source, 'train.csv', ORIGIN)
    labels: dict[str, int] = {}
    for row in tool.read_rows(table, ('id_code', 'diagnosis')):
        id_, grade = row['id_code'], row['diagnosis']
        if grade not in ('0', '1', '2', '3', '4'):
            raise UserError(f'{table}: {id_} has the grade {grade!r}, which is not 0 to 4.')
        if id_ in labels:
            raise UserError(f'{table} names {id_} twice: get it again.')
        labels[id_] = int(grade)
    images = tool.index_images(tool.find(source, 'train_images', ORIGIN))
    ids = sorted(tool.matched(labels, images, partial=arguments.partial, origin=ORIGIN))
    items = [Item(id_, labels[id_], images[id_]) for id_ in ids]
    tool.check_counts(items, CLASSES, COUNTS, arguments.partial)
    group = groups.of_near_duplicates({id_: images[id_] for id_ in ids}, arguments.threads)
    items = [item._replace(group=group[item.id]) for item in items]
    names = ('5_fold', 'clean_5_fold', '7_3', 'clean_7_3', '80_20', 'clean_80_20', *tool.INNER)
    return tool.Content(CLASSES, items, tool.draw(items, names, arguments.seed))


SOURCE = tool.Source(
    name='aptos2019',
    origin=ORIGIN,
    licence="the competition's rules on Kaggle: no redistribution",
    read=read,
    ordered=True,
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
