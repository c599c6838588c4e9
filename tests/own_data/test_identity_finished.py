"""Finished runs and folds, whose data have changed since: what changed is named, and nothing old is given for new."""

import json
import shutil

import numpy as np
import pytest

from ltjax.data import identity
from ltjax.errors import Preempted
from ltjax.run import cross_validation, train
from own_data.changing import CHANGES, FOLDS, Kept, as_csv, as_folder, config, edit, refused
from own_data.sets import pictures, save, table

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    return Kept(tmp_path_factory.mktemp('kept'))


def results_of(workdir):
    return json.loads((workdir / 'results.json').read_text('utf-8'))


@pytest.mark.parametrize(
    'case', ['image added', 'class renamed', 'label changed', 'image replaced', 'pixel of an npz']
)
def test_a_finished_run_is_not_taken_for_one_on_other_data(kept, case):
    make, change, message = CHANGES[case]
    path, workdir = kept(make, train.run)
    assert train.run(config(path), workdir) == results_of(workdir)
    change(path)
    said = refused(config(path), workdir)
    assert 'holds a finished run on other data' in said
    assert message in said


def test_touching_a_file_is_no_change(kept):
    path, workdir = kept(as_folder, train.run)
    made, whole = config(path), results_of(workdir)
    save(path / 'mel' / '3.png', 3)  # the same picture, written again
    (path / 'mel' / '4.png').touch()
    assert train.run(made, workdir) == whole
    shutil.rmtree(path)
    assert train.run(made, workdir) == whole  # there is nothing to compare with


def two_folds(made, workdir):
    """Ends before the third."""
    run, calls = train.run, []

    def ending(*arguments, **options):
        if len(calls) == 2:
            raise Preempted('ended')
        calls.append(1)
        return run(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, 'run', ending)
        with pytest.raises(Preempted):
            cross_validation.run(made, workdir)


@pytest.mark.parametrize(
    'case', ['image added', 'class renamed', 'label changed', 'image replaced']
)
@pytest.mark.parametrize('folds', [two_folds, cross_validation.run])
def test_folds_do_not_go_on_with_other_data(kept, case, folds):
    make, change, message = CHANGES[case]
    path, workdir = kept(make, folds, **FOLDS)
    assert (workdir / 'results.json').exists() == (folds is cross_validation.run)
    change(path)
    said = refused(config(path, **FOLDS), workdir, cross_validation.run)
    assert 'on other data' in said
    assert message in said


def test_pooled_folds_test_every_image_once(kept):
    path, workdir = kept(as_csv, cross_validation.run, **FOLDS)
    (workdir / 'results.json').unlink()
    with np.load(workdir / 'fold-1' / 'predictions.npz') as archive:
        arrays = dict(archive)
    arrays['ids'][0] = arrays['ids'][1]
    np.savez(workdir / 'fold-1' / 'predictions.npz', **arrays)
    assert 'do not test each of 40 images once' in refused(
        config(path, **FOLDS), workdir, cross_validation.run
    )


def test_folds_of_any_numbers_are_run(tmp_path):
    paths = pictures(tmp_path / 'set', 40)
    rows = [[path, 'ab'[i % 2], f'{(3, 7)[i // 2 % 2]}.0'] for i, path in enumerate(paths)]
    path = table(tmp_path / 'set' / 'set.csv', ['path', 'label', 'split'], rows)
    made = config(path, **{'data.split.fold': cross_validation.ALL, 'method.train.epochs': 1})
    results = cross_validation.run(made, tmp_path / 'run')
    assert results['num_folds'] == 2
    assert {each.name for each in (tmp_path / 'run').glob('fold-*')} == {'fold-3', 'fold-7'}
    with np.load(tmp_path / 'run' / 'predictions.npz') as archive:
        assert sorted(archive['ids'].tolist()) == sorted(paths)
        assert archive['class_names'].tolist() == ['a', 'b']


def excluding(path, **changes):
    return config(path, **{'data.on_damaged': 'exclude', 'data.on_unlabelled': 'exclude'} | changes)


def test_an_image_that_was_left_out_and_can_be_used_now_is_a_change(tmp_path):
    path, workdir = as_folder(tmp_path), tmp_path / 'run'
    (path / 'mel' / '3.png').write_bytes(b'')
    made = excluding(path)
    whole = train.run(made, workdir)
    assert train.run(made, workdir) == whole
    assert whole['data']['excluded'] == {'unreadable': 1}
    save(path / 'mel' / '3.png', 3)
    assert 'images added: mel/3.png' in refused(made, workdir)


def test_a_label_that_was_missing_and_is_there_now_is_a_change(tmp_path):
    path, workdir = as_csv(tmp_path), tmp_path / 'run'
    edit(path, '3.png,mel', '3.png,NA')
    made = excluding(path)
    whole = train.run(made, workdir)
    assert train.run(made, workdir) == whole
    edit(path, '3.png,NA', '3.png,mel')
    assert 'images added: images/3.png' in refused(made, workdir)


def test_an_excluded_image_of_a_table_of_ids_is_no_change(tmp_path):
    for number in range(40):
        save(tmp_path / 'in' / f'x{number}.png', number)
    (tmp_path / 'in' / 'x3.png').write_bytes(b'')
    rows = [[f'x{number}', 'ab'[number % 2]] for number in range(40)]
    path = table(tmp_path / 'set.csv', ['path', 'label'], rows)
    made = excluding(path, **{'data.images': 'in', 'data.suffix': '.png'})
    whole = train.run(made, tmp_path / 'run')
    assert train.run(made, tmp_path / 'run') == whole


def test_force_does_not_take_a_finished_run_for_another(kept):
    path, workdir = kept(as_folder, train.run)
    other = config(path, **{'data.split.seed': 9})
    assert 'holds a run of another config' in refused(other, workdir, force=True)
    path, workdir = kept(as_folder, cross_validation.run, **FOLDS)
    other = config(path, **FOLDS | {'data.split.folds': 2})
    assert 'holds a run of another config' in refused(
        other, workdir, cross_validation.run, force=True
    )


def test_finished_folds_know_their_numbers(tmp_path):
    paths = pictures(tmp_path / 'set', 40)

    def write(of):
        rows = [[path, 'ab'[i % 2], of(i)] for i, path in enumerate(paths)]
        return table(tmp_path / 'set' / 'set.csv', ['path', 'label', 'split'], rows)

    path = write(lambda i: 1 + i // 2 % 2)
    made = config(path, **{'data.split.fold': cross_validation.ALL, 'method.train.epochs': 1})
    whole = cross_validation.run(made, tmp_path / 'run')
    assert 'fold' not in whole['data']['split']['from'].split('folds')[1]
    assert sum(whole['data']['counts']['test']) == 40
    for other in (lambda i: 3 + i // 2 % 3, lambda i: ('train', 'test')[i // 2 % 2]):
        write(other)
        assert 'holds a finished run on other data' in refused(
            made, tmp_path / 'run', cross_validation.run
        )
    path.unlink()
    assert cross_validation.run(made, tmp_path / 'run') == whole


def test_what_was_left_out_of_folds_is_told_of_all_of_them(tmp_path):
    path = as_folder(tmp_path)
    (path / 'mel' / '3.png').write_bytes(b'')
    (path / 'mel' / 'scan').write_bytes(bytes(128) + b'DICM')
    results = cross_validation.run(excluding(path, **FOLDS), tmp_path / 'run')
    told = ' '.join(results['test']['warnings'])
    assert '1 images were left out (1 unreadable)' in told
    assert 'Files that were passed over: 1 DICOM.' in told


@pytest.mark.parametrize('lost', [True, False])
def test_changed_data_are_refused_without_their_identity_too(kept, lost):
    path, workdir = kept(as_csv, train.run)
    whole = results_of(workdir)
    file = workdir / identity.FILE
    if lost:
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    assert train.run(config(path), workdir) == whole
    edit(path, '3.png,mel', '3.png,nv')
    assert 'labels changed' in refused(config(path), workdir)
