"""Files of Vision Transformers' weights: what they lack is named, and what is written has the bits that were read."""

import numpy as np
import pytest
from flax import nnx

import tiny
from golden_checks import models as golden
from golden_checks import vits
from ltjax.errors import UserError
from ltjax.models import pretrained

pytestmark = pytest.mark.slow


def vit_files():
    return sorted(golden.KEYS.glob('vit_*.npz'))


@pytest.mark.parametrize('path', vit_files(), ids=lambda path: path.stem)
def test_what_a_file_lacks_or_has_of_another_shape_is_named(path):
    arrays, tensors, make = vits.read(path)
    target = nnx.eval_shape(lambda: make(num_classes=5, rngs=nnx.Rngs(0)))

    def refused(changed):
        with pytest.raises(UserError) as error:
            pretrained.fit(make, target, changed)
        assert '\n' not in str(error.value)
        return str(error.value)

    _, layout = pretrained.fit(make, target, tensors)
    stem = path.stem.removeprefix('vit_')
    assert layout == {
        'dinov2': 'dinov2',
        'dinov3': 'dinov3',
        'clip': 'clip',
        'timm_dinov3': 'timm_dinov3',
        'panderm': 'timm_dinov3',
    }.get(stem, 'timm')
    last = next(key for key in reversed(tensors) if 'norm2.weight' in key or 'ln_2.weight' in key)
    missing = refused({key: value for key, value in tensors.items() if key != last})
    assert (
        f'missing {last[last.index("blocks") if stem != "clip" else last.index("transformer") :]}'
        in missing
    )
    assert 'unfit' in refused(tensors | {last: tensors[last][:-1]})
    assert 'unknown' in refused(tensors | {last.replace('weight', 'other'): tensors[last]})
    assert arrays['sizes'][0] == 24


def test_a_file_of_several_networks_is_refused():
    _, tensors, make = vits.read(golden.KEYS / 'vit_timm.npz')
    both = {
        f'{who}.{key}': value for who in ('student', 'teacher') for key, value in tensors.items()
    }
    target = nnx.eval_shape(lambda: make(num_classes=5, rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match=r'there are 2 networks .* student\., teacher\.'):
        pretrained.fit(make, target, both)
    state, _ = pretrained.fit(make, target, {f'teacher.{k}': v for k, v in tensors.items()})
    assert tiny.same(state, pretrained.fit(make, target, tensors)[0])


def test_positions_of_no_square_grid_are_refused():
    _, tensors, make = vits.read(golden.KEYS / 'vit_timm.npz')
    target = nnx.eval_shape(lambda: make(num_classes=5, rngs=nnx.Rngs(0)))
    changed = tensors | {'pos_embed': np.zeros((1, 15, 24), np.float32)}
    with pytest.raises(UserError, match='pos_embed has 15 positions, which are no square grid'):
        pretrained.fit(make, target, changed)


def test_weights_come_out_bit_for_bit(tmp_path):
    for stem in ('timm', 'timm_mean', 'uni', 'timm_dinov3'):
        _, tensors, make = vits.read(golden.KEYS / f'vit_{stem}.npz')
        model = nnx.eval_shape(lambda make=make: make(num_classes=5, rngs=nnx.Rngs(0)))
        state, layout = pretrained.fit(make, model, tensors)
        pretrained.write(tmp_path / 'a.safetensors', nnx.merge(nnx.graphdef(model), state), layout)
        again = pretrained.weight_files.read(tmp_path / 'a.safetensors', {}).tensors
        assert set(again) == set(tensors)
        assert all(again[key].tobytes() == tensors[key].tobytes() for key in tensors)
