"""ProCo: its loss is that of the golden-tested functions; every switch changes what it says; its state survives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, methods, models, sharding
from ltjax.engine.state import flatten
from ltjax.errors import UserError
from ltjax.losses import heads, proto_instances, prototypes, queues
from ltjax.methods.task import Task
from ltjax.run import train, trained

pytestmark = pytest.mark.usefixtures('traced_once')

LAST = {'select': 'last'}
SMALL = {'queue': 32, 'num_negatives': 4, 'width': 8, 'hidden': 16, 'prototype_weight': 1.0}
COUNTS = np.array(tiny.COUNTS)


def config(path='any', **changes):
    named = {f'method.{name}': value for name, value in (SMALL | changes).items()}
    return tiny.config('proco', path, LAST | named)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def base(data, tmp_path_factory):
    return tiny.run(config(data), tmp_path_factory.mktemp('base'))


# One call of the loss.


def queue_of(size=32, width=8):
    """Three quarters of the slots are filled, in all three classes."""
    rng = np.random.default_rng(0)
    rows = heads.unit_vectors(jnp.asarray(rng.normal(size=(size * 3 // 4, width)), jnp.float32))
    labels = jnp.asarray(rng.integers(0, 3, len(rows)))
    return queues.push(queues.empty_queue(size, width), rows, labels)


def one_step(**changes):
    """Returns the network, what its loss reads, the loss, the network's state after it and the gradient."""
    made = config(**changes).method
    recipe = methods.recipe(made, Task(COUNTS, (0.5,), (0.25,)))
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    recipe.add_heads(model, nnx.Rngs(1))
    rng = np.random.default_rng(1)
    batch = {
        'label': jnp.asarray([0, 0, 1, 1, 0, 0]),  # class 2 is absent
        'query': jnp.asarray(rng.normal(size=(6, 12, 12, 1)), jnp.float32),
        'key': jnp.asarray(rng.normal(size=(6, 12, 12, 1)), jnp.float32),
    }
    graphdef, parameters, statistics = nnx.split(model, nnx.Param, ...)
    extra = {'momentum': jax.tree.map(lambda x: x * 0.9, parameters), 'queue': queue_of()}
    update = recipe.stages[0].updates[0]

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def step(parameters):
        network = nnx.merge(graphdef, parameters, statistics, copy=True)
        loss = update.loss_fn(network, extra, batch, jax.random.key(2), jnp.int32(0))
        return loss.value, (loss, nnx.state(network))

    gradient, (loss, after) = step(parameters)
    return model, batch, extra, loss, after, gradient


def projections(model, images):
    features = model.encode(images)
    return model.classifier.project(features), heads.unit_vectors(model.projector(features))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('recalibration', 'with_instances', 'weight', 'temperature'),
    [
        ('none', False, 1.0, 1.0),
        ('additive', False, 1.0, 1.0),
        ('additive', True, 1.0, 1.0),
        ('vector', True, 1.0, 1.0),
        ('additive', True, 50.0, 0.2),
    ],
)
def test_the_loss_is_that_of_the_golden_tested_functions(
    recalibration, with_instances, weight, temperature
):
    model, batch, extra, loss, *_ = one_step(
        recalibration=recalibration,
        proto_instances=with_instances,
        prototype_weight=weight,
        temperature=temperature,
        epsilon=0.0,  # an instance is then the entry of the queue itself
    )
    labels, queue = batch['label'], extra['queue']
    f, g = projections(model, batch['query'])
    kernel = model.classifier.kernel[...].T
    omega, counts = prototypes.calibration_factors(f, labels, kernel)
    omega = prototypes.running_calibration(jnp.full(3, 0.01), omega, counts, beta=0.95)
    logits = prototypes.prototype_logits(f, kernel)
    if recalibration != 'none':
        logits = prototypes.prototype_logits(f, kernel, omega=omega, recalibration=recalibration)
    instances = None
    if with_instances:
        instances = proto_instances.adversarial_instances(
            g, labels, queue=queue, prototypes=kernel, num_negatives=4,
            negative_epsilon=0.0, positive_epsilon=0.0,
        )  # fmt: skip
    # w equal entries for a prototype: the sums of eq. 7 with w e^z and w e^-z, in float64.
    negative, positive = (np.zeros(6) for _ in range(2))
    for i, label in enumerate(np.asarray(labels)):
        products = np.asarray(queue.features @ g[i], np.float64) / temperature
        same = np.asarray(queue.labels) == label
        filled = np.asarray(queue.filled)
        negative[i] = np.exp(products[filled & ~same]).sum()
        positive[i] = np.exp(-products[filled & same]).sum()
        z = np.asarray(logits[i], np.float64)
        negative[i] += weight * np.exp(np.delete(z, label)).sum()
        positive[i] += weight * np.exp(-z[label])
        if with_instances:
            chosen = np.asarray(instances.negatives[i][instances.negative_mask[i]] @ g[i])
            negative[i] += np.exp(chosen / temperature).sum()
            positive[i] += np.exp(-products[np.asarray(instances.positive_mask[i])]).sum()
    expected = np.log1p(negative * positive).mean()
    np.testing.assert_allclose(loss.value, expected, rtol=1e-5)
    cross_entropy = losses.mean(losses.softmax_cross_entropy(logits, labels))
    np.testing.assert_allclose(loss.logged['cross_entropy'], cross_entropy, rtol=1e-5)
    if weight == 1 and temperature == 1:
        direct = proto_instances.proto_loss(logits, g, labels, queue=queue, instances=instances)
        np.testing.assert_allclose(loss.value, direct.mean(), rtol=1e-6)


@pytest.mark.slow
def test_a_step_moves_omega_of_the_classes_that_it_saw():
    model, batch, _, _, after, _ = one_step(omega=0.2, beta=0.75)
    f, _ = projections(model, batch['query'])
    z = np.asarray(f @ model.classifier.kernel[...])
    response = 1 / (1 + np.exp(-z[np.arange(6), np.asarray(batch['label'])]))
    expected = [
        0.75 * 0.2 + 0.25 * response[np.asarray(batch['label']) == k].mean() for k in (0, 1)
    ]
    np.testing.assert_allclose(after['classifier']['omega'][...], [*expected, 0.2], rtol=1e-5)


@pytest.mark.slow
def test_the_keys_are_those_of_the_momentum_encoder_and_enter_after_the_loss():
    model, batch, extra, loss, *_ = one_step()
    queue = loss.extra['queue']
    slow = nnx.merge(nnx.graphdef(model), extra['momentum'], nnx.state(model, nnx.BatchStat))
    _, keys = projections(slow, batch['key'])
    np.testing.assert_allclose(queue.features[24:30], keys, rtol=1e-5, atol=1e-6)
    assert queue.labels[24:30].tolist() == batch['label'].tolist()
    assert queue.filled.tolist() == [True] * 30 + [False] * 2
    assert np.array_equal(queue.features[:24], extra['queue'].features[:24])


@pytest.mark.slow
def test_gradients_reach_the_prototypes_through_the_mixing_if_so_chosen():
    constant, through = (one_step(through_prototypes=chosen)[-1] for chosen in (False, True))
    kernels = [np.asarray(g['classifier']['kernel'][...]) for g in (constant, through)]
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-6
    others = [flatten(g['projector']) for g in (constant, through)]
    for name, value in others[0].items():
        np.testing.assert_allclose(value, others[1][name], rtol=1e-4, atol=1e-6)


# Prediction.


def test_prediction_reads_the_raw_prototypes_unless_told_otherwise():
    logits = {}
    for inference in ('raw', 'recalibrated'):
        made = config(inference=inference, omega=0.5)
        recipe = methods.recipe(made.method, Task(COUNTS, (0.5,), (0.25,)))
        model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
        recipe.add_heads(model, nnx.Rngs(1))
        model.classifier.omega[...] = jnp.array([0.9, 0.5, 0.1])
        features = jnp.asarray(np.random.default_rng(0).normal(size=(5, 16)), jnp.float32)
        logits[inference] = model.classify(features)
        raw = model.classifier.project(features) @ model.classifier.kernel[...]
    np.testing.assert_allclose(logits['raw'], raw, rtol=1e-5, atol=1e-6)
    added = np.log([[0.9, 0.5, 0.1]] * 5)
    np.testing.assert_allclose(logits['recalibrated'] - logits['raw'], added, rtol=1e-4)


@pytest.mark.slow
def test_a_finished_run_predicts_what_it_reported(data, tmp_path):
    results = train.run(config(data, inference='recalibrated'), tmp_path)
    held = tiny.arrays()
    images = held['images'][held['split'] == 'test']
    logits = trained.load(tmp_path).predict(images).logits
    with np.load(tmp_path / 'predictions.npz') as archive:
        np.testing.assert_allclose(logits, archive['logits'], rtol=1e-5, atol=1e-6)
    titles = [plot['title'] for plot in results['plots']]
    assert titles == ['norm of classifier weights', 'calibration factor of the prototype']
    omega = results['plots'][1]['per_class']
    assert len(omega) == 3
    assert all(0.01 < value < 1 for value in omega)


# Whole runs.


@pytest.mark.slow
def test_the_momentum_encoder_is_the_moving_average_of_the_parameters():
    made = config(momentum=0.75).method
    update = methods.recipe(made, Task(COUNTS, (0.5,), (0.25,))).stages[0].updates[0]
    model, _, extra, _, after, _ = one_step()
    moved = flatten(jax.jit(update.after_step)(extra, after, jnp.int32(0))['momentum'])
    parameters, slow = flatten(nnx.state(model, nnx.Param)), flatten(extra['momentum'])
    assert set(moved) == set(parameters)
    for name, value in moved.items():
        expected = 0.75 * slow[name] + 0.25 * parameters[name]
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    'changes',
    [
        {'proto_instances': False, 'recalibration': 'none'},  # the first three rows of table 3
        {'recalibration': 'none'},
        {'proto_instances': False},
        {'epsilon': 0.0},
        {'queue': 16},
        {'train.key_view': 'none'},
        {'train.sampler': 'class_balanced'},
    ],
    ids=str,
)
def test_switches_of_the_run_move_the_network(base, data, tmp_path, changes):
    state, _, rows = tiny.run(config(data, **changes), tmp_path)
    leaves = [leaf for leaf in jax.tree.leaves(state) if np.issubdtype(leaf.dtype, np.floating)]
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert [row['round'] for row in rows] == [0, 1]
    assert not tiny.same(state.model['classifier'], base[0].model['classifier'])
    assert not tiny.same(state.model['convs'], base[0].model['convs'])


@pytest.mark.slow
def test_the_state_of_a_run_is_taken_up_bit_for_bit(base, data, tmp_path):
    state, best, _ = base
    tiny.interrupt(config(data), tmp_path, at=1)
    resumed, best_resumed, rows = tiny.run(config(data), tmp_path)
    assert [row['round'] for row in rows] == [1]
    assert best == best_resumed
    assert tiny.same(state, resumed)
    assert resumed.extra['queue'].filled.all()
    assert int(resumed.extra['queue'].pointer) == 6 * 16 % 32


@pytest.mark.slow
def test_one_device_ends_where_eight_do(base, data, tmp_path):
    one = sharding.make_mesh(jax.devices()[:1])
    state, _, rows = tiny.run(config(data), tmp_path, mesh=one)
    for ours, theirs in zip(rows, base[2], strict=True):
        assert ours['loss'] == pytest.approx(theirs['loss'], rel=1e-4)
    for name, value in flatten(base[0].model).items():
        np.testing.assert_allclose(flatten(state.model)[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'recalibration': 'aditive'},
            "unknown method.recalibration 'aditive': did you mean additive",
        ),
        ({'inference': 'calibrated'}, "unknown method.inference 'calibrated'.*recalibrated"),
        ({'queue': 8}, 'queue 8 does not hold a batch of 16 or 4 negatives: use 16'),
        ({'num_negatives': 40}, 'or 40 negatives: use 40'),
        ({'temperature': 0.0}, r'temperature is 0.0: use a positive number'),
        ({'prototype_weight': -1.0}, r'prototype_weight is -1.0'),
        ({'omega': 0.0}, r'omega is 0.0'),
        ({'momentum': 1.5}, r'momentum is 1.5: use a number from 0 to 1'),
        ({'beta': -0.5}, r'beta is -0.5'),
        ({'epsilon': 2.0}, r'epsilon is 2.0'),
    ],
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        methods.recipe(config(**changes).method, Task(COUNTS, (0.5,), (0.25,)))
    assert '\n' not in str(error.value)
