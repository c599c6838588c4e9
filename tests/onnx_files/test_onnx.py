"""ONNX says what the model says, for every network and every head, and without JAX.

Needs the extra `test-onnx`: pip install '.[test-onnx]' && pytest tests/onnx_files
"""

import csv
import json
import subprocess
import sys

import jax2onnx
import numpy as np
import onnx
import onnxruntime
import pytest
from flax import nnx
from PIL import Image

import random_weights
import tiny
from ltjax import export, models, predict
from ltjax.errors import UserError
from ltjax.run import deployed_formats, deployment, train, trained

ABSENT = tiny.ROOT / 'there-is-no-such-run'
ONNX = deployed_formats.FORMATS['onnx']
EXAMPLE = tiny.ROOT / 'scripts' / 'classify_with_onnx.py'
SIDE = 32


def made(method='cross_entropy', **model):
    config = tiny.config(method, 'any')
    config.data.mean, config.data.std = (0.5, 0.4, 0.6), (0.2, 0.3, 0.25)
    if model:
        config.model = {'dtype': 'float32', **model}
    return config


def write(path, config, monkeypatch, *, images):
    """Writes a network of random weights, checked on pictures of blots."""
    monkeypatch.setattr(trained, 'BATCH_SIZE', min(images, 64))
    monkeypatch.setattr(deployment, 'images_to_check', lambda *given: (blots(images), 'blots'))
    network = random_weights.trained(config, size=SIDE)
    return deployment.write(path, network, ABSENT, format_name='onnx'), network


def blots(number):
    """Returns pictures uint8 [number, SIDE, SIDE, 3] of a blurred spot in colour, as of a cell."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE][..., None]
    across, down, wide = rng.uniform(8, 24, (3, number, 1, 1, 1))
    spot = np.exp(-((x - across) ** 2 + (y - down) ** 2) / wide**2)
    colours = rng.uniform(0, 255, (2, number, 1, 1, 3))
    noise = rng.normal(0, 8, (number, SIDE, SIDE, 3))
    return np.clip(colours[0] * spot + colours[1] * (1 - spot) + noise, 0, 255).astype(np.uint8)


# Of the Vision Transformers, which differ in size alone, the smallest.
NETWORKS = [name for name in models.names() if name not in ('vit_small', 'vit_base', 'vit_large')]


@pytest.mark.parametrize('name', NETWORKS)
def test_every_network(name, tmp_path, monkeypatch):
    found, _ = write(tmp_path / 'm.onnx', made(name=name), monkeypatch, images=8)
    assert found.difference < 1e-5
    assert found.same == 8


@pytest.mark.parametrize('stem', ['imagenet', 'cifar'])
@pytest.mark.parametrize('name', ['resnet18', 'efficientnet_lite0'])
def test_both_stems(name, stem, tmp_path, monkeypatch):
    config = made(name=name, stem=stem)
    assert write(tmp_path / 'm.onnx', config, monkeypatch, images=8)[0].difference < 1e-5


@pytest.mark.parametrize(
    'options',
    [
        {'patch': 8, 'mlp': 'quick_gelu', 'pre_norm': True},
        {'patch': 8, 'positions': 'rotary', 'registers': 4, 'mlp': 'swiglu', 'layer_scale': 0.1},
        {'pool': 'mean', 'mlp': 'swiglu_packed', 'qkv_bias': False},
    ],
)
def test_kinds_of_vision_transformers(options, tmp_path, monkeypatch):
    config = made(name='vit_tiny', **options)
    assert write(tmp_path / 'm.onnx', config, monkeypatch, images=8)[0].difference < 1e-5


@pytest.mark.parametrize(
    ('name', 'tune'),
    [
        *(('vit_tiny', tune) for tune in ('last', 'bias', 'lora', 'adapter', 'prompt')),
        ('convnext_tiny', 'lora'),
        ('efficientnet_lite0', 'lora'),
    ],
)
def test_networks_of_which_few_parameters_were_trained(name, tune, tmp_path, monkeypatch):
    config = made(name=name, tune=tune, pretrained='any')
    found, _ = write(tmp_path / 'm.onnx', config, monkeypatch, images=8)
    assert found.difference < 1e-5
    assert found.same == 8


def heads():
    """Returns a method for each kind of classifier and of branches that methods give to a network."""
    found = {}
    for name in tiny.CONFIGS:
        network = random_weights.trained(made(name))
        model = nnx.merge(network.graphdef, network.state)
        kinds = (type(model.classifier), *map(type, model.branches))
        found.setdefault(kinds, name)
    return found.values()


def test_every_head(tmp_path, monkeypatch):
    names = heads()
    assert len(names) >= 10
    for name in names:
        found, _ = write(tmp_path / 'm.onnx', made(name), monkeypatch, images=8)
        assert found.difference < 1e-5, name


def test_five_hundred_pictures_in_any_number_at_once(tmp_path, monkeypatch):
    config = made(name='resnet32_cifar')
    found, network = write(tmp_path / 'm.onnx', config, monkeypatch, images=500)
    assert (found.images, found.same + found.ties) == (500, 500)
    model = onnx.load(tmp_path / 'm.onnx')
    assert [(o.domain, o.version) for o in model.opset_import] == [('', deployed_formats.OPSET)]
    assert not any(node.op_type == 'BatchNormalization' for node in model.graph.node)
    session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ('images', 'tensor(uint8)', [SIDE, SIDE, 3])
    whole = network.forward(blots(500))[1]
    for number in (1, 2, 77):
        logits, probabilities = session.run(None, {'images': blots(500)[:number]})
        np.testing.assert_allclose(logits, whole[:number], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    about = json.loads(session.get_modelmeta().custom_metadata_map['ltjax'])
    assert about['class_names'] == list(random_weights.NAMES)


def test_a_graph_that_says_something_else_is_not_written(tmp_path, monkeypatch):
    convert = jax2onnx.to_onnx

    def convert_wrongly(*given, **more):
        model = convert(*given, **more)
        for node in model.graph.node:
            if node.op_type == 'Max':  # of a ReLU
                node.op_type = 'Min'
        return model

    monkeypatch.setattr(jax2onnx, 'to_onnx', convert_wrongly)
    with pytest.raises(UserError, match='nothing was written'):
        write(tmp_path / 'm.onnx', made(), monkeypatch, images=8)

    def convert_not(*given, **more):
        raise NotImplementedError("No plugins registered for primitive 'sort'")

    monkeypatch.setattr(jax2onnx, 'to_onnx', convert_not)
    with pytest.raises(UserError, match="cannot be written as ONNX: NotImplementedError: .*'sort'"):
        write(tmp_path / 'm.onnx', made(), monkeypatch, images=8)
    assert not list(tmp_path.iterdir())


def test_the_example_predicts_as_ltjax_does_without_jax(tmp_path):
    names = np.array(random_weights.NAMES)
    data = tiny.npz(tmp_path / 'data.npz', class_names=names)
    train.run(tiny.config('cross_entropy', data), tmp_path / 'run')
    folder = tmp_path / 'new'
    folder.mkdir()
    pictures = tiny.arrays()['images'][:20, :, :, 0]
    for number, (pixels, side) in enumerate(zip(pictures, (12, 9, 15, 24, 40) * 4, strict=True)):
        picture = Image.fromarray(pixels).resize((side, side + number % 3))
        picture.save(folder / f'{number}.png')
    file = tmp_path / 'm.onnx'
    export.main([f'--workdir={tmp_path / "run"}', f'--out={file}', '--calibrate=temperature'])
    out = tmp_path / 'ours.csv'
    given = [f'--workdir={tmp_path / "run"}', f'--data={folder}', f'--out={out}']
    predict.main([*given, '--calibrate=temperature'])
    alone = (
        "import runpy, sys; sys.modules['jax'] = sys.modules['ltjax'] = sys.modules['cv2'] = None; "
        'sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")'
    )
    command = [sys.executable, '-c', alone, str(EXAMPLE), str(file), str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    theirs = {row['id']: row for row in csv.DictReader(said.splitlines())}
    ours = {row['id']: row for row in csv.DictReader(out.read_text('utf-8').splitlines())}
    assert theirs.keys() == ours.keys()
    for id_, row in ours.items():
        assert theirs[id_]['prediction'] == row['prediction']
        for name in names:
            assert float(theirs[id_][f'p({name})']) == pytest.approx(
                float(row[f'p({name})']), rel=1e-3, abs=1e-5
            )
