"""How each golden file is checked: a table from file stem to check, and one of tolerances.

A check gets the arrays of the file (`in_*` floats cast to the dtype under test) and that dtype, and
returns a value for every `out_*` and `grad_*` key. Files of whole models are checked by the module
`models` of this package, which the walker imports when it meets one.
"""

from golden_checks import lmd
from golden_checks.compare import Check, Tolerances

_MODULES = (lmd,)

CHECKS: dict[str, Check] = {}
TOLERANCES: dict[str, Tolerances] = {}
for _module in _MODULES:
    CHECKS |= _module.CHECKS
    TOLERANCES |= _module.TOLERANCES
