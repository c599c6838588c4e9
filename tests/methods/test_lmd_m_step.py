"""LMD's M-step on several devices: what each computes, what they exchange, and that the result is one device's."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, models, sharding
from ltjax.engine.stage import Loss
from ltjax.engine.state import TrainState, flatten, parameter_filter
from ltjax.engine.step import make_step
from ltjax.methods.lmd import calibration
from ltjax.methods.lmd.settings import Icc, Reading
from ltjax.methods.task import Task
from ltjax.settings import typed

pytestmark = [pytest.mark.eight_devices, pytest.mark.slow]

WIDTH = 32
STEPS = 5
IMAGES = 40
TOLERANCE = {
    'rtol': 1e-5,
    'atol': 1e-6,
}  # of a few steps of a linear layer: see tests/test_topology.py

# Classes, draws of each class, devices along `fsdp`; what is left of both on a device. They do not always divide.
SHARES = {
    'classes': (8, 10, 1, (1, 10)),
    'classes, uneven': (11, 9, 1, (2, 9)),
    'one draw a device': (3, 8, 1, (3, 1)),
    'draws': (2, 128, 1, (2, 16)),
    'draws, uneven': (2, 100, 1, (2, 13)),
    'data and fsdp': (8, 10, 2, (2, 10)),
    'fsdp alone': (8, 10, 8, (8, 10)),
}


def m_step(num_classes, per_class, *, vfc=True):
    made = tiny.config(
        'lmd', 'any', {'method.icc.m_batch_size': num_classes * per_class, 'method.icc.vfc': vfc}
    )
    task = Task(np.full(num_classes, 5), (0.5,), (0.25,))
    return calibration.stage(typed(Icc, made.method.icc), task, Reading()).updates[0]


def state_and_graph(update, num_classes, mesh):
    """A state before the M-step, with Gaussians and features that are the same on every mesh."""
    rng = np.random.default_rng(0)
    model = models.create(
        'small_cnn', num_classes=num_classes, channels=1, width=WIDTH // 4, rngs=nnx.Rngs(0)
    )
    graphdef, variables = nnx.split(model)
    trained, _ = nnx.split_state(variables, parameter_filter(update.trains), ...)
    noise = rng.normal(size=(num_classes, 40, WIDTH)).astype(np.float32)
    virtual = (noise.mean(axis=1), losses.cholesky_factors(np.einsum('knc,knd->kcd', noise, noise)))
    extra = {'round': {'virtual': virtual, 'features': noise.reshape(-1, WIDTH)[:IMAGES]}}
    state = TrainState(variables, {update.name: update.optimizer.init(trained)}, extra)
    return sharding.place_state(jax.tree.map(jnp.copy, state), mesh), graphdef


def run(update, num_classes, mesh, data=(None, {})):
    """Returns the compiled step's text, and the state and metrics after several steps in one call."""
    state, graphdef = state_and_graph(update, num_classes, mesh)
    step = make_step(update, graphdef, mesh, per_call=STEPS)
    data = sharding.replicate(data, mesh)
    inputs = state, data, jax.random.key(1), np.int32(0), np.int32(STEPS)
    text = step.lower(*inputs).compile().as_text()
    return text, *jax.device_get(step(*inputs))


def results(text, operation):
    """Shapes and dtypes of what the operations of one kind return, on one device."""
    lines = re.findall(rf'= (\(?[^=]*?) {operation}(?:-start)?\(', text)
    found = [re.findall(r'(\w+)\[([\d,]*)\]', line) for line in lines]
    return [
        (dtype, tuple(int(n) for n in shape.split(',') if n))
        for line in found
        for dtype, shape in line
    ]


def sizes(text, *operations):
    """How many floats the operations of these kinds return, on one device, ascending."""
    found = [shape for operation in operations for shape in results(text, operation)]
    return sorted(math.prod(shape) for dtype, shape in found if dtype == 'f32')


@pytest.fixture(scope='module', params=SHARES)
def shared(request):
    """How the draws are shared on eight devices, and what `run` says of it."""
    num_classes, per_class, fsdp, left = SHARES[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sharding, 'WHOLE_BELOW', 1 << 10
        )  # so that fsdp splits even these small factors
        ran = run(m_step(num_classes, per_class), num_classes, sharding.make_mesh(fsdp=fsdp))
    return num_classes, per_class, fsdp, left, ran


def test_devices_share_the_draws_and_add_their_gradients(shared):
    num_classes, _, fsdp, (classes, draws), (text, _, _) = shared
    rows, kernel = classes * draws, WIDTH * num_classes
    # The draws, the logits and the kernel's gradient.
    assert sizes(text, 'dot') == sorted([rows * WIDTH, rows * num_classes, kernel])
    moved = ['all-gather', 'all-to-all', 'collective-permute', 'reduce-scatter']
    assert sizes(text, *moved) == []
    added = results(text, 'all-reduce')
    if fsdp < 8:
        assert {('f32', (WIDTH, num_classes)), ('f32', (num_classes, WIDTH))} & set(added)
    if (
        fsdp > 1
    ):  # a device has columns of every factor: not they are gathered, their products are added
        assert ('f32', (classes, draws, WIDTH)) in added
    assert max(sizes(text, 'all-reduce')) <= max(rows * WIDTH, kernel) < num_classes * WIDTH**2


def test_devices_do_not_change_the_result(shared):
    num_classes, per_class, _, _, (_, found, metrics) = shared
    update = m_step(num_classes, per_class)
    mesh = sharding.make_mesh(jax.devices()[:1])
    _, wanted, expected = run(update, num_classes, mesh)
    before = jax.device_get(state_and_graph(update, num_classes, mesh)[0])
    assert tiny.moved(before, wanted) == set(tiny.parameters(wanted, 'classifier'))
    np.testing.assert_allclose(metrics['loss'], expected['loss'], **TOLERANCE)
    for name, value in flatten(wanted).items():
        np.testing.assert_allclose(flatten(found)[name], value, **TOLERANCE, err_msg=name)


def test_one_device_computes_the_mean_over_all_rows_at_once():
    """Bit for bit the step whose loss knows nothing of devices."""
    num_classes, per_class = 5, 7
    update = m_step(num_classes, per_class)

    def plain(model, extra, batch, key, step):
        mean, cholesky = extra['round']['virtual']
        features, labels = losses.virtual_features(key, mean, cholesky, per_class)
        values = losses.softmax_cross_entropy(model.classify(features), labels)
        return Loss(losses.mean(values))

    mesh = sharding.make_mesh(jax.devices()[:1])
    text, found, metrics = run(update, num_classes, mesh)
    _, wanted, expected = run(dataclasses.replace(update, loss_fn=plain), num_classes, mesh)
    assert tiny.same((found, metrics), (wanted, expected))
    assert sizes(text, 'all-reduce', 'all-gather') == []


@pytest.mark.parametrize('axis', [0, 1])
@pytest.mark.parametrize('shape', [(8, 16), (5, 13)])
def test_the_draws_are_the_same_bits_however_they_are_shared(axis, shape):
    num_classes, per_class = shape
    mean = np.zeros((num_classes, WIDTH), np.float32)
    factors = np.tile(np.eye(WIDTH, dtype=np.float32), (num_classes, 1, 1))
    assert jax.config.jax_threefry_partitionable

    def draw(key, mean, factors):
        features, _ = losses.virtual_features(key, mean, factors, per_class)
        by_class = features.reshape(num_classes, per_class, WIDTH)
        return sharding.split_data(by_class, axis)

    one, eight = (
        jax.jit(draw)(jax.random.key(0), *sharding.replicate((mean, factors), mesh))
        for mesh in (sharding.make_mesh(jax.devices()[:1]), sharding.make_mesh())
    )
    np.testing.assert_array_equal(one, eight)


@pytest.mark.parametrize(
    ('num_classes', 'per_class', 'parts', 'axis'),
    [
        (8, 44, 8, 0),
        (10, 32, 8, 1),
        (14, 25, 8, 0),
        (100, 3, 8, 0),
        (2, 176, 2, 0),
        (2, 176, 8, 1),
        (3, 117, 16, 1),
    ],
)
def test_few_classes_share_their_draws(num_classes, per_class, parts, axis):
    assert calibration.shared_axis(num_classes, per_class, parts) == axis


def test_real_features_are_shared_as_their_batch_is():
    num_classes, size = 5, 32
    update = m_step(num_classes, size // num_classes, vfc=False)
    update = dataclasses.replace(update, batch_size=size)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, num_classes, IMAGES).astype(np.int32)
    data = (None, labels), {'': rng.integers(0, IMAGES, (STEPS, size)).astype(np.int32)}
    text, found, _ = run(update, num_classes, sharding.make_mesh(), data)
    assert sizes(text, 'dot') == sorted([size // 8 * num_classes, WIDTH * num_classes])
    assert results(text, 'all-reduce')
    assert sizes(text, 'all-gather') == []
    _, wanted, _ = run(update, num_classes, sharding.make_mesh(jax.devices()[:1]), data)
    for name, value in flatten(wanted).items():
        np.testing.assert_allclose(flatten(found)[name], value, **TOLERANCE, err_msg=name)
