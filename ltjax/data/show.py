"""Draws what augmentation does: `python -m ltjax.data.show --out views.png [--data PATH] [--views NAME NAME]`.

A row is an image of the data (the embedded set, unless --data names another), drawn from one class after the
other: as it is, then as each list of operations shows it, a few times each.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.figure
import numpy as np

from ltjax.command import called, exits
from ltjax.data import augment, catalog, reading
from ltjax.data.reading import arguments
from ltjax.data.settings import Data, Split
from ltjax.errors import UserError
from ltjax.files import check_target, user_path

_INCHES = 0.9  # a picture


def grid(images: np.ndarray, names: Sequence[str], draws: int, seed: int) -> np.ndarray:
    """Returns images uint8 [N, H, W, C], each followed by `draws` views for each of some lists in `augment.VIEWS`.

    They are uint8 [N, 1 + len(names) * draws, H, W, C], list by list.

    Raises:
      UserError: there is no such list.
    """
    columns = [images]
    for name in names:
        view = jax.jit(augment.view(name, mean=(0.0,), std=(1.0,)))
        for number in range(draws):
            key = jax.random.fold_in(jax.random.key(seed), number)
            values = np.asarray(view(key, jnp.asarray(images)))
            columns.append(np.clip(np.rint(255 * values), 0, 255).astype(np.uint8))
    return np.stack(columns, axis=1)


def draw(pictures: np.ndarray, names: Sequence[str], draws: int) -> matplotlib.figure.Figure:
    """Returns a figure of `grid`, with the lists' names above their columns."""
    rows, columns = pictures.shape[:2]
    figure = matplotlib.figure.Figure((columns * _INCHES, rows * _INCHES + 0.4), layout='tight')
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for row, column in np.ndindex(rows, columns):
        axis, picture = axes[row, column], pictures[row, column]
        grey = picture.shape[2] == 1
        axis.imshow(picture[:, :, 0] if grey else picture, cmap='grey', vmin=0, vmax=255)
        axis.set_axis_off()
    axes[0, 0].set_title('original', fontsize=8, loc='left')
    for number, name in enumerate(names):
        axes[0, 1 + number * draws].set_title(name, fontsize=8, loc='left')
    return figure


def _choose(raw: reading.Raw, count: int, seed: int) -> np.ndarray:
    """Returns `count` images, class after class as far as there are labels."""
    order = np.random.default_rng(seed).permutation(len(raw.images))
    if raw.labels is not None:
        labels = np.asarray(raw.labels).reshape(-1)[order]
        # Position within its class: the first of every class come first.
        place = np.array([np.sum(labels[:i] == label) for i, label in enumerate(labels[:5000])])
        order = order[np.lexsort((labels[:5000], place))]
    return raw.images[order[:count]]


@arguments.in_own_words('image_size')
def main(argv: Sequence[str]) -> None:
    """The command."""
    parser = argparse.ArgumentParser(called('ltjax.data.show'), description=__doc__)
    parser.add_argument('--out', type=user_path, required=True, help='the .png, .svg or .pdf')
    parser.add_argument('--data', type=user_path, help='a folder, .csv, .npz or prepared set')
    parser.add_argument('--views', nargs='+', default=['upright_weak', 'upright_strong'])
    parser.add_argument('--images', type=int, default=6)
    parser.add_argument('--draws', type=int, default=4, help='views of each image by each list')
    parser.add_argument('--image-size', type=int, default=0)
    parser.add_argument('--seed', type=int, default=0)
    arguments.add(parser)
    given = parser.parse_args(argv)
    config = Data.of(catalog.get('fashion_mnist_lt_mini'))
    if given.data:
        check_target(given.out, given.data)
        config = arguments.config(given.data, given).replace(split=Split(protocol='none'))
    config = config.replace(image_size=given.image_size)
    if min(given.images, given.draws) < 1:
        raise UserError('--images and --draws should be 1 or more.')
    images = _choose(reading.read(config), given.images, given.seed)
    figure = draw(grid(images, given.views, given.draws, given.seed), given.views, given.draws)
    try:
        figure.savefig(given.out, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f'cannot write {given.out} ({error}): give a .png in a folder.') from None
    print(f'{given.out}: {len(images)} images, {", ".join(given.views)}')


@exits()
def cli() -> None:
    """The entry point."""
    main(sys.argv[1:])


if __name__ == '__main__':
    cli()
