"""What scripts/cluster hands to a scheduler: the command inside starts as two processes that find each other.

The schedulers are played: `srun`, `scontrol` and `curl` are small programs that come first in PATH.
"""

import os
import pathlib
import subprocess
import sys

import pytest
import yaml

import tiny
from cluster.ports import free_port

SCRIPTS = tiny.ROOT / 'scripts' / 'cluster'

# The command joins the other process, and only then finds that its data do not exist.
FLAGS = ('--config=configs/lmd.py:npz', '--config.data.path=absent.npz', '--workdir=absent')

SRUN = """
options=(); while [[ $1 == --* ]]; do shift; done
export SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NUM_NODES=2 SLURM_LOCALID=0
SLURM_PROCID=1 "$@" & other=$!
SLURM_PROCID=0 "$@"; status=$?
wait $other
exit $status
"""


@pytest.fixture
def play(tmp_path):
    """Runs a script of scripts/cluster with FLAGS, among programs that are given as bash."""

    def run(script, programs, **environment):
        python = f'exec {sys.executable} "$@"'
        for name, text in ({'python': python} | programs).items():
            (tmp_path / name).write_text(f'#!/bin/bash\n{text}\n')
            (tmp_path / name).chmod(0o755)
        path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
        settings = {'PATH': path, 'PYTHONPATH': str(tiny.ROOT), 'JAX_PLATFORMS': 'cpu'}
        return subprocess.Popen(
            ['bash', str(SCRIPTS / script), *FLAGS],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tiny.ROOT,
            env=os.environ | settings | environment,
        )

    return run


def ends_by_the_missing_file(stderr: str) -> bool:
    lines = [line for line in stderr.splitlines() if 'error' in line]
    return any('absent.npz does not exist' in line for line in lines)


def test_slurm(play):
    job = play('slurm.sh', {'srun': SRUN}, SLURM_JOB_ID=str(os.getpid()))
    _, stderr = job.communicate(timeout=60)
    assert job.returncode == 2
    assert ends_by_the_missing_file(stderr)
    assert '[process 1] error' in stderr


def test_slurm_requeues_what_was_told_to_stop_and_nothing_else(play, tmp_path):
    for status, said in ((75, 'requeue 12\n'), (1, '')):
        programs = {'srun': f'exit {status}', 'scontrol': f'echo "$@" >> {tmp_path}/said'}
        (tmp_path / 'said').write_text('')
        job = play('slurm.sh', programs, SLURM_JOB_ID='12')
        job.communicate(timeout=60)
        assert job.returncode == status
        assert (tmp_path / 'said').read_text() == said


@pytest.mark.parametrize(
    'form', ['localhost,{other}', 'unknown:unknown:localhost,unknown:unknown:{other}']
)
def test_tpu_vm(play, form):
    workers = form.format(other='worker-1')
    curl = f'case "${{@: -1}}" in *endpoints) echo {workers};; *agent-worker-number) echo $WORKER;; esac'
    ports = {'python': 'echo "$LTJAX_COORDINATOR $LTJAX_NUM_PROCESSES $LTJAX_PROCESS_ID $*"'}
    for worker in '01':
        job = play('tpu_vm.sh', {'curl': curl} | ports, WORKER=worker)
        stdout, _ = job.communicate(timeout=60)
        assert stdout == f'localhost:8482 2 {worker} -m ltjax.main {" ".join(FLAGS)}\n'


def test_kubernetes():
    service, job = yaml.safe_load_all((SCRIPTS / 'kubernetes.yaml').read_text('utf-8'))
    pod = job['spec']['template']['spec']
    (container,) = pod['containers']
    environment = {entry['name']: entry['value'] for entry in container['env']}
    assert job['spec']['completions'] == job['spec']['parallelism'] == 2
    assert environment['LTJAX_NUM_PROCESSES'] == '2'
    # The name of pod 0, as an Indexed Job and its headless service make it.
    name = f'{job["metadata"]["name"]}-0.{service["metadata"]["name"]}'
    assert environment['LTJAX_COORDINATOR'] == f'{name}:8482'
    assert service['spec']['clusterIP'] == 'None'
    assert service['spec']['selector'] == {'job-name': job['metadata']['name']}
    assert pod['subdomain'] == service['metadata']['name']
    mounts = {mount['mountPath'] for mount in container['volumeMounts']}
    assert {volume['name'] for volume in pod['volumes']} == {'data', 'runs'}

    program, *words = container['command']
    assert program == 'python'
    assert all(any(mount in word for word in words) for mount in mounts)
    environment['LTJAX_COORDINATOR'] = f'localhost:{free_port()}'
    started = [
        subprocess.Popen(
            [sys.executable, *words, '--config.data.path=absent', '--workdir=absent'],
            stderr=subprocess.PIPE,
            text=True,
            cwd=tiny.ROOT,
            env=os.environ
            | environment
            | {'JOB_COMPLETION_INDEX': str(index), 'JAX_PLATFORMS': 'cpu'},
        )
        for index in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [2, 2]
    assert '[process 1] error' in said[1]
    assert any('absent does not exist' in text for text in said)


def test_the_document_names_every_script():
    text = pathlib.Path(tiny.ROOT / 'docs' / 'cluster.md').read_text('utf-8')
    for script in SCRIPTS.iterdir():
        assert f'scripts/cluster/{script.name}' in text
