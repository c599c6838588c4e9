"""Experiments without their method: one file a paper, and one for small sets and one's own data.

`--config=configs/METHOD.py:BENCHMARK` is a method in an experiment. A benchmark of another paper than the method's
gives it that paper's data, network, budget, base optimiser and views; its own numbers it keeps.
"""

from ltjax.benchmarks import aduni, alpa, iccl, lmd, proco, small
from ltjax.benchmarks.benchmark import Benchmark
from ltjax.errors import UserError, unknown

__all__ = ['DEFAULT', 'Benchmark', 'find', 'get', 'names']

DEFAULT = 'fashion_mnist_lt_mini'

_ALL = {
    each.name: each for paper in (small, lmd, aduni, alpa, iccl, proco) for each in paper.BENCHMARKS
}


def names() -> list[str]:
    """Returns the benchmarks: first the small sets and one's own data, then a paper after the other."""
    return list(_ALL)


def find(name: str) -> Benchmark | None:
    """Returns the benchmark of that name, None if there is none."""
    return _ALL.get(name)


def get(name: str) -> Benchmark:
    """Returns the benchmark of that name.

    Raises:
      UserError: there is none; the nearest are named.
    """
    if name in _ALL:
        return _ALL[name]
    of_set = [each for each in _ALL if each.partition('@')[0] == name]
    if of_set:
        raise UserError(
            f'{name} is of several benchmarks or of a paper: say {" or ".join(of_set)}.'
        )
    raise unknown('benchmark', name, _ALL)
