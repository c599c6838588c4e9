"""Optimisers and schedules against plain arithmetic; what parameters have of them by their path."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ltjax.engine import optim
from ltjax.errors import UserError
from ltjax.models.vit import ViT
from ltjax.settings import typed

SGD = {'name': 'sgd', 'learning_rate': 0.5, 'schedule': 'constant'}


def moves(settings, steps=10, gradient=3.0, rounds=1):
    """Returns how far the parameter 2.0 moves in each of `steps` steps of a constant gradient."""
    optimizer = optim.make(typed(optim.Optimizer, settings), rounds, steps // rounds)
    parameter = jnp.array([2.0])
    state = optimizer.init(parameter)
    result = []
    for _ in range(steps):
        update, state = optimizer.update(jnp.array([gradient]), state, parameter)
        parameter = optax.apply_updates(parameter, update)
        result.append(float(update[0]))
    return result


def test_sgd_is_rate_times_gradient():
    np.testing.assert_allclose(moves(SGD, 3), -1.5)


def test_momentum_adds_up():
    np.testing.assert_allclose(moves(SGD | {'momentum': 0.5}, 3), [-1.5, -2.25, -2.625])


def test_weight_decay_of_sgd_is_added_to_the_gradient():
    assert moves(SGD | {'weight_decay': 0.1}, 1) == pytest.approx([-0.5 * (3.0 + 0.2)])


def test_clip_norm_bounds_the_gradient_before_the_decay():
    settings = SGD | {'clip_norm': 1.0, 'weight_decay': 0.1}
    assert moves(settings, 1) == pytest.approx([-0.5 * (1.0 + 0.2)])


def test_cosine_falls_to_zero_over_the_steps():
    sizes = np.abs(moves(SGD | {'schedule': 'cosine'}, 10))
    expected = 1.5 * (1 + np.cos(np.pi * np.arange(10) / 10)) / 2
    np.testing.assert_allclose(sizes, expected, rtol=1e-5)


@pytest.mark.parametrize('schedule', ['constant', 'cosine'])
def test_warm_up_rises_from_zero(schedule):
    sizes = np.abs(moves(SGD | {'schedule': schedule, 'warmup_epochs': 4}, 10, rounds=10))
    np.testing.assert_allclose(sizes[:5], 1.5 * np.arange(5) / 4, rtol=1e-5)


def test_adam_takes_steps_of_its_rate():
    for name in ('adam', 'adamw'):
        assert moves(SGD | {'name': name}, 1) == pytest.approx([-0.5], rel=1e-4)
    decoupled = moves(SGD | {'name': 'adamw', 'weight_decay': 0.1}, 1)
    assert decoupled == pytest.approx([-0.5 * (1 + 0.2)], rel=1e-4)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [({'name': 'sdg'}, 'did you mean sgd'), ({'schedule': 'cos'}, 'did you mean cosine')],
)
def test_unknown_names_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        typed(optim.Optimizer, SGD | changes)
    with pytest.raises(UserError, match='no step'):
        optim.make(typed(optim.Optimizer, SGD), 0, 5)


def test_a_cosine_ends_at_its_floor():
    sizes = np.abs(moves(SGD | {'schedule': 'cosine', 'floor': 0.1}, 11))
    expected = 3 * (0.1 + 0.4 * (1 + np.cos(np.pi * np.arange(11) / 11)) / 2)
    np.testing.assert_allclose(sizes, expected, rtol=1e-5)


def test_multistep_falls_at_its_epochs_after_the_warm_up():
    settings = SGD | {
        'schedule': 'multistep', 'milestones': (3, 5), 'factor': 0.01, 'warmup_epochs': 1.0,
    }  # fmt: skip
    sizes = np.abs(moves(settings, 12, rounds=6))  # two steps an epoch
    rates = [0, 0.25, 0.5, 0.5, 0.5, 0.5, 5e-3, 5e-3, 5e-3, 5e-3, 5e-5, 5e-5]
    np.testing.assert_allclose(sizes, 3 * np.array(rates), rtol=1e-4)


PARAMETERS = {
    'body': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)},
    'classifier': {'kernel': jnp.ones((2, 3))},
}


def step(settings, gradient=1.0):
    """Returns the parameters after one step from `PARAMETERS`."""
    optimizer = optim.make(typed(optim.Optimizer, SGD | settings), 1, 1)
    gradients = {
        name: {key: jnp.full(leaf.shape, gradient) for key, leaf in below.items()}
        for name, below in PARAMETERS.items()
    }
    updates, _ = optimizer.update(gradients, optimizer.init(PARAMETERS), PARAMETERS)
    return optax.apply_updates(PARAMETERS, updates)


def test_groups_have_their_share_of_rate_and_decay():
    groups = {'encoder': {'rate': 0.1}, 'bias': {'decay': 0.0}}
    after = step({'weight_decay': 0.2, 'groups': groups})
    np.testing.assert_allclose(after['classifier']['kernel'], 1 - 0.5 * 1.2, rtol=1e-6)
    np.testing.assert_allclose(after['body']['kernel'], 1 - 0.1 * 0.5 * 1.2, rtol=1e-6)
    np.testing.assert_allclose(after['body']['bias'], 1 - 0.1 * 0.5 * 1.0, rtol=1e-6)


def test_the_rate_falls_with_every_block_below_the_heads():
    ones = jnp.ones(2)
    parameters = {
        'stem': {'positions': ones},
        'blocks': {0: {'bias': ones}, 1: {'bias': ones}, 10: {'bias': ones}},
        'norm': {'scale': ones},
        'classifier': {'kernel': ones},
    }
    settings = SGD | {'layer_decay': 0.5, 'weight_decay': 0.2}
    optimizer = optim.make(typed(optim.Optimizer, settings), 1, 1)
    updates, _ = optimizer.update(parameters, optimizer.init(parameters), parameters)
    full = -0.5 * (1 + 0.2)
    for below in (updates['classifier']['kernel'], updates['norm']['scale']):
        np.testing.assert_allclose(below, full, rtol=1e-6)
    for block, depth in ((10, 1), (1, 2), (0, 3)):
        np.testing.assert_allclose(updates['blocks'][block]['bias'], full / 2**depth, rtol=1e-6)
    np.testing.assert_allclose(updates['stem']['positions'], full / 2**4, rtol=1e-6)


def test_layer_decay_goes_with_the_groups_and_knows_a_networks_own_paths():
    model = ViT(8, 2, 2, num_classes=2, patch=4, grid=1, rngs=nnx.Rngs(0))
    parameters = nnx.state(model, nnx.Param)
    gradients = jax.tree.map(jnp.ones_like, parameters)
    settings = SGD | {'layer_decay': 0.1, 'groups': {'bias': {'rate': 3.0}}}
    optimizer = optim.make(typed(optim.Optimizer, settings), 1, 1)
    updates, _ = optimizer.update(gradients, optimizer.init(parameters), parameters)
    for place, rate in (
        (updates['blocks'][0]['mlp']['expand']['kernel'], 0.5e-2),
        (updates['blocks'][1]['mlp']['expand']['bias'], 1.5e-1),
        (updates['stem']['class_token'], 0.5e-3),
        (updates['classifier']['bias'], 1.5),
    ):
        np.testing.assert_allclose(place[...], -rate, rtol=1e-5)
    with pytest.raises(UserError, match='layer_decay is 1.1: use a number from 0 to 1'):
        typed(optim.Optimizer, SGD | {'layer_decay': 1.1})


def test_groups_that_change_nothing_give_the_same_numbers():
    settings = {'weight_decay': 0.2, 'momentum': 0.9, 'clip_norm': 1.0}
    with_groups = step(settings | {'groups': {'bias': {}}})
    for name, below in step(settings).items():
        for key, leaf in below.items():
            np.testing.assert_allclose(with_groups[name][key], leaf, rtol=1e-6)


def test_max_norm_bounds_the_classes_of_the_classifier_alone():
    after = step({'max_norm': 0.3}, gradient=-1.0)
    norms = np.linalg.norm(after['classifier']['kernel'], axis=0)
    np.testing.assert_allclose(norms, 0.3, rtol=1e-6)
    np.testing.assert_allclose(after['body']['kernel'], 1.5)
    np.testing.assert_allclose(step({'max_norm': 9.0})['classifier']['kernel'], 0.5)


def test_a_box_bounds_how_far_each_parameter_goes_from_its_beginning():
    optimizer = optim.make(typed(optim.Optimizer, SGD | {'box': 0.7}), 1, 4)
    parameters = {'near': jnp.array([2.0, 2.0]), 'far': jnp.array([-1.0])}
    state = optimizer.init(parameters)
    seen = []
    for sign in (1, 1, -1, -1):
        gradients = {'near': jnp.array([0.1, 1.0]) * sign, 'far': jnp.array([-9.0]) * sign}
        updates, state = optimizer.update(gradients, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        seen.append([*parameters['near'].tolist(), *parameters['far'].tolist()])
    # Steps of 0.05, 0.5 and 4.5: the first never meets the wall, the second does in the second step.
    expected = [[1.95, 1.5, -0.3], [1.9, 1.3, -0.3], [1.95, 1.8, -1.7], [2.0, 2.3, -1.7]]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'schedule': 'multistep'}, r'has milestones \(\): use epochs after 0 and before 4'),
        ({'schedule': 'multistep', 'milestones': (2, 4)}, 'use epochs after 0 and before 4'),
        (
            {'schedule': 'multistep', 'milestones': (2,), 'warmup_epochs': 2.0},
            'use epochs after 2 and before 4',
        ),
        ({'schedule': 'cosine', 'floor': 0.6}, 'floor 0.6 is above learning_rate 0.5'),
        ({'warmup_epochs': 4.0}, 'warmup_epochs 4 leaves no step of 4 epochs'),
        ({'box': 0.1, 'max_norm': 1.0}, 'box and max_norm .*: use one of them'),
    ],
)
def test_values_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        optim.make(typed(optim.Optimizer, SGD | changes), 4, 5)


def test_a_group_that_no_parameter_belongs_to_is_refused_before_the_first_step():
    optimizer = optim.make(typed(optim.Optimizer, SGD | {'groups': {'head': {}}}), 1, 1)
    with pytest.raises(UserError, match="unknown group of parameters 'head'"):
        optimizer.init(PARAMETERS)
    with pytest.raises(UserError, match="unknown key of groups.bias 'rat'"):
        typed(optim.Optimizer, SGD | {'groups': {'bias': {'rat': 1.0}}})
    with pytest.raises(UserError, match='give values by their names'):
        typed(optim.Optimizer, SGD | {'groups': 'bias'})
