"""Vector scaling, LADE, label-aware smoothing and generalised re-weighting, as their released codes have them."""

from typing import Any

import jax.numpy as jnp

from golden_checks.compare import Arrays, Check, Tolerances, values_and_gradients
from ltjax.losses import class_weights, classification, equalisation, label_distribution, reduce
from ltjax.losses.samplers import log_prior

SHAPES = ('concave', 'linear', 'convex', 'exp')


def equalised(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """All of them on one batch, from which a class is absent."""
    labels, counts = arrays['in_labels'], arrays['hp_counts']
    prior = jnp.asarray(log_prior(counts), dtype)

    def scaled(gamma, tau):
        scales = jnp.asarray(equalisation.vector_scales(counts, gamma=gamma), dtype)
        return lambda at: reduce.mean(
            equalisation.vector_scaling(
                at['logits'], labels, scales=scales, log_prior=prior, tau=tau
            )
        )

    def lader(penalty):
        return lambda at: label_distribution.lade_regulariser(
            at['logits'], labels, log_prior=prior, penalty=penalty
        )

    def lade(at):
        balanced = classification.balanced_softmax(at['logits'], labels, log_prior=prior)
        return reduce.mean(balanced) + 0.1 * lader(0.1)(at)

    factors = {
        shape: equalisation.smoothing_factors(counts, head=0.4, tail=0.1, shape=shape, power=2.0)
        for shape in SHAPES
    }

    def smoothed(shape):
        return lambda at: reduce.mean(
            equalisation.label_aware_smoothing(
                at['logits'], labels, factors=jnp.asarray(factors[shape], dtype)
            )
        )

    outputs = {
        'vs': scaled(0.3, 1.0),
        'vs_tuned': scaled(0.15, 1.25),
        'lader': lader(0.1),
        'lader_strong': lader(0.5),
        'lade': lade,
    } | {f'smoothing_{shape}': smoothed(shape) for shape in SHAPES}
    return (
        values_and_gradients(outputs, {'logits': arrays['in_logits']})
        | {f'out_factors_{shape}': values for shape, values in factors.items()}
        | {'out_weights': class_weights.inverse_frequency_weights(counts, power=1.2)}
    )


CHECKS: dict[str, Check] = {'equalised': equalised}

# The released LADE adds 1e-9 to each prior.
TOLERANCES: dict[str, Tolerances] = {'equalised': {'*_lade*': (1e-6, 2e-5)}}

COVERS: dict[str, tuple[str, ...]] = {
    'equalised': (
        'vector_scaling',
        'vector_scales',
        'lade_regulariser',
        'label_aware_smoothing',
        'smoothing_factors',
        'inverse_frequency_weights',
    )
}
