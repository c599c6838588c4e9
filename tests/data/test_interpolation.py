"""What accelerators do in place of a CPU's loops and reads gives the same views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.data import augment
from ltjax.data.augment import interpolation
from views import KEY, draw, noise

pytestmark = pytest.mark.slow

IDENTITY = augment.Affine(degrees=45, p=0.0)


@pytest.mark.parametrize('shape', [(9, 14, 3), (14, 9, 1), (1, 5, 3)])
def test_all_ways_read_the_same_pixels(shape):
    height, width, _ = shape
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.integers(0, 256, shape, np.uint8))
    y = jnp.asarray(rng.uniform(0, height - 1, (height, 1)), jnp.float32).at[0].set(height - 1)
    x = jnp.asarray(rng.uniform(0, width - 1, (1, width)), jnp.float32).at[:, 0].set(width - 1)
    expected = interpolation.by_pixel(image, y, x)
    assert np.ptp(expected) > 0
    for read in (interpolation.by_square, interpolation.by_products):
        np.testing.assert_allclose(read(image, y, x), expected, rtol=0, atol=1e-4)
    everywhere = (y + jnp.zeros_like(x), x + jnp.zeros_like(y))
    np.testing.assert_allclose(
        interpolation.by_square(image, *everywhere), expected, rtol=0, atol=1e-4
    )


LISTS = {
    # Its operations but the median, which XLA takes long to compile.
    'strong': (
        *augment.VIEWS['lmd_strong'][:4],
        augment.OneOfBlur(motion=1, median=0, box=1, p=1.0),
    ),
    'crop': (augment.ResizedCrop(), augment.HorizontalFlip(), augment.GaussianBlur(p=1.0)),
}


@pytest.mark.parametrize('device', ['cuda', 'tpu'])
@pytest.mark.parametrize('name', LISTS)
def test_views_of_an_accelerator_are_those_of_a_cpu(name, device, monkeypatch):
    images = noise(8, 14, 18, 3)
    expected = draw(LISTS[name], images)

    def chosen(*arguments, cpu, default, **others):
        return others.get(device, default)(*arguments)

    monkeypatch.setattr(jax.lax, 'platform_dependent', chosen)
    views = jax.jit(augment.view(LISTS[name], mean=(0.0,), std=(1.0,)))(KEY, images)
    np.testing.assert_allclose(views, expected, rtol=0, atol=2e-6)
    assert not np.array_equal(views, images / 255.0)


@pytest.mark.parametrize(
    'operations',
    [
        (augment.HorizontalFlip(), augment.VerticalFlip()),
        (augment.Shift(3, p=0.8), augment.HorizontalFlip()),
        (augment.VerticalFlip(), augment.Shift(3, black=True, p=0.8), augment.Shift(2, p=1.0)),
        (augment.Shift(7, p=1.0),),
    ],
)
def test_moved_pixels_are_those_that_their_coordinates_say(operations):
    """An operation that interpolates, and leaves all where it is, has the others read by coordinates."""
    images = noise(16, 5, 6, 3)
    for number in range(3):
        key = jax.random.key(number)
        moved, read = draw(operations, images, key), draw((*operations, IDENTITY), images, key)
        np.testing.assert_array_equal(moved, read)
