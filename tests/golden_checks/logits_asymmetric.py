"""Asymmetric losses: ASL and ALPA."""

from typing import Any

from golden_checks.compare import Arrays, Check, values_and_gradients
from ltjax.losses import asymmetric, reduce


def single_label(logits: Any, labels: Any, **options: float) -> Any:
    """The single-label form with its documented settings, which not every file repeats."""
    settings = dict(gamma_pos=0.0, gamma_neg=4.0, label_smoothing=0.1) | options
    return asymmetric.asymmetric_single_label(logits, labels, **settings)


def asymmetric_loss(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Multi-label and single-label forms, with and without gradient through the factors."""
    labels, targets = arrays['in_labels'], arrays['in_targets']
    names = ('gamma_pos', 'gamma_neg', 'clip', 'eps')
    hp = {name: float(arrays[f'hp_{name}']) for name in names}
    single = {
        'gamma_pos': float(arrays['hp_single_gamma_pos']),
        'gamma_neg': float(arrays['hp_single_gamma_neg']),
        'label_smoothing': float(arrays['hp_single_eps']),
    }

    def total(truth, **options):
        return lambda at: reduce.total(
            asymmetric.asymmetric_multi_label(at['logits'], truth, **(hp | options))
        )

    def mean(**options):
        return lambda at: reduce.mean(single_label(at['logits'], labels, **options))

    outputs = {
        'multi': total(targets),
        'multi_detached': total(targets, detach_factor=True),
        'multi_opt': total(targets),
        'onehot': total(labels),
        'onehot_detached': total(labels, detach_factor=True),
        'noclip': total(targets, clip=0.0),
        'single': mean(**single),
        'single_g22': mean(gamma_pos=1.0, gamma_neg=2.0, label_smoothing=0.0),
    }
    at = {'logits': arrays['in_logits']}
    return values_and_gradients(outputs, at) | {
        'out_single_per_sample': single_label(at['logits'], labels, **single)
    }


def alpa(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Every version, clipped and not: the sum, its gradient and its elements."""
    logits, targets = arrays['in_logits'], arrays['in_targets']
    coefficients = asymmetric.PadeCoefficients(
        **{name: float(arrays[f'hp_{name}']) for name in asymmetric.PadeCoefficients._fields}
    )
    results: dict[str, Any] = {}
    for version in asymmetric.ALPA_VERSIONS:
        options = {
            name: float(arrays[f'hp_{version}_{name}'])
            for name in ('alpha', 'beta', 'gamma_pos', 'gamma_neg')
        }
        if f'hp_{version}_lambda' in arrays:
            options['hill'] = float(arrays[f'hp_{version}_lambda'])
        for suffix, clip in (('', float(arrays['hp_clip'])), ('_noclip', 0.0)):

            def per_example(z, t, options=options, clip=clip):
                return asymmetric.alpa(z, t, clip=clip, coefficients=coefficients, **options)

            name = version + suffix
            outputs = {name: lambda at, f=per_example: reduce.total(f(at['logits'], targets))}
            results |= values_and_gradients(outputs, {'logits': logits})
            # An example with a single class has the value of that element.
            elements = per_example(logits.reshape(-1, 1), targets.reshape(-1, 1))
            results[f'out_{name}_elem'] = elements.reshape(logits.shape)
            results[f'out_{name}_mean_over_batch'] = reduce.mean(per_example(logits, targets))
    return results


CHECKS: dict[str, Check] = {'asl': asymmetric_loss, 'alpa': alpa}

COVERS: dict[str, tuple[str, ...]] = {
    'asl': ('asymmetric_multi_label', 'asymmetric_single_label'),
    'alpa': ('alpa',),
}
