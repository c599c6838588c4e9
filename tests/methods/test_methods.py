"""The list of methods, and the two-line baselines."""

import dataclasses
import importlib

import jax
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import methods
from ltjax.engine import loop
from ltjax.engine.state import flatten, parameter_filter
from ltjax.errors import UserError
from ltjax.methods import __main__ as printed
from ltjax.methods.catalog import METHODS
from ltjax.methods.task import Task


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def test_every_config_is_a_method_with_a_family_and_the_list_has_no_other():
    assert set(methods.names()) == set(tiny.CONFIGS)
    families = {METHODS[name].family for name in methods.names()}
    for family in families:
        module = importlib.import_module(f'ltjax.methods.{family}')
        assert callable(module.recipe)
        assert dataclasses.is_dataclass(module.Config)
    titles = [method.title for method in METHODS.values()]
    assert len(set(titles)) == len(titles)


def test_a_config_is_of_its_own_method():
    for name in tiny.CONFIGS:
        made = importlib.import_module(f'configs.{name}').get_config()
        assert made.method.name == name


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(
        UserError, match="unknown method 'cross_entopy': did you mean cross_entropy"
    ):
        methods.get('cross_entopy')
    with pytest.raises(UserError, match="unknown method 'task'"):
        methods.get('task')


def test_the_list_is_printed_and_is_the_page_of_the_docs(monkeypatch, capsys):
    page = (tiny.ROOT / 'docs' / 'methods.md').read_text('utf-8')
    monkeypatch.setattr('sys.argv', ['ltjax.methods', '--markdown'])
    printed.cli()
    assert capsys.readouterr().out == page
    monkeypatch.setattr('sys.argv', ['ltjax.methods'])
    printed.cli()
    shown = capsys.readouterr().out
    assert all(name in shown and method.title in shown for name, method in METHODS.items())
    monkeypatch.setattr('sys.argv', ['ltjax.methods', '--mardown'])
    with pytest.raises(SystemExit, match='2'):
        printed.cli()
    assert 'unrecognized arguments: --mardown' in capsys.readouterr().err


@pytest.mark.parametrize(('batch_size', 'steps'), [(10, 6), (64, 1), (100, 1), (1, 64)])
def test_a_pass_has_whole_batches_and_at_least_one(batch_size, steps):
    assert Task(np.array([40, 24]), (0.5,), (0.25,)).steps(batch_size) == steps


@pytest.mark.slow
def test_logit_adjustment_without_tau_is_cross_entropy(data, tmp_path):
    # The stages have different names, and so other orders: give both one order by one batch of everything.
    rows = {}
    for name, changes in (
        ('cross_entropy', {}),
        ('logit_adjustment', {'method.train.loss.tau': 0.0}),
        ('adjusted', {'method.train.loss.tau': 1.0}),
    ):
        all_images = {'method.train.batch_size': 56, 'method.train.view': 'none'}
        made = tiny.config(
            'logit_adjustment' if name == 'adjusted' else name, data, changes | all_images
        )
        rows[name] = tiny.run(made, tmp_path / name)[2]
    plain, zero, one = (rows[name][0]['loss'] for name in rows)
    assert plain == pytest.approx(zero, rel=1e-5)
    assert abs(one - plain) > 1e-3


@pytest.mark.slow
def test_crt_retrains_the_classifier_alone(data, tmp_path):
    made = tiny.config('crt', data, {'select': 'last'})
    trained = tiny.training(made, tmp_path)
    state, _ = loop.run(trained)
    number = trained.checkpoints.numbers()[0]
    assert trained.checkpoints.progress(number)['stage_name'] == 'cross_entropy'
    first = trained.checkpoints.restore(number, state._replace(optimizers={}))
    before, after = flatten(jax.device_get(first.model)), flatten(jax.device_get(state.model))
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    chosen, _ = nnx.split_state(state.model, parameter_filter('classifier'), ...)
    assert changed == set(flatten(chosen))
    trained.checkpoints.close()
