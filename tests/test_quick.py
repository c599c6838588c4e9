"""What makes the tests quick (tests/tiny.py) still does."""

import pytest

import tiny
from ltjax.losses import classification
from ltjax.methods.supervised import logit_losses
from ltjax.report import figures
from ltjax.run import train


def test_figures_of_reports_are_not_drawn_where_nobody_looks_at_them():
    drawn = figures.lines({'a': [[0, 1], [1, 2]], 'b': [[0], [1]]}, 'title', 'x', 'y')
    assert drawn == '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.mark.slow
def test_one_config_is_traced_once_whatever_its_data_are_called(tmp_path, monkeypatch):
    traced = []

    def counted(logits, labels):
        traced.append(logits)
        return classification.softmax_cross_entropy(logits, labels)

    monkeypatch.setattr(logit_losses.losses, 'softmax_cross_entropy', counted)
    after = []
    with tiny.traced_once():
        for name, changes in (('a', {}), ('b', {}), ('c', {'seed': 1})):
            made = tiny.config('cross_entropy', tiny.npz(tmp_path / f'{name}.npz'), changes)
            train.run(made, tmp_path / name)
            after.append(len(traced))
    assert 0 < after[0] == after[1] < after[2]
