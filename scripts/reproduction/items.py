"""The tables and figures of a paper, as a .toml beside this file says them.

A file has a `title`, how it is cited, and a table an item:

- `title`: what it compares. `kind`: 'table', or a figure of `figures.KINDS`.
- `benchmarks`: those of the paper, side by side; none, and no rows, where formulas alone are drawn. `set`: changes to
  all rows.
- `rows`: names in experiments.toml. `sweep`: rows that differ in numbers: `of` a row, `grid` keys with their values,
  `small` values for sets that are no paper's, `symbols` what the keys are called, `shares_first_stage` where none of
  them changes it. With `draws`, a row of values each, `grid` holds the bounds that they were drawn within.
- `columns`: metrics; default: those of the benchmark. `references`: rows that all others are compared with.
- `published`: by row, what the paper prints: a list of the columns for each benchmark. What a benchmark itself knows
  of a method (`reported`) need not be said again. `classes`: those of its figures by class, in its order.
- `differs`: in what ours is not the paper's, and why: a sentence each.
- `options`: of a table, the column that chooses one of its rows (`chosen_by`). Of a figure, the metric of its bars
  (`figure`), the `panels` that share its rows, the classes of a map (`classes` and `elsewhere`, see `maps.classes`)
  and which rows show virtual features (`virtual`).
"""

import itertools
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import experiments
from experiments import Experiment

from ltjax import benchmarks
from ltjax.errors import UserError, unknown
from ltjax.methods.catalog import METHODS

FOLDER = pathlib.Path(__file__).resolve().parent
# Before the name of a figure that is shown of every class.
CLASS = 'class_'
_KEYS = {'title', 'kind', 'benchmarks', 'set', 'rows', 'sweep', 'columns', 'references'}
_KEYS |= {'published', 'classes', 'differs', 'options'}


class Item(NamedTuple):
    """A table or figure.

    Attributes:
      name: PAPER/T1.
      title: what it compares.
      kind: 'table' or a figure's.
      benchmarks: of the paper, by name.
      changes: to all rows, by dotted name.
      rows: experiments, by the name that the table shows.
      base: the experiment of which a sweep's rows are changes; '' without a sweep.
      swept: of a sweep's rows, the values of its keys in their order.
      symbols: what these keys are called.
      columns: metrics; (): those of the benchmark.
      references: rows.
      published: by row and benchmark of the paper, a number a column in percent, None where none is printed.
      classes: those of the published figures by class, in their order.
      differs: sentences.
      options: of a figure.
    """

    name: str
    title: str
    kind: str
    benchmarks: tuple[str, ...]
    changes: Mapping[str, Any]
    rows: Mapping[str, Experiment]
    base: str
    swept: Mapping[str, tuple[Any, ...]]
    symbols: tuple[str, ...]
    columns: tuple[str, ...]
    references: tuple[str, ...]
    published: Mapping[str, Mapping[str, Sequence[float | None]]]
    classes: tuple[str, ...]
    differs: tuple[str, ...]
    options: Mapping[str, Any]

    def metrics(self, benchmark: str) -> tuple[str, ...]:
        """Returns the columns on a benchmark."""
        own = benchmarks.get(self.benchmarks[0]).metrics
        return self.columns or benchmarks.get(benchmark).metrics or own


def expanded(metrics: Sequence[str], classes: Sequence[str]) -> list[str]:
    """Returns the columns of metrics: of figures by class one for each class."""
    found = []
    for metric in metrics:
        found += [f'{metric}:{c}' for c in classes] if metric.startswith(CLASS) else [metric]
    return found


def papers() -> list[str]:
    """Returns the names of the papers."""
    return sorted(path.stem for path in FOLDER.glob('*.toml'))


def read(paper: str, *, small: bool = False) -> tuple[str, dict[str, Item]]:
    """Returns how a paper is cited, and its items by name (T1).

    Args:
      paper: its name.
      small: whether they are to run on a set that is no paper's: sweeps have other values there.

    Raises:
      UserError: there is no such paper, or its file is wrong.
    """
    if paper not in papers():
        raise unknown('paper', paper, papers())
    path = FOLDER / f'{paper}.toml'
    try:
        content = tomllib.loads(path.read_text('utf-8'))
        title = content.pop('title')
        known, _ = experiments.read()
        return title, {k: _item(f'{paper}/{k}', v, known, small) for k, v in content.items()}
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: {error}: see scripts/reproduction/items.py for the form.'
        ) from None


def get(name: str, *, small: bool = False) -> list[Item]:
    """Returns an item, 'lmd/T3', or all of a paper, 'lmd'; see `read`.

    Raises:
      UserError: there is none.
    """
    paper, _, short = name.partition('/')
    _, found = read(paper, small=small)
    if not short:
        return list(found.values())
    if short not in found:
        raise unknown(f'table or figure of {paper}', short, found)
    return [found[short]]


def _item(name: str, said: Mapping[str, Any], known: Mapping[str, Experiment], small: bool) -> Item:
    strange = set(said) - _KEYS
    if strange:
        raise KeyError(f'{name} has the key {strange.pop()}')
    rows = {}
    for row in said.get('rows', ()):
        if row not in known:
            raise unknown(f'row of {name}', row, known)
        rows[row] = known[row]
    sweep = said.get('sweep', {})
    swept = _sweep(known[sweep['of']], sweep, small) if sweep else {}
    printed = {} if small and 'small' in sweep else said.get('published', {})
    rows |= {row: experiment for row, (experiment, _) in swept.items()}
    of = tuple(said.get('benchmarks', ()))
    for benchmark in of:
        benchmarks.get(benchmark)
    item = Item(
        name=name,
        title=said['title'],
        kind=said.get('kind', 'table'),
        benchmarks=of,
        changes=said.get('set', {}),
        rows=rows,
        base=sweep.get('of', ''),
        swept={row: values for row, (_, values) in swept.items()},
        symbols=_symbols(sweep),
        columns=tuple(said.get('columns', ())),
        references=tuple(said.get('references', list(rows)[-1:])),
        published={},
        classes=tuple(said.get('classes', ())),
        differs=tuple(said.get('differs', ())),
        options=said.get('options', {}),
    )
    for row in (*item.references, *printed):
        if row not in rows:
            raise unknown(f'row of {name}', row, rows)
    return item._replace(published=_published(item, printed))


def _symbols(sweep: Mapping[str, Any]) -> tuple[str, ...]:
    named = sweep.get('symbols', {})
    return tuple(named.get(key, key.rpartition('.')[2]) for key in sweep.get('grid', {}))


def _word(value: Any) -> str:
    return {True: 'yes', False: 'no'}[value] if isinstance(value, bool) else f'{value}'


def _sweep(
    base: Experiment, sweep: Mapping[str, Any], small: bool
) -> dict[str, tuple[Experiment, tuple[Any, ...]]]:
    """Returns experiments and values by the names of rows, 'LMD, R 1000'."""
    made = {}
    names, of = _symbols(sweep), sweep['of']
    grid = sweep['grid'] | (sweep.get('small', {}) if small else {})
    for values in map(tuple, sweep.get('draws') or itertools.product(*grid.values())):
        said = ', '.join(f'{n} {_word(v)}' for n, v in zip(names, values, strict=True))
        overrides = {**base.overrides, **dict(zip(grid, values, strict=True))}
        first = of if sweep.get('shares_first_stage') else base.first
        made[f'{of}, {said}'] = (base._replace(overrides=overrides, first=first), values)
    return made


def _published(
    item: Item, said: Mapping[str, Sequence[Sequence[float | str]]]
) -> dict[str, dict[str, list[float | None]]]:
    """Returns what the paper prints, of its file and of the benchmarks."""
    found: dict[str, dict[str, list[float | None]]] = {}
    if item.kind == 'class_sizes':
        return found
    for row, experiment in item.rows.items():
        plain = experiment == Experiment(experiment.config, first=experiment.first)
        for number, benchmark in enumerate(item.benchmarks):
            metrics = item.metrics(benchmark)
            reported = benchmarks.get(benchmark).reported.get(experiment.config, {})
            values: list[float | None] = [None] * len(metrics)
            if row in said:
                values = [v if isinstance(v, float | int) else None for v in said[row][number]]
                due = len(expanded(metrics, item.classes))
                if len(values) != due:
                    raise KeyError(f'{item.name}: {row} has {len(values)} figures, not {due}')
            elif plain and experiment.config in METHODS:
                values = [reported.get(metric) for metric in metrics]  # none of them is of a class
            if any(value is not None for value in values):
                found.setdefault(row, {})[benchmark] = values
    return found
