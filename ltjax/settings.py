"""Configs as plain objects: a tree of values, checked once, becomes frozen dataclasses.

The type of a field says what it holds: `float`, `Literal['mean', 'sum']`, or more with `Annotated`:
`Annotated[float, at_least(0)]`, `Annotated[str, one_of(NAMES)]`. A field without a value keeps its default.
"""

import collections.abc
import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, TypeVar

from ltjax.errors import UserError, unknown

T = TypeVar('T')

# Raises UserError if the value of the key with that name is invalid.
Check = Callable[[str, Any], None]

_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), 'True or False'),
    int: ((int,), 'a whole number'),
    float: ((float, int), 'a number'),
    str: ((str,), 'a text'),
}


def one_of(names: Collection[str]) -> Check:
    """Returns the check that a text is one of `names`."""

    def check(name: str, value: Any) -> None:
        if value not in names:
            raise unknown(name, value, names)

    return check


def _within(fits: Callable[[float], bool], remedy: str) -> Check:
    def check(name: str, value: Any) -> None:
        if not (math.isfinite(value) and fits(value)):
            raise UserError(f'{name} is {value}: use {remedy}.')

    return check


def at_least(low: float) -> Check:
    """Returns the check that a number is `low` or more."""
    return _within(lambda value: value >= low, f'{low:g} or more')


def positive() -> Check:
    """Returns the check that a number is above zero."""
    return _within(lambda value: value > 0, 'a positive number')


def from_to(low: float, high: float) -> Check:
    """Returns the check that a number is in [low, high]."""
    return _within(lambda value: low <= value <= high, f'a number from {low:.10g} to {high:.10g}')


def from_to_below(low: float, high: float) -> Check:
    """Returns the check that a number is in [low, high)."""
    return _within(lambda value: low <= value < high, f'a number from {low:g} to below {high:g}')


def either(*numbers: int) -> Check:
    """Returns the check that a number is one of `numbers`."""
    *others, last = map(str, numbers)
    return _within(lambda value: value in numbers, f'{", ".join(others)} or {last}')


class Choices(dict[str, Callable[..., T]]):
    """Functions by their names, of which a config chooses one; see `Choice`."""

    def add(self, function: Callable[..., T]) -> Callable[..., T]:
        """Takes a function in, under its name: a decorator."""
        self[function.__name__] = function
        return function


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several functions by its name, and values for its keyword arguments; the others keep their defaults."""

    name: str
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict, metadata={'rest': True})


def choice_of(functions: Mapping[str, Callable[..., Any]]) -> Check:
    """Returns the check that a `Choice` is one of `functions`, with values that it takes."""

    def check(name: str, value: Choice) -> None:
        if value.name not in functions:
            raise unknown(f'{name}.name', value.name, functions)
        typed(_keywords(functions[value.name]), value.values, f'{name} {value.name!r}')

    return check


def chosen(functions: Mapping[str, Callable[..., T]], choice: Choice) -> Callable[..., T]:
    """Returns the function that a checked choice names, with its values.

    The annotations of its keyword-only parameters say what they hold, as those of fields do.
    """
    function = functions[choice.name]
    values = typed(_keywords(function), choice.values)
    return functools.partial(function, **vars(values))


@functools.cache
def _keywords(function: Callable[..., Any]) -> type[Any]:
    """Returns the dataclass of a function's keyword-only parameters."""
    hints = typing.get_type_hints(function, include_extras=True)
    fields: list[Any] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY:
            default = () if parameter.default is parameter.empty else (parameter.default,)
            fields.append((name, hints[name], *default))
    return dataclasses.make_dataclass(function.__name__, fields)


def typed(cls: type[T], values: Mapping[str, Any], name: str = '') -> T:
    """Returns the dataclass `cls` that holds `values`.

    Args:
      cls: its fields are bool, int, float, str, Literal, tuples of these, Mapping, or such dataclasses.
        A field with the metadata `{'rest': True}` takes all keys that are no fields.
      values: by the names of the fields.
      name: of the key that holds `values`, for messages.

    Raises:
      UserError: a key that does not exist or is missing, or an invalid value.
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    rest = next((key for key, field in fields.items() if field.metadata.get('rest')), None)
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in fields and key != rest:
            found[key] = _typed(hints[key], value, f'{name}.{key}'.lstrip('.'))
        elif rest is not None:
            found.setdefault(rest, {})[key] = value
        else:
            raise unknown(f'key of {name or "the config"}', key, fields)
    for key, field in fields.items():
        if key not in found and field.default is field.default_factory is dataclasses.MISSING:
            raise UserError(f'{name or "the config"} lacks {key}.')
    return cls(**found)


def _typed(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not hasattr(value, 'items'):
            raise UserError(
                f'{name} is {value!r}: it has keys of its own, such as '
                f'{name}.{dataclasses.fields(hint)[0].name}.'
            )
        return typed(typing.cast(type, hint), value, name)
    if typing.get_origin(hint) is typing.Annotated:
        value = _typed(hint.__origin__, value, name)
        for check in hint.__metadata__:
            check(name, value)
        return value
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            raise unknown(name, value, typing.get_args(hint))
        return value
    if typing.get_origin(hint) in (tuple, collections.abc.Mapping):
        return _several(hint, value, name)
    kinds, what = _KINDS.get(hint, ((), ''))
    if kinds and (not isinstance(value, kinds) or isinstance(value, bool) != (hint is bool)):
        raise UserError(f'{name} is {value!r}: give {what}.')
    return hint(value) if kinds else value


def _several(hint: Any, value: Any, name: str) -> Any:
    (kind, *kinds) = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        if isinstance(value, str) or not hasattr(value, '__iter__'):
            raise UserError(f'{name} is {value!r}: give several values.')
        return tuple(_typed(kind, each, name) for each in value)
    if not hasattr(value, 'items'):
        raise UserError(f'{name} is {value!r}: give values by their names.')
    return {key: _typed(kinds[0], each, f'{name}.{key}') for key, each in value.items()}
