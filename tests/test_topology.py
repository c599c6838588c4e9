"""The same training on 1 to 8 devices, with a sharded state, in parts of a batch, and in two processes.

Only the order of float32 sums differs. What a step computes agrees to about 1e-6; what a few steps of a rectified
network make of that is within TOLERANCE.
"""

import functools
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

import tiny
import topology
from ltjax import sharding

TOLERANCE = {'rtol': 2e-3, 'atol': 2e-3}
LOSS = 1e-4

# The reference has eight devices.
OTHERS = {
    'one device': {'devices': 1},
    'two devices': {'devices': 2},
    'four devices': {'devices': 4},
    'state over four': {'devices': 8, 'fsdp': 4},
    'two parts': {'devices': 4, 'accumulate': 2},
    'state over two, two parts': {'devices': 4, 'fsdp': 2, 'accumulate': 2},
}
# All methods have one device, and all at once; the first has each by itself, too. LTJAX_TEST_ALL=1: all have all.
AT_ONCE = ('one device', 'state over two, two parts')
BETWEEN = ('two devices', 'four devices')
CASES = [
    (method, where)
    for method in topology.METHODS
    for where in OTHERS
    if tiny.ALL or where in AT_ONCE or (method == topology.METHODS[0] and where not in BETWEEN)
]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def reference(data, tmp_path_factory):
    return functools.cache(
        lambda method: topology.train(method, data, tmp_path_factory.mktemp('eight'))
    )


@pytest.fixture(scope='module')
def two_processes(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('processes')
    with socket.socket() as free:
        free.bind(('localhost', 0))
        address = f'localhost:{free.getsockname()[1]}'
    script = pathlib.Path(topology.__file__)
    environment = os.environ | {
        'PYTHONPATH': f'{tiny.ROOT}{os.pathsep}{script.parent}',
        'JAX_COMPILATION_CACHE_DIR': jax.config.jax_compilation_cache_dir,
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    workers = []
    for process in range(2):
        arguments = [address, str(process), '2', str(data), str(folder), *topology.METHODS]
        with (folder / f'{process}.log').open('w') as log:
            command = [sys.executable, str(script), *arguments]
            workers.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    try:
        for process, worker in enumerate(workers):
            assert worker.wait(timeout=600) == 0, (folder / f'{process}.log').read_text()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return folder


def assert_same(found, wanted):
    values, rows, seen = found
    expected, expected_rows, expected_seen = wanted
    assert seen == expected_seen
    assert len(rows) == len(expected_rows)
    for row, expected_row in zip(rows, expected_rows, strict=True):
        assert row.keys() == expected_row.keys()
        assert row['loss'] == pytest.approx(expected_row['loss'], rel=LOSS)
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, **TOLERANCE, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(('method', 'where'), CASES)
def test_devices_do_not_matter(reference, method, where, data, tmp_path, monkeypatch):
    wanted = reference(method)
    monkeypatch.setattr(sharding, 'WHOLE_BELOW', 0)  # so that fsdp splits even these small arrays
    setting = dict(OTHERS[where])
    devices = jax.devices()[: setting.pop('devices')]
    overrides = {'accumulate': setting.pop('accumulate', 1)}
    found = topology.train(method, data, tmp_path, overrides, devices=devices, **setting)
    assert_same(found, wanted)


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize('method', topology.METHODS)
def test_processes_do_not_matter(reference, method, two_processes, data, monkeypatch):
    rows, seen = json.loads((two_processes / f'{method}.json').read_text('utf-8'))
    with np.load(two_processes / f'{method}.npz') as archive:
        theirs = dict(archive)
    assert_same((theirs, rows, seen), reference(method))
    # What they saved is read on eight devices of one process, the state split in another way.
    monkeypatch.setattr(sharding, 'WHOLE_BELOW', 0)
    ours, _, trained = topology.train(method, data, two_processes / 'run' / method, fsdp=2)
    assert trained == []
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, err_msg=name)
