"""The configs that `ltjax.get_config` gives, by name and path."""

import pytest
from ml_collections import ConfigDict

import ltjax
import tiny


@pytest.mark.parametrize('name', tiny.CONFIGS)
def test_a_config_has_a_name_a_path_and_a_default_data_set(name, monkeypatch, tmp_path):
    config = ltjax.get_config(name)
    assert isinstance(config, ConfigDict)
    assert config.method.name == name
    assert config.data.name == 'fashion_mnist_lt_mini'
    assert config.to_json() == ltjax.get_config(tiny.ROOT / 'configs' / f'{name}.py').to_json()
    monkeypatch.chdir(tmp_path)
    assert config.to_json() == ltjax.get_config(f'configs/{name}.py').to_json()
    assert ltjax.get_config(name, 'folder').data.format == 'folder'
    with pytest.raises(AttributeError, match='epoch'):
        config.method.epoch = 3


def test_ones_own_config_file(tmp_path, monkeypatch):
    text = 'from ltjax.run import settings\ndef get_config(): return settings.default("npz")\n'
    (tmp_path / 'mine.py').write_text(text, 'utf-8')
    assert ltjax.get_config(tmp_path / 'mine.py').data.format == 'npz'
    with pytest.raises(ltjax.UserError, match='mine.py: too many positional arguments'):
        ltjax.get_config(tmp_path / 'mine.py', 'npz')
    (tmp_path / 'empty.py').write_text('', 'utf-8')
    with pytest.raises(ltjax.UserError, match=r'empty.py has no function get_config'):
        ltjax.get_config(tmp_path / 'empty.py')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'lmd').write_text('', 'utf-8')  # a name of ours is ours
    assert ltjax.get_config('lmd').method.name == 'lmd'
