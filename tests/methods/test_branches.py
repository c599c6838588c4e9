"""BBN and SADE: each branch learns from what it should, both or all predict, and any network takes branches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import export, losses, methods, models, sharding
from ltjax.errors import UserError
from ltjax.models import pretrained
from ltjax.models.branches import add_branches, residual_block
from ltjax.models.weight_files import read
from ltjax.models.weights import to_torch
from ltjax.run import train, trained

pytestmark = pytest.mark.usefixtures('traced_once')

PLAIN = {'train.optimizer.weight_decay': 0.0}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def bbn(data, tmp_path_factory):
    """Every step of a run, and what it leaves."""
    return tiny.watch(tiny.tuned('bbn', data, PLAIN), tmp_path_factory.mktemp('bbn'))


def network(name, changes=None):
    """Returns a method's network, in inference mode, and its one update."""
    recipe = methods.recipe(tiny.tuned(name, 'any', changes).method, tiny.task())
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    recipe.add_heads(model, nnx.Rngs(1))
    model.eval()
    return model, recipe.stages[0].updates[0]


def batch(seed):
    rng = np.random.default_rng(seed)
    images = jnp.asarray(rng.normal(size=(6, 12, 12, 1)), jnp.float32)
    return {'label': jnp.asarray(rng.integers(0, 3, 6)), 'view': images}


# BBN.


@pytest.mark.slow
def test_learning_moves_from_one_branch_to_the_other(bbn):
    steps, (state, _, rows) = bbn
    assert tiny.finite(state, rows)
    assert [row['alpha'] for row in rows] == pytest.approx([1.0, 0.75])
    assert len(steps) == 6
    for at, (_, before, after) in enumerate(steps):
        moved = {name for name in tiny.parameters(after) if name in tiny.moved(before, after)}
        of_second = {name for name in moved if name.startswith('branches.1')}
        # In the first epoch alpha is 1, and the second branch has no part in the loss.
        assert bool(of_second) == (at >= 3)
        assert moved - of_second == {
            name for name in tiny.parameters(after) if not name.startswith('branches.1')
        }


@pytest.mark.slow
def test_both_branches_see_the_image_that_is_predicted(bbn):
    model, _ = network('bbn')
    nnx.update(model, bbn[1][0].model)
    images = batch(0)['view']
    *_, last = model.feature_maps(images).values()
    first, second = (model.branch(number, last) for number in range(2))
    outputs = model(images)
    assert outputs.features.shape == (6, model.feature_dim) == (6, 32)
    np.testing.assert_array_equal(outputs.features, jnp.concatenate([first, second], axis=1))
    logits = losses.bilateral_logits(
        first, second, model.classifier.kernel[...].T, model.classifier.bias[...]
    )
    np.testing.assert_allclose(outputs.logits, logits, rtol=1e-4, atol=1e-5)
    assert np.abs(first - second).max() > 0.01


@pytest.mark.slow
def test_the_second_sampler_acts_as_soon_as_alpha_falls(bbn, data, tmp_path):
    _, (_, _, rows) = bbn
    made = tiny.tuned('bbn', data, PLAIN | {'branches.sampler': 'instance_balanced'})
    _, _, others = tiny.run(made, tmp_path)
    assert rows[0]['loss'] == others[0]['loss']
    assert abs(rows[1]['loss'] - others[1]['loss']) > 1e-3


@pytest.mark.slow
def test_a_run_that_was_interrupted_ends_with_the_same_bits(bbn, data, tmp_path):
    _, (state, best, rows) = bbn
    made = tiny.tuned('bbn', data, PLAIN)
    tiny.interrupt(made, tmp_path, at=1)
    again, best_again, rows_again = tiny.run(made, tmp_path)
    assert tiny.same(again, state)
    assert best_again == best
    assert tiny.timeless(rows_again) == tiny.timeless(rows[1:])


@pytest.mark.slow
@pytest.mark.eight_devices
@pytest.mark.parametrize(
    'others',
    [{'devices': 1}, {'model.remat': True}, {'devices': 4, 'accumulate': 2}],
    ids=['one device', 'remat', 'two parts'],
)
def test_devices_and_memory_do_not_matter(bbn, others, data, tmp_path):
    _, (state, _, rows) = bbn
    changes = dict(others)
    devices = jax.devices()[: changes.pop('devices', 8)]
    made = tiny.tuned('bbn', data, PLAIN, **changes)
    found, _, rows_found = tiny.run(made, tmp_path, mesh=sharding.make_mesh(devices))
    for row, expected in zip(rows_found, rows, strict=True):
        assert row['loss'] == pytest.approx(expected['loss'], rel=1e-4)
    for a, b in zip(jax.tree.leaves(found.model), jax.tree.leaves(state.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_a_finished_run_predicts_and_is_exported(data, tmp_path):
    results = train.run(tiny.config('bbn', data), tmp_path / 'run')
    assert results['method'] == 'bbn'
    model = trained.load(tmp_path / 'run')
    found = model.predict(data, side='test')
    with np.load(tmp_path / 'run' / 'predictions.npz') as archive:
        np.testing.assert_allclose(found.logits, archive['logits'], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.features, archive['features'], rtol=1e-5, atol=1e-6)
    assert found.features.shape == (12, 32)
    file = tmp_path / 'model.safetensors'
    export.main([f'--workdir={tmp_path / "run"}', f'--out={file}'])
    tensors = read(file, {}).tensors
    assert tensors['branches.1.conv2.weight'].shape == (16, 16, 3, 3)
    assert tensors['classifier.weight'].shape == (3, 32)


# SADE.


@pytest.fixture(scope='module')
def sade_step():
    """(changes) -> the network, a batch, and its loss, compiled once for each tau."""

    def step(changes=None):
        model, update = network('sade', changes)
        graphdef, state = nnx.split(model)

        @jax.jit
        def loss(state, seen):
            copy = nnx.merge(graphdef, state, copy=True)
            return update.loss_fn(copy, {}, seen, jax.random.key(0), jnp.asarray(0))

        return model, loss(state, batch(0))

    return step


@pytest.mark.slow
def test_each_expert_has_its_loss_and_their_mean_predicts(sade_step):
    model, loss = sade_step()
    seen = batch(0)
    outputs = model(seen['view'])
    assert outputs.features.shape == (6, model.feature_dim) == (6, 48)
    kernels = jnp.split(model.classifier.kernel[...], 3)
    logits = [
        losses.cosine_logits(features, kernel.T, scale=30.0)
        for features, kernel in zip(jnp.split(outputs.features, 3, axis=1), kernels, strict=True)
    ]
    np.testing.assert_allclose(outputs.logits, sum(logits) / 3, rtol=1e-4, atol=1e-4)
    priors = np.log(np.array(tiny.COUNTS) / sum(tiny.COUNTS))
    added = {'forward': 0 * priors, 'uniform': priors, 'backward': priors - 2 * priors[::-1]}
    for own, (name, more) in zip(logits, added.items(), strict=True):
        shifted = own + jnp.asarray(more, jnp.float32)[None, :]
        expected = losses.mean(losses.softmax_cross_entropy(shifted, seen['label']))
        np.testing.assert_allclose(loss.logged[name], expected, rtol=1e-4)
    np.testing.assert_allclose(loss.value, sum(loss.logged.values()), rtol=1e-6)


@pytest.mark.slow
def test_tau_is_of_the_third_expert(sade_step):
    _, two = sade_step()
    _, zero = sade_step({'branches.tau': 0.0})
    differs = {name for name in two.logged if two.logged[name] != zero.logged[name]}
    assert differs == {'backward'}


def test_experts_start_apart_with_classes_of_unit_length():
    model, _ = network('sade')
    kernels = np.split(np.asarray(model.classifier.kernel[...]), 3)
    for kernel in kernels:
        np.testing.assert_allclose(np.linalg.norm(kernel, axis=0), 1, rtol=1e-5)
    assert np.abs(kernels[0] - kernels[1]).max() > 0.1
    first, second = (np.asarray(model.branches[i].conv1.kernel[...]) for i in range(2))
    assert np.abs(first - second).max() > 0.01


@pytest.mark.slow
def test_sade_trains_and_goes_on_with_the_same_bits(data, tmp_path):
    made = tiny.tuned('sade', data)
    state, _, rows = tiny.run(made, tmp_path / 'whole')
    assert tiny.finite(state, rows)
    for row in rows:
        assert row['loss'] == pytest.approx(row['forward'] + row['uniform'] + row['backward'], 1e-5)
    tiny.interrupt(made, tmp_path / 'parts', at=1)
    again, _, rows_again = tiny.run(made, tmp_path / 'parts')
    assert tiny.same(again, state)
    assert tiny.timeless(rows_again) == tiny.timeless(rows[1:])


# Both.


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'more', 'dim'),
    [
        ('resnet18', 2 * (512 * 512 * 18 + 4 * 512), 512),
        # A bottleneck of 512 channels.
        ('resnet50', 2 * (2 * 2048 * 512 + 9 * 512 * 512 + 4 * 512 + 2 * 2048), 2048),
        ('resnet32_cifar_normed', 2 * (64 * 64 * 18 + 4 * 64), 64),
        ('convnext_tiny', 2 * (2 * 768 * 192 + 9 * 192 * 192 + 4 * 192 + 2 * 768), 768),
        # Its last stage has 320 channels, which the head widens after the branches.
        ('efficientnet_lite0', 2 * (320 * 320 * 18 + 4 * 320), 1280),
        # A block of its own.
        ('vit_tiny', 2 * (12 * 192 * 192 + 13 * 192), 192),
    ],
)
def test_any_network_takes_branches(name, more, dim):
    recipe = methods.recipe(tiny.tuned('bbn').method, tiny.task())

    def make(add):
        model = models.create(name, num_classes=3, channels=1, rngs=nnx.Rngs(0))
        if add:
            recipe.add_heads(model, nnx.Rngs(1))
        return model

    def size(model):
        return sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))

    branched, plain = (nnx.eval_shape(lambda add=add: make(add)) for add in (True, False))
    head = size(branched.classifier) - size(plain.classifier)
    assert size(branched) - size(plain) - head == more
    assert branched.classifier.kernel.shape == (2 * dim, 3)
    graphdef, state = nnx.split(branched)
    images = jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.float32)
    outputs = jax.eval_shape(lambda s, x: nnx.merge(graphdef, s, copy=True)(x), state, images)
    assert outputs.features.shape == (2, branched.feature_dim) == (2, 2 * dim)
    assert outputs.logits.shape == (2, 3)
    assert branched.map_dim == plain.map_dim


def test_a_network_without_branches_is_as_it_was():
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    assert (model.map_dim, model.feature_dim) == (16, 16)
    add_branches(model, [residual_block(model, nnx.Rngs(1)) for _ in range(3)])
    assert (model.map_dim, model.feature_dim) == (16, 48)


def test_weights_trained_elsewhere_start_the_backbone():
    def make(**options):
        return models.create('small_cnn', width=4, **options)

    source = make(num_classes=3, channels=1, rngs=nnx.Rngs(5))
    model, _ = network('bbn')
    state, _ = pretrained.fit(make, model, to_torch(source))
    fresh = nnx.state(model)
    loaded = nnx.merge_state(fresh, state)
    assert tiny.same(loaded['convs'], nnx.state(source)['convs'])
    assert tiny.same(loaded['branches'], fresh['branches'])
    assert tiny.same(loaded['classifier'], fresh['classifier'])


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        (
            'bbn',
            {'branches.name': 'bilaterl'},
            "unknown method.branches.name 'bilaterl'.*bilateral",
        ),
        ('bbn', {'branches.sampler': 'inverse'}, "unknown sampler 'inverse'.*inverse_frequency"),
        ('bbn', {'train.epochs': 0}, 'no step to train'),
        ('sade', {'branches.tau': -1.0}, 'tau is -1.0: use 0 or more'),
        ('sade', {'branches.scale': 0.0}, 'scale is 0.0: use a positive number'),
    ],
)
def test_mistakes_are_one_line(name, changes, message):
    with pytest.raises(UserError, match=message) as error:
        methods.recipe(tiny.tuned(name, 'any', changes).method, tiny.task())
    assert '\n' not in str(error.value)
