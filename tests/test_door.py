"""ltjax as programs use it: what `import ltjax` gives, and that it says and does what the commands do."""

import io
import json
import os
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import ltjax
import tiny
from ltjax.engine import watchdog
from ltjax.run import cross_validation
from ltjax.run.applying import Predictions
from ltjax.run.trained import Trained

pytestmark = pytest.mark.usefixtures('traced_once')

ROUNDS = 3


def shrunk(path, method='cross_entropy', **changes):
    config = ltjax.get_config(method, 'npz')
    config.data.path = str(path)
    with config.unlocked():
        config.model.width = 4
    config.method.train.epochs, config.method.train.batch_size = ROUNDS, 56
    config.method.train.view = 'none'
    config.num_bootstrap = 20
    config.update_from_flattened_dict(changes)
    return config


def program(text, cwd, path=tiny.ROOT, **environment):
    """Runs a program in a process of its own, which may write warnings only."""
    return subprocess.run(
        [sys.executable, '-c', text],
        capture_output=True, text=True, cwd=cwd, check=False,
        env=os.environ | {'PYTHONPATH': str(path), 'JAX_PLATFORMS': 'cpu'} | environment,
    )  # fmt: skip


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """A run, trained by a thread: its results, the rows that it told, and its workdir."""
    workdir = tmp_path_factory.mktemp('run') / 'run'
    before = signal.getsignal(signal.SIGTERM)
    done, rows = {}, []

    def work():
        done['results'] = ltjax.train(shrunk(data), str(workdir), on_round=rows.append)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
    return done['results'], rows, workdir


@pytest.fixture(scope='module')
def model(trained):
    return ltjax.load(trained[2])


@pytest.fixture(scope='module')
def tested(trained, data, tmp_path_factory):
    """An npz of the test images."""
    arrays = tiny.arrays()
    test = arrays['split'] == 'test'
    path = tmp_path_factory.mktemp('test') / 'test.npz'
    np.savez(path, images=arrays['images'][test], labels=arrays['labels'][test])
    return path


def test_import_is_instant_and_names_are_there(tmp_path):
    done = program(
        'import ltjax, sys\n'
        "assert 'jax' not in sys.modules and 'numpy' not in sys.modules\n"
        "config = ltjax.get_config('lmd', 'folder')\n"
        'try: ltjax.get_config("lmdd")\n'
        'except ltjax.UserError as error: print(error)\n'
        "assert 'jax' not in sys.modules\n"
        'print(sorted({*dir(ltjax)} & {*ltjax.__all__}))\n'
        'print(ltjax.losses.__name__, ltjax.train.__name__, ltjax.load.__name__)\n',
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "unknown config 'lmdd': did you mean lmd or ldam_drw or ldam?",
        "['UserError', 'get_config', 'load', 'losses', 'train']",
        'ltjax.losses train load',
    ]
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ltjax.trian  # noqa: B018
    assert (tiny.ROOT / 'ltjax' / 'py.typed').exists()


@pytest.mark.slow
def test_on_round_is_told_what_metrics_jsonl_gets(trained, data):
    results, rows, workdir = trained
    written = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert len(rows) == ROUNDS
    assert rows == written
    assert results == json.loads((workdir / 'results.json').read_text('utf-8'))
    told = []
    assert ltjax.train(shrunk(data), workdir, on_round=told.append) == results
    assert told == []  # it is finished


@pytest.mark.slow
def test_what_on_round_raises_ends_the_run_which_goes_on(data, trained, tmp_path):
    told = []

    def stop(row):
        told.append(row['round'])
        if len(told) == 2:
            raise KeyError('enough')

    with pytest.raises(KeyError, match='enough'):
        ltjax.train(shrunk(data), tmp_path / 'run', on_round=stop)
    results = ltjax.train(shrunk(data), tmp_path / 'run', on_round=stop)
    assert told == [0, 1, 1, 2]
    assert results['test'] == trained[0]['test']


@pytest.mark.slow
def test_every_fold_is_run(data, tmp_path, monkeypatch):
    asked = []

    def run(config, workdir, *, force, on_round):
        asked.append((config.data.split.fold, workdir, force))
        on_round({'round': 0})
        if len(asked) == 2:
            raise KeyError('enough')
        return {}

    monkeypatch.setattr(cross_validation.train, 'run', run)
    changes = {'data.split.protocol': 'none', 'data.split.folds': 2, 'data.split.fold': -1}
    rows = []
    with pytest.raises(KeyError, match='enough'):
        ltjax.train(shrunk(data, **changes), tmp_path, on_round=rows.append, force=True)
    assert asked == [(fold, tmp_path / f'fold-{fold}', True) for fold in (0, 1)]
    assert rows == [{'round': 0}] * 2


@pytest.mark.slow
def test_a_program_keeps_its_flags_and_its_settings_of_jax(data, tmp_path):
    made = shrunk(data, **{'method.train.epochs': 1})
    done = program(
        'import json, signal, sys, ltjax\n'
        'from ml_collections import ConfigDict\n'
        'from absl import flags\n'
        "flags.DEFINE_string('workdir', 'mine', 'a flag of the program')\n"
        "flags.DEFINE_string('config', 'mine', 'a flag of the program')\n"
        'import jax\n'
        'before, handler = dict(jax.config.values), signal.getsignal(signal.SIGTERM)\n'
        f'config = ConfigDict(json.loads({made.to_json()!r}))\n'
        "ltjax.train(config, 'run')\n"
        "ltjax.load('run').predict(config.data.path)\n"
        'print([k for k, v in jax.config.values.items() if before[k] != v])\n'
        'print(flags.FLAGS.is_parsed(), signal.getsignal(signal.SIGTERM) is handler)\n',
        tmp_path, JAX_DISABLE_MOST_OPTIMIZATIONS='1',
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ['[]', 'False True']
    first, *block = done.stderr.splitlines()
    assert first == f'data: {data} (npz)'
    assert all(line.startswith(('  ', 'WARNING:absl:')) for line in block)


@pytest.mark.slow
def test_predictions_of_a_path_and_of_an_array_are_one(model, tested, trained):
    assert isinstance(model, Trained)
    found = model.predict(tested)
    assert isinstance(found, Predictions)
    arrays = tiny.arrays()
    test = arrays['split'] == 'test'
    assert found.labels.tolist() == arrays['labels'][test].tolist()
    assert found.class_names == ('class 0', 'class 1', 'class 2')
    assert found.features.shape[0] == found.logits.shape[0] == len(found.ids) == 12
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)
    with np.load(trained[2] / 'predictions.npz') as archive:
        np.testing.assert_allclose(found.logits, archive['logits'], rtol=1e-5, atol=1e-5)
    for images in (arrays['images'][test], jax.numpy.asarray(arrays['images'][test])):
        direct = model.predict(images)
        assert direct.labels.tolist() == [-1] * 12
        assert direct.ids.tolist() == found.ids.tolist()
        assert np.array_equal(direct.logits, found.logits)
    colour = np.repeat(np.full((2, 30, 30, 1), 7, np.uint8), 3, axis=3)
    assert np.array_equal(model.predict(colour).logits, model.predict(colour[:, :12, :12]).logits)


@pytest.mark.slow
def test_evaluation_says_what_the_run_said_of_the_test_images(model, tested, trained):
    theirs = trained[0]['test']
    ours = model.evaluate(tested, num_bootstrap=20)
    assert set(ours) == set(theirs)
    for name in set(theirs) - {'warnings'}:
        ours_, theirs_ = (json.loads(json.dumps(each[name])) for each in (ours, theirs))
        assert numbers(ours_) == pytest.approx(numbers(theirs_), rel=1e-5, nan_ok=True), name
    assert set(ours['warnings']) <= set(theirs['warnings'])


def numbers(value):
    """Returns the numbers in JSON values."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in numbers(each)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.slow
def test_evaluation_refuses_what_it_cannot_count(model, tmp_path):
    images = tiny.arrays()['images'][:4]
    for arrays, message in (
        ({}, r'4 of 4 images of .*x.npz have no label \(000000 for one\)'),
        ({'labels': [0, 1, 2, 3]}, 'label 3 of .*x.npz is out of range'),
        (
            {'labels': [0, 1, 2, 3], 'class_names': ['class 0', 'class 1', 'class 2', 'odd']},
            "x.npz has the class 'odd'",
        ),
    ):
        np.savez(tmp_path / 'x.npz', images=images, **arrays)
        with pytest.raises(ltjax.UserError, match=message) as error:
            model.evaluate(tmp_path / 'x.npz')
        assert '\n' not in str(error.value)
    with pytest.raises(ltjax.UserError, match='images of the array have no label'):
        model.evaluate(images)
    with pytest.raises(ltjax.UserError, match='num_bootstrap is 0'):
        model.evaluate(images, num_bootstrap=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (np.zeros((2, 12, 12, 1)), r'`images` of the array is float64 \(2, 12, 12, 1\)'),
        (np.zeros((0, 12, 12, 1), np.uint8), 'the array holds no images'),
        (np.zeros((2, 12, 12, 4), np.uint8), 'should be uint8'),
        (['a.png', 'b.png'], '`images` of the array'),
        ('absent.npz', 'absent.npz does not exist: correct the path'),
    ],
    ids=str,
)
def test_bad_images_are_refused_in_a_line(model, images, message):
    for function in (model.predict, model.evaluate):
        with pytest.raises(ltjax.UserError, match=message) as error:
            function(images)
        assert '\n' not in str(error.value)


@pytest.mark.slow
def test_mistakes_say_what_the_command_says(data, trained, tmp_path):
    """Each is made in a program and on the command line, which are then compared word for word."""
    run = f'--workdir={tmp_path / "run"}'
    cases = [
        (
            lambda: ltjax.get_config('cross_entropi', 'npz'),
            ['train', '--config=cross_entropi:npz'],
        ),
        (
            lambda: ltjax.get_config('lmd', 'chula'),
            ['train', '--config=lmd:chula'],
        ),
        (
            lambda: ltjax.train(ltjax.get_config('lmd', 'npz'), tmp_path / 'run'),
            ['train', '--config=lmd:npz', run],
        ),
        (
            lambda: ltjax.train(
                shrunk(tmp_path / 'absent.npz', **{'method.name': 'lmdd'}), tmp_path / 'run'
            ),
            ['train', '--config=cross_entropy:npz', '--config.method.name=lmdd', run],
        ),
        (
            lambda: ltjax.load(tmp_path),
            ['predict', f'--workdir={tmp_path}', f'--data={data}', f'--out={tmp_path / "o.npz"}'],
        ),
        (
            lambda: ltjax.load(trained[2]).predict(tmp_path / 'no.csv'),
            ['predict', f'--workdir={trained[2]}', f'--data={tmp_path / "no.csv"}',
             f'--out={tmp_path / "o.npz"}'],
        ),
    ]  # fmt: skip
    text = (
        'import sys; from ltjax.__main__ import cli\n'
        'for words in {}:\n'
        '    sys.argv = ["ltjax", *words]\n'
        '    try: cli()\n'
        '    except SystemExit as end: assert end.code == 2\n'
        '    from absl import flags; flags.FLAGS.unparse_flags()\n'
    )
    # Huge pages are asked for already: a process that calls several commands must not start anew.
    done = program(
        text.format([case[1] for case in cases]), tmp_path, GLIBC_TUNABLES='glibc.malloc.hugetlb=0'
    )
    said = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    for (function, _), line in zip(cases, said, strict=True):
        with pytest.raises(ltjax.UserError) as error:
            function()
        assert line == f'error: {error.value}'
    assert not (tmp_path / 'run').exists()


@pytest.mark.slow
@pytest.mark.parametrize('config', ['lmd', {}, None, ConfigDict()], ids=str)
def test_what_is_no_config_is_refused(config, tmp_path):
    with pytest.raises(ltjax.UserError, match=r'give what ltjax.get_config returns'):
        ltjax.train(config, tmp_path / 'run')


def test_a_notebooks_streams_need_no_file_of_the_system():
    """The watchdog writes through a number of a file: a notebook's stderr may have none."""
    assert watchdog._system_file(io.StringIO()) == 2
