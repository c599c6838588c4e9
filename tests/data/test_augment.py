"""The device augmentations against numpy, closed forms and their own statistics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax import errors
from ltjax.data import augment
from views import KEY, compiled, draw, noise, repeat, smooth, to_bytes


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(augment.VIEWS))
@pytest.mark.parametrize('shape', [(8, 14, 18, 3), (2, 18, 14, 1)])
def test_every_list_keeps_shape_type_and_range(name, shape):
    views = draw(name, noise(*shape))
    assert views.shape == shape
    assert views.dtype == np.float32
    assert views.min() >= 0.0
    assert views.max() <= 1.0


# A view takes a second to compile. Those of this set have most kinds of operations; each has tests of its own below.
QUICK = {'lmd_strong', 'moco_v2', 'cifar'}


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow)
        for name in sorted(set(augment.VIEWS) - {'none'})
    ],
)
def test_same_key_same_views_and_other_key_other_views(name):
    images = noise(8, 14, 18, 3)
    first = draw(name, images)
    np.testing.assert_array_equal(first, draw(name, images))
    assert not np.array_equal(first, draw(name, images, jax.random.key(1)))


def test_images_of_a_batch_draw_different_numbers():
    views = draw('cell_strong', repeat(noise(14, 18, 3), 8))
    assert len(np.unique(views.reshape(8, -1), axis=0)) == 8


@pytest.mark.parametrize('name', ['upright_weak', 'lmd_strong'])
def test_view_does_not_depend_on_the_rest_of_the_batch(name):
    images = noise(8, 14, 18, 3)
    expected = draw(name, images)[:4]
    np.testing.assert_allclose(draw(name, images[:4]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', ['upright_weak', 'lmd_strong'])
def test_sharded_batch_gives_the_views_of_the_whole_without_communication(name):
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec('data'))
    images = noise(8, 14, 18, 3)
    sharded = jax.device_put(images, sharding)
    program = compiled(name).lower(KEY, sharded).compile()
    views = program(KEY, sharded)
    assert views.sharding.is_equivalent_to(sharding, views.ndim)
    np.testing.assert_allclose(views, draw(name, images), rtol=0, atol=1e-5)
    for collective in ('all-gather', 'all-reduce', 'all-to-all', 'collective-permute'):
        assert collective not in program.as_text()


def test_compiles_once_for_a_shape():
    fn, traces = augment.view('upright_weak', mean=[0.5], std=[0.25]), []

    @jax.jit
    def counted(key, images):
        traces.append(images.shape)
        return fn(key, images)

    for seed in range(3):
        counted(jax.random.key(seed), noise(4, 10, 10, 1, seed=seed))
    assert traces == [(4, 10, 10, 1)]


@pytest.mark.parametrize(
    ('mean', 'std'), [([0.5], [0.25]), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
)
def test_no_operations_normalise_only(mean, std):
    images = noise(2, 5, 7, 3)
    expected = (images / 255.0 - np.asarray(mean)) / np.asarray(std)
    views = augment.view('none', mean=mean, std=std)(KEY, jnp.asarray(images))
    np.testing.assert_allclose(views, expected, rtol=1e-5, atol=1e-6)


ALL_OFF = (
    augment.HorizontalFlip(p=0.0),
    augment.VerticalFlip(p=0.0),
    augment.Shift(3, p=0.0),
    augment.Affine(45, 0.1, 0.2, p=0.0),
    augment.Distort(p=0.0),
    augment.OneOfBlur(motion_size=5, p=0.0),
    augment.RGBShift(15, p=0.0),
    augment.BrightnessContrast(p=0.0),
    augment.GridDropout(p=0.0),
)


def test_probability_zero_is_the_identity():
    images = noise(4, 11, 13, 3)
    np.testing.assert_allclose(draw(ALL_OFF, images), images / 255.0, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ('op', 'axis'), [(augment.HorizontalFlip(p=1.0), 2), (augment.VerticalFlip(p=1.0), 1)]
)
def test_flip_is_exact(op, axis):
    images = noise(3, 6, 9, 3)
    expected = np.flip(images, axis)
    np.testing.assert_array_equal(to_bytes(draw([op], images)), expected)
    idle = augment.Affine(45, 0.1, 0.2, p=0.0)
    np.testing.assert_array_equal(to_bytes(draw([op, idle], images)), expected)


@pytest.mark.parametrize('p', [0.2, 0.5])
def test_probability_is_respected(p):
    count = 2000
    image = noise(2, 3, 1)
    views = to_bytes(draw([augment.HorizontalFlip(p=p)], repeat(image, count)))
    share = np.mean(np.any(views != image[None], axis=(1, 2, 3)))
    assert abs(share - p) < 4 * np.sqrt(p * (1 - p) / count)


def test_flips_are_independent_of_each_other():
    image = noise(2, 3, 1)
    views = to_bytes(draw('lmd_weak', repeat(image, 2000)))
    share = np.mean(np.all(views == image[None, ::-1, ::-1], axis=(1, 2, 3)))
    assert abs(share - 0.25) < 0.04


def test_shift_takes_every_whole_move_with_reflected_borders():
    image = noise(7, 9, 1)
    views = to_bytes(draw([augment.Shift(2, p=1.0)], repeat(image, 400)))
    padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode='reflect')
    moves = {padded[i : i + 7, j : j + 9].tobytes() for i in range(5) for j in range(5)}
    assert {view.tobytes() for view in views} == moves


@pytest.mark.parametrize(('degrees', 'turns'), [(90, 1), (-90, -1), (180, 2)])
def test_affine_by_right_angles_is_rot90(degrees, turns):
    images = noise(2, 9, 9, 3)
    views = draw([augment.Affine((degrees, degrees), p=1.0)], images)
    expected = np.rot90(images, turns, axes=(1, 2)) / 255.0
    np.testing.assert_allclose(views, expected, rtol=0, atol=1e-4)


def test_affine_moves_by_a_fraction_of_the_size():
    images = noise(2, 8, 12, 1)
    views = draw([augment.Affine(0.0, translate=(0.25, 0.25), p=1.0)], images)
    np.testing.assert_allclose(views[:, 2:, 3:], images[:, :-2, :-3] / 255.0, rtol=0, atol=1e-5)


def test_affine_scale_enlarges_about_the_centre():
    ramp = np.broadcast_to(np.arange(21, dtype=np.uint8)[None, :, None] * 10, (5, 21, 1))
    views = draw([augment.Affine(0.0, scale=(1.0, 1.0), p=1.0)], ramp[None])
    expected = (10 * (10 + (np.arange(21) - 10) / 2)) / 255
    np.testing.assert_allclose(views[0, 2, :, 0], expected, rtol=0, atol=1e-5)


def test_geometry_composes_in_the_order_of_the_list():
    images = noise(2, 9, 9, 1)
    turn, flip = augment.Affine((90, 90), p=1.0), augment.HorizontalFlip(p=1.0)
    turned_first = np.flip(np.rot90(images, 1, axes=(1, 2)), 2) / 255.0
    flipped_first = np.rot90(np.flip(images, 2), 1, axes=(1, 2)) / 255.0
    np.testing.assert_allclose(draw([turn, flip], images), turned_first, rtol=0, atol=1e-4)
    np.testing.assert_allclose(draw([flip, turn], images), flipped_first, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    'weights', [{'elastic': 0, 'optical': 0}, {'grid': 0, 'optical': 0}, {'grid': 0, 'elastic': 0}]
)
def test_each_distortion_moves_pixels_a_little(weights):
    image = smooth(24, 30)
    op = augment.Distort(**{'grid': 1, 'elastic': 1, 'optical': 1, **weights}, p=1.0)
    views = draw([op], repeat(image, 16))
    change = np.abs(views - image[None] / 255.0)
    assert np.all(change.max(axis=(1, 2, 3)) > 1e-4)
    assert change.max() > 0.01
    assert change.mean() < 0.05


def test_grid_distortion_keeps_the_border_and_is_monotone():
    ramp = np.broadcast_to(np.arange(26, dtype=np.uint8)[None, :, None] * 10, (6, 26, 1))
    op = augment.Distort(grid=1, elastic=0, optical=0, p=1.0)
    columns = draw([op], repeat(ramp, 16))[:, 3, :, 0] * 25.5
    np.testing.assert_allclose(columns[:, [0, -1]], [[0, 25]] * 16, rtol=0, atol=1e-4)
    steps = np.diff(columns, axis=1)
    # A cell's width is within (0.7, 1.3) of the mean width before it is rescaled.
    assert steps.min() > 0.7 / 1.3 - 1e-3
    assert steps.max() < 1.3 / 0.7 + 1e-3
    assert steps.std() > 0.05


def test_elastic_displacement_stays_below_its_limit_and_reaches_towards_it():
    ramp = np.broadcast_to(np.arange(40, dtype=np.uint8)[None, :, None] * 6, (40, 40, 1))
    op = augment.Distort(grid=0, elastic=1, optical=0, elastic_limit=0.1, p=1.0)
    moved = draw([op], repeat(ramp, 16))[:, :, 5:-5, 0] * 255 / 6 - np.arange(5, 35)
    assert 1.0 < np.abs(moved).max() < 4.0


def test_optical_distortion_is_radial():
    ramp = np.broadcast_to(np.arange(41, dtype=np.uint8)[None, :, None] * 6, (41, 41, 1))
    op = augment.Distort(grid=0, elastic=0, optical=1, optical_limit=(-0.4, -0.4), p=1.0)
    row = draw([op], ramp[None])[0, 20, :, 0] * 255 / 6 - 20
    x = np.arange(41) - 20
    r2 = (x / 41) ** 2
    np.testing.assert_allclose(row, x * (1 - 0.4 * (r2 + r2**2)), rtol=0, atol=1e-3)


def test_tiny_images_do_not_break_anything():
    assert np.all(np.isfinite(draw('lmd_strong', noise(2, 4, 5, 3))))
    assert np.all(np.isfinite(draw('upright_strong', noise(2, 1, 3, 1))))


def test_unknown_name_is_the_users_mistake():
    with pytest.raises(errors.UserError, match=r"unknown augmentation 'cell_weka'.*cell_weak"):
        augment.view('cell_weka', mean=[0.5], std=[0.5])


@pytest.mark.parametrize(
    'make',
    [
        lambda: augment.HorizontalFlip(p=1.5),
        lambda: augment.OneOfBlur(motion=0, median=0, box=0),
        lambda: augment.OneOfBlur(motion_size=4),
        lambda: augment.Distort(grid=-1),
        lambda: augment.Distort(knots=3),
        lambda: augment.view([augment.Distort(), augment.Affine(45)], mean=[0.5], std=[0.5]),
        lambda: augment.view('none', mean=[0.5], std=[0.0]),
        lambda: augment.view('none', mean=[0.5, 0.5, 0.5], std=[0.5]),
    ],
)
def test_impossible_parameters_raise(make):
    with pytest.raises(ValueError, match=r'must|take'):
        make()


@pytest.mark.parametrize(
    ('shape', 'dtype', 'mean'),
    [
        ((2, 4, 4, 3), np.float32, [0.5]),
        ((4, 4, 3), np.uint8, [0.5]),
        ((2, 4, 4, 2), np.uint8, [0.5]),
        ((2, 4, 4, 1), np.uint8, [0.5, 0.5, 0.5]),
    ],
)
def test_images_that_do_not_fit_raise(shape, dtype, mean):
    fn = augment.view('none', mean=mean, std=mean)
    with pytest.raises(ValueError, match=r'images must|means do not fit'):
        fn(KEY, jnp.zeros(shape, dtype))
