import jax
import jax.numpy as jnp
import numpy as np
import pytest

import draws
from ltjax.losses import branches, heads, samplers

BATCH, WIDTH, CLASSES = 4, 3, 5
ORDINARY = draws.normal(0, BATCH, WIDTH)
REVERSED = draws.normal(1, BATCH, WIDTH)
WEIGHT = draws.normal(2, CLASSES, 2 * WIDTH)
BIAS = jnp.arange(CLASSES, dtype=jnp.float32)


def test_each_end_of_alpha_hears_one_branch_alone():
    ordinary = branches.bilateral_logits(ORDINARY, REVERSED, WEIGHT, BIAS, alpha=1.0)
    want = heads.linear_logits(2 * ORDINARY, WEIGHT[:, :WIDTH], BIAS)
    np.testing.assert_allclose(ordinary, want, rtol=1e-5, atol=1e-5)
    reversed_ = branches.bilateral_logits(ORDINARY, REVERSED, WEIGHT, BIAS, alpha=0.0)
    want = heads.linear_logits(2 * REVERSED, WEIGHT[:, WIDTH:], BIAS)
    np.testing.assert_allclose(reversed_, want, rtol=1e-5, atol=1e-5)


def test_inference_hears_both_branches_as_they_are():
    both = jnp.concatenate([ORDINARY, REVERSED], axis=1)
    logits = branches.bilateral_logits(ORDINARY, REVERSED, WEIGHT)
    np.testing.assert_allclose(logits, heads.linear_logits(both, WEIGHT), rtol=1e-5, atol=1e-5)


def test_alpha_may_be_traced():
    mixed = jax.jit(
        lambda alpha: branches.bilateral_logits(ORDINARY, REVERSED, WEIGHT, alpha=alpha)
    )
    want = branches.bilateral_logits(ORDINARY, REVERSED, WEIGHT, alpha=0.3)
    np.testing.assert_allclose(mixed(0.3), want, rtol=1e-5, atol=1e-5)


def test_branches_of_another_batch_are_refused():
    with pytest.raises(ValueError, match='reversed_features must have shape'):
        branches.bilateral_logits(ORDINARY, REVERSED[1:], WEIGHT)
    with pytest.raises(ValueError, match='weight must have shape'):
        branches.bilateral_logits(ORDINARY, REVERSED, WEIGHT[:, 1:])


def test_frequencies_are_dealt_out_in_reverse():
    found = np.exp(branches.reversed_log_prior([10, 60, 30]))
    np.testing.assert_allclose(found, [0.6, 0.1, 0.3], rtol=1e-12)
    # One class without images counts as the rarest that has some; of equal ones the first ranks lowest.
    np.testing.assert_allclose(
        np.exp(branches.reversed_log_prior([8, 2, 0])), [0.2, 0.8, 0.2], rtol=1e-12
    )


def test_the_inverse_softmax_takes_both_frequencies_out():
    """Logits of log(pi'^2 / pi) leave all classes alike."""
    counts = [8, 4, 1]
    log_prior, reversed_ = samplers.log_prior(counts), branches.reversed_log_prior(counts)
    logits = jnp.asarray((2 * reversed_ - log_prior)[None, :], jnp.float32)
    for label, share in enumerate((1 / 3,) * 3):
        value = branches.inverse_softmax(
            logits, jnp.array([label]), log_prior=log_prior, reversed_log_prior=reversed_
        )
        np.testing.assert_allclose(np.exp(-value), [share], rtol=1e-5)
    with pytest.raises(ValueError, match='tau'):
        branches.inverse_softmax(
            logits, jnp.array([0]), log_prior=log_prior, reversed_log_prior=reversed_, tau=-1.0
        )
    with pytest.raises(ValueError, match='reversed_log_prior'):
        branches.inverse_softmax(
            logits, jnp.array([0]), log_prior=log_prior, reversed_log_prior=reversed_[1:]
        )
