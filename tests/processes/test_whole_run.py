"""A whole run through the command, of two processes that end inside a round; then one process ends it."""

import json
import signal
import time

import numpy as np
import pytest

from processes.start import ends, free_port, start

pytestmark = [pytest.mark.processes, pytest.mark.slow]

STEPS, EPOCHS = 100, 4


def train(folder, *flags, devices=1):
    return start(
        *('-m', 'ltjax.main', '--config=configs/cross_entropy.py:npz'),
        *(f'--config.data.path={folder / "data.npz"}', f'--workdir={folder / "run"}'),
        *(f'--config.method.train.epochs={EPOCHS}', '--config.method.train.batch_size=8'),
        *('--config.method.train.view=none', '--config.num_bootstrap=10', '--compilation_cache='),
        *flags,
        JAX_NUM_CPU_DEVICES=str(devices),
    )


def rows(folder):
    text = (folder / 'run' / 'metrics.jsonl').read_text('utf-8')
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    # 10 parts to train on, one each to hold out
    labels = np.tile(np.repeat(np.arange(2), (50, 30)), 12)
    images = rng.integers(0, 150, (960, 6, 6, 1)) + 60 * labels[:, None, None, None]
    split = np.array(['train'] * 800 + ['val'] * 80 + ['test'] * 80)
    np.savez(tmp_path / 'data.npz', images=images.astype('u1'), labels=labels, split=split)
    return tmp_path


def signalled_in_the_second_round(folder, number):
    """Returns how two processes end of which process 1 gets a signal."""
    flags = [f'--coordinator=localhost:{free_port()}', '--num_processes=2']
    pair = [train(folder, *flags, f'--process_id={i}', devices=2) for i in range(2)]
    deadline = time.monotonic() + 240
    log = folder / 'run' / 'metrics.jsonl'
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        if any(process.poll() is not None for process in pair):
            break
        time.sleep(0.05)
    pair[1].send_signal(number)
    return ends(*pair, within=120)


def test_two_processes_stop_inside_a_round_and_one_goes_on(folder):
    done = signalled_in_the_second_round(folder, signal.SIGTERM)
    assert [end[0] for end in done] == [75, 75], done
    assert 'the same command goes on' in done[0][2]
    before = rows(folder)
    assert 0 < len(before) < EPOCHS
    newest = max(int(path.name) for path in (folder / 'run' / 'checkpoints').glob('[0-9]*'))
    assert newest % STEPS != 0  # inside a round

    ((status, _, stderr),) = ends(train(folder), within=240)
    assert status == 0, stderr
    assert 'devices: 4' in stderr  # it says that there are fewer now
    after = rows(folder)
    assert after[: len(before)] == before
    assert [row['step'] for row in after] == [STEPS * (i + 1) for i in range(EPOCHS)]
    results = json.loads((folder / 'run' / 'results.json').read_text('utf-8'))
    assert results['test']['metrics']['balanced_accuracy']['value'] > 0.9
    assert not list((folder / 'run').glob('*.tmp'))


def test_a_process_killed_in_training_ends_the_other(folder):
    first, second = signalled_in_the_second_round(folder, signal.SIGKILL)
    assert second[0] == -9
    assert first[0] in (-6, 1), first
    said = ('The following tasks are unhealthy', 'perhaps because another process is gone')
    assert any(line in first[2] for line in said)
