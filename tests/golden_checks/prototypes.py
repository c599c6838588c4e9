"""Golden checks of this family."""

from golden_checks.compare import Check, Tolerances

CHECKS: dict[str, Check] = {}
TOLERANCES: dict[str, Tolerances] = {}
