"""Prepared sets: written whole or resumed, read back, verified; and plans that are refused."""

import pathlib

import cv2
import numpy as np
import pytest

from ltjax.data.prepared import records, writing
from ltjax.data.prepared.writing import Item, Plan
from ltjax.errors import UserError

NUMBER, SIZE = 20, 8
SMOOTH = np.linspace(0, 200, SIZE)[:, None, None] + np.zeros((1, SIZE, 3))


def image(number):
    return (SMOOTH + number).astype(np.uint8)


def items(number=NUMBER):
    return [
        Item(f'image-{i}', i % 3, lambda i=i: image(i), group=f'patient {i // 2}')
        for i in range(number)
    ]


def plan(**changes):
    sides = {item.id: ('train', 'val', 'test')[i % 3] for i, item in enumerate(items())}
    folds = {item.id: str(i % 2) for i, item in enumerate(items()[:10])}
    values = dict(
        name='set', class_names=('a', 'b', 'c'), items=items(), image_size=SIZE, channels=3,
        licence='free', origin='here', splits={'official': sides, '2_fold': folds},
    )  # fmt: skip
    return Plan(**values | changes)


def write(out, the_plan, **options):
    return writing.write(out, the_plan, images_per_shard=8, report=lambda line: None, **options)


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_what_was_written_is_read(tmp_path):
    manifest = write(tmp_path, plan())
    assert manifest['counts'] == [7, 7, 6]
    assert [shard['records'] for shard in manifest['shards']] == [8, 8, 4]
    read = records.read(tmp_path)
    read.verify()
    assert read.class_names == ('a', 'b', 'c')
    assert read.ids.tolist() == [item.id for item in items()]
    assert read.labels.tolist() == [i % 3 for i in range(NUMBER)]
    assert read.labels.dtype == np.int32
    assert read.groups[5] == 'patient 2'
    assert np.array_equal(read.stored()[:], np.stack([image(i) for i in range(NUMBER)]))
    assert read.split('official').tolist() == [('train', 'val', 'test')[i % 3] for i in range(20)]
    assert read.split('2_fold').tolist() == [str(i % 2) for i in range(10)] + [''] * 10
    assert manifest['splits']['2_fold']['sizes'] == {'0': 5, '1': 5}


def test_images_come_in_the_order_asked_for(tmp_path):
    write(tmp_path, plan())
    wanted = np.array([19, 0, 8, 7, 0])
    images = records.read(tmp_path).stored()[wanted]
    assert np.array_equal(images, np.stack([image(i) for i in wanted]))


@pytest.mark.parametrize('channels', [1, 3])
def test_jpeg_is_nearly_what_it_was(tmp_path, channels):
    given = [Item(f'{i}', 0, lambda i=i: image(i)[..., :channels]) for i in range(3)]
    write(tmp_path, plan(items=given, channels=channels, encoding='jpeg', splits={}))
    images = records.read(tmp_path).stored()[:]
    assert images.shape == (3, SIZE, SIZE, channels)
    want = np.stack([image(i)[..., :channels] for i in range(3)]).astype(int)
    assert 0 < np.abs(images - want).max() <= 4
    (shard,) = tmp_path.glob('*.array_record')
    assert b'JFIF' in shard.read_bytes()


def test_colours_keep_their_places(tmp_path):
    red = np.zeros((SIZE, SIZE, 3), np.uint8)
    red[..., 0] = 250
    cv2.imwrite(str(tmp_path / 'red.png'), red[..., ::-1])
    for encoding in records.ENCODINGS:
        given = [Item('red', 0, tmp_path / 'red.png')]
        write(tmp_path / encoding, plan(items=given, encoding=encoding, splits={}))
        (pixels,) = records.read(tmp_path / encoding).stored()[:]
        assert np.abs(pixels.astype(int) - red).max() <= 6


def test_images_are_resized(tmp_path):
    write(tmp_path, plan(image_size=4))
    assert records.read(tmp_path).stored()[:].shape == (NUMBER, 4, 4, 3)


def test_threads_change_nothing(tmp_path):
    for threads in (1, 4):
        write(tmp_path / str(threads), plan(), threads=threads)
    assert files(tmp_path / '1') == files(tmp_path / '4')


@pytest.mark.parametrize('stops_at', [3, 8, 13, 19])
def test_an_interrupted_writing_goes_on(tmp_path, stops_at):
    write(tmp_path / 'whole', plan())
    decoded = []

    def interrupted(number, stop):
        decoded.append(number)
        if stop and number == stops_at:
            raise KeyboardInterrupt
        return image(number)

    def given(stop):
        return [
            item._replace(source=lambda i=i: interrupted(i, stop)) for i, item in enumerate(items())
        ]

    out = tmp_path / 'out'
    with pytest.raises(KeyboardInterrupt):
        write(out, plan(items=given(True)), threads=1)
    if stops_at >= 8:
        with pytest.raises(
            UserError, match='is not finished: run the command that prepares it again'
        ):
            records.read(out)
    else:
        with pytest.raises(UserError, match='holds no prepared set'):
            records.read(out)
    decoded.clear()
    write(out, plan(items=given(False)))
    assert sorted(decoded) == list(range(stops_at // 8 * 8, NUMBER))
    assert files(out) == files(tmp_path / 'whole')


def test_a_second_writing_decodes_nothing_and_mends_a_changed_shard(tmp_path):
    write(tmp_path, plan())
    whole = files(tmp_path)
    write(tmp_path, plan(items=[item._replace(source=pathlib.Path('gone')) for item in items()]))
    assert files(tmp_path) == whole
    shard = tmp_path / 'images-00001.array_record'
    shard.write_bytes(shard.read_bytes()[:-1])
    write(tmp_path, plan())
    assert files(tmp_path) == whole


@pytest.mark.parametrize(
    'name', ['images-00002.array_record', 'records.csv', 'splits/official.csv']
)
def test_a_changed_byte_is_found(tmp_path, name):
    write(tmp_path, plan())
    read = records.read(tmp_path)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=f'{name} is missing or was changed'):
        read.verify()
    if name == 'records.csv':
        with pytest.raises(UserError, match='records.csv is missing or was changed'):
            records.read(tmp_path)
    if name.startswith('splits'):
        with pytest.raises(UserError, match='official.csv is missing or was changed'):
            read.split('official')
    path.unlink()
    with pytest.raises(UserError, match='is missing or was changed: prepare the set again'):
        read.verify()


@pytest.fixture
def damaged(tmp_path):
    """Items of which the fourth is no image."""
    path = tmp_path / 'damaged.png'
    path.write_bytes(b'no image')
    return [item._replace(source=path) if i == 3 else item for i, item in enumerate(items())]


def test_a_damaged_image_stops(tmp_path, damaged):
    with pytest.raises(UserError, match=r'damaged.png is not an image.*--on-damaged=exclude'):
        write(tmp_path / 'out', plan(items=damaged))
    assert not (tmp_path / 'out' / 'manifest.json').exists()


def test_a_damaged_image_is_excluded_if_asked(tmp_path, damaged):
    manifest = write(tmp_path / 'out', plan(items=damaged, on_damaged='exclude'))
    assert list(manifest['excluded']) == ['image-3']
    assert 'is not an image' in manifest['excluded']['image-3']
    assert manifest['counts'] == [6, 7, 6]
    read = records.read(tmp_path / 'out')
    kept = [i for i in range(NUMBER) if i != 3]
    assert read.ids.tolist() == [f'image-{i}' for i in kept]
    assert np.array_equal(read.stored()[:], np.stack([image(i) for i in kept]))
    assert read.split('official').tolist() == [('train', 'val', 'test')[i % 3] for i in kept]
    assert manifest['splits']['official']['sizes'] == {'test': 6, 'train': 6, 'val': 7}


def test_another_plan_is_refused(tmp_path):
    write(tmp_path, plan())
    moved = dict(plan().splits, official={'image-0': 'test'})
    for changes in (
        {'image_size': 4}, {'encoding': 'jpeg'}, {'items': items(19), 'splits': {}},
        {'class_names': ('a', 'b', 'd')}, {'splits': moved}, {'on_damaged': 'exclude'},
    ):  # fmt: skip
        with pytest.raises(UserError, match='holds another set or other settings'):
            write(tmp_path, plan(**changes))
    records.read(tmp_path).verify()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'items': [*items(), items()[3]]}, r"has the id 'image-3' 2 times"),
        ({'items': []}, 'set has no images'),
        ({'items': [Item('x', 3, pathlib.Path('x'))]}, 'x has label 3, out of range'),
        ({'class_names': ('a', 'b', 'a')}, r"two classes 'a'"),
        ({'splits': {'s': {'nobody': 'train'}}}, r"split 's' of set names 'nobody'"),
        ({'splits': {'s': {'image-0': 'valid'}}}, r"split 's' of set has the parts valid"),
        ({'encoding': 'gif'}, r"unknown encoding 'gif'"),
        ({'on_damaged': 'ignore'}, r"unknown on_damaged 'ignore'"),
        ({'channels': 2}, '8 pixels and 2 channels'),
        ({'image_size': 0}, '0 pixels and 3 channels'),
        ({'channels': 1}, 'image-0 has 3 channels, not 1'),
    ],
)
def test_wrong_plans_are_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path, plan(**changes))


def test_what_is_no_prepared_set_is_refused(tmp_path):
    with pytest.raises(UserError, match='holds no prepared set: make one with'):
        records.read(tmp_path)
    (tmp_path / 'manifest.json').write_text('{')
    with pytest.raises(UserError, match='manifest.json cannot be read'):
        records.read(tmp_path)
    (tmp_path / 'manifest.json').write_text('{"format": 0}')
    with pytest.raises(UserError, match='is of format 0, not 1: prepare it again'):
        records.read(tmp_path)


def test_an_unknown_protocol_is_named(tmp_path):
    write(tmp_path, plan())
    with pytest.raises(UserError, match=r"'oficial': did you mean official"):
        records.read(tmp_path).split('oficial')


def test_a_record_that_is_no_image_is_refused():
    with pytest.raises(UserError, match='a record is no image'):
        records.decode(b'no image', 3)
