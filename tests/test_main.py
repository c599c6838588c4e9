"""The command line: what it prints, its exit status, and one line for every mistake."""

import json
import os
import subprocess
import sys

import pytest

import tiny


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def call(*arguments, module='ltjax.main', cwd=tiny.ROOT, python=()):
    environment = os.environ | {'PYTHONPATH': str(tiny.ROOT)}
    environment |= {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}
    return subprocess.run(
        [sys.executable, *python, '-m', module, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
    )


def test_help_does_not_wait_for_jax():
    done = call('--help', python=('-X', 'importtime'))
    assert done.returncode == 0
    assert '--config' in done.stdout
    assert '--workdir' in done.stdout
    imported = {line.split('|')[-1].strip() for line in done.stderr.splitlines()}
    assert 'ml_collections' in imported
    assert not imported & {'jax', 'flax', 'optax', 'tensorboardX'}


LMD = '--config=configs/lmd.py'


@pytest.mark.parametrize(
    ('arguments', 'expected'),
    [
        ((), 'no config: give --config='),
        (
            (LMD, '--config.method.rrl.epoch=3'),
            "'method.rrl.epoch': did you mean method.rrl.epochs",
        ),
        ((LMD, '--config.seeds=3'), "unknown config key 'seeds': did you mean seed"),
        ((LMD, '--config.method.rll.epochs=3'), 'did you mean method.rrl.epochs'),
        ((f'{LMD}:chula',), "unknown benchmark 'chula': did you mean chula_rbc12"),
        ((LMD, '--config.seed=three'), 'three'),
        ((LMD, '--config.method.rrl.enabled=maybe'), 'maybe'),
        ((LMD, 'stray'), "unexpected argument 'stray': values are given as --config.NAME=VALUE"),
        (('--config=configs/lmdd.py',), 'lmdd.py'),
        ((LMD, '--workdr=x'), 'workdr'),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_status_2(arguments, expected):
    done = call(*arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith('error: ')
    assert expected in line
    assert done.stdout == ''


@pytest.mark.slow
def test_mistakes_that_need_the_library_are_one_line_too(tmp_path):
    for change, expected in (
        ('--config.method.name=lmdd', "unknown method 'lmdd': did you mean lmd"),
        ('--config.data.path=absent.npz', 'absent.npz does not exist'),
    ):
        kind = LMD if 'method' in change else f'{LMD}:npz'
        done = call(kind, change, f'--workdir={tmp_path / "run"}', '--compilation_cache=')
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith('error: ')
        assert expected in line
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_run_prints_its_table_and_is_not_repeated(data, tmp_path):
    arguments = (
        '--config=configs/cross_entropy.py:npz',
        f'--config.data.path={data}',
        '--config.model.name=small_cnn',
        '--config.method.train.epochs=1',
        '--config.method.train.batch_size=56',
        '--config.method.train.view=none',
        '--config.num_bootstrap=10',
        f'--workdir={tmp_path / "run"}',
        f'--compilation_cache={tmp_path / "xla"}',
    )
    first = call(*arguments)
    assert first.returncode == 0, first.stderr
    head, *block = first.stderr.splitlines()
    assert head == f'data: {data} (npz)'
    assert block[0] == '  80 images: train 56, val 12, test 12'
    assert all(line.startswith('  ') for line in block)
    assert 'Balanced accuracy' in first.stdout
    assert f'report: {tmp_path / "run" / "report.html"}' in first.stdout
    assert (tmp_path / 'run' / 'report.html').exists()
    values = json.loads((tmp_path / 'run' / 'config.json').read_text('utf-8'))
    assert values['config']['method']['train']['batch_size'] == 56
    assert '--config.method.train.epochs=1' in values['command']

    again = call(*arguments)
    assert again.returncode == 0
    assert again.stderr == ''
    assert 'already holds this run, finished' in again.stdout

    other = call(*arguments, '--config.seed=1')
    assert other.returncode == 2
    assert other.stderr.startswith('error: ')
    assert 'it differs in seed' in other.stderr
    assert len(other.stderr.splitlines()) == 1

    unfinished = call(
        f'--workdir={tmp_path}', f'--data={data}', f'--out={tmp_path / "out.npz"}',
        module='ltjax.predict',
    )  # fmt: skip
    assert unfinished.returncode == 2
    (line,) = unfinished.stderr.splitlines()
    assert line.startswith('error: ')
    assert 'holds no finished run' in line
