"""Maps of features: which classes, and whose features."""

import numpy as np
import pytest
from reproduction import maps, runs

import ltjax
import tiny
from ltjax.run import train


@pytest.mark.parametrize(
    ('options', 'chosen'),
    [
        ({'classes': ['a', 'c']}, [0, 2]),
        ({'classes': ['a', 'x'], 'elsewhere': [0.0, 1.0]}, [1, 2]),
        ({'classes': ['x'], 'elsewhere': [0.8, 0.9, 1.0]}, [2]),
        ({}, [1, 0, 2]),
    ],
)
def test_classes_of_a_map(options, chosen):
    assert maps.classes(options, ['a', 'b', 'c'], np.array([1, 0, 2])) == chosen


@pytest.mark.slow
def test_features_of_a_map(tmp_path):
    """Training images by the network that was selected, and virtual features around them."""
    data, run = tiny.npz(tmp_path / 'a.npz'), tmp_path / 'run'
    config = tiny.config('lmd', data)
    train.run(config, run)
    of = runs.Run('', 'npz', 'LMD', 0, config, run, None)
    found = maps.features(of, [0, 2], virtual=True)
    assert np.bincount(found.labels[~found.virtual]).tolist() == [32, 0, 8]
    assert np.bincount(found.labels[found.virtual]).tolist() == [maps.EACH, 0, maps.EACH]
    with np.load(data) as arrays:
        images = arrays['images'][(arrays['split'] == 'train') & (arrays['labels'] == 2)]
    real = found.vectors[found.labels == 2][:8]
    model = ltjax.load(run)
    np.testing.assert_allclose(
        np.sort(real, 0), np.sort(model.predict(images).features, 0), rtol=1e-4, atol=1e-5
    )
    drawn = found.vectors[(found.labels == 0) & found.virtual]
    mean = found.vectors[(found.labels == 0) & ~found.virtual].mean(0)
    away = np.abs(drawn.mean(0) - mean) / drawn.std(0)
    assert away.max() < 1  # drawn from 32 of 32, with replacement, and then 100 times
    plain = maps.features(of, [0, 2], virtual=False)
    np.testing.assert_allclose(plain.vectors, found.vectors[~found.virtual], rtol=1e-4, atol=1e-5)
