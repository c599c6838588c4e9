"""What scripts/cluster hands to a scheduler: the command inside starts as two processes that find each other.

The schedulers are played: `srun`, `scontrol` and `curl` are small programs that come first in PATH.
"""

import os
import subprocess
import sys

import pytest
import yaml

import tiny
from processes.start import ends, free_port, start

SCRIPTS = tiny.ROOT / 'scripts' / 'cluster'

# The command joins the other process, and only then finds that its data do not exist.
FLAGS = ('--config=configs/lmd.py:npz', '--config.data.path=absent.npz', '--workdir=absent')

SRUN = """
while [[ $1 == --* ]]; do shift; done
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
        return subprocess.run(
            ['bash', str(SCRIPTS / script), *FLAGS],
            capture_output=True,
            text=True,
            cwd=tiny.ROOT,
            env=os.environ | settings | environment,
            timeout=100,
            check=False,
        )

    return run


@pytest.mark.processes
@pytest.mark.slow
def test_slurm(play):
    job = play('slurm.sh', {'srun': SRUN}, SLURM_JOB_ID=str(os.getpid()))
    assert job.returncode == 2
    assert 'absent.npz does not exist' in job.stderr
    assert '[process 1] error' in job.stderr


def test_slurm_requeues_what_was_told_to_stop_and_nothing_else(play, tmp_path):
    for status, said in ((75, 'requeue 12\n'), (1, '')):
        programs = {'srun': f'exit {status}', 'scontrol': f'echo "$@" >> {tmp_path}/said'}
        (tmp_path / 'said').write_text('')
        assert play('slurm.sh', programs, SLURM_JOB_ID='12').returncode == status
        assert (tmp_path / 'said').read_text() == said


@pytest.mark.parametrize('form', ['localhost,{}', 'unknown:unknown:localhost,unknown:unknown:{}'])
def test_tpu_vm(play, form):
    workers = form.format('worker-1')
    curl = f'case "${{@: -1}}" in *endpoints) echo {workers};; *agent-worker-number) echo $WORKER;; esac'
    for worker in '01':
        job = play('tpu_vm.sh', {'curl': curl, 'python': 'echo "$*"'}, WORKER=worker)
        ours = f'--coordinator=localhost:8482 --num_processes=2 --process_id={worker}'
        assert job.stdout == f'-m ltjax.main {ours} {" ".join(FLAGS)}\n'


@pytest.mark.processes
@pytest.mark.slow
def test_kubernetes():
    service, job = yaml.safe_load_all((SCRIPTS / 'kubernetes.yaml').read_text('utf-8'))
    pod = job['spec']['template']['spec']
    (container,) = pod['containers']
    program, *words = container['command']
    # The name of pod 0, as an Indexed Job and its headless service make it.
    host = f'{job["metadata"]["name"]}-0.{service["metadata"]["name"]}:8482'
    assert f'--coordinator={host}' in words
    assert job['spec']['completions'] == job['spec']['parallelism'] == 2
    assert '--num_processes=2' in words
    assert service['spec']['clusterIP'] == 'None'
    assert service['spec']['selector'] == {'job-name': job['metadata']['name']}
    assert pod['subdomain'] == service['metadata']['name']
    mounts = {mount['mountPath'] for mount in container['volumeMounts']}
    assert {volume['name'] for volume in pod['volumes']} == {'data', 'runs'}
    assert all(any(mount in word for word in words) for mount in mounts)
    assert program == 'python'
    (index,) = container['env']
    local = ' '.join(words).replace(host, f'localhost:{free_port()}')
    both = (local.replace(f'$({index["name"]})', str(i)).split() for i in range(2))
    done = ends(*(start(*one, '--config.data.path=absent', '--workdir=absent') for one in both))
    assert [status for status, *_ in done] == [2, 2]
    assert '[process 1] error' in done[1][2]
    assert any('absent does not exist' in stderr for _, _, stderr in done)


def test_the_document_names_every_script():
    text = (tiny.ROOT / 'docs' / 'cluster.md').read_text('utf-8')
    for script in SCRIPTS.iterdir():
        assert f'scripts/cluster/{script.name}' in text
