"""What every loss must satisfy, for every case of every module in tests/losses/cases.

A module there has `CASES: list[Case]`. It may have `NOT_LOSSES: dict[str, str]`: public functions
that look like a loss by their arguments, each with the reason why it has no case.
"""

import functools
import importlib
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ltjax import losses

MODULES = {
    path.stem: importlib.import_module(f'losses.cases.{path.stem}')
    for path in sorted((Path(__file__).parent / 'cases').glob('*.py'))
    if path.stem != '__init__'
}
CASES = [case for module in MODULES.values() for case in getattr(module, 'CASES', [])]
QUICK = [MODULES[name].CASES[0] for name in ('logits', 'sets')]
LABEL_CASES = [case for case in CASES if np.issubdtype(case.labels.dtype, np.integer)]

NOT_LOSSES = {
    'accumulated_counts': 'a state update: test_margin.py',
    'attraction': 'a term of the FDC, on distances: test_distribution.py',
    'balanced_draws': 'a sampler: test_samplers.py',
    'class_gaussians': 'statistics: test_gaussian.py',
    'feature_distribution_consistency': 'on distances: test_distribution.py',
    'hardest_examples': 'a selection: test_selection.py',
    'instance_probabilities': 'a sampler: test_samplers.py',
    'mean': 'a reducer: test_reduce.py',
    'repulsion': 'a term of the FDC, on distances: test_distribution.py',
    'total': 'a reducer: test_reduce.py',
    'weighted_batch_mean': 'a reducer: test_reduce.py',
}
for _module in MODULES.values():
    NOT_LOSSES |= getattr(_module, 'NOT_LOSSES', {})


# A case takes up to eight seconds, all together minutes: those that are not slow are a loss on logits and one on a set.
@pytest.fixture(
    scope='module',
    params=[
        pytest.param(case, id=case.name, marks=[] if case in QUICK else pytest.mark.slow)
        for case in CASES
    ],
)
def case(request):
    """Of module scope, so that the tests of one case follow one another and share what it compiles."""
    return request.param


def weights_of(case, values):
    """What the values are summed with before they are differentiated: different for each example."""
    if not case.per_example:
        return jnp.ones_like(values)
    return 1 + 0.5 * jnp.cos(jnp.arange(values.size, dtype=values.dtype))


def values_and_gradients(case, floats, labels, where=None):
    """Values of a case and the gradient of their weighted sum with respect to its floats."""
    options = {} if where is None else {'where': where}
    values, pullback = jax.vjp(lambda floats: case.loss(*floats, labels, **options), floats)
    return values, *pullback(weights_of(case, values))


@functools.lru_cache(maxsize=2)
def compiled(case):
    """The same, compiled: in one piece that takes less time than piece by piece, which is what is not compiled too."""
    return jax.jit(functools.partial(values_and_gradients, case))


def float32(case, rows=slice(None)):
    """The arguments of a case in float32, or those of some rows of it."""
    return tuple(jnp.asarray(a[rows], jnp.float32) for a in case.floats), labels_of(case, rows)


def labels_of(case, rows=slice(None), dtype=jnp.float32):
    labels = case.labels[rows]
    return jnp.asarray(labels, jnp.int32 if case in LABEL_CASES else dtype)


def assert_close(got, want, rtol=1e-5, atol=1e-6, description=''):
    """Equal up to rounding of the largest entry, array by array."""
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        g, w = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        assert g.shape == w.shape
        atol_of_array = atol * max(1, np.abs(w).max(initial=0))
        np.testing.assert_allclose(g, w, rtol, atol_of_array, err_msg=description)


def assert_finite(tree):
    for leaf in jax.tree.leaves(tree):
        assert np.isfinite(leaf).all()


def takes_no_mask(case):
    """Whether a loss has no `where`; if it has one that its case denies, that is an error."""
    if not case.takes_where:
        floats, labels = float32(case)
        with pytest.raises(TypeError, match='where'):
            case.loss(*floats, labels, where=jnp.ones(len(labels), bool))
    return not case.takes_where


def test_every_module_of_cases_has_cases():
    assert MODULES
    empty = [name for name, module in MODULES.items() if not getattr(module, 'CASES', None)]
    assert not empty, f'modules of tests/losses/cases without CASES: {empty}'
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names), 'two cases have the same name'


def test_every_public_loss_has_a_case_that_ties_it_to_another():
    public = {name: getattr(losses, name) for name in losses.__all__}
    tried = {case.name.split(':')[0] for case in CASES}
    tied = {case.name.split(':')[0] for case in CASES if case.equals}
    losslike = {
        name
        for name, function in public.items()
        if inspect.isfunction(function)
        and {'labels', 'targets', 'where'} & set(inspect.signature(function).parameters)
    }
    assert tried <= set(public), f'not exported by ltjax.losses: {sorted(tried - set(public))}'
    untried = losslike - tried - set(NOT_LOSSES)
    assert not untried, f'add a case, or a reason to NOT_LOSSES: {sorted(untried)}'
    assert tried == tied, f'add a limiting case: {sorted(tried - tied)}'
    stale = set(NOT_LOSSES) - (set(public) - tried)
    assert not stale, f'not exported, or with a case, and yet in NOT_LOSSES: {sorted(stale)}'


def test_a_case_is_well_formed(case):
    batch = len(case.labels)
    assert 4 <= batch <= 16
    assert {len(floats) for floats in case.floats} == {batch}
    assert {floats.dtype for floats in case.floats} == {np.dtype(np.float64)}
    assert case.labels.shape in ((batch,), (batch, case.num_classes))


def test_gradient_agrees_with_finite_differences(case):
    rng = np.random.default_rng(0)
    step = tuple(1e-6 * rng.normal(size=floats.shape) for floats in case.floats)
    with jax.enable_x64(True):
        labels = labels_of(case, dtype=jnp.float64)
        floats = tuple(jnp.asarray(a) for a in case.floats)
        values, gradients = compiled(case)(floats, labels)
        assert values.dtype == jnp.float64
        after, _ = compiled(case)(jax.tree.map(jnp.add, floats, step), labels)
        before, _ = compiled(case)(jax.tree.map(jnp.subtract, floats, step), labels)
        want = float((weights_of(case, values) * (after - before) / 2).sum())
        got = sum(float(jnp.vdot(g, s)) for g, s in zip(gradients, step, strict=True))
    agrees = abs(got - want) <= 1e-5 * abs(want) + 1e-12
    assert agrees == case.smooth, f'{got} along the gradient, {want} by differences'


def test_values_are_per_example_and_gradients_are_not_all_zero(case):
    values, gradients = compiled(case)(*float32(case))
    assert values.dtype == jnp.float32
    assert not case.per_example or values.shape == case.labels.shape[:1]
    assert_finite((values, gradients))
    assert np.abs(gradients[0]).max() > 0


def test_jit_and_vmap_change_nothing(case):
    floats, labels = float32(case)
    want = case.loss(*floats, labels)
    assert_close(compiled(case)(floats, labels)[0], want)
    pair = jax.tree.map(lambda a: jnp.stack([a, a[::-1]]), (*floats, labels))
    assert_close(jax.jit(jax.vmap(case.loss))(*pair)[0], want)


def test_the_order_of_the_batch_does_not_matter(case):
    order = np.random.default_rng(0).permutation(len(case.labels))
    values, _ = compiled(case)(*float32(case))
    permuted, _ = compiled(case)(*float32(case, order))
    if values.shape == order.shape:
        assert_close(permuted, values[order])
    else:
        assert_close(permuted.sum(), values.sum())


def test_limiting_cases(case):
    floats, labels = float32(case)
    values, _ = compiled(case)(floats, labels)
    for description, other in case.equals:
        want = np.asarray(other(*floats, labels))
        assert np.abs(want).max() > 0, description
        assert_close(values, want, description=description)


def test_extreme_logits_or_zero_features_are_finite_in_value_and_gradient(case):
    (logits, *others), labels = float32(case)
    signs = jnp.asarray(np.random.default_rng(1).choice([-1, 0, 1], logits.shape), jnp.float32)
    signs = signs.at[0].set(1).at[1].set(-1)  # ties: all at the top, all at the bottom
    for extreme in (1e4, -1e4, 90) if case.logits else (0,):
        assert_finite(compiled(case)((extreme * signs, *others), labels))


def test_bfloat16_is_computed_in_float32(case):
    floats, labels = float32(case)
    narrow = tuple(a.astype(jnp.bfloat16) for a in floats)
    got = compiled(case)(narrow, labels)
    want = compiled(case)(tuple(a.astype(jnp.float32) for a in narrow), labels)
    assert got[0].dtype == jnp.float32
    assert {g.dtype for g in got[1]} == {np.dtype(jnp.bfloat16)}
    assert_close(got[0], want[0])
    assert_close(got[1], want[1], rtol=1e-2, atol=1e-2)


def test_classes_absent_from_the_batch(case):
    floats, labels = float32(case)
    alone = jnp.zeros_like(labels) if labels.ndim == 1 else labels.at[:, 1:].set(0)
    assert_finite(compiled(case)(floats, alone))


def test_a_batch_of_one(case):
    values, gradients = compiled(case)(*float32(case, slice(1)))
    assert_finite((values, gradients))
    if case.per_example:
        assert_close(values, compiled(case)(*float32(case))[0][:1])


def test_masked_examples_have_no_part_in_it(case):
    if takes_no_mask(case):
        return
    batch = len(case.labels)
    keep = np.arange(batch) % 3 != 1
    floats, labels = float32(case)
    outside = -1 if case in LABEL_CASES else jnp.nan
    masked = tuple(a.at[~keep].set(jnp.nan) for a in floats), labels.at[~keep].set(outside)
    values, gradients = compiled(case)(*masked, jnp.asarray(keep))
    assert_finite((values, gradients))
    if values.shape == (batch,):
        np.testing.assert_array_equal(values[~keep], 0)
        values = values[keep]
    if case.per_example:
        want = compiled(case)(*float32(case))[0][keep]
    else:
        want, _ = compiled(case)(*float32(case, keep))
    assert_close(values, want)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient[~keep], 0)


def test_a_batch_without_examples_that_count_is_zero(case):
    if takes_no_mask(case):
        return
    floats, labels = float32(case)
    nothing = jnp.zeros(len(labels), bool)
    floats = tuple(jnp.full_like(a, jnp.nan) for a in floats)
    values, gradients = compiled(case)(floats, labels, nothing)
    for array in (values, *gradients):
        np.testing.assert_array_equal(array, 0)


@pytest.mark.eight_devices
def test_same_value_and_gradient_on_eight_devices(case):
    assert jax.device_count() == 8
    batch = len(case.labels)
    arguments = float32(case, np.arange(-(-batch // 8) * 8) % batch)  # a multiple of 8
    mesh = jax.make_mesh((8,), ('data',), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(arguments, NamedSharding(mesh, PartitionSpec('data')))
    assert_close(compiled(case)(*sharded), compiled(case)(*arguments), rtol=1e-4, atol=1e-5)


def test_wrong_shapes_and_dtypes_are_refused(case):
    floats, labels = float32(case)
    with pytest.raises(ValueError, match='must be floating'):
        case.loss(floats[0].astype(jnp.int32), *floats[1:], labels)
    with pytest.raises(ValueError, match='must have shape'):
        case.loss(floats[0][0], *floats[1:], labels)
    with pytest.raises(ValueError, match='must have shape'):
        case.loss(*floats, labels[:-1])
    if case in LABEL_CASES:
        with pytest.raises(ValueError, match='must be integers'):
            case.loss(*floats, labels.astype(jnp.float32))
    if case.takes_where:
        with pytest.raises(ValueError, match='where must have shape'):
            case.loss(*floats, labels, where=jnp.ones(len(labels) + 1, bool))


def test_labels_out_of_range_are_refused_within_debug_checks():
    # One context for all of them: entering and leaving it forgets everything compiled.
    with losses.debug_checks():
        for case in LABEL_CASES:
            floats, labels = float32(case)
            for wrong in (-1, case.num_classes):
                with pytest.raises(ValueError, match=r'labels must lie in 0\.\.'):
                    case.loss(*floats, labels.at[0].set(wrong))
