"""What networks take beside their name can be set by a command, whatever the benchmark's network is."""

import pytest

from ltjax import get_config, main, models
from ltjax.errors import UserError
from ltjax.run import build
from ltjax.run.settings import NETWORK_OPTIONS, Settings


def test_a_command_can_set_every_option_of_every_network():
    known = {option for name in models.names() for option in models.options(name)}
    assert known == set(NETWORK_OPTIONS)
    words = [f'--config.model.{option}=x' for option in NETWORK_OPTIONS]
    assert main.found(['main', '--config=lmd', *words])[2:] == words
    with pytest.raises(UserError, match='unknown model'):
        models.options('resnet19')


def test_options_that_nobody_set_are_not_there():
    config = get_config('cross_entropy')
    assert config.model.width is None
    assert not Settings.of(config).model.options
    assert 'width' not in Settings.of(config).values['model']
    config.model.width = 8
    assert Settings.of(config).model.options == {'width': 8}


def test_another_network_does_without_the_options_of_the_benchmark():
    config = get_config('cross_entropy', 'cifar10_lt_r100@iccl')
    theirs = Settings.of(config)
    assert build.follow_network(theirs) is theirs
    config = get_config('lmd', 'isic2018@aduni')
    config.model.stem = 'cifar'
    config.model.name = 'vit_tiny'
    assert build.follow_network(Settings.of(config)).model.options == {'stem': 'cifar'}
    for benchmark in ('isic2018@aduni', 'isic2018_48', 'fashion_mnist_lt_mini'):
        config = get_config('lmd', benchmark)
        config.model.name = 'vit_tiny'
        config.model.patch = 8
        assert build.follow_network(Settings.of(config)).model.options == {'patch': 8}
