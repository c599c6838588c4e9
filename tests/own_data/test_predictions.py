"""Predictions: labels are matched by the names of classes, whatever the layout; and files by what they hold."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import tiny
from ltjax import predict
from ltjax.data import datasets, show
from ltjax.data.audit import __main__ as audit
from ltjax.data.reading import arguments
from ltjax.errors import UserError
from ltjax.run import predicting, train
from own_data.sets import config as data_config
from own_data.sets import folder, pictures, pixels, save, table

pytestmark = pytest.mark.slow


def trained_on(root, path, **changes):
    made = tiny.config('cross_entropy', path, {'method.train.epochs': 1, 'num_bootstrap': 2})
    made.data = data_config(path, **changes)
    train.run(made, root / 'run')
    return predict.Trained.load(root / 'run')


@pytest.fixture(scope='module')
def numbered(tmp_path_factory):
    """A model of the classes 0 to 11, from a CSV."""
    root = tmp_path_factory.mktemp('numbered')
    rows = [[path, str(i % 12)] for i, path in enumerate(pictures(root, 72))]
    return root, trained_on(root, table(root / 'set.csv', ['path', 'label'], rows))


@pytest.fixture(scope='module')
def named(tmp_path_factory):
    """A model of grades in a given order, from folders."""
    root = tmp_path_factory.mktemp('named')
    path = folder(root / 'set', {'mild': 8, 'no-dr': 8, 'severe': 8})
    return root, trained_on(root, path, class_order='no-dr,mild,severe')


def labels(model, path, **flags):
    """Returns labels by id, and what was said."""
    source = model.source(arguments.config(path))
    found, said = predicting.known_labels(source, model.class_names)
    return dict(zip(source.ids.tolist(), found.tolist(), strict=True)), said


def npz(path, numbers, **more):
    images = np.stack([pixels(200 + i) for i in range(len(numbers))])
    np.savez(path, images=images, labels=np.array(numbers), **more)
    return path


def test_numbers_of_an_npz_are_names_where_the_classes_are_numbers(numbered, tmp_path):
    _, model = numbered
    assert model.class_names == tuple(str(k) for k in range(12))
    found, said = labels(model, npz(tmp_path / 'a.npz', [10, 2, 0, 11]))
    assert list(found.values()) == [10, 2, 0, 11]
    (line,) = said
    assert 'are taken as the names of classes, which are numbers' in line
    with pytest.raises(UserError, match='label 12 of .* is out of range'):
        labels(model, npz(tmp_path / 'b.npz', [12, 0]))


def test_a_label_of_minus_one_is_none_as_predictions_have_it(numbered, tmp_path):
    _, model = numbered
    path = npz(tmp_path / 'some.npz', [10, -1, 0])
    assert list(labels(model, path)[0].values()) == [10, -1, 0]
    assert len(model.predict(npz(tmp_path / 'none.npz', [-1, -1])).labels) == 2
    with pytest.raises(
        UserError, match=r"no label in image 1 \('' stands for none; 1 of 3 images\)"
    ):
        datasets.load(data_config(path))
    with pytest.raises(UserError, match='label -2 of .* labels are 0 to 10, or -1 for none'):
        labels(model, npz(tmp_path / 'odd.npz', [10, -2, 0]))


def test_a_csv_a_folder_and_an_npz_agree(numbered, tmp_path):
    _, model = numbered
    paths = pictures(tmp_path / 'c', 4)
    rows = zip(paths, ['10', '2.0', ' 0', '11'], strict=True)
    found, _ = labels(model, table(tmp_path / 'c' / 'set.csv', ['path', 'label'], rows))
    assert list(found.values()) == [10, 2, 0, 11]
    found, _ = labels(model, folder(tmp_path / 'f', {'10': 1, '2': 1}))
    assert found == {'10/0.png': 10, '2/0.png': 2}


def test_an_npz_with_names_is_matched_by_them_in_any_order(named, tmp_path):
    _, model = named
    assert model.class_names == ('no-dr', 'mild', 'severe')
    path = npz(tmp_path / 'a.npz', [0, 1, 2], class_names=['severe', 'mild', 'no-dr'])
    found, said = labels(model, path)
    assert list(found.values()) == [2, 1, 0]
    assert said == []
    path = npz(tmp_path / 'b.npz', [0, 1], class_names=['severe', 'moderate'])
    with pytest.raises(UserError, match="has the class 'moderate', the model knows no-dr, mild"):
        labels(model, path)


def test_an_npz_without_names_is_matched_by_place_and_that_is_said(named, tmp_path, capsys):
    root, model = named
    path = npz(tmp_path / 'a.npz', [2, 1])
    found, (said,) = labels(model, path)
    assert list(found.values()) == [2, 1]
    assert said.endswith('have no names, and are taken as places in no-dr, mild, severe')
    predict.main([f'--workdir={root / "run"}', f'--data={path}', f'--out={tmp_path / "o.npz"}'])
    assert f'note: {said}' in capsys.readouterr().out


def test_a_model_without_names_takes_numbers(tmp_path):
    path = npz(tmp_path / 'set.npz', np.arange(36) % 3)
    model = trained_on(tmp_path, path)
    assert model.class_names == ('class 0', 'class 1', 'class 2')
    paths = pictures(tmp_path / 'c', 3)
    rows = zip(paths, ['2', '0', '1'], strict=True)
    found, (said,) = labels(model, table(tmp_path / 'c' / 'set.csv', ['path', 'label'], rows))
    assert list(found.values()) == [2, 0, 1]
    assert 'taken as the numbers of classes without names' in said


def test_images_without_a_label_are_predicted_and_not_counted(named, tmp_path, capsys):
    root, _ = named
    rows = zip(pictures(tmp_path, 4), ['mild', 'NA', '', 'severe'], strict=True)
    path = table(tmp_path / 'set.csv', ['path', 'label'], rows)
    out = tmp_path / 'out.csv'
    predict.main([f'--workdir={root / "run"}', f'--data={path}', f'--out={out}'])
    assert 'on the 2 images with a label' in capsys.readouterr().out
    with out.open(newline='', encoding='utf-8') as file:
        assert [row['label'] for row in csv.DictReader(file)] == ['mild', '', '', 'severe']
    about = json.loads((tmp_path / 'out.csv.json').read_text('utf-8'))
    assert about['class_names'] == ['no-dr', 'mild', 'severe']


def test_all_sides_of_a_set_are_predicted(named, tmp_path):
    _, model = named
    for i, side in enumerate(('Training', 'Testing')):
        folder(tmp_path / side, {'mild': 2, 'severe': 1}, start=300 + 10 * i)
    found, _ = labels(model, tmp_path)
    assert len(found) == 6
    assert found['Testing/severe/0.png'] == 2


def test_sizes_and_transparency_may_differ(named, tmp_path):
    _, model = named
    for number, (size, mode) in enumerate(((8, 'RGB'), (20, 'RGBA'), (3, 'L'), (1, 'P'))):
        Image.fromarray(pixels(number, size)).convert(mode).save(tmp_path / f'{number}.png')
    found = model.predict(tmp_path)
    assert found.ids.tolist() == ['0.png', '1.png', '2.png', '3.png']
    assert np.isfinite(found.logits).all()
    assert found.class_names == ('no-dr', 'mild', 'severe')


def test_a_table_of_ids_is_predicted(named, tmp_path):
    root, _ = named
    for number in range(3):
        save(tmp_path / 'in' / f'x{number}.jpg', number)
    path = table(tmp_path / 'ids.csv', ['image', 'grade'], [[f'x{k}', 'mild'] for k in range(3)])
    flags = ['--columns=path=image', '--columns=label=grade', '--images-in=in', '--suffix=.jpg']
    predict.main(
        [f'--workdir={root / "run"}', f'--data={path}', f'--out={tmp_path / "o.npz"}', *flags]
    )
    with np.load(tmp_path / 'o.npz') as archive:
        assert archive['ids'].tolist() == ['x0', 'x1', 'x2']
        assert archive['labels'].tolist() == [1, 1, 1]
    show.main([f'--out={tmp_path / "v.png"}', f'--data={path}', '--images=2', '--draws=1', *flags])
    assert (tmp_path / 'v.png').exists()


def test_numbers_from_1_are_not_taken_as_places(tmp_path):
    rows = [[path, str(1 + i % 4)] for i, path in enumerate(pictures(tmp_path, 48))]
    model = trained_on(tmp_path, table(tmp_path / 'set.csv', ['path', 'label'], rows))
    found, _ = labels(model, npz(tmp_path / 'a.npz', [1, 4]))
    assert list(found.values()) == [0, 3]
    with pytest.raises(
        UserError, match='label 0 of .* is out of range: the model knows 1, 2, 3, 4'
    ):
        labels(model, npz(tmp_path / 'b.npz', [0, 3]))


def test_what_the_model_knows_is_meant(tmp_path):
    path = folder(tmp_path / 'set', {'NA': 8, '1': 8, '1.0': 8})
    model = trained_on(tmp_path, path, class_order='NA,1,1.0')
    found, _ = labels(model, path)
    for id_, label in found.items():
        assert model.class_names[label] == id_.split('/')[0]


def test_a_model_without_names_takes_whole_numbers_alone(tmp_path):
    model = trained_on(tmp_path, npz(tmp_path / 'set.npz', np.arange(24) % 2))
    strange = folder(tmp_path / 'f', {'0.5': 1, '1': 1})
    with pytest.raises(UserError, match="has the class '0.5'"):
        labels(model, strange)


def test_images_of_the_training_are_known_in_another_form(named, tmp_path, capsys):
    root, _ = named
    images = [np.array(Image.open(path)) for path in sorted((root / 'set').rglob('*.png'))]
    np.savez(tmp_path / 'a.npz', images=np.stack(images))
    predict.main(
        [f'--workdir={root / "run"}', f'--data={tmp_path / "a.npz"}', f'--out={tmp_path / "o.npz"}']
    )
    assert 'of 24 images are among those that the model was trained on' in capsys.readouterr().out


def test_nothing_is_written_over_what_is_read(named, tmp_path):
    root, _ = named
    path = npz(tmp_path / 'a.npz', [0])
    (tmp_path / 'link.npz').symlink_to(path)
    before = path.read_bytes()
    for out in (path, tmp_path / 'link.npz'):
        with pytest.raises(UserError, match='is what is read: write to another file'):
            predict.main([f'--workdir={root / "run"}', f'--data={path}', f'--out={out}'])
    with pytest.raises(UserError, match='is what is read: write to another file'):
        audit.main([str(path), f'--json={path}'])
    assert path.read_bytes() == before
