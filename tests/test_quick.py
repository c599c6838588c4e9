"""What makes the tests quick (tests/tiny.py, tests/conftest.py) still does."""

from ltjax.report import figures


def test_figures_of_reports_are_not_drawn_where_nobody_looks_at_them():
    drawn = figures.lines({'a': [[0, 1], [1, 2]], 'b': [[0], [1]]}, 'title', 'x', 'y')
    assert drawn == '<svg xmlns="http://www.w3.org/2000/svg"/>'
