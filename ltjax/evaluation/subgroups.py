"""How a model does on parts of the test images: by site, sex, age band, device or another column.

Subgroups differ in which classes they have, and balanced accuracy is a mean over classes. A subgroup is therefore set
beside all other images by the classes that both have; its own balanced accuracy is over its classes.
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.evaluation import confusion
from ltjax.evaluation.bootstrap import Units, bootstrap, clusters_of, interval
from ltjax.evaluation.counting import mean_of_defined
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.small_samples import FEW
from ltjax.evaluation.table import listed

# A column of numbers with more values than this is cut into as many bands.
MOST_VALUES, _BANDS = 12, 4
NOT_GIVEN = 'not given'
# With fewer images than this a subgroup's figures say little.
_FEW_IMAGES = 50


def values_of(column: np.ndarray) -> np.ndarray:
    """Returns the subgroup of each image, str [n], of a column str [n]: its value, or the band that a number is in.

    Bands have about as many images each. An empty cell is 'not given'.

    >>> values_of(np.array(['f', '', 'm'])).tolist()
    ['f', 'not given', 'm']
    """
    texts = np.char.strip(column.astype(np.str_))
    given = texts != ''
    found = np.where(given, texts, NOT_GIVEN)
    if len(np.unique(texts[given])) <= MOST_VALUES:
        return found
    try:
        numbers = texts[given].astype(np.float64)
    except ValueError:
        return found
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _BANDS + 1)))
    band = np.clip(np.searchsorted(edges, numbers, side='right') - 1, 0, len(edges) - 2)
    names = [f'{low:g} to below {high:g}' for low, high in itertools.pairwise(edges)]
    names[-1] = f'{edges[-2]:g} to {edges[-1]:g}'
    found = found.astype(object)
    found[given] = np.array(names, object)[band]
    return found.astype(np.str_)


def evaluate(
    test: Predictions,
    name: str,
    groups: Mapping[str, Sequence[int]],
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> tuple[dict[str, Any], list[str]]:
    """Evaluates the subgroups of a column, with 95 % intervals of resamples that draw groups whole.

    Args:
      test: predictions that have the column.
      name: the column.
      groups: class indices by group, from `ltjax.evaluation.groups.head_medium_tail`.
      num_bootstrap: number of resamples.
      seed: of the resamples.

    Returns:
      JSON-able {'column', 'subgroups': a list of {'name', 'images', 'groups' (of patients, lesions or smears; None),
      'accuracy', 'balanced_accuracy', 'tail_recall', 'gap'}}, the last being balanced accuracy less that of all other
      images, over the classes that both have; and warnings. None in place of a figure that is undefined.
    """
    of_image = values_of(test.columns[name])
    values, numbers = np.unique(of_image, return_inverse=True)
    clusters = clusters_of(test.groups)
    labels, predictions = test.labels, test.scores.predictions
    num_classes, tail = len(test.class_names), list(groups.get('tail', ()))
    images = np.zeros((len(values), num_classes), np.int64)
    np.add.at(images, (numbers, labels), 1)
    shared = (images > 0) & (images < images.sum(0))

    def statistic(weights: np.ndarray) -> dict[str, np.ndarray]:
        """[r, values] for each figure."""
        figures: dict[str, list[np.ndarray]] = {
            key: [] for key in ('accuracy', 'balanced_accuracy', 'tail_recall', 'gap')
        }
        for v in range(len(values)):
            inside = numbers == v
            ours = confusion.tally(weights * inside, labels, predictions, num_classes)
            theirs = confusion.tally(weights * ~inside, labels, predictions, num_classes)
            recalls, others = confusion.recall(ours), confusion.recall(theirs)
            drawn = ours.true.sum(-1)
            figures['accuracy'].append(
                np.where(drawn > 0, ours.correct.sum(-1) / np.maximum(drawn, 1), np.nan)
            )
            figures['balanced_accuracy'].append(mean_of_defined(recalls))
            figures['tail_recall'].append(mean_of_defined(recalls[:, tail]))
            figures['gap'].append(mean_of_defined((recalls - others)[:, shared[v]]))
        return {key: np.stack(columns, axis=1) for key, columns in figures.items()}

    samples = bootstrap(
        labels,
        statistic,
        num_classes=num_classes,
        clusters=clusters,
        num_bootstrap=num_bootstrap,
        seed=seed,
    )
    point = statistic(np.ones((1, len(labels)), np.int64))
    units = Units(labels, clusters)
    rows: list[dict[str, Any]] = []
    few = []
    for v, value in enumerate(values.tolist()):
        inside = numbers == v
        number = None if clusters is None else len(np.unique(clusters[inside]))
        if inside.sum() < _FEW_IMAGES or (number is not None and number < FEW):
            few.append(
                f'{value} ({inside.sum()} images{"" if number is None else f", {number} groups"})'
            )
        among = np.bincount(units.of_image[inside], minlength=len(units)) > 0
        freedom = functools.partial(samples.freedom, among=among)
        rows.append(
            {'name': value, 'images': int(inside.sum()), 'groups': number}
            | {
                key: interval(point[key][0, v], drawn[:, v], float(freedom(drawn[:, v])))
                for key, drawn in samples.values.items()
            }
        )
    warnings = []
    if few:
        warnings.append(
            f'Subgroups of {name} with too few images or groups to say much: {listed(few)}.'
        )
    return {'column': name, 'subgroups': rows}, warnings
