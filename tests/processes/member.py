"""One process of a cluster with jax, for test_run.py: `with_jax.py PORT PROCESS_ID ACTION WHO`.

All sum over all devices; then process WHO acts, and the others wait for it in the next sum. WHO=-1: all act.
"""

import os
import pathlib
import sys

from ml_collections import ConfigDict

from ltjax import cluster
from ltjax.errors import UserError


def sum_over_devices() -> float:
    import jax
    import numpy as np

    mesh = jax.make_mesh((jax.device_count(),), ('data',), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
    ones = np.full(jax.local_device_count(), 1.0 + jax.process_index(), np.float32)
    return float(jax.jit(lambda x: x.sum())(jax.make_array_from_process_local_data(sharding, ones)))


def main(port: int, process_id: int, action: str, who: int) -> None:
    member = cluster.find(
        os.environ, coordinator=f'localhost:{port}', num_processes=2, process_id=process_id
    )
    with cluster.joined(member, ConfigDict({'seed': 0}), pathlib.Path('absent'), timeout=30):
        total = sum_over_devices()
        print(f'the sum is {total}', flush=True)
        print(f'the sum is {total}', file=sys.stderr, flush=True)
        if who in (process_id, -1):
            match action:
                case 'finish':
                    return
                case 'mistake':
                    raise UserError('a mistake')
                case 'bug':
                    raise ZeroDivisionError('a bug')
                case 'stop':
                    sys.exit(75)
                case 'kill':
                    os.kill(os.getpid(), 9)
        sum_over_devices()


if __name__ == '__main__':
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
