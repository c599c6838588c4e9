"""OLTR: a plain first stage, a second one that begins with its features' means, and what moves the memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, methods, models, sharding
from ltjax.engine.state import with_leaves
from ltjax.errors import UserError
from ltjax.methods.memory import ADDED, ModulatedAttention
from ltjax.run import train, trained

pytestmark = pytest.mark.usefixtures('traced_once')

PLAIN = {'retrain.optimizer.weight_decay': 0.0}
PER_STAGE = 6  # steps


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def base(data, tmp_path_factory):
    """Every step of a run, and what it leaves."""
    return tiny.watch(tiny.tuned('oltr', data, PLAIN), tmp_path_factory.mktemp('oltr'))


def network(changes=None):
    """Returns a network with its heads at work, in inference mode, and the second stage's update."""
    recipe = methods.recipe(tiny.tuned('oltr', 'any', changes).method, tiny.task())
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    recipe.add_heads(model, nnx.Rngs(1))
    model.classifier.active[...] = jnp.ones((), jnp.int32)
    model.branches[0].active[...] = jnp.ones(())
    model.eval()
    return model, recipe.stages[1].updates[0]


def batch(seed=0):
    rng = np.random.default_rng(seed)
    images = jnp.asarray(rng.normal(size=(6, 12, 12, 1)), jnp.float32)
    return {'label': jnp.asarray(rng.integers(0, 3, 6)), 'view': images}


def is_added(name):
    return name.startswith(tuple(added.replace('/', '.') for added in ADDED))


# The stages.


@pytest.mark.slow
def test_the_first_stage_is_cross_entropy_and_leaves_what_the_second_adds(base, data, tmp_path):
    steps, (_, _, rows) = base
    assert [name for name, *_ in steps] == ['train'] * PER_STAGE + ['retrain'] * PER_STAGE
    moved = tiny.moved(steps[0][1], steps[PER_STAGE - 1][2])
    assert not {name for name in moved if is_added(name)}
    assert {name for name in tiny.parameters(steps[0][1]) if not is_added(name)} <= moved
    _, _, plain = tiny.run(tiny.tuned('cross_entropy', data), tmp_path)
    for row, expected in zip(rows, plain, strict=False):
        assert row['loss'] == pytest.approx(expected['loss'], rel=1e-4)
        assert row['gradient_norm'] == pytest.approx(expected['gradient_norm'], rel=1e-3)


@pytest.mark.slow
def test_the_second_stage_begins_with_the_means_of_the_first(base, data):
    steps, _ = base
    before, after = steps[PER_STAGE - 1][2], steps[PER_STAGE][1]
    changed = {'classifier.centroids', 'classifier.active', 'branches.0.active'}
    assert {name.removesuffix('.value') for name in tiny.moved(before, after)} == changed
    model, _ = network()
    nnx.update(model, before.model)
    arrays = tiny.arrays()
    chosen = arrays['split'] == 'train'
    config = tiny.tuned('oltr', data)
    images = (arrays['images'][chosen] / 255 - config.data.mean[0]) / config.data.std[0]
    features = np.asarray(model.encode(jnp.asarray(images, jnp.float32)))
    for label in range(3):
        mean = features[arrays['labels'][chosen] == label].mean(axis=0)
        found = after.model['classifier']['centroids'][...][label]
        np.testing.assert_allclose(found, mean, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_second_stage_trains_everything(base):
    steps, (state, _, rows) = base
    assert tiny.finite(state, rows)
    moved = tiny.moved(steps[PER_STAGE][1], steps[-1][2])
    # A softmax does not change if one number is added to all places.
    still = {'branches.0.key.bias', 'branches.0.place.bias'}
    names = {name.removesuffix('.value') for name in tiny.parameters(state)}
    assert names - {name.removesuffix('.value') for name in moved} <= still
    for row in rows[2:]:
        total = row['cross_entropy'] + 0.01 * row['centroid_loss']
        assert row['loss'] == pytest.approx(total, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('at', [1, 3])
def test_a_run_that_was_interrupted_ends_with_the_same_bits(at, base, data, tmp_path):
    _, (state, best, rows) = base
    made = tiny.tuned('oltr', data, PLAIN)
    tiny.interrupt(made, tmp_path, at=at)
    again, best_again, rows_again = tiny.run(made, tmp_path)
    assert tiny.same(again, state)
    assert best_again == best
    assert tiny.timeless(rows_again) == tiny.timeless(rows[at:])


@pytest.mark.slow
@pytest.mark.eight_devices
@pytest.mark.parametrize(
    'others',
    [{'devices': 1}, {'devices': 4, 'accumulate': 2, 'model.remat': True}],
    ids=['one device', 'two parts'],
)
def test_devices_and_memory_do_not_matter(others, base, data, tmp_path):
    _, (_, _, rows) = base
    changes = dict(others)
    devices = jax.devices()[: changes.pop('devices')]
    made = tiny.tuned('oltr', data, PLAIN, **changes)
    _, _, found = tiny.run(made, tmp_path, mesh=sharding.make_mesh(devices))
    for row, expected in zip(found, rows, strict=True):
        assert row['loss'] == pytest.approx(expected['loss'], rel=1e-3)


@pytest.mark.slow
def test_a_finished_run_predicts_with_its_memory_and_without_attention_too(data, tmp_path):
    made = tiny.config('oltr', data, {'method.attention': False})
    train.run(made, tmp_path / 'run')
    model = trained.load(tmp_path / 'run')
    assert 'branches' not in model.state
    found = model.predict(data, side='test')
    with np.load(tmp_path / 'run' / 'predictions.npz') as archive:
        np.testing.assert_allclose(found.logits, archive['logits'], rtol=1e-5, atol=1e-5)
    head = nnx.merge(model.graphdef, model.state).classifier
    assert head.active[...] == 1
    layers = losses.MemoryLayers(
        head.hallucinator.kernel[...].T,
        head.hallucinator.bias[...],
        head.selector.kernel[...].T,
        head.selector.bias[...],
    )
    embedding = losses.memory_embedding(found.features, head.centroids[...], layers)
    logits = losses.squashed_cosine_logits(embedding, head.kernel[...].T)
    np.testing.assert_allclose(found.logits, logits, rtol=1e-3, atol=1e-3)


# The memory.


@pytest.mark.slow
def test_cross_entropy_moves_no_centroid_and_its_own_loss_does():
    def gradient(changes=None):
        model, update = network(changes)
        graphdef, state = nnx.split(model)
        state = with_leaves(state, {'classifier.centroids': np.eye(3, 16, dtype=np.float32)})
        parameters, rest = nnx.split_state(state, nnx.Param, ...)

        def value(parameters):
            copy = nnx.merge(graphdef, parameters, rest, copy=True)
            return update.loss_fn(copy, {}, batch(), jax.random.key(0), jnp.asarray(0)).value

        return state, jax.jit(jax.grad(value))(parameters)

    _, without = gradient({'retrain.centroid_weight': 0.0})
    assert not np.any(without['classifier']['centroids'][...])
    assert np.any(without['classifier']['kernel'][...])
    state, ordinary = gradient({'retrain.margin': 0.0})  # nothing repels
    model, _ = network()
    features = np.asarray(model.encode(batch()['view']))
    centroids = np.asarray(state['classifier']['centroids'][...])
    expected = np.zeros_like(centroids)
    labels = np.asarray(batch()['label'])
    for label in range(3):
        own = features[labels == label]
        expected[label] = 0.01 * (centroids[label] - own).sum(axis=0) / (1 + len(own)) / 6
    np.testing.assert_allclose(
        ordinary['classifier']['centroids'][...], expected, rtol=1e-4, atol=1e-7
    )


# The attention.


def attention(active=1.0, width=4):
    module = ModulatedAttention(width, dtype=jnp.float32, rngs=nnx.Rngs(0))
    module.active[...] = jnp.asarray(active, jnp.float32)
    return module


def test_attention_starts_as_the_identity():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 5, 4)), jnp.float32)
    np.testing.assert_array_equal(attention()(x), x)


def test_attention_is_that_of_its_formula():
    rng = np.random.default_rng(1)
    module = attention()
    module.output.kernel[...] = jnp.asarray(rng.normal(size=(1, 1, 2, 4)), jnp.float32)
    module.place.bias[...] = jnp.ones(1)
    x = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)

    def layer(name, image):
        of = getattr(module, name)
        made = image.reshape(15, -1) @ np.asarray(of.kernel[...])[0, 0]
        return made if of.bias is None else made + np.asarray(of.bias[...])

    for image, found in zip(x, module(jnp.asarray(x)), strict=True):
        query, key, value = (layer(name, image) for name in ('query', 'key', 'value'))
        scores = np.exp(query @ key.T)
        mixed = scores / scores.sum(axis=1, keepdims=True) @ value
        weights = np.exp(layer('place', image))
        added = weights / weights.sum() * layer('output', mixed)
        np.testing.assert_allclose(
            found.reshape(15, 4), image.reshape(15, 4) + added, rtol=1e-4, atol=1e-5
        )


def test_attention_that_is_not_active_has_no_gradient():
    module = attention(active=0.0)
    module.output.kernel[...] = jnp.ones((1, 1, 2, 4))
    x = jnp.asarray(np.random.default_rng(2).normal(size=(1, 2, 2, 4)), jnp.float32)
    np.testing.assert_array_equal(module(x), x)
    graphdef, parameters, rest = nnx.split(module, nnx.Param, ...)

    def total(parameters):
        return jnp.square(nnx.merge(graphdef, parameters, rest, copy=True)(x)).sum()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(total))(parameters)):
        assert not np.any(leaf)


def test_attention_keeps_bfloat16():
    module = ModulatedAttention(3, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert module(jnp.ones((1, 2, 2, 3), jnp.bfloat16)).dtype == jnp.bfloat16


# Others.


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    ['resnet18', 'resnet32_cifar_normed', 'convnext_tiny', 'efficientnet_lite0', 'vit_tiny'],
)
def test_any_network_takes_a_memory(name):
    recipe = methods.recipe(tiny.tuned('oltr').method, tiny.task())

    def make():
        model = models.create(name, num_classes=3, channels=1, rngs=nnx.Rngs(0))
        recipe.add_heads(model, nnx.Rngs(1))
        return model

    model = nnx.eval_shape(make)
    graphdef, state = nnx.split(model)
    images = jax.ShapeDtypeStruct((2, 48, 32, 1), jnp.float32)
    outputs = jax.eval_shape(lambda s, x: nnx.merge(graphdef, s, copy=True)(x), state, images)
    assert outputs.features.shape == (2, model.feature_dim)
    assert outputs.logits.shape == (2, 3)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'reach': 0.0}, 'method.reach is 0.0: use a positive number'),
        ({'retrain.margin': -1.0}, 'method.retrain.margin is -1.0: use 0 or more'),
        ({'retrain.sampler': 'balanced'}, "unknown sampler 'balanced'.*class_balanced"),
        ({'retrain.epochs': 0}, 'no step to train'),
    ],
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        methods.recipe(tiny.tuned('oltr', 'any', changes).method, tiny.task())
    assert '\n' not in str(error.value)
