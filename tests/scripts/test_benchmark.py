"""The benchmark runs at tiny sizes and reports every figure; how fast it is, no test says."""

import importlib.util
import json
import math
import os
import pathlib
import runpy
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'benchmark.py'

KEYS = {
    'virtual_features': {
        'num_classes',
        'feature_dim',
        'per_class',
        'rows_per_class_and_step',
        'draw_features_per_second',
        'm_step_features_per_second',
        'draw_ms',
        'm_step_ms',
        'memory_before_mb',
        'memory_growth_mb',
    },
    'e_step_fdc': {
        'num_classes',
        'feature_dim',
        'batch',
        'pixels',
        'with_fdc_ms',
        'without_fdc_ms',
        'ratio',
        'memory_peak_mb',
        'estimate_images',
        'estimate_seconds',
    },
    'train_step': {
        'batch',
        'pixels',
        'cross_entropy_ms',
        'cross_entropy_images_per_second',
        'rrl_ms',
        'rrl_images_per_second',
        'memory_peak_mb',
    },
}


def run(*arguments, home):
    """Runs the script on the CPU; its compilation cache goes below `home`."""
    environment = os.environ | {'HOME': str(home), 'JAX_PLATFORMS': 'cpu'}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_every_case_reports_finite_figures(tmp_path):
    out = tmp_path / 'benchmark.json'
    done = run('--small', '--out', out, '--only', *KEYS, home=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text('utf-8'))
    assert results == json.loads(done.stdout)
    assert results['small'] is True
    assert set(results['machine']) >= {'cpu', 'cores', 'jax', 'device', 'date'}
    assert [case['per_class'] for case in results['cases']['virtual_features']] == [5000]
    assert set(results['cases']) == set(KEYS)
    for name, measured in results['cases'].items():
        for figures in measured:
            assert set(figures) == KEYS[name]
            growth = figures.pop('memory_growth_mb', 1.0)
            assert math.isfinite(growth)
            assert growth >= 0
            assert all(math.isfinite(value) and value > 0 for value in figures.values()), figures


@pytest.mark.parametrize('only', [['--only', 'beside_torch'], []])
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
        assert set(json.loads(out)['cases']) == set(KEYS)
        assert 'left out: beside_torch needs PyTorch' in err


def fake_job(command, **options):
    return subprocess.CompletedProcess(command, 0, stdout='[{}, {}]')


def test_an_unknown_case_is_refused_in_one_line(tmp_path):
    done = run('--only', 'train_stepp', home=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ''
    assert done.stderr.count('\n') == 1
    assert 'train_stepp' in done.stderr
    assert 'train_step' in done.stderr.replace('train_stepp', '')
