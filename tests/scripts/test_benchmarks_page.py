"""The page of benchmarks is what its program writes, and names programs that exist."""

import benchmarks_page

import tiny
from ltjax import benchmarks


def test_the_page_is_up_to_date():
    assert benchmarks_page.PAGE.read_text('utf-8') == benchmarks_page.page(), (
        'run python scripts/benchmarks_page.py'
    )


def test_a_row_a_benchmark():
    page = benchmarks_page.page()
    assert all(page.count(f'| `{name}` |') == 1 for name in benchmarks.names())


def test_programs_that_prepare_them_exist():
    for name in benchmarks.names():
        program = benchmarks.get(name).prepare.split(' ')[0]
        assert not program or (tiny.ROOT / 'data_prep' / f'{program}.py').exists()
