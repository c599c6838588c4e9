"""Image files: what is read, and which file is at fault."""

import io
import os
import warnings
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from ltjax.data.reading import images
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
    ('mode', 'channels'), [('1', 1), ('L', 1), ('P', 3), ('RGBA', 3), ('LA', 1), ('CMYK', 3)]
)
def test_palettes_masks_and_transparency_become_grey_or_colour(tmp_path, mode, channels):
    path = write(tmp_path / ('a.tif' if mode == 'CMYK' else 'a.png'), COLOUR, mode)
    assert images.decode(path).shape == (12, 20, channels)
    assert images.decode(path).dtype == np.uint8


def test_what_is_transparent_becomes_white(tmp_path):
    alpha = np.tile(np.array([0, 255, 128, 255], np.uint8), (12, 5))
    expected = np.round(COLOUR * (alpha / 255)[..., None] + 255 * (1 - alpha / 255)[..., None])
    rgba = Image.fromarray(COLOUR)
    rgba.putalpha(Image.fromarray(alpha))
    rgba.save(tmp_path / 'rgba.png')
    assert np.abs(images.decode(tmp_path / 'rgba.png') - expected).max() <= 1
    grey = Image.fromarray(GREY)
    grey.putalpha(Image.fromarray(alpha))
    grey.save(tmp_path / 'la.png')
    found = images.decode(tmp_path / 'la.png')
    assert found.shape == (12, 20, 1)
    assert (found[:, ::4] == 255).all()
    assert found[:, 1::4, 0].tolist() == GREY[:, 1::4].tolist()
    palette = Image.fromarray(GREY // 16).convert('P')
    palette.putpalette([value for k in range(256) for value in (k, 2 * k % 256, 0)])
    palette.save(tmp_path / 'p.png', transparency=3)
    found = images.decode(tmp_path / 'p.png')
    assert (found[GREY // 16 == 3] == 255).all()
    assert (found[GREY // 16 == 5] == (5, 10, 0)).all()
    rgba.putalpha(255)
    rgba.save(tmp_path / 'opaque.png')
    assert images.decode(tmp_path / 'opaque.png').tolist() == COLOUR.tolist()


@pytest.mark.parametrize('suffix', ['.jpg', '.png', '.webp', '.tif'])
def test_images_are_turned_upright(tmp_path, suffix):
    corner = np.zeros((16, 32, 3), np.uint8)
    corner[:8, :8] = 255
    shown = {1: corner, 2: corner[:, ::-1], 3: corner[::-1, ::-1], 6: np.rot90(corner, -1)}
    for orientation, expected in shown.items():
        exif = Image.Exif()
        exif[274] = orientation
        path = tmp_path / f'{orientation}{suffix}'
        Image.fromarray(corner).save(path, exif=exif)
        found = images.decode(path)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 4


def test_damaged_orientation_is_passed_over(tmp_path, recwarn):
    path = tmp_path / 'a.jpg'
    Image.fromarray(COLOUR).save(path, exif=b'Exif\x00\x00' + b'MM\x00*nonsense')
    assert images.decode(path).shape == (12, 20, 3)


def test_the_content_decides_and_not_the_suffix(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / 'a.jpg', 'PNG')
    assert images.decode(tmp_path / 'a.jpg').tolist() == COLOUR.tolist()
    (tmp_path / 'b.png').write_text('%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'utf-8')
    with pytest.raises(UserError, match=r'b\.png is not an image'):
        images.decode(tmp_path / 'b.png')


@pytest.mark.parametrize('suffix', ['.gif', '.webp', '.tif', '.png'])
def test_films_and_pages_are_refused_with_the_remedy(tmp_path, suffix):
    first, *others = (Image.fromarray(COLOUR // k) for k in (1, 2, 3))
    first.save(tmp_path / f'a{suffix}', save_all=True, append_images=others)
    with pytest.raises(UserError, match='holds 3 frames or pages: save the one to use'):
        images.decode(tmp_path / f'a{suffix}')
    first.save(tmp_path / f'one{suffix}')
    assert images.decode(tmp_path / f'one{suffix}').shape == (12, 20, 3)


def test_of_a_cameras_pair_the_photograph_is_taken(tmp_path):
    first, second = Image.fromarray(COLOUR), Image.fromarray(COLOUR[:6])
    first.save(tmp_path / 'a.jpg', 'MPO', save_all=True, append_images=[second])
    assert images.decode(tmp_path / 'a.jpg').shape == (12, 20, 3)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    data = write(tmp_path / 'a.png', COLOUR).read_bytes()
    monkeypatch.setattr(Image.Image, 'load', lambda image: pytest.fail('it was decoded'))
    for action in ('ignore', 'error'):  # what becomes of Pillow's own warning
        for side in (10_000, 50_000):
            head = data[:16] + side.to_bytes(4, 'big') * 2 + data[24:29]
            crc = zlib.crc32(head[12:]).to_bytes(4, 'big')
            (tmp_path / 'bomb.png').write_bytes(head + crc + data[33:])
            with warnings.catch_warnings():
                warnings.simplefilter(action)
                with pytest.raises(UserError, match=r'bomb\.png has more than 89478485 pixels'):
                    images.decode(tmp_path / 'bomb.png')
    monkeypatch.undo()
    path = write(tmp_path / 'a.png', COLOUR)
    with (
        images.pixel_limit(239),
        pytest.raises(UserError, match=r'a\.png has more than 239 pixels: scale it down'),
    ):
        images.decode(path)
    with images.pixel_limit(240):
        assert images.decode(path).shape == (12, 20, 3)
    assert Image.MAX_IMAGE_PIXELS == 89_478_485
    with pytest.raises(UserError, match='max_pixels is 0: use 1 or more'), images.pixel_limit(0):
        pass


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    with pytest.raises(UserError, match=r'pipe\.png is a pipe and no file'):
        images.decode(tmp_path / 'pipe.png')


def test_sixteen_bits_are_refused_and_not_clipped(tmp_path):
    cv2.imwrite(str(tmp_path / 'rgb.png'), COLOUR.astype(np.uint16) * 256)
    cv2.imwrite(str(tmp_path / 'rgb.tif'), COLOUR.astype(np.uint16) * 256)
    write(tmp_path / 'ct.png', GREY.astype(np.uint16) * 256)
    write(tmp_path / 'float.tif', GREY.astype(np.float32))
    for name in ('ct.png', 'float.tif', 'rgb.png', 'rgb.tif'):
        with pytest.raises(UserError, match=f'{name} has more than 8 bits a channel'):
            images.decode(tmp_path / name)


def test_other_colours_are_refused(tmp_path):
    Image.new('LAB', (4, 4)).save(tmp_path / 'lab.tif')
    with pytest.raises(UserError, match=r'lab\.tif has colours of mode LAB: convert it to RGB'):
        images.decode(tmp_path / 'lab.tif')


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r'absent\.png does not exist'):
        images.decode(tmp_path / 'absent.png')


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / 'notes.png').write_text('not an image', 'utf-8')
    (tmp_path / 'empty.jpg').write_bytes(b'')
    for name in ('notes.png', 'empty.jpg'):
        with pytest.raises(UserError, match=f'{name} is not an image'):
            images.decode(tmp_path / name)
    with pytest.raises(UserError, match=r'empty\.jpg is not an image \(it is empty\)'):
        images.decode(tmp_path / 'empty.jpg')
    with pytest.raises(UserError, match=r'cannot be read \(Is a directory\)'):
        images.decode(tmp_path)
    with pytest.raises(UserError, match='null byte'):
        images.decode(tmp_path / 'a\0.png')


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


@pytest.mark.parametrize('kind', ['JPEG', 'PNG', 'WEBP', 'GIF', 'BMP'])
def test_whatever_is_wrong_with_a_file_is_said_in_a_line(tmp_path, kind, recwarn):
    rng = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(stream, kind)
    whole, messages = np.frombuffer(stream.getvalue(), np.uint8), []
    for _ in range(60):
        wrong = whole.copy()
        wrong[rng.integers(0, min(len(whole), 200), 4)] = rng.integers(0, 256)
        (tmp_path / 'a.jpg').write_bytes(wrong.tobytes())
        try:
            assert images.decode(tmp_path / 'a.jpg').dtype == np.uint8
        except UserError as error:
            messages.append(str(error))
    assert messages
    assert '\n' not in ''.join(messages)


def test_paths_stay_inside_their_folder(tmp_path):
    root = tmp_path / 'set'
    path = write(tmp_path / 'outside.png', COLOUR)
    root.mkdir()
    write(root / 'a.png', COLOUR)
    (root / 'out.png').symlink_to(path)
    (root / 'in.png').symlink_to('a.png')
    (root / 'loop.png').symlink_to('loop.png')
    (tmp_path / 'alias').symlink_to(root)
    for good in ('a.png', 'in.png', 'none.png', 'x/../a.png', str(root / 'a.png')):
        assert images.inside(root, good) == root / good
    assert images.inside(tmp_path / 'alias', 'a.png') == tmp_path / 'alias' / 'a.png'
    for bad in ('../outside.png', str(path), 'out.png', 'a/../../outside.png'):
        with pytest.raises(UserError, match='leads out of .*: move the file in there'):
            images.inside(root, bad)
        assert images.inside(root, bad, allow_outside=True) == root / bad
    with pytest.raises(UserError, match='symbolic links'):
        images.decode(images.inside(root, 'loop.png'))
    with pytest.raises(UserError, match='is no path'):
        images.inside(root, 'a\0.png')
    assert images.inside(root, 'y\\z\\a.png') == root / 'y/z/a.png'
    for bad in ('C:\\x\\a.png', '\\\\server\\a.png'):
        with pytest.raises(
            UserError, match='is a path of another machine: say which folder it is here'
        ):
            images.inside(root, bad)
    write(root / 'x\\a.png', COLOUR)
    assert images.inside(root, 'x\\a.png').exists()


def test_resizing_averages_down_and_interpolates_up():
    board = (np.indices((8, 8)).sum(0) % 2 * 200).astype(np.uint8)[..., None]
    assert images.resize(board, 4).ravel().tolist() == [100] * 16
    assert images.resize(board, 8) is board
    assert images.resize(np.repeat(board, 3, 2), 4).shape == (4, 4, 3)
    bigger = images.resize(board, 16)
    assert bigger.shape == (16, 16, 1)
    linear = cv2.resize(board, (16, 16), interpolation=cv2.INTER_LINEAR)
    assert bigger[..., 0].tolist() == linear.tolist()


def test_interpolation_is_that_of_pillow_where_it_is_named():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for name in ('bilinear', 'bicubic'):
        expected = Image.fromarray(image).resize((8, 8), Image.Resampling[name.upper()])
        np.testing.assert_array_equal(images.resize(image, 8, name), expected)
        grey = images.resize(image[:, :, :1], 8, name)
        np.testing.assert_array_equal(grey[:, :, 0], images.resize(image, 8, name)[:, :, 0])
    assert not np.array_equal(images.resize(image, 8, 'bicubic'), images.resize(image, 8))
    with pytest.raises(UserError, match="unknown interpolation 'cubic': did you mean bicubic"):
        images.resize(image, 8, 'cubic')
