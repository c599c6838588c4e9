"""The sections of a report that show classes: in full while they fit, else what is worth reading."""

import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.evaluation import confusion
from ltjax.evaluation.table import percent, percent_range
from ltjax.report import figures, many_classes, page
from ltjax.report.embedding import mapped_classes, stratified_subset, tsne
from ltjax.report.many_classes import MAX_ROWS
from ltjax.report.page import Markup
from ltjax.report.style import CLASS_COLOURS, GROUP_COLOURS, MARKERS

MAX_MAPPED_IMAGES = 1000
# Rows of each part of a shortened table.
_PART = 10
_FIGURES = {'recall': 'recall', 'precision': 'precision', 'f1': 'F1', 'auc': 'AUC'}
_COLUMNS = (
    *(('class', 'name'), ('training images', 'number'), ('test images', 'number')),
    *((title, 'number') for title in _FIGURES.values()),
)


def groups_of(test: Mapping[str, Any], order: Sequence[int]) -> list[str]:
    """Returns the name of the group of each class in `order`, '' for a class of none."""
    by_name = {name: group for group, row in test['groups'].items() for name in row['classes']}
    return [by_name.get(test['per_class'][k]['name'], '') for k in order]


def classes(test: Mapping[str, Any], order: Sequence[int]) -> Markup:
    """Shows sizes and recalls of classes, and a table of their metrics.

    Args:
      test: what `ltjax.evaluation.metrics.evaluate` returned.
      order: the classes from the largest in training to the smallest.
    """
    per_class = [test['per_class'][k] for k in order]
    groups = groups_of(test, order)
    rows = [_cells(row, group) for row, group in zip(per_class, groups, strict=True)]
    if len(order) <= MAX_ROWS:
        caption = 'From the largest class in training to the smallest.'
        svg = figures.class_recalls(per_class, groups)
        alternative = 'Bars: training images and recall of each class'
        return Markup(page.picture(svg, alternative, caption) + page.table(_COLUMNS, rows))
    caption = (
        'One dot a class, moved up or down by less than half a test image so that equal ones can be '
        'told apart. The line: means over classes of about the same size, with 95 % intervals.'
    )
    svg = many_classes.recall_by_size(per_class, groups)
    content = page.picture(svg, 'Dots: recall of each class by its training images', caption)
    tested = [k for k, row in enumerate(per_class) if row['recall']['value'] is not None]
    # Of equals the classes that surprise most: large ones not found, small ones found.
    by_recall = sorted(tested, key=lambda k: per_class[k]['recall']['value'])
    parts = {
        'largest classes in training': range(_PART),
        'smallest classes in training': range(len(order) - _PART, len(order)),
        'classes of the lowest recall, of equals the largest': by_recall[:_PART],
        'classes of the highest recall, of equals the smallest': by_recall[: -_PART - 1 : -1],
    }
    content = Markup(content + page.search(f'Any of the {len(order):,} classes:', _COLUMNS, rows))
    for title, chosen in parts.items():
        table = page.table(_COLUMNS, [rows[k] for k in chosen])
        content = Markup(content + page.paragraph(f'The {_PART} {title}:') + table)
    note = f'results.json has all {len(order):,} classes, under test and per_class.'
    return Markup(content + page.paragraph(note, 'note'))


def _cells(row: Mapping[str, Any], group: str) -> list[tuple[str, str]]:
    """Returns the pair for each of _COLUMNS, see `page.table`."""
    figures = [row[name] for name in _FIGURES]
    return [
        (row['name'], group),
        *(('-' if row[n] is None else f'{row[n]:,}', '') for n in ('train_count', 'test_count')),
        *((percent(figure['value']), percent_range(figure)) for figure in figures),
    ]


def confusions(test: Mapping[str, Any], order: Sequence[int]) -> Markup:
    """Shows which classes are taken for which: the matrix, or of many classes the worst pairs."""
    names = [test['per_class'][k]['name'] for k in order]
    pairs = confusion.reorder(confusion.from_json(test['confusion']), order)
    if len(order) <= MAX_ROWS:
        svg = figures.confusion_matrix(confusion.matrix(pairs, len(order)), names)
        caption = (
            'Rows add up to 100 percent; classes from the largest in training to the smallest.'
        )
        return page.picture(svg, 'Confusion matrix', caption)
    groups = groups_of(test, order)
    content = page.picture(
        many_classes.group_confusion(pairs, groups),
        'Bars: where the test images of each group go',
        'Where the test images of each group go: every row adds up to 100 percent.',
    )
    if (pairs.true == pairs.predicted).all():
        return Markup(content + page.paragraph('No test image is taken for another class.', 'note'))
    caption = (
        'True class → class it is taken for: the most confused of all pairs, in the order of the '
        'lower end of the 95 % interval of their share, so that few images count for less.'
    )
    svg = many_classes.confused_pairs(pairs, names, groups)
    return Markup(content + page.picture(svg, 'Bars: the most confused pairs of classes', caption))


def features(path: pathlib.Path, test: Mapping[str, Any], order: Sequence[int]) -> Markup:
    """Shows a map of the test features in predictions.npz, of many classes that of a few."""
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as arrays:
            labels, vectors = arrays['labels'], arrays['features']
    except KeyError:
        return page.paragraph('Left out: predictions.npz was saved without features.', 'note')
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return page.paragraph('Left out: there is no readable predictions.npz.', 'note')
    ranks = np.argsort(order)[labels]
    shown = list(range(len(order)))
    series: list[int] | None = None
    of_classes = ''
    if len(order) > len(CLASS_COLOURS) * len(MARKERS):
        shown, series = _map_legend(ranks, groups_of(test, order))
        of_classes = (
            f' Of {len(order):,} classes {len(shown)} are drawn, evenly spaced by training images; '
            'head, medium and tail have a marker each.'
        )
    candidates = np.flatnonzero(np.isin(ranks, shown))
    chosen = candidates[stratified_subset(ranks[candidates], MAX_MAPPED_IMAGES)]
    try:
        points = tsne(vectors[chosen])
    except ValueError as error:
        return page.paragraph(f'Left out: {error}.', 'note')
    names = [test['per_class'][order[k]]['name'] for k in shown]
    svg = figures.feature_map(points, np.searchsorted(shown, ranks[chosen]), names, series)
    caption = f't-SNE of the features of {len(chosen):,} of {len(labels):,} test images.'
    return page.picture(svg, 'Map of test features', caption + of_classes)


def _map_legend(ranks: np.ndarray, groups: Sequence[str]) -> tuple[list[int], list[int]]:
    """Returns the classes of a map, sorted, and the number of the marker of each.

    Args:
      ranks: [n] classes of the images, counted in the order of training size.
      groups: [K] name of the group of each class in that order.
    """
    members = [[k for k, group in enumerate(groups) if group == name] for name in GROUP_COLOURS]
    chosen = mapped_classes(ranks, members, len(CLASS_COLOURS))
    pairs = sorted((k, number) for number, part in enumerate(chosen) for k in part)
    return [k for k, _ in pairs], [number for _, number in pairs]


def plots(results: Mapping[str, Any], order: Sequence[int]) -> Markup:
    """Draws results['plots']: a value for each class, or lines; see `engine.stage.Recipe.plots`."""
    test = results['test']
    names = [test['per_class'][k]['name'] for k in order]
    groups = groups_of(test, order)
    parts = []
    for plot in results.get('plots', ()):
        title = plot['title']
        if 'lines' in plot:
            svg = figures.lines(plot['lines'], title, plot['x_label'], plot['y_label'])
        elif len(plot['per_class']) != len(order) or not all(
            map(page.is_number, plot['per_class'])
        ):
            continue
        elif len(order) <= MAX_ROWS:
            svg = figures.class_values([plot['per_class'][k] for k in order], names, groups, title)
        else:
            svg = many_classes.ranked_values([plot['per_class'][k] for k in order], groups, title)
        parts.append(page.picture(svg, title))
    if not parts:
        return page.paragraph('Left out: results.json holds no plots.', 'note')
    return Markup(''.join(parts))
