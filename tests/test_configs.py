"""Every shipped config, shrunk, from the first step to the report; and what a second call does."""

import contextlib
import importlib
import json

import jax
import numpy as np
import pytest

import tiny
from ltjax import methods
from ltjax.data import catalog, datasets
from ltjax.errors import UserError
from ltjax.run import build, train
from ltjax.run.settings import Settings

pytestmark = pytest.mark.figures

# Those of whose methods a report has figures of their own, and one without: of the others they are not drawn.
DRAWN = ('aduni', 'alpa', 'balms', 'cross_entropy', 'iccl', 'proco')


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(name, marks=[] if name == 'cross_entropy' else pytest.mark.slow)
        for name in tiny.CONFIGS
    ],
)
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    made = tiny.config(request.param, tiny.npz(folder / 'data.npz'))
    with contextlib.nullcontext() if request.param in DRAWN else tiny.plain_figures():
        return made, folder / 'run', train.run(made, folder / 'run')


def test_a_run_leaves_all_its_files(finished):
    made, workdir, results = finished
    names = {path.name for path in workdir.iterdir()}
    assert names == {
        'config.json', 'metrics.jsonl', 'results.json', 'predictions.npz', 'validation.npz',
        'report.html', 'model_card.md', 'checkpoints', 'tensorboard', 'data_identity.npz',
    }  # fmt: skip
    assert list((workdir / 'tensorboard').glob('events.*'))
    assert json.loads((workdir / 'results.json').read_text('utf-8')) == json.loads(
        json.dumps(results)
    )
    assert results['train_counts'] == list(tiny.COUNTS)
    assert 0 <= results['test']['metrics']['balanced_accuracy']['value'] <= 1
    page = (workdir / 'report.html').read_text('utf-8')
    assert page.startswith('<!DOCTYPE html>')
    assert made.errors_shown == 0  # and then there is neither a file nor a section of them
    assert 'Errors on rare classes' not in page
    assert (workdir / 'model_card.md').read_text('utf-8').startswith('# Model card: ')


def test_predictions_hold_the_test_split(finished):
    made, workdir, _ = finished
    with np.load(workdir / 'predictions.npz', allow_pickle=False) as archive:
        named = {'class_names', 'data_sha256', *(f'column:{name}' for name in made.data.further)}
        assert set(archive.files) == {'ids', 'labels', 'logits', 'features'} | named
        expected = np.flatnonzero(tiny.arrays()['split'] == 'test')
        assert archive['ids'].tolist() == [f'{i:06d}' for i in expected]
        assert archive['labels'].tolist() == tiny.arrays()['labels'][expected].tolist()
        assert archive['logits'].shape == (len(expected), 3)
        branches = {'bbn': 2, 'sade': 3}.get(made.method.name, 1)
        assert archive['features'].shape == (len(expected), 16 * branches)
        assert np.isfinite(archive['logits']).all()


def test_rounds_and_steps_are_logged(finished):
    made, workdir, _ = finished
    rows = [
        json.loads(line) for line in (workdir / 'metrics.jsonl').read_text('utf-8').split('\n')[:-1]
    ]
    task = build.make_task(Settings.of(made), datasets.load(made.data))
    stages = methods.recipe(made.method, task).stages
    assert [row['round'] for row in rows] == [n for stage in stages for n in range(stage.rounds)]
    steps = [row['step'] for row in rows]
    assert steps == sorted(set(steps))
    assert all(0 <= row['val_balanced_accuracy'] <= 1 for row in rows)


def test_a_second_call_returns_the_results_and_trains_nothing(finished):
    made, workdir, results = finished
    before = {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()}
    again = train.run(made, workdir)
    assert again == json.loads(json.dumps(results))
    assert before == {path: path.read_bytes() for path in workdir.rglob('*') if path.is_file()}


def test_another_config_is_refused_by_the_key_that_differs(finished):
    made, workdir, _ = finished
    other = made.copy_and_resolve_references()
    stage = 'rrl' if 'rrl' in other.method else 'train'
    other.method[stage].optimizer.learning_rate = 0.5
    before = (workdir / 'config.json').read_bytes()
    with pytest.raises(
        UserError, match=rf'differs in method\.{stage}\.optimizer\.learning_rate'
    ) as e:
        train.run(other, workdir)
    assert str(workdir) in str(e.value)
    assert '\n' not in str(e.value)
    assert (workdir / 'config.json').read_bytes() == before


def test_configs_do_not_share_what_they_return():
    a, b = (importlib.import_module('configs.lmd').get_config() for _ in range(2))
    a.data.split.seed = 7
    assert b.data.split.seed == 0
    assert catalog.DATA_SETS['fashion_mnist_lt_mini'].get('split') is None


@pytest.mark.slow
def test_a_mistake_leaves_the_workdir_free(tmp_path):
    made = tiny.config('cross_entropy', tmp_path / 'absent.npz')
    with pytest.raises(UserError, match='absent.npz does not exist'):
        train.run(made, tmp_path / 'run')
    made.data.path = str(tiny.npz(tmp_path / 'data.npz'))
    made.method.train.batch_size = 12
    with pytest.raises(UserError, match='12, which 8 devices cannot share evenly: use 16'):
        train.run(made, tmp_path / 'run')
    made.method.train.update({'batch_size': 56, 'epochs': 1})
    assert train.run(made, tmp_path / 'run')['best']['round'] == 0


def test_a_mistake_in_the_method_shows_before_the_data_are_read(tmp_path):
    made = tiny.config('cross_entropy', tmp_path / 'absent.npz')
    made.method.train.optimizer.name = 'sdg'
    with pytest.raises(UserError, match="unknown method.train.optimizer.name 'sdg'"):
        train.run(made, tmp_path / 'run')


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('num_bootstrap', 0, 'num_bootstrap is 0'),
        ('data.groups.tail', (9,), r'class groups list \[9\]'),
        ('data.mean', (0.5, 0.5), 'data.mean has 2 values for 1 channels'),
        ('data.std', (0.0,), 'data.std is 0.0: use a positive number'),
        ('data.channels', 4, 'data.channels is 4: use 0, 1 or 3'),
        ('data.image_size', 100_000, 'data.image_size is 100000: use a number from 0 to 16384'),
        ('data.split.seed', -1, 'data.split.seed is -1: use 0 or more'),
        ('select', 'lst', "unknown select 'lst'"),
        ('method.train.epochs', 0, 'no step to train'),
        ('method.train.batch_size', 0, 'holds no image'),
        ('method.train.sampler', 'balanced', "unknown sampler 'balanced'.*class_balanced"),
        ('method.train.view', 'upright_week', "unknown augmentation 'upright_week'.*upright_weak"),
        ('method.train.optimizer.name', 'sdg', "unknown method.train.optimizer.name 'sdg'.*sgd"),
        (
            'method.train.optimizer.schedule',
            'cosin',
            "unknown method.train.optimizer.schedule 'cosin'.*cosine",
        ),
        ('method.name', 'lmdd', "unknown method 'lmdd'.*lmd"),
        ('model.name', 'resnet', "unknown model 'resnet'"),
        ('model.dtype', 'float16', "unknown model dtype 'float16'.*bfloat16"),
        ('model.dtype', 'float23', "unknown model dtype 'float23'"),
        ('model.width', 0, 'model.width is 0: use 1 or more'),
        ('seed', 2**63, 'seed is 9223372036854775808: use a number from 0'),
        ('seed', -1, 'seed is -1: use a number from 0'),
        ('method.train.optimizer.learning_rate', -1.0, 'learning_rate is -1.0: use 0 or more'),
        (
            'method.train.optimizer.learning_rate',
            float('nan'),
            'learning_rate is nan: use 0 or more',
        ),
        ('method.train.optimizer.momentum', 5.0, 'momentum is 5.0: use a number from 0 to below 1'),
        ('mesh.fsdp', 3, 'mesh.fsdp is 3, which does not divide 8 devices'),
        ('mesh.data', 16, 'mesh.data 16 x mesh.fsdp 1 is not 8'),
        ('accumulate', 0, 'accumulate is 0'),
        ('accumulate', 4, '16, which 8 devices cannot share evenly in 4 parts: use 32'),
        ('start_from', '/no/such/run', '/no/such/run is no run'),
    ],
)
def test_mistakes_end_before_the_first_step(tmp_path, key, value, message):
    made = tiny.config('cross_entropy', tiny.npz(tmp_path / 'data.npz'))
    made.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as error:
        train.run(made, tmp_path / 'run')
    assert '\n' not in str(error.value)
    assert not list((tmp_path / 'run').glob('checkpoints/*'))


@pytest.mark.slow
@pytest.mark.parametrize('name', ['lmd', 'aduni', 'iccl'])
def test_bfloat16_is_for_computing_only(name, tmp_path):
    made = tiny.config(name, tiny.npz(tmp_path / 'data.npz'))
    made.model.dtype = 'bfloat16'
    state, _, rows = tiny.run(made, tmp_path / 'run')
    kinds = {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.dtype.kind == 'f'}
    assert kinds == {np.dtype('float32')}
    plain = tiny.config(name, tmp_path / 'data.npz')
    _, _, rows_plain = tiny.run(plain, tmp_path / 'plain')
    assert rows[0]['loss'] != rows_plain[0]['loss']
    assert rows[0]['loss'] == pytest.approx(rows_plain[0]['loss'], rel=0.1)


def test_a_workdir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').write_text('', 'utf-8')
    made = tiny.config('cross_entropy', tiny.npz(tmp_path / 'data.npz'))
    with pytest.raises(UserError, match='cannot write to .*file/run'):
        train.run(made, tmp_path / 'file' / 'run')
