"""DICOM files and grey files of more than 8 bits: the right values by hand, and what is refused in one line."""

import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from ltjax.data.reading import images, windows
from ltjax.errors import UserError
from own_data.sets import by_class, refused, taken


def write(path, pixels, *, bits=16, signed=False, photometric='MONOCHROME2', **elements):
    """Writes a DICOM file of pixels [H, W], [F, H, W] or [H, W, 3]; further elements by keyword."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b'\0' * 128)
    colour = photometric in ('RGB', 'YBR_FULL')
    frames = pixels.ndim == 3 and not colour
    file.Rows, file.Columns = pixels.shape[1:3] if frames else pixels.shape[:2]
    if frames:
        file.NumberOfFrames = len(pixels)
    file.SamplesPerPixel = 3 if colour else 1
    if colour:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = photometric
    file.BitsAllocated = 8 * pixels.dtype.itemsize
    file.BitsStored, file.HighBit = bits, bits - 1
    file.PixelRepresentation = int(signed)
    file.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)
    return path


CT = np.array(
    [[0, 24, 1024], [1064, 1424, 4095]], np.uint16
)  # with the intercept: -1024 to 3071 HU
RESCALE = {'RescaleSlope': 1, 'RescaleIntercept': -1024}


def test_a_window_in_values_of_the_modality(tmp_path):
    """-1000 HU is black, 400 HU white, and 0 HU 1000 / 1400 of the way."""
    path = write(tmp_path / 'ct', CT, bits=12, **RESCALE)
    found = images.decode(path, window='-1000,400')
    assert found.shape == (2, 3, 1)
    assert found[:, :, 0].tolist() == [[0, 0, 182], [189, 255, 255]]
    assert images.decode(path, 3, window='-1000,400').shape == (2, 3, 3)
    inverted = write(tmp_path / 'x', CT, bits=12, photometric='MONOCHROME1', **RESCALE)
    assert (images.decode(inverted, window='-1000,400') == 255 - found).all()


def test_the_window_of_the_file(tmp_path):
    """LINEAR, the standard's example: centre 2048 and width 4096 map 0 to black and 4095 to white."""
    values = np.array([[0, 4095, 2047, 2048]], np.uint16)
    path = write(tmp_path / 'a', values, bits=12, WindowCenter='2048', WindowWidth='4096')
    assert images.decode(path, window='file')[0, :, 0].tolist() == [0, 255, 127, 128]
    several = {'WindowCenter': ['100', '9'], 'WindowWidth': ['200', '9']}
    path = write(tmp_path / 'b', values // 20, bits=12, VOILUTFunction='LINEAR_EXACT', **several)
    assert images.decode(path, window='file')[0, :, 0].tolist() == [0, 255, 130, 130]
    path = write(
        tmp_path / 'c',
        values,
        bits=12,
        WindowCenter='2048',
        WindowWidth='4096',
        VOILUTFunction='SIGMOID',
    )
    assert images.decode(path, window='file')[0, 3, 0] == 128
    with pytest.raises(UserError, match='no window of its own: give --config.data.window=LOW,HIGH'):
        images.decode(write(tmp_path / 'd', values, bits=12), window='file')


def test_signed_values_and_eight_bits(tmp_path):
    signed = write(tmp_path / 'a', np.array([[-5, 0, 5]], np.int16), signed=True)
    assert images.decode(signed, window='-5,5')[0, :, 0].tolist() == [0, 128, 255]
    plain = write(tmp_path / 'b', np.array([[0, 7, 255]], np.uint8), bits=8)
    assert images.decode(plain)[0, :, 0].tolist() == [0, 7, 255]


def test_colours(tmp_path):
    rgb = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    path = write(tmp_path / 'a', rgb, bits=8, photometric='RGB')
    assert (images.decode(path) == rgb).all()
    grey = np.asarray(Image.fromarray(rgb).convert('L'))
    assert (images.decode(path, 1)[:, :, 0] == grey).all()
    ybr = np.full((2, 2, 3), (76, 85, 255), np.uint8)  # red
    found = images.decode(write(tmp_path / 'b', ybr, bits=8, photometric='YBR_FULL'))
    assert (abs(found.astype(int) - [254, 0, 0]) <= 1).all()


def test_frames(tmp_path):
    path = write(tmp_path / 'a', np.array([[[1]], [[2]], [[3]]], np.uint8), bits=8)
    assert images.decode(path, frame=2).item() == 3
    with pytest.raises(UserError, match='holds 3 frames.*--config.data.frame=0 to 2'):
        images.decode(path)
    pages = [Image.fromarray(np.full((2, 2), k, np.uint8)) for k in (5, 6)]
    pages[0].save(tmp_path / 'a.tif', save_all=True, append_images=pages[1:])
    assert images.decode(tmp_path / 'a.tif', frame=1).max() == 6
    with pytest.raises(UserError, match='holds 2 frames or pages'):
        images.decode(tmp_path / 'a.tif', frame=2)


@pytest.mark.parametrize('suffix', ['png', 'tif'])
def test_sixteen_bits(tmp_path, suffix):
    path = tmp_path / f'a.{suffix}'
    Image.fromarray(np.array([[0, 500, 1000, 60000]], np.uint16)).save(path)
    assert images.decode(path, window='0,1000')[0, :, 0].tolist() == [0, 128, 255, 255]
    with pytest.raises(UserError, match='more than 8 bits.*--config.data.window=LOW,HIGH'):
        images.decode(path)
    with pytest.raises(UserError, match='is no DICOM and has no window of its own'):
        images.decode(path, window='file')


@pytest.mark.parametrize('text', ['1', '5,5', '9,1', 'a,b', '1,2,3', '1..2,3', 'files'])
def test_what_is_no_window(text):
    with pytest.raises(UserError, match='give two values, the lower one first'):
        windows.parse(text)


def test_a_folder_of_scans(tmp_path):
    """With a window they are images, and pixels what the window makes of them; without they are passed over."""
    rng = np.random.default_rng(0)
    for k in range(24):
        folder = tmp_path / 'set' / 'ab'[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 4096, (9, 9)).astype(np.uint16)
        write(folder / f'{k:02d}', pixels, bits=12, **RESCALE)
    data = taken(tmp_path / 'set', window='-1000,400')
    assert by_class(data) == {'a': 12, 'b': 12}
    first = images.decode(tmp_path / 'set' / data.ids[0], window='-1000,400')
    assert (np.asarray(data.images[:1])[0] == first).all()
    said = refused(tmp_path / 'set')
    assert 'holds 24 DICOM files: say which of their values become black and white' in said
    assert 'give two values' in refused(tmp_path / 'set', window='wide')


def test_what_is_refused_in_one_line(tmp_path, monkeypatch):
    deep = write(tmp_path / 'deep', CT, bits=12)
    report = write(tmp_path / 'report', CT, bits=12)
    file = pydicom.dcmread(report)
    del file.PixelData
    file.save_as(report)
    cut = tmp_path / 'cut'
    cut.write_bytes(deep.read_bytes()[:-5])
    heic = tmp_path / 'a.jpg'
    heic.write_bytes(b'\0\0\0\x18ftypheic' + b'\0' * 200)
    for path, message in {
        deep: 'has 12 bits a value.*--config.data.window=LOW,HIGH, or file',
        report: 'without pixels',
        cut: 'cannot be read as DICOM',
        heic: 'is HEIC, which is not read: convert it to JPEG',
    }.items():
        with pytest.raises(UserError, match=message) as error:
            images.decode(path)
        assert '\n' not in str(error.value)
        assert str(path) in str(error.value)
    with images.pixel_limit(5), pytest.raises(UserError, match='more than 5 pixels'):
        images.decode(deep, window='0,9')
    monkeypatch.setitem(sys.modules, 'pydicom', None)
    with pytest.raises(UserError, match=r"needs pydicom: pip install 'ltjax\[dicom\]'"):
        images.decode(deep)
