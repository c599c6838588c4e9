"""The workdir: one run at a time, what changed since it began, and a disk that fails."""

import errno
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import tiny
from ltjax import files, processes, provenance
from ltjax.engine.logbook import Logbook
from ltjax.errors import UserError
from ltjax.run import ownership, train

pytestmark = pytest.mark.usefixtures('traced_once')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


def config(data, **changes):
    shorter = {'method.train.epochs': 2, 'num_bootstrap': 2}
    return tiny.config('cross_entropy', data, shorter | changes)


@pytest.mark.slow
def test_two_runs_do_not_share_a_workdir(data, tmp_path):
    with ownership.locked(tmp_path):
        with pytest.raises(UserError, match=rf'another run is in .* \(process {os.getpid()} on '):
            train.run(config(data), tmp_path)
        assert not (tmp_path / 'metrics.jsonl').exists()
    assert not (tmp_path / 'run.lock').exists()
    with ownership.locked(tmp_path):
        pass


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    script = (
        'import os, pathlib, signal, sys; from ltjax.run import ownership\n'
        'with ownership.locked(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)'
    )
    command = [sys.executable, '-c', script, str(tmp_path)]
    environment = os.environ | {'PYTHONPATH': str(tiny.ROOT)}
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    assert (tmp_path / 'run.lock').exists()
    with ownership.locked(tmp_path):
        pass


@pytest.mark.slow
def test_a_workdir_that_vanishes_ends_the_run_and_is_gone_on_with(data, tmp_path, monkeypatch):
    workdir, away = tmp_path / 'run', tmp_path / 'away'
    whole = train.run(config(data), tmp_path / 'whole')
    write = Logbook.row

    def vanish(self, values, *, step):
        write(self, values, step=step)
        workdir.rename(away)

    with monkeypatch.context() as patch:
        patch.setattr(Logbook, 'row', vanish)
        with pytest.raises(UserError, match='has vanished or was replaced: bring it back'):
            train.run(config(data), workdir)
    assert not workdir.exists()
    away.rename(workdir)
    assert train.run(config(data), workdir) | {'seconds': 0} == whole | {'seconds': 0}


@pytest.mark.slow
@pytest.mark.parametrize('code', [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_failing_disk_is_one_line(data, tmp_path, monkeypatch, code):
    def failing(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, 'replace', failing)
    with pytest.raises(UserError, match=f'cannot write to .*{os.strerror(code)}') as error:
        train.run(config(data), tmp_path)
    assert '\n' not in str(error.value)


def test_what_is_no_fault_of_the_disk_is_not_called_one(tmp_path):
    with pytest.raises(FileNotFoundError), ownership.disk_errors(tmp_path):
        pathlib.Path('/no/such/file').read_bytes()
    with pytest.raises(UserError, match='cannot write to'), ownership.disk_errors(tmp_path):
        (tmp_path / 'absent' / 'file').write_bytes(b'')


def changed(monkeypatch, **changes):
    made_from = provenance.of
    monkeypatch.setattr(provenance, 'of', lambda config: made_from(config) | changes)


def begun(data, workdir):
    """Leaves a run after its first round."""

    class Stopped(Exception):
        pass

    def stop(self, values, *, step):
        if values['round'] == 1:
            raise Stopped

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Logbook, 'row', stop)
        with pytest.raises(Stopped):
            train.run(config(data), workdir)


@pytest.mark.slow
def test_what_changes_results_is_refused_unless_forced(data, tmp_path, monkeypatch, caplog):
    begun(data, tmp_path)
    versions = provenance.versions()
    with monkeypatch.context() as patch:
        changed(patch, versions=versions | {'numpy': '1.0'}, source='other', git='abc')
        with pytest.raises(
            UserError,
            match=r'not be the run that began: source: .*, now other; versions.numpy: .*1\.0',
        ):
            train.run(config(data), tmp_path)
        assert 'git: ' in caplog.text
        with pytest.raises(UserError, match=r'differs in seed.*--force_resume'):
            train.run(config(data, seed=1), tmp_path)
        assert train.run(config(data, seed=1), tmp_path, force=True)['seed'] == 1
    assert 'results may differ: config.seed: 0, now 1' in caplog.text


@pytest.mark.slow
def test_what_changes_no_result_is_told_and_accepted(data, tmp_path, monkeypatch, caplog):
    begun(data, tmp_path)
    changed(monkeypatch, git='abc')
    changes = {'checkpoint.every_steps': 1, 'watchdog_minutes': 5.0, 'on_nonfinite': 'skip'}
    train.run(config(data, **changes), tmp_path)
    for name in ('git', 'config.on_nonfinite', 'config.checkpoint.every_steps'):
        assert f'changed since the newest checkpoint: {name}: ' in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    'damage', [('"select"', '"sElect"'), ('"seed": 0', '"seed": 4'), ('{', '')]
)
def test_a_damaged_config_is_written_anew_from_the_same_command(data, tmp_path, damage):
    begun(data, tmp_path)
    path = tmp_path / 'config.json'
    path.write_text(path.read_text('utf-8').replace(*damage), 'utf-8')
    with pytest.raises(UserError, match='config.seed: 0, now 1'):
        train.run(config(data, seed=1), tmp_path)
    train.run(config(data), tmp_path)
    assert ownership.read_config(tmp_path)['seed'] == 0


@pytest.mark.slow
def test_results_that_are_damaged_or_lack_their_report_are_mended(data, tmp_path):
    whole = train.run(config(data), tmp_path)
    for name in ('report.html', 'model_card.md'):
        (tmp_path / name).unlink()
    assert train.run(config(data), tmp_path) == whole
    assert (tmp_path / 'report.html').exists()
    assert (tmp_path / 'model_card.md').exists()
    (tmp_path / 'results.json').write_text('{"method": "cr', 'utf-8')
    assert train.run(config(data), tmp_path) | {'seconds': 0} == whole | {'seconds': 0}


@pytest.mark.slow
def test_a_clock_that_goes_back_changes_nothing(data, tmp_path, monkeypatch):
    whole = train.run(config(data), tmp_path / 'whole')
    begun(data, tmp_path / 'run')
    monkeypatch.setattr('time.time', lambda: 1e6)
    assert train.run(config(data), tmp_path / 'run') | {'seconds': 0} == whole | {'seconds': 0}


def test_processes_that_read_other_data_are_told(monkeypatch):
    digest = 'ab' * 32
    processes.require_equal('the data', digest)  # one process has nothing to compare with
    monkeypatch.setattr(processes.jax.distributed, 'is_initialized', lambda: True)
    gathered = []
    monkeypatch.setattr(
        processes.multihost_utils, 'process_allgather', lambda own: np.stack([own, *gathered])
    )
    gathered[:] = [np.full(32, 0xAB, np.uint8)]
    processes.require_equal('the data', digest)
    gathered.append(np.full(32, 0xAC, np.uint8))
    with pytest.raises(UserError, match='the data of process 2 differ from those of process 0'):
        processes.require_equal('the data', digest)


def test_without_locks_a_run_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(files, 'fcntl', None)
    with ownership.locked(tmp_path) as check_present:
        check_present()
    assert 'cannot be locked (this system has no locks)' in caplog.text


@pytest.mark.slow
def test_a_finished_run_of_a_version_without_some_keys_is_this_config_s(data, tmp_path):
    whole = train.run(config(data), tmp_path / 'run')
    path = tmp_path / 'run' / 'config.json'
    values = json.loads(path.read_text('utf-8'))
    del values['config']['mesh'], values['config']['data']['window']
    del values['config']['method']['train']['optimizer']['box']
    values['config_sha256'] = provenance.digest(values['config'])
    path.write_text(json.dumps(values), 'utf-8')
    assert train.run(config(data), tmp_path / 'run') == whole
    other = config(data, **{'method.train.optimizer.box': 0.5})
    with pytest.raises(UserError, match=r'it differs in method\.train\.optimizer\.box'):
        train.run(other, tmp_path / 'run')
    other = config(data, **{'model.width': 5})
    with pytest.raises(UserError, match=r'it differs in model\.width'):
        train.run(other, tmp_path / 'run')
