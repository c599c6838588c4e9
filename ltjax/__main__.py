"""The command `ltjax`: one name for all commands, each of which is a module too."""

import importlib
import pathlib
import sys
from typing import NamedTuple

from ltjax import huge_pages
from ltjax.command import exits
from ltjax.errors import UserError, unknown
from ltjax.version import __version__


class Command(NamedTuple):
    """A module with a function `cli`, which reads sys.argv, and what it does."""

    module: str
    help: str


COMMANDS = {
    'train': Command('ltjax.main', 'train a classifier, test it and write a report'),
    'methods': Command('ltjax.methods.__main__', 'list the methods'),
    'predict': Command('ltjax.predict', 'apply a trained model to images'),
    'evaluate': Command('ltjax.evaluate', 'evaluate predictions, and compare them'),
    'audit': Command('ltjax.data.audit.__main__', 'look for mistakes in a data set'),
    'prepare': Command('ltjax.data.prepare', 'decode a data set once, to train on it often'),
    'show': Command('ltjax.data.show', 'draw what augmentation does to images'),
    'export': Command('ltjax.export', 'write a trained model for other programs'),
}


def usage(program: str) -> str:
    """Returns what --help prints."""
    width = max(map(len, COMMANDS))
    lines = [f'  {name:{width}}  {command.help}' for name, command in COMMANDS.items()]
    return '\n'.join(
        [
            f'usage: {program} COMMAND ...',
            '',
            'Long-tailed (medical) image classification.',
            '',
            *lines,
            '',
            f'{program} COMMAND --help says what a command takes.',
        ]
    )


@exits()
def cli() -> None:
    """The entry point: gives its arguments to a command."""
    path = pathlib.Path(sys.argv[0])
    program = 'python -m ltjax' if path.name == '__main__.py' else 'ltjax'
    name, *rest = sys.argv[1:] or ['']
    if name in ('-h', '--help'):
        print(usage(program))
    elif name == '--version':
        print(f'ltjax {__version__}')
    elif name in COMMANDS:
        if name == 'train':
            huge_pages.restart()
        sys.argv = [f'{program} {name}', *rest]
        importlib.import_module(COMMANDS[name].module).cli()
    elif not name:
        raise UserError(f'no command: give one of {", ".join(COMMANDS)}.')
    else:
        raise unknown('command', name, COMMANDS)


if __name__ == '__main__':
    cli()
