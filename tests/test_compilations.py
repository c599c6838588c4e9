"""After the first round of a stage nothing is compiled any more, however many rounds follow."""

import jax
import numpy as np
import pytest

import tiny
from ltjax import losses
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.training import Training

COMPILATION = '/jax/core/compile/backend_compile_duration'
ROUNDS = 4


class Counting(tiny.Recorder):
    """Notes with every row what was compiled since the end of the round before."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled = 0

    def count(self, event: str, seconds: float, **_: object) -> None:
        self.compiled += event == COMPILATION

    def row(self, values, *, step):
        super().row(values | {'compiled': self.compiled}, step=step)

    def end_round(self, *_: object) -> None:
        self.compiled = 0


@pytest.mark.slow
@pytest.mark.parametrize('name', ['lmd', 'iccl', 'aduni', 'proco', 'alpa'])
def test_later_rounds_compile_nothing(name, tmp_path, monkeypatch):
    made = tiny.config(name, tiny.npz(tmp_path / 'data.npz'), {'select': 'last'})
    for stage in ('train', 'retrain', 'rrl'):
        if stage in made.method:
            made.method[stage].epochs = ROUNDS
    if name == 'lmd':
        made.method.icc.rounds = ROUNDS
    counting = Counting()
    # The first checkpoint compiles the slices that each device writes; it is left out with all others.
    monkeypatch.setattr(Checkpoints, 'save', counting.end_round)
    jax.monitoring.register_event_duration_secs_listener(counting.count)
    try:
        *_, rows = tiny.run(made, tmp_path / 'run', logbook=counting)
    finally:
        jax.monitoring.clear_event_listeners()
    assert rows[0]['compiled'] > 0
    later = {(row['stage'], row['round']): row['compiled'] for row in rows if row['round']}
    assert set(later.values()) == {0}, later


@pytest.mark.slow
def test_a_frozen_encoder_is_asked_for_its_features_once(tmp_path, monkeypatch):
    calls = []
    features = Training.train_features
    monkeypatch.setattr(
        Training, 'train_features', lambda *args: calls.append(1) or features(*args)
    )
    path = tiny.npz(tmp_path / 'data.npz')
    for e_steps, expected in ((0, 1), (1, 3)):
        calls.clear()
        made = tiny.config('lmd', path, {'method.icc.rounds': 3, 'method.icc.e_steps': e_steps})
        tiny.run(made, tmp_path / str(e_steps))
        assert len(calls) == expected


def test_class_statistics_keep_their_digits_far_from_zero():
    """Float32 against float64, for features whose mean is a hundred of their deviations."""
    rng = np.random.default_rng(0)
    labels = np.sort(rng.integers(0, 3, 2000).astype(np.int32))
    features = (100 + rng.normal(size=(2000, 16)) * np.linspace(0.5, 2, 16)).astype(np.float32)
    found = losses.class_gaussians(features, labels, 3, ridge=0.0)
    for k in range(3):
        rows = features[labels == k].astype(np.float64)
        expected = np.cov(rows, rowvar=False)
        error = np.abs(np.asarray(found.covariance[k]) - expected).max() / np.abs(expected).max()
        assert error < 2e-5
        np.testing.assert_allclose(found.mean[k], rows.mean(axis=0), rtol=3e-6)
