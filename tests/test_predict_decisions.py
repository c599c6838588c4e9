"""What `ltjax.predict` decides on request: which classes count as positive, and sets of labels."""

import csv
import json

import numpy as np
import pytest

import tiny
from ltjax import predict
from ltjax.errors import UserError
from ltjax.evaluation import operating_points
from ltjax.evaluation.prediction_sets import METHODS
from ltjax.evaluation.probabilities import softmax

pytestmark = pytest.mark.slow

NAMES = ('mel, in situ', 'bkl', 'nv')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    return tiny.run_of(tmp_path_factory.mktemp('run'), NAMES)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """The run's validation images and their labels."""
    arrays = tiny.arrays()
    held = arrays['split'] == 'val'
    path = tmp_path_factory.mktemp('data') / 'val.npz'
    np.savez(path, images=arrays['images'][held], labels=arrays['labels'][held])
    return path


def call(workdir, data, out, *more):
    predict.main([f'--workdir={workdir}', f'--data={data}', f'--out={out}', *more])
    if out.suffix == '.npz':
        with np.load(out) as archive:
            return dict(archive)
    with out.open(encoding='utf-8', newline='') as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize('more', [(), ('--calibrate=vector',), ('--prevalence=estimate',)])
@pytest.mark.parametrize('wish', ['sensitivity', 'specificity'])
def test_what_is_wished_is_reached_on_the_validation_images(workdir, data, tmp_path, wish, more):
    found = call(workdir, data, tmp_path / 'out.npz', f'--{wish}=0.7', *more)
    assert found['positive'].dtype == bool
    assert found['thresholds'].shape == (3,)
    probabilities = softmax(found['logits'])
    # A threshold is the probability of an image, which another call may round in another way.
    sure = np.abs(probabilities - found['thresholds']) > 1e-6
    np.testing.assert_array_equal(
        found['positive'][sure], (probabilities >= found['thresholds'])[sure]
    )
    for k in range(3):
        of_class = found['labels'] == k
        if wish == 'sensitivity':
            assert (found['positive'] | ~sure)[of_class, k].mean() >= 0.7
        else:
            assert (~found['positive'] | ~sure)[~of_class, k].mean() >= 0.7


def test_thresholds_are_those_of_the_evaluation(workdir, data, tmp_path):
    found = call(workdir, data, tmp_path / 'out.npz', '--sensitivity=0.8')
    validation = predict.Trained.load(workdir).validation
    meant = operating_points.choose(validation.labels, validation.scores.matrix(), sensitivity=0.8)
    np.testing.assert_array_equal(found['thresholds'], meant)


@pytest.mark.parametrize('method', METHODS)
def test_sets_hold_the_labels_of_the_validation_images(workdir, data, tmp_path, method):
    found = call(workdir, data, tmp_path / 'out.npz', f'--sets={method}', '--alpha=0.3')
    assert found['sets'][np.arange(len(found['labels'])), found['labels']].mean() >= 0.7
    assert 'positive' not in found


def test_a_table_has_the_names(workdir, data, tmp_path):
    out = tmp_path / 'out.csv'
    more = '--sensitivity=0.9', '--sets=marginal', '--alpha=0.4'
    rows = call(workdir, data, out, *more)
    arrays = call(workdir, data, tmp_path / 'out.npz', *more)
    about = json.loads((tmp_path / 'out.csv.json').read_text('utf-8'))
    assert about['sets']['method'] == 'marginal'
    assert about['sets']['alpha'] == 0.4
    np.testing.assert_array_equal(about['thresholds'], arrays['thresholds'])
    for column, masks in (('positive', arrays['positive']), ('set', arrays['sets'])):
        for row, mask in zip(rows, masks, strict=True):
            cells = next(csv.reader([row[column]]), [])
            assert cells == [name for name, chosen in zip(NAMES, mask, strict=True) if chosen]


def test_classes_of_too_few_validation_images_are_named(workdir, data, tmp_path, capsys):
    call(workdir, data, tmp_path / 'out.npz', '--sets=class_conditional', '--alpha=0.01')
    assert 'note: too few validation images to promise anything of: mel, in situ' in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ('more', 'message'),
    [
        (['--sensitivity=1.5'], 'sensitivity 1.5: choose a number above 0 and at most 1'),
        (['--sets=marginal', '--alpha=0'], 'alpha 0.0: choose a number between 0 and 1'),
        (['--sets=marginal', '--prevalence=estimate'], 'or choose --sets=class_conditional'),
    ],
)
def test_mistakes_are_named_before_images_are_read(workdir, tmp_path, more, message):
    data = tmp_path / 'damaged.npz'
    data.write_bytes(b'no images')
    with pytest.raises(UserError, match=message):
        call(workdir, data, tmp_path / 'out.npz', *more)


def test_a_run_without_validation_images_decides_nothing(workdir, data, tmp_path, monkeypatch):
    load = predict.Trained.load
    monkeypatch.setattr(
        predict.Trained,
        'load',
        lambda path: predict.dataclasses.replace(load(path), validation=None),
    )
    with pytest.raises(UserError, match='which decisions need'):
        call(workdir, data, tmp_path / 'out.npz', '--sensitivity=0.9')
