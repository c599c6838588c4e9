"""An installed package needs no clone: configs and data travel in it."""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys

import pytest

import tiny


def can_build():
    if not importlib.util.find_spec('pip'):
        return False
    found = importlib.util.find_spec('setuptools')
    version = importlib.metadata.version('setuptools') if found else '0'
    return int(version.split('.')[0]) >= 77


@pytest.mark.slow
@pytest.mark.skipif(not can_build(), reason='needs pip, and setuptools 77 or newer')
def test_a_wheel_trains_outside_a_clone(tmp_path):
    data = tiny.npz(tmp_path / 'data.npz')
    source, site, here = (tmp_path / name for name in ('source', 'site', 'here'))
    for name in ('ltjax', 'configs'):
        ignored = shutil.ignore_patterns('__pycache__')
        shutil.copytree(tiny.ROOT / name, source / name, ignore=ignored)
    for name in ('pyproject.toml', 'setup.py', 'README.md', 'LICENSE'):
        shutil.copy(tiny.ROOT / name, source)
    here.mkdir()
    pip = [sys.executable, '-m', 'pip', '--disable-pip-version-check', '--quiet', '--no-input']
    wheel = [*pip, 'wheel', '--no-deps', '--no-index', '--no-build-isolation', str(source)]
    subprocess.run([*wheel, '--wheel-dir', str(tmp_path)], check=True)
    (made,) = tmp_path.glob('*.whl')
    subprocess.run(
        [*pip, 'install', '--no-deps', '--no-index', '--target', str(site), str(made)], check=True
    )
    environment = os.environ | {'PYTHONPATH': str(site), 'PYTHONSAFEPATH': '1'}
    environment |= {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'}

    def run(*words):
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            capture_output=True, text=True, cwd=here, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run('-c', 'import ltjax; print(ltjax.__file__)') == f'{site}/ltjax/__init__.py\n'
    small = {
        'data.path': data, 'model.name': 'small_cnn', 'method.train.epochs': 1, 'num_bootstrap': 5,
        'method.train.batch_size': 56, 'method.train.view': 'none',
    }  # fmt: skip
    words = [f'--config.{name}={value}' for name, value in small.items()]
    shown = run(
        site / 'bin' / 'ltjax',
        'train',
        '--config=cross_entropy:npz',
        *words,
        '--compilation_cache=',
    )
    assert 'Balanced accuracy' in shown
    (workdir,) = (here / 'runs').iterdir()
    config = json.loads((workdir / 'config.json').read_text('utf-8'))
    assert config['command'].startswith('ltjax train --config=cross_entropy:npz')
    ours = {name: str(value) if name == 'data.path' else value for name, value in small.items()}
    text = (
        'import ltjax\n'
        "config = ltjax.get_config('configs/cross_entropy.py', 'npz')\n"
        f'config.update_from_flattened_dict({ours!r})\n'
        "results = ltjax.train(config, 'other')\n"
        "again = ltjax.load('other').evaluate(config.data.path, num_bootstrap=5)\n"
        f"print(results['test'] == ltjax.train(config, {str(workdir)!r})['test'])\n"
    )
    assert run('-c', text).splitlines() == ['True']
    assert 'fashion_mnist_lt_mini' in run('-c', 'import ltjax; print(ltjax.get_config("lmd").data)')
    shown = run('-m', 'ltjax.data.show', '--out=views.png', '--images=1', '--draws=1')
    assert shown.startswith('views.png: 1 images')
