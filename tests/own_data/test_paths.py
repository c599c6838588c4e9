"""The user's home is meant by ~ in every path, also where a shell leaves it alone."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import tiny
from ltjax import export, predict
from ltjax.data import show
from ltjax.data.audit import __main__ as audit
from ltjax.files import user_path
from ltjax.run import cross_validation, train
from own_data.sets import config, folder

pytestmark = pytest.mark.usefixtures('traced_once')


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'home').mkdir()
    return tmp_path / 'home'


def made(path, **changes):
    config_ = tiny.config('cross_entropy', path, {'method.train.epochs': 1, 'num_bootstrap': 2})
    config_.data = config(path)
    config_.data.path = '~/set'
    config_.update_from_flattened_dict(changes)
    return config_


@pytest.mark.slow
def test_home_is_expanded_in_every_command(home, tmp_path, capsys):
    path = folder(home / 'set', {'a': 12, 'b': 12})
    train.run(made(path), user_path('~/run'))
    new = folder(home / 'new', {'a': 2})
    for out in ('~/out.csv', '~/out.npz'):
        predict.main(['--workdir=~/run', '--data=~/new', f'--out={out}'])
    export.main(['--workdir=~/run', '--out=~/model.safetensors', '--layout=original'])
    assert audit.main(['~/set', '--json=~/a.json', '--write-split=~/split.csv']) == 0
    show.main(['--out=~/v.png', '--data=~/set', '--images=1', '--draws=1'])
    folds_ = made(path, **{'data.split.folds': 2, 'data.split.fold': cross_validation.ALL})
    cross_validation.run(folds_, user_path('~/folds'))
    left = {'out.csv', 'out.npz', 'model.safetensors', 'a.json', 'split.csv', 'v.png', 'folds'}
    assert left <= {each.name for each in home.iterdir()}
    assert [each.name for each in tmp_path.iterdir()] == ['home']
    assert new.exists()
    assert json.loads((home / 'run' / 'results.json').read_text('utf-8'))['data']['where'] == str(
        path
    )


@pytest.mark.slow
def test_a_first_stage_is_found_at_home(home):
    path = folder(home / 'set', {'a': 12, 'b': 12})

    def two(**changes):
        config_ = tiny.config('crt', path, {'num_bootstrap': 2})
        config_.data = config(path)
        config_.update_from_flattened_dict(changes)
        return config_

    train.run(two(), home / 'first')
    train.run(two(start_from='~/first'), home / 'second')


@pytest.mark.slow
def test_the_flags_of_training_are_expanded(home):
    folder(home / 'set', {'a': 12, 'b': 12})
    small = ('model.name=small_cnn', 'method.train.epochs=1', 'method.train.batch_size=16')
    small += ('method.train.view=none', 'num_bootstrap=2', 'data.path=~/set')
    command = [sys.executable, '-m', 'ltjax.main', '--config=configs/cross_entropy.py:folder']
    command += [f'--config.{each}' for each in small]
    command += ['--workdir=~/run', '--compilation_cache=~/xla']
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
    done = subprocess.run(
        command, cwd=tiny.ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (home / 'run' / 'results.json').exists()
    assert done.stderr.startswith(f'data: {home / "set"} (folder)')
    assert not (tiny.ROOT / '~').exists()


def test_a_name_that_only_begins_like_a_home_is_left_alone():
    assert user_path('~nobody-of-this-name/x') == pathlib.Path('~nobody-of-this-name/x')
    assert user_path('a/~/b') == pathlib.Path('a/~/b')
