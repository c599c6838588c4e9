"""Comparison of computed values with golden ones, and gradients of every named output."""

import dataclasses
import fnmatch
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

Arrays = Mapping[str, Any]
Check = Callable[[Arrays, Any], dict[str, Any]]
Tolerances = Mapping[str, tuple[float, float]]  # pattern of keys -> float64, float32

DEFAULT_TOLERANCE = (1e-9, 2e-5)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A result that is not equal to the golden value but has to satisfy a condition with it.

    Attributes:
      verdict: takes the golden array; returns what is wrong, or '' if nothing is.
    """

    verdict: Callable[[np.ndarray], str]


def cast_inputs(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Returns the arrays with `in_*` on the device, floating ones in the given dtype."""
    cast = dict(arrays)
    for key, value in arrays.items():
        if key.startswith('in_'):
            floating = np.issubdtype(value.dtype, np.floating)
            cast[key] = jax.numpy.asarray(value, dtype if floating else value.dtype)
    return cast


def values_and_gradients(
    outputs: Mapping[str, Callable[[dict[str, Any]], Any]], inputs: dict[str, Any]
) -> dict[str, Any]:
    """Returns `out_<output>` and `grad_<output>_<input>` for scalar functions of the inputs."""
    compiled = jax.jit(
        lambda values: {name: jax.value_and_grad(f)(values) for name, f in outputs.items()}
    )
    results = {}
    for name, (value, gradients) in compiled(inputs).items():
        results[f'out_{name}'] = value
        for input_name, gradient in gradients.items():
            results[f'grad_{name}_{input_name}'] = gradient
    return results


def tolerance_of(key: str, overrides: Tolerances, dtype: Any) -> float:
    """Returns the tolerance of a key: of the first pattern that fits it, or the default."""
    fitting = (pair for pattern, pair in overrides.items() if fnmatch.fnmatchcase(key, pattern))
    float64, float32 = next(fitting, DEFAULT_TOLERANCE)
    return float64 if dtype == np.float64 else float32


def mismatch(got: Any, want: np.ndarray, tolerance: float) -> str:
    """Returns how a result differs from the golden value, or '' if it agrees."""
    if isinstance(got, Judged):
        return got.verdict(want)
    got = np.asarray(got)
    if got.shape != want.shape:
        return f'shape {got.shape}, wanted {want.shape}'
    if not np.issubdtype(want.dtype, np.inexact):
        if np.issubdtype(got.dtype, np.inexact):
            return f'dtype {got.dtype}, wanted integers'
        differing = int((got != want).sum())
        return f'{differing} of {want.size} integers differ' if differing else ''
    if not np.isfinite(got).all():
        return 'values that are not finite'
    error = np.abs(got.astype(np.float64) - want).max(initial=0)
    allowed = tolerance * np.abs(want).max(initial=0)
    return '' if error <= allowed else f'error {error:.3g}, allowed {allowed:.3g}'


def failures(arrays: Arrays, results: Arrays, overrides: Tolerances, dtype: Any) -> list[str]:
    """Returns one line for each `out_*` and `grad_*` key without a value or with a wrong one."""
    lines = []
    for key, want in arrays.items():
        if not key.startswith(('out_', 'grad_')):
            continue
        if key not in results:
            lines.append(f'{key}: the check returns no value')
        elif wrong := mismatch(results[key], want, tolerance_of(key, overrides, dtype)):
            lines.append(f'{key}: {wrong}')
    return lines
