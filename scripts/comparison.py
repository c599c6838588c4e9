"""A table of runs: values of every seed, and paired differences to references."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.errors import UserError, unknown
from ltjax.evaluation.bootstrap import paired_bootstrap
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


def compare(
    runs: Mapping[str, Sequence[pathlib.Path]],
    references: Sequence[str],
    columns: Sequence[str] = COLUMNS,
) -> dict[str, Any]:
    """Returns values of every seed and paired differences to the references, by experiment.

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
    results = {
        name: [json.loads((run / 'results.json').read_text('utf-8')) for run in workdirs]
        for name, workdirs in runs.items()
    }
    first = next(iter(runs))
    with np.load(runs[first][0] / 'predictions.npz') as archive:
        like = {name: archive[name] for name in ('ids', 'labels', 'class_names')}
    labels = like['labels']
    for name, made in results.items():
        for run, result in zip(runs[name], made, strict=True):
            check_data(run, result, results[first][0])
    predictions = {
        name: [read_predictions(run / 'predictions.npz', like) for run in runs[name]]
        for name in runs
    }
    sample = results[first][0]
    paired = {
        name: spec
        for name in dict.fromkeys((columns[0], 'macro_f1', 'tail_recall'))
        if name in columns and (spec := _paired(name, sample)) is not None
    }
    table = {
        name: {
            'values': {
                column: [value(result, column) for result in results[name]] for column in columns
            },
            'seconds': [result['seconds'] for result in results[name]],
        }
        | {
            f'vs {reference}': paired_bootstrap(
                labels, predictions[name], predictions[reference], paired
            )
            for reference in references
        }
        for name in runs
    }
    return {
        'references': references,
        'columns': list(columns),
        'train_counts': sample['train_counts'],
        'split_sha256': sample['split_sha256'],
        'versions': sample['versions'],
        'experiments': table,
    }


def value(result: Mapping[str, Any], column: str) -> float | None:
    """Returns a metric of a run, or the mean recall of a group; None where there is none."""
    test, group = result['test'], column.removesuffix('_recall')
    if group in GROUP_NAMES:
        figure = test['groups'].get(group, {}).get('recall', {'value': None})
    elif column in METRIC_TITLES:
        figure = test['metrics'].get(column, {'value': None})
    else:
        groups = [f'{name}_recall' for name in GROUP_NAMES]
        raise unknown('column', column, [*METRIC_TITLES, *groups])
    found: float | None = figure['value']
    return found


def _paired(column: str, result: Mapping[str, Any]) -> Any:
    """Returns what `paired_bootstrap` takes for a column, None where it has none."""
    group = column.removesuffix('_recall')
    if group in GROUP_NAMES:
        index = {name: k for k, name in enumerate(result['class_names'])}
        classes = result['test']['groups'].get(group, {}).get('classes', ())
        return [index[name] for name in classes] or None
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


def read_predictions(path: pathlib.Path, like: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the predicted classes of the images and in the numbering of another run, matched by ids and names.

    Args:
      path: of a predictions.npz.
      like: 'ids', 'labels' and 'class_names' of the other run.

    Raises:
      UserError: it is of other images, labels or classes.
    """
    with np.load(path) as archive:
        theirs = {name: archive[name] for name in (*like, 'logits')}
    names = theirs['class_names'].tolist()
    if sorted(names) != sorted(like['class_names'].tolist()):
        raise UserError(f'{path} has the classes {", ".join(names)}, unlike the runs beside it.')
    place = {id_: row for row, id_ in enumerate(theirs['ids'].tolist())}
    if sorted(place) != sorted(like['ids'].tolist()):
        raise UserError(
            f'{path} was tested on other images than the runs beside it: remove its run.'
        )
    rows = [place[id_] for id_ in like['ids'].tolist()]
    number = {name: k for k, name in enumerate(like['class_names'].tolist())}
    renumbered = np.array([number[name] for name in names])
    if not np.array_equal(renumbered[theirs['labels'][rows]], like['labels']):
        raise UserError(f'{path} has other labels than the runs beside it: remove its run.')
    return renumbered[theirs['logits'].argmax(axis=1)[rows]]


def markdown(
    benchmark: str,
    seeds: Sequence[int],
    comparison: Mapping[str, Any],
    marks: Mapping[str, Sequence[str]] = {},
) -> str:
    """Lays the comparison out as a table: percent, mean over seeds, differences with 95 % intervals.

    Args:
      benchmark: its name.
      seeds: of the runs.
      comparison: from `compare`.
      marks: what is said of rows behind their names.
    """
    rows, references = comparison['experiments'], comparison['references']
    columns = comparison['columns']
    # The first column beside all references, the others beside the first.
    pairs = [(columns[0], reference) for reference in references]
    pairs += [(name, references[0]) for name in ('macro_f1', 'tail_recall') if name in columns[1:]]
    header = ['method', *(_title(name) for name in columns)]
    header += [f'{name.replace("_", " ")} - {reference}' for name, reference in pairs]
    lines = [f'{benchmark}, seeds {", ".join(map(str, seeds))}; percent, mean over the seeds.', '']
    lines += ['| ' + ' | '.join(header) + ' |', '|---' * len(header) + '|']
    for name, row in rows.items():
        said = marks.get(name, ())
        cells = [f'{name} ({"; ".join(said)})' if said else name]
        for column in columns:
            values = row['values'][column]
            cells.append('' if None in values else f'{100 * np.mean(values):.1f}')
        for column, reference in pairs:
            d = row[f'vs {reference}'].get(column)
            if name == reference or d is None or d['difference'] is None:
                cells.append('')
                continue
            low, high = 100 * d['low'], 100 * d['high']
            cells.append(f'{100 * d["difference"]:+.1f} [{low:+.1f}, {high:+.1f}]')
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines) + '\n'


def _title(column: str) -> str:
    title = METRIC_TITLES.get(column, column.removesuffix('_recall'))
    return (
        title.removeprefix('Macro ') if column == 'macro_auc' else f'{title[0].lower()}{title[1:]}'
    )
