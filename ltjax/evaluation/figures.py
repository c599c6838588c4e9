"""The figures of a report, as SVG text.

Matplotlib's object-oriented interface only, so that no global state is touched and no display is
needed. Classes are always in order of training size, and head, medium and tail keep their colours.
"""

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue, grey-blue and orange differ in lightness too: legible to colour-blind readers and in print.
GROUP_COLOURS = {'head': '#2f5d8c', 'medium': '#8fb3cc', 'tail': '#d1603d'}
INK, MUTED, RULE, NEUTRAL = '#222222', '#666666', '#dddddd', '#8a8a8a'
# Okabe and Ito's palette; with the markers below it tells 24 classes apart.
CLASS_COLOURS = (
    *('#0072b2', '#e69f00', '#009e73', '#d55e00'),
    *('#56b4e9', '#cc79a7', '#b8a800', '#444444'),
)
MARKERS = 'o^sDv'
# Classes beyond this make the numbers in a confusion matrix too small to read.
MAX_CLASSES_WITH_NUMBERS = 24

_STYLE: dict[Any, Any] = {
    'font.family': 'sans-serif',
    'font.size': 9,
    'text.color': INK,
    'text.parse_math': False,  # a class name may hold a dollar sign
    'axes.edgecolor': RULE,
    'axes.labelcolor': MUTED,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.titlesize': 10,
    'axes.titlelocation': 'left',
    'axes.axisbelow': True,
    'grid.color': '#ececec',
    'xtick.color': MUTED,
    'ytick.color': MUTED,
    'xtick.labelcolor': MUTED,
    'ytick.labelcolor': INK,
    'xtick.major.size': 0,
    'ytick.major.size': 0,
    'xtick.minor.size': 0,
    'legend.frameon': False,
    'lines.solid_capstyle': 'butt',
    'svg.fonttype': 'none',  # text stays text, in a font that has the script of the class names
    'svg.hashsalt': 'ltjax',
    'figure.constrained_layout.use': True,
    'figure.constrained_layout.w_pad': 0.1,
}

P = ParamSpec('P')


def _svg(draw: Callable[P, 'Figure']) -> Callable[P, str]:
    """Makes a function that draws a figure return it as SVG text, in the style above."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> str:
        import matplotlib

        with matplotlib.rc_context(_STYLE):
            buffer = io.StringIO()
            draw(*args, **kwargs).savefig(buffer, format='svg', metadata={'Date': None})
        return buffer.getvalue()

    return wrapper


def _new_figure(width: float, height: float) -> 'Figure':
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def _class_axis(axis: 'Axes', names: Sequence[str]) -> None:
    """Labels rows from the top with the names of classes."""
    axis.set_yticks(range(len(names)), labels=list(names))
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis='x')
    axis.spines['left'].set_visible(False)


def _rows_height(num_classes: int) -> float:
    return 0.9 + 0.27 * num_classes


def _thousands(value: float, _position: int) -> str:
    return f'{value:,.0f}' if value >= 1 else ''


def _group_legend(figure: 'Figure', groups: Sequence[str]) -> None:
    from matplotlib.patches import Patch

    named = [name for name in GROUP_COLOURS if name in groups]
    if named:
        handles = [Patch(color=GROUP_COLOURS[name], label=name) for name in named]
        figure.legend(handles=handles, loc='outside upper right', ncols=len(named))


@_svg
def class_recalls(per_class: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> 'Figure':
    """Draws class sizes (log scale) beside recalls with their intervals, one row a class.

    Args:
      per_class: rows of `ltjax.evaluation.metrics.evaluate`, in the order to draw them.
      groups: [K] name of the group of each row.
    """
    colours = [GROUP_COLOURS.get(group, NEUTRAL) for group in groups]
    figure = _new_figure(8.4, _rows_height(len(per_class)))
    sizes, recalls = figure.subplots(1, 2, width_ratios=(1, 1.7), sharey=True)
    rows = np.arange(len(per_class))
    counts = np.array([row['train_count'] for row in per_class])
    sizes.barh(rows, counts, color=colours, height=0.72)
    sizes.set_xscale('log')
    sizes.set_xlim(left=min(1, *counts) if counts.min() > 0 else 0.8, right=counts.max() * 2.5)
    sizes.xaxis.set_major_formatter(_thousands)
    for row, count in zip(rows, counts, strict=True):
        sizes.annotate(
            f'{count:,}',
            (max(count, 1), row),
            xytext=(3, 0),
            textcoords='offset points',
            va='center',
            fontsize=7.5,
            color=MUTED,
        )
    sizes.set_title('training images')
    _class_axis(sizes, [row['name'] for row in per_class])
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
    _group_legend(figure, groups)
    return figure


@_svg
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
    figure = _new_figure(side + 0.6, side)
    axis = figure.subplots()
    image = axis.imshow(shares, cmap='Blues', vmin=0, vmax=100, interpolation='nearest')
    axis.set_facecolor('#f2f2f2')  # shows in rows without test images
    small = 7 if num_classes <= MAX_CLASSES_WITH_NUMBERS else 5
    axis.set_xticks(range(num_classes), labels=list(names), rotation=90, fontsize=small + 1)
    axis.set_yticks(range(num_classes), labels=list(names), fontsize=small + 1)
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


@_svg
def learning_curves(curves: Mapping[str, Mapping[str, np.ndarray]]) -> 'Figure':
    """Draws training loss above validation balanced accuracy, the stages side by side.

    Args:
      curves: by stage {'loss', 'val_balanced_accuracy'}: [points, 2] arrays of (step, value).
    """
    rows = ('loss', 'val_balanced_accuracy')
    figure = _new_figure(max(6.0, min(2.8 * len(curves), 12.0)), 4.2)
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


@_svg
def feature_map(points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> 'Figure':
    """Draws a two-dimensional map of features, coloured by class.

    Args:
      points: [n, 2] places.
      labels: [n] class of each point, an index into `names`.
      names: [K] class names, in the order of the legend.
    """
    columns = 1 + (len(names) - 1) // MAX_CLASSES_WITH_NUMBERS
    figure = _new_figure(7.4 + 1.2 * (columns - 1), 5.4)
    axis = figure.subplots()
    for k, name in enumerate(names):
        chosen = points[labels == k]
        axis.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=11,
            color=CLASS_COLOURS[k % len(CLASS_COLOURS)],
            marker=MARKERS[k // len(CLASS_COLOURS) % len(MARKERS)],
            alpha=0.8,
            linewidth=0,
            label=name,
        )
    axis.set_aspect('equal', adjustable='datalim')
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    figure.legend(loc='outside right upper', ncols=columns, markerscale=1.5, fontsize=8)
    return figure


@_svg
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
    figure = _new_figure(7.0, 3.6)
    axis = figure.subplots()
    for number, (name, (x, y)) in enumerate(curves.items()):
        axis.plot(x, y, color=CLASS_COLOURS[number % len(CLASS_COLOURS)], linewidth=1.4, label=name)
    axis.set_title(title)
    axis.set_xlabel(x_label)
    axis.set_ylabel(y_label)
    axis.grid()
    figure.legend(loc='outside right upper', fontsize=8)
    return figure


@_svg
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
    figure = _new_figure(7.0, _rows_height(len(names)))
    axis = figure.subplots()
    colours = [GROUP_COLOURS.get(group, NEUTRAL) for group in groups]
    rows = np.arange(len(names))
    axis.hlines(rows, 0, values, color=colours, linewidth=1.6)
    axis.scatter(values, rows, color=colours, s=34, zorder=3)
    axis.set_xlim(left=0)
    axis.set_title(title)
    _class_axis(axis, names)
    _group_legend(figure, groups)
    return figure
