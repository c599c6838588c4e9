"""Weights from files and from the hub: what fits, what is refused, and what a run does with them."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import io
import json
import sys
import threading
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

import tiny
from ltjax import export, models, predict, train
from ltjax.errors import UserError
from ltjax.models import pretrained, published
from ltjax.models.weights import to_torch

MAKE = functools.partial(models.create, 'small_cnn', width=4)
STEM = 'convs.0.weight'


@functools.cache
def tensors(num_classes=3, channels=1):
    """Returns the weights of a small network, with running statistics that are not the fresh ones."""
    model = MAKE(num_classes=num_classes, channels=channels, rngs=nnx.Rngs(1))
    rng = np.random.default_rng(0)
    return {
        key: rng.random(value.shape, np.float32) if 'norms' in key else np.ascontiguousarray(value)
        for key, value in to_torch(model).items()
    }


def model(num_classes=3, channels=1):
    return MAKE(num_classes=num_classes, channels=channels, rngs=nnx.Rngs(0))


def fit(values, **options):
    """Returns a fresh model with the values of tensors, and what was taken over."""
    target = model(**options)
    state, _ = pretrained.fit(MAKE, target, values)
    nnx.update(target, state)
    return target, state


def save(path, values):
    if path.suffix == '.npz':
        np.savez(path, **values)
    else:
        safetensors.numpy.save_file(values, path)
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path, **options):
    return pretrained.load(MAKE, model(), name=str(path), **options)


def same(a, b):
    return set(a) == set(b) and all(a[key].tobytes() == b[key].tobytes() for key in a)


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
        ('efficientnet_lite0', 'timm', 'blocks.6.0.conv_pwl.weight'),
        ('convnext_tiny', 'torchvision', 'features.7.2.block.5.weight'),
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


def changed(key, value):
    values = dict(tensors())
    if value is None:
        del values[key]
    else:
        values[key] = value
    return values


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
        ('net.bin', 'net.bin should end in .safetensors, .npz, .pth, .pt'),
    ],
)
def test_files_that_are_none(tmp_path, name, message):
    folder = tmp_path / 'a.npz'
    folder.mkdir()
    with pytest.raises(UserError, match=message):
        load(folder / name)


# 200 damaged files.

HOSTILE = b"cos\nsystem\n(S'touch %s'\ntR."


def damaged(count, seed, touched):
    """Yields the names and contents of files that must be refused, and whether a checksum is needed to tell."""
    rng = np.random.default_rng(seed)
    pickled = HOSTILE % bytes(touched)
    good = {'.safetensors': safetensors.numpy.save(dict(tensors())), '.npz': archived(tensors())}
    keys = sorted(tensors())
    for number in range(count):
        suffix = ('.safetensors', '.npz')[number // 8 % 2]
        key = keys[rng.integers(len(keys))]
        value = tensors()[key]
        kind = number % 8
        content = bytearray(good[suffix])
        if kind == 0:
            content = content[: rng.integers(len(content))]
        elif kind == 1:
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        elif kind == 2:
            dtype = rng.choice(['f2', 'f8', 'i4', 'u1', '?'])
            content = written(suffix, changed(key, value.astype(dtype)))
        elif kind == 3:
            shape = (*value.shape[:-1], value.shape[-1] + 1 + rng.integers(3))
            content = written(suffix, changed(key, np.zeros(shape, np.float32)))
        elif kind == 4:
            content = written(suffix, changed(key, None) | {f'{key}_{number}': value})
        elif kind == 5:
            content = archived(changed(key, np.array([{}, Hostile(touched)], object)))
            suffix = '.npz'
        elif kind == 6:
            content, suffix = pickled, ('.pth', '.pt', '.npz', '.safetensors')[number // 8 % 4]
        else:
            content, suffix = zipped(pickled), '.pth'
        yield f'{number}{suffix}', bytes(content), kind == 1


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, touched):
        self.touched = touched

    def __reduce__(self):
        return (exec, (f'open({str(self.touched)!r}, "w").close()',))


def archived(values):
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **values)
    return file.getvalue()


def written(suffix, values):
    return archived(values) if suffix == '.npz' else safetensors.numpy.save(values)


def zipped(pickled):
    """Returns what torch.save writes nowadays, around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', pickled)
        archive.writestr('archive/version', '3\n')
    return file.getvalue()


def test_damaged_files_end_in_a_clear_refusal_and_run_nothing(tmp_path):
    touched = tmp_path / 'touched'
    good = sha256(save(tmp_path / 'good.safetensors', tensors()))
    refused = 0
    for name, content, needs_checksum in damaged(200, 0, touched):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            load(path, sha256=good if needs_checksum else '')
        assert '\n' not in str(error.value)
        assert str(path) in str(error.value) or 'torch' in str(error.value)
        path.unlink()
        refused += 1
    assert refused == 200
    assert not touched.exists()
    Hostile(touched).__reduce__()[0](Hostile(touched).__reduce__()[1][0])
    assert touched.exists(), 'the hostile object does nothing'


# Published weights.


def test_the_table_is_whole():
    for name, known in published.PUBLISHED.items():
        assert known.model in models.names()
        assert name.split('/')[0] in ('timm', 'torchvision', 'pypi')
        assert set(known.sha256) <= set('0123456789abcdef')
        assert len(known.sha256) in (0, 8, 64)
        assert len(known.mean) == len(known.std) == 3
        if name.startswith('timm/'):
            assert bool(known.sha256) == (known.revision != 'main')
            assert len(known.revision) in (4, 40)
        if name.startswith('torchvision/'):
            assert known.file.endswith(f'-{known.sha256[:8]}.pth')


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('timm/resnet18.tv_in1', r'unknown file .* did you mean timm/resnet18.tv_in1k'),
        ('timm/resnet50.tv_in1k', "weights of 'resnet50', not of 'resnet18': set --config.model"),
    ],
)
def test_names_are_checked(name, message):
    with pytest.raises(UserError, match=message):
        published.find(name, 'resnet18')
    assert published.find('', 'resnet18') is None
    assert published.find('weights/a.pth', 'resnet18') is None
    assert published.find('timm/resnet18.tv_in1k', 'resnet18').size == 224


def test_weights_without_a_known_checksum_wait_for_the_users(tmp_path, monkeypatch):
    monkeypatch.setenv('LTJAX_WEIGHTS', str(tmp_path))
    with pytest.raises(UserError, match='no sha256 is known for timm/convnext_base.fb_in1k'):
        published.locate('timm/convnext_base.fb_in1k', '')
    path = tmp_path / 'timm/convnext_base.fb_in1k/main/model.safetensors'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'')
    found, expected = published.locate('timm/convnext_base.fb_in1k', 'a' * 64)
    assert found == path
    assert 'a' * 64 in expected.values()


def test_what_cannot_be_fetched_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv('LTJAX_WEIGHTS', str(tmp_path))
    with pytest.raises(UserError, match=r'fetch https://download.pytorch.org/models/resnet34') as e:
        published.locate('torchvision/resnet34-b627a593.pth', '')
    assert str(tmp_path / 'torchvision' / 'resnet34-b627a593.pth') in str(e.value)
    absent = dataclasses.replace(published.PUBLISHED['timm/resnet18.tv_in1k'], sha256='0' * 8)
    monkeypatch.setattr(published, 'PUBLISHED', {'pypi/ltjax-absent': absent})
    with pytest.raises(UserError, match='ltjax-absent is not installed: pip install ltjax-absent'):
        published.locate('pypi/ltjax-absent', '')


NAME, REVISION = 'timm/small.test', '0123456789abcdef0123456789abcdef01234567'


@contextlib.contextmanager
def hub(content, *, cut=0):
    """Serves one file as Hugging Face does; `cut` bytes before its end the connection breaks."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header('Content-Length', str(len(content)))
            self.send_header('ETag', f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header('X-Repo-Commit', REVISION)
            self.end_headers()

        def do_GET(self):
            self.do_HEAD()
            self.wfile.write(content[: len(content) - cut])

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f'http://127.0.0.1:{server.server_port}', asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def tabled(tmp_path, monkeypatch):
    """Puts small weights into the table; returns their bytes and where they are kept."""
    content = safetensors.numpy.save(dict(tensors()))
    known = published.Published(
        'small_cnn', revision=REVISION, sha256=hashlib.sha256(content).hexdigest()
    )
    monkeypatch.setattr(published, 'PUBLISHED', {NAME: known})
    monkeypatch.setenv('LTJAX_WEIGHTS', str(tmp_path / 'cache'))
    monkeypatch.setenv('HF_HUB_DISABLE_PROGRESS_BARS', '1')
    return content, tmp_path / 'cache' / NAME / REVISION / 'model.safetensors'


def files(folder):
    return [path for path in folder.rglob('*') if path.is_file()]


def test_published_weights_are_fetched_once(tabled, monkeypatch, tmp_path):
    content, path = tabled
    with hub(content) as (url, asked):
        monkeypatch.setenv('HF_ENDPOINT', url)
        for _ in range(2):
            state, record = load(NAME)
            assert record['pinned']
            assert record['images']['interpolation'] == 'bilinear'
            assert 'classifier' in state
        assert f'/{NAME}/resolve/{REVISION}/model.safetensors' in asked
        assert len([address for address in asked if 'resolve' in address]) <= 2  # head and body
    assert files(tmp_path) == [path]
    assert path.read_bytes() == content


def test_a_broken_transfer_leaves_nothing(tabled, monkeypatch, tmp_path):
    content, path = tabled
    with hub(content, cut=1000) as (url, _):
        monkeypatch.setenv('HF_ENDPOINT', url)
        monkeypatch.setattr('time.sleep', lambda _: None)
        with pytest.raises(UserError, match='cannot fetch timm/small.test') as error:
            load(NAME)
    assert f'revision {REVISION}, and put it at {path}' in str(error.value)
    assert '\n' not in str(error.value)
    assert files(tmp_path) == []


def test_without_network_the_message_says_what_to_do(tabled, monkeypatch, tmp_path):
    monkeypatch.setattr('huggingface_hub.constants.HF_HUB_OFFLINE', True)
    with pytest.raises(
        UserError, match='get model.safetensors of https://huggingface.co/timm/small'
    ):
        load(NAME)
    assert files(tmp_path) == []
    content, path = tabled
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert load(NAME).record['pinned']


def test_other_weights_under_the_same_name_are_refused(tabled, monkeypatch):
    content, _ = tabled
    other = bytearray(content)
    other[-1] ^= 1
    with hub(bytes(other)) as (url, _):
        monkeypatch.setenv('HF_ENDPOINT', url)
        with pytest.raises(UserError, match='damaged or another file.*the table of published'):
            load(NAME)


# Runs.


def config(path, weights, **overrides):
    made = tiny.config('cross_entropy', path)
    made.model.pretrained = str(weights)
    made.update_from_flattened_dict(overrides)
    return made


def test_preprocessing_follows_published_weights_where_it_is_open(tabled):
    made = config('x.npz', NAME)
    made.data = train.catalog.get('npz')
    followed = train.follow_weights(made).data
    assert (followed.image_size, followed.channels) == (224, 3)
    assert followed.mean == (0.485, 0.456, 0.406)
    assert made.data.mean == (0.5,)
    assert (
        train.follow_weights(made).to_json()
        == train.follow_weights(train.follow_weights(made)).to_json()
    )

    made.data.update({'image_size': 32, 'std': (0.3, 0.3, 0.3)})
    followed = train.follow_weights(made).data
    assert (followed.image_size, followed.channels) == (32, 3)
    assert (followed.mean, followed.std) == ((0.485, 0.456, 0.406), (0.3, 0.3, 0.3))

    made.data.update({'channels': 1, 'std': made.data.std})
    assert train.follow_weights(made).data.mean == (pytest.approx(0.449),)

    made.model.pretrained_preprocessing = False
    assert train.follow_weights(made).data.mean == (0.5,)
    made.model.update({'pretrained_preprocessing': True, 'pretrained': 'a.npz'})
    assert train.follow_weights(made).data.mean == (0.5,)


def test_what_preprocessing_does_is_told(tabled, caplog):
    made = config('x.npz', NAME)
    made.data = train.catalog.get('npz')
    made.data.std = (0.3, 0.3, 0.3)
    train.follow_weights(made)
    assert f'data.image_size is 224, as {NAME} expects' in caplog.text
    assert f'data.std stays (0.3, 0.3, 0.3); {NAME} expects (0.229, 0.224, 0.225)' in caplog.text


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return save(tmp_path_factory.mktemp('weights') / 'a.safetensors', tensors(5))


class Stopped(Exception):
    """An interruption after the first round."""


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
    trained = predict.Trained.load(tmp_path / 'run')
    assert trained.predict(tiny.arrays()['images'][:2])[1].shape == (2, 3)


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
