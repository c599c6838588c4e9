"""Evaluates predictions, whoever made them: `python -m ltjax.evaluate PREDICTIONS [--against OTHER ...]`.

PREDICTIONS is an .npz (labels, class_names, and logits or probabilities; ids and groups if they are known), as a run
leaves it, or a .csv: a row an image, with columns id, label, group, and p(CLASS) or logit(CLASS) of each class. Every
figure has a 95 % interval; where there are groups (patients, lesions, smears), resamples draw these whole. --against
compares with other predictions of the same images, corrected for their number (Holm).

`python -m ltjax.evaluate --workdir=RUN --data=NEW_SITE` applies the model of a run to labelled images of another
place first, and shows them beside the run's own test.
"""

import argparse
import csv
import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.command import called, exits
from ltjax.errors import UserError, unknown
from ltjax.evaluation import external, paired, predictions, whole
from ltjax.evaluation.bootstrap import clusters_of
from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.parts import Wishes
from ltjax.evaluation.predictions import Naming, Predictions
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
        help='predictions of validation images, which choose temperature, thresholds and prediction sets',
    )
    parser.add_argument('--ordered', action='store_true', help='the classes are grades')
    parser.add_argument('--by', default='', help='columns with commas: figures of their subgroups')
    parser.add_argument('--sensitivity', type=float, help='wished of each class; default: 0.9')
    parser.add_argument('--specificity', type=float, help='wished of each class in its place')
    parser.add_argument('--alpha', type=float, default=0.1, help='what prediction sets may miss')
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
    parser.add_argument('--classes', default='', help='columns of scores of a CSV, with commas')
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
    if given.out and given.out.exists() and not given.out.is_dir():
        raise UserError(f'{given.out} is no folder.')
    results = _of_a_model(given) if given.workdir else _of_a_file(given)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        write_json(given.out / 'results.json', results)
        print(f'\nreport: {writing.write_report(given.out)}')


def _of_a_file(given: argparse.Namespace) -> dict[str, Any]:
    """Evaluates a file of predictions, and compares it with others."""
    naming = _naming(given)
    found = predictions.read(given.predictions, naming)
    others = {str(path): predictions.read(path, naming).like(found) for path in given.against}
    counts, groups, said = _training(given, found)
    by = [name.strip() for name in given.by.split(',') if name.strip()]
    for name in by:
        if name not in found.columns:
            raise unknown(f'further column of {found.where}', name, found.columns)
    validation = None
    if given.validation:
        validation = predictions.read(given.validation, naming)
        whole.check_apart(found, validation)
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
    test['warnings'] += said
    results = {
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


def _of_a_model(given: argparse.Namespace) -> dict[str, Any]:
    """Applies the model of a run to new data, and sets its figures beside those of the run's test."""
    from ltjax.run.trained import Trained

    if given.against or given.train_counts or given.columns or given.classes or given.logits:
        raise UserError(
            '--against, --train-counts, --columns, --classes and --logits are for a file of predictions: write one '
            'with `ltjax predict` first.'
        )
    model = Trained.load(given.workdir)
    internal = json.loads((given.workdir / 'results.json').read_text('utf-8'))
    test = model.evaluate(given.data, given.bootstrap)
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
    classes = tuple(name.strip() for name in given.classes.split(',') if name.strip())
    if given.logits and not classes:
        raise UserError(
            '--logits goes with --classes; columns that are called logit(CLASS) say so.'
        )
    return Naming(**names, classes=classes, logits=given.logits)


def _wishes(given: argparse.Namespace, class_names: Sequence[str]) -> Wishes:
    if given.sensitivity and given.specificity:
        raise UserError('give --sensitivity or --specificity, not both.')
    for name in ('sensitivity', 'specificity', 'alpha'):
        value = getattr(given, name)
        if value is not None and not 0 < value < 1:
            raise UserError(f'--{name}={value}: give a share between 0 and 1.')
    wished = {'sensitivity': given.sensitivity or (0.0 if given.specificity else 0.9)}
    if given.specificity:
        wished['specificity'] = given.specificity
    prevalence = None
    if given.prevalence:
        shares = dict(each.rpartition('=')[::2] for each in given.prevalence.split(','))
        for name in {*shares} - {*class_names}:
            raise unknown('class', name, class_names)
        try:
            prevalence = [float(shares[name]) for name in class_names]
        except KeyError as error:
            raise UserError(
                f'--prevalence has no share of {error}: give one of each class.'
            ) from None
        except ValueError as error:
            raise UserError(f'--prevalence: {error}: give CLASS=SHARE,...') from None
    return Wishes(**wished, prevalence=prevalence, alpha=given.alpha)


def _training(
    given: argparse.Namespace, found: Predictions
) -> tuple[list[int] | None, Mapping[str, Sequence[int]], list[str]]:
    """Returns the training images of each class, head, medium and tail, and what is to be said of them."""
    beside = given.predictions.with_name('results.json')
    path = given.train_counts or (beside if beside.is_file() else None)
    if path is None:
        sizes = [int((found.labels == k).sum()) for k in range(len(found.class_names))]
        said = 'Training counts are not known: head, medium and tail are by test images (give --train-counts).'
        return None, head_medium_tail(sizes), [said]
    if path.suffix == '.json':
        results = _read_results(path)
        by_name = dict(zip(results['class_names'], results['train_counts'], strict=True))
        divided = {name: row['classes'] for name, row in results['test']['groups'].items()}
    else:
        by_name, divided = _read_counts(path), None
    missing = [name for name in found.class_names if name not in by_name]
    if missing:
        raise UserError(
            f'{path} has no training images of the class {missing[0]!r} of {found.where}.'
        )
    counts = [by_name[name] for name in found.class_names]
    if divided is not None and sorted(by_name) == sorted(found.class_names):
        place = {name: k for k, name in enumerate(found.class_names)}
        groups = {group: [place[name] for name in names] for group, names in divided.items()}
        return counts, groups, []
    return counts, head_medium_tail(counts), []


def _read_results(path: pathlib.Path) -> dict[str, Any]:
    try:
        results = json.loads(path.read_text('utf-8'))
        if {'class_names', 'train_counts', 'test'} <= results.keys():
            return dict(results)
    except (OSError, ValueError, AttributeError):
        pass
    raise UserError(f'{path} is no results.json of a run: give --train-counts=FILE.csv.')


def _read_counts(path: pathlib.Path) -> dict[str, int]:
    try:
        with path.open(newline='', encoding='utf-8-sig') as file:
            header, *rows = [row for row in csv.reader(file) if row]
        places = [header.index(name) for name in ('class', 'count')]
        return {row[places[0]]: int(row[places[1]]) for row in rows}
    except (OSError, ValueError, IndexError):
        raise UserError(
            f'{path} should be a CSV with the columns class and count, a whole number.'
        ) from None


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
