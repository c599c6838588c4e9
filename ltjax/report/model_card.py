"""`write_model_card`: what a reader should know of a model, in the sections of Mitchell et al. (FAT* 2019).

A run fills in what it knows; what it cannot know is marked as the author's.
"""

import datetime
import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from ltjax import files
from ltjax.errors import UserError
from ltjax.evaluation.groups import by_training_size
from ltjax.evaluation.table import class_sizes
from ltjax.report import card_sections, checklist, summary
from ltjax.report.markdown import table, text

FILE = 'model_card.md'
_TODO = '**TODO by the author:**'
_INTRODUCTION = (
    f'{summary.NO_DEVICE} The sections are those of Mitchell et al., Model Cards for Model Reporting, 2019. A run has '
    'filled in what it knows. What it cannot know is marked **TODO by the author**.'
)
_GUIDELINES = (
    'Items of CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 6(4), e240300) and of TRIPOD+AI (Collins '
    'et al., BMJ 385, e078378, 2024) that a run can help with, in our words: the originals say what each asks for.'
)


def write_model_card(workdir: pathlib.Path) -> pathlib.Path:
    """Writes model_card.md from results.json and, if it is there, config.json.

    A card of the same results.json stays as it is, since its author may have filled it in. A card of other results is
    kept under a name with its date.

    Returns:
      The path of the card.

    Raises:
      UserError: results.json is missing or is not what a run writes.
    """
    target = pathlib.Path(workdir) / FILE
    source = target.with_name('results.json')
    results, config = _read(source), _read(target.with_name('config.json'))
    if 'test' not in results:
        raise UserError(f'{workdir}: no readable results.json with test metrics: finish the run.')
    made_from = hashlib.sha256(source.read_bytes()).hexdigest()
    if target.exists():
        if made_from in target.read_text('utf-8', errors='replace'):
            return target
        written = datetime.datetime.fromtimestamp(target.stat().st_mtime, datetime.UTC)
        target.rename(target.with_name(f'model_card.{written:%Y-%m-%dT%H%M%S}.md'))
    files.write_text(target, _card(results, config, made_from))
    return target


def _read(path: pathlib.Path) -> dict[str, Any]:
    """Returns what a JSON file holds, {} if it is missing, broken or something else."""
    try:
        held = json.loads(path.read_text('utf-8'))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _card(results: Mapping[str, Any], config: Mapping[str, Any], made_from: str) -> str:
    test, settings = results['test'], config.get('config') or {}
    order = by_training_size(class_sizes(test['per_class'])[0])
    name = results.get('method_title') or results.get('method') or 'A model'
    data = results.get('benchmark') or results.get('dataset') or 'its data set'
    sections: dict[str, Iterable[str]] = {
        'Model details': _details(results, config, settings),
        'Intended use': _todo(
            'what the model is for, and for which patients and images',
            'who is meant to use it, and what they should know',
            'uses that it is not for',
        ),
        'Factors': [*card_sections.factors(results), *_todo(
            'figures by age, sex, skin type, device and site, as far as they are not here: a run gives them by the '
            'columns that data.further names'
        )],
        'Metrics': card_sections.metrics(test),
        'Data': [*card_sections.data(results, order), *_todo(
            'hospitals, devices and dates; who was included and who was not',
            'what the labels rest on, who labelled, and how well labellers agreed',
        )],
        'Quantitative analyses': card_sections.analyses(test, order),
        'Ethical considerations': _todo(
            "the ethics committee's approval, consent, and how patients were made unrecognisable",
            'harm that a wrong call can do, by class',
        ),
        'Limits': [*card_sections.limits(results, order), *_todo('what else limits what the figures say')],
        'Reporting checklist': [
            _GUIDELINES,
            '',
            *table(checklist.COLUMNS, checklist.rows(results, settings)),
        ],
    }  # fmt: skip
    lines = [f'# Model card: {text(name)} on {text(data)}', '', _INTRODUCTION]
    for heading, content in sections.items():
        lines += ['', f'## {heading}', '', *content]
    return '\n'.join([*lines, '', f'Made from results.json, sha256 {made_from}.', ''])


def _todo(*asked: str) -> list[str]:
    return [f'- {_TODO} {each}' for each in asked]


def _parameters(results: Mapping[str, Any]) -> str:
    whole = results['num_parameters']
    trained = results.get('num_trained', whole)
    return f'{whole:,} parameters' + (f', of which {trained:,} trained' if trained < whole else '')


def _details(
    results: Mapping[str, Any], config: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[str]:
    lines = []
    if 'method' in results:
        title = f' ({results["method_title"]})' if 'method_title' in results else ''
        paper = f', {results["paper"]}' if results.get('paper') else ''
        lines.append(f'Method: {results["method"]}{title}{paper}')
    network = settings.get('model', {}).get('name', 'its name is in config.json')
    if 'num_parameters' in results:
        network += f', {_parameters(results)}'
    if 'image_shape' in results:
        network += f'; input {" x ".join(map(str, results["image_shape"]))}'
    classes = len(results['test']['per_class'])
    lines.append(f'Network: {network}; output: a probability of each of {classes:,} classes')
    lines += _weights(results, settings)
    if 'seed' in results:
        lines.append(f'Seed: {results["seed"]}')
    if 'started' in config:
        lines.append(f'Date: the run began {config["started"]}')
    for key, title in (('best', 'Kept for the test'), ('versions', 'Versions')):
        if key in results:
            pairs = (f'{name} {_short(value)}' for name, value in results[key].items())
            lines.append(f'{title}: {", ".join(pairs)}')
    if config.get('source'):
        git = f', git {config["git"]}' if config.get('git') else ''
        lines.append(f'Source of ltjax: sha256 {config["source"]}{git}')
    if 'folds' in results:
        lines.append(
            f'Cross-validation: {len(results["folds"])} networks, one a fold. The figures are of all test folds '
            'together, each image called by the network that had not seen it; they are of no single network'
        )
    return [*(f'- {text(line)}' for line in lines), *_todo('contact, licence, how to cite')]


def _weights(results: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Says where the initial weights are from."""
    loaded = results.get('pretrained')
    if loaded:
        return [f'Initial weights: {loaded["name"]}, sha256 {loaded["sha256"]}']
    if settings.get('start_from'):
        return [f'Initial weights: those after the first stage of {settings["start_from"]}']
    return ['Initial weights: drawn with the seed'] if settings else []


def _short(value: object) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
