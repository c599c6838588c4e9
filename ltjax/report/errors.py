"""The section of a report that shows the worst errors on rare classes, as pictures."""

import pathlib
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ltjax.report import page
from ltjax.report.page import Markup
from ltjax.report.style import INK, new_figure, shown, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 1.5  # inches of a picture
_MOST_PIXELS = 128  # along a side of one
_CAPTION = (
    'The images of rare classes that are taken for another class with the most confidence: where the network looked '
    'for that class (Grad-CAM, bright), and the training images whose features are most like theirs. A map shows what '
    'the network used, not whether it was right to.'
)


def errors(path: pathlib.Path) -> Markup:
    """Shows what errors.npz holds, see `ltjax.run.looking`; nothing where there is none."""
    try:
        with path.open('rb') as file, np.load(file, allow_pickle=False) as archive:
            found = dict(archive)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return Markup('')
    return page.picture(
        pictures(found),
        'Wrong images, where the network looked, and training images like them',
        _CAPTION,
    )


@svg
def pictures(found: Mapping[str, np.ndarray]) -> 'Figure':
    """Draws a row for each error: the image, the map over it, and the most alike training images.

    Args:
      found: 'images' uint8 [n, H, W, C], 'maps' [n, h, w] from 0 to 1, 'labels', 'predictions' and 'confidences' [n],
        'near' uint8 [n, m, H, W, C], 'near_labels' [n, m] and 'class_names'.
    """
    names = [shown(name, 18) for name in found['class_names'].tolist()]
    number, like = found['near_labels'].shape
    figure = new_figure(_WIDTH * (2 + like), (_WIDTH + 0.35) * number)
    axes = figure.subplots(number, 2 + like, squeeze=False)
    for row in range(number):
        image, label = found['images'][row], found['labels'][row]
        _image(axes[row, 0], image, f'is {names[label]}')
        called = names[found['predictions'][row]]
        _image(axes[row, 1], image, f'called {called}, {100 * found["confidences"][row]:.0f} %')
        height, width = image.shape[:2]
        axes[row, 1].imshow(
            found['maps'][row],
            cmap='inferno',
            alpha=0.55,
            vmin=0,
            vmax=1,
            interpolation='bilinear',
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
        for column in range(like):
            text = f'like it: {names[found["near_labels"][row, column]]}'
            _image(axes[row, 2 + column], found['near'][row, column], text)
    return figure


def _image(axis: 'Axes', image: np.ndarray, title: str) -> None:
    """Draws an image uint8 [H, W, C]; the page holds the pixels themselves, so that few are enough."""
    step = -(-max(image.shape[:2]) // _MOST_PIXELS)
    small, grey = image[::step, ::step], image.shape[2] == 1
    height, width = image.shape[:2]
    axis.imshow(
        small[..., 0] if grey else small[..., :3],
        cmap='gray' if grey else None,
        vmin=0,
        vmax=255,
        interpolation='none',
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )
    axis.set_axis_off()
    axis.set_title(title, fontsize=7, color=INK)
