"""Reads the text of a compiled step (XLA's HLO): its computations, their instructions, and how large arrays lie."""

import dataclasses
import functools
import json
import math
import re
from collections.abc import Iterator, Sequence

_BITS = {
    'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16, 'f16': 16, 'bf16': 16, 's32': 32, 'u32': 32,
    'f32': 32, 's64': 64, 'u64': 64, 'f64': 64, 'c64': 64, 'c128': 128,
}  # fmt: skip
_ARRAY = re.compile(r'\b([a-z]\w*)\[([\d,<=]*)\](?:\{([^}]*)\})?')
_INSTRUCTION = re.compile(r'^\s*(ROOT )?%?([\w.\-]+) = (.*)$')
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) (?:\(.*)?\{\s*$')
_CALLED = re.compile(
    r'\b(?:calls|to_apply|body|true_computation|false_computation)=%?([\w.\-]+)'
    r'|\b(?:branch_computations|called_computations)=\{([^}]*)\}'
)
_NAME = re.compile(r'%([\w.\-]+)')


@dataclasses.dataclass(frozen=True)
class Array:
    """An array as it lies on the device.

    Attributes:
      dtype: XLA's name, such as 'bf16'.
      dims: its shape.
      layout: XLA's words, the axes from the fastest to the slowest first; '' where none are given.
    """

    dtype: str
    dims: tuple[int, ...]
    layout: str = ''

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.dims)

    @property
    def dense(self) -> int:
        """Bytes of its elements, wherever it lies."""
        return -(-self.size * _BITS.get(self.dtype, 0) // 8)

    @property
    def in_main_memory(self) -> bool:
        """Whether it lies in the device's main memory, not in one on the chip (a TPU's memory space 1)."""
        return not re.search(r'S\([1-9]\d*\)', self.layout)

    @functools.cached_property
    def bytes(self) -> int:
        """What it takes of main memory, with the padding of its tiles; 0 if it lies elsewhere."""
        if not self.in_main_memory or self.dtype not in _BITS:
            return 0
        dims = list(self.dims)
        order, _, rest = self.layout.partition(':')
        tile = re.search(r'T\(([\d,]+)\)', rest)
        if tile and dims:
            # The tile covers the fastest axes; its own last number is that of the very fastest.
            sizes = [int(n) for n in tile[1].split(',')]
            axes = [int(n) for n in order.split(',')][: len(sizes)]
            for axis, step in zip(axes, reversed(sizes), strict=False):
                dims[axis] = -(-dims[axis] // step) * step
        return -(-math.prod(dims) * _BITS[self.dtype] // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: unique in its computation.
      opcode: such as 'fusion'.
      arrays: what it makes; several of a tuple, inner tuples' too.
      operands: names of what it reads.
      attributes: the rest of the line.
      root: whether its computation returns it.
    """

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool

    @functools.cached_property
    def op_name(self) -> str:
        """Where in the program it comes from: the scopes and the primitive, joined by '/'; '' if unknown."""
        found = re.search(r'op_name="([^"]*)"', self.attributes)
        return found[1] if found else ''

    @functools.cached_property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that it runs; a loop's condition is left out."""
        names: list[str] = []
        for one, several in _CALLED.findall(self.attributes):
            names += [one] if one else _NAME.findall(several)
        return tuple(names)

    @property
    def bytes(self) -> int:
        """Of what it makes."""
        return sum(array.bytes for array in self.arrays)

    def numbers(self, attribute: str) -> tuple[int, ...]:
        """Returns the whole numbers of an attribute `name={1,2}` or `name=3`; none if it is not there."""
        found = re.search(rf'\b{attribute}=(?:\{{([\d,]*)\}}|(\d+))', self.attributes)
        if not found:
            return ()
        return tuple(int(n) for n in (found[1] or found[2] or '').split(',') if n)

    @property
    def target(self) -> str:
        """What a custom call calls; '' for all else."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ''


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """A compiled program: instructions by name, computations by name, and the name of the one that runs."""

    computations: dict[str, Computation]
    entry: str

    def root(self, name: str) -> Instruction:
        """Returns what a computation returns."""
        return next(each for each in self.computations[name].values() if each.root)

    def trips(self, loop: Instruction) -> int:
        """Returns how often a loop runs its body: as it says, or up to the number it compares with; else 1."""
        told = re.search(r'"known_trip_count":\{"n":"?(\d+)', loop.attributes)
        if told:
            return int(told[1])
        condition = re.search(r'condition=%?([\w.\-]+)', loop.attributes)
        compared = self.computations[condition[1]].values() if condition else ()
        limits = [one.attributes for one in compared if one.opcode == 'constant']
        found = [re.search(r'value=(\d+)', limit) for limit in limits]
        return int(found[0][1]) if len(found) == 1 and found[0] else 1

    def inside(self, instruction: Instruction) -> Iterator[Instruction]:
        """Yields the instructions of a fusion, those of fusions in it too."""
        for name in instruction.called:
            for each in self.computations[name].values():
                yield each
                if each.opcode == 'fusion':
                    yield from self.inside(each)


def parse(text: str) -> Module:
    """Returns the program of `compiled.as_text()`.

    Raises:
      ValueError: the text has no computation that runs.
    """
    computations: dict[str, Computation] = {}
    entry, now = '', None
    for line in text.splitlines():
        if now is None:
            begins = _COMPUTATION.match(line)
            if begins and not line.startswith('HloModule'):
                now = computations.setdefault(begins[2], {})
                entry = begins[2] if begins[1] else entry
        elif line.startswith('}'):
            now = None
        else:
            instruction = _instruction(line)
            if instruction is not None:
                now[instruction.name] = instruction
    if not entry:
        raise ValueError(
            'no computation is marked ENTRY: this is not the text of a compiled program'
        )
    return Module(computations, entry)


def arrays(text: str) -> tuple[Array, ...]:
    """Returns the arrays of a type, such as `(f32[2,3]{1,0}, s32[])`."""
    return tuple(
        Array(dtype, tuple(int(n.lstrip('<=')) for n in dims.split(',') if n), layout)
        for dtype, dims, layout in _ARRAY.findall(text)
    )


def _instruction(line: str) -> Instruction | None:
    found = _INSTRUCTION.match(line)
    if not found:
        return None
    root, name, rest = found.groups()
    end = _closing(rest, 0) + 1 if rest.startswith('(') else rest.index(' ')
    kind, rest = rest[:end], rest[end:].lstrip()
    opcode, _, _ = rest.partition('(')
    close = _closing(rest, len(opcode))
    inside = rest[len(opcode) + 1 : close]
    operands = tuple(_NAME.findall(inside))
    # A parameter's place and a constant's value have no name.
    unnamed = {'parameter': f' place={inside}', 'constant': f' value={inside[:20]}'}
    attributes = unnamed.get(opcode, '') + rest[close + 1 :]
    return Instruction(name, opcode, arrays(kind), operands, attributes, bool(root))


def _closing(text: str, start: int) -> int:
    """Returns where the bracket closes that opens at `start`."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] == '(':
            depth += 1
        elif text[at] == ')':
            depth -= 1
            if depth == 0:
                return at
    raise ValueError(f'a bracket stays open: {text[:80]}')


def operations(instruction: Instruction, inputs: Sequence[Array]) -> int:
    """Returns the operations of a matrix product or convolution, a multiplication and an addition each; else 0.

    Args:
      instruction: by itself, or a call of cuDNN or cuBLAS.
      inputs: its operands.
    """
    target, made = instruction.target, instruction.arrays
    if instruction.opcode == 'dot' or 'cublas' in target:
        shared = _contracted(instruction)
        return 2 * made[0].size * math.prod(inputs[0].dims[n] for n in shared)
    if instruction.opcode != 'convolution' and 'conv' not in target:
        return 0
    # cuDNN's calls name the axes of the forward convolution, whichever of its arrays they make.
    image, kernel, out = inputs[0], inputs[1], made[0]
    if 'BackwardInput' in target:
        image, out = out, image
    elif 'BackwardFilter' in target:
        kernel, out = out, kernel
    return _convolution(instruction, image, kernel, out)


def _contracted(instruction: Instruction) -> tuple[int, ...]:
    """Returns the axes of the first operand that a matrix product sums over."""
    if instruction.opcode == 'dot':
        return instruction.numbers('lhs_contracting_dims')
    told = re.search(r'"lhs_contracting_dimensions":(\[[^\]]*\])', instruction.attributes)
    return tuple(int(n) for n in json.loads(told[1])) if told else ()


def _convolution(instruction: Instruction, image: Array, kernel: Array, made: Array) -> int:
    """Counts as XLA does: padding and the zeros of dilation cost nothing."""
    labels = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.attributes)
    if labels is None:
        raise ValueError(f'a convolution without dim_labels: {instruction.name}')
    spatial = [label for label in labels[1] if label.isdigit()]
    window = _window(instruction.attributes, len(spatial))
    positions = 1
    for at, label in enumerate(spatial):
        size, out = image.dims[labels[1].index(label)], made.dims[labels[3].index(label)]
        positions *= _positions(
            (size, out, kernel.dims[labels[2].index(label)]), tuple(w[at] for w in window)
        )
    groups = (instruction.numbers('feature_group_count') or (1,))[0]
    batch_groups = (instruction.numbers('batch_group_count') or (1,))[0]
    channels = image.dims[labels[1].index('f')] // groups
    batch = image.dims[labels[1].index('b')] // batch_groups
    return 2 * channels * kernel.dims[labels[2].index('o')] * batch * positions


def _window(attributes: str, axes: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """Returns stride, padding before, dilation of the image and dilation of the kernel along each axis."""
    found = re.search(r'window=\{([^}]*)\}', attributes)
    words = dict(word.split('=') for word in found[1].split()) if found else {}

    def each(name: str, default: str) -> list[int]:
        values = words[name].split('x') if name in words else [default] * axes
        return [int(value.split('_')[0]) for value in values]

    return each('stride', '1'), each('pad', '0'), each('lhs_dilate', '1'), each('rhs_dilate', '1')


@functools.cache
def _positions(sizes: tuple[int, ...], window: tuple[int, ...]) -> int:
    """Returns how many pairs of an output and a kernel's place along an axis read a pixel, not padding or a gap.

    Args:
      sizes: of the image, of what is made, of the kernel.
      window: see `_window`.
    """
    size, made, kernel = sizes
    stride, before, spread, apart = window
    end = (size - 1) * spread
    count = 0
    for tap in range(kernel):
        for out in range(made):
            at = out * stride - before + tap * apart
            count += 0 <= at <= end and at % spread == 0
    return count
