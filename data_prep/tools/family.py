"""Programs that prepare one of several sets of a kind: its name comes first on their command line."""

import argparse
import sys
from collections.abc import Mapping, Sequence

from data_prep.tools import tool


def run(
    sources: Mapping[str, tool.Source],
    program: str,
    description: str,
    argv: Sequence[str] | None = None,
) -> None:
    """The command `python -m data_prep.PROGRAM NAME ...`, which is `tool.run` of the set NAME."""
    command = f'python -m data_prep.{program}'
    parser = argparse.ArgumentParser(
        command, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('name', choices=sources, help='then: --help for the rest')
    words = sys.argv[1:] if argv is None else list(argv)
    name = parser.parse_args(words[:1]).name
    own = sources[name].options

    def options(rest: argparse.ArgumentParser) -> None:
        rest.prog = f'{command} {name}'
        if own is not None:
            own(rest)

    tool.run(sources[name]._replace(options=options), description, words[1:])
