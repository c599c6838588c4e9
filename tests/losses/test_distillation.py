import jax
import jax.numpy as jnp
import numpy as np
import pytest

import draws
from ltjax.losses import distillation

STUDENT, TEACHER = draws.normal(0, 2, 4, 3)
LABELS = jnp.array([0, 1, 2, 1])


def test_the_teacher_is_a_constant_of_distillation_but_not_of_the_divergence():
    def distilled(teacher):
        return distillation.distilled_cross_entropy(STUDENT, LABELS, teacher_logits=teacher).sum()

    np.testing.assert_array_equal(jax.grad(distilled)(TEACHER), 0)
    gradient = jax.grad(lambda t: distillation.kl_divergence(t, STUDENT).sum())(TEACHER)
    assert np.abs(gradient).max() > 0


def test_the_divergence_is_zero_at_its_least_and_positive_elsewhere():
    value, gradient = jax.value_and_grad(
        lambda z: distillation.kl_divergence(TEACHER, z, temperature=2.0).sum()
    )(TEACHER)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert (distillation.kl_divergence(TEACHER, STUDENT) > 0).all()


def test_at_a_high_temperature_it_is_half_the_variance_of_the_difference():
    temperature = 50.0  # at higher ones float32 rounds more off than is left
    value = temperature**2 * distillation.kl_divergence(TEACHER, STUDENT, temperature=temperature)
    want = np.var(np.asarray(TEACHER - STUDENT), axis=1) / 2
    np.testing.assert_allclose(value, want, rtol=0.01)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='temperature must be positive'):
        distillation.kl_divergence(TEACHER, STUDENT, temperature=0.0)
    with pytest.raises(ValueError, match='target_logits must have shape'):
        distillation.kl_divergence(TEACHER[:1], STUDENT)
    with pytest.raises(ValueError, match='weight must lie in'):
        distillation.distilled_cross_entropy(STUDENT, LABELS, teacher_logits=TEACHER, weight=1.5)
