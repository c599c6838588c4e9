"""Watching a training: it trains as if nobody looked, and what is seen is right."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
import watch
from flax import nnx

import tiny
from ltjax.engine import loop
from ltjax.engine.stage import Loss
from ltjax.engine.state import TrainState

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('traced_once')]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def watched(made, folder):
    training = tiny.training(made, folder)
    seen = watch.Watch()
    seen.training = training
    stages = tuple(map(seen.over, training.recipe.stages))
    training.recipe = dataclasses.replace(training.recipe, stages=stages)
    state, best = loop.run(training)
    training.checkpoints.close()
    return state, best, seen.rows


def test_a_look_changes_nothing(data, tmp_path):
    made = tiny.config('lmd', data)
    state, best, rows = watched(made, tmp_path / 'watched')
    alone, as_well, _ = tiny.run(made, tmp_path / 'alone')
    assert tiny.same(state, alone)
    assert best == as_well
    assert [row['stage'] for row in rows] == ['rrl'] * 2 + ['icc'] * 2
    assert set(rows[0]['train']) == {'cross_entropy', 'sample', 'channel', 'probability'}
    assert set(rows[2]['e_step']) == {'label_loss', 'fdc'}
    for row in rows:
        for terms in (row[name] for name in ('train', 'e_step') if name in row):
            label = terms['cross_entropy' if 'cross_entropy' in terms else 'label_loss']
            assert label['cosine'] == pytest.approx(1, abs=1e-5)
            assert all(abs(term['cosine']) <= 1 + 1e-5 for term in terms.values())


def test_a_teacher_has_statistics_of_its_own(data, tmp_path):
    _, _, rows = watched(tiny.config('lmd', data), tmp_path)
    assert set(rows[0]['recall']) == {'network', 'teacher'}
    assert 'teacher' not in rows[-1]['recall']
    training = tiny.training(tiny.config('lmd', data), tmp_path / 'again')
    training.checkpoints.close()
    seen = watch.Watch()
    seen.training = training
    model = training.new_model(training.key('model'))
    settled = seen._with_own_statistics(model)
    assert tiny.same(*(nnx.filter_state(each, nnx.Param) for each in (model, settled)))
    images = training.data.images_of('train')
    network = nnx.merge(training.graphdef, settled, copy=True)
    view = training.view(jax.random.key(0), images)
    network.eval()
    running = network(view).features
    network.train()
    np.testing.assert_allclose(
        running, network(view).features, atol=0.15
    )  # of batches with repeats


def test_lengths_and_cosines_are_those_of_known_gradients(data, tmp_path):
    training = tiny.training(tiny.config('cross_entropy', data), tmp_path)
    training.checkpoints.close()

    def terms(model, extra, batch, key, step):
        total = model.classifier.kernel[...].sum()
        return Loss(total, {'one': total, 'against': -2 * total})

    update = dataclasses.replace(training.recipe.stages[0].updates[0], loss_fn=terms)
    state = TrainState(training.new_model(training.key('model')), {}, {})
    batch = {'image': np.zeros((1, 8, 8, 1), np.uint8)}
    seen = watch._terms_of(update, training.graphdef)(state, batch, training.key('watch'), 0)
    length = state.model['classifier']['kernel'][...].size ** 0.5
    assert seen['one']['gradient'] == pytest.approx(length)
    assert seen['against']['gradient'] == pytest.approx(2 * length)
    assert (seen['one']['cosine'], seen['against']['cosine']) == pytest.approx((1, -1))


def test_the_command_writes_rows_and_a_figure(data, tmp_path, monkeypatch, capsys):
    named = [f'--set={change}' for change in ('method.train.epochs=2', 'model.width=4')]
    command = ['watch.py', '--config=cross_entropy', '--benchmark=npz', f'--path={data}', *named]
    monkeypatch.setattr(sys, 'argv', [*command, '--set=num_bootstrap=10', f'--out={tmp_path}/out'])
    watch.main()
    rows = json.loads((tmp_path / 'out/watched.json').read_text())
    assert [row['round'] for row in rows] == [0, 1]
    assert b'<svg' in (tmp_path / 'out/watched.svg').read_bytes()
    assert capsys.readouterr().out == f'2 rounds: {tmp_path}/out/watched.svg\n'
