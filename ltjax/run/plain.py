"""A function of JAX as a sequence of plain operations, which other formats know.

Calls are written out, what depends on constants alone is computed, a branch that is chosen by a constant is taken, and
of what is written once for CPUs and once for the rest, the latter, which is a call of XLA's own operation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
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
    if name == 'platform_index':
        return [_of_the_rest(params['platforms'])]
    if name == 'cond' and not isinstance(values[0], jax.core.Tracer):
        branch = params['branches'][int(values[0])]
        return _run(branch.jaxpr, branch.consts, values[1:])
    if name == 'stack':  # of `jnp.stack`; converters know its parts
        axis = params['axis']
        return [jax.lax.concatenate([jax.lax.expand_dims(x, (axis,)) for x in values], axis)]
    bodies = [params[key] for key in _BODIES if key in params]
    if bodies:
        body = bodies[0]
        if hasattr(body, 'consts'):
            return _run(body.jaxpr, body.consts, values)
        return _run(body, (), values)
    sides = [side for variable in equation.outvars for side in variable.aval.shape]
    constant = not any(isinstance(each, jax.core.Tracer) for each in values)
    if constant and all(isinstance(side, int) for side in sides):
        with jax.ensure_compile_time_eval():
            results = equation.primitive.bind(*values, **params)
    else:
        results = equation.primitive.bind(*values, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _of_the_rest(platforms: Sequence[Any]) -> int:
    """Returns the place of the branch that is for all platforms without one of their own."""
    return list(platforms).index(None)
