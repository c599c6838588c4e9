r"""From a table of patients' photographs to a model that classifies without JAX: each step one command of ltjax.

    python scripts/hospital_demo.py TABLE.csv --images-in PHOTOS --suffix .jpg --columns path=image_id \
        --columns label=dx --columns group=lesion_id --by sex,dataset --out demo

It prints each command before it runs it, and stops at the first that fails: audit, prepare, train, evaluate, export,
predict, and classify the same images with onnxruntime. What is there already is not made again, so that the same
command goes on. docs/hospital.md shows what comes out. Needs `pip install 'ltjax[onnx]'`.
"""

import argparse
import contextlib
import csv
import pathlib
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

from ltjax.command import exits
from ltjax.errors import UserError
from ltjax.files import user_path

_CLASSIFY = pathlib.Path(__file__).resolve().with_name('classify_with_onnx.py')


def step(
    words: Sequence[object],
    made: pathlib.Path,
    *,
    printed: bool = False,
    through: Sequence[int] = (0,),
) -> None:
    """Prints a command and runs it, unless what it makes is there.

    Args:
      words: of the command, after `python`.
      made: file that says that it was through.
      printed: whether that file holds what it prints.
      through: exit statuses of a command that was through.

    Raises:
      UserError: it failed.
    """
    command = [*map(str, words)]
    into = f' > {shlex.quote(str(made))}' if printed else ''
    print(f'\n$ {shlex.join(["python", *command])}{into}', flush=True)
    if made.exists():
        print(f'({made} is there)')
        return
    start = time.monotonic()
    half = made.with_name(f'{made.name}.tmp')
    with half.open('w', encoding='utf-8') if printed else contextlib.nullcontext() as file:
        ended = subprocess.run([sys.executable, *command], check=False, stdout=file)
    if ended.returncode not in through:
        raise UserError(f'{command[0]} {command[1]} ended with {ended.returncode}: see above.')
    if printed:
        half.replace(made)
    print(f'({time.monotonic() - start:.0f} s)', flush=True)


def agreement(ours: pathlib.Path, theirs: pathlib.Path) -> tuple[int, int]:
    """Returns how many images of two CSVs have the same class, and how many there are."""
    found = []
    for path in (ours, theirs):
        with path.open(encoding='utf-8', newline='') as file:
            found.append({row['id']: row['prediction'] for row in csv.DictReader(file)})
    return sum(found[1].get(name) == label for name, label in found[0].items()), len(found[0])


def parse() -> argparse.Namespace:
    """Reads the arguments."""
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
    return parser.parse_args()


def main() -> None:
    """The command."""
    given = parse()
    folder, run, by = given.out, given.out / 'run', [each for each in given.by.split(',') if each]
    folder.mkdir(parents=True, exist_ok=True)
    table = [given.table, '--images-in', given.images_in, '--suffix', given.suffix]
    table += [word for each in given.columns for word in ('--columns', each)]
    audit = folder / 'audit.txt'
    # 1: it found something that whoever knows the data should read, and training may accept.
    step(['-m', 'ltjax.data.audit', *table], audit, printed=True, through=(0, 1))
    print(audit.read_text('utf-8'))

    prepare = ['--image-size', given.size, '--channels', 3, '--further', given.by]
    kept = folder / 'set'
    step(['-m', 'ltjax.data.prepare', *table, *prepare, '--out', kept], kept / 'manifest.json')

    train = [f'--config={given.method}:prepared', f'--config.data.path={kept}', f'--workdir={run}']
    train += [f'--config.data.further={tuple(by)!r}'] if by else []
    step(['-m', 'ltjax.main', *train, *shlex.split(given.train)], run / 'results.json')

    judged = [run / 'predictions.npz', '--validation', run / 'validation.npz', '--by', given.by]
    report = folder / 'evaluation' / 'report.html'
    step(['-m', 'ltjax.evaluate', *judged, '--out', report.parent], report)

    model, ours, theirs = folder / 'model.onnx', folder / 'ltjax.csv', folder / 'onnxruntime.csv'
    of_run = ['--workdir', run, '--calibrate', 'temperature']
    step(['-m', 'ltjax.export', *of_run, '--out', model], model)

    decided = ['--sensitivity', 0.9, '--sets', 'class_conditional', '--out', ours]
    step(['-m', 'ltjax.predict', *of_run, '--data', given.images_in, *decided], ours)
    step([_CLASSIFY, model, given.images_in], theirs, printed=True)
    same, all_ = agreement(ours, theirs)
    print(f'\nltjax and onnxruntime give {same:,} of {all_:,} images the same class')
    if same < all_:
        raise UserError(f'{ours} and {theirs} differ: please report it.')


if __name__ == '__main__':
    with exits():
        main()
