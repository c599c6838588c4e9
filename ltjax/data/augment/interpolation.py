"""Bilinear reading of an image at given places, in the way that suits the device.

A CPU reads pixel by pixel. XLA's TPU compiler counts 17 KB for each place that is looked up, however few bytes lie
there, and products of matrices are nearly free: there, rows and columns are selected by products where the two axes are
apart from each other, and elsewhere a pixel is looked up once with its three neighbours. The same values are selected
on all devices; their sums may differ in the last bit.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def interpolated(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Returns the image read at (y, x): float32 [H, W, C] in the image's own range.

    Args:
      image: uint8 [H, W, C].
      y: rows in [0, H - 1], [H, 1] or [H, W] float32.
      x: columns in [0, W - 1], [1, W] or [H, W] float32.
    """
    apart = y.shape[1] == 1 and x.shape[0] == 1
    return jax.lax.platform_dependent(
        image, y, x, cpu=by_pixel, tpu=by_products if apart else by_square, default=by_square
    )


def by_pixel(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Reads four pixels for each place."""
    height, width, channels = image.shape
    pixels = image.reshape(height * width, channels)
    y, x = jnp.broadcast_to(y, (height, width)), jnp.broadcast_to(x, (height, width))
    top, left = y.astype(jnp.int32), x.astype(jnp.int32)
    right = jnp.minimum(left + 1, width - 1)
    down, along = (y - top.astype(jnp.float32))[:, :, None], _part(x, left)[:, :, None]

    def read(row: jax.Array, column: jax.Array) -> jax.Array:
        return pixels.at[row * width + column].get(mode='clip').astype(jnp.float32)

    def add_row(i: jax.Array, total: jax.Array) -> jax.Array:
        row = jnp.minimum(top + i, height - 1)
        values = read(row, left) * (1.0 - along) + read(row, right) * along
        return total + jnp.where(i == 0, 1.0 - down, down) * values

    # A loop, because its result is stored: written out, XLA's CPU compiler would fuse the
    # resampling into a blur that follows and repeat it for each of the blur's nine pixels.
    return jax.lax.fori_loop(0, 2, add_row, jnp.zeros(image.shape, jnp.float32))


def by_square(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Reads for each place a pixel together with those to the right, below, and both."""
    height, width, channels = image.shape
    top, left = y.astype(jnp.int32), x.astype(jnp.int32)
    pair = jnp.concatenate([image, jnp.concatenate([image[:, 1:], image[:, -1:]], 1)], 2)
    square = jnp.concatenate([pair, jnp.concatenate([pair[1:], pair[-1:]], 0)], 2)
    read = square.reshape(height * width, 4 * channels).at[top * width + left].get(mode='clip')
    a, b, c, d = jnp.split(read, 4, axis=2)
    return _mixed(((a, b), (c, d)), _part(y, top), _part(x, left))


def by_products(image: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Selects rows, then columns, by matrices of zeros and ones; y is [H, 1] and x [1, W]."""
    height, width, channels = image.shape
    top, left = y[:, 0].astype(jnp.int32), x[0].astype(jnp.int32)

    def chosen(index: jax.Array, size: int) -> jax.Array:
        both = jnp.concatenate([index, jnp.minimum(index + 1, size - 1)])
        return jax.nn.one_hot(both, size, dtype=jnp.bfloat16)

    rows = chosen(top, height) @ image.astype(jnp.bfloat16).reshape(height, width * channels)
    rows = rows.reshape(2, height, width, channels)
    both = jnp.einsum('ihwc,vw->ihvc', rows, chosen(left, width))
    both = both.reshape(2, height, 2, width, channels)
    corners = [[both[i, :, j] for j in range(2)] for i in range(2)]
    return _mixed(corners, _part(y, top[:, None]), _part(x, left[None]))


def _part(position: jax.Array, whole: jax.Array) -> jax.Array:
    return position - whole.astype(jnp.float32)


def _mixed(corners: Sequence[Sequence[jax.Array]], down: jax.Array, along: jax.Array) -> jax.Array:
    """Returns the mean [H, W, C] of 2 x 2 corners by how far down and along, [H or 1, W or 1], a place lies in them."""
    down, along = down[:, :, None], along[:, :, None]
    (a, b), (c, d) = ([corner.astype(jnp.float32) for corner in row] for row in corners)
    above, below = a * (1.0 - along) + b * along, c * (1.0 - along) + d * along
    # Stored: an operation that follows and slides over the image would look everything up again for each place.
    return jax.lax.optimization_barrier((1.0 - down) * above + down * below)
