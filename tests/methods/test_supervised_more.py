"""Losses, penalties and perturbed classifiers of the supervised stage, and two-stage methods made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, methods, models, sharding
from ltjax.engine.state import flatten
from ltjax.engine.step import key_for
from ltjax.errors import UserError

pytestmark = pytest.mark.usefixtures('traced_once')

COUNTS = np.array(tiny.COUNTS)
LABELS = jnp.array([0, 0, 1, 1, 0, 2])
LOG_PRIOR = jnp.asarray(losses.log_prior(COUNTS), jnp.float32)
KEY = jax.random.key(3)
CLASSIFIER = {'classifier.kernel.value', 'classifier.bias.value'}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def batch():
    images = np.random.default_rng(1).normal(size=(6, 12, 12, 1))
    return {'label': LABELS, 'view': jnp.asarray(images, jnp.float32)}


def one_loss(batch, name, changes=None, *, stage=0, step=0):
    """Returns the loss of a batch, not compiled, and the network, whose logits are stretched."""
    made = tiny.tuned(name, changes=changes)
    recipe = methods.recipe(made.method, tiny.task())
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    recipe.add_heads(model, nnx.Rngs(1))
    model.classifier.kernel[...] = 8 * model.classifier.kernel[...]
    update = recipe.stages[stage].updates[0]
    loss = update.loss_fn(nnx.clone(model), {}, batch, KEY, jnp.int32(step))
    return loss, model


def of_logits(function, **values):
    return lambda logits: losses.mean(function(logits, LABELS, **values))


def lade(logits, alpha, penalty, importance='classes'):
    regulariser = losses.lade_regulariser(
        logits, LABELS, log_prior=LOG_PRIOR, penalty=penalty, importance=importance
    )
    balanced = losses.balanced_softmax(logits, LABELS, log_prior=LOG_PRIOR)
    return losses.mean(balanced) + alpha * regulariser


def equalized(logits, gamma, rare):
    drawn = jax.random.bernoulli(key_for(KEY, 'loss'), gamma, logits.shape)
    ignored = drawn & jnp.array(rare)[None, :]
    return losses.mean(losses.softmax_equalization(logits, LABELS, ignored=ignored))


def scaled(gamma, tau):
    scales = losses.vector_scales(COUNTS, gamma=gamma)
    return of_logits(losses.vector_scaling, scales=scales, log_prior=LOG_PRIOR, tau=tau)


def smoothed(**values):
    return of_logits(
        losses.label_aware_smoothing, factors=losses.smoothing_factors(COUNTS, **values)
    )


@pytest.mark.parametrize(
    ('name', 'changes', 'expected'),
    [
        ('vs', {}, scaled(0.3, 1.0)),
        ('vs', {'train.loss.gamma': 0.1, 'train.loss.tau': 0.5}, scaled(0.1, 0.5)),
        ('lade', {}, lambda z: lade(z, 0.1, 0.1)),
        (
            'lade',
            {'train.loss.alpha': 0.5, 'train.loss.penalty': 1.0, 'train.loss.importance': 'examples'},
            lambda z: lade(z, 0.5, 1.0, 'examples'),
        ),
        ('seql', {}, lambda z: equalized(z, 0.9, [False, False, True])),  # 8 of 56 are below 1 / 6
        (
            'seql',
            {'train.loss.gamma': 1.0, 'train.loss.threshold': 0.9},
            lambda z: equalized(z, 1.0, [False, True, True]),
        ),
        ('seql', {'train.loss.gamma': 0.0}, of_logits(losses.softmax_cross_entropy)),
        (
            'vs',
            {'train.loss': {'name': 'label_aware_smoothing', 'head': 0.5, 'tail': 0.1, 'shape': 'exp'}},
            smoothed(head=0.5, tail=0.1, shape='exp'),
        ),
    ],
    ids=lambda value: '' if callable(value) else str(value),
)  # fmt: skip
def test_each_loss_is_that_of_its_function(batch, name, changes, expected):
    loss, model = one_loss(batch, name, changes)
    np.testing.assert_allclose(loss.value, expected(model(batch['view']).logits), rtol=1e-5)


@pytest.mark.slow
def test_the_range_loss_is_added_with_its_weights(batch):
    values = {'intra': 0.5, 'inter': 0.25, 'widest': 1, 'margin': 30.0}
    loss, model = one_loss(
        batch, 'range_loss', {f'train.penalty.{key}': value for key, value in values.items()}
    )
    features, logits = model(batch['view'])
    parts = losses.range_loss(features, LABELS, num_classes=3, widest=1, margin=30.0)
    np.testing.assert_allclose(
        loss.logged['penalty'], 0.5 * parts.intra + 0.25 * parts.inter, rtol=1e-5
    )
    cross_entropy = losses.mean(losses.softmax_cross_entropy(logits, LABELS))
    np.testing.assert_allclose(loss.value, cross_entropy + loss.logged['penalty'], rtol=1e-5)


def head(parameters, features):
    return features @ parameters[0] + parameters[1][None, :]


def parameters_of(model):
    return model.classifier.kernel[...], model.classifier.bias[...]


@pytest.mark.slow
@pytest.mark.parametrize('mixed', [False, True])
def test_the_first_stage_of_cc_sam_is_its_golden_tested_function(batch, mixed):
    changes = {'train.perturb.noise_ratio': 0.3, 'train.perturb.flat_ratio': 0.4}
    if not mixed:
        changes['train.mix'] = {'name': 'none'}
    loss, model = one_loss(batch, 'cc_sam', changes)
    images, plain = batch['view'], losses.softmax_cross_entropy
    if mixed:
        for_permutation, for_weight, _ = jax.random.split(key_for(KEY, 'mix'), 3)
        permutation = jax.random.permutation(for_permutation, len(LABELS))
        lam = losses.mixing_weight(for_weight, 1.0)
        images = losses.mixup(images, permutation, lam)

        def plain(logits, labels):
            return losses.interpolated_cross_entropy(
                logits, labels, other_labels=labels[permutation], lam=jnp.full(len(labels), lam)
            )

    values = losses.cc_sam_head(
        head,
        parameters_of(model),
        model(images).features,
        LABELS,
        radii=losses.cc_sam_radii(COUNTS, noise_ratio=0.3),
        flat_ratio=0.4,
        plain_loss=plain,
    )
    np.testing.assert_allclose(loss.value, losses.mean(values), rtol=1e-5)
    flat, _ = one_loss(batch, 'cc_sam', changes | {'train.perturb.flat_ratio': 0.0})
    assert loss.value > flat.value + 1e-4  # what is perturbed is worse


@pytest.mark.parametrize(('step', 'alpha'), [(0, 0.5), (2, 0.5), (3, 0.8)])
def test_the_second_stage_of_cc_sam_is_its_golden_tested_function(batch, step, alpha):
    # Two epochs of three steps: the share is 1/2, then 1, of which the limit leaves 0.8.
    loss, model = one_loss(batch, 'cc_sam', {'retrain.perturb.limit': 0.8}, stage=1, step=step)
    values = losses.cc_sam_features(
        lambda features: head(parameters_of(model), features),
        model(batch['view']).features,
        LABELS,
        class_weights=jnp.asarray(losses.cc_sam_class_weights(COUNTS), jnp.float32),
        alpha=alpha,
    )
    np.testing.assert_allclose(loss.value, losses.mean(values), rtol=1e-5)


# Two stages: what the first leaves alone, and what the second moves.


@pytest.fixture(scope='module', params=['disalign', 'mislas', 'cc_sam', 'lws'])
def finished(request, data, tmp_path_factory):
    made = tiny.tuned(request.param, data)
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, made, tiny.watch(made, folder)


@pytest.mark.slow
def test_stages_move_what_they_train_and_nothing_else(finished):
    name, _, (steps, (state, _, rows)) = finished
    assert tiny.finite(state, rows)
    assert [row['stage'] for row in rows] == [rows[0]['stage']] * 2 + ['retrain'] * 2
    half = len(steps) // 2  # both stages have two epochs
    start, end = steps[0][1], steps[half - 1][2]
    added = {
        'disalign': {
            f'classifier.calibration.{part}.value'
            for part in ('magnitude', 'margin', 'kernel', 'bias')
        },
        'mislas': {'classifier.scale.value'},
        'lws': {'classifier.scale.value'},
    }.get(name, set())
    assert tiny.moved(start, end) == set(tiny.parameters(end)) - added | statistics(end)
    assert tiny.same(end.model, steps[half][1].model)  # goes on where the first stage ended
    moved = tiny.moved(end, state)
    if name in {'disalign', 'lws'}:
        assert moved == added
    else:
        assert moved == CLASSIFIER | added | statistics(end)


def statistics(state):
    """Names of what is no parameter."""
    return set(flatten(state.model)) - set(tiny.parameters(state))


@pytest.mark.slow
@pytest.mark.parametrize('at', [1, 3])
def test_an_interrupted_cc_sam_ends_with_the_same_bits(data, tmp_path, at):
    made = tiny.tuned('cc_sam', data)
    state, _, rows = tiny.run(made, tmp_path / 'whole')
    tiny.interrupt(made, tmp_path / 'parts', at=at)
    resumed, _, rest = tiny.run(made, tmp_path / 'parts')
    assert tiny.same(state, resumed)
    assert tiny.timeless(rows)[at:] == tiny.timeless(rest)


@pytest.mark.slow
def test_one_device_and_eight_agree(data, tmp_path):
    made = tiny.tuned('cc_sam', data, {'train.epochs': 1})
    rows = [
        tiny.run(made, tmp_path / str(count), mesh=sharding.make_mesh(jax.devices()[:count]))[2]
        for count in (1, 8)
    ]
    for one, eight in zip(*rows, strict=True):
        assert one['loss'] == pytest.approx(eight['loss'], rel=1e-4)


# What does not fit together, or is no value.


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        ('vs', {'train.loss.gamma': -1.0}, 'gamma is -1'),
        ('lade', {'train.loss.importance': 'images'}, "unknown .*importance 'images'"),
        ('seql', {'train.loss.gamma': 1.5}, 'gamma is 1.5: use a number from 0 to 1'),
        ('mislas', {'retrain.loss.shape': 'sine'}, "unknown .*shape 'sine'"),
        ('disalign', {'retrain.weights.power': 0.0}, 'power is 0.0: use a positive number'),
        ('range_loss', {'train.penalty.widest': 0}, 'widest is 0: use 1 or more'),
        ('range_loss', {'train.mix.name': 'mixup'}, "penalty 'ranges' .*use mix.name='none'"),
        ('cc_sam', {'train.loss.name': 'focal'}, "perturb .* use loss.name='cross_entropy'"),
        ('cc_sam', {'retrain.weights.name': 'effective_number'}, "weights.name='none'"),
        ('cc_sam', {'retrain.mix.name': 'mixup'}, "mixes no images: use mix.name='none'"),
    ],
    ids=str,
)
def test_mistakes_are_one_line(name, changes, message):
    made = tiny.tuned(name, changes=changes)
    with pytest.raises(UserError, match=message) as error:
        methods.recipe(made.method, tiny.task())
    assert '\n' not in str(error.value)
