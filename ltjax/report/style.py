"""How the figures of a report look, and what all of them need: SVG text, names, legends.

Matplotlib's object-oriented interface only, so that no global state is touched and no display is
needed. Head, medium and tail keep their colours.
"""

import functools
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Blue, grey-blue and orange differ in lightness too: legible to colour-blind readers and in print.
GROUP_COLOURS = {'head': '#2f5d8c', 'medium': '#8fb3cc', 'tail': '#d1603d'}
INK, MUTED, RULE, NEUTRAL = '#222222', '#666666', '#dddddd', '#8a8a8a'
# Okabe and Ito's palette; with the markers below it tells 24 classes apart.
CLASS_COLOURS = (
    *('#0072b2', '#e69f00', '#009e73', '#d55e00'),
    *('#56b4e9', '#cc79a7', '#b8a800', '#444444'),
)
MARKERS = 'o^sDv'

_STYLE: dict[Any, Any] = {
    'font.family': 'sans-serif',
    'font.size': 9,
    'text.color': INK,
    'text.parse_math': False,  # a class name may hold a dollar sign
    'axes.edgecolor': RULE,
    'axes.labelcolor': MUTED,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.titlesize': 10,
    'axes.titlelocation': 'left',
    'axes.axisbelow': True,
    'grid.color': '#ececec',
    'xtick.color': MUTED,
    'ytick.color': MUTED,
    'xtick.labelcolor': MUTED,
    'ytick.labelcolor': INK,
    'xtick.major.size': 0,
    'ytick.major.size': 0,
    'xtick.minor.size': 0,
    'legend.frameon': False,
    'lines.solid_capstyle': 'butt',
    'svg.fonttype': 'none',  # text stays text, in a font that has the script of the class names
    'svg.hashsalt': 'ltjax',
    'savefig.dpi': 200,  # of thousands of dots, which are an image within
    'figure.constrained_layout.use': True,
    'figure.constrained_layout.w_pad': 0.1,
}

P = ParamSpec('P')


def rendered(draw: Callable[P, 'Figure']) -> Callable[P, dict[str, bytes]]:
    """Makes a function that draws a figure return it as 'svg' and 'png', in the style above."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> dict[str, bytes]:
        return _in_style(functools.partial(draw, *args, **kwargs), 'svg', 'png')

    return wrapper


def svg(draw: Callable[P, 'Figure']) -> Callable[P, str]:
    """Makes a function that draws a figure return it as SVG text, in the style above."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> str:
        return _in_style(functools.partial(draw, *args, **kwargs), 'svg')['svg'].decode()

    return wrapper


def _in_style(draw: Callable[[], 'Figure'], *formats: str) -> dict[str, bytes]:
    """Returns a figure in several formats, the same bytes whenever it is drawn."""
    import matplotlib

    made = {}
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The font at hand only measures; whoever reads the page has one for these letters.
        warnings.filterwarnings('ignore', message=r'Glyph \d+ .* missing from')
        figure = draw()
        for each in formats:
            buffer = io.BytesIO()
            about = {'Date': None} if each == 'svg' else {'Software': None}
            figure.savefig(buffer, format=each, metadata=about)
            made[each] = buffer.getvalue()
    return made


def new_figure(width: float, height: float) -> 'Figure':
    """Returns an empty figure of that many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height))


def class_axis(axis: 'Axes', names: Sequence[str]) -> None:
    """Labels rows from the top with the names of classes."""
    axis.set_yticks(range(len(names)), labels=[end_label(name) for name in names])
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(axis='x')
    axis.spines['left'].set_visible(False)


def name_room(names: Sequence[str], usual: int = 14) -> float:
    """Inches by which the longest name is longer than a `usual` one, in small print."""
    longest = max((len(text) + len(_room(text)) for text in map(shown, names)), default=0)
    return 0.068 * max(0, longest - usual)


def rows_height(num_classes: int) -> float:
    """Returns the height in inches of a figure with a row a class."""
    return 0.9 + 0.27 * num_classes


def thousands(value: float, _position: float) -> str:
    """Formats a tick of a logarithmic axis of counts; below one there is no label."""
    return f'{value:,.0f}' if value >= 1 else ''


def shown(name: str, at_most: int = 40) -> str:
    """Returns a class name as figures show it: on one line, never empty, its middle cut if long."""
    # An SVG with a control character, or half of a surrogate pair, is no SVG.
    text = ' '.join(re.sub('[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]', ' ', name).split())
    if len(text) > at_most:
        text = f'{text[: at_most // 2]}…{text[len(text) - (at_most - 1) // 2 :]}'
    return text or '(no name)'


def _room(text: str) -> str:
    """Spaces for what Chinese, Japanese and Korean letters are wider than the font that measures."""
    wide = sum(unicodedata.east_asian_width(letter) in 'WF' for letter in text)
    return '\u2003' * ((wide + 1) // 2)


def end_label(name: str, at_most: int = 40) -> str:
    """Returns `shown(name)` for text that ends at an axis, with room before it."""
    text = shown(name, at_most)
    return _room(text) + text


def legend(
    figure: 'Figure', handles: Sequence['Artist'], names: Sequence[str], **place: Any
) -> None:
    """Draws a legend that shows every name: Matplotlib leaves out those that begin with '_'."""
    made = figure.legend(handles=handles, labels=['name'] * len(names), **place)
    for text, name in zip(made.get_texts(), names, strict=True):
        text.set_text(shown(name) + _room(shown(name)))


def group_legend(figure: 'Figure', groups: Sequence[str]) -> None:
    """Says above the axes which colour is which of the class groups that occur."""
    from matplotlib.patches import Patch

    named = [name for name in GROUP_COLOURS if name in groups]
    if named:
        handles = [Patch(color=GROUP_COLOURS[name]) for name in named]
        legend(figure, handles, named, loc='outside upper right', ncols=len(named))
