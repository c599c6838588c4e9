"""What a run does when it is started again: what is finished, what changed since, what is refused."""

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
from absl import logging

from ltjax import processes, provenance
from ltjax.data import datasets, identity
from ltjax.data.identity import Identity
from ltjax.engine.checkpoint import Checkpoints
from ltjax.engine.preemption import Interruption
from ltjax.engine.safeguards import Safeguards
from ltjax.engine.watchdog import Watchdog
from ltjax.errors import UserError
from ltjax.files import user_path
from ltjax.report import model_card, writing
from ltjax.run import ownership
from ltjax.run.settings import FREE, Settings


def finished_results(workdir: pathlib.Path) -> dict[str, Any] | None:
    """Returns what results.json of a finished run holds, and sees to its pages; None: the run is not finished."""
    path = workdir / 'results.json'
    try:
        results = json.loads(path.read_text('utf-8'))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        logging.warning('%s is damaged: it is made anew from the checkpoints', path)
        return None
    if processes.is_first():
        if not (workdir / model_card.FILE).exists():
            model_card.write_model_card(workdir)
        if not (workdir / 'report.html').exists():
            writing.write_report(workdir)
    return results


def same_data(workdir: pathlib.Path, settings: Settings, results: Mapping[str, Any]) -> None:
    """Refuses a finished run, or folds, whose data have changed since; data that are not there are not compared.

    Raises:
      UserError: something changed, which is named.
    """
    if 'folds' in results:  # pooled; each of them knows all images
        fold = results.get('fold_numbers', [0])[0]
        workdir, settings = workdir / f'fold-{fold}', settings.replace('data.split.fold', fold)
    said = results.get('data', {}).get('identity')
    if said is None:
        logging.warning('%s does not say what its data were: they are not compared', workdir)
        return
    path = user_path(settings.data.path)
    if settings.data.path and not path.exists():
        logging.warning('%s is not there any more: the data of %s are not compared', path, workdir)
        return
    before = Identity.read(workdir)
    if before is not None and before.digests() == said:
        changes = identity.since(settings.data, before)
    else:  # it is lost or damaged: all is read
        data = datasets.load(settings.data)
        now = Identity.of(data, data.table.protocol(settings.data.split.protocol))
        changes = identity.kinds_changed(said, now.digests())
    if changes:
        raise UserError(
            f'{workdir} holds a finished run on other data: {"; ".join(change.text for change in changes)}. Train '
            'on what is there now in another folder.'
        )


def checked_start(settings: Settings) -> pathlib.Path | None:
    """Returns the run to take the first stage from, if the config names one.

    Raises:
      UserError: there is no such run, or it had another network or another seed.
    """
    if not settings.start_from:
        return None
    path = user_path(settings.start_from)
    if not (path / 'config.json').exists():
        raise UserError(f'{path} is no run: correct --config.start_from.')
    theirs, ours = map(ownership.resolved, (ownership.read_config(path), settings.values))
    for name in ('seed', 'data', 'model'):
        if provenance.differences({name: theirs[name]}, {name: ours[name]}, free=FREE):
            raise UserError(f'{path} differs in {name} from this config: start from another run.')
    return path


def check(
    settings: Settings,
    workdir: pathlib.Path,
    checkpoints: Checkpoints,
    now: Identity,
    made_from: dict[str, Any],
    *,
    force: bool,
) -> None:
    """Refuses to go on with what is there of another run or other data; `force` allows what the user may decide.

    Raises:
      UserError: something changed, which is named.
    """
    if (start := checked_start(settings)) is not None:
        same_start(start, now)
    compare_data(workdir, checkpoints, now, force=force)
    compare(checkpoints, made_from, force=force)


def same_start(start: pathlib.Path, now: Identity) -> None:
    """Refuses to begin with the first stage of a run that saw other data: it may have trained on our test images.

    Raises:
      UserError: something differs, which is named, or cannot be compared.
    """
    theirs = Identity.read(start)
    if theirs is None:
        raise UserError(f'{start} lacks {identity.FILE}: start from another run.')
    if changes := now.changes(theirs):
        told = '; '.join(change.text for change in changes)
        raise UserError(f'{start} saw other data than this run: {told}. Start from another run.')


def compare_data(
    workdir: pathlib.Path, checkpoints: Checkpoints, now: Identity, *, force: bool
) -> None:
    """Refuses to go on with checkpoints of other data, and names what changed.

    `force` goes on where the same images lie on the same sides of the split, whatever is else said of them.

    Raises:
      UserError: something changed.
    """
    if not checkpoints.numbers():
        return
    said = checkpoints.progress(checkpoints.numbers()[-1])['provenance'].get('data')
    ours = now.digests()
    if said == ours:
        return
    before = Identity.read(workdir)
    if before is not None and before.digests() == said:
        changes = now.changes(before)
    else:  # what the checkpoint says names the kind at least
        changes = identity.kinds_changed(said or {}, ours)
    told = '; '.join(change.text for change in changes)
    if not force or any(change.kind not in identity.FORCEABLE for change in changes):
        remedy = 'Go back to the data it began with, or give another --workdir'
        forced = '' if force else '; --force_resume goes on where the split is the same'
        raise UserError(
            f'the data of {workdir} have changed since it began: {told}. {remedy}{forced}.'
        )
    logging.warning('the data of %s have changed, results may differ: %s', workdir, told)


@contextlib.contextmanager
def safeguards(
    settings: Settings, interruption: Interruption, check_present: Callable[[], None]
) -> Iterator[Safeguards]:
    """Yields what `settings` say, with its watchdog awake."""
    made_from = provenance.of(settings.values)
    devices = jax.devices()
    made_from['devices'] = f'{len(devices)} {devices[0].device_kind}'
    with Watchdog(settings.watchdog_minutes) as watchdog:
        yield Safeguards(
            every_steps=settings.checkpoint.every_steps,
            every_minutes=settings.checkpoint.every_minutes,
            on_nonfinite=settings.on_nonfinite,
            max_skipped=settings.max_skipped,
            provenance=made_from,
            check_present=check_present,
            interruption=interruption,
            watchdog=watchdog,
        )


def changes(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Compares two provenances.

    Returns:
      What changed and may change results, and what changed otherwise: 'versions.numpy: 2.3.1, now 2.4.6'.
    """
    found = provenance.differences(theirs, ours)
    serious: list[str] = []
    harmless: list[str] = []
    for name, before, now in found:
        group, _, key = name.partition('.')
        free = group in ('git', 'devices') or name == 'versions.python'
        free = free or any(f'{key}.'.startswith(f'{each}.') for each in FREE)
        (harmless if free else serious).append(f'{name}: {before}, now {now}')
    return serious, harmless


def compare(checkpoints: Checkpoints, made_from: dict[str, Any], *, force: bool) -> None:
    """Tells what was set aside, and what changed since the newest checkpoint.

    Raises:
      UserError: something changed that may change results, and not `force`.
    """
    for line in checkpoints.set_aside:
        logging.warning('%s', line)
    if not checkpoints.numbers():
        return
    before = checkpoints.progress(checkpoints.numbers()[-1])['provenance']
    before, now = ({k: v for k, v in each.items() if k != 'data'} for each in (before, made_from))
    serious, harmless = changes(before, now)
    for change in harmless:
        logging.warning('changed since the newest checkpoint: %s', change)
    if serious and not force:
        raise UserError(
            f'this would not be the run that began: {"; ".join(serious)}. Go back to what it began with, go on '
            'regardless with --force_resume, or give another --workdir.'
        )
    for change in serious:
        logging.warning('changed since the newest checkpoint, results may differ: %s', change)
