"""Groups and splits that a table or an archive brings: missing ones, folds of any numbers, leaks."""

import numpy as np
import pytest

from ltjax.data import audit, datasets, reading, summary
from ltjax.data.prepared import writing
from ltjax.errors import UserError
from own_data.sets import config, pictures, pixels, refused, save, table, taken


def rows(root, count, **columns):
    """A CSV of `count` pictures of the classes a and b, with columns of functions of their numbers."""
    paths = pictures(root, count)
    cells = [
        [paths[i], 'ab'[i % 2], *(str(of(i)) for of in columns.values())] for i in range(count)
    ]
    return table(root / 'set.csv', ['path', 'label', *columns], cells)


@pytest.mark.parametrize('missing', ['', 'NA', 'nan', '-'])
def test_an_image_without_a_group_is_its_own(tmp_path, missing):
    path = rows(tmp_path, 96, group=lambda i: missing if i % 12 < 5 else f'p{i // 4}')
    data = taken(path)
    without = np.array([i % 12 < 5 for i in range(96)])
    assert 0.05 < np.mean(np.isin(np.flatnonzero(without), data.parts['test'])) < 0.4
    assert 0.1 < len(data.parts['test']) / 96 < 0.3
    said = summary.describe(data, {})
    assert said['groups']['without'] == without.sum()
    assert f'{without.sum()} images without one are each their own' in summary.text(said)
    notes = ' '.join(audit.examine(path).notes)
    assert f'images without a group, which are each their own: {without.sum()}' in notes
    split = audit.examine(path).suggestion
    assert 0.1 < sum(side == 'test' for side in split.sides.values()) / 96 < 0.3


def test_missing_groups_of_an_npz_and_of_a_prepared_set_too(tmp_path):
    images = np.stack([pixels(i) for i in range(60)])
    groups = np.where(np.arange(60) % 3 == 0, np.nan, np.arange(60) // 6)
    np.savez(tmp_path / 'a.npz', images=images, labels=np.arange(60) % 2, group=groups)
    data = taken(tmp_path / 'a.npz')
    assert summary.describe(data, {})['groups'] == {'number': 10, 'without': 20}
    items = [
        writing.Item(f'{i}', i % 2, lambda i=i: pixels(i), 'NA' if i % 3 == 0 else f'p{i // 6}')
        for i in range(60)
    ]
    plan = writing.Plan('set', ('a', 'b'), items, 8, 3, '', '', {})
    writing.write(tmp_path / 'prepared', plan, report=lambda line: None)
    data = taken(tmp_path / 'prepared')
    assert summary.describe(data, {})['groups'] == {'number': 10, 'without': 20}


def test_spellings_of_one_group_are_one(tmp_path):
    path = rows(tmp_path, 60, group=lambda i: (f'{i // 4}.0', f'{i // 4} ')[i % 2])
    data = taken(path)
    assert summary.describe(data, {})['groups'] == {'number': 15, 'without': 0}


@pytest.mark.parametrize('name', ['hashes', 'long', 'exponents', 'missing'])
def test_numbers_that_are_names_of_patients(tmp_path, name):
    """Hashes below 0 are patients, numbers that differ in the 18th digit differ, 0e12 and 0e34 are not both zero."""
    patients = {
        'hashes': [f'{(-1) ** k * (5481230 + 7919 * k)}' for k in range(30)],
        'long': [f'1101011990030710{k:02d}' for k in range(30)],
        'exponents': [f'0e{k + 100}' for k in range(30)],
        'missing': ['-1'] * 15 + [str(k) for k in range(15)],
    }[name]
    data = taken(rows(tmp_path, 90, group=lambda i: patients[i // 3]))
    without = 45 if name == 'missing' else 0
    number = 15 if name == 'missing' else 30
    assert summary.describe(data, {})['groups'] == {'number': number, 'without': without}
    side = np.empty(90, object)
    for part, images in data.parts.items():
        side[images] = part
    if not without:
        assert all(len(set(side[3 * k : 3 * k + 3])) == 1 for k in range(30))


def test_a_patient_with_most_of_the_images_is_trained_on(tmp_path):
    data = taken(rows(tmp_path, 120, group=lambda i: 'many' if i % 3 else f'p{i // 9}'))
    sizes = {part: len(images) for part, images in data.parts.items()}
    assert sizes['train'] >= 80
    assert 0 < sizes['val'] <= 24 >= sizes['test'] > 0


@pytest.mark.parametrize('drawn', ['split', 'folds'])
def test_missing_groups_do_not_make_one_fold(tmp_path, drawn):
    path = rows(tmp_path, 60, group=lambda i: 'NULL' if i % 2 else f'p{i // 4}')
    settings = {'split__folds': 3} if drawn == 'folds' else {}
    data = taken(path, **settings)
    assert len(data.parts['test']) in range(9, 25)


FOLDS = {
    'from 1': lambda i: 1 + i % 5,
    'floats': lambda i: float(1 + i % 5),
    'any': lambda i: (3, 7, 20)[i % 3],
    'from 0': lambda i: i % 4,
}


@pytest.mark.parametrize('name', FOLDS)
def test_folds_may_be_any_whole_numbers(tmp_path, name):
    of = FOLDS[name]
    path = rows(tmp_path, 60, split=of)
    numbers = sorted({int(of(i)) for i in range(60)})
    assert datasets.folds(config(path)) == tuple(numbers)
    for number in numbers:
        data = taken(path, split__fold=number)
        assert data.parts['test'].tolist() == [i for i in range(60) if int(of(i)) == number]
        assert data.arrangement.folds == tuple(numbers)


def test_a_fold_that_is_not_there_is_refused(tmp_path):
    path = rows(tmp_path, 60, split=lambda i: 1 + i % 5)
    assert 'fold 0 of 5: data.split.fold is one of 1, 2, 3, 4, 5' in refused(path)
    assert 'fold 6 of 5' in refused(path, split__fold=6)


@pytest.mark.parametrize(
    ('of', 'message'),
    [
        (lambda i: -1 if i == 7 else i % 3, 'has the fold -1: folds are whole numbers from 0'),
        (lambda i: 'train' if i == 7 else i % 3, "unknown split '0'"),
        (lambda i: '' if i == 7 else ('train', 'test')[i % 2], 'has no split in line 9 (1 of 60'),
        (lambda i: 'nan' if i == 7 else i % 3, 'has no split in line 9 (1 of 60'),
        (lambda i: ('train', 'holdout')[i % 2], "unknown split 'holdout' of"),
    ],
)
def test_a_wrong_split_says_what_was_found_and_expected(tmp_path, of, message):
    assert message in refused(rows(tmp_path, 60, split=of))


def test_a_table_may_say_training_and_testing(tmp_path):
    path = rows(tmp_path, 60, split=lambda i: ('Training', 'TRAIN', 'Testing')[i % 3])
    data = taken(path)
    assert len(data.parts['test']) == 20
    assert len(data.parts['val']) == 4  # a tenth of the training images
    assert 'Training is read as train' in data.table.notes


@pytest.mark.parametrize('kind', ['csv', 'npz', 'folds'])
def test_a_group_on_two_sides_is_refused(tmp_path, kind):
    def side(i):
        return i % 3 if kind == 'folds' else ('train', 'val', 'test')[i // 20]

    def group(i):
        return 'both' if i in (0, 50) else f'p{i}'

    if kind == 'npz':
        path = tmp_path / 'a.npz'
        arrays = {'images': np.stack([pixels(i) for i in range(60)]), 'labels': np.arange(60) % 2}
        np.savez(
            path, split=[side(i) for i in range(60)], group=[group(i) for i in range(60)], **arrays
        )
    else:
        path = rows(tmp_path, 60, split=side, group=group)
    said = refused(path)
    assert '1 groups lie on two sides of the split' in said
    if kind == 'csv':  # also where an image before it is left out
        (tmp_path / 'images' / '3.png').write_bytes(b'')
        said = refused(path, on_damaged='exclude')
        assert 'as images/0.png (train) and images/50.png (test)' in said
        save(tmp_path / 'images' / '3.png', 3)
    assert taken(path, split__allow_leaks=True).arrangement.leaks == {'groups': 1}
    drawn = taken(path, split__protocol='none')
    assert drawn.arrangement.leaks == {}
    on = [name for name, part in drawn.parts.items() if {0, 50} & set(part.tolist())]
    assert len(on) == 1


def test_a_published_protocol_that_leaks_is_taken_and_said(tmp_path):
    items = [writing.Item(f'{i}', i % 2, lambda i=i: pixels(i), f'p{i // 3}') for i in range(60)]
    leaking = {item.id: ('train', 'val', 'test')[i % 3] for i, item in enumerate(items)}
    plan = writing.Plan('set', ('a', 'b'), items, 8, 3, '', '', {'published': leaking})
    writing.write(tmp_path, plan, report=lambda line: None)
    data = taken(tmp_path)
    assert data.arrangement.leaks == {'groups': 20}
    assert 'NOTE: 20 groups lie on two sides' in summary.text(summary.describe(data, {}))


def forms(names):
    """Groups as they come in npz files; -1 is pandas' number of a missing one."""
    numbers = np.array([-1 if name == '' else int(name[1:]) for name in names])
    return {
        'bytes': np.array([name.encode() for name in names]),
        'column': np.array(names)[:, None],
        'numbers': numbers,
        'column of numbers': numbers[:, None],
        'floats': np.where(numbers < 0, np.nan, numbers),
    }


@pytest.mark.parametrize('form', ['bytes', 'column', 'numbers', 'column of numbers', 'floats'])
def test_groups_of_an_npz_may_have_any_form(tmp_path, form):
    names = ['' if i % 12 < 5 else f'p{i // 4}' for i in range(96)]
    arrays = {'images': np.stack([pixels(i) for i in range(96)]), 'labels': np.arange(96) % 2}
    np.savez(tmp_path / 'a.npz', group=forms(names)[form], **arrays)
    data = taken(tmp_path / 'a.npz')
    assert summary.describe(data, {})['groups'] == {'number': len(set(names)) - 1, 'without': 40}
    side = {row: name for name, part in data.parts.items() for row in part.tolist()}
    for name in set(names) - {''}:
        assert len({side[row] for row, each in enumerate(names) if each == name}) == 1
    assert 0.1 < len(data.parts['test']) / 96 < 0.3


def test_arrays_of_an_npz_may_be_bytes_and_columns(tmp_path):
    arrays = {'images': np.stack([pixels(i) for i in range(30)]), 'labels': np.arange(30) % 2}
    split = np.array(['train', 'val', 'test'])[np.arange(30) // 2 % 3]
    np.savez(
        tmp_path / 'a.npz', class_names=np.array([b'mel', b'nv'])[:, None],
        split=split.astype(bytes)[:, None], ids=np.arange(30)[:, None], **arrays,
    )  # fmt: skip
    data = taken(tmp_path / 'a.npz')
    assert data.class_names == ('mel', 'nv')
    assert data.ids[:2].tolist() == ['0', '1']
    assert data.parts['test'].tolist() == np.flatnonzero(split == 'test').tolist()
    for name, value in {'group': np.zeros((30, 2)), 'ids': np.array('x')}.items():
        np.savez(tmp_path / 'a.npz', **arrays | {name: value})
        assert f'`{name}` of' in refused(tmp_path / 'a.npz')
    np.savez(tmp_path / 'a.npz', **arrays | {'labels': arrays['labels'] + 30_000_000})
    assert 'give class_names too' in refused(tmp_path / 'a.npz')


def test_groups_that_look_alike_are_one(tmp_path):
    names = ('P1', 'p1', 'p_1 ', 'P-1')
    path = rows(tmp_path, 80, group=lambda i: names[i // 20] if i % 20 == 0 else f'x{i // 2}')
    data = taken(path)
    side = {row: name for name, part in data.parts.items() for row in part.tolist()}
    assert side[0] == side[20]
    assert side[40] == side[60]
    assert "'P1', 'p1' are one group, P1" in ' '.join(data.table.notes)


def prepared_set(root, numbers, splits):
    items = [
        writing.Item(f'{i:02d}', i % 2, lambda n=n: pixels(n), '') for i, n in enumerate(numbers)
    ]
    plan = writing.Plan('set', ('a', 'b'), items, 8, 3, '', '', splits)
    writing.write(root, plan, report=lambda line: None)
    return root


def test_equal_images_of_prepared_sets_are_kept_together_or_said(tmp_path, monkeypatch):
    numbers = [i % 30 if i < 60 else i for i in range(90)]
    path = prepared_set(tmp_path / 'drawn', numbers, {})
    data = taken(path)
    side = {row: name for name, part in data.parts.items() for row in part.tolist()}
    assert all(side[i] == side[i + 30] for i in range(30))
    sides = {f'{i:02d}': ('train', 'test', 'val')[i // 30] for i in range(90)}
    data = taken(prepared_set(tmp_path / 'published', numbers, {'one': sides}))
    assert data.arrangement.leaks == {'sets of equal images': 30}
    monkeypatch.setattr(reading, 'IN_MEMORY_BYTES', 0)
    told = summary.text(summary.describe(datasets.load(config(path)), {}))
    assert 'equal images were not looked for' in told


def test_every_fold_is_looked_at_before_the_first_is_trained(tmp_path):
    paths = pictures(tmp_path, 31)
    labels = ['ab'[i % 2] for i in range(30)] + ['rare']
    path = table(tmp_path / 'set.csv', ['path', 'label'], zip(paths, labels, strict=True))
    with pytest.raises(UserError, match="class 'rare' of .* has no training image"):
        datasets.folds(config(path, split__folds=3))


def test_rows_that_are_left_out_need_no_side(tmp_path):
    path = rows(
        tmp_path, 60, split=lambda i: '' if i == 7 else ('train', 'val', 'test')[i // 2 % 3]
    )
    text = path.read_text('utf-8')
    path.write_text(text.replace('images/7.png,b', 'images/7.png,NA'), 'utf-8')
    assert 'has no label' in refused(path)
    assert len(taken(path, on_unlabelled='exclude').ids) == 59
