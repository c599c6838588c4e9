"""Applies a trained model to new images: `python -m ltjax.predict --workdir=RUN --data=FOLDER_OR_FILE --out=FILE.npz`.

The images come as a folder, an npz or a CSV, with or without labels, in the layouts that training reads; they
are brought to the size and channels that the model was trained on. Written are ids, labels (-1 where there
are none), logits and, with --features, features; as .npz, or as .csv with the predicted class and the
probability of every class. Files that cannot be read stop it, or with --on-damaged=exclude are left out and
listed in FILE.excluded.csv. From Python: `ltjax.trained.Trained`.
"""

import argparse
import csv
import pathlib
import sys

import numpy as np

from ltjax import workdir as folder
from ltjax.data import catalog, datasets, loading, readers
from ltjax.errors import UserError
from ltjax.evaluation.metrics import softmax
from ltjax.trained import Trained

FORMATS = {'.npz': 'npz', '.csv': 'csv'}


def predict(model: Trained, path: pathlib.Path) -> dict[str, np.ndarray]:
    """Applies a model to the images at `path`: a folder, an npz or a CSV.

    Returns:
      ids str [N], labels int32 [N] (-1: unknown), logits [N, K], features [N, C].

    Raises:
      UserError: the data cannot be read, or has classes or a shape that the model does not know.
    """
    return _apply(model, read(model, path), path)


def read(model: Trained, path: pathlib.Path, *, on_damaged: str = 'stop') -> readers.Raw:
    """Reads images as the model takes them; those that cannot be read stop it, or are left out ('exclude').

    Raises:
      UserError: the data cannot be read, or has a shape that the model does not know.
    """
    if not path.is_dir() and path.suffix not in FORMATS:
        raise UserError(f'{path} is no folder, .npz or .csv: give --data one of these.')
    height, width, channels = model.image_shape
    config = catalog.get('npz')
    config.path = str(path)
    config.format = 'folder' if path.is_dir() else FORMATS[path.suffix]
    config.channels = channels
    config.interpolation = model.config.data.interpolation
    config.allow_outside = True  # named by whoever asks
    config.image_size = height if height == width else 0
    config.on_damaged = on_damaged
    config.max_pixels = model.config.data.get('max_pixels', config.max_pixels)
    raw = readers.read(config)
    if raw.images.shape[1:] != model.image_shape:
        raise UserError(
            f'images of {path} are {raw.images.shape[2]}x{raw.images.shape[1]}, the model takes {width}x{height}: '
            'resize them.'
        )
    return raw


def _apply(model: Trained, raw: readers.Raw, path: pathlib.Path) -> dict[str, np.ndarray]:
    labels = _known_labels(raw, model.class_names, path)
    features, logits = model.predict(raw.images)
    return {
        'ids': raw.ids,
        'labels': labels,
        'logits': logits,
        'features': features,
    }


def _known_labels(raw: readers.Raw, class_names: tuple[str, ...], path: pathlib.Path) -> np.ndarray:
    """Returns labels in the numbering of the model, by class name where the data has names; -1 without labels."""
    if raw.labels is None:
        return np.full(len(raw.images), -1, np.int32)
    labels, names = datasets.check_labels(raw.labels, raw.class_names or class_names, str(path))
    strange = sorted(set(names) - set(class_names))
    if strange:
        raise UserError(
            f'{path} has the class {strange[0]!r}, the model knows {", ".join(class_names)}: rename the '
            'class, or put the images into one folder without class folders.'
        )
    return np.array([class_names.index(name) for name in names], np.int32)[labels]


def write_csv(
    path: pathlib.Path, arrays: dict[str, np.ndarray], class_names: tuple[str, ...]
) -> None:
    """Writes one row an image: id, label (empty if unknown), prediction, and a probability a class."""
    probabilities = softmax(arrays['logits'])
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'label', 'prediction', *(f'p({name})' for name in class_names)])
        for name, label, row in zip(arrays['ids'], arrays['labels'], probabilities, strict=True):
            known = class_names[label] if label >= 0 else ''
            numbers = [f'{value:.6g}' for value in row]
            writer.writerow([name, known, class_names[int(row.argmax())], *numbers])


def main(argv: list[str]) -> None:
    """Reads the arguments, predicts, writes; prints a line, and the accuracy if every image has a label."""
    parser = argparse.ArgumentParser('python -m ltjax.predict', description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', type=pathlib.Path, required=True, help='a finished run')
    parser.add_argument('--data', type=pathlib.Path, required=True, help='a folder, .npz or .csv')
    parser.add_argument('--out', type=pathlib.Path, required=True, help='the .npz or .csv to write')
    parser.add_argument('--features', action='store_true', help='also write the features (.npz)')
    parser.add_argument(
        '--on-damaged',
        choices=loading.ON_DAMAGED,
        default='stop',
        help='at images that cannot be read; those excluded are listed in OUT.excluded.csv',
    )
    given = parser.parse_args(argv)
    if given.out.suffix not in FORMATS:
        raise UserError(f'{given.out} should end in .npz or .csv.')
    if given.features and given.out.suffix == '.csv':
        raise UserError(f'{given.out} holds no features: end it in .npz, or leave out --features.')
    if not given.out.parent.is_dir():
        raise UserError(f'{given.out.parent} is no folder: make it first.')
    if not given.data.exists():
        raise UserError(f'{given.data} does not exist: correct --data.')
    model = Trained.load(given.workdir)
    raw = read(model, given.data, on_damaged=given.on_damaged)
    arrays = _apply(model, raw, given.data)
    if not given.features:
        del arrays['features']
    if given.out.suffix == '.csv':
        write_csv(given.out, arrays, model.class_names)
    else:
        folder.write_npz(given.out, arrays)
    labels = arrays['labels']
    print(f'{given.out}: {len(labels)} images')
    if raw.excluded:
        listed = given.out.with_name(f'{given.out.name}.excluded.csv')
        loading.write(listed, raw.excluded)
        print(f'{listed}: {len(raw.excluded)} images that cannot be read')
    if (labels >= 0).all():
        correct = arrays['logits'].argmax(axis=1) == labels
        recalls = [correct[labels == label].mean() for label in np.unique(labels)]
        print(f'accuracy {correct.mean():.1%}, balanced accuracy {np.mean(recalls):.1%}')


def cli() -> None:
    """The entry point: mistakes end with one line on stderr and exit status 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    cli()
