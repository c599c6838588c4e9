"""A grid of cells as Markdown, CSV and LaTeX."""

import csv
import io
import re
import textwrap

from reproduction.tables import BEST, NEAR, PLAIN, Grid

_BREAK = r'\\'


def markdown(made: Grid) -> str:
    """Returns a grid as a table of Markdown, the notes as a list below."""
    marked = {BEST: '**{}**', NEAR: '<u>{}</u>', PLAIN: '{}'}
    lines = ['| ' + ' | '.join(made.header) + ' |', '|---' * len(made.header) + '|']
    for row in made.rows:
        cells = [marked[c.mark].format(c.text) if c.text else '' for c in row]
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join([*lines, '', *(f'- {note}' for note in made.notes)]) + '\n'


def comma_separated(made: Grid) -> str:
    """Returns a grid as CSV, without marks and notes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(made.header)
    writer.writerows([cell.text for cell in row] for row in made.rows)
    return text.getvalue()


def latex(made: Grid, caption: str) -> str:
    """Returns a grid as a LaTeX table with the rules of booktabs, no wider than the text."""
    marked = {BEST: r'\textbf{%s}', NEAR: r'\underline{%s}', PLAIN: '%s'}
    lines = [
        r'% Needs \usepackage{booktabs, graphicx}.',
        r'\begin{table}',
        rf'\caption{{{_tex(caption)}}}',
        r'\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%',
        rf'\begin{{tabular}}{{l{"r" * (len(made.header) - 1)}}}',
        r'\toprule',
        ' & '.join(map(_stacked, made.header)) + r' \\',
        r'\midrule',
    ]
    for row in made.rows:
        cells = [marked[c.mark] % _tex(c.text) if c.text else '' for c in row]
        lines.append(' & '.join(cells) + r' \\')
    lines += [r'\bottomrule', r'\end{tabular}}', r'\end{table}']
    return '\n'.join([*lines, *(f'% {note}' for note in made.notes)]) + '\n'


def _stacked(name: str) -> str:
    """Returns a column's name in lines that are short enough to stand above its numbers."""
    lines = [_tex(line) for line in textwrap.wrap(name, 14, break_long_words=False)]
    return rf'\shortstack[r]{{{_BREAK.join(lines)}}}' if len(lines) > 1 else ''.join(lines)


def _tex(text: str) -> str:
    special = {'\\': r'\textbackslash{}', '±': r'$\pm$', '~': r'\~{}', '^': r'\^{}'}
    special |= {letter: f'\\{letter}' for letter in '&%$#_{}'}
    escaped = ''.join(special.get(letter, letter) for letter in text)
    return re.sub(r'(?<![\w.])-(?=\d)', '$-$', escaped)
