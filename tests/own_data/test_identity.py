"""Runs are bound to their data: what changed is named and refused, in unfinished and finished runs and in folds."""

import json
import shutil

import numpy as np
import pytest

import tiny
from ltjax import export, folds, predict, train
from ltjax.data import identity
from ltjax.errors import Preempted, UserError
from own_data.sets import config as data_config
from own_data.sets import folder, pictures, pixels, save, table

CLASSES = {'mel': 20, 'nv': 20}


def as_folder(root):
    return folder(root / 'set', CLASSES)


def as_csv(root):
    paths = pictures(root / 'set', 40)
    rows = [[path, 'mel' if i < 20 else 'nv', f'p{i // 2}'] for i, path in enumerate(paths)]
    return table(root / 'set' / 'set.csv', ['path', 'label', 'group'], rows)


def as_npz(root):
    images = np.stack([pixels(i) for i in range(40)])
    path = root / 'set.npz'
    names = np.array(['mel', 'nv'])
    np.savez(path, images=images, labels=np.arange(40) // 20, class_names=names)
    return path


def edit(path, old, new):
    text = path.read_text('utf-8')
    assert old in text
    path.write_text(text.replace(old, new, 1), 'utf-8')


def change_npz(path, **changes):
    with np.load(path) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    for name, change in changes.items():
        arrays[name] = change(arrays[name])
    np.savez(path, **arrays)


def set_label(labels):
    labels[3] = 1
    return labels


def set_pixel(images):
    images[3, 0, 0, 0] ^= 1
    return images


# By name: how the set is made, how it is changed, and what is said of that.
CHANGES = {
    'image added': (as_folder, lambda p: save(p / 'mel' / 'new.png', 99), 'images added: mel/new.png'),
    'image gone': (as_folder, lambda p: (p / 'nv' / '3.png').unlink(), 'images gone: nv/3.png'),
    'class renamed': (as_folder, lambda p: (p / 'mel').rename(p / 'z'), "'mel' gone, 'z' new"),
    'class added': (as_folder, lambda p: folder(p, {'bcc': 3}, 80), "'bcc' new"),
    'image replaced': (as_folder, lambda p: save(p / 'mel' / '3.png', 99), 'contents changed: mel/3.png'),
    'image moved': (
        as_folder, lambda p: (p / 'mel' / '3.png').rename(p / 'nv' / 'x.png'), 'images added: nv/x.png'
    ),
    'label changed': (
        as_csv, lambda p: edit(p, '3.png,mel', '3.png,nv'), 'labels changed: images/3.png (mel, now nv)'
    ),
    'row added': (as_csv, lambda p: edit(p, 'path,label,group\n', 'path,label,group\nimages/../images/x.png,nv,p9\n')
                  if save(p.parent / 'images' / 'x.png', 99) else None, 'images added: images/../images/x.png'),
    'row removed': (as_csv, lambda p: edit(p, 'images/3.png,mel,p1\n', ''), 'images gone: images/3.png'),
    'group changed': (as_csv, lambda p: edit(p, '39.png,nv,p19', '39.png,nv,p3'), 'images/39.png (p19, now p3)'),
    'rows in another order': (
        as_csv, lambda p: edit(p, 'images/3.png,mel,p1\nimages/4.png,mel,p2\n',
                               'images/4.png,mel,p2\nimages/3.png,mel,p1\n'), 'the order of the images changed'
    ),
    'label of an npz': (as_npz, lambda p: change_npz(p, labels=set_label), 'labels changed: 000003 (mel, now nv)'),
    'pixel of an npz': (as_npz, lambda p: change_npz(p, images=set_pixel), 'contents changed: 000003'),
    'names of an npz': (as_npz, lambda p: change_npz(p, class_names=lambda n: n[::-1]), 'classes or their order'),
}  # fmt: skip


def config(path, **changes):
    made = tiny.config('cross_entropy', path, {'method.train.epochs': 3, 'num_bootstrap': 2})
    made.data = data_config(path)
    made.update_from_flattened_dict(changes)
    return made


def begin(made, workdir):
    """Trains until two rounds are saved, and is told to end."""
    training = train.Training._save
    rounds = []

    def stopping(self, *arguments, **options):
        rounds.append(1)
        self._stop = len(rounds) == 2
        training(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Training, '_save', stopping)
        with pytest.raises(Preempted):
            train.run(made, workdir)


def refused(made, workdir, run=train.run, **options):
    with pytest.raises(UserError) as error:
        run(made, workdir, **options)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('case', CHANGES)
def test_a_run_does_not_go_on_with_other_data(tmp_path, case):
    make, change, message = CHANGES[case]
    path, workdir = make(tmp_path), tmp_path / 'run'
    begin(config(path), workdir)
    before = {file: file.read_bytes() for file in workdir.rglob('*') if file.is_file()}
    change(path)
    said = refused(config(path), workdir)
    assert 'have changed since it began' in said
    assert message in said
    assert {file: file.read_bytes() for file in workdir.rglob('*') if file.is_file()} == before


FORCED = {
    'label of an npz': False,
    'pixel of an npz': True,
    'image replaced': True,
    'image added': False,
}


@pytest.mark.parametrize('case', FORCED)
def test_force_never_crosses_a_changed_split(tmp_path, case):
    make, change, message = CHANGES[case]
    path, workdir = make(tmp_path), tmp_path / 'run'
    begin(config(path), workdir)
    change(path)
    if FORCED[case]:
        assert train.run(config(path), workdir, force=True)['test']['num_images']
    else:  # with the label, the split that is drawn by it changes too
        assert message in refused(config(path), workdir, force=True)


@pytest.mark.parametrize(
    'case', ['image added', 'class renamed', 'label changed', 'image replaced', 'pixel of an npz']
)
def test_a_finished_run_is_not_taken_for_one_on_other_data(tmp_path, case):
    make, change, message = CHANGES[case]
    path, workdir = make(tmp_path), tmp_path / 'run'
    whole = train.run(config(path), workdir)
    assert train.run(config(path), workdir) == whole
    change(path)
    said = refused(config(path), workdir)
    assert 'holds a finished run on other data' in said
    assert message in said


def test_touching_a_file_is_no_change(tmp_path):
    path, workdir = as_folder(tmp_path), tmp_path / 'run'
    made = config(path)
    whole = train.run(made, workdir)
    save(path / 'mel' / '3.png', 3)  # the same picture, written again
    (path / 'mel' / '4.png').touch()
    assert train.run(made, workdir) == whole
    shutil.rmtree(path)
    assert train.run(made, workdir) == whole  # there is nothing to compare with


FOLDS = {'data.split.folds': 3, 'data.split.fold': folds.ALL, 'method.train.epochs': 1}


@pytest.mark.parametrize(
    'case', ['image added', 'class renamed', 'label changed', 'image replaced']
)
@pytest.mark.parametrize('done', [2, 3])
def test_folds_do_not_go_on_with_other_data(tmp_path, case, done, monkeypatch):
    make, change, message = CHANGES[case]
    path, workdir = make(tmp_path), tmp_path / 'run'
    run, calls = train.run, []

    def ending(*arguments, **options):
        if len(calls) == done:
            raise Preempted('ended')
        calls.append(1)
        return run(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(train, 'run', ending)
        if done < 3:
            with pytest.raises(Preempted):
                folds.run(config(path, **FOLDS), workdir)
        else:
            folds.run(config(path, **FOLDS), workdir)
    change(path)
    said = refused(config(path, **FOLDS), workdir, folds.run)
    assert 'on other data' in said
    assert message in said


def test_pooled_folds_test_every_image_once(tmp_path):
    path, workdir = as_csv(tmp_path), tmp_path / 'run'
    folds.run(config(path, **FOLDS), workdir)
    (workdir / 'results.json').unlink()
    with np.load(workdir / 'fold-1' / 'predictions.npz') as archive:
        arrays = dict(archive)
    arrays['ids'][0] = arrays['ids'][1]
    np.savez(workdir / 'fold-1' / 'predictions.npz', **arrays)
    assert 'do not test each of 40 images once' in refused(
        config(path, **FOLDS), workdir, folds.run
    )


def test_folds_of_any_numbers_are_run(tmp_path):
    paths = pictures(tmp_path / 'set', 40)
    rows = [[path, 'ab'[i % 2], f'{(3, 7)[i // 2 % 2]}.0'] for i, path in enumerate(paths)]
    path = table(tmp_path / 'set' / 'set.csv', ['path', 'label', 'split'], rows)
    made = config(path, **{'data.split.fold': folds.ALL, 'method.train.epochs': 1})
    results = folds.run(made, tmp_path / 'run')
    assert results['num_folds'] == 2
    assert {each.name for each in (tmp_path / 'run').glob('fold-*')} == {'fold-3', 'fold-7'}
    with np.load(tmp_path / 'run' / 'predictions.npz') as archive:
        assert sorted(archive['ids'].tolist()) == sorted(paths)
        assert archive['class_names'].tolist() == ['a', 'b']


def test_a_first_stage_on_other_data_is_refused(tmp_path):
    path = as_csv(tmp_path)

    def made(**changes):
        two = tiny.config('decoupling', path, {'num_bootstrap': 2})
        two.data = data_config(path)
        two.update_from_flattened_dict(changes)
        return two

    train.run(made(), tmp_path / 'first')
    start = {'start_from': str(tmp_path / 'first')}
    train.run(made(**start), tmp_path / 'second')
    edit(path, '3.png,mel', '3.png,nv')
    said = refused(made(**start), tmp_path / 'third')
    assert 'saw other data than this run: ' in said
    assert 'images/3.png (mel, now nv)' in said
    (tmp_path / 'first' / identity.FILE).unlink()
    assert f'lacks {identity.FILE}' in refused(made(**start), tmp_path / 'third')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp('trained')
    path = as_folder(root)
    return path, root / 'run', train.run(config(path), root / 'run')


def test_the_identity_is_in_everything_that_a_run_leaves(trained, tmp_path):
    path, workdir, results = trained
    said = results['data']['identity']
    model = predict.Trained.load(workdir)
    assert model.data_sha256 == said['sha256']
    with np.load(workdir / 'predictions.npz') as archive:
        assert archive['class_names'].tolist() == ['mel', 'nv']
        assert str(archive['data_sha256']) == said['sha256']
    predict.main([f'--workdir={workdir}', f'--data={path}', f'--out={tmp_path / "a.csv"}'])
    about = json.loads((tmp_path / 'a.csv.json').read_text('utf-8'))
    assert about['data_sha256'] == said['sha256']
    assert about['class_names'] == ['mel', 'nv']
    assert identity.Identity.read(workdir).digests() == said
    page = (workdir / 'report.html').read_text('utf-8')
    assert said['sha256'][:12] in page
    assert results['data']['split']['sha256'] == results['split_sha256']


def test_checkpoints_of_another_run_are_refused(trained, tmp_path):
    _, workdir, _ = trained
    shutil.copytree(workdir, tmp_path / 'run')
    results = json.loads((tmp_path / 'run' / 'results.json').read_text('utf-8'))
    results['data']['identity']['classes'] = 'other'
    (tmp_path / 'run' / 'results.json').write_text(json.dumps(results), 'utf-8')
    with pytest.raises(UserError, match='was trained on other data than its results.json says'):
        predict.Trained.load(tmp_path / 'run')


def test_images_that_were_trained_on_are_counted_in_a_prediction(trained, tmp_path, capsys):
    path, workdir, _ = trained
    call = [f'--workdir={workdir}', f'--out={tmp_path / "a.npz"}']
    predict.main([*call, f'--data={path}'])
    assert (
        'note: 28 of 40 images are among those that the model was trained on'
        in capsys.readouterr().out
    )
    other = folder(tmp_path / 'other', {'mel': 3, 'nv': 3}, start=70)
    predict.main([*call, f'--data={other}'])
    assert 'trained on' not in capsys.readouterr().out


def test_the_exported_weights_say_their_classes(trained, tmp_path):
    _, workdir, results = trained
    export.main(
        [f'--workdir={workdir}', f'--out={tmp_path / "a.safetensors"}', '--layout=original']
    )
    size = int.from_bytes((tmp_path / 'a.safetensors').read_bytes()[:8], 'little')
    header = json.loads((tmp_path / 'a.safetensors').read_bytes()[8 : 8 + size])
    assert json.loads(header['__metadata__']['class_names']) == ['mel', 'nv']
    assert header['__metadata__']['data_sha256'] == results['data']['identity']['sha256']


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


def test_force_does_not_take_a_finished_run_for_another(tmp_path):
    path, workdir = as_folder(tmp_path), tmp_path / 'run'
    train.run(config(path), workdir)
    other = config(path, **{'data.split.seed': 9})
    assert 'holds a run of another config' in refused(other, workdir, force=True)
    fold = config(path, **FOLDS)
    folds.run(fold, tmp_path / 'folds')
    other = config(path, **FOLDS | {'data.split.folds': 2})
    assert 'holds a run of another config' in refused(
        other, tmp_path / 'folds', folds.run, force=True
    )


def test_finished_folds_know_their_numbers(tmp_path):
    paths = pictures(tmp_path / 'set', 40)

    def write(of):
        rows = [[path, 'ab'[i % 2], of(i)] for i, path in enumerate(paths)]
        return table(tmp_path / 'set' / 'set.csv', ['path', 'label', 'split'], rows)

    path = write(lambda i: 1 + i // 2 % 2)
    made = config(path, **{'data.split.fold': folds.ALL, 'method.train.epochs': 1})
    whole = folds.run(made, tmp_path / 'run')
    assert 'fold' not in whole['data']['split']['from'].split('folds')[1]
    assert sum(whole['data']['counts']['test']) == 40
    for other in (lambda i: 3 + i // 2 % 3, lambda i: ('train', 'test')[i // 2 % 2]):
        write(other)
        assert 'holds a finished run on other data' in refused(made, tmp_path / 'run', folds.run)
    path.unlink()
    assert folds.run(made, tmp_path / 'run') == whole


def test_what_was_left_out_of_folds_is_told_of_all_of_them(tmp_path):
    path = as_folder(tmp_path)
    (path / 'mel' / '3.png').write_bytes(b'')
    (path / 'mel' / 'scan').write_bytes(bytes(128) + b'DICM')
    results = folds.run(excluding(path, **FOLDS), tmp_path / 'run')
    told = ' '.join(results['test']['warnings'])
    assert '1 images were left out (1 unreadable)' in told
    assert 'Files that were passed over: 1 DICOM.' in told


def test_a_run_that_was_forced_on_can_be_used(tmp_path):
    path, workdir = as_folder(tmp_path), tmp_path / 'run'
    begin(config(path), workdir)
    save(path / 'mel' / '3.png', 99)
    train.run(config(path), workdir, force=True)
    assert predict.Trained.load(workdir).class_names == ('mel', 'nv')


def test_a_workdir_among_the_images_is_refused(tmp_path):
    path = as_folder(tmp_path)
    for run in (train.run, folds.run):
        assert 'lies in the data' in refused(config(path, **FOLDS), path / 'run', run)
    assert not (path / 'run').exists()


def test_a_run_of_an_older_version_is_still_read(tmp_path):
    path, workdir = as_folder(tmp_path), tmp_path / 'run'
    train.run(config(path), workdir)
    results = json.loads((workdir / 'results.json').read_text('utf-8'))
    del results['data']
    (workdir / 'results.json').write_text(json.dumps(results), 'utf-8')
    assert train.run(config(path), workdir) == results
    assert predict.Trained.load(workdir).data_sha256 == ''


@pytest.mark.parametrize('lost', [True, False])
def test_changed_data_are_refused_without_their_identity_too(tmp_path, lost):
    path, workdir = as_csv(tmp_path), tmp_path / 'run'
    whole = train.run(config(path), workdir)
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
