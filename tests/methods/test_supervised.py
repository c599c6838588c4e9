"""The supervised stage: each part is the golden-tested function, wired as its paper has it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, methods, models
from ltjax.engine.state import flatten
from ltjax.engine.step import key_for
from ltjax.errors import UserError
from ltjax.losses import class_probabilities
from ltjax.methods.supervised.mixing import _PLACES as PLACES
from ltjax.methods.supervised.mixing import MIXINGS, _draws

pytestmark = pytest.mark.usefixtures('traced_once')

COUNTS = np.array(tiny.COUNTS)
PRIOR = jnp.asarray(losses.log_prior(COUNTS), jnp.float32)
MARGINS = jnp.asarray(losses.ldam_margins(COUNTS), jnp.float32)
CLOUD = jnp.asarray(losses.cloud_sizes(COUNTS), jnp.float32)
KEY = jax.random.key(0)


def recipe(name, **changes):
    return methods.recipe(tiny.tuned(name, changes=changes).method, tiny.task())


def network(made):
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    made.add_heads(model, nnx.Rngs(1))
    model.classifier.kernel[...] = 8 * model.classifier.kernel[...]  # no probability near 1/3
    return model


@functools.cache
def batch():
    images = np.random.default_rng(1).normal(size=(2, 6, 12, 12, 1))
    return {
        'label': jnp.array([0, 0, 1, 1, 0, 2]),
        'view': jnp.asarray(images[0], jnp.float32),
        'balanced': {
            'label': jnp.array([2, 1, 0, 2, 1, 0]),
            'view': jnp.asarray(images[1], jnp.float32),
        },
    }


def loss_of(name, *, step=0, extra=None, **changes):
    """Returns the loss of a batch, the logits of its images, and the method's state after it."""
    made = recipe(name, **changes)
    model = network(made)
    loss_fn = made.stages[0].updates[0].loss_fn
    loss = loss_fn(model, extra or {}, batch(), KEY, jnp.int32(step))
    return float(loss.value), network(made)(batch()['view']).logits, loss.extra


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('cross_entropy', losses.softmax_cross_entropy),
        ('focal', functools.partial(losses.softmax_focal, gamma=2.0)),
        ('sigmoid_focal', functools.partial(losses.sigmoid_focal, gamma=2.0)),
        ('balanced_softmax', functools.partial(losses.balanced_softmax, log_prior=PRIOR)),
        ('logit_adjustment', functools.partial(losses.logit_adjusted, log_prior=PRIOR)),
        ('ldam', functools.partial(losses.ldam, margins=MARGINS)),
        (
            'asl',
            functools.partial(losses.asymmetric_multi_label, gamma_pos=0.0, gamma_neg=4.0),
        ),
        ('asl_single', losses.asymmetric_single_label),
    ],
)
def test_a_method_is_the_mean_of_its_golden_tested_loss(name, expected):
    value, logits, _ = loss_of(name)
    by_hand = losses.mean(expected(logits, batch()['label']))
    np.testing.assert_allclose(value, by_hand, rtol=1e-5)


def test_seesaw_counts_the_batch_before_its_loss_and_goes_on_counting():
    counts = jnp.zeros(3, jnp.int32)
    for expected in ([3, 2, 1], [6, 4, 2]):
        value, logits, extra = loss_of('seesaw', extra={'loss': counts})
        counts = extra['loss']
        assert counts.tolist() == expected
        by_hand = losses.mean(losses.seesaw(logits, batch()['label'], counts=counts))
        np.testing.assert_allclose(value, by_hand, rtol=1e-5)


@pytest.mark.parametrize(('form', 'cloud'), [
    ('cosine', losses.gaussian_clouded), ('angle', losses.gaussian_clouded_angular),
])  # fmt: skip
def test_clouds_are_drawn_anew_in_every_step(form, cloud):
    made = recipe('gcl', **{'train.loss.form': form, 'train.loss.noise_scale': 0.0})
    loss_fn = made.stages[0].updates[0].loss_fn
    still = loss_fn(network(made), {}, batch(), KEY, jnp.int32(0)).value
    shape = {'noise': jnp.zeros((6, 3)), 'cloud_size': CLOUD, 'margin': 0.0, 'scale': 30.0}
    logits = network(made)(batch()['view']).logits
    by_hand = losses.mean(cloud(logits, batch()['label'], **shape))
    np.testing.assert_allclose(still, by_hand, rtol=1e-5)
    noisy = recipe('gcl', **{'train.loss.form': form}).stages[0].updates[0].loss_fn
    values = [
        float(noisy(network(made), {}, batch(), key, jnp.int32(0)).value)
        for key in jax.random.split(KEY, 3)
    ]
    assert len({*values, float(still)}) == 4


# Weights, deferral, selection.

WEIGHTS = losses.effective_number_weights(COUNTS, beta=0.9999)


def test_weights_are_divided_by_the_images_or_by_themselves():
    value, logits, _ = loss_of('class_balanced')
    labels = batch()['label']
    each, weights = losses.softmax_cross_entropy(logits, labels), jnp.asarray(WEIGHTS)[labels]
    np.testing.assert_allclose(value, (weights * each).sum() / 6, rtol=1e-5)
    value, _, _ = loss_of('class_balanced', **{'train.divide_by': 'weights'})
    np.testing.assert_allclose(value, (weights * each).sum() / weights.sum(), rtol=1e-5)
    focal, logits, _ = loss_of('cb_focal')
    each = losses.sigmoid_focal(logits, labels, gamma=1.0)
    np.testing.assert_allclose(focal, (weights * each).sum() / 6, rtol=1e-5)


@pytest.mark.parametrize(('name', 'loss'), [
    ('ce_drw', losses.softmax_cross_entropy),
    ('ldam_drw', functools.partial(losses.ldam, margins=MARGINS)),
])  # fmt: skip
def test_deferred_weights_act_from_their_epoch(name, loss):
    first = tiny.task().steps(16)  # shrunk: two epochs, deferred until the second
    labels = batch()['label']
    for step, weights in ((0, np.ones(3)), (first - 1, np.ones(3)), (first, WEIGHTS)):
        value, logits, _ = loss_of(name, step=step)
        each, weight = loss(logits, labels), jnp.asarray(weights)[labels]
        np.testing.assert_allclose(value, (weight * each).sum() / weight.sum(), rtol=1e-5)


def test_a_deferred_sampler_acts_from_its_epoch():
    table = recipe('ce_drs').stages[0].updates[0].sampler
    by_number = class_probabilities.effective_number_balanced(COUNTS)
    np.testing.assert_allclose(table, [COUNTS / COUNTS.sum(), by_number])
    assert recipe('ce_drw').stages[0].updates[0].sampler == 'instance_balanced'
    progressive = recipe('progressive').stages[0].updates[0].sampler
    np.testing.assert_allclose(progressive, [COUNTS / COUNTS.sum(), [1 / 3] * 3])


def test_the_hardest_alone_count():
    value, logits, _ = loss_of('ohem', **{'train.keep': 0.5})
    each = np.sort(losses.softmax_cross_entropy(logits, batch()['label']))
    np.testing.assert_allclose(value, each[3:].mean(), rtol=1e-5)


# Mixing.


@pytest.mark.parametrize('name', [name for name in MIXINGS if name != 'none'])
def test_the_loss_of_a_mixture_is_that_of_both_labels(name):
    mixing = MIXINGS[name](tiny.task())
    model = network(recipe('cross_entropy'))
    mixed = mixing.mixed(model, batch(), KEY)
    share = jnp.broadcast_to(mixed.share, (6,))
    assert mixed.logits.shape == (6, 3)
    assert mixed.labels.tolist() == batch()['label'].tolist()
    if mixing.samplers:
        assert mixing.samplers == {'balanced': 'class_balanced'}
        assert mixed.others.tolist() == batch()['balanced']['label'].tolist()
    else:
        permutation, lam, _ = _draws(KEY, 6, 1.0)
        assert mixed.others.tolist() == batch()['label'][permutation].tolist()
        if name != 'remix':
            np.testing.assert_allclose(share, lam, rtol=1e-6)
    if name in ('mixup', 'remix'):
        images = losses.mixup(batch()['view'], permutation, lam)
        np.testing.assert_array_equal(mixed.images, images)
    if name == 'balanced_mixup':
        images = mixed.share * batch()['view'] + (1 - mixed.share) * batch()['balanced']['view']
        np.testing.assert_allclose(mixed.images, images, rtol=1e-5, atol=1e-6)


def test_mixing_is_part_of_the_loss():
    value, _, _ = loss_of('mixup')
    made = recipe('mixup')
    mixed = MIXINGS['mixup'](tiny.task(), alpha=1.0).mixed(
        network(made), batch(), key_for(KEY, 'mix')
    )
    each = losses.interpolated_cross_entropy(
        mixed.logits, mixed.labels, other_labels=mixed.others, lam=mixed.share
    )
    np.testing.assert_allclose(value, losses.mean(each), rtol=1e-5)


def test_manifold_mixup_mixes_in_one_place_a_step():
    model = network(recipe('cross_entropy'))
    plain = model(batch()['view']).logits
    mixing = MIXINGS['manifold_mixup'](tiny.task())
    seen = set()
    for key in jax.random.split(KEY, 12):
        permutation, lam, for_place = _draws(key, 6, 1.0)
        place = int(jax.random.randint(for_place, (), 0, 3))
        seen.add(place)

        def tap(name, x, place=place, permutation=permutation, lam=lam):
            return losses.mixup(x, permutation, lam) if name == PLACES[place] else x

        by_hand = model(tap('images', batch()['view']), tap).logits
        np.testing.assert_allclose(
            mixing.mixed(model, batch(), key).logits, by_hand, rtol=1e-4, atol=1e-5
        )
        assert abs(by_hand - plain).max() > 1e-3
    assert seen == {0, 1, 2}


# Sharpness and penalties.


@pytest.mark.slow
def test_sam_is_the_gradient_at_the_perturbed_weights():
    made = recipe('sam')
    model = network(made)
    graphdef, parameters, rest = nnx.split(model, nnx.Param, ...)

    def ours(parameters):
        copy = nnx.merge(graphdef, parameters, rest, copy=True)
        loss = made.stages[0].updates[0].loss_fn(copy, {}, batch(), KEY, jnp.int32(0))
        return loss.value, nnx.state(copy, nnx.BatchStat)

    def plain(parameters):
        copy = nnx.merge(graphdef, parameters, rest, copy=True)
        logits = copy(batch()['view']).logits
        value = losses.mean(losses.softmax_cross_entropy(logits, batch()['label']))
        return value, nnx.state(copy, nnx.BatchStat)

    gradient, statistics = jax.jit(jax.grad(ours, has_aux=True))(parameters)
    by_hand = jax.jit(losses.sam_value_and_grad(plain, has_aux=True))
    (_, expected_statistics), expected = by_hand(parameters)
    for name, value in flatten(expected).items():
        np.testing.assert_allclose(flatten(gradient)[name], value, rtol=1e-3, atol=1e-5)
    for name, value in flatten(expected_statistics).items():
        np.testing.assert_array_equal(flatten(statistics)[name], value)


@pytest.mark.slow
def test_danil_adds_its_penalty_and_keeps_the_running_statistics_of_one_pass():
    plain, _, _ = loss_of('cross_entropy')
    made = recipe('danil')
    model = network(made)
    loss = made.stages[0].updates[0].loss_fn(model, {}, batch(), KEY, jnp.int32(0))
    assert loss.logged['penalty'] > 0
    np.testing.assert_allclose(loss.value - loss.logged['penalty'], plain, rtol=1e-5)
    once = network(recipe('cross_entropy'))
    once(batch()['view'])
    for name, value in flatten(nnx.state(once, nnx.BatchStat)).items():
        np.testing.assert_allclose(flatten(nnx.state(model, nnx.BatchStat))[name], value, rtol=1e-6)


# Heads.


def test_the_bias_of_sigmoids_starts_at_one_over_k():
    classifier = network(recipe('cb_focal')).classifier
    np.testing.assert_allclose(jax.nn.sigmoid(classifier.bias[...]), [1 / 3] * 3, rtol=1e-5)
    prior = network(recipe('cb_focal', **{'head.bias_init': 'prior'})).classifier
    np.testing.assert_allclose(jax.nn.sigmoid(prior.bias[...]), COUNTS / COUNTS.sum(), rtol=1e-5)


def test_the_deconfounded_head_follows_the_mean_and_takes_it_out():
    head = network(recipe('tde')).classifier
    features = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 16)) + 1, jnp.float32)
    logits = head(features[0])
    np.testing.assert_allclose(
        logits, losses.deconfounded_logits(features[0], head.kernel[...].T), rtol=1e-5
    )
    head(features[1])
    direction = 0.9 * features[0].mean(0) + features[1].mean(0)
    np.testing.assert_allclose(head.direction[...], direction, rtol=1e-5)
    head.eval()
    expected = losses.total_direct_effect(features[0], head.kernel[...].T, direction, alpha=1.5)
    np.testing.assert_allclose(head(features[0]), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(head.direction[...], direction, rtol=1e-5)


@pytest.mark.parametrize(
    ('name', 'changes', 'message'),
    [
        ('focal', {'train.loss.name': 'focl'}, "unknown method.train.loss.name 'focl': did you mean focal"),
        ('focal', {'train.loss.gama': 1.0}, "unknown key of method.train.loss 'focal' 'gama': did you mean gamma"),
        ('focal', {'train.loss.gamma': -1.0}, "method.train.loss 'focal'.gamma is -1.0: use 0 or more"),
        ('ldam', {'head.name': 'linear'}, "'ldam' takes cosines.*use head.name='cosine'"),
        ('ldam', {'head.scale': 5.0}, "'ldam' takes cosines and scales them itself"),
        ('ldam_drw', {'train.defer_until': 40}, 'defer_until 40 is not before the end of 2 epochs'),
        ('cross_entropy', {'train.defer_until': 1}, 'defer_until defers nothing'),
        ('class_balanced', {'train.weights.beta': 1.0}, 'beta is 1.0: use a number from 0 to below 1'),
        ('ohem', {'train.keep': 0.0}, 'keep is 0: use a share above 0'),
        ('sam', {'train.sharpness.rho': 0.0}, 'rho is 0.0: use a positive number'),
        ('mixup', {'train.mix.alpha': 0.0}, 'alpha is 0.0: use a positive number'),
        ('tau_norm', {'adjust.tau': ()}, 'adjust.tau names no value to try'),
        ('tau_norm', {'head.name': 'cosine'}, "adjust 'tau_norm' does not fit head 'cosine': use head.name='linear'"),
        ('ncm', {'adjust.rules': ('cl2n_l3',)}, "unknown rule 'cl2n_l3'.*cl2n_l2"),
        ('resampling', {'train.sampler': 'class_balansed'}, "unknown sampler 'class_balansed'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(name, changes, message):
    with pytest.raises(UserError, match=message) as error:
        recipe(name, **changes)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(('name', 'changes', 'message'), [
    ('lws', {'retrain.trains': 'classifier.scael'}, "unknown part .* 'classifier.scael'.*classifier.scale"),
    ('tde', {'head.heads': 3}, '3 heads do not divide 16 features'),
])  # fmt: skip
def test_mistakes_that_the_network_shows_come_before_the_first_step(
    tmp_path, name, changes, message
):
    with pytest.raises(UserError, match=message) as error:
        tiny.training(tiny.tuned(name, tiny.npz(tmp_path / 'data.npz'), changes), tmp_path)
    assert '\n' not in str(error.value)
