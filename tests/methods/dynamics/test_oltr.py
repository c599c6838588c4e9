"""Ten steps of OLTR's second stage equal those of an implementation in NumPy with gradients by hand, in float64."""

import numpy as np
import pytest

from methods.dynamics import steps

REACH, SCALE, WEIGHT, MARGIN, REPEL = 2.0, 4.0, 0.5, 10.0, 0.2
SLOW = {'rate': 0.1}
CHANGES = {
    'attention': True,
    'reach': REACH,
    'scale': SCALE,
    'retrain.centroid_weight': WEIGHT,
    'retrain.margin': MARGIN,
    'retrain.repel_weight': REPEL,
    'retrain.optimizer.groups': {'encoder': SLOW, 'classifier/centroids': SLOW},
}
# Places of an image's map.
PLACES = 3


def through_softmax(probabilities, gradient, axis=-1):
    """Returns the gradient of what a softmax was taken of."""
    mean = (probabilities * gradient).sum(axis=axis, keepdims=True)
    return probabilities * (gradient - mean)


class Reference(steps.Network):
    """A layer, modulated attention and the memory's classifier, by the equations of OLTR."""

    def __init__(self, arrays):
        slow = [name for name in arrays if not name.startswith('classifier.')]
        super().__init__(arrays, rates=dict.fromkeys([*slow, 'classifier.centroids'], 0.1))

    def affine(self, name, x, gradients):
        """Returns a linear layer of x [..., C], and its gradient -> that of x, which adds to `gradients`."""
        kernel = self.arrays[f'{name}.kernel']
        matrix, bias = kernel.reshape(kernel.shape[-2:]), f'{name}.bias'

        def backward(gradient):
            rows, columns = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
            gradients[f'{name}.kernel'] += (rows.T @ columns).reshape(kernel.shape)
            if bias in gradients:
                gradients[bias] += columns.sum(axis=0)
            return gradient @ matrix.T

        return x @ matrix + self.arrays.get(bias, 0), backward

    def attended(self, images, gradients):
        """Returns features [B, C] of images [B, PLACES, channels], and their gradient -> None."""
        hidden, back_layer = self.affine('layer', images, gradients)
        x = np.tanh(hidden)
        block = 'branches.0'
        query, back_query = self.affine(f'{block}.query', x, gradients)
        key, back_key = self.affine(f'{block}.key', x, gradients)
        value, back_value = self.affine(f'{block}.value', x, gradients)
        shares = steps.softmax(query @ key.transpose(0, 2, 1))
        attended, back_output = self.affine(f'{block}.output', shares @ value, gradients)
        place, back_place = self.affine(f'{block}.place', x, gradients)
        weights = steps.softmax(place, axis=1)

        def backward(gradient):
            to_map = np.repeat(gradient[:, None], PLACES, axis=1) / PLACES
            to_weights = (to_map * attended).sum(axis=2, keepdims=True)
            to_x = to_map + back_place(through_softmax(weights, to_weights, axis=1))
            to_mixed = back_output(weights * to_map)
            to_scores = through_softmax(shares, to_mixed @ value.transpose(0, 2, 1))
            to_x = to_x + back_value(shares.transpose(0, 2, 1) @ to_mixed)
            to_x = to_x + back_query(to_scores @ key)
            to_x = to_x + back_key(to_scores.transpose(0, 2, 1) @ query)
            back_layer(to_x * (1 - x**2))

        return (x + weights * attended).mean(axis=1), backward

    def cross_entropy(self, x, labels, gradients):
        """Returns the mean, and the gradient of features x [B, C]."""
        centroids, kernel = (self.arrays[f'classifier.{n}'] for n in ('centroids', 'kernel'))
        mixture, back_mixture = self.affine('classifier.hallucinator', x, gradients)
        chosen, back_chosen = self.affine('classifier.selector', x, gradients)
        shares, selector = steps.softmax(mixture), np.tanh(chosen)
        memory = shares @ centroids
        distances = np.linalg.norm(x[:, None] - centroids[None], axis=2)
        nearest = distances.argmin(axis=1)
        distance = distances.min(axis=1)[:, None]
        infused = x + selector * memory
        embedding = REACH / distance * infused
        length = np.linalg.norm(embedding, axis=1, keepdims=True)
        squashed = embedding / (1 + length)
        norms = np.linalg.norm(kernel, axis=0)
        directions = kernel / norms
        values, to_logits = steps.cross_entropy(SCALE * squashed @ directions, labels)
        to_logits = SCALE * to_logits / len(labels)

        to_directions = squashed.T @ to_logits
        along = (to_directions * directions).sum(axis=0)
        gradients['classifier.kernel'] += (to_directions - along * directions) / norms
        to_squashed = to_logits @ directions.T
        inward = (to_squashed * embedding).sum(axis=1, keepdims=True)
        to_embedding = to_squashed / (1 + length) - embedding * inward / length / (1 + length) ** 2
        to_infused = REACH / distance * to_embedding
        to_distance = -REACH / distance**2 * (to_embedding * infused).sum(axis=1, keepdims=True)
        to_memory = to_infused * selector
        to_x = to_infused + to_distance * (x - centroids[nearest]) / distance
        to_x = to_x + back_mixture(through_softmax(shares, to_memory @ centroids.T))
        to_x = to_x + back_chosen(to_infused * memory * (1 - selector**2))
        return values.mean(), to_x

    def centroid_loss(self, x, labels, gradients):
        """Returns the mean, and the gradient of features x [B, C]; centroids move as in the released code."""
        centroids = self.arrays['classifier.centroids']
        own = np.eye(steps.CLASSES)[labels]
        away = x[:, None] - centroids[None]
        others = (1 - own)[:, :, None] * away / (len(x) * steps.CLASSES)
        ratio = (others * away).sum()
        to_centroids = -(own[:, :, None] * away).sum(axis=0) / (1 + own.sum(axis=0))[:, None]
        to_centroids = to_centroids / len(x)
        to_x = (own[:, :, None] * away).sum(axis=1) / len(x)
        value = (own[:, :, None] * away**2).sum() / 2 / len(x)
        assert ratio < MARGIN
        gradients['classifier.centroids'] += WEIGHT * (
            to_centroids + 2 * REPEL * others.sum(axis=0)
        )
        return value + REPEL * (MARGIN - ratio), to_x - 2 * REPEL * others.sum(axis=1)

    def step(self, images, labels):
        """Makes a step and returns both losses."""
        moving = {n: a for n, a in self.arrays.items() if not n.endswith('.active')}
        gradients = {name: np.zeros_like(value) for name, value in moving.items()}
        features, backward = self.attended(images, gradients)
        cross_entropy, to_features = self.cross_entropy(features, labels, gradients)
        centroid_loss, drawn = self.centroid_loss(features, labels, gradients)
        backward(to_features + WEIGHT * drawn)
        self.descend(gradients)
        return cross_entropy, centroid_loss


@pytest.mark.slow
def test_ten_steps_equal_those_by_hand():
    batches = steps.drawn_batches(5, PLACES)
    leaves = {
        'classifier.centroids': np.random.default_rng(6).normal(size=(steps.CLASSES, steps.WIDTH)),
        'classifier.active': np.int32(1),
        'branches.0.active': np.float64(1),
    }
    before, *after = steps.ten_steps('oltr', CHANGES, batches, stage='retrain', leaves=leaves)
    reference = Reference(before.arrays)
    for batch, found in zip(batches, after, strict=True):
        expected = reference.step(batch['view'], batch['label'])
        steps.same([found.metrics[n] for n in ('cross_entropy', 'centroid_loss')], expected)
    found = after[-1].arrays
    assert found.keys() == before.arrays.keys()
    for name, value in reference.arrays.items():
        if not name.endswith('.active'):
            steps.same(found[name], value, name)
            assert np.abs(value - before.arrays[name]).max() > 1e-6, name
