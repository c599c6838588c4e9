"""Values of the families' configs for an experiment, with changes. Values only: imports in no time."""

from typing import Any

from ltjax.benchmarks import Benchmark

# Of `supervised.Learning`: cross-entropy, and nothing else.
_PARTS: dict[str, Any] = {
    'loss': {'name': 'cross_entropy'},
    'mix': {'name': 'none'},
    'weights': {'name': 'none'},
    'divide_by': 'images',
    'defer_until': 0,
    'keep': 1.0,
    'sharpness': {'name': 'none'},
    'penalty': {'name': 'none'},
}


def learning(experiment: Benchmark, **changes: Any) -> dict[str, Any]:
    """Returns the values of `supervised.Learning` for all epochs of an experiment."""
    return experiment.training(**_PARTS | changes)


def supervised(
    experiment: Benchmark, *, head: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Returns the values of `supervised.Config`; `changes` are those of its stage."""
    return {'head': head or {'name': 'linear'}, 'train': learning(experiment, **changes)}


def retraining(experiment: Benchmark, **changes: Any) -> dict[str, Any]:
    """Returns the values of `decoupled.Retraining`: ten class-balanced epochs of a new classifier."""
    values = {
        'epochs': 10,
        'batch_size': 128,
        'sampler': 'class_balanced',
        'optimizer': experiment.short(weight_decay=5e-4),
        'trains': 'classifier',
        'batch_norm': 'running',
        'reset_classifier': True,
        'distil': {'weight': 0.0, 'temperature': 2.0},
    }
    return learning(experiment, **values | changes)
