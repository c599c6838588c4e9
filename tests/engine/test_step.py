"""The step factory: what it moves, what it leaves alone, and that devices do not change it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import tiny
from ltjax import losses, models, sharding
from ltjax.data import augment
from ltjax.engine.stage import Loss, Update
from ltjax.engine.state import TrainState, flatten, parameter_filter, with_parameters
from ltjax.engine.step import key_for, make_forward, make_init, make_step, set_batch_norm
from ltjax.models.convnext import ConvNeXt

BATCH = 16


def loss_fn(model, extra, batch, key, step):
    values = losses.softmax_cross_entropy(model(batch['view']).logits, batch['label'])
    return Loss(losses.mean(values), {'draw': jax.random.uniform(key), 'step': jnp.asarray(step)})


UPDATE = Update(
    name='train',
    loss_fn=loss_fn,
    optimizer=optax.sgd(0.1, momentum=0.9),
    steps=1,
    batch_size=BATCH,
    views={'view': augment.view('upright_weak', mean=(0.5,), std=(0.25,))},
)


@pytest.fixture(scope='module')
def model():
    return nnx.split(
        models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    )


def take_steps(model, update, number=1, devices=None, first=0):
    """Returns the state before, the state after and the last metrics, on the host."""
    graphdef, variables = model
    mesh = sharding.make_mesh(devices)
    trainable, _ = nnx.split_state(variables, parameter_filter(update.trains), ...)
    optimizers = {update.name: update.optimizer.init(trainable)}
    state = TrainState(jax.tree.map(jnp.copy, variables), optimizers, {})
    before = jax.device_get(state)
    state = sharding.replicate(state, mesh)
    step_fn = make_step(update, graphdef, mesh)
    images = tiny.arrays()['images'][:BATCH]
    labels = np.arange(BATCH, dtype=np.int32) % 3
    batch = {'index': np.arange(BATCH, dtype=np.int32), 'label': labels, 'image': images}
    batch = jax.device_put(batch, sharding.batch_sharding(mesh))
    for step in range(first, first + number):
        state, metrics = step_fn(state, batch, jax.random.key(0), np.int32(step))
    return before, jax.device_get(state), jax.device_get(metrics)


def moved(before, after):
    """Names of the arrays of the network that are not bit for bit what they were."""
    before, after = flatten(before.model), flatten(after.model)
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def names(model, chosen):
    return set(flatten(nnx.split_state(model[1], chosen, ...)[0]))


def test_encoder_and_classifier_are_complementary(model):
    parts = {
        trains: names(model, parameter_filter(trains))
        for trains in ('all', 'encoder', 'classifier')
    }
    assert parts['encoder'] | parts['classifier'] == parts['all']
    assert not parts['encoder'] & parts['classifier']
    assert {name.split('.')[0] for name in parts['classifier']} == {'classifier'}
    assert len(parts['classifier']) == 2
    assert parts['all'] == names(model, nnx.Param)
    assert names(model, parameter_filter('classifier.bias')) == {'classifier.bias.value'}
    assert not names(model, parameter_filter('class'))


@pytest.mark.slow
@pytest.mark.parametrize('trains', ['all', 'encoder', 'classifier'])
def test_a_step_moves_what_it_trains_and_nothing_else(model, trains):
    update = dataclasses.replace(UPDATE, trains=trains, batch_norm='running')
    before, after, _ = take_steps(model, update)
    assert moved(before, after) == names(model, parameter_filter(trains))


@pytest.mark.slow
def test_batch_mode_updates_the_statistics_and_running_mode_keeps_them(model):
    statistics = names(model, nnx.BatchStat)
    before, after, _ = take_steps(model, dataclasses.replace(UPDATE, trains='classifier'))
    assert moved(before, after) == statistics | names(model, parameter_filter('classifier'))
    with pytest.raises(ValueError, match='frozen'):
        set_batch_norm(models.create('small_cnn', num_classes=2, rngs=nnx.Rngs(0)), 'frozen')


@pytest.mark.slow
def test_metrics_are_loss_gradient_norm_and_what_the_loss_adds(model):
    _, _, metrics = take_steps(model, UPDATE)
    assert set(metrics) == {'loss', 'gradient_norm', 'draw', 'step'}
    assert metrics['loss'] > 0
    assert metrics['gradient_norm'] > 0


@pytest.mark.slow
@pytest.mark.eight_devices
def test_one_device_and_eight_agree(model):
    # Sums in another order: a few units in the last place of float32 after three steps.
    _, one, ours = take_steps(model, UPDATE, 3, jax.devices()[:1])
    _, eight, theirs = take_steps(model, UPDATE, 3)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert ours['draw'] == theirs['draw']
    np.testing.assert_allclose(ours['loss'], theirs['loss'], rtol=1e-5)


@pytest.mark.slow
def test_randomness_follows_the_step_not_the_history(model):
    _, _, at_five = take_steps(model, UPDATE, 1, first=5)
    _, _, after_five = take_steps(model, UPDATE, 2, first=4)
    _, _, at_four = take_steps(model, UPDATE, 1, first=4)
    assert at_five['draw'] == after_five['draw']
    assert at_five['draw'] != at_four['draw']
    assert at_five['step'] == 5


@pytest.mark.slow
def test_the_loss_may_change_the_extra_state(model):
    def counting(model, extra, batch, key, step):
        loss = loss_fn(model, extra, batch, key, step)
        return loss._replace(extra={'label_sum': batch['label'].sum()})

    update = dataclasses.replace(UPDATE, loss_fn=counting)
    _, state, _ = take_steps(model, update)
    assert state.extra['label_sum'] == (np.arange(BATCH) % 3).sum()
    doubled = dataclasses.replace(
        update, after_step=lambda extra, model, step: {'twice': 2 * extra['label_sum']}
    )
    _, state, _ = take_steps(model, doubled)
    assert state.extra['twice'] == 2 * (np.arange(BATCH) % 3).sum()


@pytest.mark.slow
def test_stochastic_depth_draws_from_the_key_of_the_step_in_batch_mode_only():
    def loss_fn(model, extra, batch, key, step):
        return Loss(losses.mean(jnp.square(model(batch['view']).logits)))

    deep = ConvNeXt(
        (1, 2),
        (4, 8),
        num_classes=3,
        channels=1,
        stem='cifar',
        drop_path_rate=0.5,
        rngs=nnx.Rngs(0),
    )
    for stage in deep.stages:
        for block in stage.blocks:
            block.layer_scale[...] = jnp.ones_like(block.layer_scale[...])
    deep = nnx.split(deep)
    update = dataclasses.replace(UPDATE, loss_fn=loss_fn, optimizer=optax.set_to_zero())
    update = dataclasses.replace(update, views={'view': augment.view('none', mean=(0,), std=(1,))})
    for mode, draws in (('batch', True), ('running', False)):
        update = dataclasses.replace(update, batch_norm=mode)
        first, again, second = (
            take_steps(deep, update, 1, first=step)[2]['loss'] for step in (0, 0, 1)
        )
        assert first == again
        assert (first != second) == draws


@pytest.mark.slow
def test_after_step_sees_the_moved_parameters(model):
    update = dataclasses.replace(
        UPDATE, after_step=lambda extra, model, step: {'copy': model['classifier']['kernel'] * 2}
    )
    _, after, _ = take_steps(model, update)
    np.testing.assert_array_equal(after.extra['copy'], 2 * after.model['classifier']['kernel'][...])


def test_forward_is_that_of_the_running_statistics_and_not_random(model):
    graphdef, variables = model
    view = augment.view('none', mean=(0.5,), std=(0.25,))
    forward = make_forward(graphdef, sharding.make_mesh(), view)
    images = tiny.arrays()['images'][:BATCH]
    features, logits = forward(variables, images)
    direct = nnx.merge(graphdef, variables, copy=True)
    direct.eval()
    expected = direct(jnp.asarray((images / 255.0 - 0.5) / 0.25, jnp.float32))
    np.testing.assert_allclose(features, expected.features, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(logits, expected.logits, rtol=1e-4, atol=1e-5)


def test_with_parameters_keeps_the_statistics(model):
    original = nnx.merge(*model, copy=True)
    doubled = jax.tree.map(lambda x: 2 * x, nnx.state(original, nnx.Param))
    other = with_parameters(original, doubled)
    assert tiny.same(nnx.state(other, nnx.BatchStat), nnx.state(original, nnx.BatchStat))
    assert tiny.same(nnx.state(other, nnx.Param), doubled)
    assert tiny.same(nnx.state(original), model[1])


def test_keys_of_two_purposes_differ():
    key = jax.random.key(0)
    a, b = (jax.random.key_data(key_for(key, purpose)).tolist() for purpose in ('loss', 'view a'))
    assert a != b
    assert a == jax.random.key_data(key_for(key, 'loss')).tolist()


@pytest.mark.parametrize('less', [False, True])
def test_initial_values_are_those_of_a_plain_compilation(less):
    def create(key):
        return ConvNeXt((1, 1), (8, 16), num_classes=3, channels=1, rngs=nnx.Rngs(key))

    key, before = jax.random.key(3), jax.config.read('jax_disable_most_optimizations')
    jax.config.update('jax_disable_most_optimizations', less)
    try:
        _, initial = make_init(create)(key)
        plainly = jax.jit(lambda key: nnx.state(create(key)))(key)
    finally:
        jax.config.update('jax_disable_most_optimizations', before)
    # With less effort XLA may round another way, in one place of fifty with JAX 0.12 and AVX-512.
    rtol = 0 if less else 1e-6
    for one, other in zip(jax.tree.leaves(initial), jax.tree.leaves(plainly), strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol)
