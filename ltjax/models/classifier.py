"""What every network here is: a classifier of images with named feature maps, run whole or in parts of a batch."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ltjax.models.layers import BatchNorm, global_average


class Outputs(NamedTuple):
    """What a model returns: pooled `features` [B, C] and `logits` [B, K], both float32."""

    features: jax.Array
    logits: jax.Array


# (name, feature map) -> feature map.
Tap = Callable[[str, jax.Array], jax.Array]


def untouched(name: str, feature_map: jax.Array) -> jax.Array:
    """The tap that changes nothing."""
    return feature_map


class ImageClassifier(nnx.Module):
    """Base of all models: a subclass gives `feature_maps`; the rest follows from it.

    Parameters are float32. Feature maps are computed in `dtype`; pooling and the classifier are
    computed in float32 at least, so that features and logits keep their precision under bfloat16.

    Attributes:
      classifier: the last layer, [feature_dim] to [num_classes].
      feature_dim: C, the length of one image's feature vector.
      dtype: computation dtype.
      remat: compute the inside of a block again for the gradient rather than keep it.
      chunks: parts of a batch that are encoded one after another, see `set_chunks`.
      branches: blocks that a method puts side by side behind the last stage, see `models.branches`.
      explained: which of the feature maps says best where in an image something is seen, counted from the end.
      may_be_fresh: parts that files of weights may lack; they start as they are drawn.
    """

    classifier: nnx.Module
    feature_dim: int
    dtype: jnp.dtype
    remat: bool = False
    chunks: int = 1
    branches: Sequence[nnx.Module] = ()
    explained: int = -1
    may_be_fresh: tuple[str, ...] = ('classifier',)

    @property
    def map_dim(self) -> int:
        """Channels of the last stage's output, here as many as a branch has features."""
        return self.feature_dim // max(len(self.branches), 1)

    def feature_maps(self, images: jax.Array, tap: Tap = untouched) -> dict[str, jax.Array]:
        """Returns the outputs [B, H', W', C'], or tokens [B, T, C'], of 'stem', 'stage1', 'stage2' and so on.

        Args:
          images: [B, H, W, channels], floating, already normalised.
          tap: (name, map) -> what takes the map's place before the next stage.
        """
        raise NotImplementedError

    def spatial(self, feature_map: jax.Array, images: jax.Array) -> jax.Array:
        """Returns a feature map as [B, H', W', C'], which all but those of tokens are."""
        return feature_map

    def further_block(self, rngs: nnx.Rngs) -> nnx.Module | None:
        """Returns a new block for behind the last stage; None: any that keeps a map's shape."""
        return None

    def pool(self, last: jax.Array) -> jax.Array:
        """Returns features [B, C] of the last stage's output, here its average over space."""
        return global_average(last)

    def encode(self, images: jax.Array, tap: Tap = untouched) -> jax.Array:
        """Returns features [B, C] of `images`: what the classifier sees. For `tap` see `feature_maps`."""
        if self.chunks > 1 and tap is untouched:
            return _encode_chunks(self, images)
        with jax.named_scope('network'):
            *_, last = self.feature_maps(images, tap).values()
            if not self.branches:
                return self.pool(last)
            features = [self.branch(number, last) for number in range(len(self.branches))]
            return jnp.concatenate(features, axis=1)

    def branch(self, number: int, last: jax.Array) -> jax.Array:
        """Returns the features of one of `branches` alone, pooled like any others, of the last stage's output."""
        return self.pool(run_blocks([self.branches[number]], last, remat=self.remat))

    def classify(self, features: jax.Array) -> jax.Array:
        """Returns logits [B, K] of features [B, C]."""
        return self.classifier(features)

    def __call__(self, images: jax.Array, tap: Tap = untouched) -> Outputs:
        """Returns the features and logits of `images` [B, H, W, channels]. For `tap` see `feature_maps`."""
        features = self.encode(images, tap)
        return Outputs(features, self.classify(features))


def set_chunks(model: ImageClassifier, count: int) -> None:
    """Makes `model` hold the activations of a part of a batch only, in place; its outputs do not change.

    The encoder takes `count` parts one after another, and takes each again for its gradient; whatever
    is made of the features sees the whole batch (Gao et al. 2021, "Scaling Deep Contrastive Learning
    Batch Size under Memory Limited Setup"). Batch normalisation by the batch needs every layer of the
    whole batch at once: there blocks are rematerialised instead, which saves less.

    Args:
      model: in the mode in which it will be called.
      count: a batch must divide into.
    """
    norms = (module for _, module in nnx.iter_modules(model) if isinstance(module, BatchNorm))
    if any(norm.by_batch for norm in norms):
        model.remat = model.remat or count > 1
    else:
        model.chunks = count


def _encode_chunks(model: ImageClassifier, images: jax.Array) -> jax.Array:
    random = [m for _, m in nnx.iter_modules(model) if isinstance(m, nnx.Dropout)]
    key = random[0].rngs() if random and random[0].rngs else jax.random.key(0)
    graphdef, state = nnx.split(model)

    @jax.checkpoint
    def encode(number_and_images: tuple[jax.Array, jax.Array]) -> jax.Array:
        number, images = number_and_images
        part = nnx.merge(graphdef, state, copy=True)
        part.chunks = 1
        set_key(part, jax.random.fold_in(key, number))
        return part.encode(images)

    # Every count-th image: of a batch that is split over devices each part is split over them too.
    count = model.chunks
    parts = jnp.moveaxis(images.reshape(-1, count, *images.shape[1:]), 1, 0)
    features = jax.lax.map(encode, (jnp.arange(count), parts))
    return jnp.moveaxis(features, 0, 1).reshape(len(images), -1)


def set_key(model: nnx.Module, key: jax.Array) -> None:
    """Gives `model` the key that its training mode draws from, in place.

    A model keeps no random state, so that its parameters and statistics are all there is to save: a
    training step gives its copy of the model a key of its own. One key serves any number of calls;
    each draws anew. Without random layers, or in inference mode, the key has no effect.
    """
    model.set_attributes(nnx.Dropout, rngs=nnx.Rngs(key), raise_if_not_found=False)


def run_blocks(blocks: Iterable[nnx.Module], x: jax.Array, *more: Any, remat: bool) -> jax.Array:
    """Returns `x` [B, H, W, C] after the blocks of a stage, one after another, each of which is given `more` too.

    `remat` keeps only what goes into a block, and computes its inside again for the gradient: less
    memory, about a third more time.
    """
    call = nnx.remat(_call) if remat else _call
    for block in blocks:
        x = call(block, x, *more)
    return x


def _call(block: Callable[..., jax.Array], x: jax.Array, *more: Any) -> jax.Array:
    return block(x, *more)


def run_stages(
    x: jax.Array, stages: Iterable[Iterable[nnx.Module]], tap: Tap, *, remat: bool
) -> dict[str, jax.Array]:
    """Returns feature maps: `x` [B, H, W, C] as 'stem', and 'stage1', 'stage2' ... after each; see `run_blocks`."""
    x = tap('stem', x)
    maps = {'stem': x}
    for number, blocks in enumerate(stages, start=1):
        name = f'stage{number}'
        x = maps[name] = tap(name, run_blocks(blocks, x, remat=remat))
    return maps
