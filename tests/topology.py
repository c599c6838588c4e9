"""One short training of a method on some devices, as tests/test_topology.py compares it; also as a process of several.

python tests/topology.py HOST:PORT PROCESS PROCESSES DATA.npz FOLDER METHOD ...
"""

import json
import pathlib
import sys
import unittest.mock
from typing import Any

import jax
import numpy as np

METHODS = ('lmd', 'aduni', 'iccl', 'proco', 'cross_entropy')

# One epoch of each stage; ICCL's second branch begins with its second.
CHANGES: dict[str, dict[str, Any]] = {
    'lmd': {'method.rrl.epochs': 1, 'method.rrl.start_epoch': 0, 'method.icc.rounds': 1},
    'aduni': {'method.train.epochs': 1},
    'iccl': {'method.retrain.epochs': 1},
    'proco': {'method.train.epochs': 1},
    'cross_entropy': {'method.train.epochs': 1},
}


def train(
    method: str,
    data: pathlib.Path,
    folder: pathlib.Path,
    overrides: dict | None = None,
    **mesh: Any,
) -> tuple[dict[str, np.ndarray], list[dict], list[list[int]]]:
    """Trains as CHANGES says.

    Args:
      method: one of METHODS.
      data: `tiny.npz`.
      folder: for the checkpoints.
      overrides: further changes to the config.
      **mesh: of `sharding.make_mesh`.

    Returns:
      The selected model and what the method keeps, by name; the log; the images of all batches, sorted.
    """
    import tiny
    from ltjax import sharding
    from ltjax.engine import loop, rounds
    from ltjax.engine.state import flatten
    from ltjax.engine.streams import positions

    made = tiny.config(method, data, CHANGES[method] | (overrides or {}))
    trained = tiny.training(made, folder, mesh=sharding.make_mesh(**mesh))
    seen: list[list[int]] = []
    fetch = trained.feed.batches

    def recording(*arguments: Any, **options: Any) -> Any:
        for batch in fetch(*arguments, **options):
            seen.append(np.asarray(sharding.replicate(batch['index'], trained.mesh)).tolist())
            yield batch

    def recorded(streams: Any, mesh: Any, start: int, count: int, rows: int) -> Any:
        """Of several steps a call."""
        made = positions(streams, mesh, start, count, rows)
        for stream in made.values():
            seen.extend(np.asarray(stream).tolist()[:count])
        return made

    trained.feed.batches = recording
    try:
        with unittest.mock.patch.object(rounds, 'positions', recorded):
            state, _ = loop.run(trained)
    finally:
        trained.checkpoints.close()
    whole = sharding.replicate((state.model, state.extra), trained.mesh)
    values = {name: np.asarray(leaf) for name, leaf in flatten(whole).items()}
    return values, tiny.timeless(trained.logbook.rows), sorted(seen)


def main() -> None:
    """Trains as one of several processes; the first writes METHOD.npz and METHOD.json."""
    address, process, processes, data, folder, *methods = sys.argv[1:]
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', 2)
    jax.distributed.initialize(address, int(processes), int(process))
    out = pathlib.Path(folder)
    for method in methods:
        values, rows, seen = train(method, pathlib.Path(data), out / 'run' / method)
        if int(process) == 0:
            np.savez(out / f'{method}.npz', **values)
            (out / f'{method}.json').write_text(json.dumps([rows, seen]), 'utf-8')


if __name__ == '__main__':
    main()
