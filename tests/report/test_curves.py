"""What a report draws of the log: whole lines, the later of two, finite values."""

import numpy as np

from ltjax.report.writing import curves_by_stage, read_metrics


def test_lines_cut_short_are_left_out(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    path.write_text('{"step": 1}\n{"step": 2, "lo\n[3]\n{"step": 4}\n{"st')
    assert read_metrics(path) == [{'step': 1}, {'step': 4}]


def test_curves_keep_the_later_of_two_rows_and_finite_values_only():
    rows = [
        {'stage': 'a', 'step': 2, 'loss': 9.0},
        {'stage': 'a', 'step': 1, 'loss': 5.0, 'val_balanced_accuracy': 0.5},
        {'stage': 'a', 'step': 3, 'loss': float('nan'), 'val_balanced_accuracy': None},
        {'stage': 'b', 'step': 4, 'loss': 1},
        {'stage': 'a', 'step': 2, 'loss': 4.0},
        {'stage': 'c', 'loss': 4.0},
    ]
    curves = curves_by_stage(rows)
    assert list(curves) == ['a', 'b']
    np.testing.assert_array_equal(curves['a']['loss'], [[1, 5], [2, 4]])
    np.testing.assert_array_equal(curves['a']['val_balanced_accuracy'], [[1, 0.5]])
    assert curves['b']['val_balanced_accuracy'].shape == (0, 2)
