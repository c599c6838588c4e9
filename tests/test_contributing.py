"""CONTRIBUTING.md's worked example of a new loss does what it says, and is as short."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import tiny

TRAIN = """
import pathlib, sys
import tiny
from ltjax.run import train
folder = pathlib.Path(sys.argv[1])
results = train.run(tiny.config('poly', tiny.npz(folder / 'data.npz')), folder / 'run')
assert results['method'] == 'poly'
import experiments
assert experiments.read()[0]['Poly-1'].config == 'poly'
"""


def blocks():
    """Returns the example's code by the file that the text before it names."""
    text = (tiny.ROOT / 'CONTRIBUTING.md').read_text('utf-8')
    section = text[text.index('## Add a loss that') : text.index('## Add a loss to')]
    texts = re.split(r'```(?:python)?\n', section)
    named = [re.findall(r'`(\w+/[\w/]+\.py)`', text) for text in texts[:-1:2]]
    return {names[-1]: code for names, code in zip(named, texts[1::2], strict=True)}


def test_a_loss_takes_under_thirty_lines():
    lines = [line for code in blocks().values() for line in code.splitlines() if line.strip()]
    assert len(lines) < 30


@pytest.mark.slow
@pytest.mark.processes
def test_the_example_works(tmp_path):
    copy = tmp_path / 'clone'
    skipped = shutil.ignore_patterns('.*', '__pycache__', 'golden', 'runs')
    shutil.copytree(tiny.ROOT, copy, ignore=skipped)
    for name, code in blocks().items():
        path = copy / name
        before = path.read_text('utf-8') if path.exists() else ''
        if name.endswith('catalog.py'):
            opening = 'METHODS: Mapping[str, Method] = {\n'
            path.write_text(before.replace(opening, opening + code), 'utf-8')
        else:
            path.write_text(f'{before}\n\n{code}' if before else code, 'utf-8')
    paths = map(str, (copy, copy / 'tests', copy / 'scripts'))
    environment = os.environ | {'PYTHONPATH': os.pathsep.join(paths)}
    test = [
        '-m',
        'pytest',
        '-q',
        '-p',
        'no:cacheprovider',
        'tests/methods/test_supervised.py',
        '-k',
        'poly',
    ]
    for command in (test, ['-c', TRAIN, str(tmp_path)]):
        done = subprocess.run(
            [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
