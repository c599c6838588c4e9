"""One page for a whole paper: every table and figure, what the paper prints, and what differs; and the list of all."""

import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ltjax import benchmarks
from ltjax.report import page
from ltjax.report.page import Markup
from reproduction import items
from reproduction.class_figures import Runs
from reproduction.items import Item
from reproduction.tables import BEST, NEAR, Cell, Grid


class Made(NamedTuple):
    """A table or figure.

    Attributes:
      item: what it is.
      title: what it compares, and on what.
      grid: its cells.
      picture: the SVG of a figure, or ''.
      reports: by row, the links to the reports of its runs, see `reports`.
    """

    item: Item
    title: str
    grid: Grid
    picture: str
    reports: Mapping[str, Markup]


def reports(row: str, runs: Runs, folder: pathlib.Path) -> Markup:
    """Returns links to the reports of a row's runs, those that are there, relative to the page's folder."""
    links = []
    for benchmark, planned in runs.items():
        for run in planned[row]:
            path = run.workdir / 'report.html'
            if path.exists():
                place = urllib.parse.quote(pathlib.Path(os.path.relpath(path, folder)).as_posix())
                on = f'{benchmark}, ' if len(runs) > 1 else ''
                text = page.escape(f'{on}seed {run.seed}')
                links.append(f'<a href="{place}">{text}</a>')
    return Markup(' '.join(links))


def whole(title: str, benchmark: str, made: Sequence[Made]) -> str:
    """Returns the page of a paper."""
    on = f'On {benchmark}, not on the data of the paper.' if benchmark else "On the paper's data."
    parts: dict[str, list[tuple[str, Markup]]] = {'Tables': [], 'Figures': []}
    for each in made:
        heading = f'{each.item.name}: {each.title}'
        place = 'Tables' if each.item.kind == 'table' else 'Figures'
        parts[place].append((heading, _section(each)))
    shown = {name: sections for name, sections in parts.items() if sections}
    where = f'{title}, on {benchmark}' if benchmark else title
    return page.document(where, page.paragraph(on, 'facts'), shown)


def _section(made: Made) -> Markup:
    drawn = page.picture(made.picture, f'{made.title}; a table is below') if made.picture else ''
    columns = [(name, 'number' if k else '') for k, name in enumerate(made.grid.header)]
    rows = [
        [(first.text, made.reports.get(first.text, '')), *map(_cell, rest)]
        for first, *rest in made.grid.rows
    ]
    return Markup(f'{drawn}{page.table(columns, rows)}{page.listing(made.grid.notes, "note")}')


def _cell(cell: Cell) -> Markup:
    text = page.escape(cell.text)
    tag = {BEST: 'b', NEAR: 'u'}.get(cell.mark)
    return Markup(f'<{tag}>{text}</{tag}>') if tag else text


def listing(other: str) -> str:
    """Returns all tables and figures, and what makes their data; on another benchmark, what makes that one's."""
    lines = []
    for paper in items.papers():
        title, found = items.read(paper)
        lines.append(title)
        for item in found.values():
            on = [other] if other and item.rows else item.benchmarks
            rows = f'{len(item.rows)} rows' if item.rows else 'of formulas, without a run'
            lines.append(f'  {item.name:12} {item.title} ({rows})')
            lines += [f'{"":15}{name}: {_needs(name)}' for name in on]
    return '\n'.join(lines)


def _needs(name: str) -> str:
    benchmark = benchmarks.get(name)
    if benchmark.name == benchmarks.DEFAULT:
        return 'at hand'
    prepare = f'data_prep.{benchmark.prepare}' if benchmark.prepare else 'your own files'
    pixels = benchmark.data_config().image_size
    return f'{prepare}; {benchmark.epochs} epochs at {pixels} px'
