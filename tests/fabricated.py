"""Miniature copies of public data sets in the layouts they are published in; the pictures are noise."""

import csv
import pathlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from data_prep.tools import tool
from ltjax import benchmarks
from ltjax.data.prepared import records


def picture(path: pathlib.Path, *, size: tuple[int, int] = (12, 10)) -> pathlib.Path:
    """Writes noise that depends on the file's name, as JPEG or PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.stem.encode()))
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path)
    return path


def litter(folder: pathlib.Path) -> None:
    """Leaves what systems and publishers leave in folders of images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ('.DS_Store', '._ISIC_0000001.jpg', 'attribution.txt', 'Thumbs.db'):
        (folder / name).write_bytes(b'\x00no image')


def table(
    path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ','
) -> pathlib.Path:
    """Writes a CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def one_hot(
    path: pathlib.Path,
    labels: Mapping[str, str],
    classes: Sequence[str],
    *,
    values: tuple[str, str] = ('0.0', '1.0'),
    more: Sequence[str] = (),
) -> pathlib.Path:
    """Writes `image` and a column a class; columns `more` at the end hold something else."""
    rows = [
        [image, *(values[name == label] for name in classes), *('0.5' for _ in more)]
        for image, label in labels.items()
    ]
    return table(path, ('image', *classes, *more), rows)


def names(counts: Mapping[str, int], form: str = 'ISIC_{:07d}') -> dict[str, str]:
    """Returns class names by image name, the classes interleaved as the archive has them."""
    classes = [name for name, count in counts.items() for _ in range(count)]
    mixed = np.random.default_rng(0).permutation(len(classes))
    return {form.format(at): classes[which] for at, which in enumerate(mixed)}


def run(module: Any, source: pathlib.Path, out: pathlib.Path, *flags: str) -> records.Prepared:
    """Runs a program of data_prep on `source`, whatever numbers of images were published, and opens what it wrote."""
    argv = [f'--source={source}', f'--out={out}', '--size=8', '--threads=1', *flags]
    tool.run(module.SOURCE, module.__doc__, [*argv, '--partial'])
    return records.read(out)


def has_what_its_benchmarks_take(found: records.Prepared, name: str) -> bool:
    """Tells whether a set has the protocol, and the number of classes, of every paper's experiment on it."""
    takes = [benchmarks.get(each) for each in benchmarks.names() if each.startswith(f'{name}@')]
    return bool(takes) and all(
        each.data['split.protocol'] in found.manifest['splits']
        and each.classes == len(found.class_names)
        for each in takes
    )


def labels_of(found: records.Prepared) -> dict[str, str]:
    """Returns class names by id."""
    return {
        id_: found.class_names[label]
        for id_, label in zip(found.ids.tolist(), found.labels.tolist(), strict=True)
    }


def sides(found: records.Prepared, protocol: str) -> dict[str, str]:
    """Returns the part of every image that the protocol uses."""
    parts = found.split(protocol).tolist()
    return {id_: part for id_, part in zip(found.ids.tolist(), parts, strict=True) if part}
