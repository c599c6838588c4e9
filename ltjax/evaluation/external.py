"""A model at another place beside its own test: what it finds there, and how different the patients are."""

from collections.abc import Mapping
from typing import Any

from ltjax.evaluation.table import METRIC_TITLES, percent, percent_range


def beside(internal: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """Sets the figures of two test sets of one model side by side.

    The two have no image in common, so that their intervals are independent of each other.

    Args:
      internal: what `ltjax.evaluation.metrics.evaluate` returned of the run's own test.
      there: of the other place, of the same classes.

    Returns:
      JSON-able: 'metrics' and 'groups' by name, and 'per_class' a list: {'internal', 'external'} figures; of a class
      also its share of the images ('internal_share', 'external_share').
    """

    def pair(one: Any, other: Any) -> dict[str, Any]:
        return {'internal': one, 'external': other}

    of_class = {row['name']: row for row in internal['per_class']}
    return {
        'metrics': {
            name: pair(internal['metrics'][name], figure)
            for name, figure in there['metrics'].items()
            if name in internal['metrics']
        },
        'groups': {
            name: pair(internal['groups'][name]['recall'], group['recall'])
            for name, group in there['groups'].items()
            if name in internal['groups']
        },
        'per_class': [
            {'name': row['name']}
            | pair(of_class[row['name']]['recall'], row['recall'])
            | {
                'internal_share': of_class[row['name']]['test_count'] / internal['num_images'],
                'external_share': row['test_count'] / there['num_images'],
            }
            for row in there['per_class']
        ],
    }


def text(found: Mapping[str, Any]) -> str:
    """Lays out what `beside` returned for a terminal."""
    lines = [f'{"percent, 95 % interval":<28} {"own test":>20}  {"there":>20}', '']
    for name, figures in found['metrics'].items():
        lines.append(_row(METRIC_TITLES.get(name, name), figures))
    lines += [_row(f'{name.capitalize()} recall', row) for name, row in found['groups'].items()]
    lines += ['', f'{"recall by class":<28} {"own test":>20}  {"there":>20}  share of images']
    for row in found['per_class']:
        shares = f'{percent(row["internal_share"])} -> {percent(row["external_share"])}'
        lines.append(f'{_row(row["name"], row)}  {shares}')
    return '\n'.join(lines)


def _row(title: str, figures: Mapping[str, Any]) -> str:
    cells = [
        f'{percent(figures[side]["value"])} {percent_range(figures[side])}'.rstrip()
        for side in ('internal', 'external')
    ]
    return f'{title[:27]:<28} {cells[0]:>20}  {cells[1]:>20}'
