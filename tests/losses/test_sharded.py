"""Sums over the batch are over the global batch: eight devices give what one device gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import draws
from ltjax import losses

pytestmark = [pytest.mark.eight_devices, pytest.mark.slow]

BATCH, WIDTH, CLASSES = 16, 6, 3
STUDENT, TEACHER = draws.uniform(0, 2, BATCH, WIDTH)
LABELS = jnp.arange(BATCH) % CLASSES
WHERE = jnp.arange(BATCH) < 13


def gaussian_score(features, teacher, labels, where):
    """A scalar that depends on every class mean, covariance and distance."""
    gaussians = losses.class_gaussians(features, labels, CLASSES, where=where)
    cholesky = losses.cholesky_factors(gaussians.covariance)
    distances = losses.squared_mahalanobis(
        teacher, gaussians.mean, losses.whitening_matrices(cholesky)
    )
    return losses.mean(losses.feature_distribution_consistency(distances, labels), where)


SCALARS = {
    'sample_relation': lambda s, t, y, w: losses.sample_relation(s, t),
    'channel_relation': lambda s, t, y, w: losses.channel_relation(s, t),
    'probability_consistency': lambda s, t, y, w: losses.mean(
        losses.probability_consistency(s, t, where=w), w
    ),
    'gaussians': gaussian_score,
}


@pytest.mark.parametrize('scalar', SCALARS.values(), ids=SCALARS.keys())
def test_same_value_and_gradient_on_eight_devices(scalar):
    assert jax.device_count() == 8
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    arrays = (STUDENT, TEACHER, LABELS, WHERE)
    sharded = jax.device_put(arrays, NamedSharding(mesh, PartitionSpec('data')))
    compiled = jax.jit(jax.value_and_grad(scalar))
    want, want_gradient = compiled(*arrays)
    got, got_gradient = compiled(*sharded)
    np.testing.assert_allclose(got, want, rtol=1e-4)
    np.testing.assert_allclose(
        got_gradient, want_gradient, rtol=1e-3, atol=1e-4 * np.abs(want_gradient).max()
    )
    assert np.abs(want_gradient).max() > 0


def test_same_class_gaussians_on_eight_devices():
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    sharding = NamedSharding(mesh, PartitionSpec('data'))
    estimate = jax.jit(losses.class_gaussians, static_argnums=2)
    want = estimate(STUDENT, LABELS, CLASSES)
    got = estimate(*jax.device_put((STUDENT, LABELS), sharding), CLASSES)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got, want)
