"""Ten steps of a recipe's update in float64 on a network of one layer, and the optimiser as plain arithmetic."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax import sharding
from ltjax.engine.stage import Stage
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import make_step
from ltjax.models.layers import ImageClassifier, Tap, linear, untouched

STEPS, BATCH, CLASSES, WIDTH, CHANNELS = 10, 8, 3, 4, 3
COUNTS = (8, 6, 3)  # two steps of eight images an epoch
# Nesterov's momentum and a cosine, so that no step is like another.
OPTIMIZER = {
    'name': 'sgd',
    'learning_rate': 0.1,
    'schedule': 'cosine',
    'momentum': 0.9,
    'nesterov': True,
    'weight_decay': 2e-3,
}
Arrays = dict[str, np.ndarray]


class Flat(ImageClassifier):
    """One layer of ReLUs at each pixel."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dtype = jnp.dtype(jnp.float64)
        self.feature_dim = WIDTH
        self.layer = linear(CHANNELS, WIDTH, rngs=rngs)
        self.classifier = linear(WIDTH, CLASSES, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        return {'stem': tap('stem', nnx.relu(self.layer(images.astype(self.dtype))))}


def drawn_batches(seed: int, pixels: int = 1) -> Iterator[dict[str, Any]]:
    """Yields the batches of ten steps, of images [pixels, 1, CHANNELS]."""
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        yield {
            'index': np.arange(BATCH, dtype=np.int32),
            'label': rng.integers(0, CLASSES, BATCH).astype(np.int32),
            'image': rng.integers(0, 256, (BATCH, pixels, 1, CHANNELS)).astype(np.uint8),
        }


def flat_model(recipe: Any) -> tuple[nnx.GraphDef[Any], nnx.State[Any, Any]]:
    """Returns the network with a recipe's heads, its arrays in float64 and none of them at a special value."""
    model = Flat(nnx.Rngs(0))
    recipe.add_heads(model, nnx.Rngs(1))
    graphdef, state = nnx.split(model)
    rng = np.random.default_rng(2)
    parameters, rest = nnx.split_state(state, nnx.Param, ...)
    parameters = jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape), parameters)
    wide = jax.tree.map(
        lambda leaf: leaf.astype(float) if np.issubdtype(leaf.dtype, np.floating) else leaf,
        rest,
    )
    return graphdef, nnx.merge_state(parameters, wide)


def arrays_of(model: nnx.State[Any, Any]) -> Arrays:
    """Returns copies of a network's arrays by name, such as 'classifier.kernel'."""
    flat = nnx.to_flat_state(model)
    return {'.'.join(map(str, path)): np.array(leaf[...]) for path, leaf in flat}


def ten_steps(
    stage: Stage,
    graphdef: nnx.GraphDef[Any],
    model: nnx.State[Any, Any],
    batches: Sequence[Mapping[str, Any]],
) -> tuple[Arrays, list[dict[str, float]]]:
    """Returns all arrays of the network by name after ten steps of a stage's only update, and the metrics of each."""
    (update,) = stage.updates
    mesh = sharding.make_mesh(jax.devices()[:1])
    trainable, _ = nnx.split_state(model, parameter_filter(update.trains), ...)
    state = TrainState(model, {update.name: update.optimizer.init(trainable)}, {})
    state = sharding.place_state(state, mesh)
    step_fn, told = make_step(update, graphdef, mesh), []
    for step, batch in enumerate(batches):
        state, metrics = step_fn(state, batch, jax.random.key(0), np.int32(step))
        told.append({name: float(value) for name, value in metrics.items()})
    return arrays_of(state.model), told


class Sgd:
    """What `OPTIMIZER` does, over `STEPS` steps."""

    def __init__(self, parameters: Arrays, rates: Mapping[str, float] | None = None) -> None:
        """`rates` are shares of the learning rate by name; those not named have all of it."""
        self._momentum = {name: np.zeros_like(value) for name, value in parameters.items()}
        self._rates, self._step = rates or {}, 0

    def step(self, parameters: Arrays, gradients: Arrays) -> Arrays:
        """Returns the parameters after a step."""
        rate = OPTIMIZER['learning_rate'] * (1 + np.cos(np.pi * self._step / STEPS)) / 2
        self._step += 1
        moved = {}
        for name, value in parameters.items():
            gradient = gradients[name] + OPTIMIZER['weight_decay'] * value
            self._momentum[name] = gradient + OPTIMIZER['momentum'] * self._momentum[name]
            ahead = gradient + OPTIMIZER['momentum'] * self._momentum[name]
            moved[name] = value - rate * self._rates.get(name, 1.0) * ahead
        return moved


def seen(images: np.ndarray) -> np.ndarray:
    """Returns images [B, pixels, 1, CHANNELS] as a network of `tiny.task` sees them: [B, pixels, CHANNELS]."""
    return (images[:, :, 0] / 255 - 0.5) / 0.25


def softmax_gradient(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns cross-entropies [B] and each one's gradient with respect to its logits [B, K]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    own = np.eye(logits.shape[1])[labels]
    return -np.log((own * probabilities).sum(axis=1)), probabilities - own
