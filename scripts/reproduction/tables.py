"""What the runs of a table or figure found, as one grid of cells, whatever form it takes then (forms.py, page.py)."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import comparison
import experiments
import numpy as np

from ltjax.errors import UserError
from ltjax.evaluation import paired, prediction_files
from ltjax.evaluation.bootstrap import clusters_of
from reproduction.items import Item, expanded
from reproduction.runs import Run

BEST, NEAR, PLAIN = 'best', 'near', ''
NOT_RUN = 'not run'


class Cell(NamedTuple):
    """A text, and how it is marked: the best of its column, not significantly worse, or neither."""

    text: str
    mark: str = PLAIN


class Grid(NamedTuple):
    """A table: the names of its columns, its rows, and what is said below it."""

    header: list[str]
    rows: list[list[Cell]]
    notes: list[str]


class Found(NamedTuple):
    """What an item found on a benchmark.

    Attributes:
      benchmark: its name.
      compared: what `comparison.compare` returned of the rows that finished; None if no reference did.
      why_not: what is missing, where nothing is there.
      failed: rows that did not finish, and why.
      near: by column the rows that are marked, and how.
      needs: what rows take that others do not, and in what they are not equal, see `experiments.marks`.
    """

    benchmark: str
    compared: Mapping[str, Any] | None
    why_not: str
    failed: Mapping[str, str]
    near: Mapping[str, Mapping[str, str]]
    needs: Mapping[str, Sequence[str]] = MappingProxyType({})


def collect(
    item: Item, benchmark: str, runs: Mapping[str, Sequence[Run]], failed: Mapping[Any, str]
) -> Found:
    """Reads the runs of an item on a benchmark.

    Args:
      item: the table.
      benchmark: its name.
      runs: of each row, one a seed, see `runs.plan`.
      failed: by workdir, why a run failed.
    """
    whole = {row: runs[row] for row in item.rows if all(run.finished for run in runs[row])}
    lacking = {
        row: next((failed[run.workdir] for run in runs[row] if run.workdir in failed), NOT_RUN)
        for row in item.rows
        if row not in whole
    }
    folders = {row: [run.workdir for run in made] for row, made in whole.items()}
    references = [row for row in item.references if row in folders] or [*folders][-1:]
    if not references:
        return Found(benchmark, None, 'no run has finished', lacking, {})
    try:
        names = prediction_files.read(folders[references[0]][0] / 'predictions.npz').class_names
        if set(names) == set(item.classes):
            names = item.classes  # in the order of the paper
        columns = expanded(item.metrics(benchmark), names)
        compared = comparison.compare(folders, references, columns)
        marked = [chosen] if (chosen := item.options.get('chosen_by')) else columns
        marks = _marks(folders, compared, marked)
        return Found(benchmark, compared, '', lacking, marks, _needs(whole))
    except UserError as error:
        return Found(benchmark, None, str(error), lacking, {})


def _needs(whole: Mapping[str, Sequence[Run]]) -> dict[str, list[str]]:
    """Returns what rows take, and in what they are not equal to cross-entropy or, without it, to the first."""
    configs = {row: made[0].config for row, made in whole.items()}
    plain = [row for row, config in configs.items() if config.method.name == 'cross_entropy']
    reference = next(iter([*plain, *configs]))
    said = experiments.marks(configs, experiments.unequal(configs, reference))
    return {row: marks for row, marks in said.items() if marks}


def _marks(
    folders: Mapping[str, Sequence[Any]], compared: Mapping[str, Any], columns: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Returns by column which row is best, and which are not worse by the paired test, corrected for the rows (Holm).

    Of columns that have no paired test, such as the area under the curve, the best alone is marked.
    """
    first = next(iter(folders.values()))[0]
    like = prediction_files.read(first / 'predictions.npz')
    predicted = {
        row: [prediction_files.read(run / 'predictions.npz').like(like) for run in runs]
        for row, runs in folders.items()
    }
    clusters = clusters_of(like.groups)
    result = comparison.results_of(first)
    means = {}
    for column in columns:
        values = {row: each['values'][column] for row, each in compared['experiments'].items()}
        means[column] = {row: np.mean(found) for row, found in values.items() if None not in found}
    best = {c: max(of, key=lambda row: of[row]) for c, of in means.items() if len(of) > 1}
    best.pop('seconds', None)
    marks = {column: {row: BEST} for column, row in best.items()}
    paired_columns = {c: spec for c in best if (spec := comparison.paired_metric(c, result))}
    for row in dict.fromkeys(best[column] for column in paired_columns):
        metrics = {c: spec for c, spec in paired_columns.items() if best[c] == row}
        others = {
            other: paired.compare(
                like.labels, predicted[row], predicted[other], metrics, clusters=clusters
            )
            for other in folders
            if other != row
        }
        for column in metrics:
            p_values = [1.0 if (p := each[column]['p']) is None else p for each in others.values()]
            for other, p in zip(others, paired.holm(p_values), strict=True):
                if p >= paired.LEVEL:
                    marks[column][other] = NEAR
    return marks


def grid(item: Item, found: Sequence[Found], seeds: Sequence[int]) -> Grid:
    """Lays out what was found, in percent: values, the difference to the first reference, what the paper prints."""
    several = len(found) > 1
    header, parts = [''], [[[Cell(row)] for row in item.rows]]
    notes = []
    for each in found:
        prefix = f'{each.benchmark}: ' if several else ''
        if each.compared is None:
            notes.append(f'{each.benchmark}: {each.why_not}.')
        else:
            columns = each.compared['columns']
            header += [f'{prefix}{comparison.title(column)}' for column in columns]
            parts.append([_values(row, each, columns) for row in item.rows])
            reference = each.compared['references'][0]
            compared = each.compared['experiments'].values()
            name = next((c for c in columns for e in compared if c in e[f'vs {reference}']), None)
            if name is not None and len(compared) > 1:
                header.append(f'{prefix}{comparison.title(name)} - {reference}')
                parts.append([[_difference(row, each, name, reference)] for row in item.rows])
        if absent := [row for row, why in each.failed.items() if why == NOT_RUN]:
            notes.append(f'Not run on {each.benchmark}: {"; ".join(absent)}.')
        notes += [
            f'{each.benchmark}, {r}: {w.removesuffix(".")}.'
            for r, w in each.failed.items()
            if w != NOT_RUN
        ]
    for benchmark in item.benchmarks:
        printed = {row: item.published.get(row, {}).get(benchmark) for row in item.rows}
        if not any(printed.values()):
            continue
        columns = expanded(item.metrics(benchmark), item.classes)
        header += [f'paper, {benchmark}: {comparison.title(column)}' for column in columns]
        parts.append([_printed(printed[row], len(columns)) for row in item.rows])
    rows = [[cell for part in row for cell in part] for row in zip(*parts, strict=True)]
    notes += _explained(item, found, seeds) + _chosen(item, found) + list(item.differs)
    if item.kind == 'curve':
        notes.append(
            'In the figure lines join the means, dots are seeds, and whiskers the 95 % interval of the difference to '
            f'{item.references[0]}.'
        )
    return Grid(header, rows, notes)


def _values(row: str, found: Found, columns: Sequence[str]) -> list[Cell]:
    """Returns the mean over seeds of each column, and the standard deviation: of the folds, or of several seeds."""
    compared = (found.compared or {})['experiments'].get(row)
    if compared is None:
        return [Cell('failed' if found.failed.get(row) != NOT_RUN else '-') for _ in columns]
    cells = []
    for column in columns:
        values = compared['values'][column]
        if None in values:
            cells.append(Cell('-'))
            continue
        scale, digits = (1, 0) if column == 'seconds' else (100, 1)
        text = f'{scale * np.mean(values):.{digits}f}'
        spread = compared['folds'].get(column, values)
        if len(spread) > 1:
            text += f' ± {scale * np.std(spread, ddof=1):.{digits}f}'
        cells.append(Cell(text, found.near.get(column, {}).get(row, PLAIN)))
    return cells


def _difference(row: str, found: Found, column: str, reference: str) -> Cell:
    compared = (found.compared or {})['experiments'].get(row, {})
    one = compared.get(f'vs {reference}', {}).get(column)
    if row == reference or one is None or one['difference'] is None:
        return Cell('')
    difference, low, high = (100 * one[key] for key in ('difference', 'low', 'high'))
    mark = BEST if one.get('p_holm', 1.0) < paired.LEVEL else PLAIN
    return Cell(f'{difference:+.1f} [{low:+.1f}, {high:+.1f}]', mark)


def _printed(values: Sequence[float | None] | None, length: int) -> list[Cell]:
    given = values or [None] * length
    return [Cell('' if value is None else f'{value:g}') for value in given]


def _explained(item: Item, found: Sequence[Found], seeds: Sequence[int]) -> list[str]:
    several = len(seeds) > 1
    over = f'over {"seeds" if several else "seed"} {", ".join(map(str, seeds))}'
    folds = any(e['folds'] for f in found if f.compared for e in f.compared['experiments'].values())
    if folds:
        said = [
            f'Ours: percent, of all test folds together, mean {over}; ± standard deviation of the folds.'
        ]
    else:
        said = [f'Ours: percent, mean{" ± standard deviation" if several else ""} {over}.']
    for each in found:
        if each.compared is None:
            continue
        groups = each.compared['num_groups']
        of = 'taken as independent' if groups is None else f'of {groups:,} groups, drawn whole'
        training = 'and the training' if several else 'but not the training'
        said.append(
            f'{each.benchmark}: 95 % intervals cover the choice of {each.compared["num_images"]:,} test images, '
            f'{of}, {training}.'
        )
        needs = [f'{row} ({", ".join(marks)})' for row, marks in each.needs.items()]
        if needs:
            said.append(f'{each.benchmark}, what rows take: {"; ".join(needs)}.')
    marked = item.options.get('chosen_by')
    best = f'best {comparison.title(marked)}' if marked else 'best of a column'
    said.append(
        f"Bold: the {best}, and a difference that is not zero at 5 % after Holm's correction."
    )
    if not marked:
        said[-1] += ' Underlined: not significantly worse than the best, by the paired test.'
    return said


def _chosen(item: Item, found: Sequence[Found]) -> list[str]:
    """Says which row a search takes: by validation images, so that its test figures are honest; a line a benchmark."""
    said = []
    for each in found:
        column = item.options.get('chosen_by')
        if not column or each.compared is None:
            continue
        means = {
            row: np.mean(values)
            for row, made in each.compared['experiments'].items()
            if None not in (values := made['values'][column])
        }
        if means:
            said.append(
                f'{each.benchmark}: of {len(means)} candidates {comparison.title(column)} alone, never the test, '
                f'chooses {max(means, key=lambda row: means[row])}.'
            )
    return said
