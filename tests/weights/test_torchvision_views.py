"""Views are torchvision's, number for number where nothing is drawn, in distribution where something is."""

import numpy as np
import pytest
import torch
from scipy import stats

from ltjax.data import augment
from views import draw, noise, repeat
from weights.operators import library

transforms = library('torchvision.transforms')
functional = transforms.functional

DRAWS = 3000


def theirs(transform, image, count):
    """Returns `count` draws of a transform of one image [H, W, C] uint8, in 0 to 1."""
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
    torch.manual_seed(0)
    return torch.stack([transform(tensor) for _ in range(count)]).permute(0, 2, 3, 1).numpy()


def ours(op, image, count):
    return draw([op], repeat(image, count))


def same_distribution(a, b):
    """Checks single numbers of many draws by the test of Kolmogorov and Smirnov."""
    # Rounded, so that an image that is left alone has one number on both sides.
    assert stats.ks_2samp(a.round(3), b.round(3)).pvalue > 1e-3


PAIRS = {
    'crop': (
        augment.ResizedCrop(scale=(0.2, 1.0)),
        transforms.RandomResizedCrop(24, scale=(0.2, 1.0), antialias=True),
    ),
    'padded crop': (augment.Shift(4, black=True, p=1.0), transforms.RandomCrop(24, padding=4)),
    'jitter': (
        augment.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        transforms.ColorJitter(0.4, 0.4, 0.4, 0.1),
    ),
    'blur': (augment.GaussianBlur(size=13, p=1.0), transforms.GaussianBlur(13, (0.1, 2.0))),
    'erasing': (augment.Erasing(), transforms.RandomErasing(0.5)),
    'affine': (
        augment.Affine(degrees=180, scale=0.2, black=True, p=1.0),
        transforms.RandomAffine(
            180, scale=(0.8, 1.2), interpolation=transforms.InterpolationMode.BILINEAR
        ),
    ),
    'sharpness': (augment.Sharpness(), transforms.RandomAdjustSharpness(2.0)),
    'grey': (augment.Greyscale(p=0.2), transforms.RandomGrayscale(0.2)),
}


@pytest.mark.parametrize('name', PAIRS)
def test_pixels_and_their_relations_have_one_distribution(name):
    op, transform = PAIRS[name]
    image = noise(1, 24, 24, 3)[0] // 2 + np.arange(24, dtype=np.uint8)[:, None, None] * 5
    a, b = ours(op, image, DRAWS), theirs(transform, image, DRAWS)
    if name == 'affine':  # at the border theirs blends with black over a pixel: look inside
        a, b = a[:, 6:-6, 6:-6], b[:, 6:-6, 6:-6]
    rng = np.random.default_rng(0)
    for _ in range(4):
        weights = rng.normal(size=a.shape[1:])
        same_distribution((a * weights).sum((1, 2, 3)), (b * weights).sum((1, 2, 3)))
    same_distribution(a.std((1, 2, 3)), b.std((1, 2, 3)))
    np.testing.assert_allclose(a.mean((0, 3)), b.mean((0, 3)), atol=0.03)


def test_numbers_are_theirs_where_nothing_is_drawn():
    image = noise(1, 9, 11, 3)[0]
    tensor = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255

    def check(op, expected):
        np.testing.assert_allclose(
            ours(op, image, 1)[0], expected.permute(1, 2, 0).numpy(), atol=2e-5
        )

    check(augment.Sharpness(factor=2.0, p=1.0), functional.adjust_sharpness(tensor, 2.0))
    check(augment.Sharpness(factor=0.3, p=1.0), functional.adjust_sharpness(tensor, 0.3))
    check(
        augment.GaussianBlur(sigma=(1.2, 1.2), size=7, p=1.0),
        functional.gaussian_blur(tensor, [7, 7], [1.2, 1.2]),
    )
    check(augment.Greyscale(p=1.0), functional.rgb_to_grayscale(tensor, 3))
