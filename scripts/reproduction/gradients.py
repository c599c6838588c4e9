"""ALPA's figure 1: how strongly losses pull at a logit. Their formulas say it, without a run."""

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ltjax import methods
from ltjax.methods import alpa
from ltjax.report.style import CLASS_COLOURS, legend, new_figure, rendered
from ltjax.run import config_files
from reproduction.class_figures import LINES, MARKERS, Runs
from reproduction.items import Item
from reproduction.tables import Cell, Found, Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TABLED = (0.1, 0.3, 0.5, 0.7, 0.9)


@functools.cache
def plots() -> Sequence[dict[str, Any]]:
    """Returns the curves with ALPA as the paper trains it, see `alpa.gradients`."""
    config = config_files.get_config('alpa', 'aptos2019@alpa')
    return alpa.gradients(methods.parse(config.method.to_dict()))


def grid(item: Item) -> Grid:
    """Returns the derivatives at some probabilities: a row a loss."""
    header, rows = [''], {name: [Cell(name)] for name in plots()[0]['lines']}
    for plot in plots():
        kind = plot['title'].split()[3]
        header += [f'{kind}, p = {p}' for p in _TABLED]
        for name, (probabilities, derivatives) in plot['lines'].items():
            values = np.interp(_TABLED, probabilities, derivatives)
            rows[name] += [Cell(f'{value:.3f}') for value in values]
    return Grid(header, list(rows.values()), list(item.differs))


@rendered
def draw(item: Item, found: Sequence[Found], runs: Runs) -> 'Figure':
    """Draws the derivatives of losses by the logit over the probability: a panel for negatives, one for positives."""
    figure = new_figure(7.2, 3.4)
    marks: dict[str, Any] = {}
    for axis, plot in zip(figure.subplots(1, 2), plots(), strict=True):
        for k, (name, (probabilities, derivatives)) in enumerate(plot['lines'].items()):
            [marks[name]] = axis.plot(
                probabilities,
                derivatives,
                color=CLASS_COLOURS[k],
                linestyle=LINES[k % len(LINES)],
                linewidth=1.4,
                marker=MARKERS[k],
                markersize=4,
                markevery=(3 * k, 16),  # apart, where curves lie on one another
            )
        axis.set_title(plot['title'])
        axis.set_xlabel(plot['x_label'])
        axis.grid()
    names = list(marks)
    legend(figure, list(marks.values()), names, loc='outside lower center', ncols=3, fontsize=8)
    return figure
