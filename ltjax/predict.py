"""Applies a trained model to new images: `python -m ltjax.predict --workdir=RUN --data=FOLDER_OR_FILE --out=FILE.npz`.

The images come as a folder, an npz or a CSV, with or without labels, in the layouts that training reads; they
are brought to the size and channels that the model was trained on. Written are ids, labels (-1 where there
are none), logits and, with --features, features; as .npz, or as .csv with the predicted class and the
probability of every class. Files that cannot be read stop it, or with --on-damaged=exclude are left out and
listed in FILE.excluded.csv. From Python: `ltjax.run.trained.Trained`.
"""

import argparse
import csv
import json
import pathlib
import sys
from typing import Any

import numpy as np

from ltjax.data import identity, reading, summary
from ltjax.data.reading import arguments, decoding, values
from ltjax.data.reading.archive import made_up_name
from ltjax.data.settings import ON_PROBLEM, Data, Split
from ltjax.errors import UserError
from ltjax.evaluation.metrics import softmax
from ltjax.files import check_target, user_path, write_json, write_npz
from ltjax.run.trained import Trained

# Faults of a table that matter to a prediction: the others are of labels and splits, which it does not need.
_FAULTS = ('layout', 'rows', 'ids')


def predict(model: Trained, path: pathlib.Path) -> dict[str, np.ndarray]:
    """Applies a model to the images at `path`: a folder, an npz or a CSV.

    Returns:
      ids str [N], labels int32 [N] (-1: unknown), logits [N, K], features [N, C], class_names str [K], and
      data_sha256 str [], of the data that the model was trained on.

    Raises:
      UserError: the data cannot be read, or has classes or a shape that the model does not know.
    """
    return apply(model, read(model, arguments.config(path)))[0]


def read(model: Trained, config: Data) -> reading.Raw:
    """Reads images as the model takes them.

    Args:
      model: the model.
      config: the `data` part of a config, from `reading.arguments.config`.

    Raises:
      UserError: the data cannot be read, or has a shape that the model does not know.
    """
    height, width, channels = model.image_shape
    config = config.replace(
        channels=channels,
        interpolation=model.settings.data.interpolation,
        allow_outside=True,  # named by whoever asks
        image_size=height if height == width else 0,
        max_pixels=model.settings.data.max_pixels,
        split=Split(protocol='none'),  # all images, on whichever side
        class_order=json.dumps(model.class_names),  # what the model knows is meant, even 'NA'
    )
    table = reading.survey(config)
    table.refuse(*_FAULTS)
    raw = reading.read(config, table)
    if raw.images.shape[1:] != model.image_shape:
        raise UserError(
            f'images of {config.path} are {raw.images.shape[2]}x{raw.images.shape[1]}, the model takes '
            f'{width}x{height}: resize them.'
        )
    return raw


def apply(model: Trained, raw: reading.Raw) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns what `predict` does, and lines about what was decided."""
    labels, said = known_labels(raw, model.class_names)
    known = identity.overlap(raw.digests, model.identity) if model.identity is not None else 0
    if known:
        said.append(
            f'{known} of {len(raw.ids)} images are among those that the model was trained on'
        )
    features, logits = model.predict(raw.images)
    return {
        'ids': raw.ids,
        'labels': labels,
        'logits': logits,
        'features': features,
        'class_names': np.array(model.class_names),
        'data_sha256': np.array(model.data_sha256),
    }, said


def known_labels(raw: reading.Raw, class_names: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """Returns labels int32 [N] in the numbering of the model, -1 for none, and lines about how they were found.

    They are matched by the names of the classes, as `reading.values` compares names. Labels of an npz without names
    are numbers: they are the names of the model's classes where these are numbers, else places in their order.

    Raises:
      UserError: a label is none of the model's.
    """
    where = raw.table.where
    if raw.labels is None:
        return np.full(len(raw.ids), -1, np.int32), []
    place = {name: k for k, name in enumerate(class_names)}
    used = {k: raw.class_names[k] for k in np.unique(raw.labels[raw.labels >= 0]).tolist()}
    said = list[str]()
    if raw.table.written.made_up and not set(used.values()) <= set(place):
        number_of = {made_up_name(k): k for k in range(1 + max(used, default=0))}
        numbers = {k: number_of[name] for k, name in used.items()}
        if values.are_numbers(class_names):
            used = {k: str(number) for k, number in numbers.items()}
            said.append(f'labels of {where} are taken as the names of classes, which are numbers')
        else:
            place = {str(k): k for k in range(len(class_names))}
            used = {k: str(number) for k, number in numbers.items()}
            said.append(
                f'labels of {where} have no names, and are taken as places in {", ".join(class_names)}'
            )
    elif set(class_names) == {made_up_name(k) for k in range(len(class_names))}:
        whole = {k: values.whole_number(name) for k, name in used.items()}
        if used and None not in whole.values():
            said.append(f'labels of {where} are taken as the numbers of classes without names')
            used = {k: made_up_name(number or 0) for k, number in whole.items()}
    strange = values.in_natural_order({*used.values()} - set(place))
    if strange and raw.table.written.made_up:
        raise UserError(
            f'label {strange[0]} of {where} is out of range: the model knows {", ".join(class_names)}.'
        )
    if strange:
        raise UserError(
            f'{where} has the class {strange[0]!r}, the model knows {", ".join(class_names)}: rename the '
            'class, or put the images into one folder without class folders.'
        )
    numbered = np.full(len(raw.class_names) + 1, -1, np.int32)  # the last is that of no label
    for k, name in used.items():
        numbered[k] = place[name]
    return numbered[raw.labels], said


def write_csv(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes one row an image: id, label (empty if unknown), prediction, and a probability a class."""
    class_names = arrays['class_names'].tolist()
    probabilities = softmax(arrays['logits'])
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'label', 'prediction', *(f'p({name})' for name in class_names)])
        for name, label, row in zip(arrays['ids'], arrays['labels'], probabilities, strict=True):
            known = class_names[label] if label >= 0 else ''
            numbers = [f'{value:.6g}' for value in row]
            writer.writerow([name, known, class_names[int(row.argmax())], *numbers])


def main(argv: list[str]) -> None:
    """Reads the arguments, predicts, writes; prints a line, and the accuracy on the images that have a label."""
    parser = argparse.ArgumentParser('python -m ltjax.predict', description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', type=user_path, required=True, help='a finished run')
    parser.add_argument('--data', type=user_path, required=True, help='a folder, .npz or .csv')
    parser.add_argument('--out', type=user_path, required=True, help='the .npz or .csv to write')
    parser.add_argument('--features', action='store_true', help='also write the features (.npz)')
    parser.add_argument(
        '--on-damaged',
        choices=ON_PROBLEM,
        default='stop',
        help='at images that cannot be read; those excluded are listed in OUT.excluded.csv',
    )
    arguments.add(parser)
    given = parser.parse_args(argv)
    if given.out.suffix not in reading.FORMAT_OF_SUFFIX:
        raise UserError(f'{given.out} should end in .npz or .csv.')
    if given.features and given.out.suffix == '.csv':
        raise UserError(f'{given.out} holds no features: end it in .npz, or leave out --features.')
    if not given.out.parent.is_dir():
        raise UserError(f'{given.out.parent} is no folder: make it first.')
    check_target(given.out, given.data)
    config = arguments.config(given.data, given).replace(on_damaged=given.on_damaged)
    model = Trained.load(given.workdir)
    raw = read(model, config)
    arrays, said = apply(model, raw)
    if not given.features:
        del arrays['features']
    if given.out.suffix == '.csv':
        write_csv(given.out, arrays)
        write_json(given.out.with_name(f'{given.out.name}.json'), _about(given.workdir, arrays))
    else:
        write_npz(given.out, arrays)
    labels = arrays['labels']
    print(f'{given.out}: {len(labels)} images')
    for line in said:
        print(f'note: {line}')
    if raw.table.written.passed_over:
        print(f'passed over: {summary.listed(raw.table.written.passed_over)}')
    if raw.excluded:
        listed = given.out.with_name(f'{given.out.name}.excluded.csv')
        decoding.write(listed, raw.excluded)
        print(f'{listed}: {len(raw.excluded)} images that cannot be read')
    labelled = labels >= 0
    if labelled.any():
        some = '' if labelled.all() else f' on the {labelled.sum()} images with a label'
        labels, predicted = labels[labelled], arrays['logits'].argmax(axis=1)[labelled]
        correct = predicted == labels
        recalls = [correct[labels == label].mean() for label in np.unique(labels)]
        print(f'accuracy {correct.mean():.1%}, balanced accuracy {np.mean(recalls):.1%}{some}')


def _about(workdir: pathlib.Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns what a CSV cannot say of itself."""
    return {
        'workdir': str(workdir),
        'class_names': arrays['class_names'].tolist(),
        'data_sha256': str(arrays['data_sha256']),
    }


def cli() -> None:
    """The entry point: mistakes end with one line on stderr and exit status 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)


if __name__ == '__main__':
    cli()
