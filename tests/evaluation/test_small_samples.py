"""What a single test image moves is named; enough of them get no warning."""

import numpy as np

from ltjax.evaluation.small_samples import sample_size_warnings


def sizes_and_warnings(matrix, names, groups):
    return sample_size_warnings(matrix.sum(1), np.diagonal(matrix), names, groups)


def test_warnings_name_what_one_image_moves():
    matrix = np.array([[180, 10, 10], [10, 40, 0], [0, 3, 17]])
    groups = {'head': (0,), 'medium': (1,), 'tail': (2,)}
    assert sizes_and_warnings(matrix, ['a', 'b', 'c'], groups) == [
        (
            '2 of 3 classes have fewer than 100 test images: one image moves their recall by more than '
            'one point (by 5.0 for c, which has 20).'
        ),
        (
            'One test image can move by more than one point: medium recall (by 2.0), tail recall '
            '(by 5.0), balanced accuracy (by 1.7).'
        ),
    ]


def test_no_warnings_for_a_large_test_set():
    matrix = np.array([[150, 50], [20, 180]])
    assert sizes_and_warnings(matrix, ['a', 'b'], {'head': (0,), 'tail': (1,)}) == []


def test_warning_of_intervals_without_width():
    matrix = np.diag([200] * 7)
    names = list('abcdefg')
    (line,) = sizes_and_warnings(matrix, names, {})
    assert line.startswith('Recall of a, b, c, d and 3 more is exactly 0 or 100 %')
