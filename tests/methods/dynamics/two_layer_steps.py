"""Ten steps of an update in float64 on a network of two layers, which NumPy can follow."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import tiny
from ltjax import methods, sharding
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import make_step
from ltjax.methods.task import Task
from ltjax.models import ImageClassifier

STEPS, BATCH, COUNTS = 10, 24, (40, 15, 5, 12)
PIXELS, FEATURES, CLASSES = 6, 5, len(COUNTS)
KEY = 7
RATE, MOMENTUM = 0.3, 0.9
SGD = {'name': 'sgd', 'learning_rate': RATE, 'schedule': 'cosine', 'momentum': MOMENTUM}


class Linear(nnx.Module):
    """x @ kernel + bias."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        self.kernel = nnx.Param(jnp.asarray(rng.normal(size=(inputs, outputs))))
        self.bias = nnx.Param(jnp.asarray(rng.normal(size=outputs)))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ self.kernel[...] + self.bias[...][None, :]


class Flat(ImageClassifier):
    """tanh of a linear layer on the pixels, and a linear classifier."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.body, self.classifier = Linear(rng, PIXELS, FEATURES), Linear(rng, FEATURES, CLASSES)

    def feature_maps(self, images: jax.Array, tap: Any = None) -> dict[str, jax.Array]:
        return {'stem': jnp.tanh(self.body(images.reshape(len(images), -1)))[:, None, None, :]}


def batches(seed: int) -> list[dict[str, np.ndarray]]:
    """Returns a batch a step: float64 images [BATCH, 1, PIXELS, 1] and labels that share their sign."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, (STEPS, BATCH)).astype(np.int32)
    images = rng.normal(size=(STEPS, BATCH, 1, PIXELS, 1)) + (labels % 2)[..., None, None, None]
    return [
        {'index': label, 'label': label, 'image': image}
        for label, image in zip(labels, images, strict=True)
    ]


def ten_steps(
    name: str, changes: dict[str, Any], *, streams: dict[str, list[Any]] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields what the second stage of configs/NAME.py has on the host before the first step and after each of ten.

    Args:
      name: of the config, whose stages have the key 'retrain'.
      changes: of its values, below `method`; an epoch is ten steps.
      streams: batches of further streams, by name.

    Yields:
      'model' with the network's arrays by path; 'optimizer' and 'extra', as the state has them.
    """
    epoch = {'retrain.epochs': 1, 'retrain.batch_size': sum(COUNTS) // STEPS}
    made = tiny.config(name, 'any', {f'method.{k}': v for k, v in (epoch | changes).items()})
    stage = methods.recipe(made.method, Task(np.array(COUNTS), (0.5,), (0.25,))).stages[1]
    update = stage.updates[0]
    assert update.steps == STEPS
    as_is = {'view': lambda key, images: images}
    update = dataclasses.replace(
        update,
        views=as_is,
        streams={
            stream: dataclasses.replace(values, views=as_is)
            for stream, values in update.streams.items()
        },
    )
    graphdef, model = nnx.split(Flat())
    state: Any = stage.prepare(TrainState(model, {}, {}), None)
    state = jax.tree.map(_wide, state)
    trained, _ = nnx.split_state(state.model, parameter_filter(update.trains), ...)
    state = state._replace(optimizers={update.name: update.optimizer.init(trained)})
    mesh = sharding.make_mesh(jax.devices()[:1])
    step_fn = make_step(update, graphdef, mesh)
    state = sharding.replicate(state, mesh)
    yield _host(state, update.name)
    for step, batch in enumerate(batches(2)):
        further = {stream: each[step] for stream, each in (streams or {}).items()}
        state, _ = step_fn(state, batch | further, jax.random.key(KEY), np.int32(step))
        yield _host(state, update.name)


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def _host(state: TrainState, name: str) -> dict[str, Any]:
    flat = nnx.to_flat_state(jax.device_get(state.model))
    return {
        'model': {'.'.join(map(str, path)): np.array(leaf[...]) for path, leaf in flat},
        'optimizer': jax.device_get(state.optimizers[name]),
        'extra': jax.device_get(state.extra),
    }


def rate(step: int) -> float:
    """Returns the learning rate of a step of `SGD`."""
    return RATE * (1 + np.cos(np.pi * step / STEPS)) / 2


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities [..., K]."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def features(model: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Returns what the classifier of `Flat` sees: [B, FEATURES]."""
    return np.tanh(images.reshape(len(images), -1) @ model['body.kernel'] + model['body.bias'])


def same(found: Any, expected: Any, what: str) -> None:
    """Asserts that two arrays are equal to 1e-5 of the largest number."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == np.float64, what
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max(), what
