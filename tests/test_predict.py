"""Applying a finished run to new images: formats, ids, labels, and what is refused."""

import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import tiny
from ltjax import predict
from ltjax.data.prepared import writing
from ltjax.errors import UserError

NAMES = ('mel', 'bkl', 'nv')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return tiny.run_of(tmp_path_factory.mktemp('run'), NAMES)


@pytest.fixture(scope='module')
def model(workdir):
    return predict.Trained.load(workdir)


def npz(path, **changes):
    values = {'images': tiny.arrays()['images'][:10]} | changes
    np.savez(path, **values)
    return path


def folder(root, names):
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny.arrays()['images'][i, :, :, 0]).save(path)
    return root


def call(workdir, data, out, *more):
    predict.main([f'--workdir={workdir}', f'--data={data}', f'--out={out}', *more])


def test_the_test_split_comes_out_as_the_run_wrote_it(workdir, model):
    with np.load(workdir / 'predictions.npz') as archive:
        test = tiny.arrays()['images'][tiny.arrays()['split'] == 'test']
        found = model.predict(test)
        np.testing.assert_allclose(found.logits, archive['logits'], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.features, archive['features'], rtol=1e-5, atol=1e-5)
    assert model.class_names == NAMES
    assert model.image_shape == (12, 12, 1)


def test_an_npz_keeps_its_ids_and_labels(workdir, tmp_path, capsys):
    ids, labels = np.char.mod('lesion %d', np.arange(10)), np.arange(10) % 3
    call(workdir, npz(tmp_path / 'a.npz', ids=ids, labels=labels), tmp_path / 'out.npz')
    with np.load(tmp_path / 'out.npz', allow_pickle=False) as archive:
        assert set(archive.files) == {'ids', 'labels', 'logits', 'class_names', 'data_sha256'}
        assert archive['class_names'].tolist() == list(NAMES)
        assert archive['ids'].tolist() == ids.tolist()
        assert archive['labels'].tolist() == labels.tolist()
        accuracy = (archive['logits'].argmax(1) == labels).mean()
    shown = capsys.readouterr().out
    assert 'out.npz: 10 images' in shown
    assert f'accuracy {accuracy:.1%}, balanced accuracy' in shown


def test_the_folder_of_the_output_is_made(workdir, tmp_path):
    out = tmp_path / 'new' / 'deep' / 'out.npz'
    call(workdir, npz(tmp_path / 'a.npz'), out)
    assert [path.name for path in out.parent.iterdir()] == ['out.npz']


def test_features_are_written_on_request(workdir, tmp_path):
    call(workdir, npz(tmp_path / 'a.npz'), tmp_path / 'out.npz', '--features')
    with np.load(tmp_path / 'out.npz', allow_pickle=False) as archive:
        assert archive['features'].shape == (10, 16)
        assert archive['labels'].tolist() == [-1] * 10


def test_a_csv_has_probabilities_by_name(workdir, model, tmp_path, capsys):
    data = npz(tmp_path / 'a.npz')
    call(workdir, data, tmp_path / 'out.csv')
    with (tmp_path / 'out.csv').open(newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ['id', 'label', 'prediction', 'p(mel)', 'p(bkl)', 'p(nv)']
    logits = model.predict(data).logits
    for row, expected in zip(rows, logits, strict=True):
        assert row['label'] == ''
        assert row['prediction'] == NAMES[expected.argmax()]
        probabilities = np.array([float(row[f'p({name})']) for name in NAMES])
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(
            probabilities, np.exp(expected) / np.exp(expected).sum(), rtol=1e-4
        )
    assert [row['id'] for row in rows] == [f'{i:06d}' for i in range(10)]
    assert 'accuracy' not in capsys.readouterr().out


def test_an_unlabelled_folder(model, tmp_path):
    found = model.predict(folder(tmp_path, ['b.png', 'a.png']))
    assert found.ids.tolist() == ['a.png', 'b.png']
    assert found.labels.tolist() == [-1, -1]
    direct = model.forward(tiny.arrays()['images'][[1, 0]])[1]
    np.testing.assert_allclose(found.logits, direct, rtol=1e-5, atol=1e-5)


def test_class_folders_are_matched_by_name(model, tmp_path):
    found = model.predict(folder(tmp_path, ['nv/1.png', 'mel/2.png', 'nv/3.png']))
    assert dict(zip(found.ids.tolist(), found.labels.tolist(), strict=True)) == {
        'mel/2.png': 0, 'nv/1.png': 2, 'nv/3.png': 2,
    }  # fmt: skip


def test_images_of_one_class_are_no_mistake(model, tmp_path):
    found = model.predict(folder(tmp_path, ['nv/1.png', 'nv/3.png']))
    assert found.labels.tolist() == [2, 2]


def test_a_csv_of_paths(model, tmp_path):
    folder(tmp_path, ['x/1.png', 'x/2.png'])
    (tmp_path / 'list.csv').write_text('path,label\nx/2.png,bkl\nx/1.png,mel\n', 'utf-8')
    found = model.predict(tmp_path / 'list.csv')
    assert found.ids.tolist() == ['x/2.png', 'x/1.png']
    assert found.labels.tolist() == [1, 0]


def test_images_are_brought_to_the_models_size_and_channels(model, tmp_path):
    images = np.full((3, 30, 30, 3), 90, np.uint8)
    found = model.predict(npz(tmp_path / 'a.npz', images=images))
    direct = model.forward(np.full((3, 12, 12, 1), 90, np.uint8))[1]
    np.testing.assert_allclose(found.logits, direct, rtol=1e-5, atol=1e-5)


def refused(*arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_mistakes_are_named(workdir, tmp_path):
    data, out = npz(tmp_path / 'a.npz'), tmp_path / 'out.npz'
    assert 'holds no finished run' in refused(tmp_path, data, out)
    assert 'absent.npz does not exist' in refused(workdir, tmp_path / 'absent.npz', out)
    assert 'out.txt should end in .npz or .csv' in refused(workdir, data, tmp_path / 'out.txt')
    assert 'cannot make' in refused(workdir, data, data / 'out.npz')
    (tmp_path / 'a.txt').write_text('', 'utf-8')
    assert 'a.txt is no folder, .csv or .npz' in refused(workdir, tmp_path / 'a.txt', out)
    strange = folder(tmp_path / 'strange', ['scc/1.png', 'nv/2.png'])
    assert "has the class 'scc', the model knows mel, bkl, nv" in refused(workdir, strange, out)
    wrong = npz(tmp_path / 'b.npz', labels=np.full(10, 3))
    assert 'label 3 of' in refused(workdir, wrong, out)
    assert not out.exists()


def test_features_are_not_for_csv(workdir, tmp_path):
    data, out = npz(tmp_path / 'a.npz'), tmp_path / 'out.csv'
    assert 'out.csv holds no features: end it in .npz' in refused(workdir, data, out, '--features')
    assert not out.exists()


def test_damaged_images_stop_it_or_are_listed(workdir, tmp_path, capsys):
    root, out = folder(tmp_path / 'set', ['a.png', 'b.png', 'c.png']), tmp_path / 'out.csv'
    (root / 'b.png').write_bytes(b'')
    assert 'b.png is not an image (it is empty)' in refused(workdir, root, out)
    assert not out.exists()
    call(workdir, root, out, '--on-damaged=exclude')
    listed = tmp_path / 'out.csv.excluded.csv'
    known = 'note: 2 of 2 images are among those that the model was trained on'
    told = f'{out}: 2 images\n{known}\n{listed}: 1 images that cannot be read\n'
    assert capsys.readouterr().out == told
    with out.open(newline='', encoding='utf-8') as file:
        assert [row['id'] for row in csv.DictReader(file)] == ['a.png', 'c.png']
    with listed.open(newline='', encoding='utf-8') as file:
        assert [row['path'] for row in csv.DictReader(file)] == ['b.png']


@pytest.mark.parametrize('how', ['damaged', 'missing'])
def test_without_the_identity_of_its_data_it_says_that_it_did_not_compare(
    workdir, tmp_path, capsys, how
):
    run, data = tmp_path / 'run', npz(tmp_path / 'a.npz')
    shutil.copytree(workdir, run)
    (run / 'data_identity.npz').write_bytes(b'xx')
    if how == 'missing':
        (run / 'data_identity.npz').unlink()
    call(run, data, tmp_path / 'out.csv')
    said = capsys.readouterr().out
    assert 'note: data_identity.npz of the run is missing or damaged: whether the model was' in said


@pytest.mark.slow
def test_a_run_of_eight_devices_is_read_on_one(workdir, tmp_path):
    data, out = npz(tmp_path / 'a.npz'), tmp_path / 'out.npz'
    done = subprocess.run(
        [sys.executable, '-m', 'ltjax.predict', f'--workdir={workdir}', f'--data={data}', f'--out={out}'],
        capture_output=True, text=True, cwd=tiny.ROOT, check=False,
        env=os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_DISABLE_MOST_OPTIMIZATIONS': '1'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ''
    known = 'note: 10 of 10 images are among those that the model was trained on'
    assert done.stdout == f'{out}: 10 images\n{known}\n'
    with np.load(out) as archive:
        expected = predict.Trained.load(workdir).predict(data).logits
        np.testing.assert_allclose(archive['logits'], expected, rtol=1e-4, atol=1e-5)


def test_a_run_without_its_checkpoint_is_refused(workdir, tmp_path):
    for name in ('config.json', 'results.json'):
        (tmp_path / name).write_bytes((workdir / name).read_bytes())
    said = refused(tmp_path, npz(tmp_path / 'a.npz'), tmp_path / 'out.npz')
    assert 'cannot be used: there is none' in said


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('results.json', b'', 'results.json is damaged: copy it from the run again'),
        ('results.json', b'{"test": {', 'results.json is damaged'),
        ('results.json', b'{}', 'is not that of a run: give the --workdir of one'),
        ('config.json', None, 'config.json is missing: copy it from the run again'),
        ('config.json', b'[]', 'config.json is damaged'),
        ('validation.npz', b'PK', 'copy it again, or remove it and go without'),
    ],
)
def test_a_run_that_was_copied_in_part_is_refused(workdir, tmp_path, name, content, message):
    run = shutil.copytree(workdir, tmp_path / 'run')
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        predict.Trained.load(run)
    assert '\n' not in str(error.value)


@pytest.fixture(scope='module')
def with_protocols(tmp_path_factory):
    """A prepared set of 30 images with two protocols, one of folds."""
    folder = tmp_path_factory.mktemp('prepared') / 'set'
    pixels = np.random.default_rng(0).integers(0, 256, (30, 12, 12, 1), np.uint8)
    items = [writing.Item(f'i{at:02d}', at % 3, lambda at=at: pixels[at]) for at in range(30)]
    sides = {item.id: ('train', 'val', 'test')[at // 3 % 3] for at, item in enumerate(items)}
    folds = {item.id: str(at // 3 % 2) for at, item in enumerate(items)}
    plan = writing.Plan(
        name='s', class_names=NAMES, items=items, image_size=12, channels=1, licence='', origin='',
        splits={'7_3': sides, '2_fold': folds},
    )  # fmt: skip
    writing.write(folder, plan, report=lambda line: None)
    return folder


def test_a_prepared_set_is_read_whole_or_one_side_of_it(
    workdir, model, with_protocols, tmp_path, capsys
):
    whole = model.predict(with_protocols)
    assert len(whole.ids) == 30
    test = model.predict(with_protocols, side='test', protocol='7_3')
    rows = [at for at in range(30) if at // 3 % 3 == 2]
    assert test.ids.tolist() == [f'i{at:02d}' for at in rows]
    np.testing.assert_allclose(test.logits, whole.logits[rows], rtol=1e-5)
    assert len(model.predict(with_protocols, side='1', protocol='2_fold').ids) == 15
    flags = [f'--workdir={workdir}', f'--data={with_protocols}', f'--out={tmp_path / "p.csv"}']
    predict.main([*flags, '--split=test', '--protocol=7_3'])
    assert f'{len(rows)} images' in capsys.readouterr().out
    assert model.evaluate(with_protocols, 10, side='val', protocol='7_3')['num_images'] == 9


def test_images_that_were_prepared_smaller_than_the_model_takes_are_refused(model, tmp_path):
    side = model.image_shape[0] // 2
    plan = writing.Plan(
        name='s', class_names=NAMES, image_size=side, channels=1, licence='', origin='', splits={},
        items=[writing.Item('a', 0, lambda: np.zeros((side, side, 1), np.uint8))],
    )  # fmt: skip
    writing.write(tmp_path / 'set', plan, report=lambda line: None)
    with pytest.raises(UserError, match=f'was prepared at {side} px, and {2 * side} are asked'):
        model.predict(tmp_path / 'set')


@pytest.mark.parametrize(
    ('side', 'protocol', 'message'),
    [
        ('test', '', 'has the splits 7_3, 2_fold: choose one with --protocol'),
        ('test', '7_2', "unknown split of .* '7_2': did you mean 7_3"),
        ('tets', '7_3', "unknown side of the split of .* 'tets': did you mean test"),
        ('', '7_3', 'unknown side of the split'),
    ],
)
def test_a_side_that_is_not_there_is_named(model, with_protocols, side, protocol, message):
    with pytest.raises(UserError, match=message):
        model.predict(with_protocols, side=side, protocol=protocol)


def test_images_without_a_split_have_no_side(model, tmp_path):
    with pytest.raises(UserError, match='brings no split: leave out --split'):
        model.predict(npz(tmp_path / 'new.npz'), side='test')
