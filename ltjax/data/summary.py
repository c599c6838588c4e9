"""What was decided for the user when a data set was read: said at the start of a run, in its results and its report."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ltjax.data import splits
from ltjax.data.datasets import DataSet
from ltjax.written import values

# More classes than this are not listed one by one.
MAX_CLASSES = 24


def describe(
    data: DataSet, digests: Mapping[str, str], notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns it as JSON.

    Args:
      data: the set.
      digests: of its identity, see `identity.Identity.digests`.
      notes: further sentences.

    Returns:
      'where' and 'layout' of the files; 'images'; 'class_order': {'names', 'from', 'ordered'}; 'counts': by part of
      the split a number a class; 'split': {'from', 'sha256', 'thinned', 'leaks', 'conflicts', 'compared'}; 'groups':
      {'number', 'without'} or None; 'columns', by name {'names', 'without'}; 'excluded' and 'passed_over', by kind;
      'notes'; 'identity'; 'said': see `lines`.
    """
    table, raw, arrangement = data.table, data.raw, data.arrangement
    num_classes = len(data.class_names)
    said = {
        'where': table.where,
        'layout': table.written.layout,
        'images': len(data.ids),
        'class_order': {
            'names': list(data.class_names),
            'from': table.order_from,
            'ordered': table.ordered,
        },
        'counts': {
            name: np.bincount(data.labels[data.parts[name]], minlength=num_classes).tolist()
            for name in values.SPLITS
        },
        'split': {
            'from': arrangement.split_from,
            'sha256': splits.fingerprint(data.parts, data.ids),
            'thinned': arrangement.thinned,
            'leaks': dict(arrangement.leaks),
            'conflicts': arrangement.conflicts,
            'compared': bool((raw.digests != '').any()),
        },
        'groups': _groups(raw.groups),
        'columns': {
            name: {'names': list(column.names), 'without': int((column.codes < 0).sum())}
            for name, column in data.columns.items()
        },
        'excluded': dict(Counter(each.kind for each in raw.excluded)),
        'passed_over': dict(table.written.passed_over),
        'notes': [*table.notes, *notes],
        'identity': dict(digests),
    }
    return said | {'said': lines(said)}


def _groups(groups: np.ndarray | None) -> dict[str, int] | None:
    if groups is None:
        return None
    names = groups.astype(np.str_)
    return {'number': len(np.unique(names[names != ''])), 'without': int((names == '').sum())}


def text(said: Mapping[str, Any]) -> str:
    """Returns it as a short block of lines."""
    return '\n'.join(
        [f'data: {said["where"]} ({said["layout"]})', *(f'  {line}' for line in said['said'])]
    )


def lines(said: Mapping[str, Any]) -> list[str]:
    """Returns the lines of that block."""
    return [*_counts(said), *_classes(said), *_split(said), *_columns(said), *_files(said)]


def pooled(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what folds of one set, of which each is the test once, have in common."""
    first = folds[0]
    tested = np.sum([fold['counts']['test'] for fold in folds], axis=0).tolist()
    number = f'{len(folds)} folds, of which each is the test once'
    said = dict(first) | {
        'counts': {'test': tested},
        'split': dict(first['split'])
        | {
            'from': number,
            'sha256': '',
            'thinned': max(fold['split']['thinned'] for fold in folds),
        },
    }
    return said | {'said': lines(said)}


def warnings(said: Mapping[str, Any]) -> list[str]:
    """Says what a reader of the results has to know of the data."""
    told, excluded = [], said['excluded']
    if excluded:
        number = f'{sum(excluded.values())} images were left out ({listed(excluded)})'
        told.append(f'{number}: excluded.csv lists them.')
    if said['passed_over']:
        told.append(f'Files that were passed over: {listed(said["passed_over"])}.')
    for what, number in said['split']['leaks'].items():
        where = 'lie on two sides of the split'
        told.append(f'{number} {what} {where}, so that the figures are too good.')
    if not sum(said['counts'].get('val', (1,))):
        told.append(
            'No image was held out to choose a round on: the last one was tested, and nothing was chosen on '
            'the test images.'
        )
    if said['split']['conflicts']:
        told.append(
            f'{said["split"]["conflicts"]} sets of equal images have several labels: python -m ltjax.data.audit names '
            'them.'
        )
    return told


def _counts(said: Mapping[str, Any]) -> Iterator[str]:
    totals = {name: sum(counts) for name, counts in said['counts'].items()}
    parts = ', '.join(f'{name} {total:,}' for name, total in totals.items())
    yield f'{said["images"]:,} images: {parts}'


def _classes(said: Mapping[str, Any]) -> Iterator[str]:
    order, counts = said['class_order'], said['counts']
    names = order['names']
    scale = '' if order['ordered'] else ', not taken as a scale (data.class_order makes it one)'
    yield f'{len(names)} classes, {order["from"]}{scale}'
    rows = list(range(len(names)))
    if len(rows) > MAX_CLASSES:
        rows.sort(key=lambda k: -next(iter(counts.values()))[k])
        half = MAX_CLASSES // 4
        rows = [*rows[:half], *rows[-half:]]
    shown = [f'{names[k]} {"/".join(str(counts[part][k]) for part in counts)}' for k in rows]
    if len(names) > MAX_CLASSES:
        shown.insert(len(rows) // 2, '...')
    yield f'images of each class ({"/".join(counts)}): {", ".join(shown)}'


def _split(said: Mapping[str, Any]) -> Iterator[str]:
    split, groups = said['split'], said['groups']
    sha256 = f'; sha256 {split["sha256"][:12]}' if split['sha256'] else ''
    yield f'split: {split["from"]}{sha256}'
    if split['thinned']:
        yield f'{split["thinned"]:,} training images are left out to make a long tail'
    for what, number in split['leaks'].items():
        yield f'NOTE: {number} {what} lie on two sides of this split'
    if split['conflicts']:
        yield f'NOTE: {split["conflicts"]} sets of equal images have several labels'
    if not split['compared']:
        yield 'equal images were not looked for, since the set stays on disk; the audit does'
    if groups is None:
        yield 'groups: none are known; every image is taken as its own'
    elif groups['without']:
        alone = f'{groups["without"]:,} images without one are each their own'
        yield f'groups: {groups["number"]:,}; {alone}'
    else:
        yield f'groups: {groups["number"]:,}'


def _columns(said: Mapping[str, Any]) -> Iterator[str]:
    for name, column in said.get('columns', {}).items():
        without = f'; {column["without"]:,} images without one' if column['without'] else ''
        shown = values.listed(column['names'], 12)
        yield f'further column {name}: {len(column["names"])} values ({shown}){without}'


def _files(said: Mapping[str, Any]) -> Iterator[str]:
    for what, kinds in (('left out', said['excluded']), ('passed over', said['passed_over'])):
        if kinds:
            yield f'{what}: {listed(kinds)}'
    yield from said['notes']


def listed(kinds: Mapping[str, int]) -> str:
    """Returns numbers by kind, the largest first: '3 .txt, 1 DICOM'."""
    most: Sequence[tuple[str, int]] = Counter(kinds).most_common()
    return values.listed([f'{number} {kind}' for kind, number in most], 8)
