"""Looks over one's own data before it is trained on: `python -m ltjax.data.audit PATH`.

PATH is a folder of class folders, a CSV, an npz or a prepared set, in the layouts that training reads. Printed are
class sizes, image sizes, what is wrong, and a split that keeps groups and near-duplicates together. Exit status: 0
nothing to mend, 1 findings (of the kinds in `checks.KINDS`), 2 the set could not be read.
"""

import concurrent.futures
import itertools
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ltjax.data import datasets, near_duplicates
from ltjax.data.audit import checks, split
from ltjax.data.audit.report import Findings
from ltjax.data.audit.sources import Finding, Source, Task, read
from ltjax.data.reading import arguments, decoding
from ltjax.data.reading import images as image_files
from ltjax.data.reading.table import Excluded, Files
from ltjax.data.settings import Data
from ltjax.errors import UserError
from ltjax.evaluation.groups import head_medium_tail

_AT_ONCE = 256  # images that wait to be decoded
_REPORT_EVERY = 20 * _AT_ONCE


class Measured(NamedTuple):
    """What is kept of an image: its size, a digest of its pixels, its thumbnail; or why it cannot be read."""

    shape: tuple[int, ...] = ()
    digest: str = ''
    thumbnail: np.ndarray | None = None
    error: str = ''


def examine(
    path: pathlib.Path,
    config: Data | Mapping[str, Any] | None = None,
    *,
    threads: int = 4,
    max_distance: int = near_duplicates.MAX_DISTANCE,
    val: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
    suggest: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> Findings:
    """Examines the data set at `path`.

    Args:
      path: a folder, a CSV, an npz or a prepared set.
      config: how training would read it: the `data` part of a config; None: as it does by default.
      threads: that decode at the same time; the result does not depend on them.
      max_distance: of 256 bits, see `near_duplicates`; 0 to look for exact duplicates only.
      val: fraction of the suggested split held out for validation.
      test: fraction held out for the test.
      seed: of the suggested split.
      suggest: a split also where the set brings one without leaks.
      report: gets a line of progress now and then.

    Raises:
      UserError: nothing can be said about the set, since it is missing or its table cannot be read.
    """
    config = arguments.config(path) if config is None else Data.of(config)
    source = read(path, config)
    with image_files.pixel_limit(config.max_pixels):
        measured = _measure(source, threads, report)
    readable = np.array([not image.error for image in measured], bool)
    exact, near = _duplicates(measured, max_distance)
    findings = [
        *source.findings,
        *_unreadable(source, measured),
        *checks.check(source, exact, near),
    ]
    if not readable.any():
        findings.append(Finding('unreadable', 'no image can be read'))
    order = list(checks.KINDS)
    findings.sort(key=lambda finding: order.index(finding.kind))
    suggestion, notes = None, [*source.notes, *_remarks(measured, config.image_size)]
    leaks = any(finding.kind == 'leaks' for finding in findings)
    if suggest or leaks or not source.splits:
        try:
            suggestion = split.suggest(source, readable, near, val=val, test=test, seed=seed)
        except UserError as error:
            notes.append(f'no split is suggested: {error}')
    counts = Counter(source.labels.tolist())
    sizes = [counts[name] for name in source.class_names]
    training = checks.training_counts(source)
    groups = head_medium_tail(training)
    shapes = Counter(f'{image.shape[1]}x{image.shape[0]}' for image in measured if image.shape)
    channels = Counter(
        'RGB' if image.shape[2] == 3 else 'grey' for image in measured if image.shape
    )
    identical = {tuple(cluster) for cluster in exact.several()}
    return Findings(
        path=str(path),
        layout=source.layout,
        images=len(source.ids),
        counts=dict(zip(source.class_names, sizes, strict=True)),
        split_counts=checks.split_counts(source),
        class_groups={
            name: tuple(source.class_names[k] for k in classes) for name, classes in groups.items()
        },
        imbalance=max(training, default=0) / min((n for n in training if n), default=1),
        sizes=dict(shapes.most_common()),
        channels=dict(channels.most_common()),
        exact=_named(source, sorted(identical)),
        near=_named(source, [c for c in near.several() if tuple(c) not in identical]),
        refusal=_refusal(source, measured, config),
        findings=findings,
        notes=notes,
        suggestion=suggestion,
    )


def _refusal(source: Source, measured: Sequence[Measured], config: Data) -> str:
    """Returns what training says to the set, by the functions that it uses itself; '' if it takes it."""
    table = source.table
    try:
        datasets.check(table)
        if source.files and (unfit := _unfit_images(source, measured, config)):
            return unfit
        if len(table.splits) > 1:
            return ''  # which one is meant is not known
        rows = table.used(table.protocol(config.split.protocol))
        datasets.arrange(table, rows, _digests(measured)[rows], config)
    except UserError as error:
        return str(error)
    return ''


def _unfit_images(source: Source, measured: Sequence[Measured], config: Data) -> str:
    """Returns why images that cannot be read, or are of several sizes, stop a training."""
    assert isinstance(source.table.written.pixels, Files)
    root, names = source.table.written.pixels
    unreadable, first = [each for each in source.table.excluded if each.kind != 'unlabelled'], None
    total = len(names) + len(unreadable)
    for name, image in zip(names, measured, strict=True):
        if image.error:
            unreadable.append(Excluded(name, image.error))
        elif len(unreadable) == total - len(names):
            side = config.image_size
            shape = (side, side, image.shape[2]) if side else image.shape
            first = first or (root / name, shape)
            if unlike := decoding.unlikeness(root / name, shape, *first):
                return unlike
    return decoding.too_damaged(root, unreadable, total, config.on_damaged == 'stop')


def _named(source: Source, clusters: Sequence[Sequence[int]]) -> list[tuple[str, ...]]:
    return [tuple(source.ids[list(cluster)].tolist()) for cluster in clusters]


def _measure(source: Source, threads: int, report: Callable[[str], None]) -> list[Measured]:
    tasks, measured = source.tasks(), list[Measured]()
    with concurrent.futures.ThreadPoolExecutor(max(threads, 1)) as pool:
        while some := list(itertools.islice(tasks, _AT_ONCE)):
            measured += pool.map(_measure_one, some)
            if len(measured) % _REPORT_EVERY == 0:
                report(f'{len(measured)} of {len(source.ids)} images')
    return measured


def _measure_one(task: Task) -> Measured:
    try:
        image = task()
        digest = image_files.digest(image)
        small = near_duplicates.thumbnail(image)
    except UserError as error:
        return Measured(error=str(error))
    except Exception as error:  # one image must not end the audit
        return Measured(error=f'{type(error).__name__}: {" ".join(str(error).split())}')
    return Measured(image.shape, digest, small)


def _duplicates(
    measured: Sequence[Measured], max_distance: int
) -> tuple[near_duplicates.Clusters, near_duplicates.Clusters]:
    """Returns the clusters of equal images, and those of equal and nearly equal ones; of those that show something."""
    digests = _digests(measured)
    digests = np.where(image_files.shows_something(digests), digests, '')
    exact, near = (near_duplicates.Clusters(len(measured)) for _ in range(2))
    exact.join_equal(digests)
    near.join_equal(digests)
    _, first = np.unique(digests, return_index=True)
    kept = [i for i in np.sort(first).tolist() if digests[i]]
    if max_distance > 0 and kept:
        thumbnails = np.stack([measured[i].thumbnail for i in kept])
        for pairs in near_duplicates.pairs(thumbnails, max_distance):
            for a, b in pairs.tolist():
                near.join(kept[a], kept[b])
    return exact, near


def _digests(measured: Sequence[Measured]) -> np.ndarray:
    return np.array([image.digest for image in measured], dtype=np.str_)


def _unreadable(source: Source, measured: Sequence[Measured]) -> list[Finding]:
    found = []
    errors = [image.error for image in measured if image.error]
    if errors:
        found.append(
            Finding('unreadable', f'images that cannot be read: {len(errors)}', tuple(errors))
        )
    digests = _digests(measured)
    blank = source.ids[(digests != '') & ~image_files.shows_something(digests)].tolist()
    if blank:
        found.append(Finding('unreadable', f'images of one colour: {len(blank)}', tuple(blank)))
    return found


def _remarks(measured: Sequence[Measured], image_size: int) -> list[str]:
    shapes = [image.shape for image in measured if image.shape]
    notes = []
    if len({shape[:2] for shape in shapes}) > 1 and not image_size:
        notes.append('images are of several sizes: set --config.data.image_size=224 (say)')
    if len({shape[2] for shape in shapes}) > 1:
        notes.append('some images are grey and some are RGB: set --config.data.channels=3 (or 1)')
    small = sum(min(shape[:2]) < image_size for shape in shapes)
    if small:
        notes.append(f'images smaller than {image_size} pixels, which are enlarged: {small}')
    longest = max((max(shape[:2]) / min(shape[:2]) for shape in shapes), default=1)
    if image_size and longest > 1:
        notes.append(f'sides differ by up to {longest:.2f} times, and images are made square')
    return notes
