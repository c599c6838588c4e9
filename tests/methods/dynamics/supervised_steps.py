"""Ten steps of a supervised stage in float64 on a network of one layer, and the same network and optimiser in NumPy."""

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import tiny
from ltjax import methods, sharding
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import key_for, make_step
from ltjax.models.layers import ImageClassifier, Tap, linear, untouched

STEPS, BATCH, CLASSES, WIDTH, PIXELS = 10, 8, 3, 6, 5
COUNTS = (8, 4, 2)  # one step of eight images an epoch
RATE, MOMENTUM, DECAY = 0.2, 0.9, 2e-3
OPTIMIZER = {
    'optimizer.learning_rate': RATE,
    'optimizer.momentum': MOMENTUM,
    'optimizer.nesterov': True,
    'optimizer.weight_decay': DECAY,
}
Arrays = dict[str, np.ndarray]


class Flat(ImageClassifier):
    """Images of one pixel with several channels, one layer of hyperbolic tangents."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dtype = jnp.dtype(jnp.float64)
        self.feature_dim = WIDTH
        self.layer = linear(PIXELS, WIDTH, rngs=rngs)
        self.classifier = linear(WIDTH, CLASSES, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        return {'stem': tap('stem', jnp.tanh(self.layer(images)))}


def drawn_batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields images [BATCH, PIXELS] and labels [BATCH] of ten steps; classes differ."""
    rng = np.random.default_rng(0)
    for _ in range(STEPS):
        labels = rng.integers(0, CLASSES, BATCH)
        yield rng.normal(size=(BATCH, PIXELS)) + labels[:, None] / 2, labels.astype(np.int32)


class Trained(NamedTuple):
    """What ten steps did: the network's arrays by name before and after, the method's state, the losses."""

    before: Arrays
    after: Arrays
    extra: Any
    losses: list[float]


def ten_steps(name: str, changes: dict[str, Any], *, stage: str = 'train') -> Trained:
    """Trains configs/NAME.py for ten steps on `drawn_batches`, by the framework's own step.

    Args:
      name: of the method.
      changes: of its values, by their dotted names below those of the stage.
      stage: 'train', or 'retrain' for a second one; this begins with a network as drawn, too.
    """
    values = OPTIMIZER | {'epochs': STEPS, 'batch_size': BATCH} | changes
    made = tiny.tuned(name, changes={f'{stage}.{key}': value for key, value in values.items()})
    with jax.enable_x64(True):
        recipe = methods.recipe(made.method, tiny.task(COUNTS))
        chosen = recipe.stages[('train', 'retrain').index(stage)]
        (update,) = chosen.updates
        update = dataclasses.replace(update, views={'view': lambda _, images: images})
        graphdef, model = _network(recipe)
        trainable, _ = nnx.split_state(model, parameter_filter(update.trains), ...)
        state = TrainState(model, {update.name: update.optimizer.init(trainable)}, {})
        if stage == 'train' and chosen.prepare is not None:
            run: Any = None
            state = chosen.prepare(state, run)
        before = arrays_of(state.model)
        mesh = sharding.make_mesh(jax.devices()[:1])
        state, step_fn = sharding.place_state(state, mesh), make_step(update, graphdef, mesh)
        losses = []
        for step, (images, labels) in enumerate(drawn_batches()):
            batch = {'label': labels, 'image': images[:, None, None, :]}
            state, metrics = step_fn(state, batch, jax.random.key(0), np.int32(step))
            losses.append(float(metrics['loss']))
        return Trained(before, arrays_of(state.model), jax.device_get(state.extra), losses)


def loss_key(step: int) -> jax.Array:
    """Returns the key that a loss of logits gets in a step."""
    key = jax.random.fold_in(jax.random.key(0), step)
    return key_for(key_for(key, 'loss'), 'loss')


def arrays_of(model: nnx.State[Any, Any]) -> Arrays:
    """Returns copies of a network's arrays by name, such as 'classifier.kernel'."""
    flat = nnx.to_flat_state(model)
    return {'.'.join(map(str, path)): np.array(leaf[...]) for path, leaf in flat}


class Network:
    """The layer below the classifier, and the optimiser, for all parameters or for some."""

    def __init__(self, arrays: Arrays, trained: tuple[str, ...] = ()) -> None:
        self.arrays = {name: value.copy() for name, value in arrays.items()}
        self.trained = trained or tuple(arrays)
        self._velocity = {name: np.zeros_like(arrays[name]) for name in self.trained}
        self._step = 0

    def features(self, images: np.ndarray) -> np.ndarray:
        return np.tanh(images @ self.arrays['layer.kernel'] + self.arrays['layer.bias'])

    def below(self, images: np.ndarray, by_features: np.ndarray) -> Arrays:
        """Returns the layer's gradients, of that of its features."""
        by_sum = by_features * (1 - self.features(images) ** 2)
        return {'layer.kernel': images.T @ by_sum, 'layer.bias': by_sum.sum(axis=0)}

    def descend(self, gradients: Arrays) -> None:
        """Makes one step of SGD with Nesterov's momentum and weight decay, whose rate falls by a cosine."""
        rate = RATE * (1 + np.cos(np.pi * self._step / STEPS)) / 2
        self._step += 1
        for name in self.trained:
            gradient = gradients[name] + DECAY * self.arrays[name]
            self._velocity[name] = gradient + MOMENTUM * self._velocity[name]
            ahead = gradient + MOMENTUM * self._velocity[name]
            self.arrays[name] = self.arrays[name] - rate * ahead


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities [B, K]."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def linear_gradients(network: Network, images: np.ndarray, by_logits: np.ndarray) -> Arrays:
    """Returns the gradients of all parameters under a linear classifier."""
    features = network.features(images)
    above = {
        'classifier.kernel': features.T @ by_logits,
        'classifier.bias': by_logits.sum(axis=0),
    }
    return above | network.below(images, by_logits @ network.arrays['classifier.kernel'].T)


def cosines(features: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, Any]:
    """Returns cosines [B, K], and gradient by them -> those by the features and the kernel."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True), np.linalg.norm(kernel, axis=0)
    rows, columns = features / lengths[0], kernel / lengths[1]
    values = rows @ columns

    def backward(gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Of a unit vector u = v / |v|: what is across u, divided by |v|.
        by_rows = gradient @ columns.T
        by_columns = rows.T @ gradient
        across = by_rows - rows * (by_rows * rows).sum(axis=1, keepdims=True)
        return across / lengths[0], (
            by_columns - columns * (by_columns * columns).sum(axis=0)
        ) / lengths[1]

    return values, backward


def assert_same(found: Arrays, expected: Arrays) -> None:
    """Checks all arrays to 1e-5 of the largest number of each."""
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(
            found[name], value, rtol=1e-5, atol=1e-5 * np.abs(value).max(), err_msg=name
        )


def _network(recipe: Any) -> tuple[nnx.GraphDef[Any], nnx.State[Any, Any]]:
    """Returns the network with a recipe's classifier, in float64, no parameter of it at a special value."""
    model = Flat(nnx.Rngs(0))
    recipe.add_heads(model, nnx.Rngs(1))
    graphdef, state = nnx.split(model)
    rng = np.random.default_rng(2)
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), state)
    parameters, rest = nnx.split_state(wide, nnx.Param, ...)
    parameters = jax.tree.map(lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape), parameters)
    return graphdef, nnx.merge_state(parameters, rest)
