"""What a compiled step does, counted from its text: operations, bytes, kernels and collectives, by part of the step.

A kernel reads its operands and writes its results once. Of an operand that it only slices or gathers from, it reads
what it takes out; a result that it writes into another array costs what is written. Bodies of loops count as often as
they run. Operations are those of matrix products and convolutions.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from .hlo import Array, Instruction, Module, operations

PARTS = ('augmentation', 'forward', 'backward', 'loss', 'optimiser', 'other')
KERNELS = ('matrix', 'reduction', 'transpose', 'copy', 'gather', 'elementwise', 'collective')

_COLLECTIVES = (
    'all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute', 'ragged-all-to-all',
    'collective-broadcast',
)  # fmt: skip
# What moves nothing: names for arrays that are there, and the second half of what is counted where it starts.
_FREE = {
    'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast', 'after-all', 'partition-id', 'replica-id',
    'opt-barrier', 'domain', 'add-dependency',
}  # fmt: skip
_TAKES = ('dynamic-slice', 'slice', 'gather')


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel.

    Attributes:
      name: of its instruction.
      part: one of `PARTS`.
      kind: one of `KERNELS`.
      times: how often it runs in a step.
      operations: of one run.
      bytes: of one run.
      gathered: places that one run reads by an index for each, what it takes from there counted as one.
      sent: bytes of one run that one device gives or gets, if it is between devices; else 0.
      collective: XLA's name of what it does between devices; '' of others.
      scope: where in the program it comes from.
    """

    name: str
    part: str
    kind: str
    times: int
    operations: int
    bytes: int
    gathered: int
    sent: int
    collective: str
    scope: str


def part_of(op_name: str) -> str:
    """Returns the part of a step that an `op_name` belongs to, by the scopes of `engine.step`; '' if it names none.

    >>> part_of('jit(step_fn)/transpose(jvp(loss))/network/conv_general_dilated')
    'backward'
    """
    if re.search(r'\baugmentation\b', op_name):
        return 'augmentation'
    if re.search(r'\bnetwork\b', op_name):
        return 'backward' if 'transpose(' in op_name else 'forward'
    if re.search(r'\boptimiser\b', op_name):
        return 'optimiser'
    return 'loss' if re.search(r'\bloss\b', op_name) else ''


def kernels(module: Module) -> list[Kernel]:
    """Returns the kernels of a step in the order in which they are written."""
    return list(_Reader(module).walk(module.entry, 1))


def summary(found: Sequence[Kernel], *, flops: float, bandwidth: float) -> dict[str, Any]:
    """Returns the sums over kernels: all together and by part.

    Args:
      found: see `kernels`.
      flops: operations a second of the device, at most.
      bandwidth: bytes a second of its memory, at most.

    Returns:
      'operations', 'bytes', 'gathered', 'bound_ms' (no kernel can be faster than its operations or its bytes let it,
      and kernels come one after another; collectives count as what they do in memory), 'parts' with the same by part
      and each one's 'share' of the bound, 'kernels' by kind, 'collectives' with 'count' and 'bytes' by kind (those that
      one device gives or gets, wherever they lie), and the 'slowest'.
    """
    summed = ('kernels', 'operations', 'bytes', 'gathered', 'bound_ms')
    parts: dict[str, dict[str, float]] = {part: dict.fromkeys(summed, 0) for part in PARTS}
    kinds: collections.Counter[str] = collections.Counter()
    between: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)

    def bound(kernel: Kernel) -> float:
        return 1e3 * kernel.times * max(kernel.operations / flops, kernel.bytes / bandwidth)

    for kernel in found:
        sums, times = parts[kernel.part], kernel.times
        sums['kernels'] += times
        sums['operations'] += times * kernel.operations
        sums['bytes'] += times * kernel.bytes
        sums['gathered'] += times * kernel.gathered
        sums['bound_ms'] += bound(kernel)
        kinds[kernel.kind] += times
        if kernel.collective:
            between[kernel.collective]['count'] += times
            between[kernel.collective]['bytes'] += times * kernel.sent
    whole = {name: sum(sums[name] for sums in parts.values()) for name in summed}
    for sums in parts.values():
        sums['share'] = sums['bound_ms'] / whole['bound_ms'] if whole['bound_ms'] else 0
    slowest = sorted(found, key=bound, reverse=True)[:10]
    return {
        **{name: whole[name] for name in ('operations', 'bytes', 'gathered', 'bound_ms')},
        'parts': {part: dict(sums) for part, sums in parts.items() if sums['kernels']},
        'kernels': dict(kinds),
        'collectives': {kind: dict(sums) for kind, sums in between.items()},
        'slowest': [dataclasses.asdict(kernel) | {'bound_ms': bound(kernel)} for kernel in slowest],
    }


class _Reader:
    """Goes through what runs, and knows the part of each array that is made."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def walk(self, name: str, times: int, outer: str = '') -> Iterator[Kernel]:
        """Yields the kernels of a computation that runs `times` times, for something of the part `outer`."""
        computation, parts = self.module.computations[name], dict[str, str]()
        for each in computation.values():
            told = part_of(each.op_name) or self._part_inside(each)
            made = [parts[name] for name in each.operands if parts.get(name)]
            # What the compiler put in, a copy say, belongs to what it reads.
            parts[each.name] = told or outer or (made[0] if made else '')
            yield from self._one(each, computation, times, parts[each.name])

    def _one(
        self, each: Instruction, computation: dict[str, Instruction], times: int, part: str
    ) -> Iterator[Kernel]:
        if each.opcode in _FREE or each.opcode.endswith(('-done', '-update')):
            return
        if each.opcode == 'while':
            yield from self.walk(each.called[0], times * self.module.trips(each), part)
        elif each.opcode in {'call', 'async-start'}:
            for name in each.called:
                yield from self.walk(name, times, part)
        elif each.opcode == 'conditional':
            branches = [list(self.walk(name, times, part)) for name in each.called]
            yield from max(branches, key=lambda found: sum(k.times * k.bytes for k in found))
        else:
            inputs = [_arrays(computation, name) for name in each.operands if name in computation]
            if each.opcode != 'fusion' and all(
                a.size <= 1 for some in (each.arrays, *inputs) for a in some
            ):
                return  # a number
            collective = each.opcode.removesuffix('-start')
            collective = collective if collective in _COLLECTIVES else ''
            yield Kernel(
                each.name,
                part or 'other',
                self._kind(each),
                times,
                self._operations(each, inputs),
                self._bytes(each, inputs),
                self._gathered(each),
                _sent(each, inputs) if collective else 0,
                collective,
                each.op_name,
            )

    def _part_inside(self, each: Instruction) -> str:
        """Returns the part that most instructions of a fusion name, if it names none itself."""
        if each.opcode != 'fusion':
            return ''
        named = collections.Counter(part_of(i.op_name) for i in self.module.inside(each))
        del named['']
        return named.most_common(1)[0][0] if named else ''

    def _operations(self, each: Instruction, inputs: Sequence[Sequence[Array]]) -> int:
        if each.opcode != 'fusion':
            return operations(each, [arrays[0] for arrays in inputs if arrays])
        total = 0
        for name in each.called:
            computation = self.module.computations[name]
            for one in computation.values():
                read = [_arrays(computation, operand) for operand in one.operands]
                total += self._operations(one, read)
        return total

    def _gathered(self, each: Instruction) -> int:
        if each.opcode == 'fusion':
            return sum(self._gathered(one) for one in self.module.inside(each))
        if each.opcode != 'gather':
            return 0
        return each.arrays[0].size // max(1, math.prod(each.numbers('slice_sizes')))

    def _kind(self, each: Instruction) -> str:
        codes = {each.opcode.removesuffix('-start')}
        if each.opcode == 'fusion':
            codes = {inner.opcode for inner in self.module.inside(each)}
        if codes & set(_COLLECTIVES):
            return 'collective'
        if codes & {'convolution', 'dot'} or re.search('conv|cublas|cudnn', each.target):
            return 'matrix'
        if 'gather' in codes:
            return 'gather'
        if codes & {'reduce', 'reduce-window'}:
            return 'reduction'
        moving = codes - _FREE - {'convert', 'broadcast', 'reshape'}
        if 'transpose' in moving and moving <= {'transpose', 'copy'}:
            return 'transpose'
        return 'copy' if moving <= {'copy', 'slice', 'pad', 'concatenate'} else 'elementwise'

    def _bytes(self, each: Instruction, inputs: Sequence[Sequence[Array]]) -> int:
        if each.opcode == 'fusion':
            return self._bytes_of_fusion(each, inputs)
        read = [sum(array.bytes for array in arrays) for arrays in inputs]
        if each.opcode in _TAKES:
            return 2 * each.bytes + sum(read[1:])
        if each.opcode == 'dynamic-update-slice':
            return 2 * read[1]
        if each.opcode in {'copy-start', 'slice-start'}:  # they return what they read, too
            return read[0] + each.arrays[0].bytes
        return sum(read) + each.bytes

    def _bytes_of_fusion(self, each: Instruction, inputs: Sequence[Sequence[Array]]) -> int:
        computation = self.module.computations[each.called[0]]
        users: dict[str, list[Instruction]] = collections.defaultdict(list)
        for inner in computation.values():
            for name in inner.operands:
                users[name].append(inner)
        total = 0
        for inner in computation.values():
            place = inner.numbers('place')
            if inner.opcode == 'parameter' and place and place[0] < len(inputs):
                whole = sum(array.bytes for array in inputs[place[0]])
                total += min(whole, self._taken(inner, users, computation, whole))
        root = self.module.root(each.called[0])
        written = [root] if root.opcode != 'tuple' else [computation[n] for n in root.operands]
        for made, array in zip(written, each.arrays, strict=False):
            update = _update(made, computation)
            total += array.bytes if update is None else min(array.bytes, update)
        return total

    def _taken(
        self,
        source: Instruction,
        users: dict[str, list[Instruction]],
        computation: dict[str, Instruction],
        whole: int,
    ) -> int:
        """Returns the bytes that a fusion takes out of an operand, as far as it only slices or gathers."""
        total = 0
        for user in users[source.name]:
            first = bool(user.operands) and user.operands[0] == source.name
            if user.opcode == 'bitcast':
                total += self._taken(user, users, computation, whole)
            elif user.opcode in _TAKES and first:
                per_element = whole / max(1, sum(array.size for array in source.arrays))
                total += round(per_element * sum(array.size for array in user.arrays))
            elif user.opcode == 'dynamic-update-slice' and first:
                total += 0  # it stays where it lies
            else:
                return whole
        return total


def _sent(each: Instruction, inputs: Sequence[Sequence[Array]]) -> int:
    read = sum(array.dense for arrays in inputs for array in arrays)
    made = sum(array.dense for array in each.arrays)
    # The first half of these returns what it reads, too.
    again = each.opcode in {'all-gather-start', 'collective-permute-start'}
    return max(read, made - read if again else made)


def _arrays(computation: dict[str, Instruction], name: str) -> tuple[Array, ...]:
    return computation[name].arrays if name in computation else ()


def _update(made: Instruction, computation: dict[str, Instruction]) -> int | None:
    """Returns the bytes that a fusion writes into an array that it got; None: it makes the whole."""
    while made.opcode == 'bitcast' and made.operands[0] in computation:
        made = computation[made.operands[0]]
    if made.opcode != 'dynamic-update-slice':
        return None
    array = computation[made.operands[1]].arrays[0]
    return array.bytes
