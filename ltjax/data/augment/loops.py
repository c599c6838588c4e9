"""Sums over the places of a kernel that slides over an image: a loop on CPUs, written out on accelerators."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def total(
    times: int,
    term: Callable[..., jax.Array],
    image: jax.Array,
    kernel: jax.Array,
    shape: tuple[int, ...],
) -> jax.Array:
    """Returns the sum of term(0, image, kernel) to term(times - 1, image, kernel), arrays of `shape`.

    A loop stores what each turn makes. An accelerator would move the whole image in every turn; it has the sum written
    out, from a stored image into a stored result, because XLA would otherwise make the image anew for each place.
    XLA's CPU compiler would do so whatever is written.
    """
    initial = jnp.zeros(shape, image.dtype)

    def loop(initial: jax.Array, *of: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, times, lambda i, so_far: so_far + term(i, *of), initial)

    def written_out(initial: jax.Array, *of: jax.Array) -> jax.Array:
        of = jax.lax.optimization_barrier(of)
        for turn in range(times):
            initial = initial + term(turn, *of)
        return jax.lax.optimization_barrier(initial)

    return jax.lax.platform_dependent(initial, image, kernel, cpu=loop, default=written_out)
