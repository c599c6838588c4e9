"""The figures of a report with more classes than rows can be read: dots, means and the worst cases.

Classes are in order of training size, as in `ltjax.report.figures`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ltjax.evaluation.confusion import Pairs
from ltjax.evaluation.table import class_sizes
from ltjax.report.style import (
    GROUP_COLOURS,
    INK,
    MUTED,
    NEUTRAL,
    end_label,
    group_legend,
    legend,
    new_figure,
    rows_height,
    shown,
    svg,
    thousands,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# With more classes than this, figures and tables of a row a class are metres long.
MAX_ROWS = 60
# Means over classes of about the same size: at most so many, of at least so many classes.
_MEANS, _MEAN_OF = 20, 10
_CORRECT = '#4b4b4b'


@svg
def recall_by_size(per_class: Sequence[Mapping[str, Any]], groups: Sequence[str]) -> 'Figure':
    """Draws the recall of each class against its training images, with means of equal parts.

    Args:
      per_class: rows of `ltjax.evaluation.metrics.evaluate`, from the largest class to the smallest.
      groups: [K] name of the group of each row.
    """
    tested = [k for k, row in enumerate(per_class) if row['recall']['value'] is not None]
    counts, title = class_sizes(per_class)
    sizes = np.array([max(counts[k], 0.5) for k in tested])
    recalls = np.array([per_class[k]['recall']['value'] for k in tested])
    images = np.array([per_class[k]['test_count'] for k in tested])
    figure = new_figure(8.4, 4.4)
    axis = figure.subplots()
    # Of few images there are few recalls: less than half an image up or down shows how many dots.
    aside = np.random.default_rng(0).uniform(-30, 30, len(tested)) / images
    _dots(axis, sizes, 100 * recalls + aside, [groups[k] for k in tested])
    number = min(_MEANS, max(1, len(tested) // _MEAN_OF))
    parts = np.array_split(np.arange(len(tested)), number)
    centres = [np.exp(np.log(sizes[part]).mean()) for part in parts]
    means = np.array([100 * recalls[part].mean() for part in parts])
    # The spread of a stratified resample: of each class binomial, whatever the other classes do.
    spread = recalls * (1 - recalls) / images
    margins = np.array([196 * np.sqrt(spread[part].sum()) / len(part) for part in parts])
    axis.plot(centres, means, color='white', linewidth=4.0, zorder=3)
    ink: dict[str, Any] = {'color': INK, 'linewidth': 1.4, 'elinewidth': 1.0, 'zorder': 4}
    line = axis.errorbar(centres, means, yerr=margins, capsize=2, **ink)[0]
    axis.set_xscale('log')
    axis.xaxis.set_major_formatter(thousands)
    axis.set_ylim(min(-3, 1.1 * aside.min()), max(103, 100 + 1.1 * aside.max()))
    axis.set_yticks(range(0, 101, 20))
    axis.set_xlabel(f'{title} of the class')
    axis.set_ylabel('recall, percent')
    axis.grid()
    legend(figure, [line], [f'mean of {len(parts[0]):,} classes'], loc='outside upper left')
    group_legend(figure, groups)
    return figure


def _dots(axis: 'Axes', x: np.ndarray, y: np.ndarray, groups: Sequence[str]) -> None:
    """Draws a dot for each class: the fainter, the more there are. Thousands become one picture."""
    axis.scatter(
        x,
        y,
        s=14 if len(x) <= 1000 else 7,
        color=[GROUP_COLOURS.get(group, NEUTRAL) for group in groups],
        alpha=float(np.clip(400 / max(len(x), 1), 0.25, 0.8)),
        linewidth=0,
        rasterized=len(x) > 2000,
    )


@svg
def group_confusion(pairs: Pairs, groups: Sequence[str]) -> 'Figure':
    """Draws what share of the images of each group is right, or is taken for a class of a group.

    Args:
      pairs: counts by true and predicted class.
      groups: [K] name of the group of each class.
    """
    from matplotlib.patches import Patch

    names = [name for name in GROUP_COLOURS if name in groups]
    colours = [_CORRECT, *(GROUP_COLOURS[name] for name in names)]
    # A class of no group has the last place, which is not drawn.
    place = np.array([names.index(group) if group in names else len(names) for group in groups])
    taken = np.where(pairs.true == pairs.predicted, 0, 1 + place[pairs.predicted])
    images = np.zeros((len(names) + 1, len(names) + 2))
    np.add.at(images, (place[pairs.true], taken), pairs.images)
    shares = 100 * images / np.maximum(images.sum(1, keepdims=True), 1)
    figure = new_figure(8.4, 1.0 + 0.36 * len(names))
    axis = figure.subplots()
    left = np.zeros(len(names))
    for colour, widths in zip(colours, shares[:-1].T, strict=False):
        rows = range(len(names))
        bars = axis.barh(rows, widths, left=left, color=colour, height=0.72, edgecolor='white')
        ink = INK if colour == GROUP_COLOURS['medium'] else 'white'
        inside = [f'{width:.0f}' if width >= 3 else '' for width in widths]
        axis.bar_label(bars, inside, label_type='center', fontsize=8, color=ink)
        left += widths
    axis.set_yticks(range(len(names)), labels=names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(0, 100)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("percent of the group's test images")
    handles = [Patch(color=colour) for colour in colours]
    titles = ['right', *(f'wrong: a {name} class' for name in names)]
    legend(figure, handles, titles, loc='outside upper right', ncols=len(titles))
    return figure


def most_confused(pairs: Pairs, num_classes: int, at_most: int = 20) -> np.ndarray:
    """Returns indices into `pairs` of the true classes most often taken for a certain other one.

    By the lower end of Wilson's 95 % interval (1927) of the share of the true class, so that two of
    two images do not come before 40 of 50. Equals stay in the order of the pairs.
    """
    totals = np.bincount(pairs.true, pairs.images, minlength=num_classes)[pairs.true]
    share = pairs.images / totals
    z = 1.96
    centre = share + z**2 / (2 * totals)
    margin = z * np.sqrt(share * (1 - share) / totals + z**2 / (4 * totals**2))
    lowest = (centre - margin) / (1 + z**2 / totals)
    order = np.argsort(-lowest, kind='stable')
    return order[pairs.true[order] != pairs.predicted[order]][:at_most]


@svg
def confused_pairs(pairs: Pairs, names: Sequence[str], groups: Sequence[str]) -> 'Figure':
    """Draws the most confused pairs of classes, one row a pair.

    Args:
      pairs: counts by true and predicted class; at least one image is wrong.
      names: [K] class names.
      groups: [K] name of the group of each class.
    """
    chosen = most_confused(pairs, len(names))
    totals = np.bincount(pairs.true, pairs.images, minlength=len(names))[pairs.true]
    shares = 100 * pairs.images[chosen] / totals[chosen]
    colours = [GROUP_COLOURS.get(groups[k], NEUTRAL) for k in pairs.true[chosen]]
    figure = new_figure(8.4, rows_height(len(chosen)))
    axis = figure.subplots()
    bars = axis.barh(range(len(chosen)), shares, color=colours, height=0.72)
    counts = [f'{pairs.images[pair]:,} of {totals[pair]:,.0f}' for pair in chosen]
    axis.bar_label(bars, counts, padding=3, fontsize=7.5, color=MUTED)
    # The marks keep the arrow's direction between two names that are written right to left.
    labels = [
        f'{shown(names[k], 26)} \u200e→\u200e {shown(names[other], 26)}'
        for k, other in zip(pairs.true[chosen], pairs.predicted[chosen], strict=True)
    ]
    axis.set_yticks(range(len(chosen)), labels=[end_label(label, at_most=60) for label in labels])
    axis.set_ylim(len(chosen) - 0.4, -0.6)
    axis.set_xlim(0, 1.15 * shares.max())
    axis.set_title('percent of the true class')
    axis.grid(axis='x')
    axis.spines['left'].set_visible(False)
    group_legend(figure, [groups[k] for k in pairs.true[chosen]])
    return figure


@svg
def ranked_values(values: Sequence[float], groups: Sequence[str], title: str) -> 'Figure':
    """Draws one value of each class, such as the norm of its classifier weights, one dot a class.

    Args:
      values: [K], from the largest class to the smallest.
      groups: [K] name of the group of each class.
      title: what the values are.
    """
    figure = new_figure(8.4, 3.8)
    axis = figure.subplots()
    _dots(axis, np.arange(1, len(values) + 1), np.asarray(values), groups)
    axis.set_xlim(0.5 - 0.01 * len(values), 0.5 + 1.01 * len(values))
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_formatter(thousands)
    axis.set_title(title)
    axis.set_xlabel('rank of the class by training images')
    axis.grid()
    group_legend(figure, groups)
    return figure
