"""The benchmark runs at tiny sizes and reports every figure; how fast it is, no test says."""

import json
import math
import os
import pathlib
import subprocess
import sys

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
    done = run('--small', '--out', out, home=tmp_path)
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


def test_an_unknown_case_is_refused_in_one_line(tmp_path):
    done = run('--only', 'train_stepp', home=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ''
    assert done.stderr.count('\n') == 1
    assert 'train_stepp' in done.stderr
    assert 'train_step' in done.stderr.replace('train_stepp', '')
