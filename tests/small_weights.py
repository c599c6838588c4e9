"""Weights of a small network, and files of them, for the tests of pretrained weights."""

import functools
import hashlib

import numpy as np
import safetensors.numpy
from flax import nnx

import tiny
from ltjax import models
from ltjax.models import pretrained
from ltjax.models.weights import to_torch

MAKE = functools.partial(models.create, 'small_cnn', width=4)
STEM = 'convs.0.weight'


@functools.cache
def tensors(num_classes=3, channels=1):
    """Returns the weights of a small network, with running statistics that are not the fresh ones."""
    model = MAKE(num_classes=num_classes, channels=channels, rngs=nnx.Rngs(1))
    rng = np.random.default_rng(0)
    return {
        key: rng.random(value.shape, np.float32) if 'norms' in key else np.ascontiguousarray(value)
        for key, value in to_torch(model).items()
    }


def model(num_classes=3, channels=1):
    return MAKE(num_classes=num_classes, channels=channels, rngs=nnx.Rngs(0))


def fit(values, **options):
    """Returns a fresh model with the values of tensors, and what was taken over."""
    target = model(**options)
    state, _ = pretrained.fit(MAKE, target, values)
    nnx.update(target, state)
    return target, state


def save(path, values):
    if path.suffix == '.npz':
        np.savez(path, **values)
    else:
        safetensors.numpy.save_file(values, path)
    return path


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def load(path, **options):
    return pretrained.load(MAKE, model(), name=str(path), **options)


def same(a, b):
    return set(a) == set(b) and all(a[key].tobytes() == b[key].tobytes() for key in a)


def changed(key, value):
    values = dict(tensors())
    if value is None:
        del values[key]
    else:
        values[key] = value
    return values


def config(path, weights, **overrides):
    made = tiny.config('cross_entropy', path)
    made.model.pretrained = str(weights)
    made.update_from_flattened_dict(overrides)
    return made
