"""BALMS's second stage against NumPy, ten steps: the rates of the sampler, their Adam, and the classifier."""

import jax
import numpy as np
import pytest

from methods.dynamics import steps

AHEAD, RATES, POWER = 0.5, 0.3, 0.3
LOG_PRIOR = np.log(steps.COUNTS / steps.COUNTS.sum())
CHANGES = {
    'retrain.reset_classifier': False,
    'retrain.inner_learning_rate': AHEAD,
    'retrain.power': POWER,
    'retrain.sampler_optimizer': {'name': 'adam', 'learning_rate': RATES},
}


def uniform(step, purpose):
    """Returns the random numbers [draws, images] that a step draws from its key for one purpose."""
    key = steps.loss_key(step, purpose)
    with jax.enable_x64(True):
        return np.array(jax.random.uniform(key, (steps.BATCH, steps.BATCH)))


def draw(psi, labels, numbers):
    """Returns what each draw takes, argmax of log sigmoid(psi) + Gumbel noise, and the softmax of these scores."""
    scores = -np.log1p(np.exp(-psi))[labels] - np.log(-np.log(numbers))
    return scores.argmax(1), steps.softmax(scores)


def by_example(kernel, bias, seen, labels, offset):
    """Returns each image's gradients of its cross-entropy at logits + offset: [B, C, K] and [B, K]."""
    off = steps.softmax(seen @ kernel + bias + offset) - np.eye(steps.CLASSES)[labels]
    return seen[:, :, None] * off[:, None, :], off


def to_rates(psi, kernel, bias, drawn, probability, training, balanced):
    """Returns the gradient to psi of the balanced batch's cross-entropy after the step on what was drawn."""
    seen, labels = training
    to_kernel, to_bias = by_example(kernel, bias, seen[drawn], labels[drawn], LOG_PRIOR)
    ahead = kernel - AHEAD * to_kernel.mean(0), bias - AHEAD * to_bias.mean(0)
    wanted = [each.mean(0) for each in by_example(*ahead, *balanced, 0.0)]
    # Of each draw's weight, which is 1 but has the gradient of the probability of what was drawn.
    to_weight = (to_kernel * wanted[0]).sum((1, 2)) + (to_bias * wanted[1]).sum(1)
    to_weight *= -AHEAD / len(labels)
    chosen = np.eye(len(labels))[drawn]
    to_scores = (chosen * probability).sum(1, keepdims=True) * (chosen - probability)
    to_image = (to_weight[:, None] * to_scores).sum(0)
    return np.bincount(labels, to_image, steps.CLASSES) / (1 + np.exp(psi))


@pytest.mark.slow
@pytest.mark.parametrize('redraw', [False, True])
def test_ten_steps_agree(redraw):
    drawn_images, others = steps.drawn_batches(2), steps.drawn_batches(3)
    batches = [
        batch | {'balanced': other} for batch, other in zip(drawn_images, others, strict=True)
    ]
    changes = CHANGES | {'retrain.redraw': redraw}
    before, *after = steps.ten_steps('balms', changes, batches, stage='retrain')
    network = steps.Network(before.arrays)
    rarity = (steps.COUNTS.sum() / steps.COUNTS) ** POWER
    rates = rarity / (rarity.min() + rarity.max())
    psi = np.log(rates / (1 - rates))
    steps.same(before.extra['sampler']['psi'], psi, 'psi at the beginning')
    first, second = 0.0, 0.0
    for step, (batch, found) in enumerate(zip(batches, after, strict=True)):
        seen, labels = network.features(batch['view']), batch['label']
        other = batch['balanced']
        balanced = network.features(other['view']), other['label']
        weights = [network.arrays[f'classifier.{name}'] for name in ('kernel', 'bias')]
        drawn, probability = draw(psi, labels, uniform(step, 'ahead'))
        gradient = to_rates(psi, *weights, drawn, probability, (seen, labels), balanced)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        psi = psi - RATES * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        if redraw:
            drawn, _ = draw(psi, labels, uniform(step, 'anew'))
        to_kernel, to_bias = by_example(*weights, seen[drawn], labels[drawn], LOG_PRIOR)
        network.descend(
            {'classifier.kernel': to_kernel.mean(0), 'classifier.bias': to_bias.mean(0)}
        )
        sampler = found.extra['sampler']
        steps.same(sampler['psi'], psi, f'psi after step {step}')
        steps.same(sampler['optimizer'][0].mu, first, f'first moment after step {step}')
        steps.same(sampler['optimizer'][0].nu, second, f'second moment after step {step}')
        steps.same(found.arrays, network.arrays, f'after step {step}')
        assert found.arrays['layer.kernel'].tobytes() == before.arrays['layer.kernel'].tobytes()
    assert np.abs(psi - np.log(rates / (1 - rates))).max() > 0.1
