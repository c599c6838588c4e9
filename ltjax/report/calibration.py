"""The reliability diagram of a report, as SVG text."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ltjax.report.style import GROUP_COLOURS, INK, MUTED, legend, new_figure, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@svg
def reliability_diagram(panels: Mapping[str, Mapping[str, Any]]) -> 'Figure':
    """Draws accuracy against confidence, and how often each confidence occurs, a panel a set.

    Args:
      panels: by 'all' and class group what `ltjax.evaluation.calibration.reliability` returns, as
        it is or read from JSON, in the order to draw it; at least one.
    """
    figure = new_figure(0.6 + 2.1 * max(3, len(panels)), 3.8)
    grid = figure.subplots(
        2, len(panels), sharex=True, sharey='row', squeeze=False, height_ratios=(2.6, 1)
    )
    for column, (name, panel) in enumerate(panels.items()):
        colour = GROUP_COLOURS.get(name, INK)
        _accuracies(grid[0, column], panel['bins'], colour)
        number = sum(row['images'] for row in panel['bins'])
        grid[0, column].set_title(f'{name} ({number:,} image{"s" if number != 1 else ""})')
        _shares(grid[1, column], panel['histogram'], colour)
        grid[1, column].set_xlabel('confidence, percent')
    grid[0, 0].set_ylabel('accuracy, percent')
    grid[1, 0].set_ylabel('images, percent')
    figure.align_ylabels()
    _legend(figure)
    return figure


def _accuracies(axis: 'Axes', rows: list[Mapping[str, Any]], colour: str) -> None:
    """Draws a mark for each bin, the band of their intervals, and the diagonal."""
    axis.plot([0, 100], [0, 100], color=MUTED, linewidth=1.0, linestyle='--')
    confidences, values, lows, highs = (
        100
        * np.array(
            # None, where there is no interval, is NaN as a float: no band is drawn there.
            [
                [row['confidence'], *map(row['accuracy'].get, ('value', 'low', 'high'))]
                for row in rows
            ],
            np.float64,
        ).T
    )
    # Edges show a band of one bin, which has no width.
    axis.fill_between(confidences, lows, highs, color=colour, alpha=0.25, linewidth=0)
    axis.vlines(confidences, lows, highs, color=colour, linewidth=0.8, alpha=0.6)
    axis.plot(confidences, values, color=colour, linewidth=1.2, marker='o', markersize=3)
    axis.set_xlim(0, 100)
    axis.set_ylim(-2, 102)
    axis.set_xticks(range(0, 101, 25))
    axis.set_yticks(range(0, 101, 25))
    axis.grid()


def _shares(axis: 'Axes', histogram: list[int], colour: str) -> None:
    """Draws which share of the images has a confidence in each of equal parts from 0 to 1."""
    parts = len(histogram)
    axis.bar(
        np.arange(parts) * 100 / parts,
        100 * np.array(histogram) / sum(histogram),
        width=100 / parts,
        align='edge',
        color=colour,
        edgecolor='white',
        linewidth=0.4,
    )
    axis.set_ylim(bottom=0)
    axis.grid(axis='y')


def _legend(figure: 'Figure') -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], color=INK, linewidth=1.2, marker='o', markersize=3),
        Patch(color=INK, alpha=0.25, linewidth=0),
        Line2D([], [], color=MUTED, linewidth=1.0, linestyle='--'),
    ]
    names = ['images of like confidence', '95 % interval', 'accuracy = confidence']
    legend(figure, handles, names, loc='outside upper left', ncols=3, fontsize=8)
