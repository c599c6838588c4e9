"""MTL: a second head on another label of the images, such as the body site (our reading).

Liao and Luo, "A deep multi-task learning approach to skin lesion classification", AAAI Workshops 2017, learn lesion and
body site together; a baseline of that name in later tables does not say more. Here: one encoder, two linear
classifiers, two cross-entropies; the second has a weight, and images without the other label have no part in it.
Predictions are those of the first head.
"""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ltjax import losses
from ltjax.data.reading.table import Column
from ltjax.engine.stage import Batch, Loss, Recipe, Stage
from ltjax.errors import UserError
from ltjax.methods.task import Supervised, Task, epochs_of
from ltjax.models.layers import linear
from ltjax.settings import at_least


@dataclasses.dataclass(frozen=True)
class Config:
    """The values of MTL.

    Attributes:
      train: the stage.
      column: the other label, one of `data.further`; '': the first of them.
      weight: of its loss.
    """

    train: Supervised
    column: str
    weight: Annotated[float, at_least(0)]


def recipe(config: Config, task: Task) -> Recipe:
    """Returns the one stage and the second head, `further`.

    Raises:
      UserError: the data have no such column, or it tells no images apart.
    """
    column = _column(config, task)
    number = len(column.names)
    codes = np.asarray(column.codes)

    def add_heads(model: Any, rngs: nnx.Rngs) -> None:
        model.further = linear(model.feature_dim, number, rngs=rngs)

    def loss_fn(model: Any, extra: Any, batch: Batch, key: jax.Array, step: jax.Array) -> Loss:
        features, logits = model(batch['view'])
        of_label = losses.mean(losses.softmax_cross_entropy(logits, batch['label']))
        others = jnp.asarray(codes)[batch['index']]
        known = others >= 0
        values = losses.softmax_cross_entropy(model.further(features), others, where=known)
        of_column = losses.mean(values, known)
        logged = {'cross_entropy': of_label, 'further': of_column}
        return Loss(of_label + config.weight * of_column, logged)

    update = epochs_of(config.train, task, loss_fn, sampler=config.train.sampler)
    return Recipe((Stage('mtl', (update,), rounds=config.train.epochs),), add_heads)


def _column(config: Config, task: Task) -> Column:
    if not task.columns:
        raise UserError(
            'mtl learns a further column, and the data have none: name one of the columns of the files in '
            '--config.data.further, or use another method.'
        )
    name = config.column or next(iter(task.columns))
    if name not in task.columns:
        raise UserError(
            f'method.column is {name!r}, and the data have {", ".join(task.columns)}: name one of the columns of '
            '--config.data.further, or use another method.'
        )
    column = task.columns[name]
    if len(column.names) < 2:
        raise UserError(
            f'the column {name!r} has {len(column.names)} values: a second head needs two or more; name another column '
            'in --config.data.further, or use another method.'
        )
    return column
