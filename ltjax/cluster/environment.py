"""Which process this is, among how many, and where process 0 runs: from the flags and the environment."""

import dataclasses
import re
import zlib
from collections.abc import Mapping
from typing import Any

from ltjax.errors import UserError

# Of a TPU pod, as in jax itself. Each run takes the next port too, for the lifeline.
PORT = 8482


@dataclasses.dataclass(frozen=True)
class Cluster:
    """One process among several.

    Args:
      coordinator: HOST:PORT of process 0, where jax's coordination service listens.
      num_processes: how many there are.
      process_id: which this is.
      local_device_ids: devices of the host that are this process's; None: all.
      source: who says so.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_device_ids: tuple[int, ...] | None = None
    source: str = 'flags'

    @property
    def host(self) -> str:
        return self.coordinator.rpartition(':')[0].strip('[]')

    @property
    def lifeline_port(self) -> int:
        return int(self.coordinator.rpartition(':')[2]) + 1


def find(
    environ: Mapping[str, str],
    *,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> Cluster | None:
    """Returns which process this is, or None where there is only one.

    What the flags leave open is taken from the environment: LTJAX_COORDINATOR, LTJAX_NUM_PROCESSES and LTJAX_PROCESS_ID
    (or JOB_COMPLETION_INDEX, which a Kubernetes Indexed Job sets), else Open MPI's, SLURM's or a TPU pod's variables.

    Args:
      environ: os.environ.
      coordinator, num_processes, process_id: the flags of these names; None: not given.

    Raises:
      UserError: flags that are incomplete, impossible, or contradict the environment.
    """
    given: dict[str, Any] = {
        'coordinator': coordinator,
        'num_processes': num_processes,
        'process_id': process_id,
    }
    open_ = [f'--{name}' for name, value in given.items() if value is None]
    found = None
    for look in (_from_variables, _from_open_mpi, _from_slurm, _from_tpu):
        found = found or look(environ)
    if found is None or found.num_processes == 1:
        if len(open_) == 3:
            return None
        if open_:
            raise UserError(
                f'several processes need {" and ".join(open_)} too: nothing in the environment tells.'
            )
        cluster = Cluster(**given)
    else:
        for name in ('num_processes', 'process_id'):
            theirs = getattr(found, name)
            if given[name] not in (None, theirs):
                raise UserError(
                    f'--{name}={given[name]}, but {found.source} says {theirs}: leave the flag out.'
                )
        cluster = dataclasses.replace(found, coordinator=coordinator or found.coordinator)
    _check(cluster)
    return cluster if cluster.num_processes > 1 else None


def _check(cluster: Cluster) -> None:
    address = re.fullmatch(r'(?:\[[\da-fA-F:.]+\]|[^\s:\[\]]+):(\d{1,5})', cluster.coordinator)
    if address is None or not 0 < int(address[1]) < 65535:
        raise UserError(
            f'{cluster.coordinator!r} ({cluster.source}) is no address of process 0: '
            'give --coordinator=HOST:PORT, with a port below 65535.'
        )
    if not 0 <= cluster.process_id < cluster.num_processes:
        raise UserError(
            f'process {cluster.process_id} of {cluster.num_processes} ({cluster.source}) cannot be: '
            'they are numbered from 0.'
        )


def _from_variables(environ: Mapping[str, str]) -> Cluster | None:
    if 'LTJAX_NUM_PROCESSES' not in environ and 'LTJAX_COORDINATOR' not in environ:
        return None
    index = 'LTJAX_PROCESS_ID' if 'LTJAX_PROCESS_ID' in environ else 'JOB_COMPLETION_INDEX'
    num_processes, process_id = _numbers(environ, 'LTJAX_NUM_PROCESSES', index)
    return Cluster(environ.get('LTJAX_COORDINATOR', ''), num_processes, process_id, None, 'LTJAX_*')


def _from_open_mpi(environ: Mapping[str, str]) -> Cluster | None:
    if 'OMPI_COMM_WORLD_RANK' not in environ:
        return None
    num_processes, process_id = _numbers(environ, 'OMPI_COMM_WORLD_SIZE', 'OMPI_COMM_WORLD_RANK')
    # The host of mpirun, where process 0 usually is too: version 4 tells its address, version 5 its name.
    address = environ.get('OMPI_MCA_orte_hnp_uri', '')
    job = environ.get('PMIX_NAMESPACE', '')
    host = ''
    if ip := re.search(r'tcp://([^,:]+)|tcp6://\[([^,\]]+)', address):
        host = ip[1] or f'[{ip[2]}]'
    elif name := re.fullmatch(r'prterun-(.+)-\d+@\d+', job):
        host = name[1]
    shared = int(environ.get('OMPI_COMM_WORLD_LOCAL_SIZE', 1)) > 1
    devices = _own_device(environ, 'OMPI_COMM_WORLD_LOCAL_RANK') if shared else None
    port = _port(job or address.partition('.')[0])
    return Cluster(f'{host}:{port}', num_processes, process_id, devices, 'Open MPI')


def _from_slurm(environ: Mapping[str, str]) -> Cluster | None:
    # Only srun sets the step's variables: a batch script that calls python itself has one process.
    if 'SLURM_STEP_NODELIST' not in environ or 'SLURM_PROCID' not in environ:
        return None
    count = 'SLURM_STEP_NUM_TASKS' if 'SLURM_STEP_NUM_TASKS' in environ else 'SLURM_NTASKS'
    num_processes, process_id = _numbers(environ, count, 'SLURM_PROCID')
    shared = num_processes > int(environ.get('SLURM_STEP_NUM_NODES', num_processes))
    devices = _own_device(environ, 'SLURM_LOCALID') if shared else None
    port = _port(f'{environ.get("SLURM_JOB_ID")}.{environ.get("SLURM_STEP_ID")}')
    host = first_host(environ['SLURM_STEP_NODELIST'])
    return Cluster(f'{host}:{port}', num_processes, process_id, devices, 'SLURM')


def _from_tpu(environ: Mapping[str, str]) -> Cluster | None:
    hosts = environ.get('TPU_WORKER_HOSTNAMES', '').split(',')
    if 'TPU_WORKER_ID' not in environ:
        return None
    (process_id,) = _numbers(environ, 'TPU_WORKER_ID')
    slices, at = 1, 0
    if 'MEGASCALE_NUM_SLICES' in environ:
        slices, at = _numbers(environ, 'MEGASCALE_NUM_SLICES', 'MEGASCALE_SLICE_ID')
    host = environ.get('MEGASCALE_COORDINATOR_ADDRESS', hosts[0]).split(':')[0]
    count = len(hosts)
    return Cluster(f'{host}:{PORT}', slices * count, at * count + process_id, None, 'the TPU pod')


def _numbers(environ: Mapping[str, str], *names: str) -> list[int]:
    for name in names:
        if not environ.get(name, '').isdecimal():
            raise UserError(f'{name} is {environ.get(name, "not set")}: it must be a number.')
    return [int(environ[name]) for name in names]


def _own_device(environ: Mapping[str, str], local_id: str) -> tuple[int, ...] | None:
    """Returns the one device of a process that shares its host, unless somebody already chose for it."""
    visible = environ.get('CUDA_VISIBLE_DEVICES', environ.get('ROCR_VISIBLE_DEVICES', ','))
    if 'JAX_LOCAL_DEVICE_IDS' in environ or ',' not in visible:
        return None
    return tuple(_numbers(environ, local_id))


def _port(job: str) -> int:
    """Returns an even port that jobs on one host hardly share, above those that the kernel gives away."""
    return 61440 + 2 * (zlib.crc32(job.encode()) % 2047)


def first_host(nodes: str) -> str:
    """Returns the first host of a SLURM node list.

    >>> first_host('gpu[01-04,7],login')
    'gpu01'
    """
    first = re.match(r'(?:[^,\[]|\[[^\]]*\])*', nodes)
    return re.sub(r'\[(\w*)[^\]]*\]', r'\1', first[0] if first else '')
