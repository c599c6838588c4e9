import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import draws
from ltjax.losses import classification, translation

pytestmark = pytest.mark.slow

IMAGES = draws.uniform(0, 4, 3, 3, 2)
SEEDS, TARGETS = jnp.array([0, 0, 1, 0]), jnp.array([1, 2, 2, 1])
WEIGHT = draws.normal(1, 2, 18, 3)
counts_with_images = st.lists(st.integers(0, 10**5), min_size=1, max_size=12).filter(any)


def model(weight):
    return lambda images: (images - 0.5).reshape(len(images), -1) @ weight


def translate(images, **options):
    return translation.m2m_translate(
        model(WEIGHT[0]), model(WEIGHT[1]), images, SEEDS, TARGETS, **options
    )


def target_loss(images):
    return classification.softmax_cross_entropy(model(WEIGHT[0])(images), TARGETS)


def seed_logit(images):
    return jnp.take_along_axis(model(WEIGHT[1])(images), SEEDS[:, None], axis=1)[:, 0]


def test_translation_lowers_the_target_loss_and_the_seed_logit():
    translated = jax.jit(translate)(IMAGES)
    assert translated.min() >= 0
    assert translated.max() <= 1
    assert (target_loss(translated) < target_loss(IMAGES)).all()
    strong = translate(IMAGES, lam=100.0)
    assert (seed_logit(strong) < seed_logit(translated)).all()


def test_steps_add_up_and_have_the_given_length():
    np.testing.assert_array_equal(translate(IMAGES, steps=0), IMAGES)
    np.testing.assert_allclose(
        translate(translate(IMAGES, steps=2), steps=1), translate(IMAGES, steps=3), atol=1e-6
    )
    middle = jnp.full_like(IMAGES, 0.5)
    moved = translate(middle, steps=1, step_size=0.25) - middle
    np.testing.assert_allclose(np.linalg.norm(moved.reshape(4, -1), axis=1), 0.25, rtol=1e-5)


def test_a_traced_number_of_steps_and_images_alone_give_the_same():
    jitted = jax.jit(lambda steps: translate(IMAGES, steps=steps))
    np.testing.assert_allclose(jitted(4), translate(IMAGES, steps=4), atol=1e-6)
    alone = translation.m2m_translate(
        model(WEIGHT[0]), model(WEIGHT[1]), IMAGES[1:2], SEEDS[1:2], TARGETS[1:2]
    )
    np.testing.assert_allclose(alone[0], translate(IMAGES)[1], atol=1e-6)


def test_a_model_without_gradient_leaves_the_image():
    constant = translation.m2m_translate(
        lambda x: jnp.zeros([4, 3]), lambda x: jnp.zeros([4, 3]), IMAGES, SEEDS, TARGETS
    )
    np.testing.assert_array_equal(constant, IMAGES)


def test_translations_are_constants_of_the_training_step():
    def loss(weight):
        images = translation.m2m_translate(
            model(WEIGHT[0]), model(weight), IMAGES, SEEDS, TARGETS, steps=3
        )
        return classification.softmax_cross_entropy(model(weight)(images), TARGETS).sum()

    def loss_of_constants(weight):
        images = translate(IMAGES, steps=3)
        return classification.softmax_cross_entropy(model(weight)(images), TARGETS).sum()

    got, want = (jax.jit(jax.grad(f))(WEIGHT[1]) for f in (loss, loss_of_constants))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_the_start_is_near_and_inside():
    start = translation.m2m_start(jax.random.key(0), IMAGES, radius=0.2)
    assert start.min() >= 0
    assert start.max() <= 1
    moved = np.linalg.norm((start - IMAGES).reshape(-1, 2), axis=0)
    assert (moved > 0).all()
    assert (moved <= 0.2 + 1e-6).all()
    narrow = translation.m2m_start(jax.random.key(0), jnp.full([1, 1, 1, 1], 0.5), radius=0.2)
    assert 0 < abs(float(narrow[0, 0, 0, 0]) - 0.5) < 0.2, 'short noise is not lengthened'


def test_acceptance_by_confidence():
    logits = jnp.array([[0.0, 1e4, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, -1e4]])
    accepted = translation.m2m_accepted(logits, jnp.array([1, 1, 2]), confidence=1 / 3 - 1e-3)
    assert accepted.tolist() == [True, True, False]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(counts=counts_with_images, beta=st.floats(0, 0.9999))
def test_seeds_come_from_larger_classes(counts, beta):
    acceptance = translation.m2m_seed_acceptance(counts, beta=beta)
    difference = np.subtract.outer(counts, counts)
    assert ((acceptance >= 0) & (acceptance <= 1)).all()
    np.testing.assert_array_equal(acceptance > 0, difference > 0)
    order = np.argsort(counts)
    assert (np.diff(acceptance[order], axis=0) >= 0).all(), 'a larger seed class is likelier'
    keep = translation.m2m_keep_probability(counts)
    assert keep.max() == 1
    assert (np.diff(keep[order]) >= 0).all()


def test_seed_draws_follow_the_acceptance_of_their_class():
    labels, targets = jnp.array([0, 1, 1, 2]), jnp.repeat(jnp.array([1, 2, 0]), 3000)
    acceptance = translation.m2m_seed_acceptance([30, 20, 5], beta=0.9)
    index = translation.m2m_seeds(jax.random.key(0), labels, targets, acceptance=acceptance)
    frequency = [np.bincount(part, minlength=4) / 3000 for part in np.split(index, 3)]
    np.testing.assert_array_equal(frequency[0], [1, 0, 0, 0])
    weights = acceptance[labels, 2]
    np.testing.assert_allclose(frequency[1], weights / weights.sum(), atol=0.03)
    assert ((index >= 0) & (index < 4)).all(), 'a target without a seed still gets an index'


def test_mistakes_are_refused():
    for call in (translate, lambda images: translation.m2m_start(jax.random.key(0), images)):
        with pytest.raises(ValueError, match='images must be floating'):
            call(jnp.zeros([4, 3, 3, 2], jnp.uint8))
    with pytest.raises(ValueError, match='beta'):
        translation.m2m_seed_acceptance([2, 1], beta=1.0)
