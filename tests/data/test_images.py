"""Image files: what is read, and which file is at fault."""

import cv2
import numpy as np
import pytest
from PIL import Image

from ltjax.data import images
from ltjax.errors import UserError

GREY = np.arange(0, 240, dtype=np.uint8).reshape(12, 20)
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], axis=-1)


def write(path, pixels, mode=None):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)
    return path


@pytest.mark.parametrize('suffix', ['.png', '.bmp', '.tif', '.tiff'])
def test_lossless_files_come_out_as_they_are(tmp_path, suffix):
    assert images.decode(write(tmp_path / f'a{suffix}', COLOUR)).tolist() == COLOUR.tolist()
    assert images.decode(write(tmp_path / f'b{suffix}', GREY)).tolist() == GREY[..., None].tolist()


@pytest.mark.parametrize('suffix', ['.jpg', '.jpeg', '.webp'])
def test_lossy_files_come_out_nearly(tmp_path, suffix):
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    found = images.decode(write(tmp_path / f'a{suffix}', flat)).astype(int)
    assert np.abs(found - flat).max() < 10


def test_channels_are_converted(tmp_path):
    grey, colour = write(tmp_path / 'g.png', GREY), write(tmp_path / 'c.png', COLOUR)
    assert images.decode(grey, 3).tolist() == np.repeat(GREY[..., None], 3, 2).tolist()
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(images.decode(colour, 1)[..., 0] - luma).max() <= 1


@pytest.mark.parametrize(
    ('mode', 'channels'), [('1', 1), ('L', 1), ('P', 3), ('RGBA', 3), ('LA', 3)]
)
def test_palettes_masks_and_transparency_become_grey_or_colour(tmp_path, mode, channels):
    path = write(tmp_path / 'a.png', COLOUR, mode)
    assert images.decode(path).shape == (12, 20, channels)
    assert images.decode(path).dtype == np.uint8


def test_sixteen_bits_are_refused_and_not_clipped(tmp_path):
    path = write(tmp_path / 'ct.png', GREY.astype(np.uint16) * 256)
    with pytest.raises(UserError, match=r'ct\.png has more than 8 bits a channel'):
        images.decode(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r'absent\.png does not exist'):
        images.decode(tmp_path / 'absent.png')


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / 'notes.png').write_text('not an image', 'utf-8')
    (tmp_path / 'empty.jpg').write_bytes(b'')
    for name in ('notes.png', 'empty.jpg'):
        with pytest.raises(UserError, match=f'{name} is not an image'):
            images.decode(tmp_path / name)
    with pytest.raises(UserError, match='is damaged'):
        images.decode(tmp_path)


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.tif'])
@pytest.mark.parametrize('share', [0.3, 0.5, 0.9])
def test_a_file_cut_short_is_named(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    path = write(tmp_path / f'cut{suffix}', noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=rf'cut\{suffix} is (damaged|not an image)') as error:
        images.decode(path)
    assert '\n' not in str(error.value)


def test_resizing_averages_down_and_interpolates_up():
    board = (np.indices((8, 8)).sum(0) % 2 * 200).astype(np.uint8)[..., None]
    assert images.resize(board, 4).ravel().tolist() == [100] * 16
    assert images.resize(board, 8) is board
    assert images.resize(np.repeat(board, 3, 2), 4).shape == (4, 4, 3)
    bigger = images.resize(board, 16)
    assert bigger.shape == (16, 16, 1)
    linear = cv2.resize(board, (16, 16), interpolation=cv2.INTER_LINEAR)
    assert bigger[..., 0].tolist() == linear.tolist()


def test_many_files_become_one_array(tmp_path):
    paths = [write(tmp_path / f'{i}.png', np.full((10 + i, 12, 3), i, np.uint8)) for i in range(3)]
    loaded = images.load(paths, image_size=6)
    assert loaded.shape == (3, 6, 6, 3)
    assert loaded[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_mixed_sizes_and_channels_are_refused_with_the_remedy(tmp_path):
    a = write(tmp_path / 'a.png', COLOUR)
    b = write(tmp_path / 'b.png', COLOUR[:10])
    g = write(tmp_path / 'g.png', GREY)
    with pytest.raises(
        UserError, match=r'b\.png is 20x10 and .*a\.png is 20x12: .*image_size'
    ) as e:
        images.load([a, b])
    with pytest.raises(UserError, match=r'g\.png has 1 channels and .*a\.png has 3: .*channels=3'):
        images.load([a, g])
    assert '\n' not in str(e.value)
    assert images.load([a, g], channels=3).shape == (2, 12, 20, 3)
    assert images.load([a, g], channels=1).shape == (2, 12, 20, 1)
