"""The layers that networks here share: batch normalisation, convolution, linear maps and pooling."""

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


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """Returns float32 for narrower floating types and the type itself for wider ones."""
    return jnp.promote_types(dtype, jnp.float32)


def global_average(x: jax.Array) -> jax.Array:
    """Returns the average over space [B, C] of `x` [B, H, W, C], in float32 at least."""
    return jnp.mean(x.astype(at_least_float32(x.dtype)), axis=(1, 2))


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
