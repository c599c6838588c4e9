"""The figures of what predictions are worth to whoever acts on them, as SVG text.

All are drawn from JSON-able values: a figure with its interval is {'value', 'low', 'high'}, as
`ltjax.evaluation.bootstrap.intervals` returns it, with all three None where it is undefined.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ltjax.report.style import (
    GROUP_COLOURS,
    INK,
    MUTED,
    NEUTRAL,
    class_axis,
    group_legend,
    legend,
    new_figure,
    rows_height,
    shown,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Interval = Mapping[str, float | None]


@svg
def decision_curve(
    thresholds: Sequence[float],
    model: Sequence[Interval],
    treat_all: Sequence[Interval],
    name: str,
) -> 'Figure':
    """Draws the net benefit of acting on the model, on everyone and on no one.

    Args:
      thresholds: [T] probabilities, rising.
      model: [T] net benefit of the model.
      treat_all: [T] net benefit of treating all; drawn as far as the model's axis goes.
      name: of the class.
    """
    figure = new_figure(7.0, 3.8)
    axis = figure.subplots()
    x = 100 * np.asarray(thresholds)
    # Dashes, dots and the band tell the three apart without colours.
    drawn = [
        _line(axis, x, model, 1000, color=GROUP_COLOURS['head'], linewidth=1.8, zorder=4),
        _line(axis, x, treat_all, 1000, color=GROUP_COLOURS['tail'], linestyle='--', zorder=3),
        axis.axhline(0, color=INK, linestyle=':', linewidth=1.4),
    ]
    _, low, high = 1000 * _columns(model)
    least, most = np.nanmin([*low, 0.0]), np.nanmax([*high, *(1000 * _columns(treat_all)[0]), 1.0])
    axis.set_ylim(min(least, -0.05 * most) * 1.1, most * 1.1)
    axis.set_title(f'decision curve of {shown(name)}')
    axis.set_xlabel('probability from which one acts, percent')
    axis.set_ylabel('net benefit: true less\nweighted false positives, in 1,000 images')
    axis.grid()
    names = ('the model, with 95 % interval', 'act on all', 'act on none')
    legend(figure, drawn, names, loc='outside upper right', ncols=3, fontsize=8)
    return figure


@svg
def referral_curve(shares: Sequence[float], figures: Mapping[str, Sequence[Interval]]) -> 'Figure':
    """Draws what the images that stay are worth by the share of images sent to a human.

    Args:
      shares: [S] shares sent.
      figures: by name, such as 'accuracy' and 'tail recall', the [S] figures; at most four.
    """
    looks: tuple[dict[str, Any], ...] = (
        {'color': GROUP_COLOURS['head'], 'marker': 'o'},
        {'color': GROUP_COLOURS['tail'], 'marker': 's', 'linestyle': '--'},
        {'color': NEUTRAL, 'marker': '^', 'linestyle': '-.'},
        {'color': INK, 'marker': 'D', 'linestyle': ':'},
    )
    figure = new_figure(7.0, 3.8)
    axis = figure.subplots()
    x = 100 * np.asarray(shares)
    drawn = [
        _line(axis, x, values, 100, linewidth=1.6, markersize=4, **look)
        for values, look in zip(figures.values(), looks[: len(figures)], strict=True)
    ]
    axis.set_ylim(top=102)
    axis.set_xlabel('images sent to a human, the least certain first, percent')
    axis.set_ylabel('of the images that stay, percent')
    axis.grid()
    legend(figure, drawn, list(figures), loc='outside upper right', ncols=len(drawn), fontsize=8)
    return figure


@svg
def class_coverage(
    per_class: Sequence[Mapping[str, Any]], groups: Sequence[str], level: float
) -> 'Figure':
    """Draws how often the sets of a class hold its label, beside their size, one row a class.

    Args:
      per_class: rows {'name', 'coverage', 'size'}, in the order to draw them. With more rows than
        `ltjax.report.many_classes.MAX_ROWS` the figure is too long to read.
      groups: [K] name of the group of each row.
      level: wished coverage, 1 - alpha, drawn as a line.
    """
    figure = new_figure(8.4, rows_height(len(per_class)))
    coverage, size = figure.subplots(1, 2, width_ratios=(1.5, 1), sharey=True)
    colours = [GROUP_COLOURS.get(group, NEUTRAL) for group in groups]
    class_axis(coverage, [row['name'] for row in per_class])
    _dots(coverage, [row['coverage'] for row in per_class], 100, colours)
    _dots(size, [row['size'] for row in per_class], 1, colours)
    coverage.axvline(100 * level, color=INK, linestyle='--', linewidth=1.0, zorder=1)
    coverage.set_xlim(-2, 102)
    coverage.set_title(f'sets that hold the label, percent (line: wished {100 * level:g})')
    size.set_xlim(left=0)
    size.set_title('labels in a set')
    size.grid(axis='x')
    size.spines['left'].set_visible(False)
    size.tick_params(labelleft=False)
    for row, figures in enumerate(per_class):
        if figures['coverage']['value'] is None:
            coverage.text(1, row, 'no test images', va='center', fontsize=7.5, color=MUTED)
    group_legend(figure, groups)
    return figure


def _columns(intervals: Sequence[Interval]) -> np.ndarray:
    """Returns values, lows and highs as float64 [3, n], NaN for None."""
    parts = [[row[part] for row in intervals] for part in ('value', 'low', 'high')]
    return np.array(parts, np.float64)


def _line(
    axis: 'Axes', x: np.ndarray, intervals: Sequence[Interval], scale: float, **look: Any
) -> 'Artist':
    """Draws values over x as a line in a band, and returns the line."""
    value, low, high = scale * _columns(intervals)
    axis.fill_between(x, low, high, color=look['color'], alpha=0.15, linewidth=0)
    return axis.plot(x, value, **look)[0]


def _dots(
    axis: 'Axes', intervals: Sequence[Interval], scale: float, colours: Sequence[str]
) -> None:
    """Draws values as dots on their intervals, a row each; nothing where there is none."""
    value, low, high = scale * _columns(intervals)
    rows = np.arange(len(value))
    axis.hlines(rows, low, high, color=INK, linewidth=1.2, zorder=2)
    axis.scatter(value, rows, color=list(colours), s=34, zorder=3)
