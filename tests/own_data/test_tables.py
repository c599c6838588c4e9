"""Tables as they come: blank lines, ids in place of paths, columns of other names, a column a class."""

import re

import pytest

from ltjax.data import audit
from ltjax.data.audit import __main__ as command
from ltjax.data.settings import Data
from ltjax.errors import UserError
from own_data.sets import by_class, config, load, pictures, refused, save, table, taken


def test_blank_lines_do_not_shift_the_lines_that_are_told(tmp_path):
    paths = pictures(tmp_path, 12)
    lines = ['path,label', *(f'{path},{"ab"[i % 2]}' for i, path in enumerate(paths))]
    lines[5:5] = ['', '', ',']
    path = tmp_path / 'set.csv'
    path.write_text('\n'.join(lines), 'utf-8')
    assert by_class(taken(path)) == {'a': 6, 'b': 6}
    lines[10] = lines[10].split(',')[0]
    path.write_text('\n'.join(lines), 'utf-8')
    assert 'line 11 of' in refused(path)
    lines[10] += ',NA'
    path.write_text('\n'.join(lines), 'utf-8')
    assert 'has no label in line 11' in refused(path)


def test_a_cell_of_several_lines_does_not_shift_them_either(tmp_path):
    paths = pictures(tmp_path, 12)
    lines = ['path,label,note', *(f'{path},{"ab"[i % 2]},x' for i, path in enumerate(paths))]
    lines[3] = lines[3][:-1] + '"one\ntwo\nthree"'
    lines[6] = lines[6].replace(',a,', ',,').replace(',b,', ',,')
    path = tmp_path / 'set.csv'
    path.write_text('\n'.join(lines), 'utf-8')
    assert 'has no label in line 9' in refused(path)


@pytest.mark.parametrize('mark', ';\t')
def test_cells_between_semicolons_or_tabs_and_paths_of_windows(tmp_path, mark):
    """As a spreadsheet in German writes it: a byte order mark, semicolons; and as Windows writes paths."""
    paths = pictures(tmp_path / 'photos', 12)
    lines = [f'path{mark}label{mark}note']
    lines += [f'photos\\{path}{mark}{"ab"[i % 2]}{mark}1,5' for i, path in enumerate(paths)]
    (tmp_path / 'set.csv').write_text('\n'.join(lines), 'utf-8-sig')
    assert by_class(taken(tmp_path / 'set.csv')) == {'a': 6, 'b': 6}


@pytest.mark.parametrize(
    'before', ['C:\\photos\\2019\\', '\\\\server\\photos\\2019\\', '/home/a/2019/']
)
def test_whole_paths_of_another_machine(tmp_path, before):
    names = [path.partition('/')[2] for path in pictures(tmp_path / 'here', 12)]
    (tmp_path / 'here' / 'images').rename(tmp_path / 'here' / '2019')
    rows = [[f'{before}{name}', 'ab'[i % 2]] for i, name in enumerate(names)]
    save(tmp_path / 'here' / 'more.png', 12)
    path = table(tmp_path / 'set.csv', ['path', 'label'], [*rows, ['more.png', 'a']])
    for folder in ('here', tmp_path / 'here'):
        assert by_class(taken(path, images=str(folder))) == {'a': 7, 'b': 6}
    assert 'say which folder it is here, --config.data.images=FOLDER' in refused(path)


def test_a_table_whose_labels_are_called_otherwise(tmp_path):
    rows = [[path, 'ab'[i % 2]] for i, path in enumerate(pictures(tmp_path, 12))]
    path = table(tmp_path / 'set.csv', ['path', 'diagnosis'], rows)
    assert 'if one of diagnosis holds the classes, say --config.data.columns.label=NAME' in (
        refused(path)
    )
    with pytest.raises(UserError, match='no column `diagnosys`, did you mean diagnosis'):
        load(path, columns__label='diagnosys')


WRITTEN = ['MEL', 'Melanoma', 'mel.', 'NV', 'naevus', 'NV']


def spelled(root, *rows, header='spelling,class'):
    (root / 'spellings.csv').write_text('\n'.join([header, *rows]), 'utf-8')
    return str(root / 'spellings.csv')


def test_a_table_of_spellings(tmp_path):
    rows = [[path, WRITTEN[i % 6]] for i, path in enumerate(pictures(tmp_path, 36))]
    path = table(tmp_path / 'set.csv', ['path', 'label'], rows)
    given = spelled(tmp_path, 'Melanoma,MEL', ' mel. ,MEL', 'naevus,NV', 'nevus,NV')
    assert by_class(taken(path, spellings=given)) == {'MEL': 18, 'NV': 18}
    notes = ' '.join(audit.examine(path, Data.of(config(path, spellings=given))).notes)
    assert 'spellings that do not occur: nevus' in notes


def test_spellings_of_class_folders(tmp_path):
    for i, path in enumerate(pictures(tmp_path / 'flat', 36)):
        folder = tmp_path / 'set' / WRITTEN[i % 6]
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / 'flat' / path).rename(folder / f'{i}.png')
    given = spelled(tmp_path, 'Melanoma,MEL', 'mel.,MEL', 'naevus,NV')
    assert by_class(taken(tmp_path / 'set', spellings=given)) == {'MEL': 18, 'NV': 18}


@pytest.mark.parametrize(
    ('rows', 'header', 'message'),
    [
        (
            ['a,MEL', 'a,NV'],
            'spelling,class',
            "line 3 of .* gives 'a' the class 'NV', and an earlier one 'MEL'",
        ),
        (['a,'], 'spelling,class', 'line 2 of .* has no spelling or no class'),
        (['a,MEL'], 'from,to', 'has the columns from, to: it needs spelling and class'),
    ],
)
def test_a_wrong_table_of_spellings_is_refused(tmp_path, rows, header, message):
    path = table(
        tmp_path / 'set.csv', ['path', 'label'], [[p, 'x'] for p in pictures(tmp_path, 12)]
    )
    assert re.search(message, refused(path, spellings=spelled(tmp_path, *rows, header=header)))
    assert 'is no file' in refused(path, spellings=str(tmp_path / 'absent.csv'))


def isic(root, classes=('MEL', 'NV', 'BCC'), count=24, **changes):
    """The ground truth of an ISIC challenge: ids without suffix, a column a class."""
    rows = []
    for i in range(count):
        save(root / 'Input' / f'ISIC_{i:04d}.jpg', i)
        marks = ['1.0' if i % len(classes) == k else '0.0' for k in range(len(classes))]
        rows.append([f'ISIC_{i:04d}', *changes.get(f'row{i}', marks)])
    return table(root / 'truth.csv', ['image', *classes], rows)


ISIC = {'columns__path': 'image', 'images': 'Input', 'suffix': '.jpg'}


@pytest.mark.parametrize('label', ['one_hot', 'MEL,NV,BCC'])
def test_a_column_a_class_is_read(tmp_path, label):
    data = taken(isic(tmp_path), columns__label=label, **ISIC)
    assert data.class_names == ('MEL', 'NV', 'BCC')  # as the columns stand
    assert data.labels.tolist() == [i % 3 for i in range(24)]
    assert data.ids[0] == 'ISIC_0000'


def test_the_remedy_is_said_step_by_step(tmp_path):
    path = isic(tmp_path)
    assert '--config.data.columns.path=NAME' in refused(path)
    said = refused(path, **ISIC)
    assert '--config.data.columns.label=one_hot' in said


def test_a_row_that_marks_two_classes_or_none_is_refused(tmp_path):
    two = isic(tmp_path, row5=['1.0', '1.0', '0.0'])
    said = refused(two, columns__label='one_hot', **ISIC)
    assert 'line 7 of' in said
    assert 'marks several of MEL, NV, BCC' in said
    none = isic(tmp_path, row5=['0', '0', '0'])
    assert 'has no label in line 7' in refused(none, columns__label='one_hot', **ISIC)
    data = taken(none, columns__label='one_hot', on_unlabelled='exclude', **ISIC)
    assert [each.path for each in data.excluded] == ['ISIC_0005']


def test_other_names_of_columns_are_read(tmp_path):
    for i in range(80):
        save(tmp_path / 'train_images' / f'{i:x}abc.png', i)
    rows = [[f'{i:x}abc', str(i % 5), f'p{i // 2}'] for i in range(80)]
    path = table(tmp_path / 'train.csv', ['id_code', 'diagnosis', 'patient'], rows)
    settings = {'images': 'train_images', 'suffix': '.png', 'columns__path': 'id_code'}
    settings |= {'columns__label': 'diagnosis', 'columns__group': 'patient'}
    data = taken(path, **settings)
    assert data.class_names == ('0', '1', '2', '3', '4')
    assert data.table.ordered
    sides = [{i // 2 for i in part.tolist()} for part in data.parts.values()]
    assert sum(map(len, sides)) == 40
    assert 'has no column `patients`' in refused(path, **settings | {'columns__group': 'patients'})


def test_the_audit_reads_them_by_the_same_names(tmp_path, capsys):
    path = isic(tmp_path)
    flags = ['--columns', 'path=image', '--columns', 'label=one_hot', '--images-in', 'Input']
    target = tmp_path / 'split.csv'
    assert command.main([str(path), *flags, '--suffix', '.jpg', '--write-split', str(target)]) == 0
    assert 'MEL' in capsys.readouterr().out
    data = load(target)  # under the usual names
    assert data.class_names == ('BCC', 'MEL', 'NV')
    assert data.ids[0] == 'Input/ISIC_0000.jpg'
    with pytest.raises(UserError, match="unknown column 'file=image'"):
        command.main([str(path), '--columns', 'file=image'])


def test_a_table_of_other_numbers_has_no_classes_in_columns(tmp_path):
    rows = [
        [path, '1', '0'] if i % 2 else [path, '1', '1']
        for i, path in enumerate(pictures(tmp_path, 8))
    ]
    path = table(tmp_path / 'set.csv', ['path', 'smoker', 'sex'], rows)
    assert 'if one of smoker, sex holds the classes' in refused(path)
    assert audit.examine(path).counts == {}


def lines_of(root, count=20):
    return [f'{path},{"ab"[i % 2]},note {i}' for i, path in enumerate(pictures(root, count))]


@pytest.mark.parametrize(
    ('at', 'message'),
    [
        ({7: '"5mm lesion'}, 'from line 9: unexpected end of data'),
        ({7: '"5mm', 12: 'found"'}, 'a quoted cell that begins in line 9 of'),
        ({7: '"a"b'}, 'from line 9: '),
    ],
)
def test_a_quote_that_does_not_end_is_refused(tmp_path, at, message):
    lines = lines_of(tmp_path)
    for row, note in at.items():
        lines[row] = lines[row].rsplit(',', 1)[0] + ',' + note
    path = tmp_path / 'set.csv'
    path.write_text('\n'.join(['path,label,note', *lines]), 'utf-8')
    assert message in refused(path)


def test_a_label_of_several_lines_is_refused(tmp_path):
    lines = lines_of(tmp_path)
    lines[3] = lines[3].replace(',b,', ',"b\nc",')
    path = tmp_path / 'set.csv'
    path.write_text('\n'.join(['path,label,note', *lines]), 'utf-8')
    assert 'a quoted cell that begins in line 5 of' in refused(path)


def test_columns_that_are_not_used_are_said(tmp_path):
    rows = [[path, 'ab'[i % 2], f'p{i // 2}'] for i, path in enumerate(pictures(tmp_path, 20))]
    data = taken(table(tmp_path / 'set.csv', ['path', 'label', 'patient_id'], rows))
    assert 'columns that are not used: patient_id' in data.table.notes


@pytest.mark.parametrize('cell', ['', '0.5', 'x'])
def test_one_strange_cell_makes_no_column_vanish(tmp_path, cell):
    path = isic(tmp_path, row7=['0.0', cell, '0.0'])
    said = refused(path, columns__label='one_hot', **ISIC)
    assert 'line 9 of' in said
    assert 'holds what is neither 0 nor 1' in said


def test_marks_may_be_words(tmp_path):
    rows = {f'row{i}': ['True' if i % 3 == k else 'FALSE' for k in range(3)] for i in range(24)}
    data = taken(isic(tmp_path, **rows), columns__label='one_hot', **ISIC)
    assert data.labels.tolist() == [i % 3 for i in range(24)]
