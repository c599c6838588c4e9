"""Near-duplicates: copies are found, other pictures are not."""

import numpy as np
import pytest
from PIL import Image

from audited import picture, save
from ltjax.data import near_duplicates
from ltjax.data.near_duplicates import Clusters


def changed(pixels, path):
    image = Image.fromarray(pixels)
    save(path / 'q.jpg', pixels, quality=50)
    bright = np.clip(pixels * 1.15, 0, 255).astype(np.uint8)
    noisy = np.clip(pixels + np.random.default_rng(0).normal(0, 4, pixels.shape), 0, 255)
    return {
        'jpeg': np.asarray(Image.open(path / 'q.jpg')),
        'half': np.asarray(image.resize((60, 60))),
        'twice': np.asarray(image.resize((240, 240))),
        'bright': bright,
        'noisy': noisy.astype(np.uint8),
    }


def test_copies_that_were_saved_resized_or_lit_otherwise_are_found_and_others_are_not(tmp_path):
    originals = [picture(i, 120) for i in range(60)]
    for name in changed(originals[0], tmp_path):
        copies = [changed(pixels, tmp_path)[name] for pixels in originals[:12]]
        thumbnails = np.stack([near_duplicates.thumbnail(p) for p in originals + copies])
        pairs = np.concatenate(list(near_duplicates.pairs(thumbnails)))
        assert sorted(map(sorted, pairs.tolist())) == [[i, 60 + i] for i in range(12)], name


def test_small_objects_on_one_background_are_told_apart():
    field = np.full((64, 64, 1), 230, np.uint8)
    spots = []
    for y, x in ((10, 10), (10, 44), (44, 10), (44, 44), (26, 26)):
        spots.append(field.copy())
        spots[-1][y : y + 10, x : x + 10] = 60
    thumbnails = np.stack([near_duplicates.thumbnail(image) for image in spots])
    bits = near_duplicates.hashes(thumbnails)
    assert (bits[0] != bits[1]).sum() <= near_duplicates.MAX_DISTANCE  # the hash would not
    assert sum(map(len, near_duplicates.pairs(thumbnails))) == 0
    flat = np.stack([near_duplicates.thumbnail(field - k) for k in range(4)])
    assert sum(map(len, near_duplicates.pairs(flat))) == 0


@pytest.mark.parametrize('distance', [3, 24, 60])
def test_pairs_are_those_of_a_plain_comparison(monkeypatch, distance):
    monkeypatch.setattr(near_duplicates, '_ROWS', 7)
    monkeypatch.setattr(near_duplicates, '_COLUMNS', 11)
    monkeypatch.setattr(near_duplicates, '_PAIRS', 5)
    monkeypatch.setattr(near_duplicates, 'MIN_CORRELATION', 0.9)
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (12, 16, 17)).repeat(6, axis=0)
    noise = rng.normal(0, np.arange(72)[:, None, None] % 6 * 8, base.shape)
    thumbnails = np.clip(base + noise, 0, 255).astype(np.uint8)
    bits = near_duplicates.hashes(thumbnails)
    expected = {
        (i, j)
        for i in range(72)
        for j in range(i)
        if (bits[i] != bits[j]).sum() <= distance
        and np.corrcoef(thumbnails[i].ravel(), thumbnails[j].ravel())[0, 1] >= 0.9
    }
    pairs = np.concatenate(list(near_duplicates.pairs(thumbnails, distance))).tolist()
    assert {(max(pair), min(pair)) for pair in pairs} == expected
    assert len(pairs) == len(expected) > 0


def test_clusters_are_joined():
    clusters = Clusters(6)
    clusters.join(4, 2)
    clusters.join_equal(np.array(['x', '', '', 'x', 'y', 'y']))
    assert clusters.labels().tolist() == [0, 1, 2, 0, 2, 2]
    assert clusters.several() == [[0, 3], [2, 4, 5]]
