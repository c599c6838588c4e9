"""Docstrings as Markdown, for the site: doctests become code, and shapes such as [K][K] no links."""

import re
from typing import Any

import griffe

# A prompt and all up to the next blank line that no further prompt follows.
_DOCTEST = re.compile(r'^>>> .*(?:\n(?!\s*$).*)*(?:\n\s*\n>>> .*(?:\n(?!\s*$).*)*)*', re.MULTILINE)


class Docstrings(griffe.Extension):
    """Makes Markdown of every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    r"""Returns a docstring with its doctests as fenced code.

    >>> markdown('Of a [K][K].')
    'Of a [K]\\[K].'
    """
    parts, end = [], 0
    for found in _DOCTEST.finditer(text):
        parts += [_unlinked(text[end : found.start()]), f'```pycon\n{found[0]}\n```']
        end = found.end()
    return ''.join([*parts, _unlinked(text[end:])])


def _unlinked(text: str) -> str:
    return text.replace('][', ']\\[')
