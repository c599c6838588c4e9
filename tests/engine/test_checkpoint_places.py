"""Where checkpoints can be kept: folders of any name, those that are refused, and disks that lose data."""

import os
import pathlib
import signal

import jax.numpy as jnp
import pytest

import tiny
from ltjax import sharding
from ltjax.engine import checksums, rounds
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.safeguards import Safeguards
from ltjax.engine.state import TrainState
from ltjax.errors import Preempted, UserError
from ltjax.run import cross_validation, train
from ltjax.run.trained import Trained

pytestmark = pytest.mark.usefixtures('traced_once')


def state(value):
    tree = TrainState({'weights': jnp.full((4, 3), value)}, {}, {'teacher': jnp.full(2, value)})
    return sharding.replicate(tree, sharding.make_mesh())


def saved(folder):
    checkpoints = Checkpoints(folder / 'checkpoints')
    for number, score in enumerate((0.1, 0.3, 0.2)):
        checkpoints.save(state(number), {'number': number, 'stage_end': False}, score)
    checkpoints.close()


@pytest.mark.parametrize('relative', [False, True])
@pytest.mark.parametrize(
    'name',
    [
        '[exp1] x',
        '*/a?/{a,b}/**/[!a]/[1]',
        '100% %20/new\nline/"/it\'s/~/~root/日本 é',
        'a:b/s3:/http:/#|&;$!/<>/ /-x/.../x.orbax-checkpoint-tmp',
    ],
    ids=ascii,
)
def test_a_folder_may_have_any_name(tmp_path, monkeypatch, name, relative):
    monkeypatch.chdir(tmp_path)
    folder = pathlib.Path(name) if relative else tmp_path / name
    saved(folder)
    for read_only in (False, True):
        reopened = Checkpoints(folder / 'checkpoints', read_only=read_only)
        assert reopened.numbers() == [1, 2]
        assert tiny.same(reopened.restore(1, state(0)), state(1))
        assert reopened.progress(2)['number'] == 2
        reopened.close()
    assert os.listdir(tmp_path) == [name.split('/')[0]]


@pytest.mark.parametrize(
    ('name', 'reason'),
    [
        ('back\\slash', 'a backslash'),
        ('a\udcff', 'a byte that is not UTF-8'),
        ('gs:', "'gs:/'"),
        ('logs:/x', "'gs:/'"),
    ],
    ids=ascii,
)
def test_a_name_that_the_libraries_take_for_another_place_is_refused(tmp_path, name, reason):
    with pytest.raises(UserError, match=f'{reason}.*give another --workdir') as error:
        Checkpoints(tmp_path / name / 'checkpoints')
    str(error.value).encode()  # can be printed
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).mkdir(parents=True)
    (tmp_path / 'link').symlink_to(name)
    saved(tmp_path / 'link')
    assert (tmp_path / name / 'checkpoints' / '2' / checksums.SUMS).exists()


@pytest.mark.parametrize('root', ['gs', 's3', 'az', 'hf'])
def test_folders_of_the_root_that_are_taken_for_clouds_are_refused(root):
    with pytest.raises(UserError, match=f"the beginning '/{root}'"):
        Checkpoints(pathlib.Path('/') / root / 'run' / 'checkpoints')


def test_a_way_back_from_a_link_leads_where_the_system_says(tmp_path):
    (tmp_path / 'real' / 'deep').mkdir(parents=True)
    (tmp_path / 'link').symlink_to('real/deep')
    saved(tmp_path / 'link' / '..' / 'run')
    assert {path.name for path in tmp_path.iterdir()} == {'real', 'link'}
    reopened = Checkpoints(tmp_path / 'real' / 'run' / 'checkpoints')
    assert tiny.same(reopened.restore(2, state(0)), state(2))
    reopened.close()


# What tensorstore had begun to read when it failed is told of when the reader has gone.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize('loss', ['remove', 'zeros', 'other'])
def test_a_disk_that_loses_data_is_found_at_the_first_save(tmp_path, loss):
    checkpoints = Checkpoints(tmp_path / 'checkpoints')
    finish = checkpoints._manager.wait_until_finished

    def lose():
        finish()
        for path in (tmp_path / 'checkpoints' / '0' / 'state').rglob('d/*'):
            if loss == 'remove':
                path.unlink()
            else:
                path.write_bytes(bytes(path.stat().st_size))

    checkpoints._manager.wait_until_finished = lose
    if loss == 'other':  # whole, but not what was to be saved
        checkpoints._manager.wait_until_finished = finish
        read = checkpoints._read
        checkpoints._read = lambda *arguments: {
            name: leaf + 7 for name, leaf in read(*arguments).items()
        }
    with pytest.raises(UserError, match='the first checkpoint in .* is not what was') as error:
        checkpoints.save(state(0), {'number': 0, 'stage_end': False}, 0.0)
    assert '\n' not in str(error.value)
    checkpoints.close()
    reopened = Checkpoints(tmp_path / 'checkpoints')
    assert reopened.numbers() == []
    reopened.close()


def test_only_the_first_save_of_a_process_is_read_back(tmp_path, monkeypatch):
    reads = []
    read = Checkpoints._read

    def counted(self, number, *arguments):
        reads.append(number)
        return read(self, number, *arguments)

    monkeypatch.setattr(Checkpoints, '_read', counted)
    saved(tmp_path)
    assert reads == [0]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.mark.slow
def test_a_run_among_brackets_is_gone_on_with_borrowed_from_and_read(data, tmp_path, monkeypatch):
    made = tiny.config('crt', data, {'num_bootstrap': 2})
    whole = train.run(made, tmp_path / 'whole')
    monkeypatch.chdir(tmp_path)
    workdir = pathlib.Path('[exp1] x')
    asked = Safeguards.stop

    def stop(self, step, *count):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return asked(self, step, *count)

    with monkeypatch.context() as patch:
        patch.setattr(Safeguards, 'stop', stop)
        patch.setattr(rounds, 'STEPS_PER_CALL', 1)
        with pytest.raises(Preempted, match='saved at step 4'):
            train.run(made, workdir)
    assert train.run(made, workdir) | {'seconds': 0} == whole | {'seconds': 0}
    ours, theirs = (Trained.load(folder) for folder in (workdir, tmp_path / 'whole'))
    assert tiny.same(ours.state, theirs.state)
    made.start_from = str(workdir)
    borrowed = train.run(made, pathlib.Path('[exp2] x'))
    assert borrowed['best'] == whole['best']


@pytest.mark.slow
def test_folds_are_kept_among_brackets(tmp_path):
    data = tiny.npz(tmp_path / 'data.npz', split=None)
    changes = {'data.split.folds': 2, 'data.split.fold': cross_validation.ALL, 'num_bootstrap': 2}
    made = tiny.config('cross_entropy', data, changes | {'method.train.epochs': 1})
    assert cross_validation.run(made, tmp_path / '[5] folds')['num_folds'] == 2
    assert Trained.load(tmp_path / '[5] folds' / 'fold-1').settings.data.split.fold == 1


@pytest.mark.slow
@pytest.mark.parametrize('run', [train.run, cross_validation.run], ids=['train', 'folds'])
def test_a_name_is_refused_before_anything_is_read_or_written(data, tmp_path, monkeypatch, run):
    def load(*_):
        raise AssertionError('the data was read')

    monkeypatch.setattr(train.datasets, 'load', load)
    with pytest.raises(UserError, match='a backslash'):
        run(tiny.config('cross_entropy', data), tmp_path / 'a\\b')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_tensorboard_is_not_sent_to_a_cloud(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = tiny.config('cross_entropy', data, {'num_bootstrap': 2, 'method.train.epochs': 1})
    train.run(made, pathlib.Path('s3:/bucket/run'))
    assert list((tmp_path / 's3:' / 'bucket' / 'run' / 'tensorboard').iterdir())
