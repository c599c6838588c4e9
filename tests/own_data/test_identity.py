"""Runs are bound to their data: what changed is named and refused, and who leaves what says which data it is of."""

import json
import shutil

import numpy as np
import pytest

import tiny
from ltjax import export, predict
from ltjax.data import identity
from ltjax.errors import UserError
from ltjax.run import cross_validation, train
from own_data.changing import CHANGES, FOLDS, Kept, as_csv, as_folder, begin, config, edit, refused
from own_data.sets import config as data_config
from own_data.sets import folder, save

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
    return Kept(tmp_path_factory.mktemp('kept'))


@pytest.mark.parametrize('case', CHANGES)
def test_a_run_does_not_go_on_with_other_data(kept, case):
    make, change, message = CHANGES[case]
    path, workdir = kept(make, begin)
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
def test_force_never_crosses_a_changed_split(kept, case):
    make, change, message = CHANGES[case]
    path, workdir = kept(make, begin)
    change(path)
    if FORCED[case]:
        assert train.run(config(path), workdir, force=True)['test']['num_images']
    else:  # with the label, the split that is drawn by it changes too
        assert message in refused(config(path), workdir, force=True)


def test_a_first_stage_on_other_data_is_refused(tmp_path):
    path = as_csv(tmp_path)

    def made(**changes):
        two = tiny.config('crt', path, {'num_bootstrap': 2})
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


def test_a_run_that_was_forced_on_can_be_used(kept):
    path, workdir = kept(as_folder, begin)
    save(path / 'mel' / '3.png', 99)
    train.run(config(path), workdir, force=True)
    assert predict.Trained.load(workdir).class_names == ('mel', 'nv')


def test_a_workdir_among_the_images_is_refused(tmp_path):
    path = as_folder(tmp_path)
    for run in (train.run, cross_validation.run):
        assert 'lies in the data' in refused(config(path, **FOLDS), path / 'run', run)
    assert not (path / 'run').exists()


def test_a_run_of_an_older_version_is_still_read(trained, tmp_path):
    path, whole, _ = trained
    workdir = shutil.copytree(whole, tmp_path / 'run')
    results = json.loads((workdir / 'results.json').read_text('utf-8'))
    del results['data']
    (workdir / 'results.json').write_text(json.dumps(results), 'utf-8')
    assert train.run(config(path), workdir) == results
    assert predict.Trained.load(workdir).data_sha256 == ''
