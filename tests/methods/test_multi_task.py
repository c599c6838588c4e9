"""MTL: what the second head learns, from which images, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import methods, predict
from ltjax.data.reading.table import Column
from ltjax.errors import UserError
from ltjax.methods.task import Task
from ltjax.run import train

pytestmark = pytest.mark.usefixtures('traced_once')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def recipe(columns, **changes):
    values = tiny.config('mtl', 'any').method.to_dict() | changes
    return methods.recipe(values, Task(np.array(tiny.COUNTS), (0.5,), (0.25,), columns))


class Linear(nnx.Module):
    """Two heads on features that are the images themselves."""

    def __init__(self):
        self.classifier = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
        self.further = nnx.Linear(4, 2, rngs=nnx.Rngs(1))

    def __call__(self, images):
        return images, self.classifier(images)


def cross_entropy(logits, labels):
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels]


@pytest.mark.parametrize('weight', [0.0, 0.5])
def test_the_loss_of_a_batch_is_that_of_the_formula(weight):
    made = recipe(tiny.columns(['site']), weight=weight)
    loss_fn = made.stages[0].updates[0].loss_fn
    rng, model = np.random.default_rng(0), Linear()
    index = np.array([7, 0, 2, 55, 4, 5])
    images, labels = rng.normal(size=(6, 4)).astype(np.float32), np.array([0, 1, 2, 0, 1, 0])
    batch = {'index': jnp.asarray(index), 'label': jnp.asarray(labels), 'view': images}
    found = loss_fn(model, {}, batch, jax.random.key(0), 0)
    codes = tiny.columns(['site'])['site'].codes[index]
    seen = codes >= 0
    assert 0 < seen.sum() < 6
    first = cross_entropy(np.asarray(model.classifier(images)), labels).mean()
    second = cross_entropy(np.asarray(model.further(images))[seen], codes[seen]).mean()
    assert float(found.logged['further']) == pytest.approx(second, rel=1e-5)
    assert float(found.value) == pytest.approx(first + weight * second, rel=1e-5)


def test_images_without_the_other_label_leave_the_second_head_alone():
    codes = np.full(sum(tiny.COUNTS), -1, np.int32)
    loss_fn = recipe({'site': Column(codes, ('a', 'b'))}).stages[0].updates[0].loss_fn
    batch = {'index': jnp.arange(4), 'label': jnp.zeros(4, int), 'view': jnp.ones((4, 4))}

    def value(model):
        return loss_fn(model, {}, batch, jax.random.key(0), 0).value

    gradient = nnx.grad(value)(Linear())
    assert not np.any(gradient['further']['kernel'][...])
    assert np.any(gradient['classifier']['kernel'][...])


def test_the_first_column_is_taken_unless_another_is_named():
    columns = tiny.columns(['site']) | {'sex': Column(np.zeros(56, np.int32), ('f', 'm', 'x'))}
    for name, number in (('', 2), ('site', 2), ('sex', 3)):
        model = type('Model', (), {'feature_dim': 4})()
        recipe(columns, column=name).add_heads(model, nnx.Rngs(0))
        assert model.further.kernel.shape == (4, number)


@pytest.mark.parametrize(
    ('columns', 'changes', 'message'),
    [
        ({}, {}, 'the data have none: name one of the columns of the files in --config.data.further'),
        (tiny.columns(['site']), {'column': 'sex'}, "method.column is 'sex', and the data have site"),
        (
            {'site': Column(np.zeros(56, np.int32), ('back',))}, {},
            "the column 'site' has 1 values: a second head needs two or more",
        ),
        (tiny.columns(['site']), {'weight': -1.0}, 'method.weight is -1.0: use 0 or more'),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_line(columns, changes, message):
    with pytest.raises(UserError, match=message) as error:
        recipe(columns, **changes)
    assert '\n' not in str(error.value)


def test_data_without_the_column_are_refused(tmp_path):
    data = tiny.npz(tmp_path / 'data.npz', site=None)
    with pytest.raises(UserError, match="no further column 'site'.*or use another method"):
        train.run(tiny.config('mtl', data), tmp_path / 'run')


@pytest.mark.slow
def test_it_trains_both_heads_and_resumes_with_the_same_bits(data, tmp_path):
    made = tiny.tuned('mtl', data)
    state, _, rows = tiny.run(made, tmp_path / 'whole')
    assert tiny.finite(state, rows)
    assert set(rows[0]) >= {'cross_entropy', 'further', 'loss'}
    tiny.interrupt(made, tmp_path / 'cut', at=1)
    resumed, *_ = tiny.run(made, tmp_path / 'cut')
    assert tiny.same(state, resumed)
    alone, _, _ = tiny.run(tiny.tuned('mtl', data, {'weight': 0.0}), tmp_path / 'alone')
    moved = tiny.moved(state, alone)
    assert moved > {'further.kernel.value', 'further.bias.value'}  # and the encoder


@pytest.mark.slow
def test_a_finished_run_predicts_and_sees_that_the_column_changed(data, tmp_path):
    made = tiny.config('mtl', tiny.npz(tmp_path / 'data.npz'))
    results = train.run(made, tmp_path / 'run')
    assert results['data']['columns']['site']['names'] == ['back', 'face']
    model = predict.Trained.load(tmp_path / 'run')
    plain = tiny.npz(tmp_path / 'new.npz', site=None)  # new images need no such column
    assert model.predict(str(plain)).logits.shape == (80, 3)
    site = np.array(tiny.arrays()['site'])
    site[1] = 'back'
    tiny.npz(tmp_path / 'data.npz', site=site)
    with pytest.raises(UserError, match=r"the column 'site' changed: 000001 \(face, now back\)"):
        train.run(made, tmp_path / 'run')
