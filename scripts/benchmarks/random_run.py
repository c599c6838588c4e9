"""A stage of a method as a training runs it, on random images and features: what scripts/benchmark.py measures."""

import math
import pathlib
import runpy
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from ltjax import methods, sharding
from ltjax.engine.rounds import STEPS_PER_CALL
from ltjax.engine.stage import Stage, Update, View
from ltjax.engine.state import TrainState, parameter_filter
from ltjax.engine.step import key_for, make_init, make_step
from ltjax.methods.task import Task
from ltjax.run import build
from ltjax.run.settings import Settings

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / 'configs'


# What steps take that read no images: nothing that lies on the device, no positions.
NO_IMAGES: tuple[tuple[None, None], dict[str, Any]] = ((None, None), {})


def dataset(small: bool) -> str:
    """Returns a data set with a small network (28 pixels), or one with a ResNet-18."""
    return 'fashion_mnist_lt_mini' if small else 'isic2019_lt_r100@lmd'


def network(name: str, small: bool) -> dict[str, str]:
    """Returns the overrides that choose a network; a small run has the one of its data set."""
    return {} if small else {'model.name': name}


def calls(steps: int) -> list[tuple[int, int]]:
    """Returns the first step and the number of steps of each call, as a training makes them without images."""
    return [(at, min(STEPS_PER_CALL, steps - at)) for at in range(0, steps, STEPS_PER_CALL)]


class RandomRun:
    """What the hooks of a stage may ask of a training (`stage.Run`), answered with random features."""

    def __init__(
        self, file: str, dataset: str, overrides: dict[str, Any], sizes: tuple[int, int, int]
    ) -> None:
        """Takes configs/FILE.py for a data set, changes to it, and numbers of classes, images and channels."""
        num_classes, num_images, channels = sizes
        # From the first class to the last, sizes fall to about a hundredth.
        share = 100.0 ** -np.linspace(0, 1, num_classes)
        counts = np.maximum(1, num_images * share / share.sum()).astype(np.int64)
        counts[0] += num_images - counts.sum()
        config = runpy.run_path(str(CONFIGS / f'{file}.py'))['get_config'](dataset)
        config.update_from_flattened_dict(overrides)
        self.config, self.seed = config, config.seed
        self.num_classes, self.channels = num_classes, channels
        self.train_labels = np.repeat(np.arange(num_classes, dtype=np.int32), counts)
        self.mesh = sharding.make_mesh()
        self._root = jax.random.key(self.seed)
        self._features: jax.Array | None = None
        self.task = Task(counts, (0.5,), (0.25,), on_features=config.model.frozen)
        recipe = methods.recipe(config.method, self.task)
        settings = Settings.of(config)
        self.create: Callable[[jax.Array], nnx.Module] = lambda key: build.create_model(
            settings, recipe, num_classes, channels, nnx.Rngs(key)
        )
        self._init = make_init(self.create)
        self.graphdef, _ = jax.eval_shape(self._init, self._root)
        self.stages = {stage.name: stage for stage in recipe.stages}

    def key(self, purpose: str, index: int = 0) -> jax.Array:
        return jax.random.fold_in(key_for(self._root, purpose), index)

    def new_model(self, key: jax.Array) -> nnx.State[Any, Any]:
        return sharding.place_state(self._init(key)[1], self.mesh)

    def new_optimizer_state(self, update: Update, model: nnx.State[Any, Any]) -> Any:
        trainable, _ = nnx.split_state(model, parameter_filter(update.trains), ...)
        return sharding.place_state(update.optimizer.init(trainable), self.mesh)

    def train_features(self, state: TrainState) -> jax.Array:
        if self._features is None:
            width = nnx.to_pure_dict(state.model)['classifier']['kernel'].shape[0]
            features = jax.random.normal(self.key('features'), (len(self.train_labels), width))
            self._features = sharding.replicate(features, self.mesh)
        return self._features

    def train_logits(
        self, state: TrainState, view: View | None = None, key: jax.Array | None = None
    ) -> np.ndarray:
        shape = (len(self.train_labels), self.num_classes)
        return np.asarray(jax.random.normal(self.key('logits') if key is None else key, shape))

    def enter(self, stage: Stage) -> TrainState:
        """Returns the state before the first step of a stage."""
        state = TrainState(self.new_model(self.key('model')), {}, {})
        if stage.prepare is not None:
            state = stage.prepare(state, self)
        optimizers = {u.name: self.new_optimizer_state(u, state.model) for u in stage.updates}
        state = sharding.place_state(state._replace(optimizers=optimizers), self.mesh)
        if stage.before_round is None:
            return state
        return sharding.place_state(stage.before_round(state, self, 0), self.mesh)

    def random_batch(self, size: int, shape: tuple[int, ...]) -> dict[str, jax.Array]:
        """Returns random images, uint8 [size, *shape], and labels, on the device."""
        rng = np.random.default_rng(0)
        batch = {
            'image': rng.integers(0, 256, (size, *shape), np.uint8),
            'label': rng.integers(0, self.num_classes, size, np.int32),
        }
        return jax.device_put(batch, sharding.batch_sharding(self.mesh))

    def abstract(self, stage: Stage, update: Update, shape: tuple[int, ...]) -> tuple[Any, ...]:
        """Returns the shapes of what a step takes, for images [*shape]: nothing of a large network is made."""

        def abstract(tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)

        state = abstract(jax.eval_shape(lambda: self.enter(stage)))
        images = jax.ShapeDtypeStruct(shape, np.uint8)
        whole = jax.ShapeDtypeStruct(shape[:1], np.int32)
        batch = {'image': images, 'label': whole, 'index': whole}
        return state, batch, self.key(update.name), jax.ShapeDtypeStruct((), np.int32)

    def stepper(
        self, stage: Stage, update: Update, size: int, shape: tuple[int, ...], *, steps: int = 1
    ) -> Callable[[], dict[str, jax.Array]]:
        """Returns a function that runs steps on a batch of random images, waits, and returns the last metrics."""
        batch = self.random_batch(size, shape)
        step, state = make_step(update, self.graphdef, self.mesh), self.enter(stage)
        key, number = self.key(update.name), 0

        def run_once() -> dict[str, jax.Array]:
            nonlocal state, number
            for _ in range(steps):
                state, metrics = step(state, batch, key, np.int32(number))
                number += 1
            jax.block_until_ready((state, metrics))
            return metrics

        return run_once

    def compiled(self, stage: Stage, update: Update, size: int, shape: tuple[int, ...]) -> Any:
        """Returns the step on a batch of images as XLA compiled it, for its own account of cost and memory."""
        return self._traced(stage, update, size, shape).lower().compile()

    def flops(self, stage: Stage, update: Update, size: int, shape: tuple[int, ...]) -> float:
        """Returns the operations of the step on a batch of images.

        Not those of the compiled step: on CPUs it has loops, whose body XLA counts once. NaN: XLA gives no account.
        """
        traced = self._traced(stage, update, size, shape)
        account = traced.lower(lowering_platforms=('cuda',)).cost_analysis() or {}
        return account.get('flops', math.nan)

    def _traced(self, stage: Stage, update: Update, size: int, shape: tuple[int, ...]) -> Any:
        batch = self.random_batch(size, shape)
        step: Any = make_step(update, self.graphdef, self.mesh)
        return step.trace(self.enter(stage), batch, self.key(update.name), np.int32(0))
