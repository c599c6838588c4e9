"""FCD, in our reading: fine-tuning that stays in the box around the first stage's weights, and near its logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import draws
import tiny
from ltjax import losses, methods, models
from ltjax.engine.state import TrainState, flatten
from ltjax.errors import UserError
from ltjax.methods.supervised import distillation
from ltjax.methods.supervised.logit_losses import Moment, plain

pytestmark = pytest.mark.usefixtures('traced_once')

BOX = 2e-3
STEPS = 3  # a round: 56 images in batches of 16
CHANGES = {'retrain.optimizer.box': BOX, 'retrain.optimizer.learning_rate': 0.05}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def made(data):
    return tiny.tuned('fcd', data, CHANGES)


@pytest.fixture(scope='module')
def watched(made, tmp_path_factory):
    """The state before and after each step [(update, before, after)], and the run's result."""
    return tiny.watch(made, tmp_path_factory.mktemp('watched'))


@pytest.mark.slow
def test_the_second_stage_stays_in_the_box_and_reaches_its_walls(watched):
    steps = watched[0][2 * STEPS :]
    begin = tiny.parameters(steps[0][1])
    assert tiny.same(begin, tiny.parameters(watched[0][2 * STEPS - 1][2]))  # fine-tuned, not reset
    for _, _, after in steps:
        far = {
            name: np.abs(leaf - begin[name]).max() for name, leaf in tiny.parameters(after).items()
        }
        assert max(far.values()) == pytest.approx(BOX, rel=1e-3)
        assert max(far.values()) <= BOX * (1 + 1e-3)  # rounding of weights near 1
        assert min(far.values()) > 0


@pytest.mark.slow
def test_statistics_teacher_and_centre_of_the_box_stand_still(watched):
    steps = watched[0][2 * STEPS :]
    first = steps[0][1]
    kept = tiny.parameters(first)
    for _, before, after in steps:
        assert tiny.moved(before, after) <= set(kept)  # some stay at a wall
        assert tiny.same(tiny.parameters(TrainState(after.extra['teacher'], {}, {})), kept)
        centre = after.optimizers['train'][-1]['centre']
        assert tiny.same(flatten(centre), kept)
    assert tiny.finite(watched[1][0], watched[1][2])


@pytest.mark.slow
def test_it_resumes_with_the_same_bits(made, watched, tmp_path):
    tiny.interrupt(made, tmp_path, at=3)
    state, best, _ = tiny.run(made, tmp_path)
    assert tiny.same(state, watched[1][0])
    assert best == watched[1][1]


@pytest.mark.slow
@pytest.mark.parametrize(
    'changes',
    [
        {'retrain.distil.weight': 0.0},
        {'retrain.distil.temperature': 8.0},
        {'retrain.optimizer.box': 1e-3},
        {'train.sharpness': {'name': 'none'}},
    ],
    ids=str,
)
def test_each_part_changes_the_result(watched, data, tmp_path, changes):
    state, _, rows = tiny.run(tiny.tuned('fcd', data, CHANGES | changes), tmp_path)
    assert tiny.finite(state, rows)
    assert not tiny.same(tiny.parameters(state), tiny.parameters(watched[1][0]))
    assert ('teacher' in state.extra) == changes.get('retrain.distil.weight', 1)


def test_the_loss_is_the_distilled_cross_entropy():
    logits, taught, labels = draws.normal(0, 5, 3), draws.normal(1, 5, 3), jnp.arange(5) % 3
    config = distillation.Distillation(0.3, 4.0)
    loss = distillation.distilled(plain(losses.softmax_cross_entropy), config)
    found = loss.values(logits, labels, Moment(jax.random.key(0), None, taught))
    expected = losses.distilled_cross_entropy(
        logits, labels, teacher_logits=taught, weight=0.3, temperature=4.0
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    with pytest.raises(ValueError, match='needs a teacher'):
        loss.values(logits, labels, Moment(jax.random.key(0)))


@pytest.mark.parametrize(
    ('trains', 'batch_norm', 'kept'),
    [
        ('classifier', 'running', {'classifier'}),
        ('classifier.bias', 'running', {'classifier'}),
        ('all', 'running', {'classifier', 'convs', 'norms'}),
        ('all', 'batch', {'classifier', 'convs', 'norms'}),
    ],
)
def test_the_teacher_is_the_network_as_it_was(trains, batch_norm, kept):
    model = models.create('small_cnn', num_classes=3, channels=1, width=2, rngs=nnx.Rngs(0))
    images = draws.normal(0, 4, 8, 8, 1)
    teacher = distillation.teacher_of(
        TrainState(nnx.state(model), {}, {}), trains, batch_norm=batch_norm
    )
    assert {name.split('.')[0] for name in flatten(teacher)} == kept
    assert any('var' in name for name in flatten(teacher)) == (batch_norm == 'batch')
    model.eval()
    expected = model(images)
    model.classifier.bias[...] += 1.0
    if trains == 'all':
        model.convs[0].kernel[...] *= 2.0
    if batch_norm == 'batch':
        model.norms[0].mean[...] += 1.0
        model.train()
    found = distillation.teacher_logits(model, teacher, images, expected.features, trains)
    np.testing.assert_allclose(found, expected.logits, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'retrain.mix': {'name': 'manifold_mixup'}}, "cannot follow mix 'manifold_mixup'"),
        ({'retrain.distil.weight': 1.5}, 'a number from 0 to 1'),
        ({'retrain.distil.temperature': 0.0}, 'a positive number'),
        ({'retrain.optimizer.max_norm': 1.0}, 'box and max_norm'),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_a_line(changes, message):
    made = tiny.tuned('fcd', changes=changes)
    with pytest.raises(UserError, match=message) as error:
        methods.recipe(made.method, tiny.task())
    assert '\n' not in str(error.value)
