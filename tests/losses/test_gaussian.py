import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax import losses

pytestmark = pytest.mark.slow

CLASSES, WIDTH = 5, 4
# Class 2 has one row, class 3 none, class 0 more than one tile of the covariance sum.
COUNTS = [600, 9, 1, 0, 30]


def rows(offset=0.0):
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(CLASSES), COUNTS)).astype(np.int32)
    mixing = rng.normal(size=(CLASSES, WIDTH, WIDTH))
    noise = rng.normal(size=(len(labels), WIDTH))
    features = np.einsum('nc,ncd->nd', noise, mixing[labels]) + labels[:, None] + offset
    return features.astype(np.float32), labels


estimate = jax.jit(losses.class_gaussians, static_argnums=2, static_argnames='ridge')


@pytest.mark.parametrize('offset', [0.0, 1000.0])
def test_means_and_covariances_are_those_of_numpy(offset):
    features, labels = rows(offset)
    gaussians = estimate(features, labels, CLASSES, ridge=0.5)
    assert gaussians.counts.tolist() == COUNTS
    for k in (0, 1, 4):
        own = features[labels == k].astype(np.float64)
        np.testing.assert_allclose(gaussians.mean[k], own.mean(axis=0), rtol=1e-6, atol=1e-5)
        want = np.cov(own.T) + 0.5 * np.eye(WIDTH)
        np.testing.assert_allclose(gaussians.covariance[k], want, rtol=1e-4, atol=1e-4)


def test_a_class_with_one_row_and_a_class_without_rows():
    features, labels = rows()
    mean, covariance, counts = estimate(features, labels, CLASSES)
    np.testing.assert_allclose(mean[2], features[labels == 2][0], rtol=1e-6)
    np.testing.assert_array_equal(mean[3], 0)
    np.testing.assert_allclose(covariance[2:4], np.stack([0.01 * np.eye(WIDTH)] * 2), rtol=1e-6)
    assert counts[2:4].tolist() == [1, 0]


def test_no_rows_at_all():
    gaussians = estimate(jnp.ones([3, 2]), jnp.array([0, 1, 1]), 2, where=jnp.zeros(3, bool))
    assert gaussians.counts.tolist() == [0, 0]
    np.testing.assert_allclose(gaussians.covariance, np.stack([0.01 * np.eye(2)] * 2), rtol=1e-6)


def test_masked_and_unlabelled_rows_do_not_count():
    features, labels = rows()
    want = estimate(features, labels, CLASSES)
    padding = np.full((7, WIDTH), np.nan, np.float32)
    padded = np.concatenate([padding, features])
    masked = estimate(
        padded,
        np.concatenate([np.zeros(7, np.int32), labels]),
        CLASSES,
        where=np.arange(len(padded)) >= 7,
    )
    outside = estimate(
        padded, np.concatenate([np.array([-1, 5, 9, -3, 5, 5, -1], np.int32), labels]), CLASSES
    )
    for got in (masked, outside):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


def test_the_order_of_the_rows_does_not_matter():
    features, labels = rows()
    order = np.random.default_rng(1).permutation(len(labels))
    got, want = (
        estimate(features[order], labels[order], CLASSES),
        estimate(features, labels, CLASSES),
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), got, want)


def test_vmap_and_bfloat16():
    features, labels = rows()
    want = estimate(features, labels, CLASSES)
    stacked = jax.jit(jax.vmap(lambda f: losses.class_gaussians(f, labels, CLASSES)))(
        jnp.stack([features, features])
    )
    np.testing.assert_allclose(stacked.covariance[1], want.covariance, rtol=1e-4, atol=1e-5)
    narrow = estimate(features.astype(jnp.bfloat16), labels, CLASSES)
    assert narrow.covariance.dtype == jnp.float32
    np.testing.assert_allclose(narrow.covariance, want.covariance, rtol=0.05, atol=0.05)


def test_ema_is_the_arithmetic_mean_while_it_warms_up():
    estimates = jnp.arange(12.0).reshape(4, 3) ** 2
    average = {'mean': jnp.full(3, 99.0), 'counts': jnp.array([7, 7])}
    for step in range(4):
        new = {'mean': estimates[step], 'counts': jnp.array([step, 2])}
        average = losses.ema(average, new, losses.ema_decay(step))
        np.testing.assert_allclose(average['mean'], estimates[: step + 1].mean(axis=0), rtol=1e-6)
    assert average['counts'].tolist() == [3, 2]
    assert average['counts'].dtype == jnp.int32


def test_ema_keeps_dtypes_and_its_two_ends():
    old, new = jnp.array([1.0, 2.0], jnp.bfloat16), jnp.array([3.0, 5.0])
    assert losses.ema(old, new, 0.5).dtype == jnp.bfloat16
    np.testing.assert_array_equal(losses.ema(old, new, 0.0), new)
    np.testing.assert_array_equal(losses.ema(old, new, 1.0), old)


def test_a_ridge_makes_the_factor_of_a_small_class_finite():
    features, labels = rows()
    plain = losses.cholesky_factors(estimate(features, labels, CLASSES, ridge=0.0).covariance)
    ridged = losses.cholesky_factors(estimate(features, labels, CLASSES).covariance)
    assert np.isnan(plain[2]).any()
    assert np.isfinite(ridged).all()


def test_virtual_features_have_the_moments_of_their_class():
    features, labels = rows()
    mean, covariance, _ = estimate(features, labels, CLASSES)
    draw = jax.jit(losses.virtual_features, static_argnums=3)
    virtual, classes = draw(
        jax.random.key(3), mean, losses.cholesky_factors(covariance), draws := 4000
    )
    assert classes.tolist() == np.repeat(np.arange(CLASSES), draws).tolist()
    assert classes.dtype == jnp.int32
    for k in range(CLASSES):
        own, cov = np.asarray(virtual[classes == k], np.float64), np.asarray(covariance[k])
        variance = np.diag(cov)
        z_mean = (own.mean(axis=0) - mean[k]) / np.sqrt(variance / draws)
        spread = np.sqrt((cov**2 + np.outer(variance, variance)) / draws)
        assert np.abs(z_mean).max() < 5
        assert (np.abs(np.cov(own.T) - cov) / spread).max() < 5


def test_virtual_features_follow_their_key():
    mean, cholesky = jnp.zeros([2, 3]), jnp.broadcast_to(jnp.eye(3), (2, 3, 3))
    first, again, other = (
        losses.virtual_features(jax.random.key(seed), mean, cholesky, 2)[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    assert not np.allclose(first[:2], first[2:])
