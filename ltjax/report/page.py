"""The few pieces of HTML that a report is made of; every text that enters is escaped here."""

import base64
import html
import json
import math
import re
from collections.abc import Mapping, Sequence

from ltjax.report.style import GROUP_COLOURS

_CSS = """
:root { --ink: #222; --muted: #666; --rule: #ddd; --accent: #2f5d8c; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 56rem; color: var(--ink);
  background: #fff; font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans',
  sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; font-weight: 600; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 0; padding-top: .7rem; font-weight: 600;
  border-top: 3px solid var(--accent); }
h3 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; padding-top: .7rem; font-weight: 600;
  border-top: 1px solid var(--rule); }
h2 + section h3 { border-top: 0; margin-top: .4rem; }
nav ul { list-style: none; margin: 1rem 0 0; padding: 0; }
nav li { margin: .25rem 0; }
nav ul ul, nav li li { display: inline; margin: 0; }
nav li li::before { content: ' · '; color: var(--muted); }
nav a { color: var(--accent); text-decoration: none; }
nav li > a:first-child { font-weight: 600; }
nav li li > a:first-child { font-weight: 400; }
nav a:hover, nav a:focus { text-decoration: underline; }
p { margin: .4rem 0; }
p.note + p { margin-top: .9rem; }
.facts, .note, figcaption { color: var(--muted); }
.note, figcaption { font-size: .87rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .4rem 0; }
th { text-align: left; font-weight: 600; font-size: .85rem; color: var(--muted); }
th, td { padding: .22rem .9rem .22rem 0; border-bottom: 1px solid #eee; vertical-align: middle; }
td.number, th.number { text-align: right; white-space: nowrap; }
td.range, th.range { color: var(--muted); white-space: nowrap; font-size: .87rem; }
td small { display: block; color: var(--muted); font-size: .78rem; }
td.name { min-width: 8rem; padding-left: 1.1rem; text-indent: -1.1rem; }
td.words, th.words { min-width: 9rem; }
td.track { width: 11rem; min-width: 7rem; }
.bar { position: relative; display: block; height: .8rem; background: #f0f0f0; border-radius: 2px; }
.bar i, .bar b { position: absolute; top: 0; bottom: 0; }
.bar i { background: #a9c1d6; border-radius: 2px; min-width: 1px; }
.bar b { width: 2px; margin-left: -1px; background: var(--accent); }
.dot { display: inline-block; width: .65rem; height: .65rem; border-radius: 2px;
  margin-right: .45rem; }
input[type=search] { font: inherit; width: 18rem; max-width: 100%; padding: .25rem .5rem;
  border: 1px solid #999; border-radius: 3px; }
ul.warnings { margin: .4rem 0; padding: .6rem 1rem .6rem 2rem; background: #fdf6ec;
  border-left: 3px solid #d1603d; }
figure { margin: .6rem 0; overflow-x: auto; }
figure img { display: block; max-width: 100%; min-width: min(34rem, 100%); height: auto; }
pre { background: #f7f7f7; padding: .7rem .9rem; overflow-x: auto; font-size: .82rem;
  line-height: 1.45; white-space: pre-wrap; overflow-wrap: anywhere; margin: .4rem 0; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 36rem) {
  body { padding: 1.2rem .9rem 3rem; }
  figure img { min-width: 34rem; max-width: none; }
  td.track, th.track { display: none; }
}
@media print {
  html { font-size: 9pt; }
  body { max-width: none; padding: 0; font-size: 1rem; }
  h2, h3 { break-after: avoid; }
  /* What is for another reader begins on a page of its own. */
  body > section ~ section { break-before: page; margin-top: 0; }
  figure, tr, ul.warnings { break-inside: avoid; }
  /* Paper cannot be scrolled: all is set smaller, and a figure fits a page below its heading. */
  .scroll, figure { overflow: visible; }
  figure img { min-width: 0; max-width: 100%; max-height: 21cm; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .search, nav { display: none; }
}
""" + '\n'.join(f'.dot.{name} {{ background: {hue}; }}' for name, hue in GROUP_COLOURS.items())
# Texts enter as text nodes, so that nothing in them is taken for HTML.
_SEARCH = """
const part = document.currentScript.parentElement, [input, said, table, data] = part.children;
const rows = JSON.parse(data.textContent), columns = table.querySelector('tr').cells, most = 50;
const plain = text => text.normalize('NFKC').toLowerCase();
const make = (tag, attributes, ...inside) => {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...inside);
  return made;
};
const cell = ([text, below], k) => make('td', {className: columns[k].className}, ...(
  k ? [text, make('small', {}, below)]
  : [make('span', {className: 'dot ' + below, title: below}), text]));
const show = () => {
  const words = plain(input.querySelector('input').value).split(/\\s+/).filter(word => word);
  const found = rows.filter(([[name]]) => words.every(word => plain(name).includes(word)));
  const more = found.length > most ? `, of which the ${most} largest in training:` : '';
  said.textContent = words.length ? `Found: ${found.length.toLocaleString('en')}${more}` : '';
  table.hidden = !words.length || !found.length;
  table.querySelector('tbody').replaceChildren(
    ...found.slice(0, most).map(row => make('tr', {}, ...row.map(cell))));
};
part.hidden = false;
part.addEventListener('input', show);
show();
"""


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def is_number(value: object) -> bool:
    """Whether a value read from JSON is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def escape(value: object) -> Markup:
    """Returns a value as HTML text; Markup as it is."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def paragraph(text: object, kind: str = '') -> Markup:
    """Returns one paragraph; `kind` is its CSS class."""
    return Markup(f'<p class="{kind}">{escape(text)}</p>')


def table(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[object]]) -> Markup:
    """Returns a table.

    Args:
      columns: heading and CSS class ('', 'name', 'words', 'number', 'range', 'track') of each column.
      rows: cells, escaped unless Markup; or pairs of a text and what stands below it in small
        print, of a 'name' the group of classes whose colour it has.
    """
    head = ''.join(f'<th class="{kind}">{escape(title)}</th>' for title, kind in columns)
    lines = (
        ''.join(_cell(cell, kind) for (_, kind), cell in zip(columns, row, strict=True))
        for row in rows
    )
    body = ''.join(f'<tr>{line}</tr>\n' for line in lines)
    return Markup(
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f'<tbody>{body}</tbody></table></div>'
    )


def _cell(cell: object, kind: str) -> str:
    text, other = map(escape, cell if isinstance(cell, tuple) else (cell, ''))
    spot = f'<span class="dot {other}" title="{other}"></span>' if kind == 'name' else ''
    below = f'<small>{other}</small>' if other and not spot else ''
    return f'<td class="{kind}">{spot}{text}{below}</td>'


def interval_bar(value: float, low: float, high: float) -> Markup:
    """Returns a bar from 0 to 1 with an interval and its value; parts outside are cut off."""
    value, low, high = (100 * min(max(float(x), 0.0), 1.0) for x in (value, low, high))
    return Markup(
        f'<span class="bar"><i style="left:{low:.2f}%;width:{high - low:.2f}%"></i>'
        f'<b style="left:{value:.2f}%"></b></span>'
    )


def search(
    title: str, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[tuple[str, str]]]
) -> Markup:
    """Returns a box that finds rows of a `table`, from the largest class, by the name in their first cell.

    It needs JavaScript and shows nothing without.
    """
    data = json.dumps(rows, ensure_ascii=False, separators=(',', ':')).replace('<', '\\u003c')
    return Markup(
        f'<div class="search" hidden><label>{escape(title)} '
        f'<input type="search" placeholder="part of the name"></label><p class="note" role="status"></p>'
        f'{table(columns, [])}<script type="application/json">{data}</script>'
        f'<script>{{{_SEARCH}}}</script></div>'
    )


def picture(svg: str, alternative: str, caption: str = '') -> Markup:
    """Returns a figure with the SVG inside; as an image it cannot run scripts."""
    data = base64.b64encode(svg.encode()).decode()
    below = f'<figcaption>{escape(caption)}</figcaption>' if caption else ''
    return Markup(
        f'<figure><img alt="{escape(alternative)}" src="data:image/svg+xml;base64,{data}">'
        f'{below}</figure>'
    )


def listing(lines: Sequence[object], kind: str = '') -> Markup:
    """Returns lines as a list; `kind` is its CSS class."""
    items = ''.join(f'<li>{escape(line)}</li>' for line in lines)
    return Markup(f'<ul class="{kind}">{items}</ul>')


def details(summary: str, text: str) -> Markup:
    """Returns preformatted text that is folded away."""
    return Markup(f'<details><summary>{escape(summary)}</summary>{preformatted(text)}</details>')


def preformatted(text: str) -> Markup:
    """Returns text with its line breaks."""
    return Markup(f'<pre>{escape(text)}</pre>')


def document(title: str, lead: Markup, parts: Mapping[str, Sequence[tuple[str, Markup]]]) -> str:
    """Returns a whole page.

    Args:
      title: of the page.
      lead: what stands below the title, above the links to all that follows.
      parts: by heading the sections of a part, each its heading and what it holds. No two headings are equal.
    """
    links, body = [], []
    for part, sections in parts.items():
        inside = ' '.join(f'<li>{_link(heading)}</li>' for heading, _ in sections)
        links.append(f'<li>{_link(part)} <ul>{inside}</ul></li>\n')
        shown = '\n'.join(_section(3, heading, f'{content}\n') for heading, content in sections)
        body.append(_section(2, part, f'{shown}\n'))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<style>{_CSS}</style>\n</head>\n'
        f'<body>\n<h1>{escape(title)}</h1>\n{lead}\n'
        f'<nav aria-label="Contents"><ul>\n{"".join(links)}</ul></nav>\n'
        f'{"".join(body)}</body>\n</html>\n'
    )


def _link(heading: str) -> str:
    return f'<a href="#{_anchor(heading)}">{escape(heading)}</a>'


def _section(level: int, heading: str, content: str) -> str:
    """Returns a section below a heading of level 2 or 3, which names it to a screen reader."""
    anchor = _anchor(heading)
    return (
        f'<section aria-labelledby="{anchor}">\n<h{level} id="{anchor}">{escape(heading)}</h{level}>\n'
        f'{content}</section>\n'
    )


def _anchor(heading: str) -> str:
    """Returns what links name a heading by.

    >>> _anchor('Head, medium and tail')
    'head-medium-and-tail'
    """
    return '-'.join(re.findall(r'\w+', heading.lower()))
