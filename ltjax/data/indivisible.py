"""What must stay on one side of a split: the images of a group, and images that are equal."""

from collections.abc import Callable

import numpy as np

from ltjax.data.near_duplicates import Clusters


class Units:
    """Images that belong together.

    Args:
      labels: int [N].
      groups: int or str [N], '' where there is none: such an image is its own group. None: all are.
      alike: str [N]: images with the same text are equal, or nearly; '' is equal to nothing.
    """

    def __init__(self, labels: np.ndarray, groups: np.ndarray | None, alike: np.ndarray) -> None:
        self._labels, self._groups, self._alike = labels, groups, alike

    def of(self, rows: np.ndarray) -> 'Units':
        """Returns the units of some of the images."""
        groups = None if self._groups is None else self._groups[rows]
        return Units(self._labels[rows], groups, self._alike[rows])

    def joined(self) -> np.ndarray:
        """Returns the number of every image's unit, int64 [N]: groups and equal images, joined where they overlap."""
        clusters = Clusters(len(self._labels))
        clusters.join_equal(self._names())
        clusters.join_equal(self._alike)
        return clusters.labels()

    def deal(self, draw: Callable[[np.ndarray, np.ndarray | None], np.ndarray]) -> np.ndarray:
        """Returns the part of every image, as `draw` deals whole units.

        Args:
          draw: (labels [n], groups [n] or None) -> parts [n]; without groups every image is dealt by itself, and of
            equal ones the first stands for all.
        """
        joined = self.joined()
        if self._groups is None:
            _, first, unit = np.unique(joined, return_index=True, return_inverse=True)
            return draw(self._labels[first], None)[unit]
        by_group = Clusters(len(self._labels))
        by_group.join_equal(self._names())
        # Where equal images change nothing, the groups stay what they are called: a draw may depend on that.
        same = np.array_equal(by_group.labels(), joined)
        return draw(self._labels, self._groups if same else joined)

    def crossing(self, of: np.ndarray) -> dict[str, tuple[int, tuple[int, int]]]:
        """Returns how many groups, and sets of equal images, lie on two sides of `of`, str [N], and two such images.

        Where `of` is '' an image is on no side. What does not occur is not in it.
        """
        found = {}
        for what, keys in (('groups', self._names()), ('sets of equal images', self._alike)):
            first: dict[str, int] = {}
            crossing: dict[str, tuple[int, int]] = {}
            for row, (key, side) in enumerate(zip(keys.tolist(), of.tolist(), strict=True)):
                if not key or not side:
                    continue
                other = first.setdefault(key, row)
                if of[other] != side:
                    crossing.setdefault(key, (other, row))
            if crossing:
                found[what] = (len(crossing), next(iter(crossing.values())))
        return found

    def conflicts(self) -> int:
        """Returns how many sets of equal images have several labels."""
        labels_of: dict[str, set[int]] = {}
        for key, label in zip(self._alike.tolist(), self._labels.tolist(), strict=True):
            if key:
                labels_of.setdefault(key, set()).add(label)
        return sum(len(labels) > 1 for labels in labels_of.values())

    def _names(self) -> np.ndarray:
        if self._groups is None:
            return np.full(len(self._labels), '')
        return self._groups.astype(np.str_)
