"""Models handed on to other programs: what is refused, what is checked, and StableHLO, which needs no library."""

import json
import subprocess
import sys

import classify_with_onnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import random_weights
import tiny
from ltjax import export
from ltjax.data.reading import images as image_files
from ltjax.engine.step import set_batch_norm
from ltjax.errors import UserError
from ltjax.evaluation import predictions
from ltjax.evaluation.probabilities import Probabilities, softmax
from ltjax.models import create
from ltjax.models.folding import fold
from ltjax.run import deciding, deployed_formats, deployment, train
from ltjax.run.plain import plain
from ltjax.run.trained import Trained

pytestmark = pytest.mark.slow

TEMPERATURE = {'temperature': {'fitted': {'temperature': 2.0}}}
VECTOR = {'vector': {'fitted': {'scale': [0.5, 2.0, 1.0], 'bias': [0.1, -0.2, 0.0]}}}
ABSENT = tiny.ROOT / 'there-is-no-such-run'


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    names = np.array(random_weights.NAMES)
    path = tiny.npz(folder / 'data.npz', class_names=names)
    train.run(tiny.config('cross_entropy', path), folder / 'run')
    return folder / 'run'


@pytest.fixture
def model():
    return random_weights.trained(tiny.config('cross_entropy', 'any'), size=12, channels=1)


def call(workdir, out, *more):
    export.main([f'--workdir={workdir}', f'--out={out}', *more])


def test_stablehlo_needs_jax_alone(workdir, tmp_path, capsys):
    file = tmp_path / 'm.stablehlo'
    call(workdir, file, '--calibrate=temperature')
    assert 'checked on 12 test images of the run' in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, f'{file.name}.json']
    about = json.loads((tmp_path / 'm.stablehlo.json').read_text('utf-8'))
    assert about['class_names'] == list(random_weights.NAMES)
    assert about['input'] | {'height': 12, 'width': 12, 'channels': 1} == about['input']
    program = """
import sys
sys.modules['ltjax'] = sys.modules['flax'] = None
import jax, numpy as np
exported = jax.export.deserialize(bytearray(open(sys.argv[1], 'rb').read()))
assert exported.platforms == ('cpu', 'cuda', 'tpu')
np.savez(sys.argv[3], *exported.call(np.load(sys.argv[2])))
"""
    test = tiny.arrays()['images'][tiny.arrays()['split'] == 'test']
    np.save(tmp_path / 'images.npy', test)
    names = [str(tmp_path / name) for name in ('m.stablehlo', 'images.npy', 'out.npz')]
    subprocess.run([sys.executable, '-c', program, *names], check=True)
    with np.load(tmp_path / 'out.npz') as found, np.load(workdir / 'predictions.npz') as ours:
        np.testing.assert_allclose(found['arr_0'], ours['logits'], rtol=1e-4, atol=1e-4)
        meant = softmax(
            deciding.scaling(Trained.load(workdir), 'temperature').apply(ours['logits'])
        )
        np.testing.assert_allclose(found['arr_1'], meant, atol=1e-5)


@pytest.mark.parametrize('name', ['temperature', 'vector'])
def test_probabilities_are_scaled_inside(tmp_path, name):
    scalings = {'as_they_are': {}} | TEMPERATURE | VECTOR
    made = tiny.config('cross_entropy', 'any')
    model = random_weights.trained(made, size=12, channels=1, calibration=scalings)
    path = tmp_path / 'm'
    deployment.write(path, model, ABSENT, format_name='stablehlo', calibrate=name)
    images = tiny.arrays()['images'][:7]
    logits, found = deployed_formats.FORMATS['stablehlo'].run(path, images)
    meant = softmax(deciding.scaling(model, name).apply(model.forward(images)[1]))
    np.testing.assert_allclose(found, meant, atol=1e-5)
    np.testing.assert_allclose(logits, model.forward(images)[1], rtol=1e-4, atol=1e-4)
    about = json.loads((tmp_path / 'm.json').read_text('utf-8'))
    assert (about['scaling'], about['probabilities']) == (name, f'{name} scaling, then softmax')
    assert about['scalings_of_the_run'] == {
        name: scalings[name]['fitted'] for name in ('temperature', 'vector')
    }


def test_a_model_trained_in_bfloat16_is_handed_on_in_float32(tmp_path):
    made = tiny.config('cross_entropy', 'any')
    model = random_weights.trained(made, size=12, channels=1)
    made.model.dtype = 'bfloat16'
    narrow = random_weights.trained(made, size=12, channels=1)
    images = tiny.arrays()['images'][:7]
    assert np.abs(narrow.forward(images)[1] - model.forward(images)[1]).max() > 1e-3
    deployment.write(tmp_path / 'm', narrow, ABSENT, format_name='stablehlo')
    logits, _ = deployed_formats.FORMATS['stablehlo'].run(tmp_path / 'm', images)
    np.testing.assert_allclose(logits, model.forward(images)[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_a_vision_transformer_is_handed_on(dtype, tmp_path):
    made = tiny.config('cross_entropy', 'any')
    made.model = {
        'name': 'vit_tiny',
        'patch': 8,
        'grid': 3,
        'positions': 'rotary',
        'registers': 2,
        'drop_path_rate': 0.1,
        'dtype': dtype,
    }
    network = random_weights.trained(made, size=16)
    deployment.write(tmp_path / 'm', network, ABSENT, format_name='stablehlo')
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    logits, _ = deployed_formats.FORMATS['stablehlo'].run(tmp_path / 'm', images)
    tolerance = 1e-4 if dtype == 'float32' else 0.1
    np.testing.assert_allclose(logits, network.forward(images)[1], atol=tolerance, rtol=tolerance)


def test_what_the_file_says_is_checked(model, tmp_path, monkeypatch):
    kind = deployed_formats.StableHlo
    run = kind.run

    def wrong(self, path, images):
        logits, probabilities = run(self, path, images)
        return logits * 1.001, probabilities

    monkeypatch.setattr(kind, 'run', wrong)
    with pytest.raises(UserError, match='nothing was written: .* random pixels'):
        deployment.write(tmp_path / 'm', model, ABSENT, format_name='stablehlo')
    monkeypatch.setattr(kind, 'run', lambda *given: (run(*given)[0], run(*given)[1][:, ::-1]))
    with pytest.raises(UserError, match='its probabilities are off'):
        deployment.write(tmp_path / 'm', model, ABSENT, format_name='stablehlo')
    assert not list(tmp_path.iterdir())


def test_near_ties_may_change_sides_and_no_others():
    ours = np.array([[1.0, 0.0], [0.5, 0.49999], [-1, 1]])
    theirs = np.array([[1.0, 0.0], [0.5, 0.50001], [-1, 1]])
    found = deployment.compare(ours, theirs, 'images')
    assert (found.images, found.same, found.ties) == (3, 2, 1)
    assert found.difference == pytest.approx(2e-5)
    assert 'near ties' in str(found)
    with pytest.raises(UserError, match='1 get another class'):
        deployment.compare(ours, ours[:, [0, 1]] * [[1], [1], [-1]], 'images')
    with pytest.raises(UserError, match='relative difference of logits nan'):
        deployment.compare(ours, ours * np.nan, 'images')


def test_the_run_says_which_images_it_was_checked_on(workdir, tmp_path, model):
    made = Trained.load(workdir)
    images, of = deployment.images_to_check(made, workdir)
    test = tiny.arrays()['images'][tiny.arrays()['split'] == 'test']
    np.testing.assert_array_equal(images, test)
    assert of == 'test images of the run'
    (tmp_path / 'predictions.npz').write_bytes((workdir / 'predictions.npz').read_bytes())
    near = np.zeros((2, 3, 12, 12, 1), np.uint8)
    np.savez(tmp_path / 'errors.npz', images=near[:, 0], near=near)
    images, of = deployment.images_to_check(model, tmp_path)  # its data lie at 'any'
    assert (len(images), of) == (8, 'images that the run kept')
    assert len(deployment.images_to_check(model, ABSENT)[0]) == deployment.CHECKED


def test_thresholds_are_of_the_probabilities_that_the_file_gives(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 20)
    scores = Probabilities(rng.normal(0, 1, (60, 3)) + 2 * np.eye(3)[labels])
    validation = predictions.Predictions(
        'v', np.arange(60).astype(str), labels, random_weights.NAMES, scores, None
    )
    model = random_weights.trained(
        tiny.config('cross_entropy', 'any'),
        channels=1,
        calibration=VECTOR,
        validation=validation,
        wished={'sensitivity': 0.9},
    )
    for name in ('', 'vector'):
        found = deployment.describe(model, name)['thresholds']
        assert found['wished'] == {'sensitivity': 0.9}
        given = scores.matrix()
        if name:
            given = softmax(deciding.scaling(model, name).apply(np.log(given)))
        for k, least in enumerate(found['per_class']):
            assert (given[labels == k, k] >= least).mean() == pytest.approx(0.9)


@pytest.mark.parametrize(
    ('out', 'more', 'message'),
    [
        ('m.pt', [], 'should end in one of .onnx, .stablehlo, .safetensors, or give --format'),
        ('m.pt', ['--format=onxn'], "unknown format 'onxn': did you mean onnx"),
        ('m.onnx', ['--layout=timm'], 'leave out --layout'),
        ('m.safetensors', ['--calibrate=vector'], 'leave out --calibrate'),
        ('no/m.onnx', [], 'is no folder: make it first'),
    ],
)
def test_mistakes_in_the_arguments(tmp_path, out, more, message):
    with pytest.raises(UserError, match=message):
        call(ABSENT, tmp_path / out, *more)


def test_a_missing_library_is_named_with_the_remedy(workdir, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'jax2onnx', None)
    with pytest.raises(UserError, match=r"jax2onnx cannot .*pip install 'ltjax\[onnx\]'"):
        call(workdir, tmp_path / 'm.onnx')


def test_a_path_that_cannot_be_written(model, tmp_path):
    with pytest.raises(UserError, match='cannot write .*: give another path'):
        deployment.write(tmp_path / ('m' * 300), model, ABSENT, format_name='stablehlo')


def test_a_run_without_weights(workdir, tmp_path):
    for name in ('results.json', 'config.json'):
        (tmp_path / name).write_bytes((workdir / name).read_bytes())
    with pytest.raises(UserError, match='checkpoint'):
        call(tmp_path, tmp_path / 'm.stablehlo')


def test_a_run_has_to_have_the_scaling(model, tmp_path):
    with pytest.raises(UserError, match='the run has no vector scaling'):
        deployment.write(tmp_path / 'm', model, ABSENT, format_name='stablehlo', calibrate='vector')


def test_functions_become_plain():
    weight = jnp.arange(6.0).reshape(2, 3)

    @jax.jit
    def inner(x):
        return jax.nn.relu(x @ weight)

    def function(x):
        chosen = jax.lax.switch(jnp.int32(1), [jnp.sin, jnp.cos, jnp.tan], inner(x))
        device = jax.lax.platform_dependent(chosen, cpu=jnp.exp, default=jnp.negative)
        return device, jnp.stack([device, chosen], axis=1), jnp.linalg.norm(weight)

    shape = jax.ShapeDtypeStruct(jax.export.symbolic_shape('n, 2'), jnp.float32)
    made = plain(function, shape)
    x = np.arange(4, dtype=np.float32).reshape(2, 2) / 10
    chosen = np.cos(np.maximum(x @ weight, 0))
    found = made(x)
    np.testing.assert_allclose(found[0], -chosen, rtol=1e-6)
    np.testing.assert_allclose(found[1], np.stack([-chosen, chosen], axis=1), rtol=1e-6)
    names = {e.primitive.name for e in jax.make_jaxpr(made)(shape).eqns}
    assert names == {'dot_general', 'max', 'cos', 'neg', 'broadcast_in_dim', 'concatenate'}


def test_batch_norms_are_folded():
    model = create('small_cnn', num_classes=3, channels=1, width=4, rngs=nnx.Rngs(0))
    set_batch_norm(model, 'running')
    model.norms[0].mean[...] += 0.5
    model.norms[1].var[...] *= 2
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    before = model(images).logits
    fold(model)
    np.testing.assert_allclose(model(images).logits, before, rtol=1e-5, atol=1e-5)
    assert not jax.tree.leaves(nnx.state(model, nnx.BatchStat))


@pytest.mark.parametrize('interpolation', ['area', 'bilinear', 'bicubic'])
@pytest.mark.parametrize('mode', ['RGB', 'L', 'RGBA', 'P', 'LA'])
def test_the_example_makes_the_same_pixels(tmp_path, interpolation, mode):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3)).astype(np.uint8))
    picture = coarse.resize((60, 45), Image.Resampling.BICUBIC)
    if mode in ('RGBA', 'LA'):
        picture.putalpha(Image.fromarray(rng.integers(0, 256, (45, 60)).astype(np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    path = tmp_path / 'a.png'
    picture.convert(mode).save(path, exif=exif)
    for channels in (1, 3):
        whole = image_files.decode(path, channels)
        for side in (5, 15, 16, 22, 30, 45, 50, 60, 77, 128):
            ours = image_files.resize(whole, side, interpolation)
            theirs = classify_with_onnx.read(path, (side, side), channels, interpolation)
            np.testing.assert_array_equal(theirs, ours)


def test_the_example_wants_images_of_a_size_that_is_no_square(tmp_path):
    Image.new('RGB', (8, 6)).save(tmp_path / 'a.png')
    assert classify_with_onnx.read(tmp_path / 'a.png', (8, 6), 3, None).shape == (6, 8, 3)
    with pytest.raises(ValueError, match='the model takes'):
        classify_with_onnx.read(tmp_path / 'a.png', (8, 4), 3, None)
