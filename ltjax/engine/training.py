"""One training: what the loop needs, and what hooks may ask."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from ltjax import sharding
from ltjax.data.datasets import DataSet
from ltjax.data.pipeline import BLOCKS, SAMPLERS, Feed, check_blocks
from ltjax.data.reading import Images
from ltjax.engine import inference
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.logbook import Logbook
from ltjax.engine.progress import RunProgress
from ltjax.engine.safeguards import Safeguards
from ltjax.engine.stage import Recipe, Update, View
from ltjax.engine.state import TrainState, flatten, parameter_filter
from ltjax.engine.step import BATCH_NORM, Forward, key_for, make_forward, make_init
from ltjax.engine.streams import STATE, samplers
from ltjax.errors import UserError, unknown

EVALUATION_BATCH = 256

SELECT = ('best', 'last')


@dataclasses.dataclass
class Training:
    """One run of a recipe on a data set: what the loop needs, and what hooks may ask (`stage.Run`)."""

    data: DataSet  # images, labels and split
    create: Callable[[jax.Array], nnx.Module]  # key -> a freshly initialised network
    recipe: Recipe  # what to train
    view: View  # (key, images) -> normalised images without augmentation, for evaluation
    seed: int  # of initialisation, augmentation, order and draws
    mesh: jax.sharding.Mesh  # the devices
    logbook: Logbook  # takes one row a round
    checkpoints: Checkpoints  # take the state after each round
    select: str = 'best'  # 'best' keeps the best validated round of the last stage, 'last' the last
    # Workdir of another run whose first stage stands in for this one's; None: train it.
    start_from: pathlib.Path | None = None
    accumulate: int = 1  # parts of a batch that the encoder takes one after another
    # Values in place of the fresh network's, where the run begins: pretrained weights.
    initial: nnx.State[Any, Any] | None = None
    # When to save inside a round, when to stop, what to do with NaN.
    safeguards: Safeguards = dataclasses.field(default_factory=Safeguards)

    def __post_init__(self) -> None:
        train = self.data.parts['train']
        self.train_labels = self.data.labels[train]
        self.train_ids = self.data.ids[train]
        self.num_classes = len(self.data.class_names)
        self._train_images = self.data.images_of('train')
        self._root = jax.random.key(self.seed)
        self._init = make_init(self.create)
        self.graphdef, network = jax.eval_shape(self._init, self._root)
        if self.select not in SELECT:
            raise unknown('select', self.select, SELECT)
        if self.select == 'best' and len(self.data.parts['val']) == 0:
            raise UserError(
                'no image is held out to choose a round on (data.split.val is 0): '
                '--config.select=last tests the last one.'
            )
        self._check_recipe(network)
        self.feed = Feed(self._train_images, self.train_labels, self.mesh)
        self._forward = make_forward(self.graphdef, self.mesh, self.view)
        self._forward_of: dict[View, Forward] = {}
        self.progress = RunProgress(self.recipe.steps_before(len(self.recipe.stages)))

    def _check_recipe(self, network: nnx.State[Any, Any]) -> None:
        """Refuses before the first step what would else be found in a later stage.

        Raises:
          UserError: an unknown sampler or BatchNorm mode, nothing to train, or batches that devices or classes cannot
            share.
          ValueError: a stage without a step.
        """
        for stage in self.recipe.stages:
            if not stage.steps:
                raise ValueError(f'stage {stage.name!r} makes no step, by which rounds are counted')
            for update in stage.updates:
                self._check_trained(update, network)
                self._check_batches(update, f'the batch size of {stage.name}/{update.name}')

    def _check_trained(self, update: Update, network: nnx.State[Any, Any]) -> None:
        if not nnx.filter_state(network, parameter_filter(update.trains)):
            names = flatten(nnx.filter_state(network, nnx.Param))
            known = sorted(name.removesuffix('.value') for name in names)
            raise unknown('part of the network to train', update.trains, known)
        if update.batch_norm not in BATCH_NORM:
            raise unknown('batch_norm', update.batch_norm, BATCH_NORM)

    def _check_batches(self, update: Update, name: str) -> None:
        for sampler in samplers(update).values():
            if not isinstance(sampler, str):
                continue
            if sampler not in (*SAMPLERS, STATE):
                raise unknown('sampler', sampler, SAMPLERS)
            if sampler == BLOCKS:
                counts = np.bincount(self.train_labels, minlength=self.num_classes)
                devices = self.mesh.size * self.accumulate
                check_blocks(counts, update.batch_size, name, devices=devices)
        if update.sampler is not None:
            sharding.check_batch_size(update.batch_size, self.mesh, name, parts=self.accumulate)

    # What hooks between rounds may ask: see `stage.Run`.

    def key(self, purpose: str, index: int = 0) -> jax.Array:
        return jax.random.fold_in(key_for(self._root, purpose), index)

    def new_model(self, key: jax.Array) -> nnx.State[Any, Any]:
        return sharding.place_state(self._init(key)[1], self.mesh)

    def new_optimizer_state(self, update: Update, model: nnx.State[Any, Any]) -> Any:
        trainable, _ = nnx.split_state(model, parameter_filter(update.trains), ...)
        return sharding.place_state(update.optimizer.init(trainable), self.mesh)

    def train_features(self, state: TrainState) -> jax.Array:
        return sharding.replicate(self.predict(state, self._train_images)[0], self.mesh)

    def train_logits(
        self, state: TrainState, view: View | None = None, key: jax.Array | None = None
    ) -> np.ndarray:
        forward = self._forward
        if view is not None:
            if view not in self._forward_of:
                self._forward_of[view] = make_forward(self.graphdef, self.mesh, view)
            forward = self._forward_of[view]
        return self._run(forward, state, self._train_images, key)[1]

    def predict(self, state: TrainState, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Returns features and logits of `images` uint8 [N, H, W, C], in inference mode."""
        return self._run(self._forward, state, images)

    def _run(
        self, forward: Forward, state: TrainState, images: Images, key: jax.Array | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        size, mesh = EVALUATION_BATCH, self.mesh
        return inference.run(forward, state.model, images, batch_size=size, mesh=mesh, key=key)
