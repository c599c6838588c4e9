"""Imports point down, and never in a circle."""

import ast
import functools
import graphlib

import tiny

# From the top, as CONTRIBUTING.md draws them. On the ground: `command`, since some commands live with the data.
FLOORS = (
    'main predict evaluate export __main__',
    'run',
    'methods benchmarks',
    'engine',
    'data',
    'models evaluation report sharding',
    'losses files provenance settings errors processes huge_pages command written version',
)
HEIGHT = {room: -depth for depth, floor in enumerate(FLOORS) for room in floor.split()}
FILES = {
    '.'.join(path.relative_to(tiny.ROOT).with_suffix('').parts).removesuffix('.__init__'): path
    for path in (tiny.ROOT / 'ltjax').rglob('*.py')
}


def imported(tree):
    """Yields the modules of ltjax that a tree imports, inside functions too; not those that types alone need."""
    nodes = [tree]
    while nodes:
        node, names = nodes.pop(), ()
        if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f'line {node.lineno}: a relative import'
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        for name in names:
            module = name if name in FILES else name.rpartition('.')[0]
            if module in FILES:
                yield module


def room(module):
    """Returns the part of ltjax that a module belongs to; '' for the door, which imports when it is asked."""
    return f'{module}.'.split('.')[1]


@functools.cache
def graph():
    """Returns what each module imports, by name; read when a test asks, not whenever tests are collected."""
    return {name: {*imported(ast.parse(path.read_bytes()))} for name, path in FILES.items()}


def arrows():
    return [(name, below) for name, modules in graph().items() for below in modules]


def test_imports_point_down():
    between_rooms = [(a, b) for a, b in arrows() if room(a) and room(b)]
    assert [(a, b) for a, b in between_rooms if HEIGHT[room(a)] < HEIGHT[room(b)]] == []


def test_losses_can_be_copied_into_another_project():
    assert {room(b) for a, b in arrows() if room(a) == 'losses'} == {'losses'}


def test_no_circles():
    rooms = graphlib.TopologicalSorter()
    for a, b in arrows():
        if room(a) != room(b) != '':
            rooms.add(room(a), room(b))
    rooms.prepare()
    graphlib.TopologicalSorter(graph()).prepare()
