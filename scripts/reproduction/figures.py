"""The papers' figures, of runs: what differs between methods, drawn so that grey print can be read."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import comparison
import numpy as np

from ltjax.errors import UserError
from ltjax.report.style import CLASS_COLOURS, new_figure, rendered
from reproduction import class_figures, gradients, maps
from reproduction.class_figures import LINES, MARKERS, Runs
from reproduction.items import Item
from reproduction.tables import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(item: Item, found: Sequence[Found], runs: Runs) -> dict[str, bytes]:
    """Returns the figure of an item as 'svg' and 'png'.

    Args:
      item: what is to be drawn.
      found: on each benchmark.
      runs: those that were planned, by benchmark and row.

    Raises:
      UserError: no run has finished.
    """
    there = [each for each in found if each.compared is not None]
    if item.rows and not there:
        raise UserError(f'{item.name}: no run has finished.')
    return KINDS[item.kind](item, there, runs)


@rendered
def curve(item: Item, found: Sequence[Found], runs: Runs) -> 'Figure':
    """Draws metrics over the values of a sweep: a panel a benchmark, and one more for seconds.

    Lines join the means, dots are seeds. Whiskers are the 95 % interval of the difference to the reference.
    """
    panels = []
    for each in found:
        columns = [c for c in item.metrics(each.benchmark) if c != 'seconds']
        panels.append((each, columns, 'percent'))
        if 'seconds' in item.metrics(each.benchmark):
            panels.append((each, ['seconds'], 'seconds a run'))
    figure = new_figure(0.8 + 3.2 * len(panels), 3.2)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (each, columns, unit) in zip(axes, panels, strict=True):
        _curves(axis, item, each, columns)
        axis.set_title(each.benchmark)
        axis.set_ylabel(unit)
        axis.legend(fontsize=8)
    return figure


def _curves(axis: 'Axes', item: Item, found: Found, columns: Sequence[str]) -> None:
    experiments = (found.compared or {})['experiments']
    rows = [row for row in item.swept if row in experiments]
    reference = (found.compared or {})['references'][0]
    numbers = np.array([float(item.swept[row][0]) for row in rows])
    for k, column in enumerate(columns):
        scale = 1 if column == 'seconds' else 100
        seeds = scale * np.array([experiments[row]['values'][column] for row in rows], float)
        colour = CLASS_COLOURS[k]
        axis.plot(
            numbers,
            seeds.mean(1),
            color=colour,
            marker=MARKERS[k],
            linestyle=LINES[k % len(LINES)],
            markersize=5,
            linewidth=1.4,
            label=comparison.title(column),
        )
        if seeds.shape[1] > 1:
            axis.plot(numbers, seeds, '.', color=colour, markersize=3, alpha=0.5)
        for x, row, mean in zip(numbers, rows, seeds.mean(1), strict=True):
            one = experiments[row][f'vs {reference}'].get(column)
            if row != reference and one is not None and one['difference'] is not None:
                around = 100 * (np.array([one['low'], one['high']]) - one['difference'])
                axis.plot([x, x], mean + around, color=colour, linewidth=1, alpha=0.6)
    if len(numbers) > 1 and numbers.min() > 0 and numbers.max() / numbers.min() >= 20:
        axis.set_xscale('log')
        axis.set_xticks(numbers, labels=[f'{x:g}' for x in numbers])
        axis.minorticks_off()
    axis.set_xlabel(item.symbols[0])
    axis.grid()


KINDS: dict[str, Callable[..., Any]] = {
    'curve': curve,
    'class_bars': class_figures.class_bars,
    'class_sizes': class_figures.class_sizes,
    'class_norms': class_figures.class_norms,
    'gradients': gradients.draw,
    'feature_maps': maps.feature_maps,
}
