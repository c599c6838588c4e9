"""ALPA: its loss is the golden-tested function; switches; figure 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, methods, models, sharding
from ltjax.engine.state import flatten
from ltjax.errors import UserError
from ltjax.methods.task import Task
from ltjax.run import train, trained

pytestmark = pytest.mark.usefixtures('traced_once')

COUNTS = np.array(tiny.COUNTS)
PRINTED = {'coefficients': 'printed', 'classifier': 'linear'}


def config(path='any', **changes):
    named = {f'method.{name}': value for name, value in (PRINTED | changes).items()}
    return tiny.config('alpa', path, {'select': 'last'} | named)


def recipe(**changes):
    return methods.recipe(config(**changes).method, Task(COUNTS, (0.5,), (0.25,)))


def network(made):
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    made.add_heads(model, nnx.Rngs(1))
    return model


@functools.cache
def batch():
    images = np.random.default_rng(1).normal(size=(6, 12, 12, 1))
    return {'label': jnp.array([0, 0, 1, 1, 0, 2]), 'view': jnp.asarray(images, jnp.float32)}


def one_loss(**changes):
    """Returns the loss of a batch, and its logits; those stretched, so that no probability is near 1/2."""
    made = recipe(**changes)
    model = network(made)
    model.classifier.kernel[...] = 8 * model.classifier.kernel[...]
    logits = model(batch()['view']).logits
    loss = made.stages[0].updates[0].loss_fn(model, {}, batch(), jax.random.key(0), jnp.int32(0))
    return float(loss.value), logits


# The losses by hand.

V1, V2, V3 = (dict(losses.ALPA_VERSIONS[name]) for name in ('v1', 'v2', 'v3'))
PADE = losses.PADE_COEFFICIENTS['pade']
FREE = {'alpha': 1.5, 'beta': 0.5, 'gamma_pos': 1.0, 'gamma_neg': 3.0}


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({}, functools.partial(losses.alpa, clip=0.05, **V2)),
        ({'version': 'v1'}, functools.partial(losses.alpa, clip=0.05, **V1)),
        ({'version': 'v3', 'clip': 0.0}, functools.partial(losses.alpa, clip=0.0, **V3)),
        (
            {'coefficients': 'pade'},
            functools.partial(losses.alpa, clip=0.05, coefficients=PADE, **V2),
        ),
        (
            {'version': 'custom', **{f'custom.{name}': value for name, value in FREE.items()}},
            functools.partial(losses.alpa, clip=0.05, **FREE),
        ),
        (
            {'version': 'custom', 'custom.hill': 1.25},
            functools.partial(losses.alpa, clip=0.05, hill=1.25, **V2),
        ),
    ],
    ids=lambda value: ' '.join(map(str, value.values())) if isinstance(value, dict) else '',
)
def test_each_loss_is_that_of_the_golden_tested_function(changes, expected):
    value, logits = one_loss(**changes)
    by_hand = expected(logits, batch()['label'])
    np.testing.assert_allclose(value, losses.mean(by_hand), rtol=1e-5)


def test_the_sum_over_the_batch_is_so_many_means():
    mean, summed = (one_loss(reduction=reduction)[0] for reduction in ('mean', 'sum'))
    np.testing.assert_allclose(summed, 6 * mean, rtol=1e-5)


def test_the_versions_differ():
    alpas = [{'version': 'v1'}, {'version': 'v3'}, {'clip': 0.0}, {'coefficients': 'pade'}]
    values = [one_loss(**changes)[0] for changes in ({}, *alpas)]
    assert np.isfinite(values).all()
    assert np.diff(np.sort(values)).min() > 1e-5


# The classifier.


def test_cosines_are_scaled_to_logits():
    classifier = network(recipe(classifier='cosine', cosine_scale=7.0)).classifier
    features = jnp.concatenate([3 * classifier.kernel[...].T, jnp.ones([1, 16])])
    logits = np.asarray(classifier(features))
    np.testing.assert_allclose(np.diag(logits), 7.0, rtol=1e-5)
    np.testing.assert_allclose(classifier(0.1 * features), logits, rtol=1e-5, atol=1e-5)
    assert np.abs(logits).max() < 7.001


# Figure 1.


def test_the_figure_has_the_derivatives_of_the_losses():
    negative, positive = recipe(clip=0.0).plots(None)
    for plot, target in ((negative, 0.0), (positive, 1.0)):
        assert plot['x_label']
        assert plot['y_label']
        assert all(len(x) == len(y) == 99 for x, y in plot['lines'].values())
        p = np.array(plot['lines']['cross-entropy'][0])
        np.testing.assert_allclose(plot['lines']['cross-entropy'][1], p - target, atol=1e-6)
    curves = {name: np.array(y) for name, (_, y) in negative['lines'].items()}
    np.testing.assert_allclose(curves['ALPA, gamma 4 once'], 5 * p**5 * (1 - p), atol=1e-6)
    np.testing.assert_allclose(curves['ALPA v2'], 1.625 * 9 * p**9 * (1 - p), atol=1e-6)
    focal = p**0.5 * (p - 0.5 * (1 - p) * np.log1p(-p))
    np.testing.assert_allclose(curves['focal, gamma 0.5'], focal, atol=1e-5)
    assert (curves['ASL, m = gamma = 0.01'][p < 0.01 - 1e-9] == 0).all()
    np.testing.assert_allclose(
        positive['lines']['ALPA v2'][1], -0.875 * 1.5 * p * (1 - p), atol=1e-6
    )


# Whole runs.


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def base(data, tmp_path_factory):
    return tiny.run(config(data), tmp_path_factory.mktemp('base'))


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bits(base, data, tmp_path):
    tiny.interrupt(config(data), tmp_path, at=1)
    resumed, best, rows = tiny.run(config(data), tmp_path)
    assert [row['round'] for row in rows] == [1]
    assert best == base[1]
    assert tiny.same(base[0], resumed)


@pytest.mark.slow
def test_one_device_ends_where_eight_do(base, data, tmp_path):
    one = sharding.make_mesh(jax.devices()[:1])
    state, _, rows = tiny.run(config(data), tmp_path, mesh=one)
    for ours, theirs in zip(rows, base[2], strict=True):
        assert ours['loss'] == pytest.approx(theirs['loss'], rel=1e-4)
    for name, value in flatten(base[0].model).items():
        np.testing.assert_allclose(flatten(state.model)[name], value, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_a_run_predicts_what_it_reported(data, tmp_path):
    made = config(data, classifier='cosine')
    made.save_features = False
    results = train.run(made, tmp_path)
    held = tiny.arrays()
    images = held['images'][held['split'] == 'test']
    logits = trained.load(tmp_path).predict(images).logits
    with np.load(tmp_path / 'predictions.npz') as archive:
        np.testing.assert_allclose(logits, archive['logits'], rtol=1e-5, atol=1e-6)
    assert [plot['title'] for plot in results['plots']] == [
        'norm of classifier weights',
        'derivative of the negative loss by the logit',
        'derivative of the positive loss by the logit',
    ]


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'version': 'v4'}, "unknown method.version 'v4'"),
        ({'coefficients': 'paid'}, "unknown method.coefficients 'paid'"),
        ({'bias_init': 'priors'}, "unknown method.bias_init 'priors': did you mean prior"),
        ({'reduction': 'total'}, "unknown method.reduction 'total'"),
        ({'classifier': 'cosin'}, "unknown method.classifier 'cosin': did you mean cosine"),
        (
            {'classifier': 'cosine', 'bias_init': 'uniform'},
            "bias_init 'uniform' has no bias.*use 'layer'",
        ),
        ({'cosine_scale': -1.0}, r'cosine_scale is -1.0: use a positive number'),
        ({'clip': 1.0}, r'clip is 1.0: use a number from 0 to below 1'),
        ({'custom.gamma_neg': -1.0}, r'custom.gamma_neg is -1.0: use 0 or more'),
    ],
)
def test_mistakes_are_one_line(changes, message):
    with pytest.raises(UserError, match=message) as error:
        recipe(**changes)
    assert '\n' not in str(error.value)
