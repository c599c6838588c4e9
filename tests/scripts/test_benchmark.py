"""The benchmark runs at tiny sizes and its figures hang together; how fast anything is, no test says."""

import dataclasses
import importlib.util
import json
import math
import os
import runpy
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from ltjax.data.prepared import records
from scripts.benchmarks import cold, device, em, files, measure, memory, steps, tables

SCRIPT = tiny.ROOT / 'scripts' / 'benchmark.py'


def positive(figures):
    """Tells whether every number in `figures` is finite and above zero."""
    numbers = [value for value in figures.values() if not isinstance(value, str | list)]
    return all(math.isfinite(value) and value > 0 for value in numbers)


def run(*arguments, home):
    """Runs the script on the CPU; its compilation cache goes below `home`."""
    environment = os.environ | {'HOME': str(home), 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_the_command_reports_what_it_measured_and_writes_a_trace(tmp_path):
    out, traces = tmp_path / 'benchmark.json', tmp_path / 'traces'
    arguments = ('--small', '--out', out, '--profile', traces, '--only', 'virtual_features')
    done = run(*arguments, home=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text('utf-8'))
    assert results == json.loads(done.stdout)
    assert results['small'] is True
    assert set(results['machine']) >= {'cpu', 'cores', 'jax', 'device', 'date'}
    (figures,) = results['cases']['virtual_features']
    assert figures['per_class'] == 5000
    assert list(traces.glob('virtual_features-0/plugins/profile/*/*.xplane.pb'))


@pytest.mark.slow
def test_train_step():
    figures = steps.train_step(small=True)
    assert positive(figures)
    assert figures['batch'] == 8
    for name in ('cross_entropy', 'rrl'):
        seconds = figures[f'{name}_ms'] / 1e3
        assert figures[f'{name}_images_per_second'] == pytest.approx(8 / seconds)


@pytest.mark.slow
def test_cost_on_pretended_devices(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    benchmark = runpy.run_path(str(SCRIPT))
    number = next(
        k for k, case in enumerate(benchmark['CASES']['cost']) if case.keywords.get('devices') == 4
    )
    done = run('--small', '--job', json.dumps(['cost', number]), home=tmp_path)
    assert done.returncode == 0, done.stderr
    machine, figures = json.loads(done.stdout)
    assert machine['devices'] == figures['devices'] == 4
    assert positive(figures)


@pytest.mark.parametrize('only', [['--only', 'epoch_beside_torch'], []])
def test_without_pytorch_the_comparison_with_it_is_refused_or_left_out(monkeypatch, capfd, only):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    benchmark = runpy.run_path(str(SCRIPT))
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setattr(subprocess, 'run', fake_job)
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', '--small', *only])
    if only:
        with pytest.raises(benchmark['UserError'], match=r'pip install'):
            benchmark['main']()
    else:
        benchmark['main']()
        out, err = capfd.readouterr()
        beside = {name for name in benchmark['CASES'] if 'torch' in name}
        assert set(json.loads(out)['cases']) == set(benchmark['CASES']) - beside
        assert len(beside) == 4
        assert all(name in err for name in beside)


def fake_job(command, **options):
    return subprocess.CompletedProcess(command, 0, stdout='[{}, {}]')


def test_a_job_that_fails_ends_the_command(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    benchmark = runpy.run_path(str(SCRIPT))
    failed = subprocess.CompletedProcess([], 3, stdout='')
    monkeypatch.setattr(subprocess, 'run', lambda command, **options: failed)
    monkeypatch.setattr(sys, 'argv', ['benchmark.py', '--only', 'train_step'])
    with pytest.raises(SystemExit) as ended:
        benchmark['main']()
    assert ended.value.code == 3


@pytest.mark.slow
def test_an_unknown_case_is_refused_in_one_line(tmp_path):
    done = run('--only', 'train_stepp', home=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ''
    assert done.stderr.count('\n') == 1
    assert 'train_stepp' in done.stderr
    assert 'train_step' in done.stderr.replace('train_stepp', '')


def test_functions_take_turns_after_a_warm_up():
    called = []
    functions = {name: lambda name=name: called.append(name) for name in 'ab'}
    seconds = measure.median_seconds(functions, 2)
    assert called == ['a', 'b', 'a', 'b', 'a', 'b']
    assert list(seconds) == ['a', 'b']
    called.clear()
    measure.median_seconds(functions, 1, warm=True)
    assert called == ['a', 'b', 'a', 'a', 'b', 'b']


@pytest.mark.slow
def test_virtual_features():
    figures = steps.virtual_features(20, small=True)
    assert positive(figures | {'memory_growth_mb': 1.0})
    assert figures['per_class'] == 20
    seconds = figures['m_step_ms'] / 1e3
    drawn = figures['num_classes'] * figures['rows_per_class_and_step']
    assert figures['m_step_features_per_second'] == pytest.approx(drawn / seconds)


@pytest.mark.slow
def test_e_step_fdc():
    figures = steps.e_step_fdc(small=True)
    assert positive(figures)
    assert figures['ratio'] == pytest.approx(figures['with_fdc_ms'] / figures['without_fdc_ms'])


@pytest.mark.slow
def test_em_round():
    figures = em.alone('resnet18', 14, small=True)
    growth = figures.pop('memory_growth_mb')
    assert growth >= 0
    assert positive(figures)
    assert figures['round_seconds'] == sum(figures[f'{part}_seconds'] for part in em.PARTS)
    assert figures['m_steps'] * figures['m_batch'] >= (
        figures['virtual_per_class'] * figures['num_classes']
    )


@pytest.mark.slow
def test_the_parts_of_an_em_round_do_their_work():
    whole = em.Round('resnet18', 3, small=True)
    before = jax.device_get(whole.state)
    whole.estimate()
    gaussians = whole.state.extra['gaussians']
    assert np.linalg.eigvalsh(np.asarray(gaussians.covariance)).min() > 0
    whole.m_step()
    after = jax.device_get(whole.state)
    assert not tiny.same(before.model['classifier'], after.model['classifier'])
    rows = np.concatenate(whole.batches())
    assert len(np.unique(rows)) == len(rows) == len(whole.labels) // 8 * 8
    value, gradient = whole.consistency(whole.batches()[0])
    assert np.isfinite(value)
    assert np.abs(gradient).max() > 0


@pytest.mark.slow
def test_pipeline():
    figures = files.reading('jpeg', small=True)
    memory = {
        kind: figures[f'memory_mb_after_epochs_of_{kind}'] for kind in ('reading', 'training')
    }
    for kind, after in memory.items():
        assert len(after) == files.EPOCHS
        assert positive(dict(enumerate(after)))
        assert abs(figures.pop(f'memory_growth_{kind}')) < 1
    assert positive(figures)
    speed = {name: figures[f'{name}_images_per_second'] for name in ('pipeline', 'on_device')}
    assert figures['pipeline_over_step'] == speed['pipeline'] / speed['on_device']


def test_growth_of_memory_compares_the_later_epochs_with_the_earlier():
    memory = files.Memory(lambda: None)
    memory.after = [50.0, 100.0, 104.0, 96.0, 100.0, 110.0, 110.0, 300.0, 105.6, 110.0]
    assert memory.growth == pytest.approx(0.1)


def test_a_run_from_files_reads_every_image_from_them(tmp_path, monkeypatch):
    wanted = dataclasses.replace(files.sizes(small=True), pixels=16)
    reader = files.FileRun(tmp_path, 'png', wanted, {})
    decoded, decode = [], records.decode
    monkeypatch.setattr(records, 'decode', lambda *a: decoded.append(1) or decode(*a))
    batches = list(reader.batches(wanted.read))
    assert len(decoded) == wanted.read * wanted.batch
    index = np.concatenate([batch['index'] for batch in batches])
    assert sorted(index) == list(range(len(reader.run.train_labels)))
    image = np.asarray(batches[0]['image'][0])
    np.testing.assert_array_equal(image, files.picture(int(index[0]), wanted.pixels))


def test_where_work_stands_under_the_roof():
    limits = {'ceiling_flops_per_second': 100.0, 'ceiling_bytes_per_second': 10.0}
    heavy = device.placed(flops=1000.0, bytes_=20.0, seconds=20.0, limits=limits)
    assert heavy['bound_by'] == 'compute'
    assert heavy['flops_per_byte'] == 50
    assert heavy['ridge_flops_per_byte'] == 10
    assert heavy['share_of_roof'] == heavy['model_flop_utilisation'] == 0.5
    light = device.placed(flops=10.0, bytes_=20.0, seconds=8.0, limits=limits)
    assert light['bound_by'] == 'memory'
    assert light['share_of_roof'] == light['bandwidth_utilisation'] == 0.25


@pytest.mark.slow
def test_roofline_counts_the_operations_of_a_step():
    figures = device.roofline('resnet18', small=True)
    assert positive(figures)
    # small_cnn: a forward pass by hand; a step is at most three of them, less the first layer's input.
    width, sides = (3, 16, 16, 32, 32, 64, 64), (32, 16, 16, 8, 8, 8)
    products = [9 * a * b * n * n for a, b, n in zip(width, width[1:], sides, strict=False)]
    forward = 2 * figures['batch'] * sum(products) / jax.device_count()
    assert 1.5 * forward < figures['flops'] < 4 * forward


@pytest.mark.slow
@pytest.mark.parametrize('case', [device.cost_train, device.cost_m_step])
def test_cost(case):
    figures = case(small=True)
    assert positive(figures)
    if case is device.cost_m_step:
        seconds = figures['steps_a_round'] * figures['step_ms'] / 1e3
        assert figures['round_seconds'] == pytest.approx(seconds)


def test_tables():
    rows = [
        {'model': 'a', 'ms': 12.3456, 'flops': 2.5e9},
        {'model': 'b', 'ms': 1234.56, 'devices': 2},
    ]
    assert tables.table(rows).splitlines() == [
        '| model | a | b |',
        '| --- | --- | --- |',
        '| ms | 12.3 | 1235 |',
        '| flops | 2.5e+09 |  |',
        '| devices |  | 2 |',
    ]
    assert tables.table([{'n': 1}, {'n': 2}]).splitlines() == ['| n |', '| --- |', '| 1 |', '| 2 |']
    shares = {'share': {'draw': 0.02}, 'memory': [1.0, 2.0]}
    text = tables.markdown({'machine': {'cores': 2}, 'cases': {'pipeline': [shares]}})
    assert text.startswith('cores 2\n\n### pipeline\n\n| share | draw 0.0200 |')
    assert text.endswith('| memory | 1.00, 2.00 |\n')


@pytest.mark.slow
def test_memory_of_a_step_and_what_of_the_forward_pass_is_kept():
    plain, remat = (memory.of_step('resnet18', name, small=True) for name in ('plain', 'remat'))
    for row in (plain, remat):
        assert row['copied_mb'] == 0  # all of the state is donated
        assert row['gradients_mb'] < row['state_mb']
        least = row['kept_mb'] + row['gradients_mb']
        assert row['over_kept'] == pytest.approx(row['temporary_mb'] / least)
    assert remat['kept_mb'] < plain['kept_mb'] / 2


def test_what_is_given_is_not_counted_as_kept():
    def loss(parameters, given):
        return jnp.sin(parameters @ given).sum()

    shapes = jax.ShapeDtypeStruct((3, 4), np.float32), jax.ShapeDtypeStruct((4, 5), np.float32)
    assert memory._kept(loss, *shapes) == 4 * 15  # the cosine, and not `given`


@pytest.mark.slow
def test_a_cold_start_in_its_parts():
    figures = cold.first_round(small=True)
    assert figures['what'] == 'first round'
    parts = [figures[name] for name in ('trace_s', 'lower_s', 'compile_s')]
    assert 0 < sum(parts) < figures['within_train_s'] < figures['process_s']
    assert figures['longest_s'] == sorted(figures['longest_s'])
    assert sum(figures['longest_s']) <= figures['compile_s']
    assert figures['functions'] > 3
    assert figures['again_s'] > 0


@pytest.mark.slow
def test_what_is_compiled_of_a_network():
    figures = cold.compiling('resnet18', small=True)
    assert figures.pop('what') == 'resnet18'
    assert set(figures) == {'initial values', 'initial values, at full effort', 'step'}
    assert all(positive(parts) for parts in figures.values())
