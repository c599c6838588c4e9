"""The folder stands alone: it can be imported, and copied, without the rest of ltjax."""

import subprocess
import sys
from pathlib import Path

from ltjax import losses

STATEMENT = """
import sys
import ltjax.losses
print(*sorted(name for name in sys.modules if name.startswith('ltjax') or name in ('flax', 'grain')))
"""


def test_importing_it_imports_nothing_else_of_ltjax():
    done = subprocess.run(
        [sys.executable, '-c', STATEMENT],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    imported = done.stdout.split()
    assert 'ltjax.losses' in imported
    others = [name for name in imported if not name.startswith('ltjax.losses')]
    assert others == ['ltjax', 'ltjax.version']


def test_every_public_name_is_there_once_and_says_what_it_is():
    assert sorted(set(losses.__all__)) == sorted(losses.__all__)
    for name in losses.__all__:
        assert getattr(losses, name).__doc__ or name.isupper(), name
