"""What every model here shares: the interface, batch normalisation, convolution and pooling."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import Initializer, variance_scaling
from jax.typing import DTypeLike

from ltjax.models.convolution import convolve
from ltjax.models.held import Held

# He et al. 2015, "Delving Deep into Rectifiers", eq. 10 (fan-in) and eq. 14 (fan-out).
HE_FAN_IN = variance_scaling(2.0, 'fan_in', 'normal')
HE_FAN_OUT = variance_scaling(2.0, 'fan_out', 'normal')
# Uniform within 1 / sqrt(fan-in), PyTorch's default for linear layers.
UNIFORM_FAN_IN = variance_scaling(1 / 3, 'fan_in', 'uniform')


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


class BatchNorm(nnx.Module):
    """Batch normalisation over all axes but the last, with PyTorch's running statistics.

    Source: Ioffe and Szegedy 2015, "Batch Normalization", algorithm 1. A batch is normalised by its
    biased variance, while the running variance takes the unbiased one, n / (n - 1), n being the
    number of values per channel. Statistics are computed in two passes, in float32 at least. Where
    the batch is sharded over devices under `jax.jit`, they are those of the global batch.

    `model.train()` and `model.eval()` switch `use_running_average`. Where the scale is held, see
    `tuning`, the running statistics stay and count in both modes.

    Attributes:
      scale, bias: parameters [C].
      mean, var: running statistics [C], updated by each call in training mode.
      use_running_average: whether to normalise with the running statistics, not the batch's.
    """

    def __init__(
        self,
        num_features: int,
        *,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        dtype: DTypeLike = jnp.float32,
    ) -> None:
        """Starts as the identity with mean 0 and variance 1.

        Args:
          num_features: C.
          momentum: share of the old running statistics that one update keeps.
          epsilon: added to the variance.
          dtype: of the output.
        """
        self.scale = nnx.Param(jnp.ones(num_features, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(num_features, jnp.float32))
        self.mean = nnx.BatchStat(jnp.zeros(num_features, jnp.float32))
        self.var = nnx.BatchStat(jnp.ones(num_features, jnp.float32))
        self.momentum = momentum
        self.epsilon = epsilon
        self.dtype = jnp.dtype(dtype)
        self.use_running_average = False

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `x` [..., C] normalised, in `dtype`."""
        x = x.astype(at_least_float32(x.dtype))
        over = (None,) * (x.ndim - 1)
        if not self.by_batch:
            mean, var = self.mean[...], self.var[...]
            centred = x - mean[over]
        else:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axis=axes)
            centred = x - mean[over]
            var = jnp.mean(jnp.square(centred), axis=axes)
            self._update(mean, var, count=x.size // x.shape[-1])
        factor = self.scale[...] * jax.lax.rsqrt(var + self.epsilon)
        return (centred * factor[over] + self.bias[...][over]).astype(self.dtype)

    @property
    def by_batch(self) -> bool:
        """Whether a batch is normalised by its own statistics."""
        return not (self.use_running_average or isinstance(self.scale, Held))

    def _update(self, mean: jax.Array, var: jax.Array, *, count: int) -> None:
        # A single value per channel has no unbiased variance; it then counts as zero.
        unbiased = var * (count / max(count - 1, 1))
        for running, batch in ((self.mean, mean), (self.var, unbiased)):
            old = running[...]
            mixed = self.momentum * old + (1 - self.momentum) * batch
            running[...] = jax.lax.stop_gradient(mixed).astype(old.dtype)


class ConvNorm(nnx.Module):
    """A convolution and its batch normalisation."""

    def __init__(self, conv: nnx.Conv, bn: BatchNorm) -> None:
        self.conv, self.bn = conv, bn

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.bn(self.conv(x))


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


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """Returns float32 for narrower floating types and the type itself for wider ones."""
    return jnp.promote_types(dtype, jnp.float32)


def set_key(model: nnx.Module, key: jax.Array) -> None:
    """Gives `model` the key that its training mode draws from, in place.

    A model keeps no random state, so that its parameters and statistics are all there is to save: a
    training step gives its copy of the model a key of its own. One key serves any number of calls;
    each draws anew. Without random layers, or in inference mode, the key has no effect.
    """
    model.set_attributes(nnx.Dropout, rngs=nnx.Rngs(key), raise_if_not_found=False)


def global_average(x: jax.Array) -> jax.Array:
    """Returns the average over space [B, C] of `x` [B, H, W, C], in float32 at least."""
    return jnp.mean(x.astype(at_least_float32(x.dtype)), axis=(1, 2))


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


def conv(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    padding: str | int | None = None,
    bias: bool = False,
    init: Initializer = HE_FAN_OUT,
    dtype: DTypeLike = jnp.float32,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Returns a square convolution, by default without bias and padded for an odd kernel.

    The padding is the same on both sides at every stride, as in PyTorch; 'SAME' pads a stride-2
    convolution of an even-sized image on one side only, as in TensorFlow.

    Args:
      inputs: channels in.
      outputs: channels out.
      kernel: side length.
      stride: along height and width.
      groups: number of channel groups.
      padding: pixels on every side, by default (kernel - 1) / 2; or 'SAME' or 'VALID'.
      bias: adds a bias, zero at first.
      init: draws the kernel [kernel, kernel, inputs / groups, outputs].
      dtype: computation dtype.
      rngs: its 'params' stream is drawn from.
    """
    return nnx.Conv(
        inputs,
        outputs,
        (kernel, kernel),
        strides=stride,
        padding=kernel // 2 if padding is None else padding,
        feature_group_count=groups,
        use_bias=bias,
        dtype=dtype,
        kernel_init=init,
        conv_general_dilated=convolve,
        rngs=rngs,
    )


def linear(
    inputs: int, outputs: int, *, init: Initializer = UNIFORM_FAN_IN, rngs: nnx.Rngs
) -> nnx.Linear:
    """Returns a classifier [inputs] to [outputs] whose bias starts uniform within 1 / sqrt(inputs)."""

    def bias_init(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike) -> jax.Array:
        bound = inputs**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return nnx.Linear(inputs, outputs, kernel_init=init, bias_init=bias_init, rngs=rngs)
