"""ProCo's parts: calibration, hard negatives, proto-instances, unfilled queues."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.losses import proto_instances, prototypes, queues, relation

pytestmark = pytest.mark.slow

BATCH, CLASSES, WIDTH, SLOTS = 4, 3, 5, 6
_RNG = np.random.default_rng(0)


def _unit(rows):
    return relation.normalise_rows(_RNG.normal(size=(rows, WIDTH)).astype(np.float32))


EMBEDDINGS, PROTOTYPES = _unit(BATCH), _unit(CLASSES)
LABELS = jnp.array([0, 1, 1, 2])
LOGITS = jnp.asarray(_RNG.normal(size=(BATCH, CLASSES)), jnp.float32)
QUEUE = queues.Queue(
    _unit(SLOTS), jnp.array([0, 1, 0, 1, 2, 2]), jnp.ones(SLOTS, bool), jnp.array(0)
)
HALF_FILLED = QUEUE._replace(filled=jnp.arange(SLOTS) < 3)


def instances_of(queue, prototype_vectors=PROTOTYPES, *, num_negatives=2, **options):
    make = functools.partial(
        proto_instances.adversarial_instances,
        num_negatives=num_negatives,
        negative_epsilon=0.3,
        positive_epsilon=0.2,
        **options,
    )
    return jax.jit(make)(EMBEDDINGS, LABELS, queue=queue, prototypes=prototype_vectors)


def test_calibration_is_a_mean_a_class_and_a_constant():
    features, labels = jnp.abs(EMBEDDINGS), jnp.array([0, 0, 1, 7])
    where = jnp.array([True, True, True, False])
    features = features.at[3].set(jnp.nan)
    omega, counts = jax.jit(prototypes.calibration_factors)(
        features, labels, PROTOTYPES, where=where
    )
    sigmoid = 1 / (1 + np.exp(-np.asarray(features[:3] @ PROTOTYPES.T)))
    np.testing.assert_allclose(omega, [sigmoid[:2, 0].mean(), sigmoid[2, 1], 0], rtol=1e-5)
    assert counts.tolist() == [2, 1, 0]
    gradient = jax.grad(lambda p: prototypes.calibration_factors(EMBEDDINGS, LABELS, p)[0].sum())(
        PROTOTYPES
    )
    np.testing.assert_array_equal(gradient, 0)


def test_readings_of_the_recalibration():
    features, omega = jnp.abs(EMBEDDINGS), jnp.array([0.5, 0.1, 0.9])
    plain = prototypes.prototype_logits(features, PROTOTYPES)
    additive = prototypes.prototype_logits(features, PROTOTYPES, omega=omega)
    np.testing.assert_allclose(additive - plain, jnp.tile(jnp.log(omega), (4, 1)), atol=1e-5)
    vector = prototypes.prototype_logits(features, PROTOTYPES, omega=omega, recalibration='vector')
    want = features.sum(axis=1)[:, None] * jnp.log(omega)[None, :]
    np.testing.assert_allclose(vector - plain, want, atol=1e-5)


def test_a_calibration_of_zero_is_finite():
    logits = prototypes.prototype_logits(EMBEDDINGS, PROTOTYPES, omega=jnp.zeros(CLASSES))
    assert np.isfinite(logits).all()


def test_hard_negatives_are_the_nearest_of_other_classes():
    slots, distances = proto_instances.hard_negatives(
        3 * EMBEDDINGS, LABELS, QUEUE, num_negatives=4
    )
    every = 1 - np.asarray(EMBEDDINGS @ QUEUE.features.T)
    for anchor in range(BATCH):
        others = np.flatnonzero(np.asarray(QUEUE.labels) != int(LABELS[anchor]))
        nearest = others[np.argsort(every[anchor, others])]
        assert slots[anchor].tolist() == nearest.tolist()
        np.testing.assert_allclose(distances[anchor], every[anchor, nearest], atol=1e-5)


def test_too_few_negatives_are_masked():
    instances = instances_of(HALF_FILLED, num_negatives=3)
    assert instances.negative_mask.sum(axis=1).tolist() == [1, 2, 2, 3]
    assert not instances.positive_mask[:, 3:].any()


def test_proto_instances_lie_between_entry_and_prototype():
    instances = instances_of(QUEUE)
    slots, _ = proto_instances.hard_negatives(EMBEDDINGS, LABELS, QUEUE, num_negatives=2)
    mixed = 0.7 * QUEUE.features[slots] + 0.3 * PROTOTYPES[LABELS][:, None, :]
    lengths = jnp.linalg.norm(mixed, axis=2, keepdims=True)
    np.testing.assert_allclose(instances.negatives, mixed / lengths, rtol=1e-5, atol=1e-6)
    predicted = proto_instances.nearest_prototype(QUEUE.features, PROTOTYPES)
    wrong = np.asarray(predicted != QUEUE.labels)
    same = np.asarray(LABELS)[:, None] == np.asarray(QUEUE.labels)[None, :]
    np.testing.assert_array_equal(instances.positive_mask, same & wrong[None, :])
    assert instances.positive_mask.any()


@pytest.mark.parametrize('through', [False, True])
def test_gradients_reach_the_prototypes_through_the_mixing_only_if_asked(through):
    def loss(vectors):
        instances = instances_of(QUEUE, vectors, through_prototypes=through)
        return proto_instances.proto_loss(
            LOGITS, EMBEDDINGS, LABELS, queue=QUEUE, instances=instances
        ).sum()

    gradient = jax.jit(jax.grad(loss))(PROTOTYPES)
    assert bool(np.abs(gradient).max() > 0) == through


def test_unfilled_slots_are_not_there_even_if_they_are_not_zero():
    short = queues.Queue(*(array[:3] for array in HALF_FILLED[:3]), HALF_FILLED.pointer)

    def value_and_gradient(queue):
        def loss(embeddings):
            return proto_instances.proto_loss(
                LOGITS, embeddings, LABELS, queue=queue, instances=instances_of(queue)
            ).sum()

        return jax.jit(jax.value_and_grad(loss))(EMBEDDINGS)

    got, want = value_and_gradient(HALF_FILLED), value_and_gradient(short)
    jax.tree.map(lambda g, w: np.testing.assert_allclose(g, w, rtol=1e-5), got, want)


def test_an_empty_queue_leaves_the_classes():
    queue = queues.empty_queue(SLOTS, WIDTH)
    value, gradient = jax.jit(
        jax.value_and_grad(
            lambda g: proto_instances.proto_loss(
                LOGITS, g, LABELS, queue=queue, instances=instances_of(queue)
            ).sum()
        )
    )(EMBEDDINGS)
    want = -jax.nn.log_softmax(LOGITS)[jnp.arange(BATCH), LABELS].sum()
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_array_equal(gradient, 0)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='num_negatives'):
        instances_of(QUEUE, num_negatives=SLOTS + 1)
    with pytest.raises(ValueError, match='prototypes must have shape'):
        instances_of(QUEUE, PROTOTYPES[:, 1:])
    with pytest.raises(ValueError, match='recalibration must be'):
        prototypes.prototype_logits(EMBEDDINGS, PROTOTYPES, recalibration='both')
    with pytest.raises(ValueError, match='at least two classes'):
        proto_instances.proto_loss(
            LOGITS[:, :1], EMBEDDINGS, jnp.zeros(BATCH, jnp.int32), queue=QUEUE
        )
    with pytest.raises(ValueError, match='embeddings must have shape'):
        proto_instances.proto_loss(LOGITS, EMBEDDINGS[:, 1:], LABELS, queue=QUEUE)
