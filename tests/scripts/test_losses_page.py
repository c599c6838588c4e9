"""The page of losses says what the docstrings say, and every golden file has been measured."""

import importlib.util
import json

import pytest

import tiny
from golden_checks.compare import DEFAULT_TOLERANCE
from ltjax import losses

PATH = tiny.ROOT / 'scripts' / 'losses_page.py'
REMEDY = 'run python scripts/losses_page.py (with --measure after a change of golden files)'


@pytest.fixture(scope='module')
def losses_page():
    spec = importlib.util.spec_from_file_location('losses_page', PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def agreement(losses_page):
    return json.loads(losses_page.AGREEMENT.read_text('utf-8'))


def test_the_page_is_what_the_docstrings_say(losses_page, agreement):
    assert losses_page.PAGE.read_text('utf-8') == losses_page.render(agreement), REMEDY


def test_every_golden_file_was_measured(losses_page, agreement):
    assert set(agreement) == set(losses_page.golden_files()), REMEDY
    assert all(set(errors) == {'float64', 'float32'} for errors in agreement.values())


def test_a_golden_file_names_public_functions(losses_page):
    for stem, names in losses_page.COVERS.items():
        assert set(names) <= set(losses.__all__), stem


def test_every_public_name_is_on_the_page_once(losses_page, agreement):
    page = losses_page.render(agreement)
    for name in losses.__all__:
        if name.isupper():  # a table that a function's row speaks of
            continue
        assert page.count(f'\n| `{name}` |') == 1


def test_an_error_is_relative_to_the_largest_number(losses_page):
    path = losses_page.golden_files()['ldam']
    assert 0 < losses_page.largest_error(path, 'float32') < 10 * DEFAULT_TOLERANCE[1]
