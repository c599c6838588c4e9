"""What the conformance cases do not say of the contrastive losses: sets, masks and mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import contrastive, parametric, reduce

FEATURES = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
LOGITS = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5], [0.0, 0.0]])
LABELS = jnp.array([0, 0, 1, 0])

nt_xent = jax.jit(contrastive.nt_xent, static_argnames=('temperature', 'base_temperature'))
paco = jax.jit(
    parametric.parametric_contrastive, static_argnames=('alpha', 'temperature', 'epsilon')
)


def test_an_anchor_without_a_positive_is_zero_and_counts():
    def loss(features):
        values = contrastive.supervised_contrastive(features, LABELS)
        return reduce.mean(values), values

    (mean, values), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(FEATURES)
    assert values[2] == 0
    np.testing.assert_allclose(mean, values.sum() / 4, rtol=1e-6)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[2]).max() > 0  # as a negative of the others


def test_an_anchor_alone_is_zero_with_zero_gradient():
    value, gradient = jax.jit(
        jax.value_and_grad(lambda f: contrastive.supervised_contrastive(f, LABELS[:1]).sum())
    )(FEATURES[:1])
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_several_other_views_are_averaged():
    images = jnp.zeros(3, jnp.int32)
    rows = np.exp(np.asarray(FEATURES[:3] @ FEATURES[:3].T))
    np.fill_diagonal(rows, 0)
    log_p = np.log(rows[0, 1:] / rows[0].sum())
    values = nt_xent(FEATURES[:3], images, temperature=1.0)
    np.testing.assert_allclose(values[0], -log_p.mean(), rtol=1e-5)


def test_the_base_temperature_is_a_factor():
    scaled = nt_xent(FEATURES, LABELS, temperature=0.5, base_temperature=0.1)
    plain = nt_xent(FEATURES, LABELS, temperature=0.5)
    np.testing.assert_allclose(scaled, 5 * plain, rtol=1e-5)


def test_keys_are_candidates_but_no_anchors():
    halves = {'keys': FEATURES[2:], 'key_labels': LABELS[2:]}
    values = paco(LOGITS[:2], FEATURES[:2], LABELS[:2], **halves)
    whole = paco(LOGITS, FEATURES, LABELS)
    np.testing.assert_allclose(values, whole[:2], rtol=1e-6)


def test_masked_keys_are_not_there_even_if_they_are_nan():
    keys = {'keys': FEATURES[2:].at[1].set(jnp.nan), 'key_labels': jnp.array([1, -5])}
    where = jnp.array([True, False])

    def loss(rows, **options):
        values = paco(LOGITS[:2], rows, LABELS[:2], epsilon=1e-12, **options)
        return values.sum()

    compute = jax.jit(jax.value_and_grad(loss))
    got = compute(FEATURES[:2], **keys, key_where=where)
    want = compute(FEATURES[:2], keys=FEATURES[2:3], key_labels=LABELS[2:3])
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5), got, want)


def test_alpha_moves_from_rows_to_classes_and_may_be_traced():
    loss = jax.jit(
        lambda alpha: reduce.mean(
            parametric.adaptive_unified_contrastive(LOGITS, FEATURES, LABELS, alpha=alpha)
        )
    )
    values = [float(loss(alpha)) for alpha in (1.0, 0.1, 0.0)]
    assert len(set(values)) == 3
    classes = parametric.adaptive_unified_contrastive(LOGITS, FEATURES, LABELS, alpha=0.0)
    np.testing.assert_allclose(values[2], classes.mean(), rtol=1e-5)


def test_the_epsilon_adds_to_the_denominator():
    def denominator(epsilon):
        value = paco(
            LOGITS[3:], FEATURES[3:], LABELS[3:], alpha=0.0, temperature=1.0, epsilon=epsilon
        )
        return float(jnp.exp(value[0]))

    # Classes give 1 + 1; the anchor itself is the largest entry, e^1.
    assert denominator(0.0) == pytest.approx(2)
    assert denominator(0.5) == pytest.approx(2 + 0.5 * np.e, rel=1e-5)


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('temperature', {'temperature': 0.0}),
        ('class_temperature', {'class_temperature': -1.0}),
        ('alpha', {'alpha': -0.1}),
        ('epsilon', {'epsilon': -1e-3}),
        ('positives', {'positives': 'max'}),
        ('keys and key_labels', {'keys': FEATURES}),
        ('keys', {'keys': FEATURES[:, :1], 'key_labels': LABELS}),
        ('key_labels', {'keys': FEATURES, 'key_labels': LABELS[1:]}),
        ('where', {'keys': FEATURES, 'key_labels': LABELS, 'key_where': jnp.ones(1, bool)}),
    ],
)
def test_mistakes_are_named(name, options):
    with pytest.raises(ValueError, match=name):
        parametric.parametric_contrastive(LOGITS, FEATURES, LABELS, **options)


def test_temperatures_must_be_positive():
    with pytest.raises(ValueError, match='base_temperature must be positive'):
        contrastive.supervised_contrastive(FEATURES, LABELS, base_temperature=0.0)
    with pytest.raises(ValueError, match='base_temperature must be positive'):
        parametric.adaptive_unified_contrastive(LOGITS, FEATURES, LABELS, base_temperature=0.0)
    with pytest.raises(ValueError, match='temperature must be positive'):
        contrastive.classifier_contrastive(LOGITS, LABELS, temperature=0.0)
