"""Weights from files: what fits, and what is refused."""

import functools
import sys

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

import tiny
from ltjax import models
from ltjax.errors import UserError
from ltjax.models import pretrained
from ltjax.models.weights import to_torch
from small_weights import MAKE, STEM, changed, fit, load, model, same, save, sha256, tensors

# What is taken over.


@pytest.mark.parametrize('name', ['a.safetensors', 'a.npz'])
def test_a_file_gives_every_bit(tmp_path, name):
    path = save(tmp_path / name, tensors())
    target = model()
    state, record = load(path)
    nnx.update(target, state)
    assert same(to_torch(target), tensors())
    assert record == {
        'name': str(path),
        'sha256': sha256(path),
        'pinned': False,
        'layout': 'original',
        'classifier': 'loaded',
    }


def test_a_written_model_reads_back_in_the_same_names(tmp_path):
    target, _ = fit(tensors())
    pretrained.write(tmp_path / 'a.safetensors', target)
    assert same(safetensors.numpy.load_file(tmp_path / 'a.safetensors'), tensors())
    with pytest.raises(UserError, match="layout of SmallCNN 'timm'"):
        pretrained.write(tmp_path / 'b.safetensors', target, 'timm')
    with pytest.raises(UserError, match='should end in .safetensors'):
        pretrained.write(tmp_path / 'b.npz', target)
    with pytest.raises(UserError, match='cannot write'):
        pretrained.write(tmp_path / 'absent' / 'b.safetensors', target)
    assert [path.name for path in tmp_path.iterdir()] == ['a.safetensors']


@pytest.mark.parametrize(
    ('name', 'layout', 'key'),
    [
        ('resnet18', 'timm', 'layer4.1.conv2.weight'),
        pytest.param(
            *('efficientnet_lite0', 'timm', 'blocks.6.0.conv_pwl.weight'), marks=pytest.mark.slow
        ),
        pytest.param(
            *('convnext_tiny', 'torchvision', 'features.7.2.block.5.weight'), marks=pytest.mark.slow
        ),
    ],
)
def test_names_of_a_library_are_recognised_and_kept(tmp_path, name, layout, key):
    make = functools.partial(models.create, name)
    target = nnx.eval_shape(lambda: make(num_classes=7, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(0)
    state = jax.tree.map(lambda x: rng.random(x.shape, np.float32), nnx.state(target))
    path = tmp_path / 'a.safetensors'
    pretrained.write(path, nnx.merge(nnx.graphdef(target), state), layout)
    loaded, record = pretrained.load(make, target, name=str(path))
    again = to_torch(nnx.merge(nnx.graphdef(target), loaded), layout)
    stored = safetensors.numpy.load_file(path)
    assert key in stored
    assert same(again, stored)
    # torchvision and timm call everything in a ResNet the same.
    assert record['layout'] == ('torchvision' if name == 'resnet18' else layout)


def test_a_classifier_of_the_same_classes_in_another_order_is_left_out(tmp_path):
    path = tmp_path / 'a.safetensors'
    source = model()
    nnx.update(source, fit(tensors())[1])
    pretrained.write(path, source, about={'class_names': '["a", "b", "c"]'})
    for names, taken in ((['a', 'b', 'c'], True), (['b', 'a', 'c'], False), (None, True)):
        found = pretrained.load(MAKE, model(), name=str(path), class_names=names)
        assert ('classifier' in found.state) == taken
        assert found.record['classifier'] == ('loaded' if taken else 'fresh')


def test_another_number_of_classes_keeps_the_fresh_classifier():
    fresh = to_torch(model(num_classes=5))
    target, state = fit(tensors(), num_classes=5)
    found = to_torch(target)
    assert 'classifier' not in state
    for key, value in tensors().items():
        expected = fresh[key] if key.startswith('classifier') else value
        np.testing.assert_array_equal(found[key], expected)


def test_a_method_keeps_its_own_heads():
    target = model()
    target.classifier = nnx.Linear(16, 3, use_bias=False, rngs=nnx.Rngs(2))
    target.projection = nnx.Linear(16, 8, rngs=nnx.Rngs(3))
    before = jax.device_get(nnx.state((target.classifier, target.projection)))
    state, _ = pretrained.fit(MAKE, target, tensors())
    assert 'classifier' not in state
    nnx.update(target, state)
    assert tiny.same(before, nnx.state((target.classifier, target.projection)))
    np.testing.assert_array_equal(to_torch(target)[STEM], tensors()[STEM])


def test_grey_images_see_what_the_same_grey_in_colour_would():
    colour, _ = fit(tensors(channels=3), channels=3)
    grey, _ = fit(tensors(channels=3), channels=1)
    images = np.random.default_rng(0).random((2, 12, 12, 1), np.float32)
    for network in (colour, grey):
        network.eval()
    expected = colour(np.repeat(images, 3, axis=3)).logits
    np.testing.assert_allclose(grey(images).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_counter_of_batches_is_of_no_use_and_no_harm():
    counted = tensors() | {'norms.0.num_batches_tracked': np.int64(7)}
    assert same(to_torch(fit(counted)[0]), tensors())


# What does not fit.


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('norms.2.bias', None, 'missing norms.2.bias'),
        ('classifier.weight', None, 'missing classifier.weight'),
        ('classifier.bias', None, 'missing classifier.bias'),
        (STEM, None, f'missing {STEM}'),
        ('head.weight', np.zeros((3, 16), np.float32), 'unknown head.weight'),
        ('norms.2.bias', np.zeros(9, np.float32), r'unfit norms.2.bias \(9,\), not \(8,\)'),
        ('norms.2.bias', np.float32(0), r'unfit norms.2.bias \(\), not \(8,\)'),
        ('norms.2.bias', np.zeros(8, np.float16), 'norms.2.bias of type float16'),
        ('norms.2.bias', np.zeros(8, '>f4'), 'norms.2.bias of type >f4'),
        ('norms.2.bias', np.full(8, np.nan, np.float32), 'norms.2.bias has values that are not'),
        (STEM, np.zeros((4, 3, 5, 5), np.float32), 'unfit convs.0.weight'),
        (STEM, np.zeros((4, 4, 3, 3), np.float32), 'images of 4 channels, not 1: set --config.data'),
        ('classifier.bias', np.zeros(4, np.float32), r'classifier.weight \(3, 16\), not \(4, 16\)'),
        ('classifier.weight', np.zeros((3, 8), np.float32), r'\(3, 8\), not \(3, 16\)'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(key, value, message):
    with pytest.raises(UserError, match=message) as refused:
        fit(changed(key, value))
    assert '\n' not in str(refused.value)


def test_grey_weights_are_not_for_colour():
    with pytest.raises(UserError, match='of 1 channels, not 3: set --config.data.channels=1'):
        fit(tensors(), channels=3)


# Checksums.


def test_a_checksum_may_come_from_the_config_or_lie_beside(tmp_path, caplog):
    path = save(tmp_path / 'a.npz', tensors())
    assert load(path, sha256=sha256(path).upper()).record['pinned']
    beside = tmp_path / 'a.npz.sha256'
    beside.write_text(f'{sha256(path)}  a.npz\n', 'utf-8')
    assert load(path).record['pinned']
    assert not caplog.records
    beside.unlink()
    assert not load(path).record['pinned']
    assert f'--config.model.pretrained_sha256={sha256(path)}' in caplog.text

    beside.write_text('0' * 64, 'utf-8')
    with pytest.raises(UserError, match=r'damaged or another file.*a.npz.sha256 says 0000'):
        load(path)
    beside.write_text('', 'utf-8')
    with pytest.raises(UserError, match=r"a.npz.sha256 says 'nothing', which is no sha256"):
        load(path)
    beside.unlink()
    with pytest.raises(UserError, match='--config.model.pretrained_sha256 says 1111'):
        load(path, sha256='1' * 64)
    with pytest.raises(UserError, match='give all 64 digits'):
        load(path, sha256=sha256(path)[:8])


def test_a_file_of_pytorch_has_its_checksum_in_its_name(tmp_path):
    (tmp_path / 'net-01234567.pth').write_bytes(b'anything')
    with pytest.raises(UserError, match='damaged or another file.*its name says 01234567'):
        load(tmp_path / 'net-01234567.pth')


@pytest.mark.parametrize('installed', [None, type('torch', (), {'__version__': '2.5.1+cpu'})])
def test_files_of_pytorch_need_a_safe_torch(tmp_path, monkeypatch, installed):
    monkeypatch.setitem(sys.modules, 'torch', installed)
    path = tmp_path / 'net.pt'
    path.write_bytes(b'')
    with pytest.raises(UserError, match='pip install'):
        load(path)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('absent.npz', r'cannot read the weights .*absent.npz \(No such file'),
        ('', r'cannot read the weights .*\.npz \(Is a directory'),
        ('net.ckpt', 'net.ckpt should end in .safetensors, .npz, .pth, .pt, .bin'),
    ],
)
def test_files_that_are_none(tmp_path, name, message):
    folder = tmp_path / 'a.npz'
    folder.mkdir()
    with pytest.raises(UserError, match=message):
        load(folder / name)
