"""Values of the families' configs for an experiment, with changes. Values only: imports in no time."""

from typing import Any

from ltjax.benchmarks import Benchmark
from ltjax.engine.settings import Group

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
    'perturb': {'name': 'none'},
}


def learning(experiment: Benchmark, **changes: Any) -> dict[str, Any]:
    """Returns the values of `supervised.Learning` for all epochs of an experiment."""
    return experiment.training(**_PARTS | changes)


def supervised(
    experiment: Benchmark, *, head: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Returns the values of `supervised.Config`; `changes` are those of its stage."""
    return {'head': head or {'name': 'linear'}, 'train': learning(experiment, **changes)}


def late(experiment: Benchmark, epochs: int = 0) -> int:
    """Returns the epoch from which deferred parts act, of some epochs or of all.

    It is that of the learning rate's first drop (Cao et al., 2019, algorithm 1 and their code, 160 of 200), four fifths
    of the epochs where the rate falls smoothly: after a further drop nothing would be learnt.
    """
    epochs = epochs or experiment.epochs
    if experiment.optimizer.schedule == 'multistep':
        return experiment.optimizer.milestones[0] * epochs // experiment.epochs
    return epochs * 4 // 5


def holding(experiment: Benchmark, *parts: str) -> dict[str, Any]:
    """Returns the values of the base optimiser, with which parts of the network, by their paths, stay as they are."""
    held = {part: Group(rate=0.0, decay=0.0) for part in parts}
    return experiment.base(groups={**experiment.optimizer.groups, **held})


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


def contrastive(
    experiment: Benchmark, *, retrain: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Returns the values of `contrastive.Config`: changes to its first stage, and to the probe."""
    values = {'second_view': experiment.view, 'embedding_dim': 128}
    return {
        'train': experiment.training(**values | changes),
        'retrain': retraining(experiment, **retrain or {}),
    }


def blocks(experiment: Benchmark, batch_size: int) -> dict[str, Any]:
    """Returns the values of a stage with equally many images of each class in every batch.

    Where the benchmark says how many classes there are, they share the batch, which then is of nearly the size asked
    for; its number of steps in an epoch stays close to that of other methods.
    """
    classes = experiment.classes or 1
    share = max(1, round(batch_size / classes))
    return {'sampler': 'balanced_blocks', 'batch_size': share * classes}


def adaptive(
    experiment: Benchmark, *, alpha: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    """Returns the values of `aduni.Config`: AdUni's, with changes to those of alpha and to the others."""
    paper = bool(experiment.paper)
    # The paper's 1000 for 400 epochs, shortened so that alpha is at its floor after the same share: log alpha goes with
    # t^3 / T^2, see docs/aduni.md.
    decay = round(1000 * (experiment.epochs / 400) ** 1.5)
    falling = {
        'schedule': 'compounded',  # the released code's; or half_cosine, printed, fixed
        'max': 1.0,
        'min': 0.01,
        'decay_epochs': decay,
        'fixed': 0.01,
    }
    values = {
        'variant': 'aduni',  # or paco: keys of a momentum encoder, and a queue
        'unified': True,  # False: eq. 1 and 2, each with a softmax of its own ("w/o AduC")
        'alpha': falling | (alpha or {}),
        'prior': 'training',  # added to the logits while training; or sampled, none
        'temperature': 0.1,  # tau, of the embeddings
        'class_temperature': 1.0,  # of the logits
        'base_temperature': 0.07,  # the loss is multiplied by tau over it; 0: it is not
        'positives': 'mean',  # or sum: as printed
        'embedding_dim': 128,
        'dropout': 0.5 if paper else 0.0,  # before the classifier
        'queue': 1024,  # of paco
        'momentum': 0.999 if paper else 0.99,  # of paco's key encoder
        # Table 2 has the samplers class_balanced (up-sampling), square_root, progressively_balanced.
        'train': experiment.training(second_view=experiment.view),
    }
    return values | changes
