"""Applies a trained model to new images: `python -m ltjax.predict --workdir=RUN --data=FOLDER_OR_FILE --out=FILE.npz`.

The images come as a folder, an npz, a CSV or a prepared set, with or without labels, in the layouts that training
reads, all or those of one side of a split (--split=test, --protocol=NAME); they are brought to the size and channels
that the model was trained on. Written are ids, labels (-1 where there are none), logits, groups where they are known
and, with --features, features; as .npz, or as .csv with the predicted class and the probability of every class. Files
that cannot be read stop it, or with --on-damaged=exclude are left out and listed in FILE.excluded.csv.
--calibrate=temperature makes probabilities mean what they say; it changes no predicted class. --prevalence gives
probabilities for patients among whom the classes have other shares. --sensitivity=0.9 (or --specificity) also writes
which classes count as positive, --sets which labels an image may have; the run's validation images choose both. From
Python: `ltjax.load(RUN).predict(DATA)`.
"""

import argparse
import csv
import dataclasses
import io
import math
import pathlib
import shutil
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ltjax.command import called, exits, goes_on
from ltjax.data import reading, summary
from ltjax.data.reading import arguments, decoding
from ltjax.data.settings import ON_PROBLEM
from ltjax.errors import UserError
from ltjax.evaluation.prediction_sets import METHODS
from ltjax.evaluation.prevalence import shares
from ltjax.evaluation.recalibration import SCALINGS
from ltjax.files import check_target, user_path, write_csv, write_json, write_npz
from ltjax.run import deciding
from ltjax.run.applying import Predictions
from ltjax.run.deciding import Decisions
from ltjax.run.trained import Trained

# What --prevalence is where the shares are not known.
ESTIMATE = 'estimate'


def write(
    path: pathlib.Path,
    found: Predictions,
    model: Trained,
    groups: np.ndarray | None,
    features: bool,
    decisions: Decisions,
) -> None:
    """Writes predictions as the name of the file says; beside a CSV, what it cannot say of itself.

    Args:
      path: an .npz or .csv.
      found: what the model says.
      model: the model.
      groups: str [N], the patient, lesion or smear of each image; None if it is not known.
      features: whether to write them too.
      decisions: what is decided of the images.
    """
    if path.suffix == '.csv':
        _write_csv(path, found, groups, decisions)
        about: dict[str, Any] = {'class_names': model.class_names, 'data_sha256': model.data_sha256}
        if decisions.thresholds is not None:
            least = decisions.thresholds.tolist()
            about['thresholds'] = [None if math.isnan(value) else value for value in least]
        if decisions.fitted is not None:
            about['sets'] = decisions.fitted.to_json()
        write_json(path.with_name(f'{path.name}.json'), about)
        return
    arrays = {'ids': found.ids, 'labels': found.labels, 'logits': found.logits}
    arrays |= {'features': found.features} if features else {}
    arrays |= {} if groups is None else {'groups': groups}
    for name in ('thresholds', 'positive', 'sets'):
        value = getattr(decisions, name)
        arrays |= {} if value is None else {name: value}
    arrays |= {'class_names': np.array(model.class_names)}
    write_npz(path, arrays | {'data_sha256': np.array(model.data_sha256)})


def _write_csv(
    path: pathlib.Path, found: Predictions, groups: np.ndarray | None, decisions: Decisions
) -> None:
    """Writes a row an image: id, label (empty if unknown), prediction, any group and decisions, and probabilities."""
    names = np.array(found.class_names)
    decided = {'positive': decisions.positive, 'set': decisions.sets}
    chosen = {column: masks for column, masks in decided.items() if masks is not None}

    def rows() -> Iterator[list[str]]:
        group_column = [] if groups is None else ['group']
        yield [
            'id',
            'label',
            'prediction',
            *group_column,
            *chosen,
            *(f'p({name})' for name in names),
        ]
        for row, (name, label) in enumerate(zip(found.ids, found.labels, strict=True)):
            probabilities = found.probabilities[row]
            cells = [name, names[label] if label >= 0 else '', names[int(probabilities.argmax())]]
            cells += [] if groups is None else [groups[row]]
            cells += [csv_line(names[masks[row]].tolist()) for masks in chosen.values()]
            yield [*cells, *(f'{value:.6g}' for value in probabilities)]

    write_csv(path, rows(), lineterminator='\r\n')


def csv_line(cells: list[str]) -> str:
    """Returns the cells as a line of a CSV, in which a name with a comma is quoted."""
    text = io.StringIO()
    csv.writer(text, lineterminator='').writerow(cells)
    return text.getvalue()


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'cannot make {folder} ({error.strerror}): give another --out.') from None


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the arguments; UserError where they do not go together."""
    parser = argparse.ArgumentParser(called('ltjax.predict'), description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', type=user_path, required=True, help='a finished run')
    parser.add_argument(
        '--data', type=user_path, required=True, help='a folder, .npz, .csv or prepared set'
    )
    parser.add_argument('--out', type=user_path, required=True, help='the .npz or .csv to write')
    parser.add_argument('--split', default='', help='only images of this side: test, or a fold')
    parser.add_argument('--protocol', default='', help='of a prepared set with several splits')
    parser.add_argument('--features', action='store_true', help='also write the features (.npz)')
    parser.add_argument(
        '--calibrate',
        choices=SCALINGS,
        help='scale the logits as the run found best for its validation images',
    )
    parser.add_argument(
        '--prevalence',
        default='',
        metavar='CLASS=SHARE,...',
        help='probabilities for patients with these shares of the classes, or with those that are estimated from the '
        f'images ({ESTIMATE}); by vector scaling',
    )
    wished = parser.add_mutually_exclusive_group()
    for name in ('sensitivity', 'specificity'):
        wished.add_argument(
            f'--{name}',
            type=float,
            help='of each class on the validation images: writes which classes reach the threshold for it',
        )
    parser.add_argument(
        '--sets',
        choices=METHODS,
        default='',
        help='also write sets of labels; see docs/evaluation.md',
    )
    parser.add_argument(
        '--alpha', type=float, default=0.1, help='share of the images whose label a set may miss'
    )
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
    if given.sets and given.prevalence and given.sets != 'class_conditional':
        raise UserError(
            f'--sets={given.sets} promises what it does of patients such as those of the validation images: leave out '
            '--prevalence, or choose --sets=class_conditional.'
        )
    check_target(given.out, given.data)
    return given


def _meant(given: argparse.Namespace, model: Trained) -> list[float] | None:
    """Returns the shares that --prevalence gives, None where they are to be estimated or none are asked for."""
    if not given.prevalence:
        return None
    if given.calibrate not in (None, 'vector'):
        raise UserError(
            f'--prevalence needs probabilities that are calibrated by class: leave out --calibrate={given.calibrate}.'
        )
    given.calibrate = 'vector'
    return None if given.prevalence == ESTIMATE else shares(given.prevalence, model.class_names)


def _decisions(
    given: argparse.Namespace,
    model: Trained,
    probabilities: np.ndarray,
    shares: np.ndarray | None,
) -> Decisions:
    """Returns what --sensitivity, --specificity and --sets ask for."""
    wished = _wished(given)
    if not (wished or given.sets):
        return Decisions(None, None, None, None, [])
    validation = deciding.validation(model, given.calibrate or '', shares)
    return deciding.decide(
        model, validation, probabilities, wished=wished, method=given.sets, alpha=given.alpha
    )


def _wished(given: argparse.Namespace) -> dict[str, float]:
    values = {name: getattr(given, name) for name in ('sensitivity', 'specificity')}
    return {name: value for name, value in values.items() if value is not None}


@arguments.in_own_words('on_damaged')
def main(argv: list[str]) -> None:
    """Reads the arguments, predicts, writes; prints a line, and the accuracy on the images that have a label."""
    given = parse(argv)
    config = arguments.config(given.data, given).replace(on_damaged=given.on_damaged)
    model = Trained.load(given.workdir)
    meant = _meant(given, model)
    scaling = deciding.scaling(model, given.calibrate) if given.calibrate else None
    # Of no image first: what is wrong with a wish is said before a long prediction.
    _decisions(given, model, np.zeros((0, len(model.class_names))), None)
    source = model.source(config, side=given.split, protocol=given.protocol)
    _make_folder(given.out.parent)
    parts = given.out.with_name(f'{given.out.name}.parts')
    found, said, applied = model.apply(source, features=given.features, folder=parts)
    if scaling is not None:
        # As float64: two that differ in the last bit could else become equal, and the first would win.
        found = dataclasses.replace(found, logits=scaling.apply(found.logits))
    found_shares = None
    if given.prevalence:
        logits, found_shares = deciding.under_prevalence(model, found.logits, meant)
        found = dataclasses.replace(found, logits=logits)
        named = zip(model.class_names, found_shares, strict=True)
        said.append(f'prevalence: {", ".join(f"{name} {share:.3g}" for name, share in named)}')
    decisions = _decisions(given, model, found.probabilities, found_shares)
    said += decisions.said
    write(given.out, found, model, source.of(applied.rows).groups, given.features, decisions)
    labels = found.labels
    print(f'{given.out}: {len(labels)} images')
    for line in said:
        print(f'note: {line}')
    if source.table.written.passed_over:
        print(f'passed over: {summary.listed(source.table.written.passed_over)}')
    if applied.excluded:
        listed = given.out.with_name(f'{given.out.name}.excluded.csv')
        decoding.write(listed, applied.excluded)
        print(f'{listed}: {len(applied.excluded)} images that cannot be read')
    shutil.rmtree(parts, ignore_errors=True)
    labelled = labels >= 0
    if labelled.any():
        some = '' if labelled.all() else f' on the {labelled.sum()} images with a label'
        labels, predicted = labels[labelled], found.logits.argmax(axis=1)[labelled]
        correct = predicted == labels
        recalls = [correct[labels == label].mean() for label in np.unique(labels)]
        print(f'accuracy {correct.mean():.1%}, balanced accuracy {np.mean(recalls):.1%}{some}')


@exits()
def cli() -> None:
    """The entry point."""
    with goes_on('the output'):
        main(sys.argv[1:])


if __name__ == '__main__':
    cli()
