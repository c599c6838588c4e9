"""The named data sets: values that fit together."""

import pytest

from ltjax.data import catalog
from ltjax.data.settings import INTERPOLATIONS
from ltjax.errors import UserError


@pytest.mark.parametrize('name', sorted(catalog.DATA_SETS))
def test_settings_fit_together(name):
    config = catalog.get(name)
    assert config.name == name
    assert config.format in ('embedded', 'npz', 'folder', 'csv', 'prepared', 'tfds')
    assert len(config.mean) == len(config.std)
    assert all(0 < value < 1 for value in (*config.mean, *config.std))
    assert 0 < config.split.val + config.split.test < 1
    assert bool(config.long_tail.ratio) == bool(config.long_tail.max_count)
    assert (config.format == 'embedded') == (name == 'fashion_mnist_lt_mini')
    assert set(config) == set(catalog.get('npz'))
    assert set(config.split) == set(catalog.get('npz').split)
    assert config.interpolation in INTERPOLATIONS


def test_an_unknown_set_names_the_nearest():
    with pytest.raises(UserError, match="unknown data set 'isic2019_lt': did you mean isic2019_lt"):
        catalog.get('isic2019_lt')
    with pytest.raises(UserError, match="unknown data set 'zzz': choose one of aptos2019, bone_"):
        catalog.get('zzz')


def test_a_config_is_the_callers_own():
    catalog.get('npz').split.seed = 5
    assert catalog.get('npz').split.seed == 0
    catalog.get('hyper_kvasir').channels = 7
    assert catalog.get('isic_archive_lt').channels == 3
