import jax
import jax.numpy as jnp
import numpy as np
import pytest

import draws
from ltjax.losses import mixing

IMAGES = draws.uniform(0, 4, 2, 2, 3)
PERMUTATION = jnp.array([2, 0, 3, 1])
COUNTS = [90, 30, 29, 10]


def test_mixup_at_its_ends_and_between():
    np.testing.assert_array_equal(mixing.mixup(IMAGES, PERMUTATION, 1.0), IMAGES)
    np.testing.assert_array_equal(mixing.mixup(IMAGES, PERMUTATION, 0.0), IMAGES[PERMUTATION])
    each = mixing.mixup(IMAGES, PERMUTATION, jnp.array([1.0, 0.0, 0.5, 1.0]))
    np.testing.assert_allclose(each[1], IMAGES[0], rtol=1e-6)
    np.testing.assert_allclose(each[2], (IMAGES[2] + IMAGES[3]) / 2, rtol=1e-6)


def test_the_balanced_batch_has_the_weight_lam():
    balanced = 1 + IMAGES
    np.testing.assert_array_equal(mixing.balanced_mixup(IMAGES, balanced, 0.0), IMAGES)
    np.testing.assert_allclose(
        mixing.balanced_mixup(IMAGES, balanced, 0.25), IMAGES + 0.25, rtol=1e-6
    )


def test_mixed_values_keep_a_floating_dtype():
    for dtype, want in ((jnp.bfloat16, jnp.bfloat16), (jnp.uint8, jnp.float32)):
        assert mixing.mixup(IMAGES.astype(dtype), PERMUTATION, 0.3).dtype == want


def test_mixing_weights_follow_their_distribution():
    for alpha, beta, mean in ((1.0, None, 0.5), (0.2, 1.0, 1 / 6)):
        drawn = mixing.mixing_weight(jax.random.key(1), alpha, beta, shape=(4000,))
        assert drawn.shape == (4000,)
        assert 0 <= drawn.min() <= drawn.max() <= 1
        np.testing.assert_allclose(drawn.mean(), mean, atol=0.02)


@pytest.mark.parametrize(('alpha', 'beta', 'name'), [(0.0, None, 'alpha'), (1.0, -1.0, 'beta')])
def test_a_beta_distribution_has_positive_parameters(alpha, beta, name):
    with pytest.raises(ValueError, match=f'{name} must be positive'):
        mixing.mixing_weight(jax.random.key(0), alpha, beta)


def weight(labels, others, lam, **options):
    return mixing.remix_weight(
        jnp.asarray(labels), jnp.asarray(others), lam=lam, counts=COUNTS, **options
    ).tolist()


def test_remix_gives_the_label_to_the_rarer_class():
    # 90 against 30 images is just three times as many, 90 against 29 more and 29 against 10 less.
    labels, others = [0, 1, 2, 0, 3], [1, 0, 3, 0, 2]
    assert weight(labels, others, 0.25) == [0.0, 0.25, 0.25, 0.25, 0.25]
    assert weight(labels, others, 0.75) == [0.75, 1.0, 0.75, 0.75, 0.75]
    assert weight(labels, others, 0.5) == [0.5] * 5
    assert weight(labels, others, jnp.array([0.25, 0.75, 0.25, 0.75, 0.75]), kappa=2.5) == [
        0.0,
        1.0,
        0.0,
        0.75,
        1.0,
    ]


def test_remix_without_tau_is_mixup():
    assert weight([0, 3], [3, 0], 0.25, tau=0.0) == [0.25, 0.25]


def test_remix_runs_under_jit_with_counts_of_the_host():
    compiled = jax.jit(lambda y, other, lam: mixing.remix_weight(y, other, lam=lam, counts=COUNTS))
    got = compiled(jnp.array([0, 1]), jnp.array([3, 0]), jnp.array([0.1, 0.9]))
    np.testing.assert_allclose(got, [0, 1])


def test_labels_of_partners_are_named():
    with pytest.raises(ValueError, match='other_labels must have shape'):
        mixing.interpolated_cross_entropy(
            jnp.zeros((2, 3)), jnp.array([0, 1]), other_labels=jnp.array([0]), lam=0.5
        )
    with pytest.raises(ValueError, match='other_labels must be integers'):
        weight([0, 1], [0.0, 1.0], 0.5)
