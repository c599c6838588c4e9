"""A file of figures as Markdown, for docs/performance.md."""

from collections.abc import Mapping, Sequence
from typing import Any


def markdown(results: Mapping[str, Any]) -> str:
    """Returns a table for each case of what scripts/benchmark.py writes, below a line about the machine."""
    machine = ', '.join(f'{name} {value}' for name, value in results['machine'].items())
    parts = [machine]
    for case, rows in results['cases'].items():
        parts += [f'### {case}', table(rows)]
    return '\n\n'.join(parts) + '\n'


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the figures of a case, a measurement a line; or a figure a line, where there are more of these."""
    lines = _lines(rows)
    if len(lines[0]) > len(rows):
        lines = [list(column) for column in zip(*lines, strict=True)]
    return _drawn(lines)


def rows(measured: Sequence[Mapping[str, Any]]) -> str:
    """Returns the figures of a case, a measurement a line."""
    return _drawn(_lines(measured))


def _lines(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [names, *([shown(row.get(name, '')) for name in names] for row in rows)]


def _drawn(lines: Sequence[Sequence[str]]) -> str:
    ruled = [lines[0], ['---'] * len(lines[0]), *lines[1:]]
    return '\n'.join(f'| {" | ".join(line)} |' for line in ruled)


def shown(value: Any) -> str:
    """Returns a figure with three significant digits, whole numbers and words as they are."""
    if isinstance(value, Mapping):
        return ', '.join(f'{name} {shown(part)}' for name, part in value.items())
    if isinstance(value, list):
        return ', '.join(map(shown, value))
    if not isinstance(value, float):
        return str(value)
    if abs(value) >= 100:
        return f'{value:.0f}' if abs(value) < 1e6 else f'{value:.3g}'
    return f'{value:#.3g}'
