"""The worst errors on rare classes: where the network looked, and which training images are most like them."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax import files, processes, sharding
from ltjax.data.datasets import DataSet
from ltjax.engine.stage import View
from ltjax.engine.state import TrainState
from ltjax.engine.step import set_batch_norm
from ltjax.engine.training import Training
from ltjax.evaluation.probabilities import Probabilities

FILE = 'errors.npz'
NEIGHBOURS = 3
# Training images among which the most alike ones are looked for; each class has an equal share of them.
_MOST_COMPARED = 5000

Activation = Callable[[nnx.State[Any, Any], np.ndarray, np.ndarray], jax.Array]


def write(
    workdir: pathlib.Path,
    data: DataSet,
    training: Training,
    state: TrainState,
    tested: Mapping[str, np.ndarray],
    *,
    tail: Sequence[int],
    number: int,
) -> None:
    """Writes errors.npz for the report: the most certain errors on the tail, if there are any.

    Args:
      workdir: the run's.
      data: the data set.
      training: what applies the network.
      state: its state.
      tested: 'ids', 'labels' and 'logits' of the test images, and their 'features'.
      tail: the rare classes.
      number: at most so many errors.
    """
    probabilities = Probabilities(tested['logits'])
    chosen = worst(tested['labels'], probabilities, tail, number)
    if not len(chosen):
        return
    images = np.asarray(data.images_of('test')[chosen])
    activation = make_activation(training.graphdef, training.mesh, training.view)
    maps = np.asarray(activation(state.model, images, probabilities.predictions[chosen]))
    rows = _spread(data.labels[data.parts['train']])
    known = np.asarray(data.images_of('train')[rows])
    features, _ = training.predict(state, known)
    near = alike(tested['features'][chosen], features)
    if processes.is_first():
        found = {
            'ids': tested['ids'][chosen],
            'images': images,
            'maps': maps.astype(np.float32),
            'labels': tested['labels'][chosen],
            'predictions': probabilities.predictions[chosen],
            'confidences': probabilities.matrix()[chosen].max(1),
            'near': known[near],
            'near_labels': data.labels[data.parts['train']][rows][near],
            'class_names': np.array(data.class_names),
        }
        files.write_npz(workdir / FILE, found)


def worst(
    labels: np.ndarray, probabilities: Probabilities, classes: Sequence[int], number: int
) -> np.ndarray:
    """Returns the images of some classes that are taken for another with the most confidence, at most `number`.

    Args:
      labels: [n] int true classes.
      probabilities: of the n images.
      classes: the classes.
      number: how many.
    """
    wrong = np.isin(labels, list(classes)) & (probabilities.predictions != labels)
    confidences = probabilities.matrix().max(1)
    found = np.flatnonzero(wrong)
    return found[np.argsort(-confidences[found], kind='stable')[:number]]


def make_activation(graphdef: nnx.GraphDef[Any], mesh: jax.sharding.Mesh, view: View) -> Activation:
    """Returns `(model state, images uint8 [n, H, W, C], classes [n]) -> maps [n, h, w]`, from 0 to 1.

    Grad-CAM (Selvaraju et al., ICCV 2017, eqs. 1 and 2): the feature maps that the network names for it (`explained`),
    weighed by the mean gradient of the class's logit, where they speak for it. Divided by its largest value; all zero
    where nothing does.
    """

    def maps_of(state: nnx.State[Any, Any], images: jax.Array, classes: jax.Array) -> jax.Array:
        model = nnx.merge(graphdef, state, copy=True)
        set_batch_norm(model, 'running')
        pixels = view(jax.random.key(0), images)
        name, kept = list(model.feature_maps(pixels).items())[model.explained]

        def score(moved: jax.Array) -> jax.Array:
            logits = model(pixels, lambda at, x: x + moved if at == name else x).logits
            return jnp.take_along_axis(logits, classes[:, None], 1).sum()

        gradients = jax.grad(score)(jnp.zeros_like(kept))
        gradients, kept = (
            model.spatial(values, pixels).astype(jnp.float32) for values in (gradients, kept)
        )
        weights = gradients.mean((1, 2), keepdims=True)
        cam = nnx.relu((weights * kept).sum(-1))
        most = cam.max((1, 2), keepdims=True)
        return jnp.where(most > 0, cam / jnp.where(most > 0, most, 1), 0)

    return jax.jit(maps_of, out_shardings=sharding.replicated(mesh))


def alike(features: np.ndarray, others: np.ndarray, number: int = NEIGHBOURS) -> np.ndarray:
    """Returns [n, number] the rows of `others` [m, C] whose cosine with each of `features` [n, C] is largest."""
    ours, theirs = (
        values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
        for values in (features.astype(np.float64), others.astype(np.float64))
    )
    return np.argsort(-(ours @ theirs.T), axis=1, kind='stable')[:, :number]


def _spread(labels: np.ndarray) -> np.ndarray:
    """Returns the rows of training images to compare with, of each class alike many as far as it has them."""
    classes = np.unique(labels)
    share = max(1, _MOST_COMPARED // len(classes))
    return np.sort(np.concatenate([np.flatnonzero(labels == k)[:share] for k in classes]))
