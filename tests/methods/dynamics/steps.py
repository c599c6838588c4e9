"""Ten steps of a method's own update in float64 on a tiny network; and the same network in NumPy, gradients by hand."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import tiny
from ltjax import methods, sharding
from ltjax.engine.state import TrainState, parameter_filter, with_leaves
from ltjax.engine.step import key_for, make_step
from ltjax.models.classifier import ImageClassifier, Tap, untouched
from ltjax.models.layers import linear

STEPS, BATCH, CLASSES, CHANNELS, WIDTH, EMBEDDING = 10, 8, 3, 5, 6, 4
COUNTS = np.array((8, 6, 3))
EPOCHS, STEPS_PER_EPOCH = 5, 2  # of 17 images in batches of 8
# Nesterov's momentum and a cosine, so that no step is like another.
RATE, MOMENTUM, DECAY = 0.2, 0.9, 2e-3
OPTIMIZER = {
    'optimizer.learning_rate': RATE,
    'optimizer.schedule': 'cosine',
    'optimizer.momentum': MOMENTUM,
    'optimizer.nesterov': True,
    'optimizer.weight_decay': DECAY,
}
Arrays = dict[str, np.ndarray]


class Flat(ImageClassifier):
    """One layer of hyperbolic tangents at each pixel."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.dtype, self.feature_dim = jnp.dtype(jnp.float64), WIDTH
        self.layer = linear(CHANNELS, WIDTH, rngs=rngs)
        self.classifier = linear(WIDTH, CLASSES, rngs=rngs)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        pixels = images.reshape(len(images), -1, 1, CHANNELS)
        return {'stem': tap('stem', jnp.tanh(self.layer(pixels)))}


class Moment(NamedTuple):
    """A training on the host: the network's arrays by name, the update's optimiser, the method's state, the metrics."""

    arrays: Arrays
    optimizer: Any
    extra: Any
    metrics: Arrays


def arrays_of(model: nnx.State[Any, Any]) -> Arrays:
    """Returns copies of a network's arrays by name, such as 'classifier.kernel'."""
    return {'.'.join(map(str, p)): np.array(leaf[...]) for p, leaf in nnx.to_flat_state(model)}


def drawn_batches(seed: int, *places: int, views: Any = ('view',)) -> list[Arrays]:
    """Returns the batches of ten steps: 'label' [BATCH], and views [BATCH, *places, CHANNELS] that differ by class."""
    rng, made = np.random.default_rng(seed), []
    for _ in range(STEPS):
        labels = rng.integers(0, CLASSES, BATCH).astype(np.int32)
        shape = (BATCH, *places, CHANNELS)
        images = {view: (rng.normal(size=shape).T + labels / 2).T for view in views}
        made.append({'label': labels} | images)
    return made


def ten_steps(
    name: str, changes: Any, batches: Any, *, stage: str = 'train', leaves: Any = None
) -> list[Moment]:
    """Trains configs/NAME.py by the framework's own step; returns the training before the first and after each.

    `changes` are of the method's values by their dotted names; 'retrain' is its second `stage`, which begins with a
    network as drawn, too. `batches` have views and streams by name, and go to the loss as they are. `leaves` are
    arrays of the network in place of what the stage would prepare from data.
    """
    values = OPTIMIZER | {'epochs': EPOCHS, 'batch_size': BATCH}
    made = tiny.tuned(name, changes={f'{stage}.{k}': v for k, v in values.items()} | changes)
    with jax.enable_x64(True):
        recipe = methods.recipe(made.method, tiny.task(tuple(COUNTS)))
        chosen = recipe.stages[('train', 'retrain').index(stage)]
        (update,) = chosen.updates
        assert (update.steps, chosen.rounds) == (STEPS_PER_EPOCH, EPOCHS)
        streams = {k: replace(each, views={}) for k, each in update.streams.items()}
        update = replace(update, views={}, streams=streams)
        network, rng = Flat(nnx.Rngs(0)), np.random.default_rng(2)
        recipe.add_heads(network, nnx.Rngs(1))
        graphdef, parameters, rest = nnx.split(network, nnx.Param, ...)
        # No parameter at a special value.
        parameters = jax.tree.map(lambda a: a + rng.normal(0, 0.1, a.shape), parameters)
        model = nnx.merge_state(parameters, rest)
        state: Any = TrainState(with_leaves(model, leaves or {}), {}, {})
        if chosen.prepare is not None and leaves is None:
            state = chosen.prepare(state, None)
        state = jax.tree.map(lambda a: a.astype(float) if a.dtype == np.float32 else a, state)
        trainable, _ = nnx.split_state(state.model, parameter_filter(update.trains), ...)
        state = state._replace(optimizers={update.name: update.optimizer.init(trainable)})
        mesh = sharding.make_mesh(jax.devices()[:1])
        state, step_fn = sharding.place_state(state, mesh), make_step(update, graphdef, mesh)
        found = [jax.tree.map(np.array, (state, {}))]
        for step, batch in enumerate(batches):
            state, metrics = step_fn(state, batch, jax.random.key(0), np.int32(step))
            found.append(jax.tree.map(np.array, (state, metrics)))
    return [
        Moment(arrays_of(model), *optimizers.values(), extra, metrics)
        for (model, optimizers, extra), metrics in found
    ]


def loss_key(step: int, purpose: str) -> jax.Array:
    """Returns the key that the loss function of a step has for one purpose."""
    return key_for(key_for(jax.random.fold_in(jax.random.key(0), step), 'loss'), purpose)


class Network:
    """The network and its optimiser in NumPy. `rates`: by name, shares of the learning rate; else all of it."""

    def __init__(self, arrays: Arrays, *, decay: float = DECAY, rates: Any = None) -> None:
        self.arrays = {name: value.copy() for name, value in arrays.items()}
        self._decay, self._rates, self._velocity, self._step = decay, rates or {}, {}, 0

    def dense(self, name: str, x: np.ndarray) -> tuple[np.ndarray, Any]:
        """Returns a linear layer of x [n, C], and gradient by it -> those of its parameters, and by x."""
        kernel, bias = self.arrays[f'{name}.kernel'], self.arrays[f'{name}.bias']
        return x @ kernel + bias, lambda by: (
            {f'{name}.kernel': x.T @ by, f'{name}.bias': by.sum(axis=0)},
            by @ kernel.T,
        )

    def features(self, images: np.ndarray) -> np.ndarray:
        return np.tanh(self.dense('layer', images)[0])

    def below(self, images: np.ndarray, by_features: np.ndarray) -> Arrays:
        """Returns the gradients of the layer, of that of its features."""
        hidden, backward = self.dense('layer', images)
        return backward(by_features * (1 - np.tanh(hidden) ** 2))[0]

    def logits(self, images: np.ndarray) -> np.ndarray:
        return self.dense('classifier', self.features(images))[0]

    def gradients(self, images: np.ndarray, by_logits: np.ndarray) -> Arrays:
        """Returns the gradients of the layer and a linear classifier."""
        above, by_features = self.dense('classifier', self.features(images))[1](by_logits)
        return above | self.below(images, by_features)

    def embeddings(self, features: np.ndarray) -> tuple[np.ndarray, Any]:
        """Returns a projection's unit vectors [n, D], and gradient by them -> its parameters' and the features'."""
        hidden, back_first = self.dense('projection.layers.0', features)
        projected, back_last = self.dense('projection.layers.2', np.maximum(hidden, 0))
        unit, back_unit = unit_rows(projected)

        def backward(gradient: np.ndarray) -> tuple[Arrays, np.ndarray]:
            above, by_hidden = back_last(back_unit(gradient))
            below, by_features = back_first(by_hidden * (hidden > 0))
            return above | below, by_features

        return unit, backward

    def descend(self, gradients: Arrays) -> None:
        """Makes one step of `OPTIMIZER` on what has a gradient."""
        rate = RATE * (1 + np.cos(np.pi * self._step / STEPS)) / 2
        self._step += 1
        for name, value in gradients.items():
            gradient = value + self._decay * self.arrays[name]
            self._velocity[name] = gradient + MOMENTUM * self._velocity.get(name, 0)
            ahead = rate * self._rates.get(name, 1) * (gradient + MOMENTUM * self._velocity[name])
            self.arrays[name] = self.arrays[name] - ahead


def softmax(logits: np.ndarray, axis: int = -1) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return raised / raised.sum(axis=axis, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns cross-entropies [B] and each one's gradient with respect to its logits [B, K]."""
    probabilities, own = softmax(logits), np.eye(logits.shape[1])[labels]
    return -np.log((own * probabilities).sum(axis=1)), probabilities - own


def unit_rows(rows: np.ndarray) -> tuple[np.ndarray, Any]:
    """Returns rows [n, D] at unit length, and gradient by them -> that by the rows."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit = rows / length
    # Of a unit vector u = v / |v|: what is across u, divided by |v|.
    return unit, lambda by: (by - unit * (by * unit).sum(axis=1, keepdims=True)) / length


def cosines(features: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, Any]:
    """Returns cosines [B, K], and gradient by them -> those by the features and the kernel."""
    (rows, back_rows), (columns, back_columns) = unit_rows(features), unit_rows(kernel.T)
    return rows @ columns.T, lambda by: (back_rows(by @ columns), back_columns(by.T @ rows).T)


def contrast(columns: np.ndarray, positives: np.ndarray, candidates: np.ndarray) -> Any:
    """Returns the mean of -sum_j w_ij log p_ij / sum_j w_ij, w the positives and p of candidates; and its gradient."""
    shares = softmax(np.where(candidates, columns, -np.inf))
    weights = positives / positives.sum(axis=1, keepdims=True)
    logs = np.log(np.where(candidates, shares, 1))
    return -(weights * logs).sum() / len(columns), (shares - weights) / len(columns)


def same(found: Any, expected: Any, what: str = '') -> None:
    """Asserts that float64 arrays, or all of two dictionaries of them, are equal to 1e-5."""
    if not isinstance(expected, dict):
        found, expected = {'': found}, {'': expected}
    assert found.keys() == expected.keys(), what
    for name, value in expected.items():
        array, least = np.asarray(found[name]), 1e-8 * np.abs(value).max()
        assert array.dtype == np.float64, (name, what)
        np.testing.assert_allclose(array, value, rtol=1e-5, atol=least, err_msg=f'{name} {what}')
