"""The first section of a report, for a clinician: of 100 images of a class, how many a model finds.

Natural frequencies ("42 of 100") are read rightly more often than percentages (Gigerenzer et al., Psychological
Science in the Public Interest 8, 2007). Nothing is said here that the figures of the test do not say.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.evaluation import confusion
from ltjax.evaluation.confusion import Pairs
from ltjax.evaluation.small_samples import FEW
from ltjax.evaluation.table import class_sizes, listed
from ltjax.report import page
from ltjax.report.class_sections import groups_of
from ltjax.report.many_classes import MAX_ROWS
from ltjax.report.page import Markup

NO_DEVICE = 'ltjax, which wrote this, is research software and not a medical device.'
# Of more classes the rarest are shown, and of the others those that are found least.
_ROWS, _RAREST = 12, 6
_MAX_NAMED = 20
_LEAST_FOUND, _WIDEST = 0.5, 0.3
RULE = (
    f'a class is named here if the model finds fewer than {100 * _LEAST_FOUND:.0f} of 100 of its images, if the 95 % '
    f'interval of that number is wider than {100 * _WIDEST:.0f}, or if fewer than {FEW} images of it were tested '
    f'(fewer than {FEW} patients, lesions or smears, where these are known).'
)
_COLUMNS = (
    ('class', 'name'),
    ('finds, of 100', 'number'),
    ('missed ones: most often called', 'words'),
    ('right, of 100 calls', 'number'),
    ('test images', 'number'),
)


def in_short(test: Mapping[str, Any], order: Sequence[int]) -> Markup:
    """Shows in plain words what was tested, what is found and with which classes the model is not to be trusted.

    Args:
      test: what `ltjax.evaluation.metrics.evaluate` returned.
      order: the classes from the largest in training to the smallest.
    """
    per_class, rarest_first = test['per_class'], [*reversed(order)]
    chosen = _chosen(per_class, rarest_first)
    pairs = confusion.from_json(test['confusion'])
    calls = np.bincount(pairs.predicted, pairs.images, minlength=len(per_class)).astype(int)
    groups = groups_of(test, chosen)
    rows = [
        _cells(per_class[k], group, calls[k], _mistaken(pairs, k, per_class))
        for k, group in zip(chosen, groups, strict=True)
    ]
    parts = [
        page.paragraph(_tested(test)),
        page.paragraph(_found(test)),
        page.paragraph(
            'By class: of 100 images of it, how many the model finds; what it most often calls those that it misses; '
            'and of 100 images that it calls so, how many are of the class.'
        ),
        page.table(_COLUMNS, rows),
        page.paragraph(_said_of_rows(test, len(order) - len(chosen)), 'note'),
        _not_trusted([per_class[k] for k in rarest_first]),
        page.paragraph(
            'How often a call is right depends on how frequent each class is: these figures hold for the mix of the '
            'test images.'
        ),
        page.paragraph(NO_DEVICE),
    ]
    return Markup(''.join(parts))


def of_100(value: float) -> str:
    """Returns a fraction as a natural frequency.

    >>> of_100(0.421), of_100(0.004), of_100(1.0), of_100(0.997)
    ('42', 'fewer than 1', '100', 'more than 99')
    """
    number = round(100 * value)
    if number == 0 < value:
        return 'fewer than 1'
    if number == 100 > 100 * value:
        return 'more than 99'
    return str(number)


def interval(figure: Mapping[str, Any], units: int) -> tuple[float, float]:
    """Returns the ends of the 95 % interval of a share.

    Where none or all of the units count, resampling gives no width: there it is the exact interval (Clopper and
    Pearson, Biometrika 26, 1934).

    Args:
      figure: {'value', 'low', 'high'}, defined.
      units: number of images, or of groups of images where these are drawn whole.
    """
    from scipy import stats

    if figure['value'] not in (0, 1) or figure['low'] < figure['high']:
        return figure['low'], figure['high']
    exact = stats.binomtest(units if figure['value'] else 0, units).proportion_ci()
    return float(exact.low), float(exact.high)


def doubts(per_class: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Returns the classes that RULE names, by why: the beginning of a sentence. A reason without classes is left out.

    Args:
      per_class: rows of `ltjax.evaluation.metrics.evaluate`.
    """
    found: dict[str, list[str]] = {
        f'Fewer than {100 * _LEAST_FOUND:.0f} of 100 are found of': [],
        f'The interval is wider than {100 * _WIDEST:.0f} for': [],
        f'Fewer than {FEW} were tested of': [],
        'None was tested of': [],
    }
    few_found, wide, few_tested, untested = found.values()
    for row in per_class:
        name, recall, units = row['name'], row['recall'], _units(row)
        if recall['value'] is None:
            untested.append(name)
            continue
        low, high = interval(recall, units)
        if recall['value'] < _LEAST_FOUND:
            few_found.append(name)
        if high - low > _WIDEST:
            wide.append(name)
        if units < FEW:
            few_tested.append(f'{name} ({units})')
    return {reason: names for reason, names in found.items() if names}


def _units(row: Mapping[str, Any]) -> int:
    """Returns how many images of a class were tested, or groups where they are known."""
    groups = row.get('test_groups')
    return row['test_count'] if groups is None else groups


def _chosen(per_class: Sequence[Mapping[str, Any]], rarest_first: list[int]) -> list[int]:
    """Returns the classes that are shown."""
    if len(rarest_first) <= _ROWS:
        return rarest_first
    others = [k for k in rarest_first[_RAREST:] if per_class[k]['recall']['value'] is not None]
    others.sort(key=lambda k: per_class[k]['recall']['value'])
    return rarest_first[:_RAREST] + others[: _ROWS - _RAREST]


def _tested(test: Mapping[str, Any]) -> str:
    groups = ''
    if test.get('num_groups'):
        groups = f', from {test["num_groups"]:,} groups (patients, lesions or smears),'
    return f'The model was tested on {test["num_images"]:,} images{groups} of {len(test["per_class"]):,} classes.'


def _found(test: Mapping[str, Any]) -> str:
    """Says how much is found over all; to find an image is to call it what it is."""
    said = 'To find an image of a class is to call it that class.'
    accuracy, balanced = (test['metrics'].get(name) for name in ('accuracy', 'balanced_accuracy'))
    if accuracy:
        said += f' Of 100 test images the model finds {_frequency(accuracy)}.'
    if balanced:
        said += f' Counting every class alike, of 100 images it finds {_frequency(balanced)}.'
    return f'{said} In brackets: the 95 % interval.'


def _frequency(figure: Mapping[str, Any]) -> str:
    return f'{of_100(figure["value"])} ({_span(figure["low"], figure["high"])})'


def _span(low: float, high: float) -> str:
    return f'{100 * low:.0f} to {100 * high:.0f}'


def _mistaken(pairs: Pairs, k: int, per_class: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Returns what missed images of class k are called most often, and how many are."""
    missed = (pairs.true == k) & (pairs.predicted != k)
    if not missed.any():
        return '', ''
    images = pairs.images[missed]
    most = [per_class[other]['name'] for other in pairs.predicted[missed][images == images.max()]]
    name = ' or '.join(most) if len(most) <= 2 else f'{len(most)} others, equally often'
    return name, f'{images.max():,} of {images.sum():,} missed'


def _cells(
    row: Mapping[str, Any], group: str, calls: int, mistaken: tuple[str, str]
) -> list[tuple[str, str]]:
    """Returns the pair for each of _COLUMNS, see `page.table`."""
    units, recall = _units(row), row['recall']
    groups = '' if row.get('test_groups') is None else f'{units:,} group{"s" * (units != 1)}'
    name, tested = (row['name'], group), (f'{row["test_count"]:,}', groups)
    if recall['value'] is None:
        return [name, ('not tested', ''), ('', ''), ('', ''), tested]
    found = of_100(recall['value']), f'({_span(*interval(recall, units))})'
    right = 'never called', ''
    if calls:
        precision = row['precision']
        right = of_100(precision['value']), f'({_span(*interval(precision, calls))})'
    return [name, found, mistaken, right, tested]


def _said_of_rows(test: Mapping[str, Any], left_out: int) -> str:
    """Says in which order the rows are, what is left out, and where that is."""
    rarest = f'with the fewest {class_sizes(test["per_class"])[1]}'
    exact = (
        'Where none or all are found, or all calls are right or wrong, the interval is the exact one of Clopper and '
        'Pearson.'
    )
    if not left_out:
        return f'From the class {rarest} to that with the most. {exact}'
    where = 'results.json has them, under test and per_class'
    if len(test['per_class']) <= MAX_ROWS:
        where = 'the section Classes has them'
    return (
        f'First the {_RAREST} classes {rarest}, then of the others the {_ROWS - _RAREST} that are found least. '
        f'{left_out:,} more are left out here: {where}. {exact}'
    )


def _not_trusted(rarest_first: Sequence[Mapping[str, Any]]) -> Markup:
    found = doubts(rarest_first)
    if not found:
        return page.paragraph(
            f'No class falls under the rule of what not to trust the model with: {RULE}'
        )
    lines = [f'{reason}: {listed(names, _MAX_NAMED)}.' for reason, names in found.items()]
    return Markup(
        page.paragraph(f'The model must not be trusted with some classes. The rule: {RULE}')
        + page.listing(lines, 'warnings')
    )
