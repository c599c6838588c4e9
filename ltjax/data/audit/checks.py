"""What the audit finds in labels, splits and groups."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ltjax.data import splits
from ltjax.data.audit.sources import Finding, Source
from ltjax.data.indivisible import Units
from ltjax.data.near_duplicates import Clusters
from ltjax.written import values

KINDS = {
    'layout': 'folders or files that are not where training looks for them',
    'rows': 'rows of a CSV that are broken',
    'unreadable': 'images that cannot be read, or show nothing',
    'ids': 'images that are listed twice',
    'labels': 'labels that are missing, or the same but for their spelling',
    'conflicts': 'duplicates that have different labels',
    'splits': 'splits that are unknown or empty',
    'leaks': 'groups or duplicates that lie on two sides of a split',
    'duplicates': 'duplicates that a split drawn at random would part',
    'tiny': 'classes too small to split, or absent from a side of the split',
}
MIN_UNITS = 3  # of a class: one for each side of a split


def check(source: Source, exact: Clusters, near: Clusters) -> list[Finding]:
    """Checks the table of a data set, given its clusters of exact and of all duplicates."""
    return [
        *_labels(source),
        *_conflicts(source, exact, near),
        *_splits(source, exact, near),
        *(_absent(source) if source.splits else _unsplit(source, near)),
    ]


def units(source: Source, near: Clusters) -> Units:
    """Returns what must stay on one side: groups and near-duplicates."""
    _, classes = np.unique(source.labels, return_inverse=True)
    groups = source.groups if (source.groups != '').any() else None
    labels = near.labels()
    alone = np.bincount(labels, minlength=len(labels))[labels] == 1
    return Units(classes, groups, np.where(alone, '', labels.astype(np.str_)))


def class_counts(source: Source, chosen: np.ndarray) -> list[int]:
    """Returns the images of each class among those that are chosen, bool [N]."""
    counts = Counter(source.labels[chosen].tolist())
    return [counts[name] for name in source.class_names]


def training_counts(source: Source) -> list[int]:
    """Returns the training images of each class; all images where there is no split, or more than one."""
    sides = next(iter(source.splits.values())) if len(source.splits) == 1 else np.empty(0)
    training = sides == 'train'
    return class_counts(source, training if training.any() else np.ones(len(source.ids), bool))


def split_counts(source: Source) -> dict[str, dict[str, list[int]]]:
    """Returns the images of each class, by protocol and side."""
    return {
        protocol: {side: class_counts(source, of == side) for side in _sides(of)}
        for protocol, of in source.splits.items()
    }


def _sides(of: np.ndarray) -> list[str]:
    """Returns the sides of a split: train, val, test, then others."""
    present = set(of.tolist()) - {''}
    return [name for name in splits.NAMES if name in present] + sorted(present - {*splits.NAMES})


def _crossing(clusters: Iterable[Sequence[int]], of: np.ndarray) -> list[list[int]]:
    """Returns, of the clusters whose members differ in `of` (not counting ''), two members that differ."""
    found = []
    for cluster in clusters:
        first: dict[str, int] = {}
        for i in cluster:
            if of[i]:
                first.setdefault(str(of[i]), i)
        if len(first) > 1:
            found.append(list(first.values()))
    return found


def _shown(source: Source, members: Iterable[Sequence[int]], of: np.ndarray) -> tuple[str, ...]:
    return tuple(', '.join(f'{source.ids[i]} ({of[i]})' for i in some) for some in members)


def _labels(source: Source) -> list[Finding]:
    """Finds what the table's own faults have not told."""
    found = []
    missing = source.ids[source.labels == '']
    if source.table.labels is None and len(missing):
        text = f'images without a label: {len(missing)}'
        found.append(Finding('labels', text, tuple(missing.tolist())))
    told = any(finding.text.startswith('classes that are spelled') for finding in source.findings)
    same = () if told else values.spelled_alike(source.class_names)
    if same:
        text = f'classes that are spelled in several ways: {len(same)}'
        cases = tuple(', '.join(map(repr, names)) for names in same)
        found.append(Finding('labels', text, cases))
    if len(source.class_names) == 1:
        found.append(Finding('labels', 'there is one class: classification needs two or more'))
    return found


def _parted(
    exact: Clusters, near: Clusters, of: np.ndarray
) -> Iterator[tuple[str, list[list[int]]]]:
    """Yields what differs in `of` among exact duplicates, and what else does among near ones."""
    known = {tuple(some) for some in _crossing(exact.several(), of)}
    yield 'exact duplicates', [list(some) for some in sorted(known)]
    yield 'near-duplicates', [c for c in _crossing(near.several(), of) if tuple(c) not in known]


def _conflicts(source: Source, exact: Clusters, near: Clusters) -> list[Finding]:
    found = []
    for kind, parted in _parted(exact, near, source.labels):
        if parted:
            text = f'clusters of {kind} with several labels: {len(parted)}'
            found.append(Finding('conflicts', text, _shown(source, parted, source.labels)))
    return found


def _splits(source: Source, exact: Clusters, near: Clusters) -> list[Finding]:
    """Finds empty sides, and what lies on two sides."""
    found = []
    groups = Clusters(len(source.ids))
    groups.join_equal(source.groups)
    for protocol, of in source.splits.items():
        if source.layout != 'prepared' and set(of.tolist()) & set(splits.NAMES):  # not folds
            empty = [side for side in splits.NAMES if side not in of]
            if empty != ['val']:  # which training holds out of train
                found += [Finding('splits', f'no image is marked {side}') for side in empty]
        several = [
            ('groups', _crossing(groups.several(), of)),
            *((f'clusters of {kind}', parted) for kind, parted in _parted(exact, near, of)),
        ]
        for kind, parted in several:
            if parted:
                text = f'{kind} on several sides of the split {protocol!r}: {len(parted)}'
                found.append(Finding('leaks', text, _shown(source, parted, of)))
    return found


def _absent(source: Source) -> list[Finding]:
    """Finds classes that a side of a split lacks; folds are not looked at."""
    found = []
    for protocol, counts in split_counts(source).items():
        for side in filter(counts.get, splits.NAMES):
            of_side = zip(source.class_names, counts[side], strict=True)
            absent = tuple(name for name, count in of_side if not count)
            if absent:
                text = f'classes without a {side} image in the split {protocol!r}: {len(absent)}'
                found.append(Finding('tiny', text, absent))
    return found


def _unsplit(source: Source, near: Clusters) -> list[Finding]:
    """Finds duplicates and small classes that a split has yet to deal with."""
    found = []
    loose = [
        cluster
        for cluster in near.several()
        if len(keys := set(source.groups[cluster].tolist())) > 1 or '' in keys
    ]
    if loose:
        number = sum(map(len, loose))
        text = f'duplicates in {len(loose)} clusters that no `group` holds together: {number}'
        cases = tuple(', '.join(source.ids[cluster].tolist()) for cluster in loose)
        found.append(Finding('duplicates', text, cases))
    labels = units(source, near).joined()
    counts = {name: len(np.unique(labels[source.labels == name])) for name in source.class_names}
    tiny = tuple(f'{name} ({count})' for name, count in counts.items() if count < MIN_UNITS)
    if tiny:
        text = f'classes of fewer than {MIN_UNITS} images, groups or clusters of duplicates: {len(tiny)}'
        found.append(Finding('tiny', text, tiny))
    return found
