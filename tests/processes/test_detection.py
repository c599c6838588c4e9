"""Which process this is: what each scheduler says, and what is refused."""

import pytest

from ltjax import cluster
from ltjax.cluster.environment import first_host
from ltjax.errors import UserError

SLURM = {
    'SLURM_JOB_ID': '4711',
    'SLURM_STEP_ID': '0',
    'SLURM_STEP_NODELIST': 'gpu[07-09]',
    'SLURM_STEP_NUM_NODES': '3',
    'SLURM_STEP_NUM_TASKS': '3',
    'SLURM_NTASKS': '3',
    'SLURM_PROCID': '2',
    'SLURM_LOCALID': '0',
}
OPEN_MPI_5 = {
    'OMPI_COMM_WORLD_SIZE': '2',
    'OMPI_COMM_WORLD_RANK': '1',
    'OMPI_COMM_WORLD_LOCAL_SIZE': '2',
    'OMPI_COMM_WORLD_LOCAL_RANK': '1',
    'PMIX_NAMESPACE': 'prterun-node-3-24584@1',
    'PMIX_HOSTNAME': 'node-4',
}
OPEN_MPI_4 = {
    'OMPI_COMM_WORLD_SIZE': '2',
    'OMPI_COMM_WORLD_RANK': '1',
    'OMPI_COMM_WORLD_LOCAL_SIZE': '1',
    'OMPI_COMM_WORLD_LOCAL_RANK': '0',
    'OMPI_MCA_orte_hnp_uri': '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911',
}
KUBERNETES = {
    'JOB_COMPLETION_INDEX': '1',
    'LTJAX_NUM_PROCESSES': '2',
    'LTJAX_COORDINATOR': 'ltjax-0.ltjax:8476',
}
TPU = {'TPU_WORKER_HOSTNAMES': 'a,b,c,d', 'TPU_WORKER_ID': '3'}
TWO_SLICES = {
    'MEGASCALE_NUM_SLICES': '2',
    'MEGASCALE_SLICE_ID': '1',
    'MEGASCALE_COORDINATOR_ADDRESS': 'first:8080',
}
FLAGS = {'coordinator': 'host:1234', 'num_processes': 2, 'process_id': 1}


def test_alone_without_flags_or_scheduler():
    assert cluster.find({}) is None


def test_one_process_by_flags_is_alone():
    assert cluster.find({}, coordinator='host:1234', num_processes=1, process_id=0) is None


def test_flags():
    found = cluster.find({}, **FLAGS)
    assert (found.host, found.lifeline_port, found.process_id) == ('host', 1235, 1)


def test_an_address_of_version_6():
    found = cluster.find({}, **FLAGS | {'coordinator': '[fe80::1]:1234'})
    assert (found.host, found.lifeline_port) == ('fe80::1', 1235)


@pytest.mark.parametrize(
    ('environ', 'host', 'count', 'process_id', 'devices'),
    [
        (SLURM, 'gpu07', 3, 2, None),
        (OPEN_MPI_5, 'node-3', 2, 1, (1,)),
        (OPEN_MPI_4, '10.96.0.1', 2, 1, None),
        (KUBERNETES, 'ltjax-0.ltjax', 2, 1, None),
        (KUBERNETES | {'LTJAX_PROCESS_ID': '0'}, 'ltjax-0.ltjax', 2, 0, None),
        (TPU, 'a', 4, 3, None),
        (TPU | TWO_SLICES, 'first', 8, 7, None),
        # mpirun inside a SLURM job: its daemons hand their own task's variables down.
        (SLURM | {'SLURM_STEP_NUM_TASKS': '1'} | OPEN_MPI_5, 'node-3', 2, 1, (1,)),
    ],
    ids=['slurm', 'open_mpi_5', 'open_mpi_4', 'kubernetes', 'variables', 'tpu', 'slices', 'mixed'],
)
def test_schedulers(environ, host, count, process_id, devices):
    found = cluster.find(environ)
    assert found.host == host
    assert (found.num_processes, found.process_id) == (count, process_id)
    assert found.local_device_ids == devices
    assert cluster.find(environ, coordinator='other:99').coordinator == 'other:99'


@pytest.mark.parametrize(
    'environ',
    [
        SLURM | {'SLURM_STEP_NUM_TASKS': '1', 'SLURM_PROCID': '0'},
        # A batch script that calls python without srun has the job's variables, but no step's.
        {'SLURM_JOB_ID': '4711', 'SLURM_NTASKS': '3', 'SLURM_PROCID': '0'},
        # An Indexed Job of independent runs.
        {'JOB_COMPLETION_INDEX': '1'},
        {'TPU_WORKER_HOSTNAMES': 'localhost', 'TPU_WORKER_ID': '0'},
    ],
    ids=['one_task', 'no_srun', 'independent', 'one_host'],
)
def test_alone_under_a_scheduler(environ):
    assert cluster.find(environ) is None


def test_all_processes_of_a_job_find_the_same_port_and_other_jobs_another():
    tasks = [cluster.find(SLURM | {'SLURM_PROCID': str(i)}) for i in range(3)]
    assert len({task.coordinator for task in tasks}) == 1
    jobs = [cluster.find(SLURM | {'SLURM_JOB_ID': str(i)}).lifeline_port for i in range(50)]
    assert len(set(jobs)) > 40
    assert all(61440 < port < 65535 and port % 2 for port in jobs)


@pytest.mark.parametrize(
    ('changes', 'devices'),
    [
        ({}, (2,)),
        ({'CUDA_VISIBLE_DEVICES': '0,1,2,3'}, (2,)),
        ({'CUDA_VISIBLE_DEVICES': '2'}, None),
        ({'JAX_LOCAL_DEVICE_IDS': '0,1'}, None),
        ({'SLURM_STEP_NUM_NODES': '4'}, None),
    ],
    ids=['nothing', 'all', 'bound', 'chosen', 'one_task_a_node'],
)
def test_processes_that_share_a_host_share_its_devices(changes, devices):
    shared = SLURM | {
        'SLURM_STEP_NUM_TASKS': '4',
        'SLURM_STEP_NUM_NODES': '1',
        'SLURM_LOCALID': '2',
    }
    assert cluster.find(shared | changes).local_device_ids == devices


@pytest.mark.parametrize(
    ('nodes', 'first'),
    [
        ('login', 'login'),
        ('a1,b2', 'a1'),
        ('a[01-04,7],b', 'a01'),
        ('a[7,01-04]', 'a7'),
        ('r[1-2]n[03,05]-ib,x', 'r1n03-ib'),
        ('b,a[1-2]', 'b'),
    ],
)
def test_node_lists(nodes, first):
    assert first_host(nodes) == first


@pytest.mark.parametrize(
    ('environ', 'flags', 'expected'),
    [
        ({}, {'process_id': 1}, 'need --coordinator and --num_processes too'),
        ({}, FLAGS | {'coordinator': None}, 'need --coordinator too'),
        ({}, FLAGS | {'coordinator': 'host'}, "'host' (flags) is no address"),
        ({}, FLAGS | {'coordinator': 'host:65535'}, 'with a port below 65535'),
        ({}, FLAGS | {'coordinator': 'fe80::1:1234'}, 'is no address'),
        ({}, FLAGS | {'process_id': 2}, 'process 2 of 2 (flags) cannot be'),
        ({}, FLAGS | {'process_id': -1}, 'process -1 of 2 (flags) cannot be'),
        (
            SLURM,
            FLAGS | {'num_processes': 3},
            '--process_id=1, but SLURM says 2: leave the flag out',
        ),
        (SLURM, {'num_processes': 4}, '--num_processes=4, but SLURM says 3'),
        (SLURM | {'SLURM_PROCID': 'x'}, {}, 'SLURM_PROCID is x: it must be a number'),
        ({'LTJAX_COORDINATOR': 'host:1'}, {}, 'LTJAX_NUM_PROCESSES is not set'),
        (KUBERNETES | {'LTJAX_COORDINATOR': ''}, {}, "'' (LTJAX_*) is no address"),
        (OPEN_MPI_5 | {'PMIX_NAMESPACE': '7'}, {}, 'give --coordinator=HOST:PORT'),
    ],
)
def test_mistakes(environ, flags, expected):
    with pytest.raises(UserError) as caught:
        cluster.find(environ, **flags)
    assert expected in str(caught.value)
    assert '\n' not in str(caught.value)
