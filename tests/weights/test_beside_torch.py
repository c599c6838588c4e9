"""The benchmark beside PyTorch computes the same on both sides; how fast, no test says."""

import json
import os
import subprocess
import sys

import pytest

import tiny


@pytest.fixture(scope='module')
def measured(tmp_path_factory):
    command = [sys.executable, str(tiny.ROOT / 'scripts' / 'benchmark.py'), '--small', '--only']
    command += [
        'beside_torch',
        'stage1_beside_torch',
        'em_round_beside_torch',
        'epoch_beside_torch',
    ]
    environment = os.environ | {
        'HOME': str(tmp_path_factory.mktemp('home')),
        'JAX_PLATFORMS': 'cpu',
    }
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return {name: figures for name, (figures,) in json.loads(done.stdout)['cases'].items()}


def test_both_sides_start_from_the_same_weights(measured):
    figures = measured['beside_torch']
    assert figures['model'] == 'resnet18'
    assert figures['largest_difference_of_logits'] < 1e-5
    assert figures['forward_ratio_to_fastest_torch'] > 0
    assert figures['train_ratio_to_fastest_torch'] > 0


def test_the_first_stage_of_lmd_has_the_same_losses(measured):
    figures = measured['stage1_beside_torch']
    first, second, third = figures['relative_differences_of_losses']
    assert first < 1e-5
    assert max(second, third) < 0.02  # rounding grows from step to step at a batch of four
    assert len(set(figures['losses'])) == 3


def test_both_ways_of_pytorch_have_our_consistency(measured):
    figures = measured['em_round_beside_torch']
    for way in ('tuned', 'authors'):
        assert figures[f'fdc_difference_to_{way}'] < 1e-3
        assert figures[f'fdc_gradient_difference_to_{way}'] < 1e-2
    parts = ('estimate', 'draw', 'm_step', 'fdc')
    whole = sum(figures[f'torch_authors_{part}_seconds'] for part in parts)
    assert figures['torch_authors_round_seconds'] == pytest.approx(whole)
    assert 0 < min(figures['torch_authors_measured_shares'].values()) < 1
    speedup = whole / figures['ltjax_round_seconds']
    assert figures['speedup_over_torch_authors'] == pytest.approx(speedup)


def test_both_sides_train_from_the_same_files(measured):
    figures = measured['epoch_beside_torch']
    fastest = min(figures['torch_epoch_seconds'], figures['torch_channels_last_epoch_seconds'])
    assert figures['ratio_to_fastest_torch'] == figures['ltjax_epoch_seconds'] / fastest
