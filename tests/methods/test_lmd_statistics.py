"""The class statistics of LMD's calibration: resampling, averages over rounds, counts, scratch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from ltjax import losses, sharding
from ltjax.methods.lmd import calibration
from ltjax.methods.lmd.settings import READINGS, Icc, Reading
from ltjax.methods.task import Task
from ltjax.settings import typed


def task(counts=tiny.COUNTS):
    return Task(np.array(counts), (0.5,), (0.25,))


def estimate(changes=None, reading=None, *, features=None, labels=None, round_=0, ema=None):
    made = tiny.config('lmd', 'any', {f'method.icc.{k}': v for k, v in (changes or {}).items()})
    if labels is None:
        labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), tiny.COUNTS))
    if features is None:
        features = np.stack([labels * 10.0, -labels], axis=1)
    if ema is None:
        ema = losses.ClassGaussians(
            jnp.zeros((3, 2)), jnp.zeros((3, 2, 2)), jnp.zeros(3, jnp.int32)
        )
    estimator = calibration.estimator(
        typed(Icc, made.method.icc), task(), reading or Reading(), sharding.make_mesh()
    )
    features, labels = jnp.asarray(features, jnp.float32), jnp.asarray(labels)
    return jax.jit(estimator)(features, labels, ema, jax.random.key(round_), round_)


@pytest.mark.parametrize(('balanced', 'counts'), [(True, [19, 19, 19]), (False, list(tiny.COUNTS))])
def test_the_resampling_is_balanced_and_draws_the_class_it_means(balanced, counts):
    ema, _ = estimate({'balanced_m': balanced})
    assert ema.counts.tolist() == counts
    np.testing.assert_allclose(ema.mean, [[0, 0], [10, -1], [20, -2]], atol=1e-5)
    np.testing.assert_allclose(ema.covariance, np.tile(0.01 * np.eye(2), (3, 1, 1)), atol=1e-6)


def test_the_average_of_two_rounds_is_their_mean():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 56, 2))
    whole = {'balanced_m': False}
    first, _ = estimate(whole, features=a)
    alone, _ = estimate(whole, features=b)
    both, scratch = estimate(whole, features=b, round_=1, ema=first)
    np.testing.assert_allclose(both.mean, (first.mean + alone.mean) / 2, atol=1e-6)
    np.testing.assert_allclose(
        both.covariance, (first.covariance + alone.covariance) / 2, atol=1e-6
    )
    # By default virtual features come from the round alone, and distances from the average.
    np.testing.assert_allclose(scratch['virtual'][0], alone.mean, atol=1e-6)
    np.testing.assert_allclose(scratch['distribution'][0], both.mean, atol=1e-6)
    _, scratch = estimate(whole, READINGS['paper'], features=b, round_=1, ema=first)
    np.testing.assert_allclose(scratch['virtual'][0], scratch['distribution'][0], atol=1e-6)


def test_literal_counts_are_the_factors_of_equation_7():
    rng = np.random.default_rng(2)
    features, labels = (
        rng.normal(size=(56, 2)).astype(np.float32),
        np.repeat([0, 1, 2], tiny.COUNTS),
    )
    reading = READINGS['paper']
    found, _ = estimate({'balanced_m': False}, reading, features=features, labels=labels)
    for k in range(3):
        rows = features[labels == k]
        centred = rows - rows.mean(0)
        np.testing.assert_allclose(found.mean[k], 3 / 56 * rows.sum(0), atol=1e-5)
        np.testing.assert_allclose(
            found.covariance[k], 3 / (56 - 3) * centred.T @ centred, atol=1e-5
        )


def test_scratch_holds_what_the_switches_need():
    assert set(estimate()[1]) == {'virtual', 'distribution'}
    assert set(estimate({'vfc': False})[1]) == {'features', 'distribution'}
    assert set(estimate({'fdc': False})[1]) == {'virtual'}
    assert set(estimate({'vfc': False, 'fdc': False})[1]) == {'features'}
