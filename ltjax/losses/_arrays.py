"""Conventions that every loss of this folder keeps: dtypes, masked examples, checked arguments.

A mistake in an argument is a ValueError that names it. Shapes and dtypes are always checked (they
are known while tracing). Values, such as labels out of range, are checked within `debug_checks()`.
"""

import contextlib
import numbers
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify
from jax.typing import ArrayLike
from numpy import typing as npt

ANY_LABEL = int(np.iinfo(np.int32).max)  # in place of K, where labels index nothing

_debugging = False


@contextlib.contextmanager
def debug_checks() -> Iterator[None]:
    """Also checks values: within it a label out of range is a ValueError that names the argument.

    Outside `jax.jit` the error is raised at once, and costs a wait for the device. Inside `jax.jit`
    wrap the function in `jax.experimental.checkify.checkify`; its `error.throw()` raises a
    ValueError. Compiled functions are traced anew on entering and on leaving.

    >>> from ltjax.losses import softmax_cross_entropy
    >>> with debug_checks():
    ...     softmax_cross_entropy(jnp.zeros([1, 2]), jnp.array([2]))
    Traceback (most recent call last):
    ValueError: labels must lie in 0..1, got 2..2
    """
    global _debugging
    before, _debugging = _debugging, True
    jax.clear_caches()
    try:
        yield
    finally:
        _debugging = before
        jax.clear_caches()


def at_least_float32(values: ArrayLike) -> jax.Array:
    """Returns the values in their own dtype, or in float32 if that dtype is narrower.

    Losses of bfloat16 activations are formed in float32: sums over a batch and differences of
    logarithms need more than eight bits.
    """
    values = jnp.asarray(values)
    return values.astype(jnp.promote_types(values.dtype, jnp.float32))


def keep_examples(values: jax.Array, where: ArrayLike | None) -> jax.Array:
    """Returns the values with every masked example set to zero.

    Applied to the input of a loss, not to its result: so NaN in padding reaches no gradient.

    Args:
      values: [batch, ...].
      where: [batch] bool, True for the examples that count; None keeps all.
    """
    if where is None:
        return values
    mask = jnp.asarray(where, bool)
    if mask.shape != values.shape[:1]:
        raise ValueError(f'where must have shape {values.shape[:1]}, got {mask.shape}')
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    return jnp.where(mask, values, jnp.zeros((), values.dtype))


def checked_floats(
    values: ArrayLike, shape: Sequence[int | None], *, name: str, where: ArrayLike | None = None
) -> jax.Array:
    """Returns an argument in at least float32, masked examples zeroed, its shape and dtype checked.

    Args:
      values: the argument.
      shape: the length of each axis; None for an axis of any length.
      name: of the argument, for the message.
      where: [batch] bool mask of the leading axis, or None.

    Raises:
      ValueError: another number of axes, another length, or a dtype that is not floating.
    """
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f'{name} must be floating, got {array.dtype}')
    _check_shape(array.shape, shape, name)
    return keep_examples(at_least_float32(array), where)


def checked_labels(
    labels: ArrayLike,
    shape: Sequence[int],
    *,
    name: str = 'labels',
    where: ArrayLike | None = None,
) -> jax.Array:
    """Returns integer labels [batch] with those of masked examples set to 0.

    Args:
      labels: the argument.
      shape: (batch, K); within `debug_checks()` every label that counts must lie in 0..K-1.
      name: of the argument, for the message.
      where: [batch] bool mask, or None.

    Raises:
      ValueError: another shape, a dtype that is not an integer, or a label out of range.
    """
    array = jnp.asarray(labels)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f'{name} must be integers, got {array.dtype}')
    batch, num_classes = shape
    _check_shape(array.shape, (batch,), name)
    array = keep_examples(array, where)
    if _debugging and array.size:
        low, high = array.min(), array.max()
        message = f'{name} must lie in 0..{num_classes - 1}'
        if isinstance(array, jax.core.Tracer):
            inside = (low >= 0) & (high < num_classes)
            checkify.debug_check(inside, message + ', got {low}..{high}', low=low, high=high)
        elif low < 0 or high >= num_classes:
            raise ValueError(f'{message}, got {low}..{high}')
    return array


def check_positive(**values: ArrayLike | None) -> None:
    """ValueError for a number on the host that is not positive."""
    for name, value in values.items():
        if isinstance(value, numbers.Real) and not value > 0:
            raise ValueError(f'{name} must be positive, got {value}')


def check_not_negative(**values: ArrayLike) -> None:
    """ValueError for a number on the host that is negative."""
    for name, value in values.items():
        if isinstance(value, numbers.Real) and not value >= 0:
            raise ValueError(f'{name} must not be negative, got {value}')


def class_array(values: ArrayLike, logits: jax.Array, *, name: str) -> jax.Array:
    """A number for each class, as [1, K] in the dtype of the logits [batch, K].

    Raises:
      ValueError: another shape, or values on the host that are not finite: the log of a count of 0.

    >>> class_array([0.5, 1.0], jnp.zeros([3, 2]), name='margins').tolist()
    [[0.5, 1.0]]
    """
    if not isinstance(values, jax.Array) and not np.isfinite(np.asarray(values, float)).all():
        raise ValueError(f'{name} must be finite, got {values!r}')
    array = jnp.asarray(values, logits.dtype)
    return checked_floats(array, logits.shape[1:], name=name)[None, :]


def checked_counts(counts: npt.ArrayLike, *, name: str = 'counts') -> npt.NDArray[np.float64]:
    """Returns counts [K] as host float64: finite, not negative, not all zero.

    Raises:
      ValueError: they are not one such number for each class.
    """
    checked = np.asarray(counts, np.float64)
    if checked.ndim != 1 or not np.all(np.isfinite(checked)) or np.any(checked < 0):
        raise ValueError(f'{name} must be one finite number >= 0 for each class, got {counts!r}')
    if not checked.any():
        raise ValueError(f'{name} must name at least one image')
    return checked


def at_least_smallest(counts: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Returns counts in which a class without images has as many as the smallest that has some.

    >>> at_least_smallest([9, 0, 4]).tolist()
    [9.0, 4.0, 4.0]
    """
    checked = checked_counts(counts)
    return np.maximum(checked, checked[checked > 0].min())


def _check_shape(got: Sequence[int], wanted: Sequence[int | None], name: str) -> None:
    fits = len(got) == len(wanted) and all(
        want is None or have == want for have, want in zip(got, wanted, strict=True)
    )
    if not fits:
        shown = ', '.join('any' if want is None else str(want) for want in wanted)
        raise ValueError(f'{name} must have shape [{shown}], got {list(got)}')
