"""A trained model, read from its workdir: `load(workdir).predict(data)`."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from absl import logging
from flax import nnx

from ltjax import methods, provenance, sharding
from ltjax.data import augment
from ltjax.data import identity as identities
from ltjax.data.identity import FORCEABLE, Identity
from ltjax.data.reading import Images
from ltjax.data.reading.table import Column
from ltjax.engine import inference
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.state import TrainState
from ltjax.engine.step import Forward, make_forward
from ltjax.errors import UserError
from ltjax.evaluation import parts, prediction_files, predictions, whole
from ltjax.evaluation.groups import divide
from ltjax.evaluation.parts import Wishes
from ltjax.evaluation.probabilities import Probabilities
from ltjax.files import user_path
from ltjax.methods.task import Task
from ltjax.run import applying, build, frozen, ownership, predicting
from ltjax.run.applying import Applied, Predictions
from ltjax.run.predicting import Source
from ltjax.run.settings import Settings

BATCH_SIZE = 256
_PART_BYTES = 1 << 28  # of images that are in memory at the same time, unless a batch is larger


def _validation(path: pathlib.Path) -> predictions.Predictions:
    try:
        return prediction_files.read(path)
    except UserError as error:
        raise UserError(
            f'{error} It is of the run: copy it again, or remove it and go without.'
        ) from None


@dataclasses.dataclass(frozen=True)
class Trained:
    """The selected model of a finished run.

    Attributes:
      settings: the run's.
      class_names: the K classes.
      image_shape: (height, width, channels) that the model was trained on.
      graphdef: the network's structure.
      state: its parameters and BatchNorm statistics.
      data_sha256: of the identity of the data that it was trained on.
      identity: all of that; None if it is missing in the workdir, or damaged.
      train_counts: training images of each class.
      ordered: whether the classes are grades, in their order.
      calibration: what results.json says of it; None if the run did not measure it.
      validation: what the model says of the validation images; None if the run left no validation.npz.
      wished: of decisions, {'sensitivity' or 'specificity': share}; None if the run chose no thresholds.
    """

    settings: Settings
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    graphdef: nnx.GraphDef[Any]
    state: nnx.State[Any, Any]
    data_sha256: str
    identity: Identity | None
    train_counts: tuple[int, ...]
    ordered: bool
    calibration: Mapping[str, Any] | None = None
    validation: predictions.Predictions | None = None
    wished: Mapping[str, float] | None = None

    @classmethod
    def load(cls, workdir: str | os.PathLike[str]) -> 'Trained':
        """Reads the model that the run in `workdir` selected.

        Raises:
          UserError: there is no finished run, or its files are of different data.
        """
        workdir = user_path(workdir)
        if not (workdir / 'results.json').exists():
            raise UserError(
                f'{workdir} holds no finished run: train one with python -m ltjax.main.'
            )
        results = ownership.read_results(workdir)
        settings = Settings.of(ownership.read_config(workdir))
        names, shape = tuple(results['class_names']), tuple(results['image_shape'])
        data = settings.data
        further = results.get('data', {}).get('columns', {})
        columns = {
            name: Column(np.zeros(0, np.int32), tuple(column['names']))
            for name, column in further.items()
        }
        task = Task(np.array(results['train_counts']), data.mean, data.std, columns)
        recipe = methods.recipe(settings.method, task)
        number = results['best']['checkpoint']
        with contextlib.closing(Checkpoints(workdir / 'checkpoints', read_only=True)) as saved:

            def restore(state: nnx.State[Any, Any]) -> nnx.State[Any, Any]:
                like = TrainState(sharding.place_state(state, sharding.make_mesh()), {}, {})
                return saved.restore(number, like).model

            if settings.model.frozen:
                model = frozen.assemble(
                    settings, recipe, names, shape[2], results['pretrained'], restore
                )
            else:
                model = build.create_model(settings, recipe, len(names), shape[2], nnx.Rngs(0))
                nnx.update(model, restore(nnx.state(model)))
            theirs = saved.progress(number)['provenance'].get('data')
        graphdef, state = nnx.split(model)
        said = results.get('data', {}).get('identity', {})
        # By force a run may go on with other labels, groups or contents.
        fixed = [kind for kind in said if kind not in ('sha256', *FORCEABLE)]
        if theirs is not None and any(theirs.get(kind) != said[kind] for kind in fixed):
            raise UserError(
                f'checkpoint {number} of {workdir} was trained on other data than its results.json says: '
                'the files of two runs are mixed; train again.'
            )
        kept = workdir / 'validation.npz'
        identity = Identity.read(workdir)
        if identity is not None and identity.digests() != said:
            identity = None
        return cls(
            settings,
            names,
            shape,
            graphdef,
            state,
            data_sha256=said.get('sha256', ''),
            identity=identity,
            train_counts=tuple(results['train_counts']),
            ordered=results.get('data', {}).get('class_order', {}).get('ordered', False),
            calibration=results['test'].get('calibration'),
            validation=_validation(kept) if kept.is_file() else None,
            wished=results['test'].get('operating_points', {}).get('wished'),
        )

    def predict(self, data: Any, *, side: str = '', protocol: str = '') -> Predictions:
        """Applies the model to images.

        Args:
          data: a folder, an npz, a CSV or a prepared set, with or without labels, in the layouts that training
            reads; or images uint8 [N, H, W, C]. They are brought to the model's size and channels.
          side: of the split that the files bring, 'test' or the number of a fold: these images alone.
          protocol: that split, where a prepared set has several.

        Raises:
          UserError: the data cannot be read, or have classes or a shape that the model does not know.
        """
        found, said, _ = self.apply(self.source(data, side=side, protocol=protocol))
        for line in said:
            logging.warning('%s', line)
        return found

    def evaluate(
        self,
        data: Any,
        num_bootstrap: int = 1000,
        *,
        side: str = '',
        protocol: str = '',
        wishes: Wishes = parts.USUAL,
    ) -> dict[str, Any]:
        """Tests the model on images with labels.

        Args:
          data: as `predict` takes them, each image with a label.
          num_bootstrap: samples that the intervals are made of.
          side: see `predict`.
          protocol: see `predict`.
          wishes: what is asked of decisions.

        Returns:
          What 'test' of results.json holds, except for warnings about the data that were trained on. Thresholds and
          the like are those of the run's own validation images.

        Raises:
          UserError: as `predict`; or an image has no label.
        """
        if num_bootstrap < 1:
            raise UserError(f'num_bootstrap is {num_bootstrap}: use 1 or more.')
        source = self.source(data, side=side, protocol=protocol)
        unlabelled = predicting.known_labels(source, self.class_names)[0] < 0
        if unlabelled.any():
            raise UserError(
                f'{unlabelled.sum()} of {len(source.ids)} images of {source.table.where} have no label '
                f'({source.ids[unlabelled.argmax()]} for one): give each one to evaluate, or predict.'
            )
        found, said, applied = self.apply(source, features=False)
        results = whole.evaluate(
            predictions.Predictions(
                str(source.table.where),
                found.ids,
                found.labels.astype(np.int64),
                self.class_names,
                Probabilities(found.logits),
                source.of(applied.rows).groups,
            ),
            train_counts=self.train_counts,
            groups=divide(
                dataclasses.asdict(self.settings.data.groups), self.train_counts, self.class_names
            ),
            ordered=self.ordered,
            validation=self.validation,
            wishes=wishes,
            num_bootstrap=num_bootstrap,
        )
        results['warnings'] += said
        return results

    def source(self, data: Any, *, side: str = '', protocol: str = '') -> Source:
        """Finds images as `predict` takes them; reads none of them yet. See `predicting.source`."""
        return predicting.source(
            data,
            like=self.settings.data,
            image_shape=self.image_shape,
            class_names=self.class_names,
            side=side,
            protocol=protocol,
        )

    def apply(
        self, source: Source, *, features: bool = True, folder: pathlib.Path | None = None
    ) -> tuple[Predictions, list[str], Applied]:
        """Applies the model to images, part by part.

        Args:
          source: from `source`.
          features: whether to keep them.
          folder: for parts, from which an interrupted call goes on; who has written what is returned removes it. None:
            none are kept.

        Returns:
          What the model says, lines about what was decided, and which images could be read.

        Raises:
          UserError: images cannot be read, or have classes or a shape that the model does not know.
          OSError: a part cannot be written.
        """
        labels, said = predicting.known_labels(source, self.class_names)
        mesh = sharding.make_mesh()
        batch = -(-BATCH_SIZE // mesh.size) * mesh.size
        size = batch * max(1, min(4, _PART_BYTES // (batch * math.prod(self.image_shape))))
        key = self._key(source, features) if folder is not None else ''
        kept = applying.Kept(folder, key, source)
        applied = applying.run(source, self.forward, size=size, kept=kept, features=features)
        ids = source.of(applied.rows).ids
        labels = labels[np.searchsorted(source.rows, applied.rows)]
        if self.identity is None:
            said.append(
                f'{identities.FILE} of the run is missing or damaged: whether the model was trained on some of these '
                'images is not known'
            )
        elif known := identities.overlap(applied.digests, self.identity):
            said.append(
                f'{known} of {len(ids)} images are among those that the model was trained on'
            )
        found = Predictions(ids, labels, applied.logits, applied.features, self.class_names)
        return found, said, applied

    def _key(self, source: Source, features: bool) -> str:
        """Returns what tells apart whose parts are whose: the network, the device, the images and how they are read."""
        digest = hashlib.sha256()
        for value in jax.tree.leaves(self.state):
            digest.update(np.ascontiguousarray(jax.device_get(value)).tobytes())
        devices = jax.devices()
        config = dataclasses.asdict(source.config)
        known = [config, features, source.ids.tolist(), source.table.written.source]
        known += [len(devices), devices[0].device_kind, provenance.versions(), self.data_sha256]
        digest.update(json.dumps(known).encode())
        return digest.hexdigest()

    def forward(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Returns features float32 [N, C] and logits float32 [N, K] of images of the model's size and channels."""
        mesh = sharding.make_mesh()
        return inference.run(self._forward, self.state, images, batch_size=BATCH_SIZE, mesh=mesh)

    @functools.cached_property
    def _forward(self) -> Forward:
        data = self.settings.data
        view = augment.view('none', mean=data.mean, std=data.std)
        return make_forward(self.graphdef, sharding.make_mesh(), view)


load = Trained.load
