import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import draws
from ltjax import losses

pytestmark = pytest.mark.slow

BATCH, CLASSES, WIDTH = 6, 3, 4
LABELS = jnp.array([0, 1, 2, 0, 1, 0])
FEATURES = draws.normal(0, BATCH, WIDTH)
MEAN = draws.normal(1, CLASSES, WIDTH)
_ROOT = draws.normal(2, CLASSES, WIDTH, WIDTH)
COVARIANCE = jnp.einsum('kab,kcb->kac', _ROOT, _ROOT) + 0.5 * jnp.eye(WIDTH)[None, :, :]
WHITENING = losses.whitening_matrices(losses.cholesky_factors(COVARIANCE))
DISTANCES = losses.squared_mahalanobis(FEATURES, MEAN, WHITENING)
fdc = losses.feature_distribution_consistency


def test_distances_are_those_of_numpy():
    literal = losses.quadratic_form(FEATURES, MEAN, COVARIANCE)
    for k in range(CLASSES):
        deviation = np.asarray(FEATURES - MEAN[k][None, :], np.float64)
        covariance = np.asarray(COVARIANCE[k], np.float64)
        inverse = np.einsum('bc,cd,bd->b', deviation, np.linalg.inv(covariance), deviation)
        np.testing.assert_allclose(DISTANCES[:, k], inverse, rtol=1e-4)
        printed = np.einsum('bc,cd,bd->b', deviation, covariance, deviation)
        np.testing.assert_allclose(literal[:, k], printed, rtol=1e-4)


def test_an_identity_covariance_gives_euclidean_distances():
    identity = jnp.broadcast_to(jnp.eye(WIDTH), (CLASSES, WIDTH, WIDTH))
    want = jnp.square(FEATURES[:, None, :] - MEAN[None, :, :]).sum(axis=2)
    np.testing.assert_allclose(
        losses.squared_mahalanobis(FEATURES, MEAN, identity), want, rtol=1e-5
    )
    np.testing.assert_allclose(losses.quadratic_form(FEATURES, MEAN, identity), want, rtol=1e-5)


def test_gradient_agrees_with_finite_differences():
    with jax.enable_x64(True):
        features, mean, whitening = (
            jnp.asarray(np.asarray(a), jnp.float64) for a in (FEATURES, MEAN, WHITENING)
        )
        covariance = jnp.asarray(np.asarray(COVARIANCE), jnp.float64)

        def inverse(f):
            return fdc(losses.squared_mahalanobis(f, mean, whitening), LABELS, max_repulsion=5.0)

        def literal(f):
            return fdc(losses.quadratic_form(f, mean, covariance), LABELS)

        check_grads(jax.jit(inverse), (features,), order=1, modes=['rev'])
        check_grads(jax.jit(literal), (features,), order=1, modes=['rev'])


def test_jit_vmap_and_permutation():
    def loss(features, labels):
        return fdc(losses.squared_mahalanobis(features, MEAN, WHITENING), labels)

    want = loss(FEATURES, LABELS)
    np.testing.assert_allclose(jax.jit(loss)(FEATURES, LABELS), want, rtol=1e-5)
    halves = jax.jit(jax.vmap(loss))(FEATURES.reshape(2, 3, WIDTH), LABELS.reshape(2, 3))
    np.testing.assert_allclose(halves.ravel(), want, rtol=1e-5)
    order = jnp.array([5, 2, 0, 1, 4, 3])
    np.testing.assert_allclose(loss(FEATURES[order], LABELS[order]), want[order], rtol=1e-5)


def test_attraction_and_repulsion_make_up_the_consistency():
    distances = jnp.array([[1.0, 4.0, 10.0], [2.0, 3.0, 6.0]])
    labels = jnp.array([0, 1])
    np.testing.assert_allclose(losses.attraction(distances, labels), [1, 3])
    np.testing.assert_allclose(losses.repulsion(distances, labels), [7, 4])
    np.testing.assert_allclose(losses.repulsion(distances, labels, max_distance=5.0), [4.5, 3.5])
    np.testing.assert_allclose(fdc(distances, labels), [-6, -1])
    np.testing.assert_allclose(fdc(distances, labels, max_repulsion=5.0), [-3.5, -0.5])


def test_a_capped_distance_repels_no_further():
    gradient = jax.grad(lambda d: fdc(d, jnp.array([0]), max_repulsion=5.0).sum())(
        jnp.array([[9.0, 4.0, 10.0]])
    )
    np.testing.assert_allclose(gradient, [[1, -0.5, 0]])


def test_a_descent_step_moves_towards_the_own_mean():
    means, whitening = jnp.array([[0.0, 0.0], [4.0, 0.0]]), jnp.stack([jnp.eye(2)] * 2)
    features, labels = jnp.array([[1.0, 0.0]]), jnp.array([0])

    def loss(f):
        return fdc(losses.squared_mahalanobis(f, means, whitening), labels).sum()

    moved = features - 0.1 * jax.grad(loss)(features)
    assert float(moved[0, 0]) < 1.0


def test_classes_left_out_do_not_repel():
    mask = jnp.array([True, True, False])
    broken = DISTANCES.at[:, 2].set(jnp.nan)
    labels = jnp.array([0, 1, 0, 0, 1, 0])
    value, gradient = jax.value_and_grad(
        lambda d: losses.repulsion(d, labels, class_mask=mask).sum()
    )(broken)
    np.testing.assert_allclose(value, losses.repulsion(DISTANCES[:, :2], labels).sum(), rtol=1e-6)
    np.testing.assert_array_equal(gradient[:, 2], 0)


def test_a_single_class_repels_nothing():
    distances, labels = jnp.array([[3.0], [4.0]]), jnp.array([0, 0])
    value, gradient = jax.value_and_grad(lambda d: fdc(d, labels).sum())(distances)
    assert float(value) == 7
    np.testing.assert_array_equal(gradient, 1)


@pytest.mark.parametrize('loss', [losses.attraction, losses.repulsion, fdc])
def test_masked_examples_have_no_value_and_no_gradient(loss):
    where = jnp.arange(BATCH) < 4
    labels = LABELS.at[4:].set(-1)
    values, pullback = jax.vjp(
        lambda d: loss(d, labels, where=where), DISTANCES.at[4:].set(jnp.nan)
    )
    (gradient,) = pullback(jnp.ones(BATCH))
    np.testing.assert_allclose(values[:4], loss(DISTANCES, LABELS)[:4], rtol=1e-6)
    np.testing.assert_array_equal(values[4:], 0)
    np.testing.assert_array_equal(gradient[4:], 0)
    assert np.isfinite(gradient).all()


def test_extreme_features_are_finite_in_value_and_gradient():
    features = 1e4 * FEATURES
    tight = 10.0 * jnp.broadcast_to(jnp.eye(WIDTH), (CLASSES, WIDTH, WIDTH))
    value, gradient = jax.value_and_grad(
        lambda f: fdc(losses.squared_mahalanobis(f, MEAN, tight), LABELS).sum()
    )(features)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_bfloat16_features_give_float32_distances():
    distances = losses.squared_mahalanobis(FEATURES.astype(jnp.bfloat16), MEAN, WHITENING)
    assert distances.dtype == jnp.float32
    np.testing.assert_allclose(distances, DISTANCES, rtol=0.05, atol=0.05)
