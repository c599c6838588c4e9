"""Classifies a folder of images by an exported model, without JAX: `python classify_with_onnx.py MODEL.onnx FOLDER`.

Copy this file: it needs Python 3.10 or newer, `pip install onnxruntime numpy pillow`, and nothing else. It prints a
CSV: the file, the most probable class and the probability of every class. What it has to know it reads from the model.
Images become the same pixels, bit for bit, as `ltjax predict` makes of them with OpenCV; see docs/deployment.md.
"""

import csv
import json
import pathlib
import sys

import numpy as np
from PIL import Image, ImageOps

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def read(
    path: pathlib.Path, size: tuple[int, int], channels: int, interpolation: str | None
) -> np.ndarray:
    """Returns an image file as uint8 [height, width, channels]: upright, on white, of the model's size."""
    with Image.open(path) as image:
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        layer = upright.convert('RGBA')
        grey = upright.mode in ('L', 'LA', '1')
        white = Image.new('RGBA', layer.size, 'white')
        upright = Image.alpha_composite(white, layer).convert('L' if grey else 'RGB')
    upright = upright.convert('L' if channels == 1 else 'RGB')
    if upright.size != size and not interpolation:
        raise ValueError(f'{path} is {upright.size}, the model takes {size}: resize it.')
    if upright.size != size and interpolation and interpolation != 'area':
        upright = upright.resize(size, Image.Resampling[interpolation.upper()])
    pixels = np.asarray(upright).reshape(upright.height, upright.width, channels)
    if upright.size == size:
        return pixels
    return (shrink if min(upright.size) > size[0] else stretch)(pixels, size[0])


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns uint8 [side, side, C] of a larger image: the average of what each pixel covers (OpenCV's INTER_AREA)."""
    height, width, _ = pixels.shape
    if height % side == width % side == 0:  # whole pixels are averaged as whole numbers
        down, right = height // side, width // side
        sums = pixels.reshape(side, down, side, right, -1).sum((1, 3), dtype=np.int64)
        if down == right == 2:
            return ((sums + 2) >> 2).astype(np.uint8)
        return np.rint(sums.astype(np.float32) * np.float32(1 / (down * right))).astype(np.uint8)
    values = pixels.astype(np.float32)
    for axis in (1, 0):
        length = values.shape[axis]
        scale = length / side
        start = np.arange(side) * scale
        end = np.minimum(start + scale, length)
        total: np.ndarray = np.zeros(1, np.float32)
        for tap in range(int(np.ceil(scale)) + 1):
            at = np.floor(start) + tap
            share = np.minimum(at + 1, end) - np.maximum(at, start)
            share = np.where(share > 1e-3, share, 0) / np.minimum(scale, length - start)
            row = np.minimum(at, length - 1).astype(int)
            weight = share.astype(np.float32).reshape((-1, 1) if axis == 1 else (-1, 1, 1))
            total = total + np.take(values, row, axis) * weight
        values = total
    return np.rint(values).astype(np.uint8)


def stretch(pixels: np.ndarray, side: int) -> np.ndarray:
    """Returns uint8 [side, side, C], linear between pixels, as OpenCV's INTER_LINEAR: in whole numbers of 1/2048."""

    def taps(length: int, stops: bool) -> tuple[np.ndarray, ...]:
        place = ((np.arange(side) + 0.5) * (length / side) - 0.5).astype(np.float32)
        first = np.floor(place)
        share = place - first
        if stops:
            share = np.where((first < 0) | (first >= length - 1), np.float32(0), share)
        weights = (np.rint(part * np.float32(2048)).astype(np.int64) for part in (1 - share, share))
        return *(np.clip(first.astype(int) + k, 0, length - 1) for k in (0, 1)), *weights

    values = pixels.astype(np.int64)
    left, right, a, b = taps(values.shape[1], True)
    values = (values[:, left] * a[:, None] + values[:, right] * b[:, None]) >> 4
    top, bottom, a, b = (x[:, None, None] for x in taps(values.shape[0], False))
    upper, lower = values[top[:, 0, 0]] * a >> 16, values[bottom[:, 0, 0]] * b >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def main(model: str, folder: str) -> None:
    """Reads the model and what it says of itself; prints a row an image."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider'])
    about = json.loads(session.get_modelmeta().custom_metadata_map['ltjax'])
    names, takes = about['class_names'], about['input']
    size, rest = (takes['width'], takes['height']), (takes['channels'], takes['interpolation'])
    rows = csv.writer(sys.stdout, lineterminator='\n')
    rows.writerow(['id', 'prediction', *(f'p({name})' for name in names)])
    root = pathlib.Path(folder)
    for path in sorted(each for each in root.rglob('*') if each.suffix.lower() in SUFFIXES):
        image = read(path, size, *rest)
        _, (probabilities,) = session.run(['logits', 'probabilities'], {'images': image[None]})
        rounded = (f'{value:.6g}' for value in probabilities)
        rows.writerow([path.relative_to(root), names[int(probabilities.argmax())], *rounded])


if __name__ == '__main__':
    main(*sys.argv[1:])
