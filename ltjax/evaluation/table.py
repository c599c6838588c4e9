"""The metrics of a run as plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

METRIC_TITLES = {
    'accuracy': 'Accuracy',
    'balanced_accuracy': 'Balanced accuracy',
    'macro_f1': 'Macro F1',
    'macro_precision': 'Macro precision',
    'macro_recall': 'Macro recall',
    'macro_auc': 'Macro AUC',
    'quadratic_kappa': 'Quadratic kappa',
}


def class_sizes(per_class: Sequence[Mapping[str, Any]]) -> tuple[list[int], str]:
    """Returns the images of each class by which classes are ordered, and what to call them.

    Those of training; of the test where the former are not known.

    Args:
      per_class: rows of `ltjax.evaluation.metrics.evaluate`.
    """
    which = 'train' if all(row['train_count'] is not None for row in per_class) else 'test'
    title = {'train': 'training images', 'test': 'test images'}[which]
    return [row[f'{which}_count'] for row in per_class], title


def percent(value: float | None) -> str:
    """Returns a fraction as a percentage with one decimal, '-' for an undefined one.

    >>> percent(0.8125)
    '81.2'
    """
    return '-' if value is None else f'{100 * value:.1f}'


def percent_range(figure: Mapping[str, float | None]) -> str:
    """Returns the interval of {'value', 'low', 'high'} in brackets, '' for an undefined one."""
    if figure['value'] is None:
        return ''
    return f'[{percent(figure["low"])}, {percent(figure["high"])}]'


def listed(names: Sequence[str], at_most: int = 4) -> str:
    """Returns names with commas, the first ones alone if there are many.

    >>> listed(['a', 'b', 'c'], at_most=2)
    'a, b and 1 more'
    """
    more = f' and {len(names) - at_most:,} more' if len(names) > at_most else ''
    return ', '.join(names[:at_most]) + more


def listed_figures(figures: Mapping[str, float]) -> str:
    """Returns percentages by metric in one line.

    >>> listed_figures({'macro_f1': 80.5, 'accuracy': 87.8})
    'macro F1 80.5, accuracy 87.8'
    """
    titles = ((METRIC_TITLES.get(name, name), value) for name, value in figures.items())
    return ', '.join(f'{title[0].lower()}{title[1:]} {value:.4g}' for title, value in titles)


def format_metrics(results: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """Lays out the headline metrics and group recalls for a terminal, under 80 columns.

    Args:
      results: what `ltjax.evaluation.metrics.evaluate` returned, or a results.json that holds it
        under 'test'.
      names: the metrics, in their order; none: all.
    """
    test = results.get('test', results)
    lines = [f'{test["num_images"]} test images, percent, 95 % interval', '']
    shown = [name for name in names or test['metrics'] if name in test['metrics']]
    lines += [_row(METRIC_TITLES.get(name, name), test['metrics'][name]) for name in shown]
    if test['groups']:
        lines.append('')
    for name, group in test['groups'].items():
        classes = len(group['classes'])
        title = f'{name.capitalize()} recall ({classes} class{"es" if classes > 1 else ""})'
        lines.append(_row(title, group['recall']))
    return '\n'.join(lines)


def _row(title: str, figure: Mapping[str, float | None]) -> str:
    value = percent(figure['value'])
    return f'{title[:40]:<28} {value:>6}  {percent_range(figure)}'.rstrip()
