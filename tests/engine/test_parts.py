"""The small parts of the engine: inference in batches, the logbook."""

import io
import json

import jax
import numpy as np
import pytest

from ltjax import sharding
from ltjax.engine import inference
from ltjax.engine.logbook import Logbook
from ltjax.engine.rounds import CallLength


@pytest.mark.parametrize('number', [1, 8, 11, 16])
def test_inference_pads_the_last_batch_and_cuts_it_off(number):
    shapes = set()

    def forward(model, images):
        shapes.add(images.shape)
        return images[:, 0, 0, :] * model, images[:, 0, 0, :] + model

    images = np.arange(number, dtype=np.uint8).reshape(-1, 1, 1, 1)
    mesh = sharding.make_mesh()
    features, logits = inference.run(forward, 2, images, batch_size=5, mesh=mesh)
    assert features.ravel().tolist() == [2 * i for i in range(number)]
    assert logits.ravel().tolist() == [i + 2 for i in range(number)]
    assert shapes == {(8, 1, 1, 1)}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def fill(workdir, stream, rows=()):
    logbook = Logbook(workdir, stream=stream)
    logbook.begin(rows, step=0)
    logbook.progress('rrl/train', 1, 4, 0.5, 16)
    logbook.row({'stage': 'rrl', 'round': 0, 'loss': 0.25, 'val_balanced_accuracy': 0.5}, step=2)
    logbook.close()


def test_calls_take_about_a_second(monkeypatch):
    calls, lengths = CallLength(50), []
    for seconds in (30.0, *[0.02] * 7):  # it is compiled, then is quick
        calls.took(seconds)
        lengths.append(calls.now)
    assert lengths == [1, 2, 4, 8, 16, 32, 50, 50]
    for seconds in (4.0, 2.0, 0.9, 0.6):
        calls.took(seconds)
    assert calls.now == 12
    for _ in range(9):
        calls.took(5.0)
    assert calls.now == 1
    monkeypatch.setattr(jax, 'process_count', lambda: 2)  # whose clocks differ
    calls = CallLength(50)
    calls.took(30.0)
    assert calls.now == 50


def test_the_logbook_is_quiet_when_not_on_a_terminal(tmp_path):
    stream = io.StringIO()
    fill(tmp_path, stream)
    assert stream.getvalue() == ''
    row = json.loads((tmp_path / 'metrics.jsonl').read_text('utf-8'))
    assert row == {
        'stage': 'rrl', 'round': 0, 'loss': 0.25, 'val_balanced_accuracy': 0.5, 'step': 2,
    }  # fmt: skip
    assert list((tmp_path / 'tensorboard').iterdir())


def test_the_logbook_shows_progress_on_a_terminal(tmp_path):
    stream = Terminal()
    fill(tmp_path, stream)
    shown = stream.getvalue()
    assert 'rrl/train step 1/4, loss 0.5000' in shown
    assert 'rrl round 0: loss 0.2500, validation balanced accuracy 50.0%\n' in shown


def test_a_resumed_logbook_has_the_rows_of_its_checkpoint_and_no_others(tmp_path):
    fill(tmp_path, io.StringIO())
    path = tmp_path / 'metrics.jsonl'
    (row,) = map(json.loads, path.read_text('utf-8').splitlines())
    path.write_bytes(path.read_bytes() * 2 + b'{"stage": "rrl", "rou\x00')
    earlier = row | {'round': -1, 'step': 1}
    fill(tmp_path, io.StringIO(), [earlier])
    assert [json.loads(line) for line in path.read_text('utf-8').splitlines()] == [earlier, row]
