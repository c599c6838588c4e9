"""The measurement on an accelerator keeps what it has, whatever becomes of a part; it says how fast, no test does."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

import tiny
from scripts.benchmarks import depthwise, kernels, loops, tables

SCRIPT = tiny.ROOT / 'scripts' / 'accelerator.py'


def start(out, *arguments, path=''):
    """Starts the script on the CPU; its compilation cache goes below `out`, and Python looks in `path` first."""
    environment = os.environ | {
        'HOME': str(out),
        'JAX_PLATFORMS': 'cpu',
        'PYTHONPATH': os.pathsep.join(filter(None, (str(path), str(tiny.ROOT)))),
    }
    command = [sys.executable, str(SCRIPT), '--out', str(out), '--small', *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def run(out, *arguments, **options):
    """Runs the script; returns its status, what it printed, what it said and what it wrote."""
    process = start(out, *arguments, **options)
    printed, said = process.communicate()
    results = out / 'results.json'
    parts = json.loads(results.read_text('utf-8'))['parts'] if results.exists() else {}
    return process.returncode, printed, said, parts


@pytest.mark.slow
@pytest.mark.processes
def test_what_was_measured_and_what_did_not_fit_into_the_time(tmp_path):
    status, printed, _, parts = run(tmp_path, '--only', 'versions', 'tests', '--minutes', '0.3')
    assert status == 0
    assert list(parts) == ['versions', 'tests']
    (row,) = parts['versions']['rows']
    assert row['device'] == 'cpu'
    assert row['jax'] == jax.__version__
    assert parts['versions']['status'] == 'done'
    assert 0 < parts['versions']['seconds'] < parts['versions']['limit'] <= 18
    assert parts['tests']['status'] == 'left out'
    assert '60' in parts['tests']['why']
    assert printed == (tmp_path / 'summary.md').read_text('utf-8')
    assert jax.__version__ in printed
    assert parts['tests']['why'] in printed


@pytest.mark.slow
@pytest.mark.processes
def test_a_part_that_fails_or_runs_into_its_limit_does_not_stop_the_others(tmp_path):
    broken = tmp_path / 'path'
    broken.mkdir()
    (broken / 'torch.py').write_text('raise OSError("libcuda is lost")\n')
    only = ('--only', 'beside_torch', 'em_round', 'versions', '--limit', 'em_round=0.6')
    status, printed, _, parts = run(tmp_path, *only, path=broken)
    assert status == 1
    assert parts['beside_torch']['status'] == 'failed'
    assert parts['beside_torch']['output'][-1] == 'OSError: libcuda is lost'
    assert parts['em_round']['status'] == 'ran into its limit'
    assert 0.6 <= parts['em_round']['seconds'] < 5
    assert parts['versions']['status'] == 'done'
    assert len(parts['versions']['rows']) == 1
    assert 'libcuda is lost' in printed


@pytest.mark.slow
@pytest.mark.processes
def test_a_run_told_to_end_keeps_what_it_has_and_ends_its_part(tmp_path):
    process, results = start(tmp_path, '--only', 'versions', 'em_round'), tmp_path / 'results.json'
    started, job = '{}', ''
    while process.poll() is None and not ('em_round' in started and job):
        time.sleep(0.1)
        started = results.read_text('utf-8') if results.exists() else '{}'
        command = ['ps', '-o', 'pid=', '--ppid', str(process.pid)]
        job = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    parts = json.loads(results.read_text('utf-8'))['parts']
    assert parts['versions']['status'] == 'done'
    assert parts['em_round']['status'] == 'under way'
    with pytest.raises(ProcessLookupError):
        os.kill(int(job), 0)


@pytest.mark.parametrize(
    ('arguments', 'named'),
    [(('--only', 'depthwize'), 'depthwise'), (('--limit', 'file=1'), 'files')],
)
def test_an_unknown_part_is_refused_in_one_line(tmp_path, arguments, named):
    status, printed, said, parts = run(tmp_path, *arguments)
    assert (status, printed, parts) == (2, '', {})
    assert said.count('\n') == 1
    assert named in said


def event(name, tid, ts, dur, pid=1, **arguments):
    return {
        'ph': 'X', 'name': name, 'pid': pid, 'tid': tid, 'ts': ts, 'dur': dur, 'args': arguments
    }  # fmt: skip


def test_kernels_of_a_gpu_are_what_its_streams_ran():
    names = [(1, 7, 'Stream #7(Compute)'), (1, 8, 'XLA Ops'), (2, 7, 'Stream of thoughts')]
    trace = {
        'traceEvents': [
            {'ph': 'M', 'name': 'process_name', 'pid': 1, 'args': {'name': '/device:GPU:0'}},
            {'ph': 'M', 'name': 'process_name', 'pid': 2, 'args': {'name': '/host:CPU'}},
            *(
                {'ph': 'M', 'name': 'thread_name', 'pid': p, 'tid': t, 'args': {'name': name}}
                for p, t, name in names
            ),
            event('gemm', 7, 0.0, 1500.0, hlo_op='dot.1'),
            event('fusion', 7, 1500.0, 4000.0),
            event('gemm', 7, 6000.0, 500.0, hlo_op='dot.2'),
            event('dot.1', 8, 0.0, 1500.0, hlo_op='dot.1'),
            event('call', 7, 0.0, 9000.0, pid=2),
            {},
        ]
    }
    events = kernels.device_events(trace, accelerator=True)
    assert kernels.by_kernel(events) == [
        {'kernel': 'fusion', 'ms': 4.0, 'runs': 1, 'operation': ''},
        {'kernel': 'gemm', 'ms': 2.0, 'runs': 2, 'operation': 'dot.1'},
    ]
    trace['traceEvents'] = trace['traceEvents'][:5]
    with pytest.raises(ValueError, match=r'only .*GPU:0: XLA Ops'):
        kernels.device_events(trace, accelerator=True)


def test_a_trace_has_the_operations_of_a_function_and_stays_only_if_wanted(tmp_path):
    product = jax.jit(lambda x: x @ x)
    x = jnp.ones((64, 64))
    events = kernels.traced(lambda: product(x).block_until_ready(), tmp_path / 'kept')
    found = kernels.by_kernel(events)
    assert found
    assert all(kernel['operation'] and kernel['ms'] > 0 for kernel in found)
    assert list(tmp_path.glob('kept/plugins/profile/*/*.trace.json.gz'))


@pytest.mark.parametrize('part', ['step', 'to_kernel'])
def test_both_depthwise_convolutions_do_the_same(part):
    figures = depthwise.compare(8, 7, part, small=True)
    assert figures['largest_relative_difference'] < 1e-5
    ratio = figures['taps_ms'] / figures['library_ms']
    assert figures['taps_over_library'] == pytest.approx(ratio)


@pytest.mark.slow
def test_single_and_many_steps_read_new_images_and_those_alone_the_same(monkeypatch):
    run = loops.LoopRun('small_cnn', 8, batch=8, images=64, steps=3)
    seen, step, steps = [], run._step, run._steps

    def many(state, data, key, first, count):
        rows = data[1][''][:count].tolist()
        seen.extend((row, int(first) + at) for at, row in enumerate(rows))
        return steps(state, data, key, first, count)

    monkeypatch.setattr(
        run, '_step', lambda *a: seen.append((a[1]['index'].tolist(), int(a[3]))) or step(*a)
    )
    monkeypatch.setattr(run, '_steps', many)
    assert run.single() > 0
    run.alone()
    assert run.many() > 0
    index, numbers = zip(*seen, strict=True)
    assert numbers == tuple(range(9))
    assert index[3] == index[4] == index[5]
    in_loops = [*index[:3], *index[6:]]
    assert len({tuple(sorted(batch)) for batch in in_loops}) == 6


def test_a_measurement_a_line():
    assert tables.rows([{'a': 1, 'b': 2.5}]).splitlines() == [
        '| a | b |',
        '| --- | --- |',
        '| 1 | 2.50 |',
    ]
