"""The benchmark beside PyTorch computes the same on both sides; how fast, no test says."""

import json
import os
import subprocess
import sys

import tiny


def test_both_sides_start_from_the_same_weights(tmp_path):
    command = [sys.executable, str(tiny.ROOT / 'scripts' / 'benchmark.py'), '--small']
    command += ['--only', 'beside_torch']
    environment = os.environ | {'HOME': str(tmp_path), 'JAX_PLATFORMS': 'cpu'}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    (figures,) = json.loads(done.stdout)['cases']['beside_torch']
    assert figures['model'] == 'resnet18'
    assert figures['largest_difference_of_logits'] < 1e-5
    assert figures['forward_ratio_to_fastest_torch'] > 0
    assert figures['train_ratio_to_fastest_torch'] > 0
