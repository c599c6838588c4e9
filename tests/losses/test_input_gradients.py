import jax
import jax.numpy as jnp
import numpy as np
import pytest

import draws
from ltjax.losses.input_gradients import (
    distractor_distance,
    distractor_loss,
    distractors,
    response_maps,
)

pytestmark = pytest.mark.slow

LABELS = jnp.array([0, 1, 2])
IMAGES = draws.normal(0, 3, 4, 4, 2)
PARAMS = (
    draws.normal(1, 32, 6),
    draws.normal(2, 6, 3),
)


def net(params, images):
    return jnp.tanh(images.reshape(len(images), -1) @ params[0]) @ params[1]


def model(images):
    return net(PARAMS, images)


def test_distractors_are_the_best_wrong_class_and_the_first_of_equals():
    logits = jnp.array([[3.0, 1.0, 2.0], [1.0, 9.0, 1.0], [-1e4, -jnp.inf, 1e4]])
    wrong = distractors(logits, LABELS)
    assert wrong.tolist() == [2, 0, 0]
    assert wrong.dtype == jnp.int32
    with pytest.raises(ValueError, match='at least 2 classes'):
        distractors(jnp.zeros([2, 1]), jnp.array([0, 0]))


def test_one_backward_pass_gives_the_distance_of_two_response_maps():
    wrong = distractors(model(IMAGES), LABELS)
    true_map, wrong_map = (response_maps(model, IMAGES, labels) for labels in (LABELS, wrong))
    assert true_map.shape == IMAGES.shape
    want = np.linalg.norm((true_map - wrong_map).reshape(3, -1), axis=1)
    got = jax.jit(lambda images: distractor_distance(model, images, LABELS))(IMAGES)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_penalty_reaches_the_weights_through_the_input_gradients():
    @jax.jit
    def penalty(params):
        images = IMAGES.astype(params[0].dtype)
        bound = jax.tree_util.Partial(net, params)
        return distractor_loss(bound, images, LABELS).sum()

    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), PARAMS)
        step = jax.tree.map(lambda p: 1e-6 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)
        gradient = jax.jit(jax.grad(penalty))(params)
        up, down = (
            penalty(jax.tree.map(lambda p, s, sign=sign: p + sign * s, params, step))
            for sign in (1, -1)
        )
        along = float(sum(jnp.vdot(g, s) for g, s in zip(gradient, step, strict=True)))
        want = float(up - down) / 2
    np.testing.assert_allclose(along, want, rtol=1e-4)
    assert abs(along) > 1e-7


def test_equal_response_maps_are_finite():
    def constant(images):
        return 0 * images.reshape(len(images), -1)[:, :3]

    value, gradient = jax.value_and_grad(
        lambda images: distractor_loss(constant, images, LABELS, eps=0.5).sum()
    )(IMAGES)
    assert value == 3 * 2
    np.testing.assert_array_equal(gradient, 0)


def test_the_distance_of_a_linear_model_is_that_of_its_weights():
    weight, inputs, labels = PARAMS[1].T, jnp.eye(6)[:3], jnp.array([1, 2, 0])
    wrong = distractors(inputs @ weight.T, labels)
    got = distractor_distance(lambda x: x @ weight.T, inputs, labels)
    np.testing.assert_allclose(
        got, np.linalg.norm(weight[labels] - weight[wrong], axis=1), rtol=1e-5
    )
