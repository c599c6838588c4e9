"""The command `python -m ltjax.data.audit PATH`."""

import argparse
import sys
from collections.abc import Sequence

from ltjax.command import called, exits
from ltjax.data import audit, near_duplicates
from ltjax.data.audit import report, sources, split
from ltjax.data.reading import arguments
from ltjax.data.settings import MAX_PIXELS
from ltjax.errors import UserError
from ltjax.files import check_target, user_path, write_json


@arguments.in_own_words()
def main(argv: Sequence[str]) -> int:
    """The command; returns the exit status, unless it raises UserError."""
    parser = argparse.ArgumentParser(called('ltjax.data.audit'), description=audit.__doc__)
    parser.add_argument('path', type=user_path, help='a folder, .csv, .npz or prepared set')
    parser.add_argument('--json', type=user_path, help='also write all of it as JSON')
    parser.add_argument('--image-size', type=int, default=0, help='pixels a side to train at')
    parser.add_argument('--threads', type=int, default=4)
    parser.add_argument(
        '--distance',
        type=int,
        default=near_duplicates.MAX_DISTANCE,
        help='bits of 256 that may differ between near-duplicates; 0: exact duplicates only',
    )
    parser.add_argument('--write-split', type=user_path, help='CSV to write a split to')
    parser.add_argument('--val', type=float, default=0.1, help='fraction for validation')
    parser.add_argument('--test', type=float, default=0.2, help='fraction for the test')
    parser.add_argument('--seed', type=int, default=0, help='of the split')
    parser.add_argument('--allow-outside', action='store_true', help='take images outside PATH')
    parser.add_argument(
        '--max-pixels', type=int, default=MAX_PIXELS, help='of an image to be decoded'
    )
    arguments.add(parser)
    given = parser.parse_args(argv)
    if given.image_size < 0:
        raise UserError(f'--image-size={given.image_size}: use 0 or more.')
    config = arguments.config(given.path, given)
    for option in ('json', 'write_split'):
        target = getattr(given, option)
        if target and not target.parent.is_dir():
            flag = option.replace('_', '-')
            raise UserError(f'{target.parent} is no folder: make it, or give another --{flag}.')
    if given.json:
        check_target(given.json, given.path)
    config = config.replace(
        allow_outside=given.allow_outside,
        max_pixels=given.max_pixels,
        image_size=given.image_size,
    )
    if given.write_split:
        source = sources.read(given.path, config)
        split.check_target(given.write_split, given.path, source)
    found = audit.examine(
        given.path,
        config,
        threads=given.threads,
        max_distance=given.distance,
        val=given.val,
        test=given.test,
        seed=given.seed,
        suggest=given.write_split is not None,
        report=lambda line: print(line, file=sys.stderr),
    )
    print(report.text(found))
    if found.suggestion and not given.write_split:
        print('  write it with --write-split FILE.csv')
    if given.json:
        write_json(given.json, found.as_json())
    if given.write_split:
        if found.suggestion is None:
            raise UserError(f'{given.write_split} is not written: see the last note.')
        split.write(given.write_split, given.path, source, found.suggestion)
        print(f'{given.write_split}: {len(found.suggestion.sides)} images')
    return 1 if found.findings or found.refusal else 0


@exits()
def cli() -> None:
    """The entry point."""
    sys.exit(main(sys.argv[1:]))


if __name__ == '__main__':
    cli()
