"""Kills and damages real runs at random for as long as is said: `python scripts/soak.py --minutes 60`.

LMD and ICCL are trained on tiny data (folders, a CSV, an npz), in processes that are killed (also while they write),
run out of memory or disk, or are told to end; between, bytes of their files are damaged. Whatever happens, the same
command must end the run with the bits of an undisturbed one. And in between their data are changed: an image more or
less or another, a label, a side of the split, a class's name, the order of the rows. Then the same command must refuse,
and name the change. The first difference ends the soak with status 1 and keeps the run.
"""

import argparse
import importlib
import json
import pathlib
import sys
import tempfile

from ltjax.files import user_path

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--seed', type=int, default=0, help='of the faults')
    parser.add_argument('--folder', type=user_path, help='where the runs are; default: a new one')
    given = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]  # the driver is the tests'
    driver = importlib.import_module('faults.driver')
    folder = given.folder or pathlib.Path(tempfile.mkdtemp(prefix='ltjax-soak-'))
    print(f'runs in {folder}', flush=True)
    try:
        done = driver.soak(folder, minutes=given.minutes, seed=given.seed)
    except driver.Lost as lost:
        sys.exit(f'lost: {lost}')
    print(json.dumps(done, indent=1))
    print('nothing was lost, and nothing differs')


if __name__ == '__main__':
    main()
