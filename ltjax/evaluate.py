"""Evaluates predictions, whoever made them: `python -m ltjax.evaluate PREDICTIONS [--against OTHER ...]`.

PREDICTIONS is an .npz (labels, class_names, and logits or probabilities; ids and groups if they are known), as a run
leaves it, or a .csv: a row an image, with columns id, label, group, and p(CLASS) or logit(CLASS) of each class. Every
figure has a 95 % interval; where there are groups (patients, lesions, smears), resamples draw these whole. --against
compares with other predictions of the same images, corrected for their number (Holm).

`python -m ltjax.evaluate --workdir=RUN --data=NEW_SITE` applies the model of a run to labelled images of another
place first, and shows them beside the run's own test.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.command import called, exits
from ltjax.errors import UserError, unknown
from ltjax.evaluation import (
    external,
    paired,
    parts,
    prediction_files,
    prevalence,
    trained_on,
    whole,
)
from ltjax.evaluation.bootstrap import clusters_of
from ltjax.evaluation.parts import Wishes
from ltjax.evaluation.prediction_files import USUAL, Naming
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.table import METRIC_TITLES, format_metrics
from ltjax.files import user_path, write_json
from ltjax.report import writing

_COMPARED = ('balanced_accuracy', 'accuracy', 'macro_f1')


def main(argv: Sequence[str]) -> None:
    """Reads the arguments, evaluates, prints, and writes what --out asks for."""
    parser = argparse.ArgumentParser(called('ltjax.evaluate'), description=__doc__.splitlines()[0])
    parser.add_argument('predictions', nargs='?', type=user_path, help='an .npz or .csv')
    parser.add_argument('--against', nargs='+', default=[], type=user_path, metavar='OTHER')
    parser.add_argument(
        '--validation',
        type=user_path,
        metavar='FILE',
        help='predictions of validation images, which choose temperature, thresholds and prediction sets; default: '
        "the validation.npz beside a run's predictions.npz",
    )
    parser.add_argument('--ordered', action='store_true', help='the classes are grades')
    parser.add_argument('--by', default='', help='columns with commas: figures of their subgroups')
    parser.add_argument('--sensitivity', type=float, help='wished of each class; default: 0.9')
    parser.add_argument('--specificity', type=float, help='wished of each class in its place')
    parser.add_argument('--alpha', type=float, help='what prediction sets may miss; default: 0.1')
    parser.add_argument(
        '--prevalence',
        default='',
        metavar='CLASS=SHARE,...',
        help='shares of the classes among the patients that are meant, for predictive values',
    )
    parser.add_argument(
        '--train-counts',
        type=user_path,
        metavar='FILE',
        help='training images of each class, by which head, medium and tail are divided: a CSV of class and count, '
        'or the results.json of a run; default: the one beside PREDICTIONS',
    )
    parser.add_argument(
        '--columns',
        action='append',
        default=[],
        metavar='WHAT=COLUMN',
        help='what a column of a CSV is called: WHAT is id, label or group',
    )
    parser.add_argument(
        '--classes', default='', help='columns of scores of a CSV, as a line of a CSV'
    )
    parser.add_argument('--logits', action='store_true', help='those are logits')
    parser.add_argument('--workdir', type=user_path, help='a finished run, to apply to --data')
    parser.add_argument('--data', type=user_path, help='labelled images of another place')
    parser.add_argument('--bootstrap', type=int, default=1000, help='resamples of the intervals')
    parser.add_argument('--out', type=user_path, metavar='FOLDER', help='for results and report')
    given = parser.parse_args(argv)
    if given.bootstrap < 1:
        raise UserError(f'--bootstrap={given.bootstrap}: use 1 or more.')
    if bool(given.workdir) != bool(given.data) or bool(given.workdir) == bool(given.predictions):
        raise UserError('give PREDICTIONS, or --workdir=RUN and --data=NEW_SITE.')
    if given.out:
        _check_out(given.out)
        try:
            given.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f'{given.out} cannot be made ({error.strerror}): give another --out.'
            ) from None
    results = _of_a_model(given) if given.workdir else _of_a_file(given)
    if given.out:
        write_json(given.out / 'results.json', results)
        print(f'\nreport: {writing.write_report(given.out)}')


def _check_out(folder: pathlib.Path) -> None:
    """Refuses what is no folder, and one whose results are not those of an evaluation."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f'{folder} is no folder: give another --out.')
    if (folder / 'config.json').exists():
        raise UserError(
            f'{folder} is the folder of a run, whose results would be lost: give another --out.'
        )
    path = folder / 'results.json'
    if path.exists() and not {'against', 'internal'} & trained_on.read(path).keys():
        raise UserError(f'{path} is of something else, and would be lost: give another --out.')


def _of_a_file(given: argparse.Namespace) -> dict[str, Any]:
    """Evaluates a file of predictions, and compares it with others."""
    naming = _naming(given)
    found = prediction_files.read(given.predictions, naming)
    others = {str(path): prediction_files.read(path, naming).like(found) for path in given.against}
    counts, groups, said = trained_on.find(found, given.train_counts)
    by = list(prevalence.cells(given.by))
    for name in by:
        if not found.columns:
            raise UserError(f'{found.where} has no further columns: leave out --by, or add {name}.')
        if name not in found.columns:
            raise unknown(f'further column of {found.where}', name, found.columns)
    validation, told = _validation(given, found, naming)
    test = whole.evaluate(
        found,
        train_counts=counts,
        groups=groups,
        ordered=given.ordered,
        validation=validation,
        wishes=_wishes(given, found.class_names),
        by=by,
        num_bootstrap=given.bootstrap,
    )
    test['warnings'] += [*said, *told]
    results = {
        'method': 'Evaluation',
        'dataset': given.predictions.name,
        'class_names': list(found.class_names),
        'train_counts': counts,
        'test': test,
        'against': _against(found, others, groups, given.bootstrap),
    }
    _show(test)
    for name, compared in results['against'].items():
        print(f'\nminus {name}, points:')
        for metric, row in compared.items():
            print(_difference(metric, row))
    return results


def _validation(
    given: argparse.Namespace, found: Predictions, naming: Naming
) -> tuple[Predictions | None, list[str]]:
    """Returns the predictions of validation images: the file that is named, or that which a run left beside."""
    if given.validation:
        validation = prediction_files.read(given.validation, naming)
        whole.check_apart(found, validation)
        return validation, []
    beside = given.predictions.with_name('validation.npz')
    if given.predictions.name != 'predictions.npz' or not beside.is_file():
        return None, []
    try:
        validation = prediction_files.read(beside, naming)
        whole.check_apart(found, validation)
    except UserError as error:  # it may be anybody's
        return None, [f'The file beside was passed over: {error}']
    return validation, []


def _of_a_model(given: argparse.Namespace) -> dict[str, Any]:
    """Applies the model of a run to new data, and sets its figures beside those of the run's test."""
    from ltjax.run.trained import Trained

    for name in ('against', 'validation', 'train_counts', 'columns', 'classes', 'logits'):
        if getattr(given, name):
            raise UserError(
                f'--{name.replace("_", "-")} is for a file of predictions: write one with `ltjax predict` first.'
            )
    model = Trained.load(given.workdir)
    internal = json.loads((given.workdir / 'results.json').read_text('utf-8'))
    test = model.evaluate(given.data, given.bootstrap, wishes=_wishes(given, model.class_names))
    results = {
        name: internal[name] for name in ('method', 'benchmark', 'class_names', 'train_counts')
    }
    results |= {'dataset': str(given.data), 'test': test}
    results['internal'] = external.beside(internal['test'], test)
    _show(test)
    print('\n' + external.text(results['internal']))
    return results


def _naming(given: argparse.Namespace) -> Naming:
    names = {}
    for each in given.columns:
        what, _, column = each.partition('=')
        if what not in ('id', 'label', 'group') or not column:
            raise unknown('column', each, ['id=COLUMN', 'label=COLUMN', 'group=COLUMN'])
        names[what] = column
    classes = prevalence.cells(given.classes)
    if given.logits and not classes:
        raise UserError(
            '--logits goes with --classes; columns that are called logit(CLASS) say so.'
        )
    return USUAL._replace(**names, classes=classes, logits=given.logits)


def _wishes(given: argparse.Namespace, class_names: Sequence[str]) -> Wishes:
    if given.sensitivity and given.specificity:
        raise UserError('give --sensitivity or --specificity, not both.')
    for name in ('sensitivity', 'specificity', 'alpha'):
        value = getattr(given, name)
        if value is not None and not 0 < value < 1:
            raise UserError(f'--{name}={value}: give a share between 0 and 1.')
    wishes = parts.USUAL._replace(prevalence=prevalence.shares(given.prevalence, class_names))
    if given.specificity:
        wishes = wishes._replace(sensitivity=0.0)
    wished = {name: getattr(given, name) for name in ('sensitivity', 'specificity', 'alpha')}
    return wishes._replace(**{name: value for name, value in wished.items() if value})


def _against(
    found: Predictions,
    others: Mapping[str, Any],
    groups: Mapping[str, Sequence[int]],
    num_bootstrap: int,
) -> dict[str, Any]:
    """Returns by file and metric what `paired.compare` says, with p-values that hold for all files together."""
    specs: dict[str, Any] = {name: name for name in _COMPARED}
    specs |= {f'{name}_recall': classes for name, classes in groups.items()}
    clusters = clusters_of(found.groups)
    compared: dict[str, dict[str, Any]] = {
        name: dict(
            paired.compare(
                found.labels,
                [found.scores.predictions],
                [other],
                specs,
                clusters=clusters,
                num_bootstrap=num_bootstrap,
            )
        )
        for name, other in others.items()
    }
    for metric in specs:
        tested = [rows[metric] for rows in compared.values() if rows[metric]['p'] is not None]
        for row, p in zip(tested, paired.holm([row['p'] for row in tested]), strict=True):
            row['p_holm'] = p
    return compared


def _show(test: Mapping[str, Any]) -> None:
    print(format_metrics(test))
    for warning in test['warnings']:
        print(f'\nnote: {warning}')


def _difference(metric: str, row: Mapping[str, Any]) -> str:
    title = METRIC_TITLES.get(metric, metric.replace('_', ' ').capitalize())
    if row['difference'] is None:
        return f'{title:<28}      -'
    low, high = 100 * row['low'], 100 * row['high']
    verdict = ''
    if row['p_holm'] < paired.LEVEL:
        verdict = '  better' if row['difference'] > 0 else '  worse'
    return f'{title:<28} {100 * row["difference"]:>+6.1f}  [{low:+.1f}, {high:+.1f}]{verdict}'


@exits()
def cli() -> None:
    """The entry point."""
    main(sys.argv[1:])


if __name__ == '__main__':
    cli()
