"""The registry of methods, and the two-line baselines."""

import jax
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import methods
from ltjax.engine import loop
from ltjax.engine.state import flatten, parameter_filter
from ltjax.errors import UserError
from ltjax.methods.task import Task


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def test_every_module_is_a_method_with_a_recipe():
    assert set(methods.names()) == {
        'aduni',
        'alpa',
        'cross_entropy',
        'decoupling',
        'iccl',
        'lmd',
        'logit_adjustment',
        'proco',
    }
    for name in methods.names():
        assert callable(methods.get(name).recipe)


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(UserError, match="unknown method 'decoupled': did you mean decoupling"):
        methods.get('decoupled')
    with pytest.raises(UserError, match="unknown method 'task'"):
        methods.get('task')


@pytest.mark.parametrize(('batch_size', 'steps'), [(10, 6), (64, 1), (100, 1), (1, 64)])
def test_a_pass_has_whole_batches_and_at_least_one(batch_size, steps):
    assert Task(np.array([40, 24]), (0.5,), (0.25,)).steps(batch_size) == steps


@pytest.mark.slow
def test_logit_adjustment_without_tau_is_cross_entropy(data, tmp_path):
    # The stages have different names, and so other orders: give both one order by one batch of everything.
    rows = {}
    for name, changes in (
        ('cross_entropy', {}),
        ('logit_adjustment', {'method.tau': 0.0}),
        ('adjusted', {'method.tau': 1.0}),
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
def test_decoupling_retrains_the_classifier_alone(data, tmp_path):
    made = tiny.config('decoupling', data, {'select': 'last'})
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
