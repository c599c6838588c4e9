"""Ten steps of BBN equal those of an implementation in NumPy with gradients by hand, in float64."""

import jax
import numpy as np

import tiny
from ltjax import methods
from methods.dynamics.flat_steps import (
    BATCH,
    COUNTS,
    OPTIMIZER,
    STEPS,
    Sgd,
    arrays_of,
    drawn_batches,
    flat_model,
    seen,
    softmax_gradient,
    ten_steps,
)

EPOCHS = 5
METHOD = {
    'name': 'bbn',
    'train': {
        'epochs': EPOCHS,
        'batch_size': BATCH,
        'sampler': 'instance_balanced',
        'view': 'none',
        'optimizer': OPTIMIZER,
    },
    'branches': {'name': 'bilateral', 'sampler': 'inverse_frequency'},
}


def batch_norm(x, scale, bias):
    """Returns the normalised [B, C] and gradient -> those of x, scale and bias."""
    spread = np.sqrt(x.var(axis=0) + 1e-5)
    unit = (x - x.mean(axis=0)) / spread

    def backward(gradient):
        inner = gradient * scale
        along = inner - inner.mean(axis=0) - unit * (inner * unit).mean(axis=0)
        return along / spread, (gradient * unit).sum(axis=0), gradient.sum(axis=0)

    return unit * scale + bias, backward


class Reference:
    """A layer, a residual block a branch and a classifier, trained by the equations of BBN."""

    def __init__(self, arrays):
        self.statistics = {n: a.copy() for n, a in arrays.items() if n.endswith(('.mean', '.var'))}
        self.parameters = {n: a.copy() for n, a in arrays.items() if n not in self.statistics}
        self.sgd = Sgd(self.parameters)

    def observe(self, name, x):
        for kind, value in (('mean', x.mean(axis=0)), ('var', x.var(axis=0, ddof=1))):
            old = self.statistics[f'{name}.{kind}']
            self.statistics[f'{name}.{kind}'] = 0.9 * old + 0.1 * value

    def features(self, branch, x, gradients):
        """Returns features [B, C] of a branch, and their gradient -> None, which adds to `gradients`."""
        p, block = self.parameters, f'branches.{branch}'
        # Of a map of one pixel a 3x3 convolution sees its middle only.
        first, second = (p[f'{block}.conv{i}.kernel'][1, 1] for i in (1, 2))
        hidden = x @ p['layer.kernel'] + p['layer.bias']
        shortcut = np.maximum(hidden, 0)
        before = shortcut @ first
        self.observe(f'{block}.bn1', before)
        between, back_first = batch_norm(before, p[f'{block}.bn1.scale'], p[f'{block}.bn1.bias'])
        inner = np.maximum(between, 0)
        after = inner @ second
        self.observe(f'{block}.bn2', after)
        residual, back_second = batch_norm(after, p[f'{block}.bn2.scale'], p[f'{block}.bn2.bias'])
        output = np.maximum(residual + shortcut, 0)

        def backward(gradient):
            outer = gradient * (output > 0)
            to_after, scale, bias = back_second(outer)
            gradients[f'{block}.bn2.scale'] += scale
            gradients[f'{block}.bn2.bias'] += bias
            gradients[f'{block}.conv2.kernel'][1, 1] += inner.T @ to_after
            to_before, scale, bias = back_first((to_after @ second.T) * (between > 0))
            gradients[f'{block}.bn1.scale'] += scale
            gradients[f'{block}.bn1.bias'] += bias
            gradients[f'{block}.conv1.kernel'][1, 1] += shortcut.T @ to_before
            to_hidden = (outer + to_before @ first.T) * (hidden > 0)
            gradients['layer.kernel'] += x.T @ to_hidden
            gradients['layer.bias'] += to_hidden.sum(axis=0)

        return output, backward

    def step(self, epoch, images, labels, reversed_images, reversed_labels):
        """Makes a step in an epoch that counts from 1; returns alpha and the loss."""
        p = self.parameters
        gradients = {name: np.zeros_like(value) for name, value in p.items()}
        alpha = 1 - ((epoch - 1) / EPOCHS) ** 2
        ordinary, back_ordinary = self.features(0, images, gradients)
        reversed_, back_reversed = self.features(1, reversed_images, gradients)
        mixed = np.concatenate([2 * alpha * ordinary, 2 * (1 - alpha) * reversed_], axis=1)
        logits = mixed @ p['classifier.kernel'] + p['classifier.bias']
        of_first, to_first = softmax_gradient(logits, labels)
        of_second, to_second = softmax_gradient(logits, reversed_labels)
        to_logits = (alpha * to_first + (1 - alpha) * to_second) / len(labels)
        gradients['classifier.kernel'] += mixed.T @ to_logits
        gradients['classifier.bias'] += to_logits.sum(axis=0)
        to_ordinary, to_reversed = np.split(to_logits @ p['classifier.kernel'].T, 2, axis=1)
        back_ordinary(2 * alpha * to_ordinary)
        back_reversed(2 * (1 - alpha) * to_reversed)
        self.parameters = self.sgd.step(p, gradients)
        return alpha, float((alpha * of_first + (1 - alpha) * of_second).mean())


def test_ten_steps_equal_those_by_hand():
    batches = [
        ordinary | {'reversed': other}
        for ordinary, other in zip(drawn_batches(3), drawn_batches(4), strict=True)
    ]
    with jax.enable_x64(True):
        recipe = methods.recipe(METHOD, tiny.task(COUNTS))
        graphdef, model = flat_model(recipe)
        start = arrays_of(model)
        found, told = ten_steps(recipe.stages[0], graphdef, model, batches)
    reference = Reference(start)
    for step, batch in enumerate(batches):
        other = batch['reversed']
        alpha, loss = reference.step(
            1 + step * EPOCHS // STEPS,
            seen(batch['image'])[:, 0],
            batch['label'],
            seen(other['image'])[:, 0],
            other['label'],
        )
        np.testing.assert_allclose([told[step]['alpha'], told[step]['loss']], [alpha, loss], 1e-5)
    expected = reference.parameters | reference.statistics
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-8, err_msg=name)
        assert np.abs(value - start[name]).max() > 1e-4, name
