"""A trained model, read from its workdir: `Trained.load(workdir).predict(images)`."""

import contextlib
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable

import numpy as np
from flax import nnx

from ltjax import methods, sharding
from ltjax.data import augment
from ltjax.data.identity import FORCEABLE, Identity
from ltjax.data.reading import Images
from ltjax.engine import inference
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.state import TrainState
from ltjax.engine.step import make_forward
from ltjax.errors import UserError
from ltjax.files import user_path
from ltjax.methods.task import Task
from ltjax.run import build, ownership
from ltjax.run.settings import Settings

BATCH_SIZE = 256


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
      identity: all of that; None if it was removed from the workdir.
    """

    settings: Settings
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    graphdef: nnx.GraphDef
    state: nnx.State
    data_sha256: str
    identity: Identity | None

    @classmethod
    def load(cls, workdir: pathlib.Path | str) -> 'Trained':
        """Reads the model that the run in `workdir` selected.

        Raises:
          UserError: there is no finished run, or its files are of different data.
        """
        workdir = user_path(workdir)
        if not (workdir / 'results.json').exists():
            raise UserError(
                f'{workdir} holds no finished run: train one with python -m ltjax.main.'
            )
        results = json.loads((workdir / 'results.json').read_text('utf-8'))
        if 'best' not in results:
            raise UserError(f'{workdir} holds folds: name one of them, {workdir / "fold-0"} say.')
        settings = Settings.of(ownership.read_config(workdir))
        names, shape = tuple(results['class_names']), tuple(results['image_shape'])
        data = settings.data
        task = Task(np.array(results['train_counts']), data.mean, data.std)
        recipe = methods.recipe(settings.method, task)
        model = build.create_model(settings, recipe, len(names), shape[2], nnx.Rngs(0))
        graphdef, state = nnx.split(model)
        like = TrainState(sharding.place_state(state, sharding.make_mesh()), {}, {})
        with contextlib.closing(
            Checkpoints(workdir / 'checkpoints', read_only=True)
        ) as checkpoints:
            number = results['best']['checkpoint']
            state = checkpoints.restore(number, like).model
            theirs = checkpoints.progress(number)['provenance'].get('data')
        said = results.get('data', {}).get('identity', {})
        # By force a run may go on with other labels, groups or contents.
        fixed = [kind for kind in said if kind not in ('sha256', *FORCEABLE)]
        if theirs is not None and any(theirs.get(kind) != said[kind] for kind in fixed):
            raise UserError(
                f'checkpoint {number} of {workdir} was trained on other data than its results.json says: '
                'the files of two runs are mixed; train again.'
            )
        identity = Identity.read(workdir)
        if identity is not None and identity.digests() != said:
            identity = None
        return cls(settings, names, shape, graphdef, state, said.get('sha256', ''), identity)

    def predict(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Returns features float32 [N, C] and logits float32 [N, K] of images uint8 [N, H, W, C]."""
        mesh = sharding.make_mesh()
        return inference.run(self._forward, self.state, images, batch_size=BATCH_SIZE, mesh=mesh)

    @functools.cached_property
    def _forward(self) -> Callable:
        data = self.settings.data
        view = augment.view('none', mean=data.mean, std=data.std)
        return make_forward(self.graphdef, sharding.make_mesh(), view)
