"""Runs on decoded images that were kept: the same bits as without."""

import numpy as np
import pytest

import tiny
from ltjax.data import cache
from ltjax.errors import UserError
from ltjax.run import train
from own_data.sets import config as data_config
from own_data.sets import folder, save

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]


@pytest.fixture(autouse=True)
def for_few(monkeypatch):
    monkeypatch.setattr(cache, 'FEWEST', 2)


def config(path, **changes):
    made = tiny.config('cross_entropy', path, {'num_bootstrap': 2, 'save_features': True})
    made.data = data_config(path, image_size=12)
    made.update_from_flattened_dict(changes)
    return made


def test_a_run_is_the_same_with_and_without(tmp_path, monkeypatch):
    path = folder(tmp_path / 'photos', {'mel': 20, 'nv': 30})
    kept = {'data.cache': str(tmp_path / 'kept')}
    train.run(config(path, **{'data.cache': 'off'}), tmp_path / 'without')
    train.run(config(path, **kept), tmp_path / 'making it')
    monkeypatch.setattr(cache, 'IN_MEMORY_BYTES', 0)
    train.run(config(path, **kept), tmp_path / 'from disk')
    runs = ('making it', 'from disk')
    for name in ('predictions.npz', 'validation.npz', 'data_identity.npz'):
        with np.load(tmp_path / 'without' / name) as expected:
            for run in runs:
                with np.load(tmp_path / run / name) as found:
                    for key in expected.files:
                        np.testing.assert_array_equal(found[key], expected[key])
    assert len(list((tmp_path / 'kept').glob('*/*/manifest.json'))) == 1
    # The cache is of no account to what a run is: it goes on without.
    results = train.run(config(path, **{'data.cache': 'off'}), tmp_path / 'from disk')
    assert (
        results['data']['identity']
        == train.run(config(path, **kept), tmp_path / 'without')['data']['identity']
    )
    save(path / 'nv' / 'new.png', 99)
    with pytest.raises(UserError, match='images added: nv/new.png'):
        train.run(config(path, **kept), tmp_path / 'from disk')
