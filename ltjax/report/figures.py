"""The figures of a report, as SVG text: with a row, a mark or a curve for each class.

Classes are always in order of training size. `ltjax.report.many_classes` has what is drawn of more
classes than fit.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ltjax.evaluation.table import class_sizes
from ltjax.report.style import (
    CLASS_COLOURS,
    GROUP_COLOURS,
    INK,
    MARKERS,
    MUTED,
    NEUTRAL,
    class_axis,
    end_label,
    group_legend,
    legend,
    name_room,
    new_figure,
    rows_height,
    svg,
    thousands,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Classes beyond this make the numbers in a confusion matrix too small to read.
MAX_CLASSES_WITH_NUMBERS = 24


@svg
def class_recalls(per_class: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> 'Figure':
    """Draws class sizes (log scale) beside recalls with their intervals, one row a class.

    Args:
      per_class: rows of `ltjax.evaluation.metrics.evaluate`, in the order to draw them.
      groups: [K] name of the group of each row.
    """
    colours = [GROUP_COLOURS.get(group, NEUTRAL) for group in groups]
    figure = new_figure(8.4, rows_height(len(per_class)))
    sizes, recalls = figure.subplots(1, 2, width_ratios=(1, 1.7), sharey=True)
    rows = np.arange(len(per_class))
    counts, title = class_sizes(per_class)
    # Of none there is a label at the axis, which begins there.
    bars = sizes.barh(rows, np.maximum(counts, 0.8), color=colours, height=0.72)
    sizes.bar_label(bars, [f'{count:,}' for count in counts], padding=3, fontsize=7.5, color=MUTED)
    sizes.set_xscale('log')
    sizes.set_xlim(left=1 if min(counts) > 0 else 0.8, right=max(counts) * 2.5)
    sizes.xaxis.set_major_formatter(thousands)
    sizes.set_title(title)
    class_axis(sizes, [row['name'] for row in per_class])
    for row, figures in zip(rows, per_class, strict=True):
        recall = figures['recall']
        if recall['value'] is None:
            recalls.text(1, row, 'no test images', va='center', fontsize=7.5, color=MUTED)
            continue
        value, low, high = (100 * recall[part] for part in ('value', 'low', 'high'))
        recalls.barh(row, value, color=colours[row], height=0.72)
        # A white edge keeps the interval visible on a dark bar.
        for colour, width in (('white', 3.0), (INK, 1.2)):
            recalls.plot([low, high], [row, row], color=colour, linewidth=width)
    recalls.set_xlim(0, 101)
    recalls.set_title('recall, percent, with 95 % interval')
    recalls.grid(axis='x')
    recalls.spines['left'].set_visible(False)
    recalls.tick_params(labelleft=False)
    group_legend(figure, groups)
    return figure


@svg
def confusion_matrix(confusion: np.ndarray, names: Sequence[str]) -> 'Figure':
    """Draws the share of each true class that is predicted as each class.

    Args:
      confusion: [K, K] counts, rows the true class, in the order to draw them.
      names: [K] class names.
    """
    num_classes = len(names)
    totals = confusion.sum(1, keepdims=True)
    shares = np.ma.masked_array(
        100 * confusion / np.maximum(totals, 1), np.broadcast_to(totals == 0, confusion.shape)
    )
    side = 1.6 + 0.36 * min(num_classes, MAX_CLASSES_WITH_NUMBERS)
    room = name_room(names)
    figure = new_figure(side + 0.6 + room, side + room)
    axis = figure.subplots()
    image = axis.imshow(shares, cmap='Blues', vmin=0, vmax=100, interpolation='nearest')
    axis.set_facecolor('#f2f2f2')  # shows in rows without test images
    labels = [end_label(name) for name in names]
    small = 7 if num_classes <= MAX_CLASSES_WITH_NUMBERS else 5
    # Text that ends at the axis does so in any script.
    turned: dict[str, Any] = {'rotation': 90, 'rotation_mode': 'anchor', 'ha': 'right'}
    axis.set_xticks(range(num_classes), labels=labels, fontsize=small + 1, va='center', **turned)
    axis.set_yticks(range(num_classes), labels=labels, fontsize=small + 1)
    axis.tick_params(labelcolor=INK)
    axis.set_xlabel('predicted class')
    axis.set_ylabel('true class')
    axis.spines[:].set_visible(False)
    axis.set_xticks(np.arange(num_classes - 1) + 0.5, minor=True)
    axis.set_yticks(np.arange(num_classes - 1) + 0.5, minor=True)
    axis.grid(which='minor', color='white', linewidth=1.0)
    axis.tick_params(which='minor', length=0)
    if num_classes <= MAX_CLASSES_WITH_NUMBERS:
        for i, j in np.argwhere(confusion > 0):
            colour = 'white' if shares[i, j] > 55 else INK
            text = f'{shares[i, j]:.0f}' if shares[i, j] >= 0.5 else '·'
            axis.text(j, i, text, ha='center', va='center', fontsize=small, color=colour)
    bar = figure.colorbar(image, ax=axis, shrink=0.6, aspect=30)
    bar.outline.set_visible(False)
    bar.set_label('percent of the true class')
    return figure


@svg
def learning_curves(curves: Mapping[str, Mapping[str, np.ndarray]]) -> 'Figure':
    """Draws training loss above validation balanced accuracy, the stages side by side.

    Args:
      curves: by stage {'loss', 'val_balanced_accuracy'}: [points, 2] arrays of (step, value).
    """
    rows = ('loss', 'val_balanced_accuracy')
    figure = new_figure(max(6.0, min(2.8 * len(curves), 12.0)), 4.2)
    # Losses of different stages have no common scale; their accuracies do.
    grid = figure.subplots(2, len(curves), sharex='col', squeeze=False)
    for axis in grid[1, 1:]:
        axis.sharey(grid[1, 0])
        axis.tick_params(labelleft=False)
    for column, (stage, by_name) in enumerate(curves.items()):
        for row, name in enumerate(rows):
            axis = grid[row, column]
            steps, values = by_name[name].T
            axis.plot(
                steps,
                values * (100 if row else 1),
                color=GROUP_COLOURS['head'],
                linewidth=1.4,
                marker='o' if len(steps) <= 30 else None,
                markersize=3,
            )
            axis.grid()
            axis.locator_params(axis='x', nbins=3)
        grid[0, column].set_title(stage)
        grid[1, column].set_xlabel('step')
        grid[1, column].xaxis.set_major_formatter(_thousands_from_zero)
    grid[0, 0].set_ylabel('training loss')
    grid[1, 0].set_ylabel('validation balanced\naccuracy, percent')
    figure.align_ylabels()
    return figure


def _thousands_from_zero(value: float, _position: int) -> str:
    return f'{value:,.0f}'


@svg
def feature_map(
    points: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    series: Sequence[int] | None = None,
) -> 'Figure':
    """Draws a two-dimensional map of features, coloured by class.

    Args:
      points: [n, 2] places.
      labels: [n] class of each point, an index into `names`.
      names: [K] class names, in the order of the legend.
      series: [K] number of each class's marker; without, the marker changes when all colours are
        used up.
    """
    columns = 1 + (len(names) - 1) // MAX_CLASSES_WITH_NUMBERS
    figure = new_figure(7.4 + 1.2 * (columns - 1) + columns * name_room(names), 5.4)
    axis = figure.subplots()
    turns = [k // len(CLASS_COLOURS) for k in range(len(names))] if series is None else series
    marks = []
    for k in range(len(names)):
        chosen = points[labels == k]
        before = list(turns[:k]).count(turns[k])
        marks.append(
            axis.scatter(
                chosen[:, 0],
                chosen[:, 1],
                s=11 if len(points) > 300 else 22,
                color=CLASS_COLOURS[before % len(CLASS_COLOURS)],
                marker=MARKERS[turns[k] % len(MARKERS)],
                alpha=0.8,
                linewidth=0,
            )
        )
    axis.set_aspect('equal', adjustable='datalim')
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    legend(
        figure,
        marks,
        names,
        loc='outside right upper',
        ncols=columns,
        markerscale=1.5,
        fontsize=8,
    )
    return figure


@svg
def lines(
    curves: Mapping[str, Sequence[Sequence[float]]], title: str, x_label: str, y_label: str
) -> 'Figure':
    """Draws named curves over one axis.

    Args:
      curves: by name the pair (x, y) of equally long sequences.
      title: of the figure.
      x_label: of the horizontal axis.
      y_label: of the vertical axis.
    """
    figure = new_figure(7.0 + name_room(list(curves)), 3.6)
    axis = figure.subplots()
    drawn = [
        axis.plot(x, y, color=CLASS_COLOURS[k % len(CLASS_COLOURS)], linewidth=1.4)[0]
        for k, (x, y) in enumerate(curves.values())
    ]
    axis.set_title(title)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid()
    legend(figure, drawn, list(curves), loc='outside right upper', fontsize=8)
    return figure


@svg
def class_values(
    values: Sequence[float], names: Sequence[str], groups: Sequence[str], title: str
) -> 'Figure':
    """Draws one value of each class, such as the norm of its classifier weights, one row a class.

    Args:
      values: [K], in the order to draw them.
      names: [K] class names.
      groups: [K] name of the group of each class.
      title: what the values are.
    """
    figure = new_figure(7.0, rows_height(len(names)))
    axis = figure.subplots()
    colours = [GROUP_COLOURS.get(group, NEUTRAL) for group in groups]
    rows = np.arange(len(names))
    axis.hlines(rows, 0, values, color=colours, linewidth=1.6)
    axis.scatter(values, rows, color=colours, s=34, zorder=3)
    axis.set_xlim(left=0)
    axis.set_title(title)
    class_axis(axis, names)
    group_legend(figure, groups)
    return figure
