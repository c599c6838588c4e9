"""FS: anchors, queries, what an epoch draws, and the same bits after an interruption."""

import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from ltjax import methods
from ltjax.errors import UserError
from ltjax.methods import flexible

pytestmark = pytest.mark.usefixtures('traced_once')

LABELS = np.repeat(np.arange(3), tiny.COUNTS)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def recipe(**changes):
    made = tiny.tuned('fs', changes=changes)
    return methods.recipe(made.method, tiny.task())


@pytest.mark.parametrize(
    ('exponent', 'counts'), [(0.0, [8, 8, 8]), (0.5, [16, 11, 8]), (1.0, [32, 16, 8])]
)
def test_anchors_are_fewer_of_large_classes(exponent, counts):
    found = flexible.anchor_counts(tiny.task(), exponent)
    assert found.tolist() == counts
    assert flexible.anchor_counts(tiny.task((9, 0, 1)), exponent)[1] == 0


def test_anchors_are_the_nearest_to_the_mean_of_their_class():
    features = jnp.array([[0.0], [1.0], [5.0], [8.0], [9.0], [13.0]])
    labels = np.array([0, 0, 0, 1, 1, 1])  # means 2 and 10
    chosen = flexible.nearest(features, labels, np.array([1, 2]))
    assert np.flatnonzero(chosen).tolist() == [1, 3, 4]


def test_accuracy_is_that_of_images_not_in_use_where_there_are_any():
    probabilities = np.eye(3)[[0, 1, 1, 1, 2]]
    labels, in_use = np.array([0, 0, 1, 1, 2]), np.array([True, False, True, True, False])
    found = flexible.accuracies(probabilities, labels, in_use)
    assert found.tolist() == [0.0, 1.0, 1.0]  # of class 1 all are in use


@pytest.mark.parametrize(
    ('number', 'weights', 'at_most', 'expected'),
    [
        (6, [0.5, 0.25, 0.25], [9, 9, 9], [4, 1, 1]),
        (8, [0.5, 0.25, 0.25], [9, 9, 9], [4, 2, 2]),
        (8, [0.8, 0.1, 0.1], [2, 9, 9], [2, 3, 3]),
        (7, [0.9, 0.05, 0.05], [7, 0, 7], [7, 0, 0]),
        (5, [1 / 3, 1 / 3, 1 / 3], [9, 9, 9], [2, 2, 1]),
        (0, [0.5, 0.25, 0.25], [9, 9, 9], [0, 0, 0]),
        (5, [0.98, 0.01, 0.01], [1, 2, 2], [1, 2, 2]),
    ],
)
def test_what_a_class_cannot_take_goes_to_the_others(number, weights, at_most, expected):
    found = flexible.shared_out(number, np.array(weights), np.array(at_most))
    assert found.sum() == number
    assert found.tolist() == expected


def test_a_query_takes_the_least_certain_of_hard_classes():
    labels, in_use = np.repeat([0, 1], 6), np.zeros(12, bool)
    in_use[[0, 6]] = True
    uncertainty = np.arange(12) % 6 / 10
    new = flexible.queried(uncertainty, labels, in_use, np.array([0.25, 0.75]), 4)
    assert np.flatnonzero(new).tolist() == [
        5,
        9,
        10,
        11,
    ]  # three of the class that is three times as hard
    everything = flexible.queried(uncertainty, labels, in_use, np.array([0.25, 0.75]), 99)
    assert np.array_equal(everything, ~in_use)


def test_the_images_in_use_are_told_before():
    told = recipe(**{'train.epochs': 5, 'query.after': 1, 'query.every': 2}).stages[1].told
    assert [row['images_in_use'] for row in told] == [35, 41, 41, 47, 47]


def test_another_sampler_is_refused():
    with pytest.raises(UserError, match="leave it at 'instance_balanced'") as error:
        recipe(**{'train.sampler': 'class_balanced'})
    assert '\n' not in str(error.value)
    with pytest.raises(UserError, match='method.query.passes is 1: use 2 or more'):
        recipe(**{'query.passes': 1})
    with pytest.raises(UserError, match='method.query.floor is 0.0: use a positive number'):
        recipe(**{'query.floor': 0.0})


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):
    made = tiny.tuned('fs', data, {'train.epochs': 3})
    return made, tiny.run(made, tmp_path_factory.mktemp('whole'))


@pytest.mark.slow
def test_images_come_into_use_as_told(whole):
    _, (state, _, rows) = whole
    assert tiny.finite(state, rows)
    assert [row.get('images_in_use') for row in rows] == [None, None, 35, 41, 47]
    in_use, draw = state.extra['in_use'], state.extra['draw']
    assert in_use.sum() == 47
    assert np.array_equal(draw > 0, in_use)
    assert draw.sum() == pytest.approx(1, rel=1e-5)
    for k in range(3):  # alike within a class
        assert len({*draw[(k == LABELS) & in_use].tolist()}) == 1


@pytest.mark.slow
@pytest.mark.parametrize('at', [1, 3])
def test_it_resumes_with_the_same_bits(whole, tmp_path, at):
    made, (state, best, _) = whole
    tiny.interrupt(made, tmp_path, at=at)
    resumed, best_resumed, _ = tiny.run(made, tmp_path)
    assert tiny.same(state, resumed)
    assert best == best_resumed


@pytest.mark.slow
def test_uniform_draws_show_all_images_in_use_alike(data, tmp_path):
    changes = {'query.draw': 'uniform', 'anchors': 0.0, 'query.share': 0.5}
    state, _, rows = tiny.run(tiny.tuned('fs', data, changes), tmp_path)
    draw = state.extra['draw']
    assert [row['images_in_use'] for row in rows[2:]] == [24, 52]
    assert {*draw.tolist()} == {0.0, draw.max()}


@pytest.mark.slow
def test_the_first_stage_trains_no_classifier(data, tmp_path):
    steps, _ = tiny.watch(tiny.tuned('fs', data), tmp_path)
    for name, before, after in steps:
        assert name == 'train'
        moved = {leaf.split('.')[0] for leaf in tiny.moved(before, after)}
        if 'draw' in before.extra:
            assert 'classifier' in moved
        else:
            assert 'classifier' not in moved
            assert 'projection' in moved
