"""Tiny Vision Transformers against timm's outputs, from weight files with their authors' keys.

`tests/weights/write_golden_vits.py` writes the files and says what is in them.
"""

import functools
import json
import pathlib

import jax
import numpy as np
from flax import nnx

from golden_checks import models as golden
from ltjax.models import pretrained
from ltjax.models.vit import ViT

TOLERANCE = 1e-5


def check(path: pathlib.Path) -> None:
    """Checks one file.

    Args:
      path: an .npz file.

    Raises:
      AssertionError: naming the quantity that is off, or a key that nothing here checks.
    """
    arrays, tensors, make = read(path)
    model = nnx.eval_shape(lambda: make(num_classes=arrays['sizes'][3], rngs=nnx.Rngs(0)))
    state, _ = pretrained.fit(make, model, tensors)
    assert ('classifier' in state) == bool(arrays['has_head'])
    # What the file has not starts as it is drawn.
    fresh = nnx.state(make(num_classes=arrays['sizes'][3], rngs=nnx.Rngs(0)))
    model = nnx.merge(nnx.graphdef(model), nnx.merge_state(fresh, state))
    model.eval()
    run = jax.jit(lambda state, images: nnx.merge(nnx.graphdef(model), state)(images))
    with jax.default_matmul_precision('highest'):
        for case in ('case0', 'case1', 'case2'):
            outputs = run(nnx.state(model), golden.images_of(arrays, case))
            for name in ('features', 'logits') if arrays['has_head'] else ('features',):
                want = arrays[f'{case}/{name}_f64']
                golden.assert_near(f'{case}/{name}', getattr(outputs, name), want, TOLERANCE)
    unchecked = sorted(set(arrays) - arrays.used)
    assert not unchecked, f'{path.name}: no check for {", ".join(unchecked)}'


def read(path: pathlib.Path):
    """Returns the arrays of a golden file, the tensors of its weight file, and what makes the model."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = golden.Golden({key: stored[key] for key in stored.files})
    assert (str(arrays['arch']), str(arrays['recipe'])) == ('vit', 'ltjax-golden-v1')
    shapes = {}
    for line in arrays['keys'].tolist():
        key, shape = line.split('\t')
        shapes[key] = tuple(map(int, shape.split('x'))) if shape else ()
    tensors = golden.draw_weights(shapes, int(arrays['seed']))
    assert golden.sha256(tensors.values()) == str(arrays['weights_sha256'])
    width, depth, heads, _ = arrays['sizes'].tolist()
    options = json.loads(str(arrays['options']))
    return arrays, tensors, functools.partial(ViT, width, depth, heads, **options)
