"""Writes docs/benchmarks.md from ltjax.benchmarks; a test fails if the page is not what this program writes."""

import pathlib
import textwrap
from collections.abc import Sequence

from ltjax import benchmarks
from ltjax.benchmarks import Benchmark
from ltjax.data.settings import Data
from ltjax.evaluation.table import METRIC_TITLES

PAGE = pathlib.Path(__file__).resolve().parent.parent / 'docs' / 'benchmarks.md'

INTRODUCTION = """# Benchmarks

A benchmark is all of an experiment that does not depend on the method: data set and split, network and initial
weights, image size, epochs, batch size, optimiser, augmentations, class groups, metrics. Name it after a method:

```bash
python -m ltjax.main --config=configs/METHOD.py:BENCHMARK --config.data.path=PATH
python -m ltjax.main --config=configs/METHOD.py:BENCHMARK --help-config    # prints every value, and trains nothing
```

So any method runs in any paper's experiment, with that paper's data, network, budget and views. It keeps its own
numbers (weights, temperatures, queues), and what it must have besides: a second view, a head, a second stage. Its rate
falls as the benchmark says, not as in its own paper; `ltjax.losses` has the published schedules as functions. The
epochs are those in which the encoder learns. A second stage that trains the classifier alone (cRT, LWS, MiSLAS, GCL,
the contrastive methods and others) has ten more, and some methods more of the encoder's too, as published: M2m trains
two networks, LMD's 200 rounds come after its 100 epochs, ICCL fine-tunes the encoder for 10 more epochs on CIFAR-LT.
`scripts/compare.py` refuses rows of unequal encoder steps unless it is told to compare them.

`SET@PAPER` is the set in that paper's experiment; `SET` alone is a small set, or your own data (`folder`, `csv`, `npz`;
see [data.md](data.md)). Public sets are prepared from their official files, once for each size of images:
`python -m data_prep.isic2018 --source DIR --out PATH`, with the program and the flags of the table. A run says where
its data differ from the benchmark's: in classes, or in the images of a part.

`python scripts/benchmarks_page.py` writes this page from `ltjax/benchmarks/`; do not edit it.
"""

TITLES = {
    'lmd': 'LMD',
    'aduni': 'AdUni',
    'alpa': 'ALPA',
    'iccl': 'ICCL',
    'proco': 'ProCo',
    '': 'Small sets and your own',
}
COLUMNS = (
    'benchmark',
    'prepared by',
    'classes',
    'images and split',
    'network',
    'training',
    'metrics',
)


def page() -> str:
    """Returns docs/benchmarks.md."""
    parts = [INTRODUCTION]
    known = [benchmarks.get(name) for name in benchmarks.names()]
    for paper, title in TITLES.items():
        rows = [each for each in known if each.paper.split('_')[0] == paper]
        parts.append(f'\n## {title}\n\n| {" | ".join(COLUMNS)} |\n{"|---" * len(COLUMNS)}|\n')
        parts += [f'| {" | ".join(_row(each))} |\n' for each in rows]
        parts += _figures(rows)
        readings = dict.fromkeys(reading for each in rows for reading in each.readings)
        if readings:
            parts.append('\nWhat the text leaves open, and how it is read:\n\n')
            parts += [_item(reading) for reading in readings]
    return ''.join(parts)


def _figures(rows: Sequence[Benchmark]) -> list[str]:
    """Returns what the paper prints, by method: a table."""
    columns = [
        (each, metric)
        for each in rows
        for metric in each.metrics
        if any(metric in values for values in each.reported.values())
    ]
    if not columns:
        return []
    names = dict.fromkeys(method for each in rows for method in each.reported)
    head = [f'{each.name}: {METRIC_TITLES[metric]}' for each, metric in columns]
    lines = [f'| method | {" | ".join(head)} |', '|---' * (len(columns) + 1) + '|']
    for method in names:
        cells = [each.reported.get(method, {}).get(metric, '') for each, metric in columns]
        lines.append(f'| `{method}` | {" | ".join(map(str, cells))} |')
    return ['\nWhat the paper prints, in percent:\n\n', *(f'{line}\n' for line in lines)]


def _item(text: str) -> str:
    lines = textwrap.wrap(text, 120, initial_indent='- ', subsequent_indent='  ')
    return '\n'.join([*lines, ''])


def _row(each: Benchmark) -> list[str]:
    data, optimizer = Data.of(each.data_config()), each.optimizer
    images = ', '.join(f'{part} {number:,}' for part, number in each.images.items())
    protocol = data.split.protocol
    split = f'`{protocol}`' if protocol not in ('', 'none') else ''
    if data.split.fold == -1:
        split += ', each fold in turn'
    pixels = f'{data.image_size} px' if data.image_size else ''
    weights = f'from `{each.model["pretrained"]}`' if each.model.get('pretrained') else ''
    rate = f'{optimizer.name} {optimizer.learning_rate:g}'
    schedule = {
        'constant': 'constant',
        'cosine': f'cosine to {optimizer.floor:g}',
        'multistep': f'times {optimizer.factor:g} at {" and ".join(map(str, optimizer.milestones))}',
    }[optimizer.schedule]
    decay = f'weight decay {optimizer.weight_decay:g}' if optimizer.weight_decay else ''
    training = [
        f'{each.epochs} epochs of {each.batch_size}',
        rate,
        schedule,
        decay,
        f'view `{each.view}`',
    ]
    metrics = [METRIC_TITLES[name] for name in each.metrics]
    return [
        f'`{each.name}`',
        f'`{each.prepare}`' if each.prepare else '',
        str(each.classes or ''),
        '; '.join(filter(None, (images, split))),
        ', '.join(filter(None, (each.model['name'], weights, pixels))),
        ', '.join(filter(None, training)),
        ', '.join(metrics) or 'all',
    ]


if __name__ == '__main__':
    PAGE.write_text(page(), 'utf-8')
