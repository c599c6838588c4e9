"""Runs that train few parameters of a network: refused, resumed, handed on, told of."""

import functools
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

import tiny
from ltjax import export, models
from ltjax.engine import rounds
from ltjax.engine.safeguards import Safeguards
from ltjax.errors import UserError
from ltjax.models import pretrained, tuning
from ltjax.models.vit import ViT
from ltjax.run import train
from ltjax.run.trained import Trained

MAKE = functools.partial(ViT, 24, 2, 2, num_classes=5, channels=1, patch=4, grid=3)


@pytest.fixture(scope='module', autouse=True)
def smallest():
    """Adds a network of two blocks to those that have names, which have twelve and more."""
    known = models._MODELS | {'vit_smallest': (functools.partial(ViT, 24, 2, 2), models._VIT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, '_MODELS', known)
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'a.safetensors'
    pretrained.write(path, MAKE(rngs=nnx.Rngs(5)))
    return path


def config(data, weights, method='cross_entropy', **changes):
    made = tiny.config(method, data)
    made.model = {'name': 'vit_smallest', 'patch': 4, 'grid': 3, 'pretrained': str(weights)}
    made.model.update({'tune': 'lora', 'tune_size': 2})
    made.update_from_flattened_dict({'method.train.optimizer.learning_rate': 0.1} | changes)
    return made


class Killed(Exception):
    """An end that a run does not see coming."""


def killed_at(step, made, folder):
    """Trains until `step`, whose checkpoint is not written."""
    stop = Safeguards.stop

    def stopping(self, at, count=1):
        if at == step:
            raise Killed
        return stop(self, at, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Safeguards, 'stop', stopping)
        patch.setattr(rounds, 'STEPS_PER_CALL', 1)
        with pytest.raises(Killed):
            train.run(made, folder)


@pytest.fixture(scope='module', params=['lora', 'adapter'])
def workdir(request, data, weights, tmp_path_factory):
    """Returns a finished run with low-rank products, and one with adapters."""
    folder = tmp_path_factory.mktemp('run') / request.param
    train.run(config(data, weights, **{'model.tune': request.param}), folder)
    return folder


@pytest.mark.slow
def test_a_run_killed_inside_a_round_goes_on_with_the_same_bits(data, workdir, weights, tmp_path):
    copy = tmp_path / 'copy.safetensors'
    copy.write_bytes(weights.read_bytes())
    made = config(data, copy, **{'checkpoint.every_steps': 1, 'model.tune': workdir.name})
    killed_at(5, made, tmp_path / 'run')
    copy.unlink()  # all that the run needs is in its checkpoints
    train.run(made, tmp_path / 'run')
    assert tiny.same(Trained.load(tmp_path / 'run').state, Trained.load(workdir).state)
    ours, theirs = tmp_path / 'run' / 'predictions.npz', workdir / 'predictions.npz'
    with np.load(ours) as a, np.load(theirs) as b:
        assert a['logits'].tobytes() == b['logits'].tobytes()


@pytest.mark.slow
def test_what_is_held_is_that_of_the_file_and_all_is_counted(workdir, weights):
    trained = Trained.load(workdir)
    model = nnx.merge(trained.graphdef, trained.state)
    added = [
        block.mlp.expand.dot_general.up if workdir.name == 'lora' else block.adapter.up.kernel
        for block in model.blocks
    ]
    assert any(np.abs(each[...]).max() > 0 for each in added)
    np.testing.assert_array_equal(
        model.blocks[0].mlp.expand.kernel[...].T,
        safetensors.numpy.load_file(weights)['blocks.0.mlp.fc1.weight'],
    )
    results = json.loads((workdir / 'results.json').read_text('utf-8'))
    count = tuning.count(trained.state)
    assert (results['num_trained'], results['num_parameters']) == count
    assert count[0] < count[1] / 4
    assert {'lora': 'dot_general/down', 'adapter': 'adapter/down'}[workdir.name] in results[
        'parameters'
    ]
    card = (workdir / 'model_card.md').read_text('utf-8')
    assert f'{count[1]:,} parameters, of which {count[0]:,} trained' in card


@pytest.mark.slow
def test_an_exported_model_says_the_same(data, workdir, tmp_path):
    trained = Trained.load(workdir)
    test = tiny.arrays()['images'][tiny.arrays()['split'] == 'test']
    found = trained.predict(test)
    results = json.loads((workdir / 'results.json').read_text('utf-8'))
    again = trained.evaluate(data, side='test', num_bootstrap=10)
    assert again['confusion'] == results['test']['confusion']
    file = tmp_path / 'm.stablehlo'
    export.main([f'--workdir={workdir}', f'--out={file}'])
    exported = jax.export.deserialize(bytearray(file.read_bytes()))
    np.testing.assert_allclose(exported.call(test)[0], found.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize('workdir', ['lora'], indirect=True)
def test_exported_weights_are_those_of_the_networks_own_layers(workdir, tmp_path):
    trained = Trained.load(workdir)
    test = tiny.arrays()['images'][tiny.arrays()['split'] == 'test']
    found = trained.predict(test)
    file = tmp_path / 'm.safetensors'
    export.main([f'--workdir={workdir}', f'--out={file}', '--layout=timm'])
    plain = MAKE(num_classes=3, rngs=nnx.Rngs(0))
    state, _ = pretrained.fit(MAKE, plain, safetensors.numpy.load_file(file))
    nnx.update(plain, state)
    images = trained.settings.data
    pixels = (test / np.float32(255) - np.float32(images.mean)) / np.float32(images.std)
    np.testing.assert_allclose(plain(pixels).logits, found.logits, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('method', 'changes'),
    [
        ('lmd', {'method.rrl.epochs': 1}),  # a teacher, and an encoder that trains alone
        ('proco', {'model.tune': 'adapter'}),  # a momentum encoder, and a head of its own
        ('sade', {'model.tune': 'last', 'model.tune_size': 1}),  # blocks behind the last
    ],
)
def test_methods_leave_what_is_held(data, weights, tmp_path, method, changes):
    made = tiny.config(method, data)
    made.model = config(data, weights).model
    made.update_from_flattened_dict(changes)
    train.run(made, tmp_path / 'run')
    trained = Trained.load(tmp_path / 'run')
    model = nnx.merge(trained.graphdef, trained.state)
    file = safetensors.numpy.load_file(weights)
    layer = model.blocks[0].mlp.expand
    np.testing.assert_array_equal(layer.kernel[...].T, file['blocks.0.mlp.fc1.weight'])


@pytest.mark.slow
@pytest.mark.parametrize('workdir', ['lora'], indirect=True)
@pytest.mark.parametrize('method', ['crt', 'm2m'])
def test_another_run_begins_with_the_first_stage(data, weights, workdir, tmp_path, method):
    made = config(data, weights, method, start_from=str(workdir))
    train.run(made, tmp_path / 'run')
    trained = Trained.load(tmp_path / 'run')
    layer = nnx.merge(trained.graphdef, trained.state).blocks[0].mlp.expand
    file = safetensors.numpy.load_file(weights)
    np.testing.assert_array_equal(layer.kernel[...].T, file['blocks.0.mlp.fc1.weight'])
    # The stage of cRT trains the classifier alone, and this starts as zeros.
    assert np.abs(layer.dot_general.up[...]).max() > 0


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model.frozen': True}, r'a frozen network cannot be tuned: leave out --config.model.frozen or'),
        ({'model.pretrained': ''}, "model.tune='lora' needs weights: give --config.model.pretrained"),
        ({'model.tune': ''}, 'model.tune_size is 2: give --config.model.tune too'),
        ({'model.tune': 'loira'}, "unknown model.tune 'loira'"),
        ({'model.name': 'resnet18'}, "'lora' does not suit ResNet"),
    ],
)  # fmt: skip
def test_mistakes_end_before_the_data_are_read(weights, tmp_path, changes, message):
    made = config('there-is-no-such.npz', weights, **changes)
    if 'model.name' in changes:
        made.model = {
            key: value for key, value in made.model.items() if key not in ('patch', 'grid')
        }
    with pytest.raises(UserError, match=message):
        train.run(made, tmp_path / 'run')
