"""What was counted in compiled steps, as Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from . import hlo_account, tables

_GB = 1e9


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns three tables of the steps of scripts/ahead_of_time.py: the whole, by part, and between chips."""
    drawn = [tables.rows([whole(row) for row in rows]), tables.rows([by_part(row) for row in rows])]
    shared = [row for row in rows if row['collectives']]
    if shared:
        drawn.append(tables.rows([between(row) for row in shared]))
    return '\n\n'.join(drawn) + '\n'


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    chips = f'{row["chips"]} {row["device"]}' + (f', fsdp {row["fsdp"]}' if row['fsdp'] > 1 else '')
    return {'step': row['step'], 'chips': chips}


def whole(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a chip does in a step, and the least time it can take."""
    kernels = row['kernels']
    moved = sum(kernels.get(kind, 0) for kind in ('copy', 'transpose'))
    return _named(row) | {
        'batch': row['batch'],
        'pixels': row['pixels'] or '',
        'memory, GB': row['memory'] / _GB,
        'of': row['memory_of_device'] / _GB,
        'operations, 1e9': row['operations'] / _GB,
        'bytes, 1e9': row['bytes'] / _GB,
        'gathers, 1e6': row['gathered'] / 1e6,
        'bound, ms': row['bound_ms'],
        'kernels': sum(kernels.values()),
        'matrix, reductions, moves': f'{kernels.get("matrix", 0)}, {kernels.get("reduction", 0)}, {moved}',
    }


def by_part(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the bytes of each part, 1e9, and its share of the bound."""
    parts = row['parts']
    return _named(row) | {
        part: f'{tables.shown(parts[part]["bytes"] / _GB)} ({100 * parts[part]["share"]:.0f} %)'
        if part in parts
        else ''
        for part in hlo_account.PARTS
    }


def between(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the collectives: how many of each kind, and how many millions of bytes."""
    return _named(row) | {
        kind: f'{sums["count"]}: {tables.shown(sums["bytes"] / 1e6)} MB'
        for kind, sums in row['collectives'].items()
    }
