"""Files of predictions of anybody: what is read of them, and what is refused in one line that says what to do."""

import contextlib
import pathlib
import pickle
import unicodedata

import numpy as np
import pytest

from ltjax.errors import UserError
from ltjax.evaluation.prediction_files import Naming, read

COMPOSED, TAKEN_APART = (unicodedata.normalize(form, 'naïve é') for form in ('NFC', 'NFD'))
ARRAYS = {
    'labels': np.array([0, 1, 0]),
    'logits': np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]),
    'class_names': np.array(['mel', 'nv']),
}


def npz(folder, **changes):
    """Writes ARRAYS with changes; None leaves one out."""
    arrays = {name: array for name, array in (ARRAYS | changes).items() if array is not None}
    np.savez(folder / 'a.npz', **arrays)
    return folder / 'a.npz'


def table(folder, text, encoding='utf-8'):
    (folder / 'a.csv').write_bytes(text.encode(encoding))
    return folder / 'a.csv'


def refused(path, naming=None):
    with pytest.raises(UserError) as error:
        read(path, *([naming] if naming else []))
    said = str(error.value)
    assert '\n' not in said
    assert path.name in said
    return said


@pytest.mark.parametrize(
    'changes',
    [{'ids': np.array(['x', 'y\nz', 'w'])}, {'class_names': np.array(['mel', 'n\rv'])}],
)
def test_a_name_with_a_line_break_is_refused_in_one_line(tmp_path, changes):
    assert 'line break' in refused(npz(tmp_path, **changes))


def test_an_npz_with_all_it_may_have(tmp_path):
    found = read(
        npz(
            tmp_path,
            ids=np.array(['x', 'y', 'z']),
            groups=np.array(['p', '', 'p']),
            site=np.array(['back', 'face', '']),
            age=np.array([30, 40, 50]),
            prediction=np.array([0, 1, 1]),
            boxes=np.zeros((3, 4)),
            features=np.zeros((3, 9)),
            data_sha256=np.array('0' * 64),
        )
    )
    assert found.ids.tolist() == ['x', 'y', 'z']
    assert found.labels.dtype == np.int64
    assert found.class_names == ('mel', 'nv')
    assert found.groups.tolist() == ['p', '', 'p']
    assert {name: column.tolist() for name, column in found.columns.items()} == {
        'site': ['back', 'face', ''], 'age': ['30', '40', '50'],
    }  # fmt: skip
    assert not found.numbered
    np.testing.assert_allclose(
        found.scores.matrix()[0], [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))]
    )


def test_an_npz_with_as_little_as_it_may_have(tmp_path):
    found = read(npz(tmp_path))
    assert found.ids.tolist() == ['0', '1', '2']
    assert found.numbered
    assert found.groups is None
    assert not found.columns


@pytest.mark.parametrize('dtype', [np.float16, np.float64, np.int8, np.uint64])
def test_numbers_of_any_kind(tmp_path, dtype):
    path = npz(
        tmp_path, logits=ARRAYS['logits'].astype(dtype), labels=np.array([0, 1, 0], np.uint8)
    )
    assert read(path).scores.predictions.tolist() == [0, 1, 1]


def test_half_precision_probabilities_of_many_classes_sum_to_one(tmp_path):
    probabilities = np.full((2, 3000), 1 / 3000, np.float16)
    names = np.arange(3000)
    path = npz(
        tmp_path, logits=None, probabilities=probabilities, class_names=names, labels=np.arange(2)
    )
    assert read(path).class_names[2999] == '2999'


def test_bytes_are_utf8(tmp_path):
    names = np.array([COMPOSED.encode(), b'nv'])
    assert read(npz(tmp_path, class_names=names)).class_names == (COMPOSED, 'nv')
    latin = np.array(['é'.encode('latin-1'), b'nv'])
    assert 'class_names are bytes that are not UTF-8' in refused(npz(tmp_path, class_names=latin))


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'labels': None}, "has no array 'labels', but logits, class_names: add it"),
        ({'class_names': None}, "has no array 'class_names'"),
        ({'logits': None}, 'should have an array of logits or one of probabilities'),
        ({'probabilities': np.eye(3, 2)}, 'should have an array of logits or one of'),
        ({'labels': np.array([0.0, 1.0, np.nan])}, 'labels should be whole numbers [n]'),
        ({'labels': np.array([[0], [1], [0]])}, 'labels should be whole numbers [n]'),
        ({'labels': np.array([0, 2, 0])}, 'the label of 1 is 2, and the classes are 0 to 1'),
        ({'labels': np.array([0, 1, -1])}, 'the label of 2 is -1'),
        ({'labels': np.array([0, 200, 0], np.uint8)}, 'the label of 1 is 200'),
        ({'labels': np.array([0, 1])}, 'do not fit labels (2,) and class_names (2,)'),
        ({'labels': np.zeros(0, int), 'logits': np.zeros((0, 2))}, 'has no images'),
        ({'logits': np.eye(3, 2) * 1j}, 'and logits numbers'),
        ({'logits': np.array([['1', '2']] * 3)}, 'and logits numbers'),
        ({'logits': np.zeros(3)}, 'do not fit'),
        ({'logits': np.array([[0, 1], [np.nan, 0], [np.inf, 0]])}, 'of 2 of 3 images are not finite, of 1'),
        ({'class_names': np.array('ab')}, 'they should be [n, K], [n] and [K]'),
        ({'class_names': np.array([['mel', 'nv']])}, 'do not fit'),
        ({'class_names': np.array(['mel', 'nv'], object)}, 'names as arrays of str, not of objects'),
        ({'class_names': np.array(['mel', 'mel'])}, "two classes are called 'mel'"),
        ({'class_names': np.array([COMPOSED, TAKEN_APART])}, f'two classes are called {COMPOSED!r}'),
        ({'class_names': np.array(['mel']), 'logits': np.zeros((3, 1)), 'labels': np.zeros(3, int)}, 'has one class'),
        ({'group': np.array(['p', 'p', 'q'])}, "has an array 'group': call it 'groups'"),
        ({'Groups': np.array(['p', 'p', 'q'])}, "has an array 'Groups': call it 'groups'"),
        ({'ids': np.array(['x', 'y ', 'y'])}, 'has the image y twice: keep one row of each'),
        ({'ids': np.array(['x', '', 'y'])}, 'has an image without a name: give each its own'),
        ({'id': np.array(['x', 'y', 'z'])}, "has an array 'id': call it 'ids'"),
        ({'ids': np.array(['x', 'y', 'x'])}, 'has the image x twice: keep one row of each'),
        ({'ids': np.array(['x', 'y'])}, 'ids of shape (2,) do not fit labels (3,)'),
        ({'groups': np.array([['p'], ['p'], ['q']])}, 'groups of shape (3, 1) do not fit'),
    ],
)  # fmt: skip
def test_an_npz_that_is_wrong_is_named(tmp_path, changes, said):
    assert said in refused(npz(tmp_path, **changes))


@pytest.mark.parametrize(
    ('probabilities', 'said'),
    [
        ([[0.5, 0.4], [1, 0], [1, 0]], 'scores of 0 are no probabilities (they sum to 0.9)'),
        ([[1, 0], [1.2, -0.2], [1, 0]], 'scores of 1 are no probabilities (they sum to 1)'),
        ([[1, 0], [1, 0], [99, 1]], 'if they are percentages, divide them by 100'),
        ([[1, 0], [np.nan, 1], [1, 0]], 'of 1 of 3 images are not finite'),
    ],
)
def test_what_are_no_probabilities(tmp_path, probabilities, said):
    assert said in refused(npz(tmp_path, logits=None, probabilities=np.array(probabilities)))


def test_files_that_are_no_npz(tmp_path):
    path = npz(tmp_path, logits=np.random.default_rng(0).normal(size=(3, 2)))
    np.savez_compressed(path, **ARRAYS | {'ids': np.arange(3), 'more': np.arange(9999)})
    whole = bytearray(path.read_bytes())
    np.save(tmp_path / 'b.npy', np.zeros(3))
    for content in (b'', pickle.dumps({'a': 1}), whole[:-50], (tmp_path / 'b.npy').read_bytes()):
        path.write_bytes(content)
        assert 'is no whole npz: write it with np.savez' in refused(path)
    for start in range(30, len(whole) - 400, 97):
        damaged = whole.copy()
        damaged[start : start + 8] = bytes(255 - byte for byte in damaged[start : start + 8])
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            read(path)


def test_a_csv_with_all_it_may_have(tmp_path):
    text = (
        'id,label, group ,"p(a, b)",p(nv),site,prediction\r\n'
        'x,"a, b",p,0.67,0.33,back,nv\r\n\r\ny,nv,,0.34,0.67,,nv\r\n'
    )
    for encoding in ('utf-8', 'utf-8-sig'):
        found = read(table(tmp_path, text, encoding))
        assert found.class_names == ('a, b', 'nv')
        assert found.ids.tolist() == ['x', 'y']
        assert found.labels.tolist() == [0, 1]
        assert found.groups.tolist() == ['p', '']
        assert found.scores.matrix().tolist() == [[0.67, 0.33], [0.34, 0.67]]
        assert {name: column.tolist() for name, column in found.columns.items()} == {
            'site': ['back', '']
        }


def test_names_of_classes_are_compared_as_unicode_says(tmp_path):
    text = f'id,label,p({TAKEN_APART}),p(nv)\nx,{COMPOSED},1,0\ny, {TAKEN_APART} ,1,0\n'
    found = read(table(tmp_path, text))
    assert found.labels.tolist() == [0, 0]
    assert found.class_names[0] == COMPOSED
    other = read(npz(tmp_path, class_names=np.array([TAKEN_APART, 'nv'])))
    assert other.class_names == found.class_names


def test_columns_are_named_by_whoever_asks(tmp_path):
    path = table(tmp_path, 'file,truth,patient,mel,nv\nx,nv,p,-3,1\ny,mel,p,2,1\n')
    naming = Naming(id='file', label='truth', group='patient', classes=('nv', 'mel'), logits=True)
    found = read(path, naming)
    assert found.class_names == ('nv', 'mel')
    assert found.labels.tolist() == [0, 1]
    assert found.groups.tolist() == ['p', 'p']
    assert found.scores.predictions.tolist() == [0, 1]
    for what in ('id', 'label', 'group'):
        assert "'patent'" in refused(path, naming._replace(**{what: 'patent'}))
    assert 'did you mean mel' in refused(path, naming._replace(classes=('nv', 'mell')))
    assert 'two classes are called' in refused(path, naming._replace(classes=('nv', 'nv')))


def test_of_probabilities_and_logits_one_is_chosen_by_naming_it(tmp_path):
    path = table(
        tmp_path, 'id,label,p(a),p(b),logit(a),logit(b)\nx,a,0.4,0.6,0,0\ny,b,0.4,0.6,0,0\n'
    )
    assert '--classes=A,B' in refused(path)
    found = read(path, Naming(classes=('logit(a)', 'logit(b)')))
    assert found.class_names == ('a', 'b')
    assert found.scores.matrix().tolist() == [[0.5, 0.5]] * 2
    assert read(path, Naming(classes=('p(b)', 'p(a)'))).scores.matrix()[0].tolist() == [0.6, 0.4]
    assert '--classes=A,B' in refused(path, Naming(classes=('p(a)', 'logit(b)')))


HEADER = 'id,label,p(mel),p(nv)\n'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'is empty: it needs a line of names of columns'),
        ('\n\n', 'is empty'),
        (HEADER, 'has no images'),
        (HEADER + '1,mel,1,0\n\n2,nv,1\n', 'line 4 has more or fewer cells than the header, 4: put what holds a comma'),
        (HEADER + '1,mel,1,0\n2,nv,1,\n', "'', the score of 2 in the column p(nv), is not a number"),
        (HEADER + '1,mel,"0,5","0,5"\n', "'0,5', the score of 1 in the column p(mel), is not a number"),
        (HEADER + '1,mel,nan,0\n', 'not finite, of 1 for one'),
        (HEADER + '1,,1,0\n', '1 has no label: keep images with a label'),
        (HEADER + '1,mle,1,0\n', "'mle': did you mean mel?"),
        (HEADER + '1,mel,1,0\n1,nv,1,0\n', 'has the image 1 twice'),
        ('id,label,p(a),p(a)\n1,a,1,0\n', "has two columns 'p(a)': remove one"),
        (f'id,label,p({COMPOSED}),p({TAKEN_APART})\n1,a,1,0\n', 'two columns are called'),
        ('id,label,p(a),p( a )\n1,a,1,0\n', "two classes are called 'a'"),
        ('id,label,p(a)\n1,a,1\n', 'should have a column p(CLASS), or logit(CLASS), of each class'),
        ('id,label,p(a),logit(b)\n1,a,1,0\n', 'should have a column p(CLASS), or logit(CLASS), of'),
        ('id;truth;p(a);p(b)\n1;a;1;0\n', "no column 'label': name that of the labels with --columns=label=COLUMN"),
        ('id;label;p(a);p(b)\n1;a;0,9;0,1\n', "'0,9', the score of 1 in the column p(a), is not a number"),
        (HEADER[:-1] + ',Group\n1,mel,1,0,x\n', "has a column 'Group': call it 'group', or say --columns=group=Group"),
        (HEADER[:-1] + ',note\n1,mel,1,0,"see\n2,nv,0,1,so"\n', 'that begins in line 2 runs over further rows'),
        (HEADER + '1,mel,2.5,-1\n', 'if they are logits, say so: logit(CLASS)'),
        (HEADER + 'x' * 200_000 + ',mel,1,0\n', 'field larger than'),
    ],
)  # fmt: skip
def test_a_csv_that_is_wrong_is_named(tmp_path, text, said):
    assert said in refused(table(tmp_path, text))


@pytest.mark.parametrize('encoding', ['latin-1', 'utf-16'])
def test_other_encodings_are_refused(tmp_path, encoding):
    path = table(tmp_path, 'id,label,p(é),p(b)\n1,é,1,0\n', encoding)
    assert 'save it as UTF-8' in refused(path)


@pytest.mark.parametrize('mark', [';', '\t'])
def test_spreadsheets_that_write_semicolons_or_tabs(tmp_path, mark):
    text = 'id,label,p(1),p(2),group\n1,1.0,1,0,7.0\n2,2,0,1,NA\n3,1,1,0,7\n,,,,\n'
    found = read(table(tmp_path, text.replace(',', mark)))
    assert found.labels.tolist() == [0, 1, 0]
    assert found.groups.tolist() == ['7', '', '7']


def test_a_file_that_is_not_there_or_is_called_otherwise(tmp_path):
    assert 'a.txt should end in .npz or .csv' in refused(tmp_path / 'a.txt')
    assert 'a.csv: there is no such file' in refused(tmp_path / 'a.csv')
    pathlib.Path(tmp_path / 'a.npz').mkdir()
    assert 'a.npz: there is no such file' in refused(tmp_path / 'a.npz')


def test_like_matches_images_and_classes_by_name(tmp_path):
    ours = read(table(tmp_path, HEADER + 'x,mel,1,0\ny,nv,0.4,0.6\nz,mel,0.3,0.7\n'))
    (tmp_path / 'b').mkdir()
    text = 'id,label,logit(nv),logit(mel)\nz,mel,0,1\nx,mel,3,0\ny,nv,1,0\n'
    other = read(table(tmp_path / 'b', text))
    assert other.like(ours).tolist() == [1, 1, 0]
    assert ours.like(other).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('id,label,p(mel),p(bkl)\nx,mel,1,0\ny,bkl,1,0\n', 'compare predictions of the same classes'),
        (HEADER + 'x,mel,1,0\nz,nv,1,0\n', 'such as y: compare predictions of the same images'),
        (HEADER + 'x,mel,1,0\ny,nv,1,0\nz,nv,1,0\n', 'compare predictions of the same images'),
        (HEADER + 'x,nv,1,0\ny,nv,1,0\n', 'of x for one: compare predictions of the same labels'),
    ],
)  # fmt: skip
def test_like_refuses_others(tmp_path, text, said):
    ours = read(table(tmp_path, HEADER + 'x,mel,1,0\ny,nv,0.4,0.6\n'))
    (tmp_path / 'b').mkdir()
    other = read(table(tmp_path / 'b', text))
    with pytest.raises(UserError) as error:
        other.like(ours)
    assert said in str(error.value)
