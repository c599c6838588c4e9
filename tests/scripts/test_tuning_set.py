"""A set to choose settings on: all that is in no test part, with its groups."""

import sys

import numpy as np
import pytest
import tuning_set

import tiny
from ltjax.data import datasets
from ltjax.errors import UserError


def test_it_holds_all_images_but_those_of_the_test(tmp_path, monkeypatch, capsys):
    groups = np.repeat(np.arange(40), 2)
    arrays = {k: v for k, v in tiny.arrays().items() if k != 'split'} | {'group': groups}
    np.savez(tmp_path / 'set.npz', **arrays)
    thinned = ['data.long_tail.max_count=16', 'data.long_tail.ratio=4']
    command = ['tuning_set.py', f'--path={tmp_path}/set.npz', f'--out={tmp_path}/new/tuning.npz']
    monkeypatch.setattr(sys, 'argv', command + [f'--set={change}' for change in thinned])
    tuning_set.main()
    data = datasets.load({'path': str(tmp_path / 'set.npz')})
    found = dict(np.load(tmp_path / 'new/tuning.npz'))
    test = data.parts['test']
    assert set(found['ids']) == set(data.ids) - set(data.ids[test])
    assert not set(found['group']) & set(data.groups[test])
    rows = [data.ids.tolist().index(id_) for id_ in found['ids']]
    np.testing.assert_array_equal(found['images'], data.images[rows])
    np.testing.assert_array_equal(found['labels'], data.labels[rows])
    told = f'{len(rows)} images; the {len(test)} test images are left out\n'
    assert capsys.readouterr().out == f'{tmp_path}/new/tuning.npz: {told}'
    drawn = datasets.load({'path': str(tmp_path / 'new/tuning.npz')})
    assert all(len(part) for part in drawn.parts.values())


def test_an_unknown_benchmark_is_named(monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['tuning_set.py', '--benchmark=ham', '--out=x.npz'])
    with pytest.raises(UserError, match="unknown benchmark 'ham'"):
        tuning_set.main()
