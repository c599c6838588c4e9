"""Cross-validation: every image tested once, by a network that has not seen it; and mistakes."""

import json

import numpy as np
import pytest

import tiny
from ltjax.errors import UserError
from ltjax.run import cross_validation, train
from ltjax.run.trained import Trained

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]


def config(path, **changes):
    overrides = {
        'data.split.folds': 3,
        'data.split.fold': cross_validation.ALL,
        'method.train.epochs': 1,
    }
    return tiny.config('cross_entropy', path, overrides | changes)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    groups = np.arange(len(tiny.arrays()['labels'])) // 2
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz', split=None, group=groups)


@pytest.fixture(scope='module')
def pooled(data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp('folds')
    return workdir, cross_validation.run(config(data), workdir)


def test_every_image_is_tested_once(pooled):
    workdir, results = pooled
    predictions = np.load(workdir / 'predictions.npz')
    labels = tiny.arrays()['labels']
    assert sorted(predictions['ids']) == [f'{number:06d}' for number in range(len(labels))]
    np.testing.assert_array_equal(predictions['labels'], labels[predictions['ids'].astype(int)])
    assert results['num_folds'] == len(results['folds']) == len(set(results['split_sha256'])) == 3
    right = predictions['logits'].argmax(axis=1) == predictions['labels']
    assert results['test']['metrics']['accuracy']['value'] == pytest.approx(right.mean())
    assert json.loads((workdir / 'results.json').read_text('utf-8')) == results
    assert 'Test metrics' in (workdir / 'report.html').read_text('utf-8')
    assert 'Cross-validation: 3 networks' in (workdir / 'model_card.md').read_text('utf-8')


def test_a_fold_is_an_ordinary_run(pooled, data):
    workdir, results = pooled
    one = config(data, **{'data.split.fold': 1})
    again = train.run(one, workdir / 'fold-1')  # finished, so it is not repeated
    assert again['test']['metrics']['macro_f1']['value'] == results['folds'][1]['macro_f1']
    with np.load(workdir / 'fold-1' / 'predictions.npz') as predictions:
        groups = {int(name) // 2 for name in predictions['ids']}
        assert len(predictions['ids']) == 2 * len(groups)
    assert Trained.load(workdir / 'fold-1').class_names == tuple(results['class_names'])
    with pytest.raises(UserError, match='holds folds: name one of them'):
        Trained.load(workdir)


def test_mistakes_are_told(data, tmp_path):
    with pytest.raises(UserError, match='no folds: set --config.data.split.folds=5'):
        cross_validation.run(config(data, **{'data.split.folds': 0}), tmp_path / 'a')
    with pytest.raises(UserError, match='brings its own split'):
        train.run(config(tiny.npz(tmp_path / 'split.npz')), tmp_path / 'b')
    with pytest.raises(UserError, match=r'fold -1 of 3'):
        train.run(config(data), tmp_path / 'c')
