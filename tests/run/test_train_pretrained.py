"""Runs that start from weights of a file, and what they export."""

import json
import sys

import numpy as np
import pytest
import safetensors.numpy

import tiny
from ltjax import export
from ltjax.errors import UserError
from ltjax.run import train
from ltjax.run.trained import Trained
from small_weights import config, save, sha256, tensors

pytestmark = pytest.mark.usefixtures('traced_once')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return save(tmp_path_factory.mktemp('weights') / 'a.safetensors', tensors(5))


class Stopped(Exception):
    """An interruption after the first round."""


@pytest.mark.slow
def test_a_run_starts_from_the_weights_and_goes_on_without_them(tmp_path, weights, monkeypatch):
    data, copy = tiny.npz(tmp_path / 'data.npz'), tmp_path / 'copy.safetensors'
    copy.write_bytes(weights.read_bytes())
    made = config(data, copy, **{'method.train.optimizer.learning_rate': 0.0})

    def stop(self, values, *, step):
        if values['round'] == 1:
            raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr('ltjax.engine.logbook.Logbook.row', stop)
        with pytest.raises(Stopped):
            train.run(made, tmp_path / 'run')
    copy.unlink()
    results = train.run(made, tmp_path / 'run')
    expected = {'name': str(copy), 'sha256': sha256(weights), 'pinned': False}
    expected |= {'layout': 'original', 'classifier': 'fresh'}
    assert results['pretrained'] == expected
    assert json.loads((tmp_path / 'run' / 'pretrained.json').read_text('utf-8')) == expected

    # Nothing learned, so the weights are those of the file, but for the classifier.
    export.main([f'--workdir={tmp_path / "run"}', f'--out={tmp_path / "out.safetensors"}'])
    found = safetensors.numpy.load_file(tmp_path / 'out.safetensors')
    assert set(found) == set(tensors(5))
    for key, value in tensors(5).items():
        if 'running' not in key and 'classifier' not in key:
            np.testing.assert_array_equal(found[key], value)
    assert found['classifier.weight'].shape == (3, 16)
    assert not np.array_equal(found['norms.0.running_mean'], tensors(5)['norms.0.running_mean'])
    model = Trained.load(tmp_path / 'run')
    assert model.predict(tiny.arrays()['images'][:2]).logits.shape == (2, 3)


@pytest.mark.slow
def test_mistakes_end_before_the_first_step(tmp_path, weights):
    data = tiny.npz(tmp_path / 'data.npz')
    for changes, message in (
        ({'model.pretrained': 'resnet18'}, 'unknown file'),
        ({'model.pretrained': str(tmp_path / 'absent.npz')}, 'cannot read the weights'),
        ({'model.width': 8}, 'a.safetensors: these weights do not fit SmallCNN: .*convs.0.weight'),
    ):
        made = config(data, weights, **changes)
        with pytest.raises(UserError, match=message):
            train.run(made, tmp_path / 'run')
        assert not list((tmp_path / 'run').glob('checkpoints/*'))


def test_export_tells_mistakes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['export', f'--workdir={tmp_path}', '--out=a.safetensors'])
    with pytest.raises(SystemExit) as stopped:
        export.cli()
    assert stopped.value.code == 2
    assert 'holds no finished run' in capsys.readouterr().err
