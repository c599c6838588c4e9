"""Writes what a benchmark leaves without its test images, to choose settings on.

    python scripts/tuning_set.py --benchmark=npz --path=SET.npz --out=TUNING.npz
    python -m ltjax.main --config=lmd:npz --config.data.path=TUNING.npz

TUNING.npz holds every image that is in no test part, training images that the benchmark thins out as well, with its
class and its group. A run on it draws a split of its own: its test part shows how good a setting is with less noise
than validation images, of which the run chooses its round, and the test images of SET stay unseen.
"""

import argparse

import experiments
import numpy as np

from ltjax import benchmarks, files
from ltjax.command import exits
from ltjax.data import datasets
from ltjax.errors import UserError


def without_test(data: datasets.DataSet) -> dict[str, np.ndarray]:
    """Returns the arrays of an npz: images, labels, ids, class names, and groups if there are any.

    Raises:
      UserError: the images are too many for one file in memory.
    """
    if not isinstance(data.images, np.ndarray):
        raise UserError(f'{data.table.where} stays on disk: an npz should fit into memory.')
    rows = np.setdiff1d(np.arange(len(data.labels)), data.parts['test'])
    found = {
        'images': data.images[rows],
        'labels': data.labels[rows],
        'ids': data.ids[rows],
        'class_names': np.array(data.class_names),
    }
    return found if data.groups is None else found | {'group': data.groups[rows]}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--benchmark', default='npz', help='whose split is left out')
    parser.add_argument('--path', default='', help="the data set's files, if it is not embedded")
    parser.add_argument(
        '--set', action='append', default=[], metavar='KEY=VALUE', help='a change to the config'
    )
    parser.add_argument('--out', required=True, type=files.user_path, metavar='TUNING.npz')
    given = parser.parse_args()
    benchmarks.get(given.benchmark)  # a mistake shows first
    changes = dict(map(experiments.parse_change, given.set))
    experiment = experiments.Experiment('cross_entropy')
    config = experiments.make_config(
        experiment, given.benchmark, 0, path=given.path, changes=changes
    )
    data = datasets.load(config.data)
    found = without_test(data)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    files.write_npz(given.out, found)
    left = len(data.parts['test'])
    print(f'{given.out}: {len(found["labels"]):,} images; the {left:,} test images are left out')


if __name__ == '__main__':
    with exits():
        main()
