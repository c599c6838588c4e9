"""Huge pages: who starts anew, once, with what was given."""

import os
import pathlib
import subprocess
import sys

import pytest

from ltjax import huge_pages
from ltjax.huge_pages import asking

MODE, LIBC = 'always [madvise] never', 'glibc 2.36'


def test_asks_once_and_keeps_the_rest():
    asked = asking({'HOME': '/root', 'GLIBC_TUNABLES': 'glibc.malloc.check=1'}, MODE, LIBC)
    assert asked == {
        'HOME': '/root',
        'GLIBC_TUNABLES': 'glibc.malloc.check=1:glibc.malloc.hugetlb=1',
    }
    assert asking(asked, MODE, LIBC) is None
    assert asking({}, MODE, LIBC) == {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=1'}


@pytest.mark.parametrize(
    ('given', 'mode', 'libc'),
    [
        ({}, '[always] madvise never', LIBC),
        ({}, 'always madvise [never]', LIBC),
        ({}, MODE, 'glibc 2.34'),
        ({}, MODE, 'musl 1.2.5'),
        ({}, MODE, 'glibc'),
        ({}, MODE, ''),
        ({'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'}, MODE, LIBC),
    ],
)
def test_does_not_ask_in_vain(given, mode, libc):
    assert asking(given, mode, libc) is None


def test_the_program_starts_anew_with_its_arguments(tmp_path: pathlib.Path):
    mode = tmp_path / 'enabled'
    mode.write_text(MODE, 'ascii')
    program = tmp_path / 'program.py'
    program.write_text(
        'import os, pathlib, sys\n'
        'from ltjax import huge_pages\n'
        f'huge_pages._MODE = pathlib.Path({str(mode)!r})\n'
        "os.confstr = {'CS_GNU_LIBC_VERSION': 'glibc 2.36'}.get\n"
        "print('started', os.getpid(), flush=True)\n"
        'huge_pages.restart()\n'
        "print(os.environ['GLIBC_TUNABLES'], sys.flags.dev_mode, sys.argv[1:])\n",
        'ascii',
    )
    environment = {name: value for name, value in os.environ.items() if name != 'GLIBC_TUNABLES'}
    done = subprocess.run(
        [sys.executable, '-X', 'dev', str(program), '--a b', '-c'],
        env=environment,
        cwd=pathlib.Path(huge_pages.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    first, second, said = done.stdout.splitlines()
    assert first == second  # the same process
    assert said == "glibc.malloc.hugetlb=1 True ['--a b', '-c']"
