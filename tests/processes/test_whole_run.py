"""A whole run through the command: two processes, told to stop inside a round; then one process ends it."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cluster.ports import free_port

ROOT = pathlib.Path(__file__).resolve().parents[2]
STEPS, EPOCHS = 100, 4


def start(folder, process=None, port=0, devices=1):
    command = [
        *(sys.executable, '-m', 'ltjax.main', '--config=configs/cross_entropy.py:npz'),
        *(f'--config.data.path={folder / "data.npz"}', f'--workdir={folder / "run"}'),
        *(f'--config.method.train.epochs={EPOCHS}', '--config.method.train.batch_size=8'),
        *('--config.method.train.view=none', '--config.num_bootstrap=10', '--compilation_cache='),
    ]
    if process is not None:
        command += [f'--coordinator=localhost:{port}', '--num_processes=2']
        command += [f'--process_id={process}']
    platform = {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)}
    with (folder / f'{process}.log').open('w') as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, cwd=ROOT, env=os.environ | platform
        )


def rows(folder):
    path = folder / 'run' / 'metrics.jsonl'
    text = path.read_text('utf-8') if path.exists() else ''
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.tile(
        np.repeat(np.arange(2), (50, 30)), 12
    )  # 10 parts to train on, one each to hold out
    images = rng.integers(0, 150, (960, 6, 6, 1)) + 60 * labels[:, None, None, None]
    split = np.array(['train'] * 800 + ['val'] * 80 + ['test'] * 80)
    np.savez(tmp_path / 'data.npz', images=images.astype('u1'), labels=labels, split=split)
    return tmp_path


def test_two_processes_stop_inside_a_round_and_one_goes_on(folder):
    port = free_port()
    processes = [start(folder, process, port, devices=2) for process in range(2)]
    try:
        deadline = time.monotonic() + 240
        while not rows(folder):
            logs = [(folder / f'{i}.log').read_text() for i in range(2)]
            assert time.monotonic() < deadline, logs
            assert [process.poll() for process in processes] == [None, None], logs
            time.sleep(0.05)
        processes[1].send_signal(signal.SIGTERM)
        statuses = [process.wait(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    logs = [(folder / f'{i}.log').read_text() for i in range(2)]
    assert statuses == [75, 75], logs
    assert 'the same command goes on' in logs[0]
    before = rows(folder)
    assert len(before) < EPOCHS
    newest = max(int(path.name) for path in (folder / 'run' / 'checkpoints').glob('[0-9]*'))
    assert newest % STEPS != 0  # inside a round

    alone = start(folder)
    assert alone.wait(timeout=240) == 0, (folder / 'None.log').read_text()
    log = (folder / 'None.log').read_text()
    assert 'devices: 4' in log  # it says that there are fewer now
    after = rows(folder)
    assert after[: len(before)] == before
    assert [row['step'] for row in after] == [STEPS * (i + 1) for i in range(EPOCHS)]
    results = json.loads((folder / 'run' / 'results.json').read_text('utf-8'))
    assert results['test']['metrics']['balanced_accuracy']['value'] > 0.9
    assert not list((folder / 'run').glob('*.tmp'))
