"""Writes prepared sets (see `prepared`). It can be interrupted and run again: shards that are whole are kept."""

import concurrent.futures
import dataclasses
import hashlib
import json
import pathlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from ltjax import files
from ltjax.data.prepared import records
from ltjax.data.reading import images as image_files
from ltjax.data.settings import ON_PROBLEM
from ltjax.data.splits import NAMES
from ltjax.errors import UserError, unknown

_AT_ONCE = 256  # images decoded before they are written


class Item(NamedTuple):
    """An image to prepare."""

    id: str  # the original's name, unique in the set
    label: int  # class index
    # The image file; or a function that returns uint8 [H, W, C].
    source: pathlib.Path | Callable[[], np.ndarray]
    group: str = ''  # lesion, patient, video or the like; '' where it is not known
    columns: Mapping[str, str] = MappingProxyType({})  # what else is known of it, by name


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a set shall become."""

    name: str  # of the set
    class_names: tuple[str, ...]  # K names
    items: Sequence[Item]  # its images
    image_size: int  # pixels a side
    channels: int  # 1 or 3
    licence: str  # under which the images may be used
    origin: str  # where the files came from
    # By protocol, the split ('train', 'val', 'test') or fold (a number) of the ids that it uses.
    splits: Mapping[str, Mapping[str, str]]
    encoding: str = 'png'  # 'png' (lossless) or 'jpeg' (quality 95, no chroma subsampling)
    # 'stop' at an unreadable image, or 'exclude' it and list it in the manifest.
    on_damaged: str = 'stop'
    ordered: bool = False  # whether the classes are grades, in their order


def write(
    out: pathlib.Path,
    plan: Plan,
    *,
    images_per_shard: int = 1024,
    threads: int = 4,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Writes a prepared set; whole shards of an earlier attempt at the same plan are kept.

    Args:
      out: the folder, made if it is not there.
      plan: what to write.
      images_per_shard: records in a shard file.
      threads: that decode at the same time; the result does not depend on them.
      report: gets a line of progress now and then.

    Returns:
      The manifest.

    Raises:
      UserError: doubled ids or class names, labels out of range, a further column called as another, a split of an
        unknown id or into unknown parts, a folder that holds another set, an image that cannot be read.
    """
    _check(plan)
    key = _fingerprint(plan, images_per_shard)
    out.mkdir(parents=True, exist_ok=True)
    shards, excluded = _begun(out, key)
    wanted = [
        plan.items[at : at + images_per_shard] for at in range(0, len(plan.items), images_per_shard)
    ]
    started, done_before = time.monotonic(), len(shards)
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        for number in range(done_before, len(wanted)):
            path = out / f'images-{number:05d}.array_record'
            written, damaged = _write_shard(path, wanted[number], plan, pool)
            excluded |= damaged
            shards.append({'file': path.name, 'records': written, 'sha256': records.sha256(path)})
            state = {'plan': key, 'shards': shards, 'excluded': excluded}
            files.write_json(out / 'unfinished.json', state)
            done = min(len(plan.items), (number + 1) * images_per_shard)
            new = done - done_before * images_per_shard
            rate = new / max(time.monotonic() - started, 1e-9)
            report(f'{plan.name}: {done} of {len(plan.items)} images, {rate:.0f} a second')
    manifest = _manifest(out, plan, shards, excluded) | {'plan': key}
    files.write_json(out / 'manifest.json', manifest)
    (out / 'unfinished.json').unlink(missing_ok=True)
    return manifest


def _check(plan: Plan) -> None:
    if plan.encoding not in records.ENCODINGS:
        raise unknown('encoding', plan.encoding, records.ENCODINGS)
    if plan.on_damaged not in ON_PROBLEM:
        raise unknown('on_damaged', plan.on_damaged, ON_PROBLEM)
    if plan.image_size < 1 or plan.channels not in (1, 3):
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


def _begun(out: pathlib.Path, key: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Returns the whole shards of an earlier attempt at the same plan, and what it excluded."""
    for name in ('manifest.json', 'unfinished.json'):
        path = out / name
        if not path.exists():
            continue
        earlier = records.read_json(path)
        if earlier.get('plan') != key:
            raise UserError(f'{out} holds another set or other settings: give another --out.')
        shards = []
        for shard in earlier['shards']:
            file = out / shard['file']
            if not file.exists() or records.sha256(file) != shard['sha256']:
                break
            shards.append(shard)
        return shards, dict(earlier['excluded'])
    return [], {}


def _write_shard(
    path: pathlib.Path,
    items: Sequence[Item],
    plan: Plan,
    pool: concurrent.futures.Executor,
) -> tuple[int, dict[str, str]]:
    """Writes one shard, whole or not at all; returns its number of records and what was excluded."""
    partial = path.with_suffix('.partial')
    writer = ArrayRecordWriter(str(partial), 'group_size:1')
    excluded, written = {}, 0
    try:
        for at in range(0, len(items), _AT_ONCE):
            some = items[at : at + _AT_ONCE]
            for item, encoded in zip(
                some, pool.map(lambda i: _encoded(i, plan), some), strict=True
            ):
                if isinstance(encoded, UserError):
                    if plan.on_damaged == 'stop':
                        raise UserError(f'{encoded} (or exclude it: --on-damaged=exclude)')
                    excluded[item.id] = str(encoded)
                else:
                    writer.write(encoded)
                    written += 1
    finally:
        writer.close()
    partial.replace(path)
    return written, excluded


def _encoded(item: Item, plan: Plan) -> bytes | UserError:
    try:
        if isinstance(item.source, pathlib.Path):
            image = image_files.decode(item.source, plan.channels)
        else:
            image = item.source()
    except UserError as error:
        return error
    if image.shape[2] != plan.channels:
        return UserError(f'{item.id} has {image.shape[2]} channels, not {plan.channels}.')
    return records.encode(image_files.resize(image, plan.image_size), plan.encoding)


def _manifest(
    out: pathlib.Path, plan: Plan, shards: list[dict[str, Any]], excluded: Mapping[str, str]
) -> dict[str, Any]:
    """Writes the table and the splits; returns the manifest."""
    kept = [item for item in plan.items if item.id not in excluded]
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
        'image_size': plan.image_size,
        'channels': plan.channels,
        'encoding': plan.encoding,
        'records': {'file': 'records.csv', 'sha256': records.sha256(out / 'records.csv')},
        'splits': splits,
        'shards': shards,
        'excluded': dict(excluded),
    }
