"""A table of runs: values of every seed, and paired differences to references."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.errors import UserError, unknown
from ltjax.evaluation import paired, prediction_files
from ltjax.evaluation.bootstrap import clusters_of
from ltjax.evaluation.confusion import METRICS as PAIRED
from ltjax.evaluation.groups import GROUP_NAMES
from ltjax.evaluation.table import METRIC_TITLES

COLUMNS = (
    'balanced_accuracy',
    'macro_f1',
    'head_recall',
    'medium_recall',
    'tail_recall',
    'macro_auc',
)

VALIDATION = 'val_balanced_accuracy'


def compare(
    runs: Mapping[str, Sequence[pathlib.Path]],
    references: Sequence[str],
    columns: Sequence[str] = COLUMNS,
) -> dict[str, Any]:
    """Returns values of every seed and paired differences to the references, by experiment.

    Resamples draw whole groups of images where the runs know them. Beside each p-value of `paired.compare` stands
    'p_holm', which holds for all rows of the table together.

    Args:
      runs: workdirs of each experiment, in the order of the seeds.
      references: those to compare with.
      columns: metrics; the differences are of the first, and of macro F1 and the tail's recall if they are there.

    Raises:
      UserError: none of the references is there, a column is unknown, or runs were tested on other images.
    """
    references = [name for name in references if name in runs]
    if not references:
        raise UserError('none of the experiments to compare with came to its end.')
    results = {name: [results_of(run) for run in workdirs] for name, workdirs in runs.items()}
    first = next(iter(runs))
    for name, made in results.items():
        for run, result in zip(runs[name], made, strict=True):
            check_data(run, result, results[first][0])
    like = prediction_files.read(runs[first][0] / 'predictions.npz')
    predicted = {
        name: [prediction_files.read(run / 'predictions.npz').like(like) for run in runs[name]]
        for name in runs
    }
    clusters = clusters_of(like.groups)
    sample = results[first][0]
    compared = {
        name: spec
        for name in dict.fromkeys((columns[0], 'macro_f1', 'tail_recall'))
        if name in columns and (spec := paired_metric(name, sample)) is not None
    }
    table: dict[str, dict[str, Any]] = {
        name: {
            'values': {
                column: [value(result, column) for result in results[name]] for column in columns
            },
            'folds': _of_folds(results[name], columns),
            'seconds': [result['seconds'] for result in results[name]],
        }
        | {
            f'vs {reference}': paired.compare(
                like.labels, predicted[name], predicted[reference], compared, clusters=clusters
            )
            for reference in references
        }
        for name in runs
    }
    for reference in references:
        others: list[dict[str, Any]] = [
            row[f'vs {reference}'] for name, row in table.items() if name != reference
        ]
        for column in compared:
            tested = [row[column] for row in others if row[column]['p'] is not None]
            for one, p in zip(tested, paired.holm([one['p'] for one in tested]), strict=True):
                one['p_holm'] = p
    return {
        'references': references,
        'columns': list(columns),
        'num_images': len(like.ids),
        'num_groups': None if clusters is None else int(clusters.max()) + 1,
        'train_counts': sample['train_counts'],
        'split_sha256': sample['split_sha256'],
        'versions': sample['versions'],
        'experiments': table,
    }


def results_of(run: pathlib.Path) -> dict[str, Any]:
    """Returns what the results.json of a run holds."""
    found: dict[str, Any] = json.loads((run / 'results.json').read_text('utf-8'))
    return found


def _of_folds(
    results: Sequence[Mapping[str, Any]], columns: Sequence[str]
) -> dict[str, list[float]]:
    """Returns by column the metric of every fold of every run, where runs have folds and these have it."""
    folds = [fold for result in results for fold in result.get('folds', ())]
    found = {column: [fold.get(column) for fold in folds] for column in columns}
    return {column: of for column, of in found.items() if of and None not in of}


def value(result: Mapping[str, Any], column: str) -> float | None:
    """Returns a metric of a run, None where there is none.

    It can also be the mean recall of a group (tail_recall), a figure of a class (class_f1:NAME), seconds, or
    val_balanced_accuracy: of the validation images, at the round that was kept.

    Raises:
      UserError: there is no such metric.
    """
    if column == 'seconds':
        return float(result['seconds'])
    if column == VALIDATION:
        kept: float | None = result.get('best', {}).get(column)
        return kept
    test, group = result['test'], column.removesuffix('_recall')
    figure, of_class, name = column.removeprefix('class_').partition(':')
    if of_class:
        rows: list[float | None] = [
            row[figure]['value'] for row in test['per_class'] if row['name'] == name
        ]
        return rows[0] if rows else None
    if group in GROUP_NAMES:
        found = test['groups'].get(group, {}).get('recall', {'value': None})
    elif column in METRIC_TITLES:
        found = test['metrics'].get(column, {'value': None})
    else:
        groups = [f'{name}_recall' for name in GROUP_NAMES]
        raise unknown('column', column, [*METRIC_TITLES, *groups])
    number: float | None = found['value']
    return number


def paired_metric(column: str, result: Mapping[str, Any]) -> Any:
    """Returns what `paired.compare` takes for a column, of a run's results; None where it has none."""
    group = column.removesuffix('_recall')
    if group in GROUP_NAMES:
        index = {name: k for k, name in enumerate(result['class_names'])}
        classes = result['test']['groups'].get(group, {}).get('classes', ())
        return [index[name] for name in classes] or None
    if column.startswith('class_recall:'):
        return [result['class_names'].index(column.partition(':')[2])]
    return column if column in PAIRED else None


def check_data(run: pathlib.Path, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuses a run on other images, or on another split of them; labels and classes are compared by name later.

    Raises:
      UserError: something differs.
    """
    identities = [result['data']['identity'] for result in (ours, theirs)]
    for kind in ('images', 'split', 'contents'):
        if identities[0][kind] != identities[1][kind]:
            raise UserError(
                f'{run} is of other data than the runs beside it (its {kind} differ): remove it.'
            )


def markdown(
    benchmark: str,
    seeds: Sequence[int],
    comparison: Mapping[str, Any],
    marks: Mapping[str, Sequence[str]] = {},
    lacking: Mapping[str, str] = {},
) -> str:
    """Lays the comparison out as a table: percent, mean over seeds, differences with 95 % intervals.

    A difference is in bold where it differs from zero by Holm's correction over the rows, at 5 %.

    Args:
      benchmark: its name.
      seeds: of the runs.
      comparison: from `compare`.
      marks: what is said of rows behind their names.
      lacking: rows that are left out, and why.
    """
    rows, references = comparison['experiments'], comparison['references']
    columns = comparison['columns']
    # The first column beside all references, the others beside the first.
    pairs = [(columns[0], reference) for reference in references]
    pairs += [(name, references[0]) for name in ('macro_f1', 'tail_recall') if name in columns[1:]]
    header = ['method', *(title(name) for name in columns)]
    header += [f'{name.replace("_", " ")} - {reference}' for name, reference in pairs]
    of = 'images (taken as independent)'
    if comparison['num_groups'] is not None:
        of = f'images of {comparison["num_groups"]:,} groups (drawn whole)'
    training = ' and the training' if len(seeds) > 1 else ', but not the training'
    said = [
        f'{benchmark}, seeds {", ".join(map(str, seeds))}; percent, mean over the seeds.',
        f'Intervals (95 %) cover the choice of {comparison["num_images"]:,} test {of}{training}.',
        'Bold: not zero at 5 %, corrected for the rows of the table (Holm).',
    ]
    lines = [' '.join(said), '']
    lines += ['| ' + ' | '.join(header) + ' |', '|---' * len(header) + '|']
    for name, row in rows.items():
        of_row = marks.get(name, ())
        cells = [f'{name} ({"; ".join(of_row)})' if of_row else name]
        for column in columns:
            values = row['values'][column]
            cells.append('' if None in values else f'{100 * np.mean(values):.1f}')
        for column, reference in pairs:
            d = row[f'vs {reference}'].get(column)
            if name == reference or d is None or d['difference'] is None:
                cells.append('')
                continue
            low, high = 100 * d['low'], 100 * d['high']
            text = f'{100 * d["difference"]:+.1f} [{low:+.1f}, {high:+.1f}]'
            cells.append(f'**{text}**' if d['p_holm'] < paired.LEVEL else text)
        lines.append('| ' + ' | '.join(cells) + ' |')
    if lacking:
        lines += ['', *(f'- {name} is left out, {why}' for name, why in lacking.items())]
    return '\n'.join(lines) + '\n'


def title(column: str) -> str:
    """Returns what a table calls a column."""
    figure, of_class, name = column.removeprefix('class_').partition(':')
    if of_class:
        return f'{figure} of {name}'
    if column == VALIDATION:
        return 'balanced accuracy on validation images'
    said = METRIC_TITLES.get(column, column.removesuffix('_recall'))
    return said.removeprefix('Macro ') if column == 'macro_auc' else f'{said[0].lower()}{said[1:]}'
