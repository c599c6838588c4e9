"""How the images of a batch are mixed, and with which labels their loss is computed."""

from collections.abc import Callable, Mapping
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ltjax import losses
from ltjax.engine.stage import Batch
from ltjax.methods.task import Task
from ltjax.models import ImageClassifier
from ltjax.settings import Choices, from_to, positive

Positive = Annotated[float, positive()]
Share = Annotated[float, from_to(0, 1)]


class Mixed(NamedTuple):
    """What the network says of a batch, and what it should say.

    Attributes:
      images: what it saw [B, H, W, channels].
      features: [B, C].
      logits: [B, K].
      labels: [B].
      others: [B], of the images mixed in; None: none is.
      share: of `labels` in the loss, [] or [B]; `others` have the rest.
    """

    images: jax.Array
    features: jax.Array
    logits: jax.Array
    labels: jax.Array
    others: jax.Array | None = None
    share: jax.Array | float = 1.0


class Mixing(NamedTuple):
    """A way of mixing.

    Attributes:
      mixed: (network, batch with a 'view', key) -> what the loss is made of.
      samplers: of further streams of images, by their names.
    """

    mixed: Callable[[ImageClassifier, Batch, jax.Array], Mixed]
    samplers: Mapping[str, str] = {}


MIXINGS: Choices[Mixing] = Choices()


@MIXINGS.add
def none(task: Task) -> Mixing:
    """Images as they are."""

    def mixed(model: ImageClassifier, batch: Batch, key: jax.Array) -> Mixed:
        return Mixed(batch['view'], *model(batch['view']), batch['label'])

    return Mixing(mixed)


@MIXINGS.add
def mixup(task: Task, *, alpha: Positive = 1.0) -> Mixing:
    """Each image with another of the batch, the weight from Beta(alpha, alpha) (Zhang et al., 2018)."""
    return Mixing(lambda model, batch, key: _mixup(model, batch, key, alpha))


@MIXINGS.add
def remix(task: Task, *, alpha: Positive = 1.0, kappa: Positive = 3.0, tau: Share = 0.5) -> Mixing:
    """Mixup whose label is that of the much rarer class (Chou et al., 2020)."""

    def mixed(model: ImageClassifier, batch: Batch, key: jax.Array) -> Mixed:
        made = _mixup(model, batch, key, alpha)
        share = losses.remix_weight(
            made.labels,
            made.labels if made.others is None else made.others,
            lam=made.share,
            counts=task.train_counts,
            kappa=kappa,
            tau=tau,
        )
        return made._replace(share=share)

    return Mixing(mixed)


@MIXINGS.add
def balanced_mixup(task: Task, *, alpha: Positive = 0.2) -> Mixing:
    """Images of the ordinary stream with some of class-balanced ones, Beta(alpha, 1) (Galdran et al., 2021)."""

    def mixed(model: ImageClassifier, batch: Batch, key: jax.Array) -> Mixed:
        balanced = batch['balanced']
        lam = losses.mixing_weight(key, alpha, 1.0)
        images = losses.balanced_mixup(batch['view'], balanced['view'], lam)
        return Mixed(images, *model(images), batch['label'], balanced['label'], 1 - lam)

    return Mixing(mixed, {'balanced': 'class_balanced'})


@MIXINGS.add
def manifold_mixup(task: Task, *, alpha: Positive = 1.0) -> Mixing:
    """Mixup of the images or of the feature maps after a stage drawn in each step (Verma et al., 2019)."""

    def mixed(model: ImageClassifier, batch: Batch, key: jax.Array) -> Mixed:
        permutation, lam, for_place = _draws(key, len(batch['label']), alpha)
        place = jax.random.randint(for_place, (), 0, len(_PLACES))

        def tap(name: str, feature_map: jax.Array) -> jax.Array:
            if name not in _PLACES:
                return feature_map
            made = losses.mixup(feature_map, permutation, lam)
            return jnp.where(place == _PLACES.index(name), made, feature_map)

        images = tap('images', batch['view'])
        outputs = model(images, tap)
        return Mixed(images, *outputs, batch['label'], batch['label'][permutation], lam)

    return Mixing(mixed)


@MIXINGS.add
def manifold_mixup_two_samplers(task: Task, *, alpha: Positive = 1.0) -> Mixing:
    """Manifold mixup of ordinary with class-balanced images, as a baseline of Tiong et al. (ICCL, 2021)."""

    def mixed(model: ImageClassifier, batch: Batch, key: jax.Array) -> Mixed:
        balanced, size = batch['balanced'], len(batch['label'])
        _, lam, for_place = _draws(key, size, alpha)
        place = jax.random.randint(for_place, (), 0, len(_PLACES))

        def tap(name: str, both: jax.Array) -> jax.Array:
            if name not in _PLACES:
                return both
            made = losses.interpolate(both[:size], both[size:], lam)
            return jnp.where(place == _PLACES.index(name), jnp.tile(made, (2, 1, 1, 1)), both)

        images = tap('images', jnp.concatenate([batch['view'], balanced['view']]))
        features, logits = model(images, tap)
        return Mixed(
            images[:size], features[:size], logits[:size], batch['label'], balanced['label'], lam
        )

    return Mixing(mixed, {'balanced': 'class_balanced'})


# Where manifold mixup mixes: the images, and the maps after the first two stages, as its released code.
_PLACES = ('images', 'stage1', 'stage2')


def _draws(key: jax.Array, size: int, alpha: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns a permutation of the batch, a weight from Beta(alpha, alpha) and a key for more."""
    for_permutation, for_weight, more = jax.random.split(key, 3)
    permutation = jax.random.permutation(for_permutation, size)
    return permutation, losses.mixing_weight(for_weight, alpha), more


def _mixup(model: ImageClassifier, batch: Batch, key: jax.Array, alpha: float) -> Mixed:
    permutation, lam, _ = _draws(key, len(batch['label']), alpha)
    images = losses.mixup(batch['view'], permutation, lam)
    return Mixed(images, *model(images), batch['label'], batch['label'][permutation], lam)
