"""Vision Transformers' own parts: positions, pooling, sizes of images, rematerialisation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ltjax import models, sharding
from ltjax.errors import UserError
from ltjax.models.branches import add_branches, residual_block
from ltjax.models.positions import resampled, rotated, rotations
from ltjax.models.vit import ViT, by_patches

pytestmark = pytest.mark.slow

# Each option at least once.
KINDS = {
    'plain': {},
    'clip': {'pre_norm': True, 'mlp': 'quick_gelu', 'epsilon': 1e-5},
    'dinov2': {'registers': 4, 'layer_scale': 0.5, 'mlp': 'swiglu_packed'},
    'dinov3': {
        'positions': 'rotary',
        'registers': 2,
        'layer_scale': 0.5,
        'mlp': 'swiglu',
        'qkv_bias': False,
        'pool': 'mean_of_normed',
    },
    'mean': {'pool': 'mean', 'class_token': False},
}


def small(*, remat=False, depth=2, **options):
    def make():
        made = {'patch': 4, 'grid': 4} | options
        return ViT(24, depth, 2, num_classes=3, rngs=nnx.Rngs(0), **made)

    graphdef, state = nnx.split(nnx.eval_shape(make))
    rng = np.random.default_rng(0)
    model = nnx.merge(
        graphdef, jax.tree_util.tree_map_with_path(functools.partial(drawn, rng), state)
    )
    model.remat = remat
    return model


def drawn(rng, path, leaf):
    """Draws numbers under which every layer matters."""
    values = rng.standard_normal(leaf.shape, np.float32)
    if path[-2].key == 'kernel':
        return jnp.asarray(values / np.sqrt(np.prod(leaf.shape[:-1])))
    offset = 1 if path[-2].key in ('scale', 'layer_scale1', 'layer_scale2') else 0
    return jnp.asarray(offset + 0.2 * values)


def images(batch=2, height=16, width=16, channels=3):
    drawn = np.random.default_rng(0).normal(size=(batch, height, width, channels))
    return jnp.asarray(drawn, jnp.float32)


def apply(model, x):
    """Returns what a network that draws nothing says of images."""
    model.eval()
    return jax.jit(lambda state, x: nnx.merge(nnx.graphdef(model), state)(x))(nnx.state(model), x)


def step(model, key, x):
    """Returns features and gradients of a step that draws from `key`."""
    graphdef, parameters = nnx.split(model)

    @jax.jit
    def run(parameters, key, x):
        def loss_fn(parameters):
            model = nnx.merge(graphdef, parameters, copy=True)
            models.set_key(model, key)
            outputs = model(x)
            return jnp.sum(jnp.square(outputs.logits)), outputs.features

        return jax.grad(loss_fn, has_aux=True)(parameters)

    gradients, features = run(parameters, key, x)
    return features, gradients


def near(got, want, *, rtol=1e-4, atol=1e-5):
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


# Images of any size.


@pytest.mark.parametrize('kind', KINDS)
def test_any_size_that_patches_divide(kind):
    model = small(**KINDS[kind])
    graphdef, state = nnx.split(model)
    for sides in ((16, 16), (24, 24), (4, 40)):
        x = jax.ShapeDtypeStruct((2, *sides, 3), jnp.float32)
        outputs, maps = jax.eval_shape(
            lambda state, x: (
                nnx.merge(graphdef, state)(x),
                nnx.merge(graphdef, state).feature_maps(x),
            ),
            *(state, x),
        )
        assert outputs.features.shape == (2, 24)
        assert outputs.logits.shape == (2, 3)
        tokens = model.stem.prefix + sides[0] * sides[1] // 16
        assert {name: value.shape for name, value in maps.items()} == dict.fromkeys(
            ('stem', 'stage1', 'stage2'), (2, tokens, 24)
        )
        found = model.spatial(jnp.zeros((2, tokens, 24)), jnp.zeros((2, *sides, 3)))
        assert found.shape == (2, sides[0] // 4, sides[1] // 4, 24)


def test_other_sizes_are_refused_with_the_nearest():
    with pytest.raises(
        UserError, match=r'30x16 pixels .* patches of 4: make them 32x16 or 28x16'
    ) as e:
        small()(images(height=30))
    assert '\n' not in str(e.value)
    with pytest.raises(UserError, match=r'make them 4x4 \(--config.data.image_size'):
        small()(images(height=3, width=3))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'pool': 'max'}, "unknown pool of a Vision Transformer 'max'.*mean"),
        ({'positions': 'rope'}, "unknown positions of a Vision Transformer 'rope'"),
        ({'mlp': 'relu'}, "unknown mlp of a Vision Transformer 'relu'"),
        ({'class_token': False}, "no class token to pool: choose pool='mean'"),
        ({'drop_path_rate': 1.0}, 'drop_path_rate is 1.0: choose 0 or more, below 1'),
        ({'patch': 0}, 'patch is 0: choose 1 or more'),
        ({'grid': -1}, 'grid is -1: choose 0 or more'),
        ({'registers': -1}, 'registers is -1: choose 0 or more'),
    ],
)
def test_refusals(options, message):
    with pytest.raises(UserError, match=message):
        small(**options)


def test_patches_are_a_convolution():
    x, kernel = images(height=8), jax.random.normal(jax.random.key(0), (4, 4, 3, 5))
    found = by_patches(x, kernel, precision='highest')
    want = jax.lax.conv_general_dilated(
        *(x, kernel, (4, 4), 'VALID'),
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        precision='highest',
    )
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=1e-5)


def test_learned_positions_of_another_grid_lie_between():
    rows, columns = np.mgrid[:4, :6].astype(np.float32)
    positions = np.stack([rows, columns], axis=-1).reshape(-1, 2)
    np.testing.assert_array_equal(resampled(positions, (4, 6), (4, 6)), positions)
    finer = np.asarray(resampled(jnp.asarray(positions), (4, 6), (8, 12))).reshape(8, 12, 2)
    np.testing.assert_allclose(finer[3:5, 5:7, 0], [[1.25] * 2, [1.75] * 2], atol=1e-5)
    np.testing.assert_allclose(finer[3:5, 5:7, 1], [[2.25, 2.75]] * 2, atol=1e-5)
    constant = resampled(jnp.ones((24, 2)), (4, 6), (3, 2))
    np.testing.assert_allclose(constant, np.ones((6, 2)), rtol=1e-6)


def test_rotary_scores_depend_on_distance_alone():
    turns = rotations((1, 64), 8, prefix=1)
    np.testing.assert_array_equal(turns[:, 0], [[1] * 8, [0] * 8])
    query, key = jax.random.normal(jax.random.key(0), (2, 8))

    def score(one, other):
        def turned(x, at):
            return rotated(x[None, None, None], turns[:, at : at + 1])[0, 0, 0]

        return turned(query, one) @ turned(key, other)

    np.testing.assert_allclose(score(3, 7), score(23, 27), rtol=1e-4)
    assert abs(score(3, 7) - score(3, 11)) > 1e-3
    np.testing.assert_allclose(
        jnp.linalg.norm(rotated(jnp.ones((1, 65, 1, 8)), turns), axis=-1), 8**0.5, rtol=1e-5
    )


# What they compute.


@pytest.mark.parametrize('kind', KINDS)
def test_every_patch_and_every_parameter_counts(kind):
    model = small(**KINDS[kind])
    _, gradients = step(model, jax.random.key(0), images())
    still = [path for path, leaf in nnx.to_flat_state(gradients) if not np.abs(leaf[...]).max() > 0]
    assert not still
    x = images(batch=1)
    graphdef, state = nnx.split(model)
    logits = jax.jit(jax.grad(lambda x: jnp.square(nnx.merge(graphdef, state)(x).logits).sum()))
    seen = logits(x)
    patches = np.abs(seen).reshape(4, 4, 4, 4, 3).max(axis=(1, 3, 4))
    assert (patches > 0).all()


def test_pools():
    token, mean, normed = (small(pool=pool) for pool in ('token', 'mean', 'mean_of_normed'))
    last = jax.random.normal(jax.random.key(0), (2, 17, 24))

    def norm(x, layer):
        normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return normed * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])

    x = np.asarray(last)
    near(token.pool(last), norm(x[:, 0], token.norm), atol=1e-4)
    near(mean.pool(last), norm(x[:, 1:].mean(1), mean.pool_norm), atol=1e-4)
    near(normed.pool(last), norm(x[:, 1:], normed.norm).mean(1), atol=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_bfloat16_is_near(kind):
    options = KINDS[kind]
    x = images(height=24)
    want, got = (apply(small(dtype=dtype, **options), x) for dtype in (jnp.float32, jnp.bfloat16))
    assert got.features.dtype == got.logits.dtype == jnp.float32
    for ours, theirs in zip(got, want, strict=True):
        assert np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()
    maps = jax.eval_shape(small(dtype=jnp.bfloat16, **options).feature_maps, x)
    assert {value.dtype for value in maps.values()} == {jnp.dtype('bfloat16')}


def test_the_softmax_is_float32_under_bfloat16():
    graphdef, state = nnx.split(small(dtype=jnp.bfloat16, depth=1).blocks[0].attention)
    jaxpr = str(jax.make_jaxpr(nnx.merge(graphdef, state))(jnp.zeros((1, 5, 24), 'bfloat16')))
    exponentials = [line for line in jaxpr.splitlines() if '= exp ' in line]
    assert exponentials
    assert all('f32[' in line and 'bf16[' not in line for line in exponentials)


@pytest.mark.parametrize('kind', ['plain', 'dinov3'])
def test_rematerialised_numbers_are_the_same(kind):
    options = KINDS[kind] | {'drop_path_rate': 0.5}
    plain, again = (
        step(small(remat=remat, **options), jax.random.key(1), images()) for remat in (False, True)
    )
    flat = [
        jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (again, plain)
    ]
    assert jnp.abs(flat[0] - flat[1]).max() <= 1e-6 * jnp.abs(flat[1]).max()


def test_branches_are_dropped_for_whole_images():
    model = small(drop_path_rate=0.9)
    rates = [m.rate for _, m in nnx.iter_modules(model) if isinstance(m, nnx.Dropout)]
    assert sorted(rates) == [0.0, 0.9]
    same = jnp.repeat(images(1), 64, axis=0)
    one, again, other = (step(model, jax.random.key(seed), same)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 0
    assert 3 <= len(np.unique(np.round(one, 4), axis=0)) <= 4  # neither, either or both branches


def test_parts_of_a_batch_give_the_same_numbers():
    model, x = small(), images(4)
    whole = apply(model, x).features
    models.set_chunks(model, 2)
    np.testing.assert_allclose(apply(model, x).features, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.eight_devices
def test_one_device_and_eight_give_the_same_numbers():
    model = small(drop_path_rate=0.5, registers=2)
    mesh = sharding.make_mesh(fsdp=4)
    x = images(8)
    alone = step(model, jax.random.key(0), x)
    split = jax.device_put(x, sharding.batch_sharding(mesh))
    placed = sharding.place_state(nnx.state(model), mesh)
    shared = step(nnx.merge(nnx.graphdef(model), placed), jax.random.key(0), split)
    near(shared, alone, rtol=1e-3, atol=1e-4)


def test_every_large_kernel_is_split_by_fsdp():
    mesh = sharding.make_mesh(fsdp=8)
    for name in ('vit_tiny', 'vit_large'):
        made = nnx.eval_shape(
            lambda name=name: models.create(name, num_classes=10, layer_scale=0.1, rngs=nnx.Rngs(0))
        )
        whole = {
            '.'.join(map(str, path)).replace('.0.', '.'): leaf.shape
            for path, leaf in nnx.to_flat_state(nnx.state(made))
            if not any(sharding.state_sharding(leaf.shape, mesh).spec) and len(leaf.shape) > 1
        }
        assert set(whole) == {'classifier.kernel'}


def test_a_branch_is_a_block_of_the_same_kind():
    model = small(registers=2)
    add_branches(model, [residual_block(model, nnx.Rngs(number)) for number in (1, 2)])
    model.classifier = nnx.Linear(48, 3, rngs=nnx.Rngs(0))
    assert apply(model, images()).features.shape == (2, 48)
    assert {type(block) for block in model.branches} == {type(model.blocks[0])}
