r"""From a table of patients' photographs to a model that classifies without JAX: each step one command of ltjax.

    python scripts/hospital_demo.py TABLE.csv --images-in PHOTOS --suffix .jpg --columns path=image_id \
        --columns label=dx --columns group=lesion_id --by sex,dataset --out demo

It prints each command before it runs it, and stops at the first that fails: audit, prepare, train, evaluate, export,
classify with onnxruntime, and the same with ltjax to compare. A step whose output is there already is passed over, so
that the same command goes on. docs/hospital.md tells what comes out.
"""

import argparse
import csv
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence

from ltjax.command import exits
from ltjax.errors import UserError
from ltjax.files import user_path

_CLASSIFY = pathlib.Path(__file__).resolve().with_name('classify_with_onnx.py')


def step(words: Sequence[object], made: pathlib.Path | None = None, **options: object) -> None:
    """Prints and runs a command, unless what it makes is there.

    Raises:
      UserError: it failed.
    """
    command = [sys.executable, *map(str, words)]
    print(f'\n$ {shlex.join(["python", *command[1:]])}', flush=True)
    if made is not None and made.exists():
        print(f'({made} is there)')
        return
    ended = subprocess.run(command, check=False, **options)  # type: ignore[call-overload]
    if ended.returncode:
        raise UserError(f'{words[1]} ended with status {ended.returncode}: see above.')


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('table', type=user_path, help='a CSV, an image a row')
    parser.add_argument('--images-in', type=user_path, required=True, help='their folder')
    parser.add_argument('--suffix', default='', help="what an id lacks of its file's name")
    parser.add_argument('--columns', action='append', default=[], metavar='WHAT=COLUMN')
    parser.add_argument('--by', default='', help='columns of subgroups, with commas')
    parser.add_argument('--size', type=int, default=64, help='pixels a side')
    parser.add_argument('--method', default='lmd', help='a config')
    parser.add_argument(
        '--train', default='', help="further flags of the training, such as '--config.seed=1'"
    )
    parser.add_argument('--out', type=user_path, required=True, help='folder of all that is made')
    given = parser.parse_args()
    table = ['--images-in', given.images_in, '--suffix', given.suffix]
    table += [word for each in given.columns for word in ('--columns', each)]
    by = tuple(filter(None, given.by.split(',')))
    folder, run = given.out, given.out / 'run'
    folder.mkdir(parents=True, exist_ok=True)
    step(['-m', 'ltjax.data.audit', given.table, *table])
    size = ['--image-size', given.size, '--channels', 3, '--further', given.by]
    prepared = folder / 'set'
    whole = prepared / 'manifest.json'
    step(['-m', 'ltjax.data.prepare', given.table, *table, *size, '--out', prepared], whole)
    training = [f'--config={given.method}:prepared', f'--config.data.path={prepared}']
    training += [f'--config.data.further={by!r}'] if by else []
    training += [f'--workdir={run}', *shlex.split(given.train)]
    step(['-m', 'ltjax.main', *training], run / 'results.json')
    judged = [
        run / 'predictions.npz',
        '--validation',
        run / 'validation.npz',
        '--out',
        folder / 'evaluation',
    ]
    judged += ['--by', given.by] if by else []
    step(['-m', 'ltjax.evaluate', *judged], folder / 'evaluation' / 'report.html')
    model = folder / 'model.onnx'
    exported = ['--workdir', run, '--out', model, '--calibrate', 'temperature']
    step(['-m', 'ltjax.export', *exported], model)
    ours, theirs = folder / 'ltjax.csv', folder / 'onnxruntime.csv'
    predicted = [
        '--workdir',
        run,
        '--data',
        given.images_in,
        '--calibrate',
        'temperature',
        '--out',
        ours,
    ]
    step(['-m', 'ltjax.predict', *predicted], ours)
    with theirs.open('w', encoding='utf-8') as file:
        step([_CLASSIFY, model, given.images_in], stdout=file)
    same, all_ = agreement(ours, theirs)
    print(f'\nltjax and onnxruntime give {same:,} of {all_:,} images the same class')
    if same < all_:
        raise UserError(f'{ours} and {theirs} differ: please report it.')


def agreement(ours: pathlib.Path, theirs: pathlib.Path) -> tuple[int, int]:
    """Returns how many images of two CSVs have the same class, and how many there are."""
    found = []
    for path in (ours, theirs):
        with path.open(encoding='utf-8', newline='') as file:
            found.append({row['id']: row['prediction'] for row in csv.DictReader(file)})
    return sum(found[1].get(name) == label for name, label in found[0].items()), len(found[0])


if __name__ == '__main__':
    with exits():
        main()
