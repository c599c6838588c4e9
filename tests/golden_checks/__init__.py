"""How each golden file is checked: a table from file stem to check, one of tolerances, one of what it proves.

A check gets the arrays of the file (`in_*` floats cast to the dtype under test) and that dtype, and
returns a value for every `out_*` and `grad_*` key. Files of whole models are checked by the module
`models` of this package, which the walker imports when it meets one.
"""

import importlib

from golden_checks.compare import Check, Tolerances

_NAMES = ('lmd', 'logits', 'logits_equalised', 'sets', 'prototypes', 'heads', 'streams', 'updates')
_MODULES = tuple(importlib.import_module(f'golden_checks.{name}') for name in _NAMES)

CHECKS: dict[str, Check] = {}
TOLERANCES: dict[str, Tolerances] = {}
COVERS: dict[str, tuple[str, ...]] = {}  # names of ltjax.losses; docs/losses.md shows them
for _module in _MODULES:
    CHECKS |= _module.CHECKS
    TOLERANCES |= _module.TOLERANCES
    COVERS |= _module.COVERS
