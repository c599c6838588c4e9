"""LMD's EM round over given features in PyTorch, twice: as its authors do it, and as well as PyTorch can.

A round is the class Gaussians of a class-balanced resample, one pass of the classifier over R virtual features a class,
and the distances of every feature to every class with their gradient. The authors draw all virtual features of a class
from one MultivariateNormal and keep them; in every step of the E-step they factorise a covariance for every pair of a
feature and a class. Well tuned, factors are made once a round in one batched call, draws are made batch by batch, and
distances are products with inverse factors.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.nn import functional

RIDGE = 0.01


class Gaussians(NamedTuple):
    """Means [K, C] and covariances [K, C, C], and what one factorisation a class gives."""

    mean: torch.Tensor
    covariance: torch.Tensor
    cholesky: torch.Tensor
    whitening: torch.Tensor


def estimate(
    features: torch.Tensor, labels: torch.Tensor, num_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns means and covariances of N/K draws of each class, with replacement; both sides estimate so."""
    rows = -(-len(features) // num_classes)
    means, covariances = [], []
    for k in range(num_classes):
        own = torch.nonzero(labels == k)[:, 0]
        drawn = features[own[torch.randint(len(own), (rows,))]]
        means.append(drawn.mean(0))
        covariances.append(torch.cov(drawn.T) + RIDGE * torch.eye(features.shape[1]))
    return torch.stack(means), torch.stack(covariances)


def factorise(mean: torch.Tensor, covariance: torch.Tensor) -> Gaussians:
    """Returns the Gaussians with their Cholesky factors and the inverses of these."""
    cholesky = torch.linalg.cholesky(covariance)
    identity = torch.eye(mean.shape[1]).expand_as(cholesky)
    whitening = torch.linalg.solve_triangular(cholesky, identity, upper=False)
    return Gaussians(mean, covariance, cholesky, whitening)


class Work(NamedTuple):
    """What a round works on.

    Attributes:
      features: float32 [N, C].
      labels: int64 [N].
      mean: [K, C], of the Gaussians that are drawn from and measured to.
      covariance: [K, C, C].
      batches: rows of the features, int64 [B] each, that the distances take at a time.
      rows: virtual features a class and step of the M-step.
      per_class: virtual features a class and round, R.
      learning_rate: of the M-step.
      max_repulsion: bound on a squared distance.
    """

    features: torch.Tensor
    labels: torch.Tensor
    mean: torch.Tensor
    covariance: torch.Tensor
    batches: list[torch.Tensor]
    rows: int
    per_class: int
    learning_rate: float
    max_repulsion: float

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.mean)

    def calibration(self) -> 'Calibration':
        return Calibration(self.mean.shape[1], self.num_classes, self.learning_rate)

    def fdc(
        self, measure: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the feature distribution consistency of a batch and its gradient by the features."""
        features = self.features[rows].requires_grad_()
        measured = measure(features)
        own = functional.one_hot(self.labels[rows], self.num_classes).bool()
        loss = measured[own].mean() - measured[~own].clamp(max=self.max_repulsion).mean()
        loss.backward()
        return loss.detach(), features.grad


def tuned(work: Work) -> dict[str, Callable[[], None]]:
    """Returns the parts of a well-tuned round."""
    gaussians, calibration = factorise(work.mean, work.covariance), work.calibration()

    def estimate_and_factorise() -> None:
        factorise(*estimate(work.features, work.labels, work.num_classes))

    def fdc() -> None:
        for rows in work.batches:
            work.fdc(functools.partial(distances, gaussians=gaussians), rows)

    return {
        'estimate': estimate_and_factorise,
        'm_step': lambda: calibration.streamed(
            gaussians, work.rows, -(-work.per_class // work.rows)
        ),
        'fdc': fdc,
    }


def authors(
    work: Work, *, draws: int, steps: int, pairs: int
) -> dict[str, tuple[float, Callable[[], Any]]]:
    """Returns the parts of the authors' round, each with the share of its work that it does.

    Args:
      work: of the whole round.
      draws: virtual features a class that are drawn.
      steps: of the M-step.
      pairs: features whose distances are taken; all are of the first batch.
    """
    batch, calibration = work.rows * work.num_classes, work.calibration()
    virtual, labels = draw_all(work.mean, work.covariance, work.rows * steps)
    few = work.batches[0][:pairs]
    by_pairs = functools.partial(distances_by_pairs, mean=work.mean, covariance=work.covariance)
    return {
        'estimate': (1.0, lambda: estimate(work.features, work.labels, work.num_classes)),
        'draw': (draws / work.per_class, lambda: draw_all(work.mean, work.covariance, draws)),
        'm_step': (
            steps * work.rows / work.per_class,
            lambda: calibration.stored(virtual, labels, batch, steps),
        ),
        'fdc': (
            len(few) / sum(map(len, work.batches)),
            lambda: work.fdc(by_pairs, few),
        ),
    }


class Calibration:
    """The M-step's classifier and its SGD."""

    def __init__(self, width: int, num_classes: int, learning_rate: float) -> None:
        self.classifier = torch.nn.Linear(width, num_classes)
        self._sgd = torch.optim.SGD(
            self.classifier.parameters(), learning_rate, 0.9, weight_decay=1e-4, fused=True
        )

    def step(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self._sgd.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(self.classifier(features), labels)
        loss.backward()
        self._sgd.step()
        return loss.detach()

    def stored(self, virtual: torch.Tensor, labels: torch.Tensor, batch: int, steps: int) -> None:
        """Makes `steps` steps over virtual features that lie in memory, in random order."""
        order = torch.randperm(len(virtual))
        for step in range(steps):
            rows = order[step * batch : (step + 1) * batch]
            self.step(virtual[rows], labels[rows])

    def streamed(self, gaussians: Gaussians, rows: int, steps: int) -> None:
        """Makes `steps` steps, each over `rows` new virtual features a class."""
        mean, transposed = gaussians.mean[:, None], gaussians.cholesky.mT.contiguous()
        num_classes, _, width = mean.shape
        labels = torch.arange(num_classes).repeat_interleave(rows)
        noise = torch.empty(num_classes, rows, width)
        for _ in range(steps):
            virtual = torch.baddbmm(mean, noise.normal_(), transposed)
            self.step(virtual.flatten(0, 1), labels)


def draw_all(
    mean: torch.Tensor, covariance: torch.Tensor, per_class: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns `per_class` virtual features of each class and their labels, all of them in memory."""
    drawn = [
        torch.distributions.MultivariateNormal(m, c).sample((per_class,))
        for m, c in zip(mean, covariance, strict=True)
    ]
    return torch.cat(drawn), torch.arange(len(mean)).repeat_interleave(per_class)


def distances_by_pairs(
    features: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor
) -> torch.Tensor:
    """Returns squared Mahalanobis distances [B, K], with a factorisation for every pair."""
    rows = []
    for feature in features:
        row = []
        for m, c in zip(mean, covariance, strict=True):
            factor = torch.linalg.cholesky(c)
            solved = torch.linalg.solve_triangular(factor, (feature - m)[:, None], upper=False)
            row.append(solved.square().sum())
        rows.append(torch.stack(row))
    return torch.stack(rows)


def distances(features: torch.Tensor, gaussians: Gaussians) -> torch.Tensor:
    """Returns squared Mahalanobis distances [B, K] by the inverse factors."""
    deviations = features[None] - gaussians.mean[:, None]
    return torch.bmm(deviations, gaussians.whitening.mT).square().sum(2).T
