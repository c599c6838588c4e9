"""Which process this is: what each scheduler says, and what is refused."""

import pytest

from ltjax.errors import UserError
from ltjax.processes.detection import Member, find


def variables(text):
    return dict(word.split('=', 1) for word in text.split())


SLURM = variables(
    'SLURM_JOB_ID=4711 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=gpu[07-09] SLURM_STEP_NUM_NODES=3 SLURM_STEP_NUM_TASKS=3 '
    'SLURM_NTASKS=3 SLURM_PROCID=2 SLURM_LOCALID=0'
)
SHARED = SLURM | variables('SLURM_STEP_NUM_NODES=1 SLURM_LOCALID=2')
# As Open MPI 5.0.11 sets them, and as jax quotes them of version 4.
OPEN_MPI = variables('OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_LOCAL_RANK=1')
OPEN_MPI_5 = OPEN_MPI | variables(
    'OMPI_COMM_WORLD_LOCAL_SIZE=2 PMIX_NAMESPACE=prterun-node-3-24584@1'
)
OPEN_MPI_4 = OPEN_MPI | variables(
    'OMPI_MCA_orte_hnp_uri=1531576320.0;tcp://10.96.0.1,10.148.0.1:34911'
)
IP_6 = variables('OMPI_MCA_orte_hnp_uri=1314521088.0;tcp6://[fe80::b9b,2620:10d::2]:43370')
TPU = variables('TPU_WORKER_HOSTNAMES=a,b,c,d TPU_WORKER_ID=3')
FLAGS = {'coordinator': 'host:1234', 'num_processes': 2, 'process_id': 1}


@pytest.mark.parametrize(
    ('environ', 'host', 'count', 'process', 'devices'),
    [
        (SLURM, 'gpu07', 3, 2, None),
        (SLURM | {'SLURM_STEP_NODELIST': 'r[1-2]n[03,05]-ib,x'}, 'r1n03-ib', 3, 2, None),
        (SLURM | {'SLURM_STEP_NODELIST': 'login,a[1-2]'}, 'login', 3, 2, None),
        (SHARED, 'gpu07', 3, 2, (2,)),
        (SHARED | {'CUDA_VISIBLE_DEVICES': '0,1,2'}, 'gpu07', 3, 2, (2,)),
        (SHARED | {'CUDA_VISIBLE_DEVICES': '2'}, 'gpu07', 3, 2, None),
        (SHARED | {'JAX_LOCAL_DEVICE_IDS': '0,1'}, 'gpu07', 3, 2, None),
        (OPEN_MPI_5, 'node-3', 2, 1, (1,)),
        (OPEN_MPI_4, '10.96.0.1', 2, 1, None),
        (OPEN_MPI_4 | IP_6, '[fe80::b9b]', 2, 1, None),
        # mpirun inside a SLURM job: its daemons hand their own task's variables down.
        (SLURM | {'SLURM_STEP_NUM_TASKS': '1'} | OPEN_MPI_5, 'node-3', 2, 1, (1,)),
    ],
)
def test_schedulers(environ, host, count, process, devices):
    found = find(environ)
    assert found == Member(found.coordinator, count, process, devices)
    assert found.coordinator.startswith(f'{host}:')
    assert find(environ, coordinator='other:99').coordinator == 'other:99'


@pytest.mark.parametrize('slices', [{}, {'MEGASCALE_NUM_SLICES': '2'}])
def test_a_tpu_pod_is_left_to_jax(slices):
    assert find(TPU | slices, coordinator=None) == Member(by_jax=True)


@pytest.mark.parametrize(
    'environ',
    [
        {},
        SLURM | {'SLURM_STEP_NUM_TASKS': '1', 'SLURM_PROCID': '0'},
        # A batch script that calls python without srun has the job's variables, but no step's.
        {'SLURM_JOB_ID': '4711', 'SLURM_NTASKS': '3', 'SLURM_PROCID': '0'},
        {'TPU_WORKER_HOSTNAMES': 'localhost', 'TPU_WORKER_ID': '0'},
    ],
)
def test_alone(environ):
    assert find(environ) is None
    assert find(environ, **FLAGS | {'num_processes': 1, 'process_id': 0}) is None
    assert find(environ, **FLAGS) == Member('host:1234', 2, 1)


def test_all_processes_of_a_job_find_the_same_port_and_other_jobs_another():
    assert len({find(SLURM | {'SLURM_PROCID': str(i)}).coordinator for i in range(3)}) == 1
    jobs = {find(SLURM | {'SLURM_JOB_ID': str(i)}).coordinator for i in range(50)}
    assert len(jobs) > 40


@pytest.mark.parametrize(
    ('environ', 'flags', 'expected'),
    [
        ({}, FLAGS | {'coordinator': None, 'num_processes': None}, 'need --coordinator and --num'),
        ({}, FLAGS | {'coordinator': 'host'}, "process 0 cannot be at 'host': give --coordinator"),
        ({}, FLAGS | {'process_id': 2}, 'there is no process 2 of 2'),
        (SLURM, {'num_processes': 2}, 'there is no process 2 of 2'),
        (OPEN_MPI_5 | {'PMIX_NAMESPACE': '7'}, {}, 'give --coordinator=HOST:PORT'),
    ],
)
def test_mistakes(environ, flags, expected):
    with pytest.raises(UserError, match=expected):
        find(environ, **flags)
