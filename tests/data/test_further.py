"""Further columns: what the files say of an image beside its label, from a CSV, an npz or a prepared set."""

import dataclasses

import numpy as np
import pytest

import tiny
from ltjax.data import datasets, identity, summary
from ltjax.data.identity import Identity
from ltjax.data.prepared import records, writing
from ltjax.data.prepared.writing import Item, Plan
from ltjax.data.settings import Data
from ltjax.errors import UserError
from ltjax.run import build
from ltjax.run.settings import Settings
from own_data.sets import config, load, pictures, table, taken

SITES = ('back', 'Face', 'NA', 'face ', 'grade 10', 'grade 2', '', '-1')
CODES = [1, 0, -1, 0, 3, 2, -1, -1]
NAMES = ('Face', 'back', 'grade 2', 'grade 10')


def as_csv(root, sites=SITES, columns=('path', 'label', 'site', 'sex')):
    paths = pictures(root, 40)
    rows = [
        [path, 'mel' if i < 20 else 'nv', sites[i % len(sites)], str(i % 2)]
        for i, path in enumerate(paths)
    ]
    return table(root / 'set.csv', columns, rows)


def as_npz(root, **columns):
    return tiny.npz(root / 'set.npz', **columns)


def refused(made):
    with pytest.raises(UserError) as error:
        datasets.load(made)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_a_column_of_a_csv(tmp_path):
    path = as_csv(tmp_path)
    column = taken(path, further=('site',)).columns['site']
    assert column.names == NAMES
    assert column.codes.dtype == np.int32
    assert column.codes.tolist() == CODES * 5
    assert column.texts()[:3].tolist() == ['back', 'Face', '']
    assert load(path).columns == {}


def test_the_values_are_told_and_the_column_is_no_longer_unused(tmp_path):
    said = summary.describe(load(as_csv(tmp_path), further=('site',)), {})
    text = summary.text(said)
    assert said['columns'] == {'site': {'names': list(NAMES), 'without': 15}}
    assert 'further column site: 4 values (Face, back, grade 2, grade 10); 15 images' in text
    assert "'Face', 'face ' are one site, Face" in text
    assert 'columns that are not used: sex' in text


def test_marks_of_0_and_1_beside_classes_of_one_column_each_are_no_class(tmp_path):
    paths = pictures(tmp_path, 40)
    rows = [[path, str(int(i < 20)), str(int(i >= 20)), str(i % 2)] for i, path in enumerate(paths)]
    path = table(tmp_path / 'set.csv', ('path', 'mel', 'nv', 'sex'), rows)
    data = load(path, columns__label='one_hot', further=('sex',))
    assert data.class_names == ('mel', 'nv')
    assert data.columns['sex'].codes.tolist() == [0, 1] * 20


@pytest.mark.parametrize(
    ('values', 'names', 'codes'),
    [
        (np.arange(80) % 4 - 1, ('0', '1', '2'), [-1, 0, 1, 2]),
        (np.array([2.0, np.nan, 10.0, 0.5])[np.arange(80) % 4], ('0.5', '2', '10'), [1, -1, 2, 0]),
        (np.array([b'back', b'', b'face', b'?'])[np.arange(80) % 4, None], ('back', 'face'), [0, -1, 1, -1]),
        (np.arange(80) % 4 < 2, ('False', 'True'), [1, 1, 0, 0]),
    ],
)  # fmt: skip
def test_an_array_of_an_npz(tmp_path, values, names, codes):
    path = as_npz(tmp_path, site=values)
    column = datasets.load(Data(path=str(path), further=('site',))).columns['site']
    assert column.names == names
    assert column.codes.tolist() == codes * 20


def test_a_column_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    path = as_csv(tmp_path)
    assert "no further column 'sight' (it has site, sex)" in refused(
        config(path, further=('sight',))
    )
    assert "no further column 'label'" in refused(config(path, further=('label',)))
    npz = as_npz(tmp_path, site=np.zeros(80), wide=np.zeros((80, 2)), short=np.zeros(3))
    for name in ('wide', 'short'):
        said = refused(Data(path=str(npz), further=(name,)))
        assert f"no further column '{name}' (it has site)" in said
    embedded = Data(name='fashion_mnist_lt_mini', format='embedded', further=('site',))
    assert refused(embedded) == (
        "fashion_mnist_lt_mini has no further column 'site' (it has none): name columns that it has in "
        '--config.data.further, give it that one, or use another method.'
    )  # fmt: skip


def prepared(out, **changes):
    items = [
        Item(f'image-{i}', i % 2, lambda i=i: np.full((4, 4, 3), i, np.uint8), f'patient {i}',
             {'site': SITES[i % 8]} if i else {})
        for i in range(24)
    ]  # fmt: skip
    sides = {item.id: ('train', 'val', 'test')[i // 8] for i, item in enumerate(items)}
    values = dict(
        name='set', class_names=('a', 'b'), items=items, image_size=4, channels=3,
        licence='free', origin='here', splits={'official': sides},
    )  # fmt: skip
    writing.write(out, Plan(**values | changes), report=lambda line: None)
    return out


def test_a_column_of_a_prepared_set(tmp_path):
    prepared(tmp_path)
    made = Data(path=str(tmp_path), format='prepared', further=('site',))
    column = datasets.load(made).columns['site']
    assert column.names == NAMES
    assert column.texts()[:9].tolist() == [
        '',
        'Face',
        '',
        'Face',
        'grade 10',
        'grade 2',
        '',
        '',
        'back',
    ]
    header = (tmp_path / 'records.csv').read_text('utf-8').splitlines()[0]
    assert header == 'id,label,group,site'


def test_a_prepared_set_without_columns_is_as_it_was(tmp_path):
    items = [Item(f'{i}', i % 2, lambda: np.zeros((4, 4, 3), np.uint8), 'p') for i in range(4)]
    prepared(tmp_path, items=items, splits={})
    assert records.read(tmp_path).columns == {}
    assert (tmp_path / 'records.csv').read_text('utf-8').splitlines()[:2] == [
        'id,label,group',
        '0,a,p',
    ]
    prepared(tmp_path, items=items, splits={})  # the same plan
    with pytest.raises(UserError, match='holds another set or other settings'):
        prepared(
            tmp_path, items=[item._replace(columns={'site': 'x'}) for item in items], splits={}
        )
    with pytest.raises(UserError, match="a further column 'group'"):
        prepared(
            tmp_path, items=[item._replace(columns={'group': 'x'}) for item in items], splits={}
        )


def test_a_method_is_told_of_the_training_images(tmp_path):
    made = tiny.config('cross_entropy', as_npz(tmp_path, site=np.arange(80)))
    made.data.further = ('site',)
    made.data.long_tail.update({'max_count': 20, 'ratio': 10})
    data = datasets.load(made.data)
    column = build.make_task(Settings.of(made), data).columns['site']
    train = data.parts['train']
    assert len(train) < 56
    assert column.codes.tolist() == train.tolist()
    assert len(column.names) == 80


# Identity: a used column counts, an unused one does not.

# Of `tiny.arrays()`, made before there were further columns.
WITHOUT = 'd01cd6c0'


def identity_of(path, *further):
    made = Data(path=str(path), further=further)
    return Identity.of(datasets.load(made), 'split')


def test_an_unused_column_changes_no_digest(tmp_path):
    assert identity_of(as_npz(tmp_path)).digests()['sha256'].startswith(WITHOUT)
    with_site = as_npz(tmp_path, site=np.arange(80) % 3)
    assert identity_of(with_site).digests()['sha256'].startswith(WITHOUT)
    used = identity_of(with_site, 'site').digests()
    assert not used['sha256'].startswith(WITHOUT)
    assert identity.kinds_changed(identity_of(with_site).digests(), used)[0].kind == 'columns'
    assert identity.kinds_changed(used, identity_of(with_site).digests())[0].kind == 'columns'


def test_a_changed_value_of_a_used_column_is_named(tmp_path):
    site = np.array(['back', 'face'])[np.arange(80) % 2]
    before = identity_of(as_npz(tmp_path, site=site), 'site')
    np.savez(tmp_path / identity.FILE, **before.arrays())
    before = Identity.read(tmp_path)
    made = Data(path=str(tmp_path / 'set.npz'), further=('site',))
    assert identity.since(made, before) == []
    site[3] = 'NA'
    as_npz(tmp_path, site=site)
    (change,) = identity.since(made, before)
    assert change == ('columns', "the column 'site' changed: 000003 (face, now )")
    assert change.kind in identity.FORCEABLE
    now = identity_of(tmp_path / 'set.npz', 'site')
    assert now.changes(before) == [change]
    assert now.digests()['columns'] != before.digests()['columns']
    assert identity.since(made.replace(further=()), before)[0].kind == 'columns'


def test_the_order_in_which_columns_are_named_does_not_count(tmp_path):
    path = as_npz(tmp_path, site=np.arange(80) % 3, sex=np.arange(80) % 2)
    one, other = identity_of(path, 'site', 'sex'), identity_of(path, 'sex', 'site')
    assert one.digests() == other.digests()
    assert one.changes(other) == []


def test_the_identity_of_an_older_run_is_read(tmp_path):
    made = identity_of(as_npz(tmp_path))
    old = {name: array for name, array in made.arrays().items() if not name.startswith('column')}
    assert len(old) == len(dataclasses.fields(Identity)) - 2
    np.savez(tmp_path / identity.FILE, **old)
    read = Identity.read(tmp_path)
    assert read.digests() == made.digests()
    assert identity.since(Data(path=str(tmp_path / 'set.npz')), read) == []
