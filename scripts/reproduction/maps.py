"""Maps of training images' features, and of the virtual features that LMD draws, by t-SNE."""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ltjax
from ltjax import losses, methods, sharding
from ltjax.data import datasets
from ltjax.errors import UserError
from ltjax.methods.lmd import calibration
from ltjax.methods.lmd.settings import READINGS
from ltjax.report.embedding import tsne
from ltjax.report.style import CLASS_COLOURS, legend, new_figure, rendered, shown
from ltjax.run import build
from ltjax.run.trained import Trained
from reproduction.class_figures import MARKERS, Runs, by_size
from reproduction.items import Item
from reproduction.runs import Run
from reproduction.tables import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Of each class: at most so many images, and as many virtual features, where a method has them.
EACH = 100
MAX_CLASSES = 10


class Features(NamedTuple):
    """What a map shows.

    Attributes:
      vectors: float32 [n, C].
      labels: int [n], the class of each.
      virtual: bool [n], True for those that LMD drew.
    """

    vectors: np.ndarray
    labels: np.ndarray
    virtual: np.ndarray


def classes(options: Mapping[str, Any], names: Sequence[str], order: np.ndarray) -> list[int]:
    """Returns the classes of a map.

    Args:
      options: of the item: `classes` by name; `elsewhere` for sets without these names, as places in the order of the
        classes by size, 0 for the largest and 1 for the smallest. Without them all, or `MAX_CLASSES` evenly spaced.
      names: [K] of all classes.
      order: [K] classes, from the largest to the smallest.
    """
    wanted = options.get('classes', ())
    if wanted and set(wanted) <= set(names):
        return [names.index(name) for name in wanted]
    places = options.get('elsewhere', np.linspace(0, 1, min(len(order), MAX_CLASSES)))
    return [int(order[k]) for k in dict.fromkeys(round(at * (len(order) - 1)) for at in places)]


def features(run: Run, wanted: Sequence[int], *, virtual: bool) -> Features:
    """Returns features of training images of some classes, by the network that a run selected; of folds the first.

    Args:
      run: a finished one.
      wanted: classes.
      virtual: whether virtual features are added, which LMD with VFC has. They are drawn as its M-step draws them, from
        the Gaussians of the selected network's features.

    Raises:
      UserError: the run's checkpoint or data are gone.
    """
    fold = run.workdir / 'fold-0'
    trained = ltjax.load(fold if fold.exists() else run.workdir)
    data = datasets.load(trained.settings.data)
    part = data.parts['train']
    labels = data.labels[part]
    rng = np.random.default_rng(0)
    rows = [rng.permutation(np.flatnonzero(labels == k))[:EACH] for k in wanted]
    chosen = np.concatenate(rows)
    if not virtual:
        vectors, _ = trained.forward(data.images[part[chosen]])
        return Features(vectors, labels[chosen], np.zeros(len(chosen), bool))
    of_all, _ = trained.forward(data.images_of('train'))
    drawn, of = _virtual(trained, data, of_all)
    kept = np.isin(of, wanted)
    return Features(
        np.concatenate([of_all[chosen], drawn[kept]]),
        np.concatenate([labels[chosen], of[kept]]),
        np.repeat([False, True], [len(chosen), kept.sum()]),
    )


def _virtual(
    trained: Trained, data: datasets.DataSet, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns EACH virtual features of every class, as the M-step of a first round draws them, and their labels."""
    config = methods.parse(trained.settings.method)
    task, reading = build.make_task(trained.settings, data), READINGS[config.variant]
    num_classes, dim = task.num_classes, vectors.shape[1]
    before = losses.ClassGaussians(
        mean=jnp.zeros((num_classes, dim)),
        covariance=jnp.zeros((num_classes, dim, dim)),
        counts=jnp.zeros(num_classes, jnp.int32),
    )
    estimate = calibration.estimator(config.icc, task, reading, sharding.make_mesh())
    resample, draw = jax.random.split(jax.random.key(trained.settings.seed))
    labels = jnp.asarray(data.labels[data.parts['train']])
    # In round 0 the moving average is what this round finds.
    _, found = jax.jit(estimate)(jnp.asarray(vectors), labels, before, resample, 0)
    mean, cholesky = found['virtual']
    drawn, of = losses.virtual_features(draw, mean, cholesky, EACH)
    return np.asarray(drawn), np.asarray(of)


@rendered
def feature_maps(item: Item, found: Sequence[Found], runs: Runs) -> 'Figure':
    """Draws maps of training images' features: a row a benchmark, a panel a method, the runs of the first seed.

    Rows named in the option `virtual` show their virtual features too, as empty marks.
    """
    width = 0.2 + 2.5 * len(item.rows)
    figure = new_figure(width, 3.4 * len(found))
    parts = figure.subfigures(len(found), 1, squeeze=False)[:, 0]
    for part, each in zip(parts, found, strict=True):
        compared = each.compared or {}
        there = {row: runs[each.benchmark][row][0] for row in compared['experiments']}
        names, order = by_size(next(iter(there.values())), each)
        chosen = classes(item.options, names, order)
        axes = part.subplots(1, len(item.rows), squeeze=False)[0]
        for axis, row in zip(axes, item.rows, strict=True):
            virtual = row in item.options.get('virtual', ())
            axis.set_title(f'{row}, virtual ones empty' if virtual else row)
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(True)
            if row in there:
                _draw(axis, features(there[row], chosen, virtual=virtual), chosen)
        marks = [
            axes[0].plot([], [], linestyle='', marker=marker, color=colour)[0]
            for marker, colour, _ in zip(MARKERS, itertools.cycle(CLASS_COLOURS), chosen)
        ]
        said = [f'{shown(names[k])} ({compared["train_counts"][k]:,})' for k in chosen]
        columns = int(width / (0.5 + 0.068 * max(map(len, said))))
        legend(
            part, marks, said, loc='outside lower center', ncols=max(1, min(5, columns)), fontsize=8
        )
        part.suptitle(f'{each.benchmark} (training images)', fontsize=9)
    return figure


def _draw(axis: 'Axes', found: Features, chosen: Sequence[int]) -> None:
    """Draws one map; virtual features below, so that they do not hide the images."""
    try:
        points = tsne(found.vectors)
    except ValueError as error:
        raise UserError(f'there is no map: {error}.') from None
    for k, label in enumerate(chosen):
        colour = CLASS_COLOURS[k % len(CLASS_COLOURS)]
        for virtual in (True, False):
            of = points[(found.labels == label) & (found.virtual == virtual)]
            axis.scatter(
                of[:, 0],
                of[:, 1],
                s=12,
                marker=MARKERS[k],
                facecolor='none' if virtual else colour,
                edgecolor=colour,
                linewidth=0.5,
                alpha=0.6 if virtual else 0.9,
                zorder=1 if virtual else 2,
            )
    axis.set_aspect('equal', adjustable='datalim')
