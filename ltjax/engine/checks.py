"""What a training refuses before its first step, rather than in a later stage."""

import jax

from ltjax import sharding
from ltjax.data.pipeline import SAMPLERS
from ltjax.engine.stage import Recipe
from ltjax.engine.step import BATCH_NORM
from ltjax.errors import unknown


def check_recipe(recipe: Recipe, mesh: jax.sharding.Mesh, *, accumulate: int) -> None:
    """Raises UserError for an unknown sampler or BatchNorm mode, or batches that the devices cannot share."""
    for stage in recipe.stages:
        if not any(update.steps for update in stage.updates):
            raise ValueError(
                f'stage {stage.name!r} makes no step: rounds are numbered by their steps'
            )
        for update in stage.updates:
            if update.batch_norm not in BATCH_NORM:
                raise unknown('batch_norm', update.batch_norm, BATCH_NORM)
            if update.sampler is None:
                continue
            for sampler in (update.sampler, *(s.sampler for s in update.streams.values())):
                if isinstance(sampler, str) and sampler not in SAMPLERS:
                    raise unknown('sampler', sampler, SAMPLERS)
            name = f'the batch size of {stage.name}/{update.name}'
            sharding.check_batch_size(update.batch_size, mesh, name, parts=accumulate)
