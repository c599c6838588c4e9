"""One EM round of LMD over given features: Gaussians, virtual features, distances, but no pass of the network."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from ltjax import losses, sharding
from ltjax.engine.rounds import STEPS_PER_CALL
from ltjax.engine.step import make_step

from .measure import median_seconds, memory_mb, run_through
from .random_run import NO_IMAGES, RandomRun, calls, dataset, network

PARTS = ('estimate', 'm_step', 'fdc')


class Round:
    """The parts of a round as LMD's second stage runs them, on random features [N, C] of K classes."""

    def __init__(self, model: str, num_classes: int, *, small: bool) -> None:
        """Takes the network whose width C is, and K; N = 25 000, R = 50 000, and the paper's batches."""
        images, per_class, batch = (12 * num_classes, 20, 8 * num_classes) if small else _PAPER
        overrides = {
            **network(model, small),
            'method.icc.virtual_per_class': per_class,
            'method.icc.m_batch_size': batch,
            'method.icc.e_batch_size': 8 if small else 128,
            # Above most squared distances of these features: else the repulsion is the bound and has no gradient.
            'method.icc.max_repulsion': 1000.0,
        }
        run = RandomRun('lmd', dataset(small), overrides, (num_classes, images, 3))
        self.run, self.stage = run, run.stages['icc']
        self.update, self.config = self.stage.updates[0], run.config.method.icc
        self.state = run.enter(self.stage)
        self.rows = batch // num_classes
        self.e_batch = self.config.e_batch_size
        self.features = run.train_features(self.state)
        self.labels = run.train_labels
        self._m_step = make_step(self.update, run.graphdef, run.mesh, per_call=STEPS_PER_CALL)
        self._fdc = jax.jit(jax.value_and_grad(self._consistency))

    @property
    def sizes(self) -> dict[str, int]:
        """What the figures depend on."""
        return {
            'num_classes': self.run.num_classes,
            'feature_dim': self.features.shape[1],
            'images': len(self.labels),
            'virtual_per_class': self.config.virtual_per_class,
            'm_batch': self.rows * self.run.num_classes,
            'm_steps': self.update.steps,
            'e_batch': self.e_batch,
        }

    def estimate(self) -> None:
        """Gaussians of a balanced resample, averaged over rounds, factorised, inverted."""
        state = cast(Callable[..., Any], self.stage.before_round)(self.state, self.run, 1)
        self.state = jax.block_until_ready(sharding.place_state(state, self.run.mesh))

    def m_step(self) -> None:
        """R virtual features a class through the classifier."""
        run_through(self._m_steps())

    def _m_steps(self) -> Iterator[Any]:
        key = self.run.key('m_step')
        for number, count in calls(self.update.steps):
            at, many = np.int32(number), np.int32(count)
            self.state, metrics = self._m_step(self.state, NO_IMAGES, key, at, many)
            yield metrics

    def fdc(self) -> None:
        """The consistency of all N features, in batches, and its gradient by them."""
        run_through(self.consistency(rows) for rows in self.batches())

    def batches(self) -> list[np.ndarray]:
        """Returns the rows of every whole batch of one pass, in random order."""
        order = np.random.default_rng(0).permutation(len(self.labels))
        whole = len(order) // self.e_batch
        return list(order[: whole * self.e_batch].reshape(whole, self.e_batch))

    def consistency(self, rows: np.ndarray) -> tuple[jax.Array, jax.Array]:
        """Returns FDC of a batch and its gradient by the features [B, C]."""
        mean, whitening = self.state.extra['round']['distribution']
        return self._fdc(self.features[rows], jnp.asarray(self.labels[rows]), mean, whitening)

    def _consistency(
        self, features: jax.Array, labels: jax.Array, mean: jax.Array, whitening: jax.Array
    ) -> jax.Array:
        distances = losses.squared_mahalanobis(features, mean, whitening)
        cap = self.config.max_repulsion
        return losses.mean(
            losses.feature_distribution_consistency(distances, labels, max_repulsion=cap)
        )


_PAPER = (25_000, 50_000, 352)


def alone(model: str, num_classes: int, *, small: bool, turns: int = 3) -> dict[str, Any]:
    """A round of ltjax, the median of `turns`, and how far memory rises above what it was before the first."""
    em = Round(model, 3 if small else num_classes, small=small)
    jax.block_until_ready(em.state)
    before, _ = memory_mb()
    functions = {part: getattr(em, part) for part in PARTS}
    seconds = median_seconds(functions, 1 if small else turns)
    results: dict[str, Any] = {**em.sizes}
    results |= {f'{part}_seconds': value for part, value in seconds.items()}
    results['round_seconds'] = sum(seconds.values())
    results['memory_before_mb'] = before
    results['memory_growth_mb'] = max(0.0, memory_mb()[1] - before)
    return results


def beside_torch(*, small: bool) -> dict[str, Any]:
    """A round of ltjax, of a well-tuned PyTorch and of the authors' way, which is measured in part and scaled."""
    import torch  # an extra

    from . import torch_em

    em = Round('resnet18', 3 if small else 14, small=small)
    em.estimate()
    average = em.state.extra['gaussians']
    work = torch_em.Work(
        torch.from_numpy(np.array(em.features)),
        torch.from_numpy(em.labels).long(),
        torch.from_numpy(np.array(average.mean)),
        torch.from_numpy(np.array(average.covariance)),
        [torch.from_numpy(rows) for rows in em.batches()],
        rows=em.rows,
        per_class=em.config.virtual_per_class,
        learning_rate=em.config.m_optimizer.learning_rate,
        max_repulsion=em.config.max_repulsion,
    )
    # The whole of the authors' way would take an hour. Its cost is linear in draws, steps and pairs: a share tells.
    few = (
        {'draws': 20, 'steps': 2, 'pairs': 2}
        if small
        else {'draws': 1000, 'steps': 200, 'pairs': 8}
    )
    authors = torch_em.authors(work, **few)
    sides: dict[str, dict[str, Callable[[], None]]] = {
        'ltjax': {part: getattr(em, part) for part in PARTS},
        'torch_tuned': torch_em.tuned(work),
        'torch_authors': {part: function for part, (_, function) in authors.items()},
    }
    turns = {f'{side}_{part}': f for side, parts in sides.items() for part, f in parts.items()}
    seconds = median_seconds(turns, 1 if small else 3)
    for part, (share, _) in authors.items():
        seconds[f'torch_authors_{part}'] /= share
    whole = {side: sum(seconds[f'{side}_{part}'] for part in sides[side]) for side in sides}
    # The distances take the authors' way most of its time: the aim is met with or without them.
    calibrating = whole['torch_authors'] - seconds['torch_authors_fdc']
    return {
        **em.sizes,
        **{f'{name}_seconds': value for name, value in seconds.items()},
        **{f'{side}_round_seconds': value for side, value in whole.items()},
        'torch_authors_measured_shares': {part: share for part, (share, _) in authors.items()},
        'torch_authors_stored_mb': 4e-6 * em.sizes['virtual_per_class'] * work.mean.numel(),
        'speedup_over_torch_tuned': whole['torch_tuned'] / whole['ltjax'],
        'speedup_over_torch_authors': whole['torch_authors'] / whole['ltjax'],
        'speedup_over_torch_authors_without_fdc': calibrating
        / (whole['ltjax'] - seconds['ltjax_fdc']),
        **_differences(em, work),
    }


def _differences(em: Round, work: Any) -> dict[str, float]:
    """Returns how far both of PyTorch's FDC are from ours on a few features, relative to its size."""
    import torch

    from . import torch_em

    # `before_round` ran again since: so distances are to the Gaussians that ours has now.
    average, rows = em.state.extra['gaussians'], em.batches()[0][:4]
    mean, covariance = (torch.from_numpy(np.array(average[k])) for k in (0, 1))
    ways = {
        'tuned': functools.partial(
            torch_em.distances, gaussians=torch_em.factorise(mean, covariance)
        ),
        'authors': functools.partial(torch_em.distances_by_pairs, mean=mean, covariance=covariance),
    }
    value, gradient = map(np.asarray, em.consistency(rows))
    found = {}
    for name, way in ways.items():
        theirs, their_gradient = work.fdc(way, torch.from_numpy(rows))
        off = np.abs(gradient - their_gradient.numpy()).max() / np.abs(gradient).max()
        found[f'fdc_difference_to_{name}'] = float(abs(value / theirs.item() - 1))
        found[f'fdc_gradient_difference_to_{name}'] = float(off)
    return found
