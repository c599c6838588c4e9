"""Colours, edges, crops and rectangles as torchvision has them, against colorsys, numpy and their own statistics."""

import colorsys

import numpy as np
import pytest

from ltjax.data import augment
from views import draw, noise, repeat


def jitter(images, **limits):
    return draw([augment.ColorJitter(**limits)], images)


def test_hue_turns_the_colour_circle():
    image = noise(1, 5, 6, 3)[0]
    turned = jitter(repeat(image, 64), hue=0.5)
    hsv = np.array([[colorsys.rgb_to_hsv(*pixel) for pixel in row] for row in image / 255.0])
    turns = []
    for one in turned:
        theirs = np.array([[colorsys.rgb_to_hsv(*pixel) for pixel in row] for row in one])
        np.testing.assert_allclose(theirs[..., 1:], hsv[..., 1:], atol=1e-4)
        turn = (theirs[..., 0] - hsv[..., 0] + 0.5) % 1.0 - 0.5
        assert np.ptp(np.cos(2 * np.pi * turn)) < 1e-3
        turns.append(turn[0, 0])
    assert np.abs(turns).max() > 0.4
    assert np.abs(jitter(repeat(image, 8), hue=0.0) - image / 255.0).max() < 1e-6


@pytest.mark.parametrize('kind', ['brightness', 'contrast', 'saturation'])
def test_factors_blend_with_black_the_mean_or_the_grey_image(kind):
    image = noise(1, 5, 6, 3)[0] // 2 + 60
    plain = image / 255.0
    grey = (plain @ np.array([0.2989, 0.587, 0.114]))[..., None]
    towards = {
        'brightness': 0 * plain,
        'contrast': grey.mean() + 0 * plain,
        'saturation': grey + 0 * plain,
    }
    views = jitter(repeat(image, 64), **{kind: 0.3})
    away = plain - towards[kind]
    factors = np.array([(((v - towards[kind]) * away).sum() / (away**2).sum()) for v in views])
    for view, factor in zip(views, factors, strict=True):
        expected = np.clip(towards[kind] + factor * away, 0, 1)
        np.testing.assert_allclose(view, expected, atol=2e-3)
    assert factors.min() < 0.8
    assert factors.max() > 1.2
    assert np.all(np.abs(factors - 1) < 0.301)


def test_greyscale_has_equal_channels_and_torchvisions_weights():
    images = noise(2, 3, 4, 3)
    views = draw([augment.Greyscale(p=1.0)], images)
    np.testing.assert_allclose(
        views[..., 0], images / 255.0 @ np.array([0.2989, 0.587, 0.114]), atol=1e-6
    )
    np.testing.assert_array_equal(views[..., 0], views[..., 2])
    np.testing.assert_allclose(draw([augment.Greyscale(p=0.0)], images), images / 255.0, atol=1e-6)


def test_gaussian_blur_keeps_means_and_has_its_width():
    image = np.zeros((25, 25, 1), np.uint8)
    image[12, 12] = 255
    views = draw([augment.GaussianBlur(sigma=(1.5, 1.5), p=1.0)], repeat(image, 2))[..., 0]
    y, x = np.mgrid[-12:13, -12:13]
    np.testing.assert_allclose(views.sum((1, 2)), 1.0, rtol=1e-5)
    assert (views[0] * y**2).sum() == pytest.approx(1.5**2, rel=0.01)
    assert (views[0] * x * y).sum() == pytest.approx(0.0, abs=1e-6)


def test_sharpness_moves_away_from_the_smoothed_image_but_at_the_border():
    images = noise(1, 6, 7, 3) // 4 + 90
    (view,) = draw([augment.Sharpness(factor=2.0, p=1.0)], images)
    plain = images[0] / 255.0
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13
    windows = np.lib.stride_tricks.sliding_window_view(plain, (3, 3), axis=(0, 1))
    smooth = plain.copy()
    smooth[1:-1, 1:-1] = (windows * kernel).sum((-2, -1))
    np.testing.assert_allclose(view, np.clip(2 * plain - smooth, 0, 1), atol=1e-5)


def test_erasing_blackens_one_rectangle_within_its_limits():
    views = draw([augment.Erasing(p=1.0)], np.full((400, 20, 30, 1), 255, np.uint8))[..., 0]
    for view in views:
        rows, columns = np.flatnonzero((view == 0).any(1)), np.flatnonzero((view == 0).any(0))
        assert (
            (view == 0).sum()
            == len(rows) * len(columns)
            == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        )
    areas = (views == 0).mean((1, 2))
    assert 0.01 < areas.min() < 0.03
    assert 0.3 < areas.max() < 0.36


def test_a_padded_crop_moves_and_fills_with_black():
    images = np.full((300, 6, 6, 1), 255, np.uint8)
    views = draw([augment.Shift(4, black=True, p=1.0)], images)[..., 0]
    rows = (views > 0).any(2).sum(1)
    assert set(rows) == {2, 3, 4, 5, 6}
    assert (rows == 6).mean() == pytest.approx(1 / 9, abs=0.05)
    assert set(np.unique(views)) == {0.0, 1.0}


def test_a_resized_crop_shows_a_part_and_nothing_else():
    ramp = np.broadcast_to(np.arange(60, dtype=np.uint8)[None, :, None] * 4, (60, 60, 1))
    views = draw(
        [augment.ResizedCrop(scale=(0.25, 0.25), ratio=(1.0, 1.0))], repeat(ramp.copy(), 200)
    )[..., 0]
    columns = views[:, 0] * 255 / 4
    np.testing.assert_allclose(
        columns[:, -1] - columns[:, 0], 29.0, atol=1e-3
    )  # 30 pixels, centre to centre
    assert columns.min() >= 0
    assert columns[:, 0].min() < 3
    assert columns[:, 0].max() > 27
    whole = draw([augment.ResizedCrop(scale=(1.0, 1.0), ratio=(1.0, 1.0))], repeat(ramp.copy(), 2))
    np.testing.assert_allclose(
        whole[..., 0], ramp[None, ..., 0] / 255.0 + 0 * whole[..., 0], atol=1e-5
    )


def test_an_affine_map_fills_with_black_where_it_is_told_to():
    images = np.full((50, 16, 16, 1), 255, np.uint8)
    turned = draw([augment.Affine(degrees=(45.0, 45.0), black=True, p=1.0)], images)[..., 0]
    assert (turned[:, 0, 0] == 0).all()
    assert (turned[:, 8, 8] == 1).all()
    assert draw([augment.Affine(degrees=45, p=1.0)], images).min() > 0.99
