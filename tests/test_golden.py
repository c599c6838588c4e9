"""Every golden file against our functions, in float64 and in float32.

The files lie under tests/golden; the environment variable LTJAX_GOLDEN names another root to walk.
"""

import importlib
import os
from pathlib import Path

import jax
import numpy as np
import pytest

from golden_checks import CHECKS, TOLERANCES
from golden_checks.compare import Judged, cast_inputs, failures

ROOT = Path(os.environ.get('LTJAX_GOLDEN') or Path(__file__).parent / 'golden')
FILES = sorted(ROOT.rglob('*.npz'))
MODEL_FILES = [path for path in FILES if path.parent.name == 'models']
ARRAY_FILES = [path for path in FILES if path.parent.name != 'models']
QUICK = [path for path in ARRAY_FILES if path.parent.name == 'seeds' and 'lmd' in path.stem]


def name_of(path):
    return str(path.relative_to(ROOT).with_suffix(''))


def walk(path, dtype):
    """Returns what is wrong with our values for one file, a line for each key."""
    if path.stem not in CHECKS:
        return [f'no check for {path.name}: add one to tests/golden_checks']
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    with jax.enable_x64(dtype == np.float64):
        results = CHECKS[path.stem](cast_inputs(arrays, dtype), dtype)
        return failures(arrays, results, TOLERANCES.get(path.stem, {}), dtype)


def test_there_are_golden_files():
    assert ARRAY_FILES, f'no .npz files under {ROOT}'


@pytest.mark.parametrize(
    ('path', 'dtype'),
    [
        pytest.param(
            path,
            dtype,
            marks=[] if path in QUICK and dtype == np.float64 else pytest.mark.slow,
            id=f'{name_of(path)}-{np.dtype(dtype)}',
        )
        for path in ARRAY_FILES
        for dtype in (np.float64, np.float32)
    ],
)
def test_values_and_gradients(path, dtype):
    wrong = walk(path, dtype)
    assert not wrong, '\n'.join([name_of(path), *wrong])


@pytest.mark.slow
@pytest.mark.parametrize('path', MODEL_FILES or [None], ids=lambda p: name_of(p) if p else 'none')
def test_models(path):
    if path is not None:
        kind = 'vits' if path.name.startswith('vit_') else 'models'
        importlib.import_module(f'golden_checks.{kind}').check(path)


def test_a_file_without_a_check_fails(tmp_path):
    path = tmp_path / 'never_heard_of.npz'
    np.savez(path, out_loss=1.0)
    assert walk(path, np.float32) == [
        'no check for never_heard_of.npz: add one to tests/golden_checks'
    ]


def test_wrong_and_missing_values_fail():
    arrays = {
        'in_x': np.zeros(2),
        'out_missing': np.ones(1),
        'out_close': np.array([1.0, 100.0]),
        'out_far': np.array([1.0, 100.0]),
        'out_nan': np.ones(1),
        'out_shape': np.ones(2),
        'out_integer': np.array([1, 2]),
        'out_judged': np.ones(1),
        'grad_loose': np.ones(1),
    }
    results = {
        'out_close': np.array([1.001, 100.0]),
        'out_far': np.array([1.01, 100.0]),
        'out_nan': np.full(1, np.nan),
        'out_shape': np.ones(1),
        'out_integer': np.array([1, 3]),
        'out_judged': Judged(lambda want: 'refused'),
        'grad_loose': np.array([1.4]),
    }
    overrides = {'grad_*': (0.5, 0.5)}
    wrong = failures(arrays, results, overrides, np.float32)
    assert [line.split(':')[0] for line in wrong] == [
        'out_missing',
        'out_far',
        'out_nan',
        'out_shape',
        'out_integer',
        'out_judged',
    ]
    assert len(failures(arrays, results, overrides, np.float64)) == 7
