"""Writes docs/losses.md from the docstrings of ltjax.losses and the golden files.

    python scripts/losses_page.py            # the page, from the docstrings and the agreement measured last
    python scripts/losses_page.py --measure  # measures the agreement anew, into docs/losses_agreement.json

A test fails if the page is not what this program writes. The agreement is the largest error of any value or gradient
of a golden file, relative to the largest number of its array.
"""

import argparse
import importlib
import inspect
import json
import pathlib
import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import numpy as np

from ltjax import losses

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _of_tests(name: str) -> Any:
    """Returns a module of tests/, which no package holds."""
    if str(ROOT / 'tests') not in sys.path:
        sys.path.insert(0, str(ROOT / 'tests'))
    return importlib.import_module(name)


CHECKS, COVERS = (getattr(_of_tests('golden_checks'), name) for name in ('CHECKS', 'COVERS'))
compare = _of_tests('golden_checks.compare')

PAGE, AGREEMENT = ROOT / 'docs' / 'losses.md', ROOT / 'docs' / 'losses_agreement.json'
GOLDEN = ROOT / 'tests' / 'golden'
Agreement = Mapping[str, Mapping[str, float]]

INTRODUCTION = """# Losses, class statistics and samplers

Every public function of `ltjax.losses`. Import any of them from `ltjax.losses`, without the rest of ltjax.

- **source**: the paper and its equation.
- **reading**: our interpretation, where paper and code differ or no code was released.
- **golden**: the reference numbers with which value and gradient agree, as measured at the end of the page.

`python scripts/losses_page.py` writes this page from the docstrings; do not edit it.

"""

MEASURED = """## Measured agreement

The largest error of any value or gradient in a golden file, relative to the largest number of its array.

- Golden numbers come from the original code, in float64, where it was released, and otherwise from the equations.
- Files whose name ends in `_reading` pin down our own interpretation. They are no evidence of fidelity.
- `python scripts/losses_page.py --measure` repeats the measurement (on a CPU); `pytest tests/test_golden.py` checks the
  tolerances.

| golden file | functions | float64 | float32 |
|---|---|---|---|
"""


def golden_files() -> dict[str, pathlib.Path]:
    """Returns the golden files of losses by their stem."""
    folders = (GOLDEN / 'seeds', GOLDEN / 'baselines')
    return {path.stem: path for folder in folders for path in sorted(folder.glob('*.npz'))}


def measure() -> dict[str, dict[str, float]]:
    """Returns the largest relative error of each golden file, in float64 and in float32."""
    return {
        stem: {
            np.dtype(dtype).name: largest_error(path, dtype) for dtype in (np.float64, np.float32)
        }
        for stem, path in golden_files().items()
    }


def largest_error(path: pathlib.Path, dtype: Any) -> float:
    """Returns the largest error of one file's values and gradients, relative to the largest number of each array."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = dict(stored)
    with jax.enable_x64(np.dtype(dtype) == np.float64):
        results = CHECKS[path.stem](compare.cast_inputs(arrays, dtype), dtype)
        errors = [0.0]
        for key, want in arrays.items():
            if not key.startswith(('out_', 'grad_')) or isinstance(results[key], compare.Judged):
                continue
            error = np.abs(np.asarray(results[key], np.float64) - want).max(initial=0)
            errors.append(float(error / max(np.abs(want).max(initial=0), np.finfo(float).tiny)))
    return max(errors)


def render(agreement: Agreement) -> str:
    """Returns the page."""
    parts = [INTRODUCTION]
    for module, names in by_module().items():
        parts.append(f'## {module.__name__.removeprefix("ltjax.losses.").lstrip("_")}\n\n')
        parts.append(first_paragraph(module.__doc__) + '\n\n')
        parts.append('| function | what | source | reading | golden |\n|---|---|---|---|---|\n')
        parts += [row(name) for name in names]
        parts.append('\n')
    parts.append(MEASURED)
    for stem in sorted(agreement):
        functions = ', '.join(f'`{name}`' for name in COVERS[stem])
        errors = ' | '.join(f'{agreement[stem][name]:.0e}' for name in ('float64', 'float32'))
        parts.append(f'| {stem} | {functions} | {errors} |\n')
    return ''.join(parts)


def by_module() -> dict[ModuleType, list[str]]:
    """Returns the public functions and types by the module that defines them, both in alphabetical order."""
    modules: dict[ModuleType, list[str]] = {}
    for name in sorted(name for name in losses.__all__ if not name.isupper()):
        home = getattr(losses, name).__module__
        modules.setdefault(sys.modules[home], []).append(name)
    return dict(sorted(modules.items(), key=lambda item: item[0].__name__))


def row(name: str) -> str:
    """Returns the table row of one public name."""
    text = inspect.getdoc(getattr(losses, name)) or ''
    golden = ', '.join(sorted(stem for stem, covered in COVERS.items() if name in covered))
    cells = (
        f'`{name}`',
        first_paragraph(text),
        labelled(text, 'Source'),
        labelled(text, 'Reading'),
    )
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in (*cells, golden)) + ' |\n'


def first_paragraph(text: str | None) -> str:
    """Returns a docstring's first paragraph on one line."""
    return ' '.join((text or '').strip().split('\n\n')[0].split())


def labelled(text: str, label: str) -> str:
    r"""Returns the paragraph that starts with a label, without it; '' if there is none.

    >>> labelled('One.\n\nSource: A book,\nchapter 2.\n\nMore.', 'Source')
    'A book, chapter 2.'
    """
    found = re.search(rf'^{label}: (.*?)(?:\n\s*\n|\Z)', text, re.MULTILINE | re.DOTALL)
    return ' '.join(found.group(1).split()) if found else ''


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').splitlines()[0])
    parser.add_argument('--measure', action='store_true', help='measure the agreement anew')
    if parser.parse_args().measure:
        AGREEMENT.write_text(json.dumps(measure(), indent=1) + '\n', 'utf-8')
    PAGE.write_text(render(json.loads(AGREEMENT.read_text('utf-8'))), 'utf-8')


if __name__ == '__main__':
    main()
