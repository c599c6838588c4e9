import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltjax.losses import classification, margin

counts_with_images = st.lists(st.integers(0, 10**6), min_size=1, max_size=30).filter(any)
examples = settings(max_examples=25, deadline=None, derandomize=True)


@examples
@given(counts=counts_with_images)
def test_margins_and_clouds_grow_with_rarity(counts):
    by_count = np.argsort(counts)[::-1]
    margins = margin.ldam_margins(counts, max_margin=0.5)[by_count]
    clouds = margin.cloud_sizes(counts)[by_count]
    assert (np.diff(margins) >= 0).all()
    assert (np.diff(clouds) >= 0).all()
    assert margins[-1] == 0.5
    assert clouds[0] == 0
    assert clouds[-1] == (1 if max(counts) > min(filter(None, counts)) else 0)


def test_a_class_without_images_counts_like_the_smallest():
    for prepare in (margin.ldam_margins, margin.cloud_sizes):
        np.testing.assert_array_equal(prepare([50, 3, 0])[:2], prepare([50, 3]))
        assert prepare([50, 3, 0])[2] == prepare([50, 3])[1]


def test_noise_is_clipped_and_only_lowers_logits():
    cosine, labels, sizes = jnp.zeros([1, 3]), jnp.array([0]), np.array([0.0, 0.5, 1.0])

    def loss(noise):
        options = dict(noise=noise, cloud_size=sizes, noise_scale=0.5, scale=2.0)
        return margin.gaussian_clouded(cosine, labels, **options)

    by_hand = -jax.nn.log_softmax(-2 * 0.5 * jnp.asarray(sizes, jnp.float32))[:1]
    for noise in (1.0, -1.0, 7.0, -7.0):
        np.testing.assert_allclose(loss(jnp.full([1, 3], noise)), by_hand, rtol=1e-6)


def angular(cosine, noise_scale=0.0, margin_=0.5, **options):
    """The loss of one example of class 0 of two, whose second cosine is 0 and has no cloud."""
    return margin.gaussian_clouded_angular(
        jnp.array([[cosine, 0.0]]),
        jnp.array([0]),
        noise=jnp.ones([1, 2]),
        cloud_size=np.array([1.0, 0.0]),
        noise_scale=noise_scale,
        margin=margin_,
        scale=1.0,
        **options,
    )[0]


def shifted_by(loss):
    """The shifted cosine of class 0 that gives such a loss beside a logit of 0."""
    return -np.log(np.expm1(np.float64(loss)))


def test_angles_are_added():
    theta = 1.2
    np.testing.assert_allclose(shifted_by(angular(np.cos(theta))), np.cos(theta + 0.5), rtol=1e-5)
    cloud = np.pi / 2 * 0.1
    got = shifted_by(angular(np.cos(theta), noise_scale=0.1))
    np.testing.assert_allclose(got, np.cos(theta + 0.5 + cloud), rtol=1e-5)


def test_angles_beyond_pi_go_on_falling():
    theta = 2.9
    got = shifted_by(angular(np.cos(theta)))
    np.testing.assert_allclose(got, np.cos(theta) - np.sin(0.5), rtol=1e-5)
    easy = shifted_by(angular(np.cos(theta), easy_margin=True))
    np.testing.assert_allclose(easy, np.cos(theta), rtol=1e-5)


@pytest.mark.parametrize('cosine', [1.0, -1.0, 1 + 1e-6])
def test_parallel_features_have_finite_gradients(cosine):
    value, gradient = jax.value_and_grad(angular)(cosine)
    assert np.isfinite(value)
    assert np.isfinite(gradient)


def test_running_counts():
    counts = jnp.zeros(3, jnp.int32)
    counts = margin.accumulated_counts(counts, jnp.array([2, 0, 2]))
    assert counts.tolist() == [1, 0, 2]
    mask = jnp.array([True, False, True])
    counts = jax.jit(margin.accumulated_counts)(counts, jnp.array([1, -1, 2]), where=mask)
    assert counts.tolist() == [1, 1, 3]
    assert counts.dtype == jnp.int32


def test_seesaw_factors_are_constants_for_the_gradient():
    logits, labels, counts = jnp.array([[0.2, 1.5, -0.3]]), jnp.array([0]), jnp.array([9, 2, 1])

    def gradient(loss):
        return jax.grad(lambda z: loss(z).sum())(logits)

    p = jax.nn.softmax(logits[0])
    factors = (counts / 9) ** 0.8 * jnp.maximum(p / p[0], 1) ** 2
    constant = gradient(
        lambda z: classification.softmax_cross_entropy(z + jnp.log(factors)[None, :], labels)
    )
    got = gradient(lambda z: margin.seesaw(z, labels, counts=counts))
    np.testing.assert_allclose(got, constant, rtol=1e-5)


def test_seesaw_of_classes_not_yet_seen_is_finite():
    value = margin.seesaw(jnp.zeros([2, 3]), jnp.array([0, 2]), counts=jnp.zeros(3, jnp.int32))
    np.testing.assert_allclose(value, np.log(3), rtol=1e-6)


@pytest.mark.parametrize(
    ('name', 'loss'),
    [
        ('margins', lambda z, y, a: margin.ldam(z, y, margins=a)),
        ('cloud_size', lambda z, y, a: margin.gaussian_clouded(z, y, noise=z, cloud_size=a)),
        (
            'cloud_size',
            lambda z, y, a: margin.gaussian_clouded_angular(z, y, noise=z, cloud_size=a),
        ),
        ('counts', lambda z, y, a: margin.seesaw(z, y, counts=a)),
    ],
)
def test_class_arrays_of_another_length_are_refused(name, loss):
    with pytest.raises(ValueError, match=rf'{name} must have shape \[3\]'):
        loss(jnp.zeros([2, 3]), jnp.array([0, 2]), np.zeros(4))


def test_noise_of_another_shape_is_refused():
    for loss in (margin.gaussian_clouded, margin.gaussian_clouded_angular):
        with pytest.raises(ValueError, match=r'noise must have shape \[2, 3\]'):
            loss(
                jnp.zeros([2, 3]), jnp.array([0, 2]), noise=jnp.zeros([1, 3]), cloud_size=np.ones(3)
            )
