"""Grid, elastic and optical distortion, as one geometric operation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.data.augment.geometry import Geometric, between


def _hats(position: jax.Array, knots: int) -> jax.Array:
    """Weights of linear interpolation between knots 0..knots-1, [n] to [n, knots]."""
    knot = jnp.arange(knots, dtype=position.dtype)
    return jnp.maximum(1.0 - jnp.abs(position[:, None] - knot[None, :]), 0.0)


def _cubic_splines(position: jax.Array, knots: int) -> jax.Array:
    """Weights of the uniform cubic B-splines at knots -1..knots-2, [n] to [n, knots]."""
    knot = jnp.arange(-1, knots - 1, dtype=position.dtype)
    d = jnp.abs(position[:, None] - knot[None, :])
    near = 2.0 / 3.0 - d**2 + d**3 / 2.0
    far = jnp.maximum(2.0 - d, 0.0) ** 3 / 6.0
    return jnp.where(d < 1.0, near, far)


@dataclasses.dataclass(frozen=True)
class Distort(Geometric):
    """One of grid, elastic and optical distortion; it must be the last of the geometry in a list.

    The kinds are drawn with the relative weights `grid`, `elastic` and `optical`. Defaults of
    the grid and the optical one are albumentations' defaults:

    * grid: each axis is cut into `steps` cells, whose widths are multiplied by 1 + U(-limit,
      limit). The cells are rescaled to the image's size (albumentations' `normalized=True`), so
      that the border stays where it is.
    * optical: the radial lens model r -> r (1 + k r^2 + k r^4), k ~ U(-limit, limit), r in
      units of the image's width. (albumentations' shift of the optical centre, at most 0.05
      pixels by default, is left out.)
    * elastic: a smooth random displacement, equal to albumentations' only in being one: there
      pixel noise is blurred by sigma = 50 pixels, here `knots` x `knots` uniform control
      points carry cubic B-splines, which needs neither the noise nor the wide blur. The
      displacement stays below `elastic_limit` of the image's size along each axis.
      (albumentations' own default of alpha = 1 displaces by less than a hundredth of a pixel;
      what its version 1 visibly does is a random affine map besides, here `Affine`'s part.)

    Attributes:
      grid: weight of the grid distortion.
      elastic: weight of the elastic one.
      optical: weight of the optical one.
      steps: cells of the grid along each axis.
      grid_limit: limit of the relative change of the cells' widths.
      elastic_limit: bound on the elastic displacement, a fraction of the size.
      knots: control points of the elastic displacement along each axis, 4 at least.
      optical_limit: limit of k.
    """

    grid: float = 1.0
    elastic: float = 1.0
    optical: float = 1.0
    steps: int = 5
    grid_limit: float = 0.3
    elastic_limit: float = 0.08
    knots: int = 6
    optical_limit: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.grid, self.elastic, self.optical)
        if min(weights) < 0.0 or sum(weights) <= 0.0:
            raise ValueError(f'Distort: weights must be non-negative, one positive: {weights}.')
        if self.knots < 4:
            raise ValueError(f'Distort: a cubic spline takes at least 4 knots, not {self.knots}.')

    @property
    def draws(self) -> int:
        return 3 + 2 * self.steps + 2 * self.knots**2

    def source(
        self, u: jax.Array, y: jax.Array, x: jax.Array, shape: tuple[int, int]
    ) -> tuple[jax.Array, jax.Array]:
        height, width = shape
        cells, points = jnp.split(u[3:], [2 * self.steps])
        which = u[1] * (self.grid + self.elastic + self.optical)
        on = self.acts(u)
        is_grid = on & (which < self.grid)
        is_elastic = on & (which >= self.grid) & (which < self.grid + self.elastic)
        is_optical = on & (which >= self.grid + self.elastic)

        # Cells of equal width are the identity; the axes are independent of each other.
        cells = jnp.where(is_grid, between(cells, self.grid_limit), 0.0).reshape(2, self.steps)
        grid_y = self._grid(cells[0], y[:, 0], height)[:, None]
        grid_x = self._grid(cells[1], x[0, :], width)[None, :]

        points = jnp.where(is_elastic, between(points, self.elastic_limit), 0.0)
        points = points.reshape(2, self.knots, self.knots)
        rows = _cubic_splines(y[:, 0] * ((self.knots - 3) / max(height - 1, 1)), self.knots)
        columns = _cubic_splines(x[0, :] * ((self.knots - 3) / max(width - 1, 1)), self.knots)
        elastic_y, elastic_x = height * points[0], width * points[1]
        elastic_y = jnp.matmul(rows @ elastic_y, columns.T, precision='highest')
        elastic_x = jnp.matmul(rows @ elastic_x, columns.T, precision='highest')

        k = jnp.where(is_optical, between(u[2], self.optical_limit), 0.0)
        from_y, from_x = y - (height - 1) / 2, x - (width - 1) / 2
        r2 = (from_y**2 + from_x**2) / width**2
        radial = k * (r2 + r2**2)
        return (
            y + grid_y + elastic_y + from_y * radial,
            x + grid_x + elastic_x + from_x * radial,
        )

    def _grid(self, cells: jax.Array, position: jax.Array, size: int) -> jax.Array:
        """Displacement [size] along one axis by its cells' relative changes [steps]."""
        widths = 1.0 + cells
        edges = jnp.cumsum(widths) / jnp.sum(widths)
        even = np.arange(1, self.steps + 1, dtype=np.float32) / self.steps
        moved = jnp.concatenate([jnp.zeros(1, cells.dtype), (edges - even) * (size - 1)])
        return _hats(position * (self.steps / max(size - 1, 1)), self.steps + 1) @ moved
