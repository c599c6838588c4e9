"""Networks with random weights, as `Trained` holds those of a run."""

import dataclasses

import jax
import numpy as np
from flax import nnx

import tiny
from ltjax import methods
from ltjax.run import build
from ltjax.run.settings import Settings
from ltjax.run.trained import Trained

NAMES = ('café', 'naïve', 'b, "c"')


def trained(made, *, size=32, channels=3, **others):
    """Returns what a run of the config `made` might have left, with drawn numbers and the classes NAMES."""
    settings = Settings.of(made)
    task = dataclasses.replace(
        tiny.task(), columns=tiny.columns(settings.data.further or ('site',))
    )
    recipe = methods.recipe(settings.method, task)
    model = nnx.eval_shape(
        lambda: build.create_model(settings, recipe, len(NAMES), channels, nnx.Rngs(0))
    )
    graphdef, shapes = nnx.split(model)
    rng = np.random.default_rng(0)
    state = jax.tree_util.tree_map_with_path(lambda path, leaf: _drawn(rng, path, leaf), shapes)
    return Trained(
        settings,
        NAMES,
        (size, size, channels),
        graphdef,
        state,
        data_sha256='0' * 64,
        identity=None,
        train_counts=tiny.COUNTS,
        ordered=False,
        **others,
    )


def _drawn(rng, path, leaf):
    """Draws numbers under which every layer matters and none swamps the others."""
    names = [str(getattr(key, 'key', getattr(key, 'name', ''))) for key in path]
    if leaf.dtype == bool:
        return np.ones(leaf.shape, bool)
    if not np.issubdtype(leaf.dtype, np.floating):
        return np.ones(leaf.shape, leaf.dtype)
    if {'scale', 'var', 'magnitude'} & set(names):
        return rng.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
    deviation = np.sqrt(2 / max(np.prod(leaf.shape[:-1]), 1)) if len(leaf.shape) > 1 else 0.1
    if 'up' in names:  # of a low-rank product: beside the weights that it changes
        deviation = 0.1
    drawn = rng.standard_normal(leaf.shape, np.float32) * np.float32(deviation)
    return drawn.astype(leaf.dtype)
