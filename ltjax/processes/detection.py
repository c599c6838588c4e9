"""Which process this is, among how many, and where process 0 runs: from the flags and the environment."""

import dataclasses
import re
import zlib
from collections.abc import Mapping
from typing import Any

from ltjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Member:
    """One process among several, as `jax.distributed.initialize` takes it; `by_jax`: jax detects what is None."""

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: tuple[int, ...] | None = None
    by_jax: bool = False


def find(environ: Mapping[str, str], **flags: Any) -> Member | None:
    """Returns which process this is, or None where there is only one.

    What the flags (coordinator, num_processes and process_id; None: not given) leave open is taken from the variables
    of Open MPI, SLURM or a TPU pod. Raises UserError for what is incomplete or impossible.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    found = _open_mpi(environ) or _slurm(environ)
    hosts = environ.get('TPU_PROCESS_ADDRESSES', environ.get('TPU_WORKER_HOSTNAMES', ''))
    if found is None and (',' in hosts or environ.get('MEGASCALE_NUM_SLICES', '1') != '1'):
        return Member(**given, by_jax=True)
    if found is None or found.num_processes == 1:
        if not given:
            return None
        found = Member()
    member = dataclasses.replace(found, **given)
    count, number = member.num_processes, member.process_id
    if missing := [f'--{name}' for name in flags if getattr(member, name) is None]:
        raise UserError(f'several processes need {" and ".join(missing)} too.')
    if not re.fullmatch(r'\S+:\d{1,5}', str(member.coordinator)):
        raise UserError(
            f'process 0 cannot be at {member.coordinator!r}: give --coordinator=HOST:PORT.'
        )
    if count is None or number is None or not 0 <= number < count:
        raise UserError(f'there is no process {number} of {count}: they are numbered from 0.')
    return member if count > 1 else None


def _open_mpi(environ: Mapping[str, str]) -> Member | None:
    # jax 0.10.2 does not know Open MPI 5, jax 0.12.0 wants mpi4py for it. Both give a process one device, even where
    # it has the host for itself.
    if 'OMPI_COMM_WORLD_RANK' not in environ:
        return None
    # The host of mpirun, where process 0 usually is too: version 4 tells its address, version 5 its name.
    job = environ.get('OMPI_MCA_orte_hnp_uri') or environ.get('PMIX_NAMESPACE', '')
    host = re.search(r'tcp://([^,:]+)|tcp6://\[([^,\]]+)|^prterun-(.+)-\d+@', job)
    name = next(filter(None, host.groups())) if host else ''
    address = f'[{name}]' if ':' in name else name
    alone = environ.get('OMPI_COMM_WORLD_LOCAL_SIZE', '1') == '1'
    device = _device(environ, 'OMPI_COMM_WORLD_LOCAL_RANK', alone)
    count, number = int(environ['OMPI_COMM_WORLD_SIZE']), int(environ['OMPI_COMM_WORLD_RANK'])
    return Member(f'{address}:{_port(job)}', count, number, device)


def _slurm(environ: Mapping[str, str]) -> Member | None:
    # jax 0.10.2 and 0.12.0 give a task one device, even where it has the node for itself, give all steps of a job one
    # port, and misread names with two brackets. Only srun sets the step's variables: a batch script that calls python
    # itself has one process.
    if 'SLURM_STEP_NODELIST' not in environ or 'SLURM_PROCID' not in environ:
        return None
    count = int(environ.get('SLURM_STEP_NUM_TASKS', environ.get('SLURM_NTASKS', 1)))
    alone = int(environ.get('SLURM_STEP_NUM_NODES', count)) >= count
    device = _device(environ, 'SLURM_LOCALID', alone)
    job = f'{environ.get("SLURM_JOB_ID")}.{environ.get("SLURM_STEP_ID")}'
    first = re.match(r'(?:[^,\[]|\[[^\]]*\])*', environ['SLURM_STEP_NODELIST'])
    host = re.sub(r'\[(\w*)[^\]]*\]', r'\1', first[0] if first else '')
    return Member(f'{host}:{_port(job)}', count, int(environ['SLURM_PROCID']), device)


def _device(environ: Mapping[str, str], local_id: str, alone: bool) -> tuple[int] | None:
    """Returns the one device of a process that is not alone on its host, unless somebody already chose for it."""
    visible = environ.get('CUDA_VISIBLE_DEVICES', environ.get('ROCR_VISIBLE_DEVICES', ','))
    chosen = alone or 'JAX_LOCAL_DEVICE_IDS' in environ or ',' not in visible
    return None if chosen else (int(environ[local_id]),)


def _port(job: str) -> int:
    """Returns a port that jobs on one host hardly share, above those that the kernel gives away."""
    return 61440 + zlib.crc32(job.encode()) % 4095
