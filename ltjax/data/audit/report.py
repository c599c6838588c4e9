"""What the audit found, and how it is printed."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from ltjax.data.audit.checks import KINDS
from ltjax.data.audit.sources import Finding
from ltjax.data.audit.split import Suggestion

_SHOWN = 5  # cases of a finding; all are in the JSON
_SHOWN_CLASSES = 60
_BAR = 30


@dataclasses.dataclass(frozen=True)
class Findings:
    """What was found."""

    path: str  # of the data set
    layout: str  # 'folder', 'csv', 'npz', 'prepared' or 'tfds'
    images: int  # that are listed
    counts: dict[str, int]  # images of each class, by class name; the unreadable ones count
    # By protocol and side, images of each class in the order of `counts`.
    split_counts: dict[str, dict[str, list[int]]]
    # Class names of head, medium and tail, by training images.
    class_groups: dict[str, tuple[str, ...]]
    imbalance: float  # largest over smallest class by training images, of those that have any
    sizes: dict[str, int]  # number of readable images by 'WIDTHxHEIGHT', the most frequent first
    channels: dict[str, int]  # number of readable images by 'grey' and 'RGB'
    exact: list[tuple[str, ...]]  # ids of images whose pixels are the same, one tuple a cluster
    # Ids of near-duplicates that are not all the same, one tuple a cluster.
    near: list[tuple[str, ...]]
    refusal: str  # what training says to the set; '' if it takes it
    findings: list[Finding]  # what should be mended, in the order of `checks.KINDS`
    notes: list[str]  # what is worth knowing and nothing to mend
    suggestion: Suggestion | None  # a split, where the set brings none or a leaking one

    def as_json(self) -> dict[str, object]:
        """Returns all of it as what JSON knows."""
        found = [finding._asdict() for finding in self.findings]
        return dataclasses.asdict(self) | {'findings': found}


def text(found: Findings) -> str:
    """Returns what is printed: classes, images, findings, notes, the split."""
    return '\n'.join(
        [
            f'{found.path} ({found.layout}): {found.images} images, {len(found.counts)} classes',
            *_classes(found),
            *_images(found),
            *_findings(found),
            *(f'note: {note}' for note in found.notes),
            *_suggestion(found),
        ]
    )


def _classes(found: Findings) -> Iterator[str]:
    if not found.counts:
        return
    group_of = {name: group for group, names in found.class_groups.items() for name in names}
    split = next(iter(found.split_counts.values())) if len(found.split_counts) == 1 else {}
    width = min(40, max(5, *(len(name) for name in found.counts)))
    largest, total = max(1, *found.counts.values()), max(1, sum(found.counts.values()))
    yield ''
    head = ''.join(f'{side:>8}' for side in ('images', *split))
    yield f'{"class":{width}}{head}       %  group'
    order = sorted(enumerate(found.counts.items()), key=lambda entry: (-entry[1][1], entry[0]))
    half = _SHOWN_CLASSES // 2
    for rank, (k, (name, count)) in enumerate(order):
        if len(order) > _SHOWN_CLASSES and half <= rank < len(order) - half:
            if rank == half:
                yield f'... {len(order) - 2 * half} classes more ...'
            continue
        numbers = ''.join(f'{n:8}' for n in (count, *(side[k] for side in split.values())))
        bar = '#' * max(min(count, 1), round(_BAR * count / largest))
        line = (
            f'{name[:width]:{width}}{numbers}{100 * count / total:8.2f}  {group_of[name]:6}  {bar}'
        )
        yield line.rstrip()
    groups = [f'{group} {len(names)}' for group, names in found.class_groups.items()]
    of = 'class in training' if 'train' in split else 'class'
    yield f'imbalance {found.imbalance:.4g} (largest over smallest {of}); classes: {", ".join(groups)}'
    if len(found.split_counts) > 1:
        for protocol, sides in found.split_counts.items():
            yield f'split {protocol}: ' + _totals(sides)


def _totals(sides: Mapping[str, Sequence[int]]) -> str:
    return ', '.join(f'{side} {sum(counts)}' for side, counts in sides.items())


def _images(found: Findings) -> Iterator[str]:
    yield ''
    shown = [f'{size} ({count})' for size, count in list(found.sizes.items())[:_SHOWN]]
    more = f' and {len(found.sizes) - _SHOWN} more' if len(found.sizes) > _SHOWN else ''
    yield f'sizes: {", ".join(shown) or "none"}{more}'
    yield 'channels: ' + ', '.join(f'{name} ({count})' for name, count in found.channels.items())
    for name, clusters in (('exact', found.exact), ('near', found.near)):
        yield f'{name} duplicates: {sum(map(len, clusters))} images in {len(clusters)} clusters'


def _findings(found: Findings) -> Iterator[str]:
    yield ''
    if not found.findings and not found.refusal:
        yield 'nothing to mend'
    kind = ''
    for finding in found.findings:
        if finding.kind != kind:
            kind = finding.kind
            yield f'{kind}: {KINDS[kind]}'
        yield f'  {finding.text}'
        yield from (f'    {case}' for case in finding.cases[:_SHOWN])
        if len(finding.cases) > _SHOWN:
            yield f'    and {len(finding.cases) - _SHOWN} more'
    yield ''
    if found.refusal:
        yield f'training stops: {found.refusal}'


def _suggestion(found: Findings) -> Iterator[str]:
    split = found.suggestion
    if split is None:
        return
    yield (
        f'suggested split: {_totals(split.counts)} (val={split.val}, test={split.test}, '
        f'seed={split.seed}), with {split.units} groups or clusters of duplicates kept whole'
    )
    if split.left_out:
        yield f'  not on all sides: {", ".join(split.left_out[: 2 * _SHOWN])}'
