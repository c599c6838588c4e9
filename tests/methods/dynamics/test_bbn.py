"""Ten steps of BBN equal those of an implementation in NumPy with gradients by hand, in float64."""

import numpy as np
import pytest

from methods.dynamics import steps


def batch_norm(x, scale, bias):
    """Returns the normalised [B, C] and gradient -> those of x, scale and bias."""
    spread = np.sqrt(x.var(axis=0) + 1e-5)
    unit = (x - x.mean(axis=0)) / spread

    def backward(gradient):
        inner = gradient * scale
        along = inner - inner.mean(axis=0) - unit * (inner * unit).mean(axis=0)
        return along / spread, (gradient * unit).sum(axis=0), gradient.sum(axis=0)

    return unit * scale + bias, backward


class Reference(steps.Network):
    """A layer, a residual block a branch and a classifier, trained by the equations of BBN."""

    def observe(self, name, x):
        for kind, value in (('mean', x.mean(axis=0)), ('var', x.var(axis=0, ddof=1))):
            old = self.arrays[f'{name}.{kind}']
            self.arrays[f'{name}.{kind}'] = 0.9 * old + 0.1 * value

    def branch(self, branch, x, gradients):
        """Returns features [B, C] of a branch, and their gradient -> None, which adds to `gradients`."""
        p, block = self.arrays, f'branches.{branch}'
        # Of a map of one pixel a 3x3 convolution sees its middle only.
        first, second = (p[f'{block}.conv{i}.kernel'][1, 1] for i in (1, 2))
        shortcut = self.features(x)
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
            for name, value in self.below(x, outer + to_before @ first.T).items():
                gradients[name] += value

        return output, backward

    def step(self, epoch, images, labels, reversed_images, reversed_labels):
        """Makes a step in an epoch that counts from 1; returns alpha and the loss."""
        p = self.arrays
        statistics = ('.mean', '.var')
        gradients = {n: np.zeros_like(a) for n, a in p.items() if not n.endswith(statistics)}
        alpha = 1 - ((epoch - 1) / steps.EPOCHS) ** 2
        ordinary, back_ordinary = self.branch(0, images, gradients)
        reversed_, back_reversed = self.branch(1, reversed_images, gradients)
        mixed = np.concatenate([2 * alpha * ordinary, 2 * (1 - alpha) * reversed_], axis=1)
        logits = mixed @ p['classifier.kernel'] + p['classifier.bias']
        of_first, to_first = steps.cross_entropy(logits, labels)
        of_second, to_second = steps.cross_entropy(logits, reversed_labels)
        to_logits = (alpha * to_first + (1 - alpha) * to_second) / len(labels)
        gradients['classifier.kernel'] += mixed.T @ to_logits
        gradients['classifier.bias'] += to_logits.sum(axis=0)
        to_ordinary, to_reversed = np.split(to_logits @ p['classifier.kernel'].T, 2, axis=1)
        back_ordinary(2 * alpha * to_ordinary)
        back_reversed(2 * (1 - alpha) * to_reversed)
        self.descend(gradients)
        return alpha, float((alpha * of_first + (1 - alpha) * of_second).mean())


@pytest.mark.slow
def test_ten_steps_equal_those_by_hand():
    batches = [
        ordinary | {'reversed': other}
        for ordinary, other in zip(steps.drawn_batches(3), steps.drawn_batches(4), strict=True)
    ]
    before, *after = steps.ten_steps('bbn', {}, batches)
    reference = Reference(before.arrays)
    for step, (batch, found) in enumerate(zip(batches, after, strict=True)):
        two = (batch['view'], batch['label'], *(batch['reversed'][n] for n in ('view', 'label')))
        alpha, loss = reference.step(1 + step // steps.STEPS_PER_EPOCH, *two)
        steps.same([found.metrics['alpha'], found.metrics['loss']], [alpha, loss])
    steps.same(after[-1].arrays, reference.arrays)
    for name, value in reference.arrays.items():
        assert np.abs(value - before.arrays[name]).max() > 1e-4, name
