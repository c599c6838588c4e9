import jax
import jax.numpy as jnp
import numpy as np
import pytest

import draws
from ltjax.losses import class_sharpness, classification, sharpness

pytestmark = pytest.mark.slow

LABELS = jnp.array([0, 1, 0, 2])
FEATURES = draws.normal(0, 4, 5)
PARAMS = {'kernel': draws.normal(1, 5, 4), 'bias': jnp.arange(4.0)}
cross_entropy = classification.softmax_cross_entropy


def head(params, features):
    return features @ params['kernel'] + params['bias'][None, :]


def example_losses(params):
    return cross_entropy(head(params, FEATURES), LABELS)


def members_of(label):
    return np.asarray(LABELS) == label


def assert_trees_close(got, want, rtol=1e-5):
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=rtol, atol=1e-6), got, want)


def length(tree):
    return np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(tree)))


def test_the_perturbation_has_length_rho_and_goes_uphill():
    gradient = jax.jit(jax.grad(lambda params: example_losses(params).mean()))(PARAMS)
    step = sharpness.sam_perturbation(gradient, rho=0.3)
    np.testing.assert_allclose(length(step), 0.3, rtol=1e-6)
    moved = jax.tree.map(jnp.add, PARAMS, step)
    assert example_losses(moved).mean() > example_losses(PARAMS).mean()
    nothing = sharpness.sam_perturbation(jax.tree.map(jnp.zeros_like, gradient))
    assert length(nothing) == 0
    narrow = sharpness.sam_perturbation({'w': jnp.ones(3, jnp.bfloat16)})
    assert narrow['w'].dtype == jnp.bfloat16


def test_sam_without_radius_is_value_and_grad():
    def loss(params, features):
        return cross_entropy(head(params, features), LABELS).mean()

    plain = jax.jit(jax.value_and_grad(loss))(PARAMS, FEATURES)
    aware = jax.jit(sharpness.sam_value_and_grad(loss, rho=0.0))(PARAMS, FEATURES)
    assert_trees_close(aware, plain)
    value, gradient = jax.jit(sharpness.sam_value_and_grad(loss, rho=0.5))(PARAMS, FEATURES)
    assert value == plain[0]
    assert np.abs(gradient['kernel'] - plain[1]['kernel']).max() > 1e-3


def test_aux_is_that_of_the_unperturbed_weights():
    def loss(weight):
        return weight**2, {'seen': weight}

    (value, aux), gradient = sharpness.sam_value_and_grad(loss, rho=0.5, has_aux=True)(2.0)
    assert (value, aux['seen'], gradient) == (4.0, 2.0, 5.0)


def test_noise_fills_the_box():
    noise = sharpness.box_noise(jax.random.key(0), PARAMS, 200, 0.1)
    assert noise['kernel'].shape == (200, 5, 4)
    assert np.abs(noise['bias']).max() <= 0.1
    np.testing.assert_allclose(np.std(noise['kernel']), 0.1 / np.sqrt(3), rtol=0.05)
    assert np.abs(noise['kernel'][:, 0] - noise['bias']).min() > 0


def test_average_over_noise_is_the_mean_over_copies():
    noise = sharpness.box_noise(jax.random.key(0), PARAMS, 3, 0.5)

    def average(params):
        return sharpness.average_over_noise(example_losses, params, noise).mean()

    def by_hand(params):
        copies = [jax.tree.map(lambda w, e, m=m: w + e[m], params, noise) for m in range(3)]
        return sum(example_losses(copy).mean() for copy in copies) / 3

    got = jax.jit(jax.value_and_grad(average))(PARAMS)
    assert_trees_close(got, jax.jit(jax.value_and_grad(by_hand))(PARAMS))
    without = sharpness.average_over_noise(
        example_losses, PARAMS, jax.tree.map(jnp.zeros_like, noise)
    )
    np.testing.assert_allclose(without, example_losses(PARAMS), rtol=1e-6)


def test_the_box_holds_every_parameter():
    moved = jax.tree.map(lambda w: w + jnp.cos(jnp.arange(w.size)).reshape(w.shape) / 2, PARAMS)
    clamped = sharpness.project_to_box(moved, PARAMS, 0.25)
    for name, centre in PARAMS.items():
        inside = np.abs(moved[name] - centre) < 0.24
        assert inside.any()
        assert not inside.all()
        np.testing.assert_array_equal(clamped[name][inside], moved[name][inside])
        np.testing.assert_allclose(np.abs(clamped[name] - centre)[~inside], 0.25, rtol=1e-5)


def test_class_radii_shrink_with_the_count_and_stay_finite():
    radii = class_sharpness.cc_sam_radii([0, 1, 2, 17, 1000], noise_ratio=1.0)
    np.testing.assert_allclose(radii[:4], np.sqrt(0.5) * np.array([1, 1, 1, 0.5]), rtol=1e-12)
    assert radii[4] < radii[3]
    weights = class_sharpness.cc_sam_class_weights([0, 1, 2, 1000])
    assert np.isfinite(weights).all()
    assert weights[0] == weights[1] > weights[2] > weights[3] > 0


def perturbations(losses=example_losses, **options):
    return jax.jit(
        lambda: class_sharpness.cc_sam_perturbations(losses, PARAMS, LABELS, **options)
    )()


def test_each_class_is_perturbed_along_its_own_gradient():
    radii = np.array([0.1, 0.2, 0.3, 0.4])
    noise = perturbations(radii=radii)
    count = sum(leaf.size for leaf in PARAMS.values())
    for label in range(3):
        members = np.flatnonzero(members_of(label))
        gradient = jax.grad(lambda params, m=members: example_losses(params)[m].mean())(PARAMS)
        for name, leaf in gradient.items():
            norm = length(leaf)
            size = radii[label] * np.sqrt(length(PARAMS) / norm) * count**0.25
            np.testing.assert_allclose(noise[name][label], size * leaf / norm, rtol=1e-4)
    assert length(jax.tree.map(lambda leaf: leaf[3], noise)) == 0, 'the absent class moved'


def test_masked_examples_and_vanishing_gradients_perturb_nothing():
    where = jnp.array([True, True, True, False])
    noise = perturbations(radii=np.ones(4), where=where)
    assert length(jax.tree.map(lambda leaf: leaf[2], noise)) == 0
    assert length(perturbations(lambda params: jnp.zeros(4), radii=np.ones(4))) == 0


def test_perturbations_are_constants():
    def total(params):
        noise = class_sharpness.cc_sam_perturbations(
            example_losses, params, LABELS, radii=np.ones(4)
        )
        return sum(leaf.sum() for leaf in jax.tree.leaves(noise))

    assert length(jax.jit(jax.grad(total))(PARAMS)) == 0


def test_each_example_meets_the_head_of_its_class():
    noise = jax.tree.map(lambda w: jnp.stack([k * jnp.ones_like(w) for k in range(4)]), PARAMS)
    logits = class_sharpness.cc_sam_perturbed_logits(head, PARAMS, noise, FEATURES, LABELS)
    for row, label in enumerate(LABELS):
        moved = jax.tree.map(lambda w, k=label: w + k, PARAMS)
        np.testing.assert_allclose(logits[row], head(moved, FEATURES)[row], rtol=1e-5, atol=1e-5)


def test_mixup_enters_the_plain_term_alone():
    other = LABELS[::-1]

    def mixed(logits, labels):
        return 0.4 * cross_entropy(logits, labels) + 0.6 * cross_entropy(logits, other)

    settings = {'radii': np.zeros(4), 'plain_loss': mixed}
    for flat_ratio, want in ((0.0, mixed), (1.0, cross_entropy)):
        values = class_sharpness.cc_sam_head(
            head, PARAMS, FEATURES, LABELS, flat_ratio=flat_ratio, **settings
        )
        np.testing.assert_allclose(values, want(head(PARAMS, FEATURES), LABELS), rtol=1e-6)


def test_the_features_of_a_class_move_uphill_by_its_weight():
    weights = np.array([0.1, 0.2, 0.3, 0.4])

    def model(features):
        return head(PARAMS, features)

    def shifts(**options):
        return class_sharpness.cc_sam_feature_shift(
            model, FEATURES, LABELS, class_weights=weights, **options
        )

    shift = jax.jit(shifts)()
    for label in range(3):
        np.testing.assert_allclose(length(shift[members_of(label)]), weights[label], rtol=1e-5)
    small = 0.01 * shift
    assert (cross_entropy(model(FEATURES + small), LABELS) > example_losses(PARAMS)).all()
    np.testing.assert_allclose(shifts(scale=2.0), 2 * shift, rtol=1e-5)
    masked = shifts(where=jnp.array([True, False, True, True]))
    np.testing.assert_array_equal(masked[1], 0)


def test_statistics_of_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match='radii must have shape'):
        class_sharpness.cc_sam_head(head, PARAMS, FEATURES, LABELS, radii=np.ones(3))
    with pytest.raises(ValueError, match='class_weights must have shape'):
        class_sharpness.cc_sam_features(
            lambda f: head(PARAMS, f), FEATURES, LABELS, class_weights=np.ones(5), alpha=0.5
        )
