"""The few pieces of Markdown (CommonMark, with tables) that a model card is made of."""

import re
from collections.abc import Iterable, Sequence

# What could begin markup; of underscores those that are not inside a word.
_MARKUP = re.compile(r'[\\`*{}\[\]<>|#&~$!]|(?<![^\W_])_|_(?![^\W_])')


def text(value: object) -> str:
    r"""Returns a value as text on one line in which nothing is taken for Markdown or HTML.

    >>> print(text('a|b <i> _c_ d_e'))
    a\|b \<i\> \_c\_ d_e
    """
    return _MARKUP.sub(lambda found: f'\\{found[0]}', ' '.join(str(value).split()))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a table; cells are escaped."""
    lines = [columns, ['---'] * len(columns), *([text(cell) for cell in row] for row in rows)]
    return [f'| {" | ".join(line)} |' for line in lines]
