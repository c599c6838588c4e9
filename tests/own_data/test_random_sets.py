"""300 random data sets against an oracle: nothing is taken wrongly, and nothing refused in vain."""

import numpy as np
import pytest

from ltjax.data import datasets
from ltjax.errors import UserError
from own_data import oracle, writing
from own_data.sets import audited, config

SETS, PARTS = 300, 10


# A part takes some six seconds: one is quick.
@pytest.mark.parametrize(
    'part', [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))]
)
def test_what_comes_out_is_what_was_meant(tmp_path, part):
    outcomes = []
    for seed in range(part, SETS, PARTS):
        root = tmp_path / str(seed)
        root.mkdir()
        outcomes.append(agrees(oracle.draw(root, seed), seed))
    assert {True, False} <= set(outcomes)  # some are taken and some are refused


def agrees(drawn, seed):
    """Compares training, the audit and the oracle; tells whether the set is taken."""
    settings = {key.replace('.', '__'): value for key, value in drawn.settings.items()}
    said = ''
    try:
        data = datasets.load(config(drawn.path, **settings))
    except UserError as error:
        said = str(error)
    about = f'set {seed} ({drawn.path.suffix}, {settings}): {drawn.refuse}; {said}'
    assert bool(said) == bool(drawn.refuse), about
    assert audited(drawn.path, **settings) == said, about
    if said:
        assert '\n' not in said, about
        return False
    images = {image.id: image for image in oracle.kept(drawn.images)}
    assert sorted(data.ids.tolist()) == sorted(images), about
    assert list(data.class_names) == drawn.order, about
    assert dict(data.table.written.passed_over) == drawn.passed_over, about
    side = {id_: name for name, part in data.parts.items() for id_ in data.ids[part].tolist()}
    assert sorted(side) == sorted(images), about
    fold = str(drawn.settings.get('split.fold', ''))
    together = {}
    for row, id_ in enumerate(data.ids.tolist()):
        image = images[id_]
        assert data.class_names[data.labels[row]] == oracle.canonical(image.label), about
        assert np.array_equal(data.images[row], writing.pixels(image.picture)), about
        if image.side and fold:
            assert (side[id_] == 'test') == (image.side == fold), about
        elif image.side in ('val', 'test') or (
            image.side and 'val' in {i.side for i in images.values()}
        ):
            assert side[id_] == image.side, about
        elif image.side:
            assert side[id_] in ('train', 'val'), about
        for key in (f'group {image.group}' if image.group else id_, f'picture {image.picture}'):
            assert together.setdefault(key, side[id_]) == side[id_], about
    shares = {name: len(part) / len(data.ids) for name, part in data.parts.items()}
    if not any(image.side for image in images.values()):
        assert 0.12 < shares['test'] < 0.28, about
        assert 0.04 < shares['val'] < 0.18, about
    assert (data.train_counts > 0).all(), about
    return True
