"""Prepared sets (see `ltjax.data.prepared`) as tables: their protocols, classes and groups."""

import json
import pathlib
from collections.abc import Callable

import numpy as np

from ltjax.data.prepared import originals, records
from ltjax.data.reading.table import Written


def read(root: pathlib.Path, conform: Callable[[np.ndarray], np.ndarray]) -> Written:
    """Opens the prepared set in `root`; its images are read when they are asked for, and `conform` is applied to them.

    Raises:
      UserError: there is none, it is unfinished, or a file of it was changed.
    """
    made = records.read(root)
    own = made.manifest.get('own', False)
    excluded = len(made.manifest['excluded'])
    names = np.array(made.class_names)
    return Written(
        'prepared',
        str(root),
        ids=made.ids.tolist(),
        pixels=made.stored(conform),
        place=lambda row: f'image {made.ids[row]}',
        labels=names[made.labels].tolist(),
        class_names=made.class_names,
        declared=True,
        ordered=made.manifest.get('ordered', False),
        splits={name: made.split(name).tolist() for name in made.manifest['splits']},
        # Integers stay integers, on whose order drawn splits depend.
        groups=made.groups.astype(np.int64)
        if made.manifest.get('numbered_groups')
        else made.groups,
        columns=made.columns,
        notes=[f'images left out when it was prepared: {excluded}'] if excluded else [],
        split_from='the protocol',
        side=made.manifest['image_size'],
        digests=originals.read(root, made.manifest['shards']).digests if own else None,
        published=not own,
        source=json.dumps([shard['sha256'] for shard in made.manifest['shards']]),
    )
