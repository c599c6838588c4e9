"""A trained model as other programs run it: from pixels to probabilities, with all that they have to know in words.

`write` makes the file under another name, reads it again, compares it with the model on images, and only then gives it
its name. The formats are in `deployed_formats`.
"""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax.data import reading
from ltjax.data.settings import Split
from ltjax.engine.step import set_batch_norm
from ltjax.errors import UserError
from ltjax.evaluation import operating_points
from ltjax.evaluation.probabilities import softmax
from ltjax.evaluation.recalibration import SCALINGS, Temperature, VectorScaling
from ltjax.models import tuning
from ltjax.models.folding import fold
from ltjax.run import deciding, deployed_formats, looking
from ltjax.run.trained import Trained
from ltjax.version import __version__

# The largest difference of two logits, relative to the largest logit, that rounding is held to explain.
TOLERANCE = 1e-4
# Of probabilities from 0 to 1 that were made of the same logits.
_PROBABILITY_TOLERANCE = 1e-5
# Images that a file is tried on, at most.
CHECKED = 500

Scaling = Temperature | VectorScaling | None


class Checked(NamedTuple):
    """How a file compares with the model that it was made from.

    Attributes:
      images: how many.
      of: what images, in words.
      difference: of logits, max |a - b| / max |a|.
      same: images of the same class.
      ties: of the others, those whose two largest logits differ by less than the tolerance.
    """

    images: int
    of: str
    difference: float
    same: int
    ties: int

    def __str__(self) -> str:
        ties = f' (and {self.ties} near ties)' if self.ties else ''
        return (
            f'checked on {self.images} {self.of}: relative difference of logits {self.difference:.1e}, '
            f'same class for {self.same}{ties}'
        )


def write(
    path: pathlib.Path,
    trained: Trained,
    workdir: pathlib.Path,
    *,
    format_name: str,
    calibrate: str = '',
) -> Checked:
    """Writes a model for other programs, once it has been found to say what the model says.

    Args:
      path: the file; what says the same in words may lie beside it, see `deployed_formats`.
      trained: the model.
      workdir: the run's, whose images it is tried on.
      format_name: one of `deployed_formats.FORMATS`.
      calibrate: '' or a name in `SCALINGS`: what logits are scaled by on the way to probabilities.

    Raises:
      UserError: a library is missing, the folder cannot be written, the run has no such scaling, or the file does not
        say what the model says.
    """
    kind = deployed_formats.FORMATS[format_name]
    kind.check_installed()
    scaling = deciding.scaling(trained, calibrate) if calibrate else None
    model = in_float32(trained)
    images, of = images_to_check(trained, workdir)
    about = describe(trained, calibrate)
    temporary = path.with_name(f'{path.name}.tmp')
    try:
        kind.write(temporary, function(model, scaling), model.image_shape, about)
        logits, probabilities = kind.run(temporary, images)
        checked = compare(model.forward(images)[1], logits, of)
        meant = softmax(logits if scaling is None else scaling.apply(logits))
        off = float(np.abs(probabilities - meant).max())
        if not off < _PROBABILITY_TOLERANCE:
            raise UserError(
                f'{path} was not written: its probabilities are off by {off:.1e}. Please report it.'
            )
        kind.rename(temporary, path)
    except OSError as error:
        raise UserError(f'cannot write {path} ({error.strerror}): give another path.') from None
    finally:
        for left in kind.files(temporary):
            with contextlib.suppress(OSError):
                left.unlink()
    return checked


def in_float32(trained: Trained) -> Trained:
    """Returns the model that computes in float32, in which its parameters are, whatever it was trained in."""
    if trained.settings.model.dtype == 'float32':
        return trained
    model = nnx.merge(trained.graphdef, trained.state, copy=True)
    model.set_attributes(dtype=jnp.dtype(jnp.float32))
    return dataclasses.replace(trained, graphdef=nnx.graphdef(model))


def function(
    trained: Trained, scaling: Scaling
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """Returns images uint8 [n, H, W, C] -> (logits [n, K], probabilities [n, K]), float32, with all numbers inside.

    Args:
      trained: the model.
      scaling: of the logits on the way to probabilities.
    """
    state = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), trained.state)
    model = nnx.merge(trained.graphdef, state, copy=True)
    set_batch_norm(model, 'running')
    tuning.merge(model)
    fold(model)
    graphdef, state = nnx.split(model)
    mean, std = (
        np.asarray(values, np.float32)[None, None, None]
        for values in (trained.settings.data.mean, trained.settings.data.std)
    )

    def apply(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        pixels = (images.astype(jnp.float32) / 255.0 - mean) / std
        logits = nnx.merge(graphdef, state, copy=True)(pixels).logits
        return logits, jax.nn.softmax(_scaled(logits, scaling))

    return apply


def _scaled(logits: jax.Array, scaling: Scaling) -> jax.Array:
    """Returns what `scaling.apply` does, on the device."""
    if scaling is None:
        return logits
    if isinstance(scaling, Temperature):
        return logits / np.float32(scaling.temperature)
    scale, bias = (np.asarray(v, np.float32)[None] for v in (scaling.scale, scaling.bias))
    return (logits - jnp.mean(logits, axis=1, keepdims=True)) * scale + bias


def describe(trained: Trained, calibrate: str) -> dict[str, Any]:
    """Returns the metadata of a file, as JSON takes them; docs/deployment.md says what they mean."""
    height, width, channels = trained.image_shape
    data = trained.settings.data
    fitted = {name: found['fitted'] for name, found in (trained.calibration or {}).items()
              if name in SCALINGS and 'fitted' in found}  # fmt: skip
    return {
        'ltjax': __version__,
        'method': trained.settings.method['name'],
        'model': trained.settings.model.name,
        'class_names': list(trained.class_names),
        'input': {
            'name': 'images',
            'dtype': 'uint8',
            'axes': ['image', 'height', 'width', 'channel'],
            'height': height,
            'width': width,
            'channels': channels,
            'colours': 'RGB' if channels == 3 else 'grey',
            # Images of other sizes are brought to a square; else they have to have the size already.
            'interpolation': data.interpolation if height == width else None,
        },
        'normalisation_inside': {'divisor': 255, 'mean': list(data.mean), 'std': list(data.std)},
        'outputs': ['logits', 'probabilities'],
        'probabilities': f'{calibrate} scaling, then softmax' if calibrate else 'softmax',
        'scaling': calibrate or None,
        'scalings_of_the_run': fitted,
        'thresholds': thresholds(trained, calibrate),
        'data_sha256': trained.data_sha256,
    }


def thresholds(trained: Trained, calibrate: str) -> dict[str, Any] | None:
    """Returns the least probability of each class that counts as positive; None where the run chose none.

    They reach on the validation images what the run wished, by the probabilities that the file gives.
    """
    if trained.wished is None or trained.validation is None:
        return None
    validation = deciding.validation(trained, calibrate)
    chosen = operating_points.choose(
        validation.labels, validation.scores.matrix(), **trained.wished
    )
    per_class = [None if np.isnan(value) else value for value in chosen.tolist()]
    return {'wished': dict(trained.wished), 'per_class': per_class}


def images_to_check(trained: Trained, workdir: pathlib.Path) -> tuple[np.ndarray, str]:
    """Returns images uint8 [n, H, W, C], at most `CHECKED`, and what they are: the run's own where they can be read."""
    for find in (_test_images, _errors):
        try:
            found, of = find(trained, workdir)
        except (UserError, OSError):
            continue  # the data may have moved, or be on another machine
        if len(found) and found.shape[1:] == trained.image_shape:
            return found, of
    shape = (CHECKED, *trained.image_shape)
    drawn = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    return drawn, "images of random pixels (the run's own cannot be read)"


def _test_images(trained: Trained, workdir: pathlib.Path) -> tuple[np.ndarray, str]:
    with np.load(workdir / 'predictions.npz', allow_pickle=False) as stored:
        ids = stored['ids'].tolist()
    chosen = [ids[row] for row in np.linspace(0, len(ids) - 1, min(CHECKED, len(ids))).astype(int)]
    config = trained.settings.data.replace(split=Split(protocol='none'))
    table = reading.survey(config)
    rows = [table.row_of[each] for each in chosen if each in table.row_of]
    if not rows:
        raise UserError(f'{table.where} has none of the test images of {workdir}.')
    kept = np.array(sorted(rows))
    images = reading.read(config, dataclasses.replace(table, kept=kept)).images
    return np.asarray(images[np.arange(len(images))]), 'test images of the run'


def _errors(trained: Trained, workdir: pathlib.Path) -> tuple[np.ndarray, str]:
    with np.load(workdir / looking.FILE, allow_pickle=False) as stored:
        near = stored['near'].reshape(-1, *trained.image_shape)
        return np.concatenate([stored['images'], near])[:CHECKED], 'images that the run kept'


def compare(ours: np.ndarray, theirs: np.ndarray, of: str) -> Checked:
    """Compares logits [n, K] of the model with those of a file.

    Raises:
      UserError: they differ by more than rounding, or say another class where there is no near tie.
    """
    largest = np.abs(ours).max()
    difference = (
        float(np.abs(ours - theirs).max() / largest) if largest else float(np.abs(theirs).max())
    )
    second, first = np.sort(ours, axis=1)[:, -2:].T
    same = ours.argmax(1) == theirs.argmax(1)
    ties = ~same & (first - second < TOLERANCE * largest)
    if not difference < TOLERANCE or not (same | ties).all():
        raise UserError(
            f'nothing was written: the file would not say what the model says (of {len(ours)} {of} '
            f'{(~same).sum()} get another class, relative difference of logits {difference:.1e}). Please report it, '
            'with the versions of jax and jax2onnx, or take another --format.'
        )
    return Checked(len(ours), of, difference, int(same.sum()), int(ties.sum()))
