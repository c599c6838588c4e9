"""Splits of sets that come in official parts, and long-tailed versions of balanced ones."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ltjax.data import splits as splitting
from ltjax.data.prepared.writing import Item

Select = Callable[[np.ndarray, Sequence[int], int], np.ndarray]


def official(
    items: Sequence[Item], part: Mapping[str, str], seed: int
) -> dict[str, dict[str, str]]:
    """Names the protocols of a set whose files say 'train', and perhaps 'val' and 'test'.

    Returns:
      'official', the parts as they are. If one is missing, 'clean_official' too, where settings are not
      chosen on what is reported: a tenth of every class of the training part is validation, and the
      official test part, or else the validation part, is the test. With a training part alone there is
      '7_1_2' instead, which draws all three from it.
    """
    given = set(part.values())
    if given == set(splitting.NAMES):
        return {'official': dict(part)}
    train = [item for item in items if part[item.id] == 'train']
    alone = given == {'train'}
    named = splitting.protocol(
        np.array([item.label for item in train]),
        None,
        fractions=(0.7, 0.1, 0.2) if alone else (0.9, 0.1, 0.0),
        seed=seed,
    )
    drawn = dict(zip([item.id for item in train], named.tolist(), strict=True))
    if alone:
        return {'7_1_2': drawn}
    held = dict.fromkeys((id_ for id_, side in part.items() if side != 'train'), 'test')
    return {'official': dict(part), 'clean_official': drawn | held}


def long_tailed(
    items: Sequence[Item],
    part: Mapping[str, str],
    sizes: Mapping[str, Callable[[int], Sequence[int]]],
    select: Select,
    seed: int,
) -> dict[str, dict[str, str]]:
    """Thins the training part of a balanced set; its other parts stay.

    Args:
      items: the images.
      part: 'train' or 'test' by id.
      sizes: by protocol, (images of the largest class) -> training images of every class.
      select: (labels, counts, seed) -> which rows are kept, as `long_tail.subsample`.
      seed: chooses the images.

    Returns:
      'official' and 'clean_official' as above, and every construction out of the one, and as
      'clean_NAME' out of the other, whose balanced validation part is held out before.
    """
    made = official(items, part, seed)
    for base, prefix in (('official', ''), ('clean_official', 'clean_')):
        train = [item for item in items if made[base][item.id] == 'train']
        labels = np.array([item.label for item in train])
        held = {id_: side for id_, side in made[base].items() if side != 'train'}
        for name, counts in sizes.items():
            kept = select(labels, counts(int(np.bincount(labels).min())), seed)
            made[prefix + name] = {train[row].id: 'train' for row in kept} | held
    return made
