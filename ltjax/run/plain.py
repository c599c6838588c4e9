"""A function of JAX as a sequence of plain operations, which other formats know.

Calls are written out, what depends on constants alone is computed, a branch that is chosen by a constant is taken, and
of what is written once for CPUs and once for the rest, the latter, which is a call of XLA's own operation.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

# Of equations that call: where their body is. The rest of what they say is about derivatives and compilation.
_BODIES = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')


def plain(
    function: Callable[..., Sequence[jax.Array]], *shapes: jax.ShapeDtypeStruct
) -> Callable[..., list[Any]]:
    """Returns a function that does what `function` does, in plain operations.

    Args:
      function: of arrays, to several arrays.
      shapes: of its arguments; sides may be symbolic, those of `jax.export.symbolic_shape`.
    """
    closed = jax.make_jaxpr(function)(*shapes)
    return lambda *arrays: _run(closed.jaxpr, closed.consts, arrays)


def _run(jaxpr: Any, constants: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments), strict=True))

    def value(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else known[variable]

    for equation in jaxpr.eqns:
        values = [value(variable) for variable in equation.invars]
        results = _apply(equation, values)
        known.update(zip(equation.outvars, results, strict=True))
    return [value(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, values: list[Any]) -> list[Any]:
    """Returns the results of an equation."""
    name, params = equation.primitive.name, equation.params
    if name in _SPECIAL:
        found = _SPECIAL[name](params, values)
        if found is not None:
            return found
    for key in _BODIES:
        if key in params:
            body = params[key]
            closed = hasattr(body, 'consts')
            return _run(body.jaxpr, body.consts, values) if closed else _run(body, (), values)
    sides = [side for variable in equation.outvars for side in variable.aval.shape]
    constant = not any(isinstance(each, jax.core.Tracer) for each in values)
    if constant and all(isinstance(side, int) for side in sides):
        with jax.ensure_compile_time_eval():
            results = equation.primitive.bind(*values, **params)
    else:
        results = equation.primitive.bind(*values, **params)
    return list(results) if equation.primitive.multiple_results else [results]


# Each returns the results of an equation of its name, or None if it is one like any other.


def _platform_index(params: Any, values: list[Any]) -> list[Any]:
    """Returns the place of the branch that is for all platforms without one of their own."""
    return [list(params['platforms']).index(None)]


def _cond(params: Any, values: list[Any]) -> list[Any] | None:
    if isinstance(values[0], jax.core.Tracer):
        return None
    branch = params['branches'][int(values[0])]
    return _run(branch.jaxpr, branch.consts, values[1:])


def _stack(params: Any, values: list[Any]) -> list[Any]:
    """Returns what `jnp.stack` made of one operation, as two."""
    axis = params['axis']
    return [jax.lax.concatenate([jax.lax.expand_dims(x, (axis,)) for x in values], axis)]


def _pad(params: Any, values: list[Any]) -> list[Any] | None:
    """Returns it by `jnp.pad`: jax2onnx puts its own function under that name, which takes any number of images."""
    widths = [(low, high) for low, high, _ in params['padding_config']]
    between = any(between for *_, between in params['padding_config'])
    if between or min(map(min, widths)) < 0:
        return None
    return [jnp.pad(values[0], widths, constant_values=values[1])]


def _window_max(params: Any, values: list[Any]) -> list[Any]:
    """Returns maxima of shifted images; jax2onnx counts images and channels to a window, as no program pools."""
    (x,) = values
    sizes, strides = params['window_dimensions'], params['window_strides']
    for axis, (size, stride, pads) in enumerate(
        zip(sizes, strides, params['padding'], strict=True)
    ):
        if size == stride == 1:
            continue
        widths = [pads if at == axis else (0, 0) for at in range(x.ndim)]
        padded = jnp.pad(x, widths, constant_values=-jnp.inf)
        reach = padded.shape[axis] - size + 1
        parts = [
            jax.lax.slice_in_dim(padded, start, start + reach, stride, axis)
            for start in range(size)
        ]
        x = functools.reduce(jnp.maximum, parts)
    return [x]


_SPECIAL: dict[str, Callable[[Any, list[Any]], list[Any] | None]] = {
    'platform_index': _platform_index,
    'cond': _cond,
    'stack': _stack,
    'pad': _pad,
    'reduce_window_max': _window_max,
}
