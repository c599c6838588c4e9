"""Frozen networks: features are made once, methods train on them, and the two together are a whole model."""

import json

import numpy as np
import pytest
import safetensors.numpy

import tiny
from ltjax import export, methods
from ltjax.data import datasets
from ltjax.data.identity import Identity
from ltjax.engine import rounds
from ltjax.errors import UserError
from ltjax.run import build, frozen, train
from ltjax.run.settings import Settings
from ltjax.run.trained import Trained
from small_weights import config, save, tensors

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return save(tmp_path_factory.mktemp('weights') / 'a.safetensors', tensors(5))


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def made(data, weights, cache, **changes):
    found = config(data, weights, **{'model.frozen': True, **changes})
    found.data.cache = str(cache)
    return found


@pytest.fixture(scope='module')
def workdir(data, weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp('frozen')
    train.run(made(data, weights, folder / 'cache'), folder / 'run')
    return folder / 'run'


def test_the_encoder_is_that_of_the_file_and_the_whole_model_says_the_same(workdir, weights):
    model = Trained.load(workdir)
    test = tiny.arrays()['images'][tiny.arrays()['split'] == 'test']
    found = model.predict(test)
    with np.load(workdir / 'predictions.npz') as archive:
        np.testing.assert_allclose(found.features, archive['features'], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.logits, archive['logits'], rtol=1e-5, atol=1e-5)
    export.main([f'--workdir={workdir}', f'--out={workdir / "out.safetensors"}'])
    written = safetensors.numpy.load_file(workdir / 'out.safetensors')
    for key, value in tensors(5).items():
        if 'classifier' not in key:
            np.testing.assert_array_equal(written[key], value)


def test_checkpoints_hold_no_encoder(workdir):
    results = json.loads((workdir / 'results.json').read_text('utf-8'))
    assert results['num_parameters'] == 3 * 16 + 3
    assert results['image_shape'] == [12, 12, 1]


def counted(monkeypatch):
    """Returns a list that grows by each pass over images: how many."""
    passes, run = [], frozen.inference.run

    def counting(forward, model, images, **options):
        passes.append(len(images))
        return run(forward, model, images, **options)

    monkeypatch.setattr(frozen.inference, 'run', counting)
    return passes


def test_features_are_made_once_and_kept(data, weights, tmp_path, monkeypatch):
    """80 images: 56 to train on, 12 to validate and 12 to test."""
    cache = tmp_path / 'cache'
    passes = counted(monkeypatch)
    monkeypatch.setattr(frozen, '_PART', 32)
    first = features(made(data, weights, cache))
    assert passes == [32, 32, 16]
    (kept,) = (cache / 'features').iterdir()
    assert kept.suffix == '.npy'
    again = features(made(data, weights, cache, **{'method.train.epochs': 1}))
    assert len(passes) == 3
    np.testing.assert_array_equal(first, again)

    other = tmp_path / 'other.safetensors'
    save(other, {key: value * np.float32(1.5) for key, value in tensors(5).items()})
    assert not np.array_equal(features(made(data, other, cache)), first)
    assert len(passes) == 6
    np.testing.assert_array_equal(features(made(data, weights, 'off')), first)
    assert len(passes) == 9


def test_what_a_killed_run_made_is_not_made_again(data, weights, tmp_path, monkeypatch):
    cache = tmp_path / 'cache'
    monkeypatch.setattr(frozen, '_PART', 32)
    whole = features(made(data, weights, 'off'))
    keep = frozen._keep

    def killed(path, values):
        keep(path, values)
        if 'part-32' in path.name:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(frozen, '_keep', killed)
        with pytest.raises(KeyboardInterrupt):
            features(made(data, weights, cache))
    parts = sorted((cache / 'features').iterdir())
    assert [path.stem.partition('.')[2] for path in parts] == ['part-0', 'part-32']
    parts[0].write_bytes(b'half a file')
    passes = counted(monkeypatch)
    np.testing.assert_array_equal(features(made(data, weights, cache)), whole)
    assert passes == [32, 16]
    assert len(list((cache / 'features').iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_done_without(data, weights, tmp_path):
    (tmp_path / 'cache').write_text('a file')
    found = features(made(data, weights, tmp_path / 'cache'))
    np.testing.assert_array_equal(found, features(made(data, weights, 'off')))


def features(config):
    settings = Settings.of(config)
    loaded = datasets.load(settings.data)
    recipe = methods.recipe(settings.method, build.make_task(settings, loaded))
    known = Identity.of(loaded, loaded.table.protocol('')).digests()
    return frozen.prepare(settings, recipe, loaded, known).data.images


@pytest.mark.parametrize('method', ['lmd', 'tau_norm', 'proco'])
def test_methods_with_stages_and_heads_of_their_own(data, weights, tmp_path, method):
    config = tiny.config(method, data)
    config.model.update({'pretrained': str(weights), 'frozen': True})
    config.data.cache = 'off'
    results = train.run(config, tmp_path / 'run')
    predicted = Trained.load(tmp_path / 'run').evaluate(data, side='test', num_bootstrap=10)
    assert predicted['metrics']['balanced_accuracy']['value'] == pytest.approx(
        results['test']['metrics']['balanced_accuracy']['value']
    )


def test_a_resumed_run_has_the_same_bits(data, weights, tmp_path, monkeypatch):
    class Stopped(Exception):
        pass

    def stop(self, values, *, step):
        raise Stopped

    config = made(data, weights, tmp_path / 'cache')
    whole = train.run(config, tmp_path / 'whole')
    with monkeypatch.context() as patch:
        patch.setattr('ltjax.engine.logbook.Logbook.row', stop)
        with pytest.raises(Stopped):
            train.run(config, tmp_path / 'run')
    resumed = train.run(config, tmp_path / 'run')
    assert resumed['test'] == whole['test']
    with (
        np.load(tmp_path / 'run' / 'predictions.npz') as a,
        np.load(tmp_path / 'whole' / 'predictions.npz') as b,
    ):
        assert a['logits'].tobytes() == b['logits'].tobytes()


@pytest.mark.parametrize('method', ['cross_entropy', 'iccl'])
def test_many_steps_a_call_give_the_bits_of_one(data, weights, tmp_path, monkeypatch, method):
    """Steps without convolutions go many a call; four a round here are three and one."""
    config = tiny.config(method, data)
    config.model.update({'pretrained': str(weights), 'frozen': True})
    config.data.cache = 'off'
    found = []
    for count in (1, 3):
        monkeypatch.setattr(rounds, 'STEPS_PER_CALL', count)
        results = train.run(config, tmp_path / str(count))
        rows = (tmp_path / str(count) / 'metrics.jsonl').read_text('utf-8').splitlines()
        with np.load(tmp_path / str(count) / 'predictions.npz') as archive:
            found.append(
                (results['test'], tiny.timeless(map(json.loads, rows)), archive['logits'].tobytes())
            )
    assert found[0] == found[1]


def test_other_weights_than_those_of_the_run_are_refused(data, tmp_path):
    path = save(tmp_path / 'a.safetensors', tensors(5))
    train.run(made(data, path, 'off', **{'method.train.epochs': 1}), tmp_path / 'run')
    save(path, {key: value * np.float32(1.5) for key, value in tensors(5).items()})
    with pytest.raises(UserError, match='is not the file that the run was frozen with'):
        Trained.load(tmp_path / 'run')
    path.unlink()
    with pytest.raises(UserError, match=r'a\.safetensors'):
        Trained.load(tmp_path / 'run')


@pytest.mark.parametrize(
    ('method', 'changes', 'message'),
    [
        ('bbn', {}, "method 'bbn' puts blocks into the network"),
        ('cross_entropy', {'model.pretrained': ''}, 'a frozen network needs weights'),
    ],
)
def test_what_cannot_be_frozen_is_refused(data, weights, tmp_path, method, changes, message):
    config = tiny.config(method, data)
    config.model.update({'pretrained': str(weights), 'frozen': True})
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        train.run(config, tmp_path / 'run')
