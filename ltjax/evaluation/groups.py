"""Head, medium and tail: the groups of classes that long-tailed results are read by."""

import collections
from collections.abc import Mapping, Sequence
from typing import Any

from ltjax.errors import UserError, unknown
from ltjax.written import values

GROUP_NAMES = ('head', 'medium', 'tail')


def by_training_size(train_counts: Sequence[int]) -> list[int]:
    """Returns the classes from the largest to the smallest training count, ties by lower index."""
    return sorted(range(len(train_counts)), key=lambda k: (-train_counts[k], k))


def head_medium_tail(
    train_counts: Sequence[int],
    explicit: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Divides the K classes into head, medium and tail.

    Classes are sorted by training count (of equal counts the lower class index counts as larger).
    The head is the K // 3 largest, the tail the K // 3 smallest (at least one class each if there
    are two), medium is the rest. A group without classes is absent. Papers often leave their own
    division undefined, or state one that no cut by counts gives: `explicit` then names it.

    Args:
      train_counts: [K] number of training images of each class.
      explicit: class indices by group name ('head', 'medium', 'tail'), each class exactly once.

    Returns:
      Class indices by group name, in the order head, medium, tail.

    Raises:
      UserError: an explicit group has an unknown name or leaves a class out, doubles or invents it.

    >>> head_medium_tail([500, 20, 100, 7])
    {'head': (0,), 'medium': (2, 1), 'tail': (3,)}
    """
    num_classes = len(train_counts)
    if explicit is not None:
        return _checked(explicit, num_classes)
    order = by_training_size(train_counts)
    if num_classes < 2:
        return {'head': tuple(order)} if order else {}
    third = max(1, num_classes // 3)
    groups = {
        'head': tuple(order[:third]),
        'medium': tuple(order[third : num_classes - third]),
        'tail': tuple(order[num_classes - third :]),
    }
    return {name: classes for name, classes in groups.items() if classes}


def divide(
    settings: Mapping[str, Any], train_counts: Sequence[int], class_names: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """Divides the classes as the `data.groups` of a config say.

    Args:
      settings: 'head', 'medium' and 'tail', classes by name or place; where these are empty, 'by':
        'thirds', or 'counts': more than 100 training images, 20 to 100, and less than 20.
      train_counts: [K] number of training images of each class.
      class_names: the K names.

    Returns:
      Class indices by group name, see `head_medium_tail`.

    Raises:
      UserError: there is no such class, or a class is named twice or not at all.

    >>> divide({'by': 'counts'}, [500, 20, 100, 7], 'abcd')
    {'head': (0,), 'medium': (2, 1), 'tail': (3,)}
    """
    chosen = by_name({name: settings.get(name, ()) for name in GROUP_NAMES}, class_names)
    if chosen is not None or settings['by'] == 'thirds':
        return head_medium_tail(train_counts, chosen)
    groups: dict[str, list[int]] = {name: [] for name in GROUP_NAMES}
    for k in by_training_size(train_counts):
        many, few = train_counts[k] > 100, train_counts[k] < 20
        groups['head' if many else 'tail' if few else 'medium'].append(k)
    return {name: tuple(classes) for name, classes in groups.items() if classes}


def by_name(
    groups: Mapping[str, Sequence[int | str]], class_names: Sequence[str]
) -> dict[str, list[int]] | None:
    """Returns the classes that a user names, by group, as indices; None if none are named.

    A class is given by its name; or by its place, unless names are numbers, which are then meant.

    Raises:
      UserError: there is no such class.

    >>> by_name({'tail': ('nv', 0)}, ('mel', 'nv'))
    {'tail': [1, 0]}
    >>> by_name({'tail': (2, 3)}, ('1', '2', '3'))
    {'tail': [1, 2]}
    """
    place = {values.text(name): k for k, name in enumerate(class_names)}
    numbers = any(values.are_numbers([name]) for name in class_names)

    def index(given: int | str) -> int:
        name = values.text(given)
        if name in place:
            return place[name]
        if isinstance(given, int) and not numbers:
            return given
        raise unknown('class', str(given), class_names)

    return {
        name: [index(each) for each in given] for name, given in groups.items() if given
    } or None


def _checked(explicit: Mapping[str, Sequence[int]], num_classes: int) -> dict[str, tuple[int, ...]]:
    """Returns explicit groups in canonical order, or raises UserError."""
    for name in explicit:
        if name not in GROUP_NAMES:
            raise unknown('class group', name, GROUP_NAMES)
    groups = {name: tuple(int(k) for k in explicit.get(name, ())) for name in GROUP_NAMES}
    listed = [k for classes in groups.values() for k in classes]
    outside = sorted({k for k in listed if not 0 <= k < num_classes})
    if outside:
        raise UserError(
            f'class groups list {outside}: with {num_classes} classes use 0 to {num_classes - 1}.'
        )
    doubled = sorted(k for k, times in collections.Counter(listed).items() if times > 1)
    if doubled:
        raise UserError(
            f'class groups list {doubled} more than once: keep each class in one group.'
        )
    missing = sorted(set(range(num_classes)) - set(listed))
    if missing:
        raise UserError(f'class groups leave out {missing}: put each class in one group.')
    return {name: classes for name, classes in groups.items() if classes}
