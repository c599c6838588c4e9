"""All of Orbax: the newest and the best states of a run, each one whole, summed, and checked before it is used."""

import contextlib
import errno
import operator
import os
import pathlib
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from etils.epath import gpath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as policies

from ltjax import sharding
from ltjax.engine import checksums
from ltjax.engine.state import TrainState, flatten, unflatten
from ltjax.errors import UserError
from ltjax.files import check_name

# Where Orbax moves what is kept no longer, so that a folder with a number is whole or gone.
_REMOVED = 'removed'

# Bytes. Of an array that lies whole on several devices each writes a slice, unless it is smaller: every slice of every
# shape is compiled first, which for small arrays takes far longer than to write them.
_WORTH_SLICING = 1 << 20

# What a system says when it refuses, which stands far behind in what the libraries beneath say.
_REFUSALS = tuple(
    map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO))
)


def _not_told(record: Any) -> bool:
    """Says whether a record is no error that Orbax logs, with a traceback a thread, and raises as well."""
    return not (record.exc_info and 'orbax' in record.pathname)


class _Keep:
    """Which checkpoints stay: the two newest, the best so far of each, and the last of each stage.

    Two, because the newest may be found damaged, and has no sums yet when others are removed. Of equal scores the
    first is the best.
    """

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: policies.PreservationContext
    ) -> list[bool]:
        scores = [float(info.metrics['score']) for info in checkpoints]
        keep = [bool(info.metrics['stage_end']) for info in checkpoints]
        for newest in range(max(0, len(scores) - 2), len(scores)):
            keep[newest] = True
            best = max(scores[: newest + 1])
            if best >= 0:
                keep[scores.index(best)] = True
        return keep


class _Folder(gpath.PosixGPath):
    """A folder for Orbax, whose `glob` takes for a pattern what it is asked for alone.

    The glob of etils takes the folder's own name for a part of the pattern: in `runs/[1]` Orbax would not find what it
    has just written, and leave a checkpoint without its arrays.
    """

    def glob(self, pattern: str) -> Iterator['_Folder']:
        return map(self._new, pathlib.Path(self).glob(pattern))


class Checkpoints:
    """The checkpoints of one run, numbered by the gradient steps before them.

    A checkpoint holds the state by parameter path, so that any code can read it; a `progress` dictionary that says
    where the training stood; and, inside a round, the round's scratch. The first that a process writes is read back
    before it counts, so that a disk or a library that loses data is found then and not at the end.

    Args:
      directory: `checkpoints/` of a workdir.
      read_only: of a run that is another's or finished: nothing there is changed. Else what cannot be gone on from is
        set aside first, see `checksums.settle`.

    Attributes:
      set_aside: a line for each checkpoint that was set aside.

    Raises:
      UserError: nothing can be kept in a folder of that name.
    """

    def __init__(self, directory: pathlib.Path, *, read_only: bool = False) -> None:
        # Orbax leaves out 'link/..', which is another folder if the link leads elsewhere.
        self._directory = directory.resolve() if '..' in directory.parts else directory.absolute()
        check_name(self._directory)
        self.set_aside: list[str] = []
        if not read_only and jax.process_index() == 0:
            self.set_aside = checksums.settle(self._directory)
        _agreed(0)  # the others wait for it
        logging.get_absl_logger().addFilter(_not_told)
        before = logging.get_verbosity()
        if read_only:
            logging.set_verbosity(logging.ERROR)  # Orbax warns of what follows from it
        self._manager = ocp.CheckpointManager(
            _Folder(self._directory),
            item_handlers={
                'state': _arrays_handler(),
                'progress': ocp.JsonCheckpointHandler(),
                'scratch': _arrays_handler(),
            },
            # Without `best_fn` the metrics are not written, and a reopened manager would not know them.
            options=ocp.CheckpointManagerOptions(
                best_fn=operator.itemgetter('score'),
                preservation_policy=_Keep(),
                read_only=read_only,
                create=not read_only,
                cleanup_tmp_directories=not read_only,
                todelete_subdir=_REMOVED,
                lightweight_initialize=read_only,
            ),
        )
        logging.set_verbosity(before)
        self._thread = ThreadPoolExecutor(1, 'sums')
        self._sealing: Future[None] | None = None
        self._proven = False

    def save(
        self, state: TrainState, progress: dict[str, Any], score: float, scratch: Any = None
    ) -> None:
        """Saves in the background; the copy from the devices is done when this returns.

        Args:
          state: what to keep.
          progress: JSON values; 'number' is the checkpoint's, 'stage_end' true after a stage's last round.
          score: of the validation; the highest is the best. Below zero: cannot be the best.
          scratch: dictionaries and tuples of arrays, see `scratch`.

        Raises:
          UserError: this or the checkpoint before it cannot be written, or the first cannot be read back.
        """
        self.wait()
        number = progress['number']
        trees = {'state': flatten(state)} | ({'scratch': flatten(scratch)} if scratch else {})
        items = {name: ocp.args.PyTreeSave(tree) for name, tree in trees.items()}
        items['progress'] = ocp.args.JsonSave(progress)
        with self._writing():
            self._manager.save(
                number,
                args=ocp.args.Composite(**items),
                metrics={'score': score, 'stage_end': float(progress['stage_end'])},
            )
        if not self._proven:
            self._prove(number, trees)
            self._proven = True
        best = (progress.get('best') or {}).get('checkpoint')
        self._sealing = self._thread.submit(self._seal, number, best)

    def _seal(self, number: int, best: int | None) -> None:
        self._manager.wait_until_finished()
        if jax.process_index() == 0:
            checksums.seal(self._directory / str(number), best)
            shutil.rmtree(self._directory / _REMOVED, ignore_errors=True)

    def _prove(self, number: int, trees: Mapping[str, Mapping[str, jax.Array]]) -> None:
        """Reads back on the host what was just saved, before it gets its sums: without them it is never used.

        Raises:
          UserError: it is not what was saved.
        """
        with self._writing():
            self._manager.wait_until_finished()
        try:
            self.progress(number)
            strange = []
            for item, tree in trees.items():
                like = {name: _on_host(leaf) for name, leaf in tree.items()}
                found = self._read(number, item, like)
                strange += [name for name, leaf in tree.items() if not _same(leaf, found[name])]
        except Exception as error:  # as in `_writing`
            strange = [' '.join(str(error).split())[:200]]
        if strange:
            raise UserError(
                f'the first checkpoint in {self._directory} is not what was written ({strange[0]}): give a --workdir '
                'on another file system, or with a plainer name.'
            )

    def wait(self) -> None:
        """Waits for what is being written.

        Raises:
          UserError: it could not be written.
        """
        sealing, self._sealing = self._sealing, None
        if sealing is not None:
            with self._writing():
                sealing.result()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError:  # of a collective: another process is gone
            raise
        except Exception as error:  # the libraries beneath have no common one for a full disk
            text = ' '.join(str(error).split())
            reason = next((said for said in _REFUSALS if said in text), text[:200])
            raise UserError(
                f'no checkpoint can be written to {self._directory} ({reason}): mend that, and start the same '
                'command again; it goes on from the last whole checkpoint.'
            ) from error

    def numbers(self) -> list[int]:
        """Returns the numbers of the checkpoints that are kept, the newest last."""
        return sorted(self._manager.all_steps())

    def progress(self, number: int) -> dict[str, Any]:
        """Returns the progress that was saved with checkpoint `number`."""
        restored = self._manager.restore(
            number, args=ocp.args.Composite(progress=ocp.args.JsonRestore())
        )
        return restored['progress']

    def restore(self, number: int, like: Any, optional: Collection[str] = ()) -> Any:
        """Returns the tree of checkpoint `number`, shaped and sharded as `like`.

        Args:
          number: as in `progress['number']`.
          like: a pytree of arrays with a NamedSharding; paths that the checkpoint has and `like` lacks are left out.
          optional: paths of `like` that the checkpoint may lack: their arrays stay as they are.

        Raises:
          UserError: the checkpoint is not there or damaged, lacks an array of `like`, or has it in another shape.
        """
        given = flatten(like)
        stored = self._stored(number, 'state')
        wanted = {k: leaf for k, leaf in given.items() if k in stored or k not in optional}
        for name, leaf in wanted.items():
            if name not in stored or tuple(stored[name].shape) != tuple(leaf.shape):
                raise UserError(
                    f'checkpoint {number} of {self._directory} does not fit this network '
                    f'at {name}: use the config that the run was made with.'
                )
        shaped = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            for name, leaf in wanted.items()
        }
        # Orbax wants the whole tree. Without a sharding it would look for the devices that saved it.
        first: Any = next(iter(wanted.values())).sharding
        anywhere = sharding.replicated(first.mesh)
        leaves = given | self._read(number, 'state', _like(stored, anywhere) | shaped)
        return jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in given])

    def scratch(self, number: int, lies: jax.sharding.Sharding) -> Any:
        """Returns the scratch, dictionaries and tuples of arrays, of checkpoint `number`; {} if it has none."""
        if not (self._directory / str(number) / 'scratch').exists():
            return {}
        stored = self._stored(number, 'scratch')
        return unflatten(self._read(number, 'scratch', _like(stored, lies)))

    def _stored(self, number: int, item: str) -> Mapping[str, Any]:
        damage = ''
        if jax.process_index() == 0:
            damage, _ = checksums.examine(self._directory / str(number))
        if _agreed(bool(damage)):
            raise UserError(
                f'checkpoint {number} of {self._directory} cannot be used: {damage}. An unfinished run that is started '
                'again goes on from an older one.'
            )
        return self._manager.item_metadata(number)[item].tree

    def _read(self, number: int, item: str, like: Mapping[str, Any]) -> dict[str, Any]:
        how = ocp.checkpoint_utils.construct_restore_args(like)
        args = ocp.args.Composite(**{item: ocp.args.PyTreeRestore(like, restore_args=how)})
        return self._manager.restore(number, args=args)[item]

    def close(self) -> None:
        """Waits for what is being written; what `wait` told of is not told again."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            with contextlib.suppress(Exception):
                self._manager.close()


def _arrays_handler() -> ocp.PyTreeCheckpointHandler:
    """Returns what writes and reads a tree of arrays, as Orbax's own would but for `_WORTH_SLICING`."""
    of = ocp.type_handlers
    arrays = of.ArrayHandler(min_slice_bytes_for_replica_parallel=_WORTH_SLICING)
    kinds = (np.ndarray, of.NumpyHandler()), (jax.Array, arrays)
    registry = of.create_type_handler_registry(*kinds)
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _like(stored: Mapping[str, Any], lies: Any) -> dict[str, jax.ShapeDtypeStruct]:
    return {
        name: jax.ShapeDtypeStruct(tuple(meta.shape), meta.dtype, sharding=lies)
        for name, meta in stored.items()
    }


def _on_host(leaf: jax.Array) -> np.ndarray:
    """Returns an array of the shape and dtype of `leaf` that takes no memory."""
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def _same(leaf: jax.Array, found: np.ndarray) -> bool:
    """Tells whether `found` has the bits of `leaf`, as far as that lies on this process's devices."""
    shards = {str(shard.index): shard for shard in leaf.addressable_shards}.values()
    return found.dtype == leaf.dtype and all(
        np.asarray(shard.data).tobytes() == found[shard.index].tobytes() for shard in shards
    )


def _agreed(value: int) -> int:
    """Returns what the first process has, on all of them."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
