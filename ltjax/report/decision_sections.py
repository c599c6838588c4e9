"""The sections of a report for whoever acts on a model: calibration, operating points, referral, prediction sets."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.evaluation.table import METRIC_TITLES, percent, percent_range
from ltjax.report import calibration, decisions, page
from ltjax.report.class_sections import groups_of
from ltjax.report.many_classes import MAX_ROWS
from ltjax.report.page import Markup

_LEFT_OUT = 'Left out: there are no predictions of validation images, on which it would be chosen.'
BIASED = (
    'A calibration error counts every miss as positive: it is above zero even of a calibrated model, the more the '
    'fewer images there are, and resampling adds to it, so that its interval lies high. Brier score and log loss '
    'have no such bias.'
)
SCALINGS = {
    'as_they_are': 'as they are',
    'temperature': 'temperature scaling',
    'vector': 'vector scaling',
}
CALIBRATION = {
    'top_label_ece': 'calibration error, top label',
    'class_wise_ece': 'calibration error, by class',
    'brier': 'Brier score',
    'log_loss': 'log loss',
}
_POINTS = {
    'sensitivity': 'sensitivity',
    'specificity': 'specificity',
    'ppv': 'PPV',
    'npv': 'NPV',
    'ppv at prevalence': 'PPV at the given prevalence',
    'npv at prevalence': 'NPV at the given prevalence',
}
_METHODS = {
    'marginal': 'for all images',
    'class_conditional': 'for each class',
    'clustered': 'for clusters of classes',
    'prevalence_adjusted': 'for all images, prevalence-adjusted',
}
# Decision curves are drawn of the rarest classes.
_CURVES = 3


def calibrated(test: Mapping[str, Any]) -> Markup:
    """Shows how well probabilities mean what they say, before and after scaling."""
    found = test.get('calibration')
    if not found:  # more classes than it is measured of, or an older run
        return Markup('')
    scaled = {name: found[name] for name in SCALINGS if name in found}
    said = [
        f'{SCALINGS[name].capitalize()} is left out: {row["left_out"]}'
        for name, row in scaled.items()
        if 'left_out' in row
    ]
    scaled = {name: row for name, row in scaled.items() if 'left_out' not in row}
    columns = [('probabilities', ''), *((title, 'number') for title in CALIBRATION.values())]
    rows = [
        [SCALINGS[name], *(decimal(row[measure]) for measure in CALIBRATION)]
        for name, row in scaled.items()
    ]
    by_group = [
        [
            (group, group),
            *(decimal(found['as_they_are'][f'{group} {measure}']) for measure in CALIBRATION),
        ]
        for group in test['groups']
    ]
    parts = [
        page.table(columns, rows),
        page.paragraph(BIASED, 'note'),
        *(page.paragraph(line, 'note') for line in said),
        page.paragraph('As they are, by the group of the true class:'),
        page.table([('', 'name'), *columns[1:]], by_group),
        page.picture(
            calibration.reliability_diagram(found['reliability']),
            'Reliability diagrams: accuracy against confidence, of all images and by group',
            'A calibrated model lies on the diagonal of the first panel. Given the true class it does not: where it '
            'doubts, it says the more frequent class.',
        ),
    ]
    if 'temperature' in scaled:
        fitted = scaled['temperature']['fitted']['temperature']
        parts.insert(
            1,
            page.paragraph(
                f'Fitted on validation images: temperature {fitted:.3g}. `ltjax predict --calibrate=temperature` '
                'applies it; it changes no predicted class.',
                'note',
            ),
        )
    return Markup(''.join(parts))


def operating_points(test: Mapping[str, Any], order: Sequence[int]) -> Markup:
    """Shows a threshold of each class and what it is worth, and decision curves of the rarest classes."""
    if not test.get('calibration'):
        return Markup('')
    parts = []
    found = test['operating_points']
    if found is None:
        parts.append(page.paragraph(_LEFT_OUT, 'note'))
    else:
        (name, wished), *_ = found['wished'].items()
        rows = [found['per_class'][k] for k in order]
        figures = [figure for figure in _POINTS if figure in rows[0]]
        parts.append(
            page.paragraph(
                f'One class against the rest: thresholds of probability that reached a {name} of {percent(wished)} % '
                'on validation images, judged on the test.'
            )
        )
        parts.append(
            page.table(
                [
                    ('class', 'name'),
                    ('threshold', 'number'),
                    *((_POINTS[figure], 'number') for figure in figures),
                ],
                [
                    [
                        (row['name'], group),
                        '-' if row['threshold'] is None else f'{row["threshold"]:.3g}',
                        *((percent(row[n]['value']), percent_range(row[n])) for n in figures),
                    ]
                    for row, group in zip(rows, groups_of(test, order), strict=True)
                ][:MAX_ROWS],
            )
        )
    curves = test['decision_curves']
    rarest = [curves['per_class'][k] for k in reversed(order)]
    rarest = [row for row in rarest if row['model'][0]['value'] is not None]
    for row in rarest[:_CURVES]:
        svg = decisions.decision_curve(
            curves['thresholds'], row['model'], row['treat_all'], row['name']
        )
        parts.append(page.picture(svg, f'Decision curve of {row["name"]}'))
    return Markup(''.join(parts))


def referred(test: Mapping[str, Any]) -> Markup:
    """Shows what the images that stay are worth, by the share that is sent to a human."""
    found = test.get('referral')
    if not found:  # more classes than it is measured of, or an older run
        return Markup('')
    drawn = ('accuracy', 'balanced accuracy', 'tail recall')
    svg = decisions.referral_curve(found['shares'], {name: found[name] for name in drawn})
    return page.picture(
        svg, 'Curves: accuracy, balanced accuracy and tail recall by the share sent to a human'
    )


def prediction_sets(test: Mapping[str, Any], order: Sequence[int]) -> Markup:
    """Shows how often sets of labels hold the true one, and how large they are."""
    if not test.get('calibration'):
        return Markup('')
    found = test['prediction_sets']
    if found is None:
        return page.paragraph(_LEFT_OUT, 'note')
    groups = list(test['groups'])
    columns = [('promised', ''), ('coverage', 'number'), ('labels in a set', 'number')]
    columns += [(f'coverage, {group}', 'number') for group in groups]
    rows = []
    for row in found['methods']:
        expected = row.get('expected', {})  # which results of older versions lack
        cells: list[object] = [_METHODS[row['fitted']['method']]]
        cells += [_coverage(row['coverage'], expected.get('coverage')), decimal(row['size'], 2)]
        for name in (f'{group} coverage' for group in groups):
            cells.append(_coverage(row[name], expected.get(name)))
        rows.append(cells)
    parts = [
        page.paragraph(
            f'Sets of labels, calibrated on validation images to hold the true one with '
            f'{percent(1 - found["alpha"])} % of new patients; measured on the test. Expected: where 95 of 100 '
            'coverages lie, with so many validation and test images or groups, if both are drawn alike.'
        ),
        page.table(columns, rows),
    ]
    if found['too_few']:
        named = ', '.join(found['too_few'])
        parts.append(
            page.paragraph(
                f'Too few validation images or groups to promise anything of {named}: for each class, these are in '
                'every set.',
                'note',
            )
        )
    by_class = next(
        row for row in found['methods'] if row['fitted']['method'] == 'class_conditional'
    )
    if len(order) <= MAX_ROWS:
        svg = decisions.class_coverage(
            [by_class['per_class'][k] for k in order], groups_of(test, order), 1 - found['alpha']
        )
        parts.append(page.picture(svg, 'Dots: coverage and size of the sets of each class'))
    return Markup(''.join(parts))


def subgroups(test: Mapping[str, Any]) -> Markup:
    """Shows figures by the values of further columns, such as site or sex."""
    parts = []
    for found in test.get('subgroups') or ():
        columns = [(found['column'], ''), ('test images', 'number')]
        columns += [('balanced accuracy', 'number'), ('tail recall', 'number')]
        columns += [('minus all others, same classes', 'number')]
        rows = []
        for row in found['subgroups'][:MAX_ROWS]:
            of_groups = '' if row['groups'] is None else f'{row["groups"]:,} groups'
            cells: list[object] = [row['name'], (f'{row["images"]:,}', of_groups)]
            cells += [_percent(row['balanced_accuracy']), _percent(row['tail_recall'])]
            rows.append([*cells, _percent(row['gap'])])
        parts.append(page.table(columns, rows))
    return Markup(''.join(parts))


def beside(found: Mapping[str, Any] | None) -> Markup:
    """Shows a model's figures on its own test beside those at another place, see `evaluation.external`."""
    if found is None:
        return Markup('')
    columns = [('', ''), ('own test', 'number'), ('there', 'number')]
    rows = [
        [METRIC_TITLES.get(name, name), _percent(row['internal']), _percent(row['external'])]
        for name, row in found['metrics'].items()
    ]
    rows += [
        [f'{name.capitalize()} recall', _percent(row['internal']), _percent(row['external'])]
        for name, row in found['groups'].items()
    ]
    of_classes = [('recall of', ''), *columns[1:], ('share there, own test', 'number')]
    by_class = [
        [
            row['name'],
            _percent(row['internal']),
            _percent(row['external']),
            (percent(row['external_share']), percent(row['internal_share'])),
        ]
        for row in found['per_class']
    ]
    return Markup(page.table(columns, rows) + page.table(of_classes, by_class[:MAX_ROWS]))


def against(found: Mapping[str, Any] | None) -> Markup:
    """Shows differences to other predictions, see `ltjax.evaluate`."""
    parts = []
    for name, compared in (found or {}).items():
        rows = []
        for metric, row in compared.items():
            if row['difference'] is None:
                continue
            title = METRIC_TITLES.get(metric, metric.replace('_', ' ').capitalize())
            points = [f'{100 * row[part]:+.1f}' for part in ('difference', 'low', 'high')]
            p = 'below 0.001' if row['p_holm'] < 0.001 else f'{row["p_holm"]:.3f}'
            rows.append([title, (points[0], f'[{points[1]}, {points[2]}]'), p])
        parts.append(page.paragraph(f'Minus {name}, points:'))
        columns = [('', ''), ('difference', 'number'), ('p, corrected (Holm)', 'number')]
        parts.append(page.table(columns, rows))
    return Markup(''.join(parts))


def _percent(figure: Mapping[str, float | None]) -> tuple[str, str]:
    return percent(figure['value']), percent_range(figure)


def _coverage(
    figure: Mapping[str, float | None], expected: Mapping[str, float] | None
) -> tuple[str, str]:
    value, interval = _percent(figure)
    if expected is None or not interval:
        return value, interval
    low, high = percent(expected['low']), percent(expected['high'])
    return value, Markup(f'{interval}<br>expected {low} to {high}')


def decimal(figure: Mapping[str, float | None], digits: int = 3) -> tuple[str, str]:
    """Returns a figure that is no percentage, and its interval."""
    if figure['value'] is None:
        return '-', ''
    value, low, high = (f'{figure[part]:.{digits}f}' for part in ('value', 'low', 'high'))
    return value, f'[{low}, {high}]'
