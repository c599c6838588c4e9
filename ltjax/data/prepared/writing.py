"""Writes prepared sets (see `prepared`). It can be interrupted and run again: shards that are whole are kept."""

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import pathlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ltjax import files
from ltjax.data import parallel
from ltjax.data.prepared import records, shards
from ltjax.data.prepared.originals import NO_STAMP, Original, Stamp
from ltjax.data.prepared.shards import Encoded, State
from ltjax.data.reading import images as image_files
from ltjax.data.reading.decoding import Decoded
from ltjax.data.settings import ON_PROBLEM
from ltjax.data.splits import NAMES
from ltjax.errors import UserError, unknown

IMAGES_PER_SHARD = 1024


class Item(NamedTuple):
    """An image to prepare."""

    id: str  # the original's name, unique in the set
    label: int  # class index
    # The image file; or a function that returns uint8 [H, W, C], or an image as it is to be written.
    source: pathlib.Path | Callable[[], np.ndarray | Decoded]
    group: str = ''  # lesion, patient, video or the like; '' where it is not known
    columns: Mapping[str, str] = MappingProxyType({})  # what else is known of it, by name
    stamp: Stamp = NO_STAMP  # of its file now: a shard of other files is written anew


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a set shall become."""

    name: str  # of the set
    class_names: tuple[str, ...]  # K names
    items: Sequence[Item]  # its images
    image_size: (
        int  # pixels a side; 0, for `Decoded` alone: as the first one has them, and all must
    )
    channels: int  # 1 or 3; 0: likewise
    licence: str  # under which the images may be used
    origin: str  # where the files came from
    # By protocol, the split ('train', 'val', 'test') or fold (a number) of the ids that it uses.
    splits: Mapping[str, Mapping[str, str]]
    # 'png' or 'raw' (both lossless; the latter is read at once), or 'jpeg' (quality 95, no chroma subsampling).
    encoding: str = 'png'
    # 'stop' at an unreadable image, or 'exclude' it and list it in the manifest.
    on_damaged: str = 'stop'
    ordered: bool = False  # whether the classes are grades, in their order
    originals: bool = False  # whether to keep what `originals` says; the sources are functions of a `Decoded` then
    # Ids that were left out before, and why.
    excluded: Mapping[str, str] = dataclasses.field(default_factory=dict)
    about: Mapping[str, Any] = dataclasses.field(
        default_factory=dict
    )  # what else the manifest says


def write(
    out: pathlib.Path,
    plan: Plan,
    *,
    images_per_shard: int = IMAGES_PER_SHARD,
    threads: int = 0,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Writes a prepared set; whole shards of an earlier attempt at the same plan are kept.

    Args:
      out: the folder, made if it is not there.
      plan: what to write.
      images_per_shard: records in a shard file.
      threads: that decode at the same time, 0: as many as there are processors; the result does not depend on them.
      report: gets a line of progress now and then.

    Returns:
      The manifest.

    Raises:
      UserError: doubled ids or class names, labels out of range, a further column called as another, a split of an
        unknown id or into unknown parts, a folder that holds another set or that another program writes, an image that
        cannot be read.
      OSError: the disk is full or fails.
    """
    _check(plan)
    out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(out / 'write.lock'))
        except BlockingIOError:
            raise UserError(f'another program writes {out}: wait for it.') from None
        except OSError:  # a file system without locks
            pass
        manifest = _write(out, plan, images_per_shard, threads, report)
        (out / 'write.lock').unlink(missing_ok=True)
    return manifest


def _write(
    out: pathlib.Path,
    plan: Plan,
    images_per_shard: int,
    threads: int,
    report: Callable[[str], None],
) -> dict[str, Any]:
    key = _fingerprint(plan, images_per_shard)
    wanted = [
        plan.items[at : at + images_per_shard] for at in range(0, len(plan.items), images_per_shard)
    ]
    state = _begun(out, key, wanted)
    first = len(state.shards)
    if first < len(wanted) and (out / 'manifest.json').exists():
        _save(out, key, state)  # it is not whole from here on
    progress = parallel.Progress(plan.name, len(plan.items), report)
    progress.advance(min(first * images_per_shard, len(plan.items)), ready=True)
    settings = shards.Settings(plan.encoding, plan.on_damaged == 'stop', plan.originals)
    encode = functools.partial(_encoded, plan=plan)
    items = itertools.chain.from_iterable(wanted[first:])
    with contextlib.closing(parallel.in_order(encode, items, threads=threads)) as encoded:
        for number in range(first, len(wanted)):
            path = out / f'images-{number:05d}.array_record'
            some = itertools.islice(encoded, len(wanted[number]))
            shard = shards.write(path, some, state, progress, settings)
            state.shards.append(shard | _stamps_of(wanted[number]))
            _save(out, key, state)
    manifest = _manifest(out, plan, state) | {'plan': key}
    files.write_json(out / 'manifest.json', manifest)
    (out / 'unfinished.json').unlink(missing_ok=True)
    return manifest


def _check(plan: Plan) -> None:
    if plan.encoding not in records.ENCODINGS:
        raise unknown('encoding', plan.encoding, records.ENCODINGS)
    if plan.on_damaged not in ON_PROBLEM:
        raise unknown('on_damaged', plan.on_damaged, ON_PROBLEM)
    given = plan.image_size > 0 and plan.channels > 0
    if plan.image_size < 0 or plan.channels not in (0, 1, 3) or not (given or plan.originals):
        raise UserError(
            f'{plan.name}: {plan.image_size} pixels and {plan.channels} channels: '
            'give a size above 0 and 1 or 3 channels.'
        )
    if not plan.items:
        raise UserError(f'{plan.name} has no images.')
    if len(set(plan.class_names)) < len(plan.class_names):
        double, _ = Counter(plan.class_names).most_common(1)[0]
        raise UserError(f'{plan.name} has two classes {double!r}: give each its own name.')
    _check_items(plan)
    _check_splits(plan)


def _check_items(plan: Plan) -> None:
    times = Counter(item.id for item in plan.items)
    double, count = times.most_common(1)[0]
    if count > 1:
        raise UserError(
            f'{plan.name} has the id {double!r} {count} times: every image has its own.'
        )
    for item in plan.items:
        if not 0 <= item.label < len(plan.class_names):
            raise UserError(f'{plan.name}: {item.id} has label {item.label}, out of range.')
    taken = next((name for name in _columns(plan.items) if name in records.COLUMNS), None)
    if taken is not None:
        raise UserError(f'{plan.name} has a further column {taken!r}: give it another name.')


def _columns(items: Sequence[Item]) -> list[str]:
    """Returns the names of the further columns, in their order."""
    return list(dict.fromkeys(name for item in items for name in item.columns))


def _check_splits(plan: Plan) -> None:
    known = {item.id for item in plan.items}
    for name, split in plan.splits.items():
        strange = next((id_ for id_ in split if id_ not in known), None)
        if strange is not None:
            raise UserError(f'split {name!r} of {plan.name} names {strange!r}, which is no image.')
        sides = set(split.values())
        if not (sides <= set(NAMES) or all(side.isdigit() for side in sides)):
            raise UserError(
                f'split {name!r} of {plan.name} has the parts {", ".join(sorted(sides))}: '
                'use train, val and test, or numbers of folds.'
            )


def _fingerprint(plan: Plan, images_per_shard: int) -> str:
    """Returns what tells one plan from another; where the files lie does not matter."""
    digest = hashlib.sha256()
    settings = [
        records.FORMAT,
        plan.name,
        plan.class_names,
        plan.image_size,
        plan.channels,
        plan.encoding,
    ]
    digest.update(json.dumps([*settings, plan.on_damaged, images_per_shard]).encode())
    for item in plan.items:
        further = [dict(item.columns)] if item.columns else []
        digest.update(json.dumps([item.id, item.label, item.group, *further]).encode())
    for name, split in sorted(plan.splits.items()):
        digest.update(json.dumps([name, sorted(split.items())]).encode())
    return digest.hexdigest()


def _begun(out: pathlib.Path, key: str, wanted: Sequence[Sequence[Item]]) -> State:
    """Returns the whole shards of an earlier attempt at the same plan, and what it excluded."""
    for name in ('unfinished.json', 'manifest.json'):
        path = out / name
        if not path.exists():
            continue
        earlier = records.read_json(path)
        if earlier.get('plan') != key:
            raise UserError(f'{out} holds another set or other settings: give another --out.')
        whole = []
        for shard, items in zip(earlier['shards'], wanted, strict=False):
            entries = [shard, *([shard['originals']] if 'originals' in shard else [])]
            sound = all(records.is_whole(out, entry) for entry in entries)
            if not sound or _stamps_of(items).get('stamps') != shard.get('stamps'):
                break
            whole.append(shard)
        kept = {item.id for item in itertools.chain.from_iterable(wanted[: len(whole)])}
        excluded = {id_: why for id_, why in earlier['excluded'].items() if id_ in kept}
        if not whole:
            return State()
        shape = tuple(earlier.get('shape', ()))  # which older sets do not say
        return State(whole, excluded, shape, earlier.get('first', ''))
    return State()


def _save(out: pathlib.Path, key: str, state: State) -> None:
    files.write_json(out / 'unfinished.json', {'plan': key, **dataclasses.asdict(state)})


def _stamps_of(items: Sequence[Item]) -> dict[str, str]:
    """Returns what tells whether a shard is still of the same files, {} if it is of none."""
    stamps = [item.stamp for item in items]
    if all(stamp == NO_STAMP for stamp in stamps):
        return {}
    return {'stamps': hashlib.sha256(json.dumps(stamps).encode()).hexdigest()}


def _encoded(item: Item, plan: Plan) -> Encoded:
    try:
        if isinstance(item.source, pathlib.Path):
            made: np.ndarray | Decoded = image_files.decode(item.source, plan.channels)
        else:
            made = item.source()
    except UserError as error:
        return Encoded(Original(item.id, stamp=item.stamp, error=str(error)))
    if isinstance(made, Decoded):
        image, file = made.image, str(made.file)
        original = Original(item.id, made.digest, made.content, made.stamp)
    elif made.shape[2] != plan.channels:
        wrong = f'{item.id} has {made.shape[2]} channels, not {plan.channels}.'
        return Encoded(Original(item.id, error=wrong))
    else:
        image, file = image_files.resize(made, plan.image_size), item.id
        original = Original(item.id)
    return Encoded(original, records.encode(image, plan.encoding), image.shape, file)


def _manifest(out: pathlib.Path, plan: Plan, state: State) -> dict[str, Any]:
    """Writes the table and the splits; returns the manifest."""
    kept = [item for item in plan.items if item.id not in state.excluded]
    further = _columns(plan.items)
    rows = [
        (
            item.id,
            plan.class_names[item.label],
            item.group,
            *(item.columns.get(c, '') for c in further),
        )
        for item in kept
    ]
    files.write_csv(out / 'records.csv', [(*records.COLUMNS, *further), *rows])
    counts = Counter(item.label for item in kept)
    splits = {}
    (out / 'splits').mkdir(exist_ok=True)
    for name, split in plan.splits.items():
        path = out / 'splits' / f'{name}.csv'
        members = [(item.id, split[item.id]) for item in kept if item.id in split]
        column = 'fold' if all(value.isdigit() for _, value in members) else 'split'
        files.write_csv(path, [('id', column), *members])
        splits[name] = {
            'file': f'splits/{name}.csv',
            'sha256': records.sha256(path),
            'sizes': dict(sorted(Counter(value for _, value in members).items())),
        }
    return {
        'format': records.FORMAT,
        'name': plan.name,
        'licence': plan.licence,
        'origin': plan.origin,
        'class_names': list(plan.class_names),
        'ordered': plan.ordered,
        'counts': [counts[k] for k in range(len(plan.class_names))],
        'image_size': plan.image_size or min(state.shape[:2], default=0),
        'channels': plan.channels or (state.shape[2] if state.shape else 0),
        'shape': list(state.shape),
        'first': state.first,
        'encoding': plan.encoding,
        'records': {'file': 'records.csv', 'sha256': records.sha256(out / 'records.csv')},
        'splits': splits,
        'shards': state.shards,
        'excluded': {**plan.excluded, **state.excluded},
        **plan.about,
    }
