"""Ten steps on two views of each image, in float64: the framework's, and a network in NumPy with gradients by hand."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import tiny
from ltjax import methods, sharding
from ltjax.engine.stage import Run
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import make_step
from ltjax.models.layers import ImageClassifier, linear

STEPS, BATCH, CLASSES = 10, 8, 3
PIXELS, WIDTH, EMBEDDING = 7, 6, 5
RATE, MOMENTUM, DECAY = 0.2, 0.9, 1e-3
EPOCHS = 2  # of 7 steps: 56 images in batches of 8
STEPS_PER_EPOCH = sum(tiny.COUNTS) // BATCH

CHANGES = {
    'train.epochs': EPOCHS,
    'train.batch_size': BATCH,
    'train.optimizer.learning_rate': RATE,
    'train.optimizer.momentum': MOMENTUM,
    'train.optimizer.weight_decay': DECAY,
}
Arrays = dict[str, np.ndarray]


class Flat(ImageClassifier):
    """One linear layer on flat images."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.feature_dim = WIDTH
        self.encoder = linear(PIXELS, WIDTH, rngs=rngs)
        self.classifier = linear(WIDTH, CLASSES, rngs=rngs)

    def encode(self, images: jax.Array) -> jax.Array:
        return self.encoder(images)


def two_views() -> tuple[np.ndarray, np.ndarray]:
    """Returns views [STEPS, BATCH, 2, PIXELS] and labels [STEPS, BATCH]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, (STEPS, BATCH))
    images = rng.normal(size=(STEPS, BATCH, 1, PIXELS)) + labels[..., None, None]
    return images + 0.3 * rng.normal(size=(STEPS, BATCH, 2, PIXELS)), labels


def arrays_of(model: nnx.State[Any, Any]) -> Arrays:
    """Returns copies of a network's arrays by name, such as 'classifier.kernel'."""
    flat = nnx.to_flat_state(model)
    return {'.'.join(map(str, path)): np.array(leaf[...]) for path, leaf in flat}


def ten_steps(name: str, changes: dict[str, Any]) -> tuple[Arrays, TrainState, list[float]]:
    """Trains configs/NAME.py for ten steps on `two_views`, by the framework's own step.

    Returns:
      The parameters before by name, the state after, and the loss of each step.
    """
    with jax.enable_x64(True):
        made = tiny.tuned(name, changes=CHANGES | changes)
        recipe = methods.recipe(made.method, tiny.task())
        stage = recipe.stages[0]
        update = dataclasses.replace(
            stage.updates[0],
            views={'first': lambda _, pair: pair[:, 0], 'second': lambda _, pair: pair[:, 1]},
        )
        network = Flat(nnx.Rngs(0))
        recipe.add_heads(network, nnx.Rngs(1))
        graphdef, model = nnx.split(network)
        model = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model)
        before = arrays_of(model)
        trainable, _ = nnx.split_state(model, parameter_filter(update.trains), ...)
        state = TrainState(model, {update.name: update.optimizer.init(trainable)}, {})
        run: Any = Run
        state = state if stage.prepare is None else stage.prepare(state, run)
        mesh = sharding.make_mesh(jax.devices()[:1])
        state, step_fn = sharding.place_state(state, mesh), make_step(update, graphdef, mesh)
        losses = []
        for step, (pairs, labels) in enumerate(zip(*two_views(), strict=True)):
            batch = {'label': labels.astype(np.int32), 'image': pairs}
            state, metrics = step_fn(state, batch, jax.random.key(0), np.int32(step))
            losses.append(float(metrics['loss']))
        return before, jax.device_get(state), losses


class Network:
    """The same network, its forward pass and its gradients."""

    def __init__(self, parameters: Arrays) -> None:
        self.parameters = {name: value.copy() for name, value in parameters.items()}
        self.velocity = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.kept: Arrays = {}

    def _dense(self, name: str, inputs: np.ndarray) -> np.ndarray:
        self.kept[name] = inputs
        return inputs @ self.parameters[f'{name}.kernel'] + self.parameters[f'{name}.bias']

    def forward(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits [n, K] and unit embeddings [n, D]."""
        features = self._dense('encoder', images)
        hidden = np.maximum(self._dense('projection.layers.0', features), 0)
        projected = self._dense('projection.layers.2', hidden)
        self.kept['length'] = np.linalg.norm(projected, axis=1, keepdims=True)
        self.kept['unit'] = projected / self.kept['length']
        return self._dense('classifier', features), self.kept['unit']

    def backward(self, by_logits: np.ndarray, by_embeddings: np.ndarray) -> Arrays:
        """Returns the gradients of all parameters, of those of what `forward` returned."""
        gradients: Arrays = {}

        def dense(name: str, by_output: np.ndarray) -> np.ndarray:
            gradients[f'{name}.kernel'] = self.kept[name].T @ by_output
            gradients[f'{name}.bias'] = by_output.sum(axis=0)
            return by_output @ self.parameters[f'{name}.kernel'].T

        unit = self.kept['unit']
        along = (by_embeddings * unit).sum(axis=1, keepdims=True)
        by_projected = (by_embeddings - along * unit) / self.kept['length']
        by_hidden = dense('projection.layers.2', by_projected)
        by_hidden = by_hidden * (self.kept['projection.layers.2'] > 0)
        by_features = dense('projection.layers.0', by_hidden) + dense('classifier', by_logits)
        dense('encoder', by_features)
        return gradients

    def descend(self, gradients: Arrays, step: int, *, without: str = '-') -> None:
        """Makes one step of SGD with momentum and weight decay, whose rate falls by a cosine over all steps."""
        rate = RATE * (1 + np.cos(np.pi * step / (EPOCHS * STEPS_PER_EPOCH))) / 2
        for name, gradient in gradients.items():
            if name.startswith(without):
                continue
            whole = gradient + DECAY * self.parameters[name]
            self.velocity[name] = MOMENTUM * self.velocity[name] + whole
            self.parameters[name] = self.parameters[name] - rate * self.velocity[name]


def contrast(
    columns: np.ndarray, positives: np.ndarray, candidates: np.ndarray
) -> tuple[float, np.ndarray]:
    """Returns the mean over anchors of -sum_j w_ij log p_ij / sum_j w_ij, and its gradient by the columns.

    Args:
      columns: [n, m] logits.
      positives: [n, m] weights w.
      candidates: [n, m] bool, the columns of the softmax p.
    """
    exponents = np.where(candidates, columns, -np.inf)
    shares = np.exp(exponents - exponents.max(axis=1, keepdims=True))
    shares = shares / shares.sum(axis=1, keepdims=True)
    weights = positives / positives.sum(axis=1, keepdims=True)
    logs = np.log(np.where(candidates, shares, 1))
    return -(weights * logs).sum() / len(columns), (shares - weights) / len(columns)
