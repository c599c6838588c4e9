"""BALMS's second stage against NumPy, ten steps: the rates of the sampler, their Adam, and the classifier."""

import jax
import numpy as np
import pytest

from ltjax.engine.step import key_for
from methods.dynamics import two_layer_steps as flat

AHEAD, RATES, DECAY, POWER = 0.5, 0.3, 5e-4, 0.3
LOG_PRIOR = np.log(np.array(flat.COUNTS) / sum(flat.COUNTS))
OPTIMIZER = flat.SGD | {'weight_decay': DECAY}
CHANGES = {
    'retrain.reset_classifier': False,
    'retrain.optimizer': OPTIMIZER,
    'retrain.inner_learning_rate': AHEAD,
    'retrain.power': POWER,
    'retrain.sampler_optimizer': {'name': 'adam', 'learning_rate': RATES},
}


def uniform(step, purpose):
    """Returns the random numbers [draws, images] that a step draws from its key for one purpose."""
    key = key_for(jax.random.fold_in(jax.random.key(flat.KEY), step), 'loss')
    with jax.enable_x64(True):
        return np.array(jax.random.uniform(key_for(key, purpose), (flat.BATCH, flat.BATCH)))


def draw(psi, labels, numbers):
    """Returns what each draw takes, argmax of log sigmoid(psi) + Gumbel noise, and the softmax of these scores."""
    scores = -np.log1p(np.exp(-psi))[labels] - np.log(-np.log(numbers))
    return scores.argmax(1), flat.softmax(scores)


def by_example(kernel, bias, seen, labels, offset):
    """Returns each image's gradients of its cross-entropy at logits + offset: [B, C, K] and [B, K]."""
    off = flat.softmax(seen @ kernel + bias + offset) - np.eye(flat.CLASSES)[labels]
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
    return np.bincount(labels, to_image, flat.CLASSES) / (1 + np.exp(psi))


@pytest.mark.parametrize('redraw', [False, True])
def test_ten_steps_agree(redraw):
    others = flat.batches(3)
    with jax.enable_x64(True):
        changes = CHANGES | {'retrain.redraw': redraw}
        found = list(flat.ten_steps('balms', changes, streams={'balanced': others}))
    model = found[0]['model']
    weights = [model['classifier.kernel'], model['classifier.bias']]
    rarity = (sum(flat.COUNTS) / np.array(flat.COUNTS)) ** POWER
    rates = rarity / (rarity.min() + rarity.max())
    psi = np.log(rates / (1 - rates))
    flat.same(found[0]['extra']['sampler']['psi'], psi, 'psi at the beginning')
    velocity, first, second = [np.zeros_like(weight) for weight in weights], 0.0, 0.0
    for step, (batch, other) in enumerate(zip(flat.batches(2), others, strict=True)):
        seen, labels = flat.features(model, batch['image']), batch['label']
        balanced = flat.features(model, other['image']), other['label']
        drawn, probability = draw(psi, labels, uniform(step, 'ahead'))
        gradient = to_rates(psi, *weights, drawn, probability, (seen, labels), balanced)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        psi = psi - RATES * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
        if redraw:
            drawn, _ = draw(psi, labels, uniform(step, 'anew'))
        each = by_example(*weights, seen[drawn], labels[drawn], LOG_PRIOR)
        for i, to_weight in enumerate(each):
            step_gradient = to_weight.mean(0) + DECAY * weights[i]
            velocity[i] = flat.MOMENTUM * velocity[i] + step_gradient
            weights[i] = weights[i] - flat.rate(step) * velocity[i]
        after = found[step + 1]
        flat.same(after['extra']['sampler']['psi'], psi, f'psi after step {step}')
        moments = after['extra']['sampler']['optimizer'][0]
        flat.same(moments.mu, first, f'first moment after step {step}')
        flat.same(moments.nu, second, f'second moment after step {step}')
        flat.same(after['model']['classifier.kernel'], weights[0], f'kernel after step {step}')
        flat.same(after['model']['classifier.bias'], weights[1], f'bias after step {step}')
        assert after['model']['body.kernel'].tobytes() == model['body.kernel'].tobytes()
    assert np.abs(psi - np.log(rates / (1 - rates))).max() > 0.1
