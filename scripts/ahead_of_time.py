"""Compiles train steps for accelerators that are not there, and says what they would cost.

    python scripts/ahead_of_time.py --device h100 --out DIR [--chips 8] [--fsdp N] [--only METHOD[/STAGE[/UPDATE]] ...]

XLA's compilers for TPUs and GPUs run on a CPU; no data and no weights are made. Of each of LMD, AdUni, ALPA, ICCL and
ProCo, in its paper's experiment (network, pixels, batch) in bfloat16, every update of every stage is compiled. For each
that means: memory on a device against what it has; operations, bytes, kernels and collectives, by part of the step;
and a lower bound of its time by the device's ceilings. It measures no time: a real step takes longer than the bound.

Devices: v5e (TPU v5e; 8 chips, or 1 or 32), h100 (1, or 8) and cpu (this machine, to try it out). The compilers come
with `pip install -e '.[ahead]'`, in an environment of their own; neither a driver nor CUDA is needed.

Writes DIR/rows.json anew with every step, each step's program as DIR/NAME.hlo.gz, and DIR/table.md. A step that
is in DIR already is not compiled again: a run that was cut off goes on. `--recount` counts again what is there.
"""

import argparse
import gzip
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import abstract, hlo, hlo_account, hlo_table

from ltjax.command import exits
from ltjax.errors import UserError, unknown
from ltjax.files import user_path

SMALL = 'fashion_mnist_lt_mini'


def wanted(
    only: Sequence[str], *, small: bool
) -> Iterator[tuple[abstract.AbstractRun, str, Any, Any]]:
    """Yields run, method, stage and update of each step that `only` names, by METHOD, STAGE and UPDATE.

    Raises:
      UserError: it names one that does not exist.
    """
    asked = [tuple(name.split('/')) for name in only]
    methods = dict.fromkeys(path[0] for path in asked) or abstract.EXPERIMENTS
    for method in methods:
        if method not in abstract.EXPERIMENTS:
            raise unknown('method', method, abstract.EXPERIMENTS)
        experiment = SMALL if small else abstract.EXPERIMENTS[method]
        dtype = {} if small else {'model.dtype': 'bfloat16'}
        run = abstract.AbstractRun(method, experiment, dtype)
        steps = {
            (method, stage.name, update.name): (stage, update)
            for stage in run.stages.values()
            for update in stage.updates
        }
        for path in asked:
            if path[0] == method and not any(step[: len(path)] == path for step in steps):
                raise unknown('step', '/'.join(path), ['/'.join(step) for step in steps])
        for step, (stage, update) in steps.items():
            if not asked or any(step[: len(path)] == path for path in asked):
                yield run, method, stage, update


def compiled(
    run: abstract.AbstractRun, stage: Any, update: Any, mesh: Any, text: pathlib.Path
) -> dict[str, Any]:
    """Compiles a step and writes its program to `text`; returns what the compiler says of it."""
    started = time.monotonic()
    program = run.lowered(stage, update, mesh).compile()
    seconds = time.monotonic() - started
    text.write_bytes(gzip.compress(program.as_text().encode()))
    memory = program.memory_analysis()
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    account = program.cost_analysis() or {}
    return {
        'experiment': run.config.benchmark,
        'network': run.config.model.name,
        'dtype': run.config.model.dtype,
        'pixels': run.pixels if update.views else 0,
        'batch': update.batch_size,
        'memory': kept + memory.temp_size_in_bytes,
        'compiler_bytes': account.get('bytes accessed'),
        'compiler_operations': account.get('flops'),
        'compile_seconds': seconds,
    }


def counted(device: str, text: pathlib.Path) -> dict[str, Any]:
    """Returns what is counted in a program that was written to `text`."""
    kind = abstract.DEVICES[device]
    found = hlo_account.kernels(hlo.parse(gzip.decompress(text.read_bytes()).decode()))
    return hlo_account.summary(found, flops=kind.flops, bandwidth=kind.bandwidth)


def write(out: pathlib.Path, rows: Sequence[dict[str, Any]]) -> None:
    """Writes what there is so far, so that there is the old or the new at any time."""
    new = out / 'rows.json.new'
    new.write_text(json.dumps(rows, indent=1) + '\n', 'utf-8')
    new.replace(out / 'rows.json')
    (out / 'table.md').write_text(hlo_table.markdown(rows), 'utf-8')


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--device', required=True, help=f'one of {", ".join(abstract.DEVICES)}')
    parser.add_argument('--out', required=True, type=user_path, metavar='DIR', help='for results')
    parser.add_argument('--chips', type=int, default=0, help='default: 8 of v5e, else 1')
    parser.add_argument('--fsdp', type=int, default=1, help='chips that share the state')
    parser.add_argument(
        '--only', nargs='+', default=[], metavar='STEP', help='METHOD[/STAGE[/UPDATE]]'
    )
    parser.add_argument('--small', action='store_true', help='tiny networks and images, to try it')
    parser.add_argument('--recount', action='store_true', help='count again, compile nothing')
    told = parser.parse_args()
    if told.device not in abstract.DEVICES:
        raise unknown('device', told.device, abstract.DEVICES)
    kind = abstract.DEVICES[told.device]
    chips = told.chips or (8 if told.device == 'v5e' else 1)
    if chips not in kind.topologies:
        fitting = ', '.join(map(str, kind.topologies))
        raise UserError(f'--chips is {chips}: {told.device} is compiled for {fitting}.')
    told.out.mkdir(parents=True, exist_ok=True)
    path = told.out / 'rows.json'
    rows = json.loads(path.read_text('utf-8')) if path.exists() else []
    if told.recount:
        rows = [row | counted(row['device'], told.out / f'{row["name"]}.hlo.gz') for row in rows]
        write(told.out, rows)
        print(hlo_table.markdown(rows), end='')
        return
    abstract.prepare(told.device, chips)
    mesh = abstract.mesh_of(told.device, chips, told.fsdp)
    for run, method, stage, update in wanted(told.only, small=told.small):
        where = f'{told.device}-{chips}' + (f'-fsdp{told.fsdp}' if told.fsdp > 1 else '')
        name = '-'.join(
            [where, method, stage.name, update.name, *(['small'] if told.small else [])]
        )
        if any(row['name'] == name for row in rows):
            continue
        print(f'{name} ...', file=sys.stderr, flush=True)
        text = told.out / f'{name}.hlo.gz'
        row = {
            'name': name,
            'device': told.device,
            'chips': chips,
            'fsdp': told.fsdp,
            'step': f'{method}/{stage.name}/{update.name}',
        }
        row |= compiled(run, stage, update, mesh, text) | {'memory_of_device': kind.memory}
        rows.append(row | counted(told.device, text))
        write(told.out, rows)
    print(hlo_table.markdown(rows), end='')


if __name__ == '__main__':
    with exits():
        main()
