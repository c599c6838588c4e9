"""Published weights: names, checksums, the hub, and the images they expect."""

import contextlib
import dataclasses
import hashlib
import http.server
import threading

import pytest
import safetensors.numpy

from ltjax import models
from ltjax.data import catalog
from ltjax.errors import UserError
from ltjax.models import published
from ltjax.run import build
from ltjax.run.settings import Settings
from small_weights import config, load, tensors


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


def followed(made):
    return build.follow_weights(Settings.of(made))


def test_preprocessing_follows_published_weights_where_it_is_open(tabled):
    made = config('x.npz', NAME)
    made.data, made.benchmark = catalog.get('npz'), 'npz'
    data = followed(made).data
    assert (data.image_size, data.channels) == (224, 3)
    assert data.mean == (0.485, 0.456, 0.406)
    assert data.interpolation == 'bilinear'
    assert made.data.mean == (0.5,)
    assert followed(followed(made)) == followed(made)

    made.data.update({'image_size': 32, 'std': (0.3, 0.3, 0.3)})
    data = followed(made).data
    assert (data.image_size, data.channels) == (32, 3)
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.3, 0.3, 0.3))

    made.data.update({'channels': 1, 'std': made.data.std})
    assert followed(made).data.mean == (pytest.approx(0.449),)

    made.model.pretrained_preprocessing = False
    assert followed(made).data.mean == (0.5,)
    made.model.update({'pretrained_preprocessing': True, 'pretrained': 'a.npz'})
    assert followed(made).data.mean == (0.5,)


def test_what_preprocessing_does_is_told(tabled, caplog):
    made = config('x.npz', NAME)
    made.data, made.benchmark = catalog.get('npz'), 'npz'
    made.data.std = (0.3, 0.3, 0.3)
    followed(made)
    assert f'data.image_size is 224, as {NAME} expects' in caplog.text
    assert f'data.std stays (0.3, 0.3, 0.3); {NAME} expects (0.229, 0.224, 0.225)' in caplog.text
