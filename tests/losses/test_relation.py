import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import draws
from ltjax import losses

pytestmark = pytest.mark.slow

BATCH, WIDTH = 6, 5
STUDENT, TEACHER = draws.uniform(1, 2, BATCH, WIDTH)

SET_LOSSES = {
    'sample': losses.sample_relation,
    'sample raw': functools.partial(losses.sample_relation, normalise=False),
    'channel': losses.channel_relation,
    'channel raw': functools.partial(losses.channel_relation, normalise=False, divisor='batch'),
}
DIVERGENCES = {
    direction: functools.partial(losses.probability_consistency, direction=direction)
    for direction in ('teacher_to_student', 'student_to_teacher')
}
ALL = SET_LOSSES | DIVERGENCES
each_set_loss = pytest.mark.parametrize('loss', SET_LOSSES.values(), ids=SET_LOSSES.keys())
each_divergence = pytest.mark.parametrize('loss', DIVERGENCES.values(), ids=DIVERGENCES.keys())
each_loss = pytest.mark.parametrize('loss', ALL.values(), ids=ALL.keys())


@each_loss
def test_gradient_agrees_with_finite_differences(loss):
    with jax.enable_x64(True):
        student = jnp.asarray(np.asarray(STUDENT), jnp.float64)
        check_grads(jax.jit(lambda z: loss(z, TEACHER)), (student,), order=1, modes=['rev'])


@each_loss
def test_the_teacher_is_a_constant(loss):
    gradient = jax.jit(jax.grad(lambda teacher: loss(STUDENT, teacher).sum()))(TEACHER)
    np.testing.assert_array_equal(gradient, 0)


@each_loss
def test_a_student_equal_to_its_teacher_is_at_a_minimum(loss):
    value, gradient = jax.jit(jax.value_and_grad(lambda z: loss(z, STUDENT).sum()))(STUDENT)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert float(loss(STUDENT, TEACHER).sum()) > 1e-3


@each_loss
def test_jit_and_vmap_give_the_same_values(loss):
    want = loss(STUDENT, TEACHER)
    np.testing.assert_allclose(jax.jit(loss)(STUDENT, TEACHER), want, rtol=1e-5)
    pair = jax.jit(jax.vmap(loss))(jnp.stack([STUDENT, TEACHER]), jnp.stack([TEACHER, TEACHER]))
    np.testing.assert_allclose(pair[0], want, rtol=1e-5)


@each_set_loss
def test_the_order_of_the_batch_does_not_matter(loss):
    order = jnp.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(
        loss(STUDENT[order], TEACHER[order]), loss(STUDENT, TEACHER), rtol=1e-5
    )


@each_set_loss
def test_rows_of_zeros_are_finite_in_value_and_gradient(loss):
    student = STUDENT.at[0].set(0).at[:, 1].set(0)
    for features in (student, jnp.zeros_like(STUDENT)):
        value, gradient = jax.jit(jax.value_and_grad(loss))(features, TEACHER.at[1].set(0))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


@each_loss
def test_extreme_inputs_are_finite_in_value_and_gradient(loss):
    student = jnp.array([[1e4, -1e4, 0.0], [0.0, 1e4, 1e4], [-1e4, 1.0, 1e4]])
    value, gradient = jax.jit(jax.value_and_grad(lambda z: loss(z, -student).sum()))(student)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@each_loss
def test_bfloat16_features_give_float32_values(loss):
    value = loss(STUDENT.astype(jnp.bfloat16), TEACHER.astype(jnp.bfloat16))
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, loss(STUDENT, TEACHER), rtol=0.1, atol=0.01)


@each_loss
def test_a_batch_of_one(loss):
    value, gradient = jax.jit(jax.value_and_grad(lambda z: loss(z, TEACHER[:1]).sum()))(STUDENT[:1])
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize('scale', [1e-8, 1e8])
def test_normalised_relations_do_not_depend_on_the_scale(scale):
    for loss in (losses.sample_relation, losses.channel_relation):
        np.testing.assert_allclose(
            loss(STUDENT * scale, TEACHER), loss(STUDENT, TEACHER), rtol=1e-4
        )


def test_divisors_of_the_channel_relation():
    by_channel = losses.channel_relation(STUDENT, TEACHER, divisor='channels')
    by_batch = losses.channel_relation(STUDENT, TEACHER, divisor='batch')
    np.testing.assert_allclose(by_channel * WIDTH, by_batch * BATCH, rtol=1e-6)
    with pytest.raises(ValueError, match='divisor'):
        losses.channel_relation(STUDENT, TEACHER, divisor='classes')


def test_normalised_rows_have_unit_length():
    rows = losses.normalise_rows(jnp.array([[3.0, -4.0], [0.0, 0.0], [1e-30, 0.0], [3e30, 4e30]]))
    np.testing.assert_allclose(rows, [[0.6, -0.8], [0, 0], [1, 0], [0.6, 0.8]], rtol=1e-6)


def test_directions_of_the_divergence_are_each_other_with_the_sides_exchanged():
    forward = losses.probability_consistency(STUDENT, TEACHER)
    backward = losses.probability_consistency(TEACHER, STUDENT, direction='student_to_teacher')
    np.testing.assert_allclose(forward, backward, rtol=1e-5)
    with pytest.raises(ValueError, match='direction'):
        losses.probability_consistency(STUDENT, TEACHER, direction='both')


@each_divergence
def test_masked_examples_have_no_value_and_no_gradient(loss):
    where = jnp.arange(BATCH) < 4
    values, pullback = jax.vjp(
        lambda z: loss(z, TEACHER.at[5].set(jnp.nan), where=where), STUDENT.at[4].set(jnp.nan)
    )
    (gradient,) = pullback(jnp.ones(BATCH))
    np.testing.assert_allclose(values[:4], loss(STUDENT, TEACHER)[:4], rtol=1e-6)
    np.testing.assert_array_equal(values[4:], 0)
    np.testing.assert_array_equal(gradient[4:], 0)
    assert np.isfinite(gradient).all()
