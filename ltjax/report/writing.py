"""`write_report`: everything a run left in its workdir, on one self-contained page for three readers."""

import datetime
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltjax import files
from ltjax.errors import UserError
from ltjax.evaluation.groups import by_training_size
from ltjax.evaluation.table import METRIC_TITLES, class_sizes, listed, percent, percent_range
from ltjax.report import class_sections, decision_sections, errors, figures, page, summary
from ltjax.report.page import Markup

_CURVES = ('loss', 'val_balanced_accuracy')
# Names of classes in one cell.
_MAX_LISTED = 20
_FIGURE_COLUMNS = (('percent', 'number'), ('95 % interval', 'range'), ('', 'track'))


def write_report(workdir: pathlib.Path) -> pathlib.Path:
    """Writes report.html beside the files it is made from, replacing it in one move.

    Reads results.json, and as far as they are there config.json, metrics.jsonl and predictions.npz
    (labels, features). What is missing is said in one sentence in place of its section.

    Returns:
      The path of the report.

    Raises:
      UserError: results.json is missing or is not what a run writes.
    """
    workdir = pathlib.Path(workdir)
    results = _read_json(workdir / 'results.json')
    if not isinstance(results, dict) or 'test' not in results:
        raise UserError(f'{workdir}: no readable results.json with test metrics: finish the run.')
    config = _read_json(workdir / 'config.json')
    test = results['test']
    order = by_training_size(class_sizes(test['per_class'])[0])
    title = f'{results.get("method", "A run")} on {results.get("benchmark") or results.get("dataset", "its data set")}'
    parts = {
        'For the clinician': [
            ('In short', summary.in_short(test, order)),
            ('Read with care', _warnings(test)),
            ('Confusions', class_sections.confusions(test, order)),
            ('Errors on rare classes', errors.errors(workdir / 'errors.npz')),
            ('Operating points', decision_sections.operating_points(test, order)),
            ('Referral', decision_sections.referred(test)),
        ],
        'For the statistician': [
            ('Test metrics', _headline(test)),
            ('Head, medium and tail', _groups(test)),
            ('Classes', class_sections.classes(test, order)),
            ('Beside its own test', decision_sections.beside(results.get('internal'))),
            ('Compared', decision_sections.against(results.get('against'))),
            ('Subgroups', decision_sections.subgroups(test)),
            ('Calibration', decision_sections.calibrated(test)),
            ('Prediction sets', decision_sections.prediction_sets(test, order)),
        ],
        'For the engineer': [
            ('Learning curves', _curves(workdir / 'metrics.jsonl')),
            (
                'Map of test features',
                class_sections.features(workdir / 'predictions.npz', test, order),
            ),
            ('Inside the model', class_sections.plots(results, order)),
            ('Data', _data(results.get('data'))),
            ('How it was run', _config(config, results)),
        ],
    }
    target = workdir / 'report.html'
    shown = {
        reader: [(heading, content) for heading, content in sections if content]
        for reader, sections in parts.items()
    }
    lead = _facts(results, workdir / 'results.json')
    with files.whole(target, f'{os.getpid()}.tmp') as temporary:  # others may write it too
        temporary.write_text(page.document(title, lead, shown), encoding='utf-8')
    return target


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the rows of a metrics.jsonl; lines cut short by an interruption are left out."""
    rows = []
    for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def curves_by_stage(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, np.ndarray]]:
    """Returns, by stage, [points, 2] arrays (step, value) of loss and validation accuracy.

    Where an interrupted run was resumed a step may have two rows: the later one counts. Values that
    are not finite numbers are left out.
    """
    stages: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        if not page.is_number(row.get('step')):
            continue
        for name in _CURVES:
            if page.is_number(row.get(name)):
                stage = stages.setdefault(str(row.get('stage', 'train')), {n: {} for n in _CURVES})
                stage[name][row['step']] = row[name]
    return {
        stage: {
            name: np.array(sorted(points.items()), float).reshape(-1, 2)
            for name, points in by_name.items()
        }
        for stage, by_name in stages.items()
    }


def _read_json(path: pathlib.Path) -> Any:
    """Returns what a JSON file holds, None if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None


def _figure_cells(figure: Mapping[str, Any]) -> list[object]:
    """Cells for _FIGURE_COLUMNS."""
    if figure['value'] is None:
        return ['-', '', '']
    bar = page.interval_bar(figure['value'], figure['low'], figure['high'])
    return [percent(figure['value']), percent_range(figure), bar]


def _facts(results: Mapping[str, Any], path: pathlib.Path) -> Markup:
    written = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    facts = [f'seed {results["seed"]}'] if 'seed' in results else []
    if page.is_number(results.get('seconds')):
        facts.append(f'{_duration(results["seconds"])} of training')
    test = results['test']
    sizes, title = class_sizes(test['per_class'])
    training = f'{sum(sizes):,} training and ' if title == 'training images' else ''
    of_groups = f' of {test["num_groups"]:,} groups' if test.get('num_groups') else ''
    facts.append(f'{training}{test["num_images"]:,} test images{of_groups}')
    facts.append(f'finished {written:%Y-%m-%d %H:%M} UTC')
    return page.paragraph(' · '.join(facts), 'facts')


def _duration(seconds: float) -> str:
    """Returns a time span in words.

    >>> _duration(42), _duration(200), _duration(7500)
    ('42 s', '3 min', '2 h 5 min')
    """
    if seconds < 100:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes} min' if minutes < 60 else f'{minutes // 60} h {minutes % 60} min'


def _headline(test: Mapping[str, Any]) -> Markup:
    rows = [
        [METRIC_TITLES.get(name, name), *_figure_cells(figure)]
        for name, figure in test['metrics'].items()
    ]
    drawn = 'the test images, taken as independent'
    if test.get('num_groups'):
        drawn = f'the {test["num_groups"]:,} groups of test images (patients, lesions, smears)'
    note = f'Intervals: stratified bootstrap of {drawn}; they hold no training variation.'
    return Markup(page.table([('', ''), *_FIGURE_COLUMNS], rows) + page.paragraph(note, 'note'))


def _groups(test: Mapping[str, Any]) -> Markup:
    rows = [
        [
            (name, name),
            *_figure_cells(group['recall']),
            listed(group['classes'], _MAX_LISTED),
        ]
        for name, group in test['groups'].items()
    ]
    columns = [('mean recall of', 'name'), *_FIGURE_COLUMNS, ('classes', '')]
    return page.table(columns, rows)


def _warnings(test: Mapping[str, Any]) -> Markup:
    if not test.get('warnings'):
        return page.paragraph('One test image moves no figure by more than one point.', 'note')
    return page.listing(test['warnings'], 'warnings')


def _curves(path: pathlib.Path) -> Markup:
    curves = curves_by_stage(read_metrics(path)) if path.is_file() else {}
    if not curves:
        return page.paragraph('Left out: metrics.jsonl holds no curves.', 'note')
    return page.picture(figures.learning_curves(curves), 'Curves of loss and validation accuracy')


def _data(said: Any) -> Markup:
    """Lists what was decided about the data when they were read, see `ltjax.data.summary`."""
    if not isinstance(said, dict):
        return page.paragraph('Left out: results.json does not say of the data.', 'note')
    identity = said.get('identity', {}).get('sha256', '')
    lines = [f'From {said["where"]} ({said["layout"]}).', *said['said']]
    return page.listing([*lines, f'identity of the data: sha256 {identity[:12]}'])


def _config(config: Any, results: Mapping[str, Any]) -> Markup:
    parts = []
    for name, title in (('best', 'Kept for the test'), ('versions', 'Versions')):
        if isinstance(results.get(name), dict):
            text = ', '.join(f'{key} {_short(value)}' for key, value in results[name].items())
            parts.append(page.paragraph(f'{title}: {text}.'))
    if isinstance(results.get('parameters'), str):
        parts.append(page.details('The parameters of the network', results['parameters']))
    if config is None:
        parts.append(page.paragraph('Left out: there is no readable config.json.', 'note'))
        return Markup(''.join(parts))
    command = config.get('command') if isinstance(config, dict) else None
    if command:
        text = command if isinstance(command, str) else ' '.join(map(str, command))
        parts.append(page.preformatted(text))
    parts.append(page.details('The configuration as run', json.dumps(config, indent=2)))
    return Markup(''.join(parts))


def _short(value: object) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
