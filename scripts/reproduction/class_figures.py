"""Figures that have a value of each class: of several methods, of sizes, of norms."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import comparison
import numpy as np

from ltjax.evaluation import prediction_files
from ltjax.report.style import (
    CLASS_COLOURS,
    GROUP_COLOURS,
    INK,
    NEUTRAL,
    class_axis,
    legend,
    new_figure,
    rendered,
    rows_height,
    shown,
    thousands,
)
from reproduction.items import Item
from reproduction.runs import Run
from reproduction.tables import Found

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = 'os^Dv<>Px*'
LINES = ('-', '--', ':', '-.')
Runs = Mapping[str, Mapping[str, Sequence[Run]]]  # by benchmark and row


@rendered
def class_bars(item: Item, found: Sequence[Found], runs: Runs) -> 'Figure':
    """Draws a figure of each class for several methods: a panel a benchmark, a row a class, a mark a method."""
    wanted = item.options['figure']
    sizes = [len((each.compared or {})['train_counts']) for each in found]
    rows_of = [
        [row for row in item.rows if row in (f.compared or {})['experiments']] for f in found
    ]
    figure = new_figure(1.6 + 3.6 * len(found), rows_height(max(sizes)) + 0.3)
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, each, rows in zip(axes, found, rows_of, strict=True):
        names, order = by_size(runs[each.benchmark][rows[0]][0], each)
        for k, row in enumerate(rows):
            values = np.mean(
                [_of_class(run, wanted, names) for run in runs[each.benchmark][row]], 0
            )
            place = np.arange(len(order)) + 0.5 * ((k + 0.5) / len(rows) - 0.5)
            axis.plot(
                values[order],
                place,
                linestyle='',
                marker=MARKERS[k % len(MARKERS)],
                color=CLASS_COLOURS[k % len(CLASS_COLOURS)],
                markersize=5,
                markerfacecolor='none' if k % 2 else CLASS_COLOURS[k % len(CLASS_COLOURS)],
                label=row,
            )
        class_axis(axis, [names[k] for k in order])
        axis.set_title(each.benchmark)
        axis.set_xlabel(_LABELS[wanted])
    handles, labels = axes[0].get_legend_handles_labels()
    legend(figure, handles, labels, loc='outside lower center', ncols=4, fontsize=8)
    return figure


@rendered
def class_sizes(item: Item, found: Sequence[Found], runs: Runs) -> 'Figure':
    """Draws the training images of each class, the largest first: a panel a benchmark."""
    sizes = [np.sort((each.compared or {})['train_counts'])[::-1] for each in found]
    figure = new_figure(1.2 + 3.4 * len(found), rows_height(max(map(len, sizes))))
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for axis, each in zip(axes, found, strict=True):
        row = next(iter((each.compared or {})['experiments']))
        names, order = by_size(runs[each.benchmark][row][0], each)
        counts = np.array((each.compared or {})['train_counts'])
        test = comparison.results_of(runs[each.benchmark][row][0].workdir)['test']
        group = {name: g for g, said in test['groups'].items() for name in said['classes']}
        colours = [GROUP_COLOURS.get(group.get(names[k], ''), NEUTRAL) for k in order]
        axis.barh(range(len(order)), counts[order], color=colours, height=0.6)
        for place, k in enumerate(order):
            axis.annotate(f' {counts[k]:,}', (counts[k], place), va='center', fontsize=8)
        axis.set_xscale('log')
        axis.xaxis.set_major_formatter(thousands)
        axis.margins(x=0.15)
        class_axis(axis, [names[k] for k in order])
        ratio = counts.max() / max(1, counts.min())
        axis.set_title(f'{shown(each.benchmark)}: 1 to {ratio:.0f}')
        axis.set_xlabel('training images')
    return figure


@rendered
def class_norms(item: Item, found: Sequence[Found], runs: Runs) -> 'Figure':
    """Draws norms over the classes, from the largest to the smallest: a row a benchmark, a panel a stage.

    Lines are the weights of classifiers, at most two a panel, and the classes' centroids of methods that have them;
    means over the seeds.
    """
    panels: Mapping[str, Sequence[str]] = item.options['panels']
    figure = new_figure(0.6 + 3.2 * len(panels), 0.6 + 3.0 * len(found))
    grid = figure.subplots(len(found), len(panels), squeeze=False, sharey='row')
    for axes, each in zip(grid, found, strict=True):
        for axis, (stage, rows) in zip(axes, panels.items(), strict=True):
            for k, row in enumerate(rows):
                if row not in (each.compared or {})['experiments']:
                    continue
                made = runs[each.benchmark][row]
                _, order = by_size(made[0], each)
                for what, norms in _norms(made).items():
                    # The methods' weights, and centroids, look the same in all panels.
                    style = k if what == 'classifier weights' else 2
                    axis.plot(
                        np.arange(1, 1 + len(order)),
                        norms[order],
                        color=(*CLASS_COLOURS[:2], INK)[style],
                        marker=MARKERS[style] if len(order) <= 30 else '',
                        linestyle=LINES[style],
                        markersize=4,
                        linewidth=1.4,
                        label=f'{row}: {what}',
                    )
            axis.set_title(f'{each.benchmark}: {stage}')
            axis.set_xlabel('class, the largest first')
            axis.grid()
        # Once all panels are there: the one that is set last would cut the others.
        axes[0].set_ylim(bottom=0)
        axes[0].set_ylabel('norm')
        for axis in axes:
            axis.legend(fontsize=8)
    return figure


def _norms(made: Sequence[Run]) -> dict[str, np.ndarray]:
    """Returns norms [K] by what they are of, the mean of some runs."""
    found: dict[str, list[Any]] = {}
    for run in made:
        for plot in comparison.results_of(run.workdir).get('plots', ()):
            before, of, what = plot['title'].partition('norm of ')
            if of and not before:
                found.setdefault(what, []).append(plot['per_class'])
    return {what: np.mean(norms, 0) for what, norms in found.items()}


def by_size(run: Run, found: Found) -> tuple[list[str], np.ndarray]:
    """Returns the names of the classes, and their places from the largest in training to the smallest."""
    names: list[str] = comparison.results_of(run.workdir)['class_names']
    return names, np.argsort((found.compared or {})['train_counts'], kind='stable')[::-1]


def _of_class(run: Run, figure: str, names: Sequence[str]) -> list[float]:
    """Returns a figure of each class; NaN where it is undefined."""
    if figure == 'log_loss':
        predictions = prediction_files.read(run.workdir / 'predictions.npz')
        true = predictions.scores.matrix()[np.arange(len(predictions.labels)), predictions.labels]
        losses = -np.log(np.maximum(true, np.finfo(float).tiny))
        return [losses[predictions.labels == k].mean() for k in range(len(names))]
    rows = comparison.results_of(run.workdir)['test']['per_class']
    values = [row[figure]['value'] for row in rows]
    return [np.nan if value is None else 100 * value for value in values]


_LABELS = {'f1': 'F1, percent', 'recall': 'recall, percent', 'log_loss': 'log loss of test images'}
