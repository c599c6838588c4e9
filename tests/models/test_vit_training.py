"""Trainings of a Vision Transformer on the embedded set, as its config says."""

import functools
import importlib

import pytest

import tiny
from ltjax import models
from ltjax.models.vit import ViT

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]


@pytest.fixture(autouse=True)
def smallest(monkeypatch):
    """Adds a network of two blocks to those that have names, which have twelve and more."""
    known, options = dict(models._MODELS), models._MODELS['vit_tiny'][1]
    known['vit_smallest'] = functools.partial(ViT, 24, 2, 2), options
    monkeypatch.setattr(models, '_MODELS', known)


def config(method, **options):
    made = importlib.import_module(f'configs.{method}').get_config()
    tiny.shrink(made)
    model = {'name': 'vit_smallest', 'patch': 7, 'grid': 4, 'dtype': 'float32'}
    made.model = model | options
    return made


@pytest.mark.parametrize('method', ['cross_entropy', 'lmd'])
def test_a_training_goes_on_with_the_same_bits(method, tmp_path):
    made = config(method, drop_path_rate=0.2, registers=2)
    state, _, rows = tiny.run(made, tmp_path / 'whole')
    assert tiny.finite(state, rows)
    tiny.interrupt(made, tmp_path / 'parts', at=1)
    again, _, rows_again = tiny.run(made, tmp_path / 'parts')
    assert tiny.same(again, state)
    assert tiny.timeless(rows_again) == tiny.timeless(rows[1:])
