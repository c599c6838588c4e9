"""Whole models against PyTorch's outputs, with weights rebuilt from a seed.

A file holds a seed, input seeds and expected outputs; weights and images are drawn by the recipe
'ltjax-golden-v1', over the key list of the architecture. Errors are the largest absolute difference
over the largest absolute reference.
"""

import collections
import functools
import hashlib
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ltjax import models
from ltjax.models.layers import global_average
from ltjax.models.weights import from_torch, layout_of, to_torch

KEYS = pathlib.Path(__file__).parents[1] / 'golden' / 'models'
LAYOUTS = {'torchvision': 'torchvision', 'timm': 'timm', 'ldam-drw': 'original'}
EPSPROBE_CONVOLUTIONS = ('features.0.', 'features.2.1.', 'features.4.1.', 'features.6.1.')
# A network is compiled for one or two calls.
QUICK_COMPILATION = {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True,
}

EVAL_TOLERANCE = 1e-5
STAGE_TOLERANCE = 1e-4
TRAIN_TOLERANCE = 2e-5
LOSS_TOLERANCE = 2e-5  # absolute
NORM_TOLERANCE = 5e-5  # of each norm
GRADIENT_TOLERANCE = 1e-4
BUFFER_TOLERANCE = 1e-5


class Golden(collections.UserDict):
    """The arrays of a file; notes which of them were asked for."""

    def __init__(self, arrays):
        self.used = set()
        super().__init__(arrays)

    def __getitem__(self, key):
        self.used.add(key)
        return super().__getitem__(key)


def check(path: pathlib.Path) -> None:
    """Checks one file of model outputs.

    Args:
      path: an .npz file.

    Raises:
      AssertionError: naming the quantity that is off, or a key that nothing here checks.
    """
    with np.load(path, allow_pickle=False) as stored:
        golden = Golden({key: stored[key] for key in stored.files})
    arch = str(golden['arch'])
    name = arch.removesuffix('_timm')
    assert name in models.names(), f'no check for {arch}'
    assert str(golden['recipe']) == 'ltjax-golden-v1'

    cases = golden['cases'].tolist()
    tensors, identical = _checked_weights(golden, _read_keys(KEYS / f'keys_{arch}.txt'))
    abstract = nnx.eval_shape(
        lambda: models.create(
            name,
            num_classes=int(golden['num_classes']),
            channels=int(golden[f'{cases[0]}/input_shape'][1]),
            rngs=nnx.Rngs(0),
        )
    )
    layout = layout_of(abstract, tensors)
    assert layout == LAYOUTS[str(golden['naming'])]
    state = from_torch(abstract, tensors)
    parameters = nnx.filter_state(state, nnx.Param)
    assert sum(value.size for value in jax.tree.leaves(parameters)) == golden['num_params']

    with jax.default_matmul_precision('highest'):
        for case in cases:
            case_state = state
            if case == 'epsprobe':
                probed = _epsprobe(tensors)
                digest = str(golden['epsprobe/weights_sha256'])
                assert not identical or digest == sha256(probed.values()), 'epsprobe weights'
                case_state = from_torch(abstract, probed)
            _check_eval(golden, case, abstract, case_state, with_stages=case == cases[0])
        for case in ('train', 'grad'):
            if f'{case}/loss_f64' in golden:
                _check_gradients(golden, case, abstract, state, layout)

    unchecked = sorted(set(golden) - golden.used)
    assert not unchecked, f'{path.name}: no check for {", ".join(unchecked)}'


def _read_keys(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every state-dict key, in the order of drawing."""
    shapes = {}
    for line in path.read_text().splitlines():
        if not line.startswith('#'):
            key, _, shape = line.split('\t')
            shapes[key] = () if shape == 'scalar' else tuple(map(int, shape.split('x')))
    assert list(shapes) == sorted(shapes)
    return shapes


def draw_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    tensors = {}
    for key, shape in shapes.items():
        if key.endswith('num_batches_tracked'):
            continue
        value = rng.standard_normal(shape)
        if key.endswith('running_var'):
            value = 1 + 0.1 * np.abs(value)
        elif key.endswith(('layer_scale', 'gamma')):
            value = 0.5 + 0.1 * value
        elif key.endswith(('running_mean', 'bias')):
            value = 0.1 * value
        elif key.endswith(('_token', '_tokens', 'pos_embed', '_embedding')):
            value = 0.5 * value
        elif value.ndim == 1:
            value = 1 + 0.1 * value
        else:
            value = value / np.sqrt(np.prod(shape[1:]))
        tensors[key] = value.astype(np.float32)
    return tensors


def _checked_weights(
    golden: Golden, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], bool]:
    """Returns the weights and whether they are the original ones to the last bit."""
    assert golden['num_tensors'] == len(shapes)
    tensors = draw_weights(shapes, int(golden['seed']))
    sums = [value.sum(dtype=np.float64) for value in tensors.values()]
    magnitudes = [np.abs(value).sum(dtype=np.float64) for value in tensors.values()]
    scale = golden['weights_abs_sum']
    assert (np.abs(magnitudes - scale) <= 1e-6 * scale).all(), 'weights_abs_sum: other weights'
    assert (np.abs(sums - golden['weights_sum']) <= 1e-6 * scale).all(), 'weights_sum'
    return tensors, sha256(tensors.values()) == str(golden['weights_sha256'])


def sha256(arrays) -> str:
    digest = hashlib.sha256()
    for value in arrays:
        digest.update(np.ascontiguousarray(value, '<f4').tobytes())
    return digest.hexdigest()


def _epsprobe(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns weights that make activations so small that the normalisation's epsilon matters."""

    def factor(key, value):
        if any(name.startswith('features.') for name in tensors):
            small = key.startswith(EPSPROBE_CONVOLUTIONS)
            small |= key.endswith(('layer_scale', '.block.0.bias'))
            return np.float32(2**-10 if small else 1)
        if key.endswith('running_var'):
            return np.float32(2**-14)
        if value.ndim == 4 or key.endswith('running_mean'):
            return np.float32(2**-7)
        return np.float32(1)

    return {key: value * factor(key, value) for key, value in tensors.items()}


def images_of(golden: Golden, case: str) -> jax.Array:
    """Returns the images of a case [N, H, W, C]."""
    shape = tuple(golden[f'{case}/input_shape'].tolist())
    images, digest = draw_images(shape, int(golden[f'{case}/input_seed']))
    assert digest == str(golden[f'{case}/input_sha256']), f'{case}: other images'
    return jnp.asarray(images.transpose(0, 2, 3, 1))


def draw_images(shape: tuple[int, ...], seed: int) -> tuple[np.ndarray, str]:
    """Returns images [N, C, H, W], and their sha256."""
    batch, channels, height, width = shape
    rng = np.random.default_rng(seed)
    coarse = rng.standard_normal((batch, channels, -(-height // 16), -(-width // 16)))
    coarse = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, :height, :width]
    images = (coarse + rng.standard_normal(shape)).astype(np.float32)
    return images, sha256([images])


def assert_near(name: str, got, want: np.ndarray, tolerance: float) -> None:
    got = np.asarray(got, np.float64)
    assert got.shape == want.shape, f'{name}: shape {got.shape}, not {want.shape}'
    error = np.abs(got - want).max() / np.abs(want).max()
    assert error <= tolerance, f'{name}: error {error:.2g}, allowed {tolerance:.0e}'


def _last_stage(maps) -> str:
    return max(maps.keys() - {'stem'})


def _assert_outputs(golden: Golden, case: str, outputs, maps, tolerance: float) -> None:
    """Compares with float64; PyTorch's own float32 values have to pass the same test."""
    results = {'logits': outputs.logits, 'pooled': global_average(maps[_last_stage(maps)])}
    # A network with a norm before its classifier takes the normalised average for its features.
    has_norm = any(key.endswith('pooled_norm_f64') for key in golden)
    if f'{case}/pooled_norm_f64' in golden or not has_norm:
        results['pooled_norm' if has_norm else 'pooled'] = outputs.features
    for name, got in results.items():
        want = golden[f'{case}/{name}_f64']
        assert_near(f'{case}/{name}', got, want, tolerance)
        if f'{case}/{name}_f32' in golden:
            assert_near(f'{case}/{name}_f32', golden[f'{case}/{name}_f32'], want, tolerance)


def _outputs_and_maps(model, images):
    return _run(*nnx.split(model), images)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK_COMPILATION)
def _run(graphdef, state, images):
    model = nnx.merge(graphdef, state)
    return model(images), model.feature_maps(images)


def _check_eval(golden: Golden, case: str, abstract, state, *, with_stages: bool) -> None:
    model = nnx.merge(nnx.graphdef(abstract), state, copy=True)
    model.eval()
    outputs, maps = _outputs_and_maps(model, images_of(golden, case))
    _assert_outputs(golden, case, outputs, maps, EVAL_TOLERANCE)
    if not with_stages:
        return
    for stage, values in maps.items():
        prefix = f'{case}/{stage}'
        if f'{prefix}_shape' not in golden:
            assert stage == 'stem', f'{prefix} is not in the file'
            continue
        batch, height, width, channels = values.shape
        assert golden[f'{prefix}_shape'].tolist() == [batch, channels, height, width], prefix
        for name, got in (
            ('gap', values.mean(axis=(1, 2))),
            ('tl', values[:, 0, 0]),
            ('br', values[:, -1, -1]),
        ):
            assert_near(f'{prefix}_{name}', got, golden[f'{prefix}_{name}'], STAGE_TOLERANCE)


def _check_gradients(golden: Golden, case: str, abstract, state, layout: str) -> None:
    """One forward and backward pass, for 'train' in training mode with the statistics it leaves."""
    images, labels = images_of(golden, case), jnp.asarray(golden[f'{case}/labels'])
    if case == 'train':
        assert golden['train/relu_min_abs'] > 0
        abstract.train()
    else:
        abstract.eval()
    graphdef, _ = nnx.split(abstract)
    parameters, statistics = nnx.split_state(state, nnx.Param, nnx.BatchStat)

    def loss_fn(parameters):
        model = nnx.merge(graphdef, parameters, statistics, copy=True)
        maps = model.feature_maps(images)
        features = model.pool(maps[_last_stage(maps)])
        outputs = models.Outputs(features, model.classify(features))
        loss = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels).mean()
        return loss, (outputs, maps, nnx.state(model, nnx.BatchStat))

    gradient_fn = jax.value_and_grad(loss_fn, has_aux=True)
    step = jax.jit(gradient_fn, compiler_options=QUICK_COMPILATION)
    (loss, (outputs, maps, updated)), gradients = step(parameters)

    _assert_outputs(golden, case, outputs, maps, TRAIN_TOLERANCE)
    want = golden[f'{case}/loss_f64']
    for got in (loss, golden[f'{case}/loss_f32']):
        assert abs(got - want) <= LOSS_TOLERANCE, f'{case}/loss: {got}, not {want}'

    # Gradients take the parameters' places in the model, so they get the same names and layouts.
    values = to_torch(nnx.merge(graphdef, gradients, updated, copy=True), layout)
    keys = golden[f'{case}/grad_keys'].tolist()
    is_buffer = {key: key.endswith(('running_mean', 'running_var')) for key in values}
    assert keys == sorted(key for key in values if not is_buffer[key])
    norms = np.array([np.linalg.norm(values[key].astype(np.float64)) for key in keys])
    want = golden[f'{case}/grad_norm_f64']
    for got in (norms, golden[f'{case}/grad_norm_f32']):
        wrong = np.abs(got - want) > NORM_TOLERANCE * want
        assert not wrong.any(), f'{case}/grad_norm: {np.array(keys)[wrong]}'
    for key in list(golden):
        name = key.removeprefix(f'{case}/grad/')
        if name != key:
            assert_near(key, values[name], golden[key], GRADIENT_TOLERANCE)
        elif key.startswith('train/buf/') and key.endswith('num_batches_tracked'):
            assert golden[key] == 1
    if case == 'train':
        _check_statistics(golden, graphdef, parameters, updated, values, images)


def _check_statistics(golden: Golden, graphdef, parameters, updated, values, images) -> None:
    """The running statistics that a forward pass left, and what the network gives with them."""
    for key in values:
        if key.endswith(('running_mean', 'running_var')):
            name = f'train/buf/{key}'
            assert_near(name, values[key], golden[name], BUFFER_TOLERANCE)
    model = nnx.merge(graphdef, parameters, updated, copy=True)
    model.eval()
    outputs, _ = _outputs_and_maps(model, images)
    want = golden['train/eval_after_logits_f64']
    assert_near('train/eval_after_logits', outputs.logits, want, EVAL_TOLERANCE)
