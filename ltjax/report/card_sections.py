"""The sections of a model card that figures and data fill in, as lines of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.evaluation.table import METRIC_TITLES, listed, percent, percent_range
from ltjax.report import summary
from ltjax.report.decision_sections import BIASED, CALIBRATION, SCALINGS, decimal
from ltjax.report.many_classes import MAX_ROWS
from ltjax.report.markdown import table, text

_MAX_NAMED = 20
_FIGURES = {'recall': 'recall', 'precision': 'precision', 'f1': 'F1', 'auc': 'AUC'}
_MEASURES = (
    '- Accuracy: share of all images that are called what they are.',
    '- Recall: share of the images of a class that are called it.',
    '- Precision: share of the images called a class that are of it.',
    '- F1: harmonic mean of recall and precision.',
    '- AUC: area under the ROC curve, one class against the rest.',
    '- Balanced accuracy and macro figures: means over the classes, each counting alike.',
)


def factors(results: Mapping[str, Any]) -> list[str]:
    """Says by what figures are given, and what else is known of the images."""
    said = (
        '- Figures are given by class, and by groups of classes with many and few training images.'
    )
    subgroups = results['test'].get('subgroups') or ()
    measured = [found['column'] for found in subgroups]
    columns = (results.get('data') or {}).get('columns', {})
    known = ', '.join(text(name) for name in columns if name not in measured)
    more = f'- The data also say of each image: {known}. Figures by these are not given.'
    return [said, *([more] if known else []), *(line for one in subgroups for line in _by(one))]


def _by(found: Mapping[str, Any]) -> list[str]:
    """Returns the table of the subgroups of a column."""
    columns = (
        found['column'],
        'test images',
        'balanced accuracy',
        'minus all others, same classes',
    )
    rows = [
        [
            row['name'],
            f'{row["images"]:,}',
            *(
                _with_interval(percent(row[name]['value']), percent_range(row[name]))
                for name in ('balanced_accuracy', 'gap')
            ),
        ]
        for row in found['subgroups']
    ]
    return ['', *table(columns, rows), '']


def metrics(test: Mapping[str, Any]) -> list[str]:
    """Says what the figures are, and their intervals."""
    drawn = 'test images, taken as independent'
    if test.get('num_groups'):
        drawn = f'the {test["num_groups"]:,} groups of test images (patients, lesions, smears)'
    return [
        '- An image is called the class of the highest probability.',
        *_MEASURES,
        f'- Intervals: 95 %, by stratified bootstrap of {drawn}.',
        '- Intervals hold no variation of training: another seed gives other figures.',
    ]


def data(results: Mapping[str, Any], order: Sequence[int]) -> list[str]:
    """Says where the images are from, how they are split, and how many there are of each class.

    Args:
      results: what results.json holds.
      order: the classes from the largest in training to the smallest.
    """
    said = results.get('data')
    if not said:
        return ['- results.json does not say of the data.']
    split, counts, names = said['split'], said['counts'], said['class_order']['names']
    sha256 = results.get('split_sha256') or split.get('sha256', '')
    lines = [f'From {said["where"]} ({said["layout"]})', *said['said'][:1]]
    lines.append(f'Split: {split["from"]}')
    lines += [
        f'sha256 of the split: {each}' for each in ([sha256] if isinstance(sha256, str) else sha256)
    ]
    lines.append(f'sha256 of the data: {said["identity"]["sha256"]}')
    if split.get('thinned'):
        lines.append(f'{split["thinned"]:,} training images are left out to make a long tail')
    lines += _apart(said)
    for what, kinds in (
        ('Left out', said.get('excluded', {})),
        ('Passed over', said.get('passed_over', {})),
    ):
        told = ', '.join(f'{number:,} {kind}' for kind, number in kinds.items())
        lines.append(f'{what}: {told or "none"}')
    lines += said.get('notes', ())
    shown, more = _shown(order)
    titles = [f'{part} images' for part in counts]
    rows = ([names[k], *(f'{part[k]:,}' for part in counts.values())] for k in shown)
    return [*(f'- {text(line)}' for line in lines), '', *table(['class', *titles], rows), *more, '']


def _apart(said: Mapping[str, Any]) -> list[str]:
    """Says how leaks between training, validation and test are avoided, and where they are not."""
    split, groups = said['split'], said.get('groups')
    leaks = split.get('leaks', {})
    lines = ['Groups (patients, lesions, smears): none are known, each image is taken as its own']
    if groups:
        alone = f'; {groups["without"]:,} images are in none' if groups['without'] else ''
        lines = [f'Groups (patients, lesions, smears): {groups["number"]:,}{alone}']
        if 'groups' not in leaks:
            lines.append('Leaks: all images of a group lie on one side of the split')
    if not split.get('compared'):
        lines.append('Leaks: equal images were not looked for')
    elif 'sets of equal images' not in leaks:
        lines.append('Leaks: equal images lie on one side of the split')
    lines += [
        f'Leaks: {number:,} {what} lie on two sides of the split' for what, number in leaks.items()
    ]
    return lines


def _shown(order: Sequence[int]) -> tuple[list[int], list[str]]:
    """Returns the classes of a table, the rarest first, and what is said of those left out."""
    left_out = len(order) - MAX_ROWS
    said = f'The {MAX_ROWS} rarest classes; results.json has {left_out:,} more.'
    return [*reversed(order)][:MAX_ROWS], ['', said] if left_out > 0 else []


def analyses(test: Mapping[str, Any], order: Sequence[int]) -> list[str]:
    """Shows the figures of the test with their intervals; arguments as `class_sections.classes` takes them."""
    columns = ['', 'percent', '95 % interval']
    overall = [
        [METRIC_TITLES.get(name, name), percent(figure['value']), _span(percent_range(figure))]
        for name, figure in test['metrics'].items()
    ]
    groups = [
        [
            f'mean recall of {name}',
            percent(group['recall']['value']),
            _span(percent_range(group['recall'])),
            listed(group['classes'], _MAX_NAMED),
        ]
        for name, group in test['groups'].items()
    ]
    shown, more = _shown(order)
    by_class = [
        [
            row['name'],
            f'{row["test_count"]:,}',
            '-' if row.get('test_groups') is None else f'{row["test_groups"]:,}',
            *(
                _with_interval(percent(row[name]['value']), percent_range(row[name]))
                for name in _FIGURES
            ),
        ]
        for row in (test['per_class'][k] for k in shown)
    ]
    number = f'{test["num_images"]:,} test images'
    if test.get('num_groups'):
        number += f' of {test["num_groups"]:,} groups'
    return [
        f'{number}. Figures in percent.',
        '',
        *table(columns, overall),
        '',
        '### Head, medium and tail',
        '',
        *table([*columns, 'classes'], groups),
        '',
        '### By class',
        '',
        *table(['class', 'test images', 'of groups', *_FIGURES.values()], by_class),
        *more,
        '',
        '### Calibration',
        '',
        *_calibration(test.get('calibration')),
    ]


def _with_interval(value: str, interval: str) -> str:
    return f'{value} ({_span(interval)})' if interval else value


def _span(interval: str) -> str:
    """Returns '[1.0, 2.0]' without what Markdown would take for a link.

    >>> _span('[1.0, 2.0]')
    '1.0 to 2.0'
    """
    return interval.strip('[]').replace(', ', ' to ')


def _calibration(found: Mapping[str, Any] | None) -> list[str]:
    if not found:
        return ['Not measured.']
    measured = {
        name: found[name] for name in SCALINGS if name in found and 'left_out' not in found[name]
    }
    rows = [
        [SCALINGS[name], *(_with_interval(*decimal(row[measure])) for measure in CALIBRATION)]
        for name, row in measured.items()
    ]
    return [*table(['probabilities', *CALIBRATION.values()], rows), '', BIASED]


def limits(results: Mapping[str, Any], order: Sequence[int]) -> list[str]:
    """Says what the figures cannot say; arguments as `data` takes them."""
    test = results['test']
    named = summary.doubts([test['per_class'][k] for k in reversed(order)])
    lines = [*test.get('warnings', ())]
    if named:
        lines.append(f'The model must not be trusted with some classes: {summary.RULE}')
    lines += [f'{reason}: {listed(names, _MAX_NAMED)}.' for reason, names in named.items()]
    lines.append(
        'The test images are from the same source as the training images, unless the author says otherwise: how the '
        'model does at another hospital, with another device or on other patients is not known. ltjax evaluate '
        '--workdir=RUN --data=NEW_SITE measures it.'
    )
    if not test.get('num_groups'):
        lines.append(
            'Test images are taken as independent. If several are of one patient, lesion or smear, intervals are too '
            'narrow.'
        )
    return [f'- {text(line)}' for line in lines]
