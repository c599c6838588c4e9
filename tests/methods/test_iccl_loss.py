"""ICCL: both losses by hand; its switches change the loss, or the centroids after it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, methods, models
from ltjax.engine.state import parameter_filter
from ltjax.losses import centroids, distillation, mixing

pytestmark = pytest.mark.slow

STEPS = 3  # a round: 56 images in batches of 16


def config(changes=None, data='any', **others):
    return tiny.tuned('iccl', data, changes, **others)


@pytest.fixture
def network():
    """A network with its head, centroids and a batch of both streams."""
    made = config({'train.embedding_dim': 6})
    recipe = methods.recipe(made.method, tiny.task())
    rngs = nnx.Rngs(0)
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=rngs)
    recipe.add_heads(model, rngs)
    keys = jax.random.split(jax.random.key(1), 3)

    def stream(key, labels):
        return {'view': jax.random.normal(key, (8, 12, 12, 1)), 'label': jnp.array(labels)}

    batch = stream(keys[0], [0, 0, 0, 0, 1, 1, 0, 0])
    batch |= {'class_aware': stream(keys[1], [2, 1, 0, 2, 2, 1, 0, 1])}
    centres = 0.5 * losses.normalise_rows(jax.random.normal(keys[2], (3, 6)))
    return model, batch, {'centroids': centres}


def stage_loss(stage, changes):
    made = config({'train.embedding_dim': 6} | changes)
    loss_fn = methods.recipe(made.method, tiny.task()).stages[stage].updates[0].loss_fn

    def value_and_gradient(model, extra, batch, step):
        def value(model):
            loss = loss_fn(model, extra, batch, jax.random.key(7), step)
            return loss.value, loss.extra

        return nnx.value_and_grad(value, has_aux=True)(model)

    return made.method, nnx.jit(value_and_gradient)


def by_hand(model, extra, batch, settings, active):
    """Equations 5 to 8 put together from the golden-tested functions, and the embeddings."""
    aware, centre = (
        batch['class_aware'],
        {'centroids': extra['centroids'], 'temperature': settings.temperature},
    )
    outputs = model(batch['view'])
    embeddings = model.projection(outputs.features)
    total = losses.mean(losses.softmax_cross_entropy(outputs.logits, batch['label']))
    if not active:
        contrast = centroids.centroid_contrastive(embeddings, batch['label'], **centre)
        return total + losses.mean(contrast), embeddings
    lam = mixing.mixing_weight(jax.random.key(7), settings.lam_alpha, settings.lam_beta, shape=(8,))
    mixed = model(mixing.interpolate(batch['view'], aware['view'], lam))
    pair = {'other_labels': aware['label'], 'lam': lam}
    cross_entropy = mixing.interpolated_cross_entropy(mixed.logits, batch['label'], **pair)
    contrast = centroids.interpolative_centroid_contrastive(
        model.projection(mixed.features), batch['label'], **pair, **centre
    )
    total = settings.uniform_weight * total
    return (
        total + settings.interpolative_weight * losses.mean(cross_entropy + contrast),
        embeddings,
    )


@pytest.mark.parametrize('step', [STEPS - 1, STEPS], ids=['warm-up', 'active'])
def test_the_loss_is_the_golden_functions_put_together(network, step):
    model, batch, extra = network
    weights = {'train.uniform_weight': 0.7, 'train.interpolative_weight': 1.3}
    method, loss = stage_loss(0, weights | {'train.lam_alpha': 0.6})

    @nnx.jit
    def hand(model):
        return nnx.value_and_grad(
            lambda m: by_hand(m, extra, batch, method.train, step >= STEPS), has_aux=True
        )(model)

    ours, theirs = nnx.clone(model), nnx.clone(model)
    (value, found), gradients = loss(ours, extra, batch, step)
    (expected, embeddings), expected_gradients = hand(theirs)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for a, b in zip(
        jax.tree.leaves((gradients, nnx.state(ours, nnx.BatchStat))),
        jax.tree.leaves((expected_gradients, nnx.state(theirs, nnx.BatchStat))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    moved_centroids = found['centroids']
    # By the uniform branch's embeddings, after the loss; the absent class stays.
    expected = centroids.update_centroids(extra['centroids'], embeddings, batch['label'])
    np.testing.assert_allclose(moved_centroids, expected, atol=1e-6)
    assert np.array_equal(moved_centroids[2], extra['centroids'][2])
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize('trains', ['classifier', 'all'])
def test_the_second_loss_distils_the_first_stage(network, trains):
    model, batch, _ = network
    method, loss = stage_loss(1, {'retrain.trains': trains, 'retrain.temperature': 3.0})
    teacher = nnx.clone(model)
    for leaf in (teacher.classifier.kernel, teacher.convs[0].kernel)[: 1 + (trains == 'all')]:
        leaf[...] = -2 * leaf[...]
    model.eval()
    teacher.eval()
    taught = nnx.split_state(nnx.state(teacher), parameter_filter(trains), ...)[0]
    (value, found), _ = loss(model, {'centroids': jnp.ones(1), 'teacher': taught}, batch, 0)
    expected = distillation.distilled_cross_entropy(
        model(batch['view']).logits,
        batch['label'],
        teacher_logits=teacher(batch['view']).logits,
        weight=method.retrain.distillation_weight,
        temperature=3.0,
    )
    assert float(value) == pytest.approx(float(losses.mean(expected)), rel=1e-5)
    assert found is None


# Switches of stage 1: they change the loss, or the centroids after it.


def one_loss(network, changes=None):
    """The loss of a step after the warm-up; not compiled, which would take longer than it."""
    model, batch, extra = network
    made = config({'train.embedding_dim': 6} | (changes or {}))
    update = methods.recipe(made.method, tiny.task()).stages[0].updates[0]
    return update.loss_fn(nnx.clone(model), extra, batch, jax.random.key(7), STEPS)


@pytest.mark.parametrize(
    'changes',
    [
        {'train.uniform_weight': 0.0},
        {'train.interpolative_weight': 3.0},
        {'train.lam_alpha': 0.2},
        {'train.lam_beta': 5.0},
        {'train.temperature': 0.05},
        {'train.warmup_epochs': 0, 'train.interpolated_cross_entropy': False},
    ],
    ids=str,
)
def test_switches_of_the_loss(network, changes):
    base, other = one_loss(network), one_loss(network, changes)
    assert np.isfinite(other.value)
    assert float(other.value) != pytest.approx(float(base.value), rel=1e-3)
    assert tiny.same(other.extra, base.extra)


@pytest.mark.parametrize('rule', ['sequential', 'mean', 'sum', 'printed'])
@pytest.mark.parametrize('normalise', [False, True])
def test_switches_of_the_centroids(network, rule, normalise):
    model, batch, extra = network
    changes = {'centroid_rule': rule, 'centroid_momentum': 0.8, 'normalise_centroids': normalise}
    found = one_loss(network, {f'train.{name}': value for name, value in changes.items()})
    embeddings = model.projection(nnx.clone(model).encode(batch['view']))
    expected = centroids.update_centroids(
        extra['centroids'], embeddings, batch['label'], momentum=0.8, rule=rule
    )
    if normalise:
        expected = losses.normalise_rows(expected)
    np.testing.assert_allclose(found.extra['centroids'], expected, atol=1e-6)
    assert float(found.value) == float(one_loss(network).value)
