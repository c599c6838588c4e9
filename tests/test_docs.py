"""README.md and docs/ speak of config keys, files and programs that exist."""

import re
import runpy
from collections.abc import Iterator

import pytest

import tiny

PAGES = [tiny.ROOT / 'README.md', *sorted((tiny.ROOT / 'docs').glob('*.md'))]


@pytest.fixture(scope='module')
def keys():
    found: set[str] = set()
    for path in (tiny.ROOT / 'configs').glob('*.py'):
        get_config = runpy.run_path(str(path))['get_config']
        for benchmark in ('folder', 'isic2019_lt_r100@lmd'):
            found.update(walk(get_config(benchmark)))
    return found


def walk(config, prefix='') -> Iterator[str]:
    for name, value in config.items():
        yield prefix + name
        if hasattr(value, 'items'):
            yield from walk(value, f'{prefix}{name}.')


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_config_keys_exist(page, keys):
    named = re.findall(r'--config\.([a-z][\w.]*\w)', page.read_text('utf-8'))
    assert not set(named) - keys


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)#:]+)\)', page.read_text('utf-8')):
        assert (page.parent / target).exists(), target


def test_programs_in_the_docs_exist():
    for page in PAGES:
        for module in re.findall(r'python -m ((?:ltjax|data_prep)[\w.]*)', page.read_text('utf-8')):
            path = tiny.ROOT / module.rstrip('.').replace('.', '/')
            assert path.with_suffix('.py').exists() or (path / '__main__.py').exists(), module


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_lines_of_prose_are_not_too_long(page):
    text = re.sub(r'^```.*?^```', '', page.read_text('utf-8'), flags=re.DOTALL | re.MULTILINE)
    prose = [line for line in text.splitlines() if not line.startswith('|')]
    assert [line for line in prose if len(line) > 120 and ' ' in line.strip()[:100]] == []
