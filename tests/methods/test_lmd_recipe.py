"""LMD's recipe: the number of its steps, and the mistakes that it refuses."""

import pytest

import tiny
from ltjax import methods
from ltjax.errors import UserError


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.mark.slow
def test_the_number_of_e_steps(data, tmp_path):
    for steps, expected in ((-1, 3), (2, 2)):
        made = tiny.config('lmd', data, {'method.icc.e_steps': steps})
        trained = tiny.training(made, tmp_path / str(steps))
        assert trained.recipe.stages[1].updates[1].steps == expected
        trained.checkpoints.close()


@pytest.mark.parametrize('virtual', [8, 16, 17, 100])
def test_virtual_per_class_sets_the_number_of_m_steps(virtual):
    made = tiny.config('lmd', 'any', {'method.icc.virtual_per_class': virtual})
    made.method.icc.vfc = virtual != 8  # without VFC the number is the same
    update = methods.recipe(made.method, tiny.task()).stages[1].updates[0]
    assert update.steps == -(-virtual // 8)  # 24 in a batch are 8 of each of the 3 classes


# Mistakes.


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('variant', 'author', "unknown method.variant 'author': did you mean authors"),
        ('icc.statistics', 'rounds', "unknown method.icc.statistics 'rounds': did you mean round"),
        ('icc.m_batch_size', 2, 'm_batch_size 2 holds less than one feature for each of 3 classes'),
        ('icc.rounds', 0, 'no step'),
        ('icc.virtual_per_class', 0, 'no step'),
        ('rrl.epochs', 0, 'no step'),
        ('rrl.teacher_view', 'weak', "unknown augmentation 'weak'"),
    ],
)
def test_mistakes_in_the_recipe(key, value, message):
    made = tiny.config('lmd', 'any', {f'method.{key}': value})
    with pytest.raises(UserError, match=message):
        methods.recipe(made.method, tiny.task())


@pytest.mark.slow
@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('icc.e_batch_size', 20, 'icc/e_step is 20, which 8 devices cannot share evenly: use 16'),
        ('icc.e_batch_norm', 'runing', "unknown batch_norm 'runing': did you mean running"),
    ],
)
def test_mistakes_in_the_second_stage_end_the_run_before_the_first(
    data, tmp_path, key, value, message
):
    made = tiny.config('lmd', data, {f'method.{key}': value})
    with pytest.raises(UserError, match=message):
        tiny.training(made, tmp_path)
