"""The worst errors on rare classes: which they are, where the network looked, what is like them, and the pictures."""

import base64
import json

import jax
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import models, sharding
from ltjax.data import augment
from ltjax.evaluation.probabilities import Probabilities
from ltjax.models.vit import ViT
from ltjax.report.errors import errors
from ltjax.run import looking, train

pytestmark = [pytest.mark.slow, pytest.mark.figures]


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('looking')
    config = tiny.config('cross_entropy', tiny.npz(folder / 'data.npz'), {'errors_shown': 4})
    train.run(config, folder / 'run')
    return folder / 'run'


def test_the_worst_are_the_most_certain_errors_of_the_rare_classes():
    labels = np.array([0, 1, 1, 2, 2, 1])
    logits = np.array([[0, 5, 0], [3, 0, 0], [0, 9, 0], [4, 0, 0], [0, 2, 0], [1, 0, 0]], float)
    found = looking.worst(labels, Probabilities(logits), (1, 2), 3)
    assert found.tolist() == [3, 1, 4]
    assert looking.worst(labels, Probabilities(logits), (), 3).tolist() == []


def test_the_most_alike_by_cosine():
    others = np.array([[10.0, 0], [0, 1], [1, 1], [-1, 0]])
    assert looking.alike(np.array([[1.0, 0.1], [0, 0]]), others, 2)[0].tolist() == [0, 2]


def network(seed=0):
    model = models.create('small_cnn', num_classes=3, channels=1, rngs=nnx.Rngs(seed), width=8)
    return nnx.split(model)


def maps_of(state, graphdef, images, classes):
    view = augment.view('none', mean=(0.5,), std=(0.25,))
    activation = looking.make_activation(graphdef, sharding.make_mesh(), view)
    return np.asarray(activation(state, images, classes))


def test_maps_are_of_the_image_the_class_and_the_weights():
    """Adebayo et al. (NeurIPS 2018): a map that stays with other weights shows the image, not the network."""
    graphdef, state = network()
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    maps = maps_of(state, graphdef, images, np.array([0, 1, 2]))
    assert maps.shape[0] == 3
    assert maps.min() >= 0
    assert maps.max() == pytest.approx(1)
    others = maps_of(state, graphdef, images, np.array([1, 2, 0]))
    strange = maps_of(network(seed=1)[1], graphdef, images, np.array([0, 1, 2]))
    for changed in (others, strange):
        correlation = np.corrcoef(maps.ravel(), changed.ravel())[0, 1]
        assert correlation < 0.9
    np.testing.assert_array_equal(maps, maps_of(state, graphdef, images, np.array([0, 1, 2])))


@pytest.mark.parametrize('options', [{}, {'registers': 2, 'pool': 'mean'}])
def test_maps_of_a_vision_transformer_are_of_its_patches(options):
    """Of one whose class token sees all patches alike, no patch would speak for a class."""
    graphdef, state = nnx.split(
        ViT(24, 2, 2, num_classes=3, channels=1, patch=8, grid=4, rngs=nnx.Rngs(0), **options)
    )
    state = jax.tree.map(lambda leaf: leaf if leaf.ndim < 2 else 10 * leaf, state)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 1), np.uint8)
    maps = maps_of(state, graphdef, images, np.array([0, 1, 2]))
    assert maps.shape == (3, 4, 6)
    np.testing.assert_allclose(maps.max((1, 2)), 1, rtol=1e-6)
    assert (maps.std((1, 2)) > 0.1).all()
    assert np.abs(maps - maps_of(state, graphdef, images, np.array([1, 2, 0]))).max() > 0.1


def test_a_map_by_hand():
    """Of the average over space and a linear classifier, the weight of a channel is the classifier's."""
    graphdef, state = network()
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 1), np.uint8)
    model = nnx.merge(graphdef, state, copy=True)
    model.eval()
    pixels = augment.view('none', mean=(0.5,), std=(0.25,))(jax.random.key(0), images)
    *_, last = model.feature_maps(pixels).values()
    kernel = np.asarray(nnx.to_pure_dict(nnx.state(model, nnx.Param))['classifier']['kernel'])
    cam = np.maximum(np.einsum('nhwc,cn->nhw', np.asarray(last), kernel[:, [2, 0]]), 0)
    expected = cam / np.maximum(cam.max((1, 2), keepdims=True), 1e-30)
    found = maps_of(state, graphdef, images, np.array([2, 0]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_run_shows_its_errors(workdir):
    with np.load(workdir / looking.FILE) as archive:
        found = dict(archive)
    test = json.loads((workdir / 'results.json').read_text())['test']
    tail = test['groups']['tail']['classes']
    names = found['class_names']
    assert set(names[found['labels']]) <= set(tail)
    assert (found['labels'] != found['predictions']).all()
    assert (np.diff(found['confidences']) <= 0).all()
    assert found['near'].shape[:2] == (len(found['labels']), looking.NEIGHBOURS)
    section = errors(workdir / looking.FILE)
    svg = base64.b64decode(section.split('base64,')[1].split('"')[0]).decode()
    assert f'is {names[found["labels"][0]]}' in svg
    assert 'Errors on rare classes' in (workdir / 'report.html').read_text('utf-8')
    assert errors(workdir / 'nowhere.npz') == ''
