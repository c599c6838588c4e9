"""Prints the list of methods: `python -m ltjax.methods`; with --markdown as docs/methods.md has it."""

import argparse
import textwrap

from ltjax.command import called, exits
from ltjax.methods.catalog import LEFT_OUT, METHODS, STATUS

COLUMNS = ('name', 'title', 'paper', 'family', 'needs', 'status')


def rows() -> list[tuple[str, ...]]:
    """Returns a row a method, of `COLUMNS`."""
    return [
        (name, m.title, f'{m.paper} {m.year}' if m.year else '', m.family, m.needs, m.status)
        for name, m in METHODS.items()
    ]


def text() -> str:
    """Returns the list for a terminal."""
    table = [COLUMNS, *rows()]
    widths = [max(len(row[i]) for row in table) for i in range(len(COLUMNS))]
    lines = [
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    notes = STATUS | {f'left out: {name}': why for name, why in LEFT_OUT.items()}
    return '\n'.join([*lines, '', *(f'{name}: {said}.' for name, said in notes.items())])


def markdown() -> str:
    """Returns the list as a page."""
    lines = [
        '# Methods',
        '',
        f'{len(METHODS)} methods, each a file of `configs/`: `python -m ltjax.main --config=NAME:BENCHMARK`.',
        'This page is written by `python -m ltjax.methods --markdown > docs/methods.md`.',
        '',
        *(f'- *{name}*: {said}.' for name, said in STATUS.items()),
        '',
        '| config | method | paper | family | needs | status |',
        '|---|---|---|---|---|---|',
    ]
    for name, title, *rest in rows():
        page = METHODS[name].page
        shown = f'[{title}]({page})' if page else title
        lines.append(f'| `{name}` | {shown} | {" | ".join(rest)} |')
    left_out = [f'- {name} ({why}).' for name, why in LEFT_OUT.items()]
    lines += ['', 'Left out:', '']
    lines += [textwrap.fill(item, 120, subsequent_indent='  ') for item in left_out]
    return '\n'.join(lines)


@exits()
def cli() -> None:
    """The entry point."""
    parser = argparse.ArgumentParser(
        prog=called('ltjax.methods'), description='Lists the methods, each a file of configs/.'
    )
    parser.add_argument('--markdown', action='store_true', help='as docs/methods.md has it')
    print(markdown() if parser.parse_args().markdown else text())


if __name__ == '__main__':
    cli()
