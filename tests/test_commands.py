"""The command `ltjax`, and what all commands share."""

import errno
import importlib
import importlib.util
import os
import re
import subprocess
import sys

import pytest

import ltjax
import tiny
from ltjax import __main__ as commands
from ltjax import files
from ltjax.command import exits, goes_on
from ltjax.errors import UserError


def command(*words, cwd, module='ltjax', **environment):
    return subprocess.run(
        [sys.executable, '-m', module, *words],
        capture_output=True, text=True, cwd=cwd, check=False,
        env=os.environ | {'PYTHONPATH': str(tiny.ROOT)} | environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ('raised', 'line'),
    [
        (OSError(errno.ENOSPC, 'No space left on device'), 'error: No space left on device'),
        (
            OSError(errno.ENAMETOOLONG, 'File name too long', 'www'),
            'error: www: File name too long',
        ),
        (MemoryError('Unable to allocate 7 TiB'), 'error: there is not enough memory. Unable to'),
    ],
)
def test_what_the_system_refuses_is_one_line(raised, line, capsys):
    with pytest.raises(SystemExit) as end, exits():
        raise raised
    assert end.value.code == 2
    [told] = capsys.readouterr().err.splitlines()
    assert told.startswith(line)


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(OSError, match='of no system'), exits():
        raise OSError('of no system')


def test_what_cannot_be_written_whole_leaves_nothing(tmp_path):
    def rows():
        yield ['half']
        raise OSError(errno.ENOSPC, 'full')

    files.write_text(tmp_path / 'a.json', 'before')
    with pytest.raises(OSError, match='full'):
        files.write_csv(tmp_path / 'a.json', rows())
    assert [path.name for path in tmp_path.iterdir()] == ['a.json']
    assert (tmp_path / 'a.json').read_text() == 'before'


def test_one_command_lists_the_others(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr(sys, 'argv', ['/usr/bin/ltjax', *words])
        status = 0
        try:
            commands.cli()
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    status, out, err = call('--help')
    assert (status, err) == (0, '')
    assert out.startswith('usage: ltjax COMMAND')
    for name, about in commands.COMMANDS.items():
        assert re.search(rf'^  {name} +{about.help}$', out, flags=re.MULTILINE)
        assert importlib.util.find_spec(about.module) is not None
    assert call('--version') == (0, f'ltjax {ltjax.__version__}\n', '')
    assert call('trian') == (2, '', "error: unknown command 'trian': did you mean train?\n")
    assert call()[0] == 2
    for name in set(commands.COMMANDS) - {'train'}:
        status, out, _ = call(name, '--help')
        assert status == 0
        assert out.startswith(f'usage: ltjax {name} [-h]')


@pytest.mark.slow
def test_train_takes_a_name_for_a_file(tmp_path):
    done = command('train', '--help', cwd=tmp_path)
    assert done.returncode == 0
    assert '--workdir' in done.stdout
    for words in (['--config=lmd'], ['--config', 'lmd'], ['--config=configs/lmd.py']):
        done = command('train', *words, '--config.methd.x=1', cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("error: unknown config key 'methd.x': did you mean")
    for words, said in (
        (['--config=lmdd'], "unknown config 'lmdd': did you mean lmd or ldam_drw or ldam?"),
        (
            ['--config=configs/lmdd.py:npz'],
            "unknown config 'lmdd': did you mean lmd or ldam_drw or ldam?",
        ),
        (['--config=mine.py'], "config file 'mine.py' does not exist: correct the path."),
        (['--config=lmd:npz'], "data set 'npz' needs its files: set --config.data.path=..."),
    ):
        done = command('train', *words, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (2, f'error: {said}\n')
    assert list(tmp_path.iterdir()) == []


def test_usage_says_how_a_command_was_called(monkeypatch, capsys):
    for name in set(commands.COMMANDS) - {'train'}:
        module = commands.COMMANDS[name].module
        monkeypatch.setattr(sys, 'argv', [f'/x/{name}.py', '--help'])
        with pytest.raises(SystemExit):
            importlib.import_module(module).cli()
        shown = f'usage: python -m {module.removesuffix(".__main__")} [-h]'
        assert capsys.readouterr().out.startswith(shown)


def test_a_console_script_starts_anew_with_huge_pages_asked_for(tmp_path):
    """What `restart` starts again is the script, with its arguments."""
    script = tmp_path / 'ltjax'
    script.write_text(
        'import os, pathlib, sys\n'
        'from ltjax import huge_pages\n'
        f'huge_pages._MODE = pathlib.Path({str(tmp_path / "mode")!r})\n'
        'print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], flush=True)\n'
        'from ltjax.__main__ import cli\n'
        'cli()\n',
        'utf-8',
    )
    (tmp_path / 'mode').write_text('always [madvise] never', 'utf-8')
    environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    done = subprocess.run(
        [sys.executable, str(script), 'train', '--config=no such'],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env=environment | {'PYTHONPATH': str(tiny.ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    assert "unknown config 'no such'" in done.stderr
    asked = done.stdout.splitlines()
    assert asked[0] == "None ['train', '--config=no such']"
    assert asked[1:] in ([], ["glibc.malloc.hugetlb=1 ['train', '--config=no such']"])


def test_a_full_disk_is_one_line_and_a_closed_pipe_none_of_it():
    """`ltjax predict ... | head -1`: the reader that has seen enough is no fault of the disk."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(UserError, match='the set: No space left'), goes_on('the set'):
        raise full
    with pytest.raises(UserError, match='^here.npz: '), goes_on('the set'):
        raise PermissionError(errno.EACCES, 'Permission denied', 'here.npz')
    with pytest.raises(BrokenPipeError), goes_on('the set'):
        raise BrokenPipeError


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f'{sys.executable} -m ltjax methods | head -n 1'
    done = subprocess.run(
        command, shell=True, cwd=tiny.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith('name ')
    assert done.stderr == ''
