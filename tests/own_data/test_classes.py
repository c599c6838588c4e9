"""Classes: their order, numbers, missing values, Unicode, spelling."""

import unicodedata

import numpy as np
import pytest

from ltjax.data import summary
from ltjax.data.settings import Data
from ltjax.errors import UserError
from ltjax.evaluation.groups import by_name
from ltjax.run import train
from ltjax.run.settings import Network, Settings
from own_data.sets import by_class, config, folder, load, pictures, refused, table, taken

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, 'kératose') for form in ('NFC', 'NFD'))


def labelled(root, labels):
    """A CSV of that many pictures."""
    rows = zip(pictures(root, len(labels)), labels, strict=True)
    return table(root / 'set.csv', ['path', 'label'], rows)


@pytest.mark.parametrize('layout', ['folder', 'csv'])
def test_numbers_are_ordered_by_value(tmp_path, layout):
    names = [str(k) for k in range(12)]
    if layout == 'folder':
        data = taken(folder(tmp_path, dict.fromkeys(names, 4)))
    else:
        data = taken(labelled(tmp_path, names * 4))
    assert data.class_names == tuple(names)
    assert data.table.ordered
    assert summary.describe(data, {})['class_order']['from'] == 'in the order of their numbers'


@pytest.mark.parametrize(
    ('names', 'order'),
    [
        (['stage 10', 'stage 9', 'stage 1'], ('stage 1', 'stage 9', 'stage 10')),
        (['-1', '0.5', '10', '2'], ('-1', '0.5', '2', '10')),
        (['T2', 'T10', 'N1'], ('N1', 'T2', 'T10')),
    ],
)
def test_numbers_in_names_count_by_value(tmp_path, names, order):
    assert taken(labelled(tmp_path, names * 4)).class_names == order


def test_groups_of_classes_are_named_as_the_classes_are():
    names = tuple(str(k) for k in range(1, 13))
    assert by_name({'tail': (2, 3), 'head': ()}, names) == {'tail': [1, 2]}
    assert by_name({'tail': ('mel', 2)}, ('nv', 'mel', 'bkl')) == {'tail': [1, 2]}
    with pytest.raises(UserError, match="unknown class '0'"):
        by_name({'tail': (0,)}, names)
    with pytest.raises(UserError, match="unknown class 'mle': did you mean mel"):
        by_name({'tail': ('mle',)}, ('nv', 'mel'))


def test_the_order_of_grades_can_be_given(tmp_path):
    names = ['mild', 'moderate', 'no-dr', 'proliferative', 'severe']
    root = folder(tmp_path, dict.fromkeys(names, 6))
    data = taken(root)
    assert data.class_names == tuple(names)
    assert not data.table.ordered
    assert 'not taken as a scale' in summary.text(summary.describe(data, {}))
    order = 'no-dr,mild,moderate,severe,proliferative'
    data = taken(root, class_order=order)
    assert data.class_names == tuple(order.split(','))
    assert data.table.ordered
    for label, id_ in zip(data.labels.tolist(), data.ids.tolist(), strict=True):
        assert data.class_names[label] == id_.split('/')[0]
    assert taken(root, class_order='natural').table.ordered


@pytest.mark.parametrize(
    ('order', 'message'),
    [
        ('a,b', 'leaves out: c'),
        ('a,b,c,d', 'names what is no class: d'),
        ('a,b,b', 'names a class twice'),
        ('["a", ', 'write the classes with commas, or as a JSON list'),
    ],
)
def test_a_wrong_order_is_refused(tmp_path, order, message):
    path = labelled(tmp_path, ['a', 'b', 'c'] * 4)
    with pytest.raises(UserError, match=message):
        load(path, class_order=order)
    assert load(path, class_order='["c", "b", "a"]').class_names == ('c', 'b', 'a')


def test_an_npz_keeps_its_order_unless_another_is_given(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 6, 6), np.uint8)
    labels = np.arange(30) % 3
    np.savez(tmp_path / 'a.npz', images=images, labels=labels, class_names=['nv', 'mel', 'bcc'])
    data = taken(tmp_path / 'a.npz')
    assert data.class_names == ('nv', 'mel', 'bcc')
    assert data.labels.tolist() == labels.tolist()
    other = taken(tmp_path / 'a.npz', class_order='bcc,mel,nv')
    assert other.labels.tolist() == [(2, 1, 0)[k] for k in labels]
    assert other.class_names == ('bcc', 'mel', 'nv')
    assert taken(tmp_path / 'a.npz', class_order='natural').class_names == ('bcc', 'mel', 'nv')


MISSING = ['NA', 'nan', 'NULL', '-', '?', '', ' ', 'N/A', 'None', '#N/A', '<NA>']


@pytest.mark.parametrize('value', MISSING)
def test_a_missing_label_is_refused_or_left_out(tmp_path, value):
    path = labelled(tmp_path, ['a', 'b'] * 6 + [value, value])
    said = refused(path)
    assert 'has no label in line 14, line 15' in said
    assert '2 of 14 images' in said
    assert '--config.data.on_unlabelled=exclude' in said
    data = taken(path, on_unlabelled='exclude')
    assert by_class(data) == {'a': 6, 'b': 6}
    assert [(each.path, each.kind) for each in data.excluded] == [
        ('images/12.png', 'unlabelled'), ('images/13.png', 'unlabelled'),
    ]  # fmt: skip
    assert summary.describe(data, {})['excluded'] == {'unlabelled': 2}


def test_a_folder_or_a_class_name_that_reads_as_missing_is_refused(tmp_path):
    root = folder(tmp_path / 'set', {'a': 5, 'b': 5, 'NA': 5})
    assert 'NA' in refused(root)
    assert by_class(taken(root, class_order='a,b,NA')) == {'a': 5, 'b': 5, 'NA': 5}
    images = np.random.default_rng(0).integers(0, 256, (12, 6, 6), np.uint8)
    names = np.array(['a', 'nan'])
    np.savez(tmp_path / 'a.npz', images=images, labels=np.arange(12) % 2, class_names=names)
    assert "the class 'nan', which reads as a missing value" in refused(tmp_path / 'a.npz')


def test_1_and_1_0_are_one_class(tmp_path):
    data = taken(labelled(tmp_path, ['1', '2', '1.0', '2.0'] * 4))
    assert by_class(data) == {'1': 8, '2': 8}
    assert "'1', '1.0' are one class, 1" in ' '.join(data.table.notes)


@pytest.mark.parametrize(
    ('one', 'other'), [('Mel', 'mel'), ('basal cell', 'basal_cell'), ('01', '1')]
)
def test_spellings_of_one_class_are_refused(tmp_path, one, other):
    path = labelled(tmp_path, [one, other, 'nv'] * 4)
    assert 'make them one' in refused(path)
    assert len(taken(path, class_order=f'{one},{other},nv').class_names) == 3


@pytest.mark.parametrize('layout', ['folder', 'csv'])
def test_two_forms_of_unicode_are_one_class(tmp_path, layout):
    if layout == 'folder':
        data = taken(folder(tmp_path, {COMPOSED: 6, DECOMPOSED: 6, 'nv': 6}))
        assert sorted({id_.split('/')[0] for id_ in data.ids.tolist()}) == sorted(
            ['nv', COMPOSED, DECOMPOSED]
        )
    else:
        data = taken(labelled(tmp_path, [COMPOSED, DECOMPOSED, 'nv'] * 6))
    assert by_class(data) == {COMPOSED: 12, 'nv': 6}
    assert f'are one class, {COMPOSED}' in ' '.join(data.table.notes)


@pytest.mark.parametrize('on_disk', [COMPOSED, DECOMPOSED])
def test_a_table_finds_files_in_either_form_and_keeps_its_ids(tmp_path, on_disk):
    other = DECOMPOSED if on_disk == COMPOSED else COMPOSED
    folder(tmp_path, {on_disk: 6, 'nv': 6})
    ids = [f'{other}/{i}.png' for i in range(6)] + [f'nv/{i}.png' for i in range(6)]
    labels = [id_.split('/')[0] for id_ in ids]
    data = taken(table(tmp_path / 'set.csv', ['path', 'label'], zip(ids, labels, strict=True)))
    assert data.ids.tolist() == ids
    assert by_class(data) == {COMPOSED: 6, 'nv': 6}


def test_one_file_in_two_forms_of_unicode_is_listed_twice(tmp_path):
    folder(tmp_path, {COMPOSED: 6, 'nv': 6})
    rows = [(f'{COMPOSED}/{i}.png', 'k') for i in range(6)] + [(f'{DECOMPOSED}/0.png', 'k')]
    rows += [(f'nv/{i}.png', 'nv') for i in range(6)]
    assert 'more than once' in refused(table(tmp_path / 'set.csv', ['path', 'label'], rows))


def test_class_groups_reach_the_run(tmp_path):
    data = taken(labelled(tmp_path, [str(k) for k in range(1, 13)] * 4))
    made = config(tmp_path / 'set.csv')
    made.groups = {'head': (1, 4, 5, 6, 7, 8, 9), 'medium': (10, 11, 12), 'tail': (2, 3)}
    settings = Settings({}, Network('small_cnn'), Data.of(made))
    assert train.class_groups(settings, data)['tail'] == (1, 2)


def test_numbers_that_are_declared_out_of_order_are_no_scale(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (48, 6, 6), np.uint8)
    for names, scale in ((['0', '1', '10', '2'], False), (['0', '1', '2', '10'], True)):
        np.savez(tmp_path / 'a.npz', images=images, labels=np.arange(48) % 4, class_names=names)
        data = taken(tmp_path / 'a.npz')
        assert data.class_names == tuple(names)
        assert data.table.ordered == scale


@pytest.mark.parametrize(
    ('one', 'other'),
    [
        ('0.5', '0.50'),
        ('1', '1e0'),
        ('mel', 'mel\u200b'),
        ('T-cell', 'T\u2011cell'),
        ('A1', '\uff211'),
    ],
)
def test_names_that_look_alike_are_refused(tmp_path, one, other):
    assert 'make them one' in refused(labelled(tmp_path, [one, other, 'nv'] * 4))


@pytest.mark.parametrize('value', ['\u2014', '#REF!', 'NONE'])
def test_what_people_and_spreadsheets_write_for_nothing_is_missing(tmp_path, value):
    assert 'has no label in line 14' in refused(labelled(tmp_path, ['a', 'b'] * 6 + [value]))


def test_equal_images_of_several_labels_are_said(tmp_path):
    root = folder(tmp_path, {'a': 10, 'b': 10})
    for i in range(3):
        (root / 'b' / f'copy{i}.png').write_bytes((root / 'a' / f'{i}.png').read_bytes())
    told = summary.describe(taken(root), {})
    assert 'NOTE: 3 sets of equal images have several labels' in summary.text(told)
    assert summary.warnings(told)[0].startswith('3 sets of equal images have several labels')
