"""All of Orbax: the newest and the best state of a run, each one whole."""

import operator
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from ltjax.engine.state import TrainState, flatten
from ltjax.errors import UserError


class _Keep:
    """Which checkpoints stay: the newest, the first of those with the best score, and the last of each stage."""

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: policies.PreservationContext
    ) -> list[bool]:
        scores = [float(info.metrics['score']) for info in checkpoints]
        best = max(scores, default=-1.0)
        last = len(checkpoints) - 1
        return [
            i == last or (i == scores.index(best) and best >= 0) or bool(info.metrics['stage_end'])
            for i, info in enumerate(checkpoints)
        ]


class Checkpoints:
    """The checkpoints of one run, numbered; the newest, the best and the end of each stage are kept.

    A checkpoint holds the state by parameter path, so that any code can read it, and a `progress`
    dictionary (stage, round, best so far) that says where the training stood.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            item_handlers={
                'state': ocp.StandardCheckpointHandler(),
                'progress': ocp.JsonCheckpointHandler(),
            },
            # Without `best_fn` the metrics are not written, and a reopened manager would not know them.
            options=ocp.CheckpointManagerOptions(
                best_fn=operator.itemgetter('score'), preservation_policy=_Keep()
            ),
        )

    def save(self, state: TrainState, progress: dict[str, Any], score: float) -> None:
        """Saves in the background; the copy from the devices is done when this returns.

        Args:
          state: what to keep.
          progress: JSON values; 'number' is the checkpoint's, 'stage_end' true after a stage's last round.
          score: of the validation; the highest is the best. Below zero: cannot be the best.
        """
        self._manager.save(
            progress['number'],
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(flatten(state)),
                progress=ocp.args.JsonSave(progress),
            ),
            metrics={'score': score, 'stage_end': float(progress['stage_end'])},
        )

    def numbers(self) -> list[int]:
        """Returns the numbers of the checkpoints that are kept, the newest last."""
        return sorted(self._manager.all_steps())

    def progress(self, number: int) -> dict[str, Any]:
        """Returns the progress that was saved with checkpoint `number`."""
        restored = self._manager.restore(
            number, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
        )
        return restored['progress']

    def restore(self, number: int, like: Any) -> Any:
        """Returns the tree of checkpoint `number`, shaped and sharded as `like`.

        Args:
          number: as in `progress['number']`.
          like: a pytree of arrays; paths that the checkpoint has and `like` lacks are left out.

        Raises:
          UserError: the checkpoint lacks an array of `like`, or has it in another shape.
        """
        wanted = flatten(like)
        try:
            stored = self._manager.item_metadata(number)['state'].tree
        except (KeyError, AttributeError, OSError, TypeError):
            stored = None
        if not stored:
            raise UserError(f'checkpoint {number} of {self._manager.directory} cannot be read.')
        for name, leaf in wanted.items():
            if name not in stored or tuple(stored[name].shape) != tuple(leaf.shape):
                raise UserError(
                    f'checkpoint {number} of {self._manager.directory} does not fit this network '
                    f'at {name}: use the config that the run was made with.'
                )
        shaped = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in wanted.items()
        }
        # Orbax wants the whole tree. Without a sharding it would look for the devices that saved it.
        anywhere = next(iter(wanted.values())).sharding
        whole = {
            name: jax.ShapeDtypeStruct(tuple(meta.shape), meta.dtype, sharding=anywhere)
            for name, meta in stored.items()
        } | shaped
        leaves = self._manager.restore(
            number, args=ocp.args.Composite(state=ocp.args.StandardRestore(whole))
        )['state']
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in wanted])

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()
