"""Blurs, colours and dropout against numpy and their own statistics."""

import numpy as np
import pytest

from ltjax.data import augment
from views import draw, noise, repeat


def test_box_blur_is_the_mean_of_nine():
    images = noise(2, 6, 7, 3)
    views = draw([augment.OneOfBlur(motion=0, median=0, box=1, p=1.0)], images)
    padded = np.pad(images / 255.0, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='reflect')
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    np.testing.assert_allclose(views, windows.mean((-2, -1)), rtol=0, atol=1e-6)


def test_median_blur_is_the_median_of_nine():
    images = noise(2, 6, 7, 3)
    views = draw([augment.OneOfBlur(motion=0, median=1, box=0, p=1.0)], images)
    padded = np.pad(images / 255.0, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='reflect')
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    np.testing.assert_allclose(views, np.median(windows, (-2, -1)), rtol=0, atol=1e-6)


def test_motion_blur_spreads_a_point_along_a_line():
    image = np.zeros((15, 15, 1), np.uint8)
    image[7, 7] = 255
    op = augment.OneOfBlur(motion=1, median=0, box=0, motion_size=7, p=1.0)
    views = draw([op], repeat(image, 64))[..., 0]
    np.testing.assert_allclose(views.sum((1, 2)), 1.0, rtol=1e-5)
    y, x = np.mgrid[-7:8, -7:8]
    moments = np.array([[[np.sum(v * a * b) for a in (y, x)] for b in (y, x)] for v in views])
    small, large = np.linalg.eigvalsh(moments).T
    assert np.all(large > 2 * small)
    reach = np.array(
        [np.abs(x[v > 0]).max() for v in views] + [np.abs(y[v > 0]).max() for v in views]
    )
    assert set(reach) >= {1, 2, 3}
    assert reach.max() == 3


def test_rgb_shift_adds_one_constant_a_channel_within_limits():
    images = np.full((64, 3, 4, 3), 128, np.uint8)
    shifts = draw([augment.RGBShift(15, p=1.0)], images) * 255 - 128
    np.testing.assert_allclose(shifts, np.broadcast_to(shifts[:, :1, :1], shifts.shape), atol=1e-4)
    shifts = shifts[:, 0, 0]
    assert np.abs(shifts).max() < 15.001
    assert shifts.min() < -12
    assert shifts.max() > 12
    assert np.all(np.ptp(shifts, axis=1) > 0)


def test_rgb_shift_leaves_grey_images_alone():
    images = noise(4, 5, 5, 1)
    expected = draw('none', images)
    np.testing.assert_array_equal(draw([augment.RGBShift(15, p=1.0)], images), expected)


@pytest.mark.parametrize('channels', [1, 3])
def test_brightness_and_contrast_stay_within_their_limits(channels):
    images = np.zeros((64, 2, 2, channels), np.uint8)
    images[:, 0], images[:, 1] = 90, 150
    views = draw([augment.BrightnessContrast(0.2, 0.1, p=1.0)], images)
    contrast = (views[:, 1] - views[:, 0]) * 255 / 60
    brightness = views[:, 0] - contrast * 90 / 255
    for values, middle, limit in ((contrast, 1.0, 0.1), (brightness, 0.0, 0.2)):
        assert np.abs(values - middle).max() < limit + 1e-4
        assert np.abs(values - middle).max() > 0.8 * limit
        assert np.abs(values.mean() - middle) < 0.3 * limit


@pytest.mark.parametrize(('units', 'random_offset'), [(10, False), (5, True)])
def test_grid_dropout_blackens_squares_of_the_ratio(units, random_offset):
    images = np.full((32, 40, 40, 3), 255, np.uint8)
    op = augment.GridDropout(ratio=0.5, units=units, random_offset=random_offset, p=1.0)
    views = draw([op], images)
    assert set(np.unique(views)) == {0.0, 1.0}
    np.testing.assert_allclose((views == 0).mean((1, 2, 3)), 0.25, atol=1e-6)
    patterns = {view.tobytes() for view in views}
    assert (len(patterns) > 1) == random_offset


def test_photometry_acts_in_the_order_of_the_list():
    images = np.full((2, 10, 10, 3), 100, np.uint8)
    dropout = augment.GridDropout(p=1.0)
    brighten = augment.BrightnessContrast((0.1, 0.1), 0.0, p=1.0)
    assert draw([dropout, brighten], images).min() == pytest.approx(0.1)
    assert draw([brighten, dropout], images).min() == 0.0
