"""Near-duplicates as groups, and what the programs share."""

import numpy as np
import pytest
from PIL import Image

import fabricated
from data_prep.tools import groups, tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError


def gradient(seed):
    """A smooth picture, as photographs are and noise is not."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)


def test_near_duplicates_survive_compression_and_light_but_not_another_picture(tmp_path, capsys):
    gradient(0).save(tmp_path / 'a.png')
    gradient(1).save(tmp_path / 'b.png')
    gradient(0).save(tmp_path / 'c.jpg', quality=80)
    (tmp_path / 'd.png').write_bytes(b'no image')
    gradient(0).resize((80, 60)).point(lambda v: v // 2 + 40).save(tmp_path / 'e.jpg', quality=95)
    paths = {path.stem: path for path in sorted(tmp_path.iterdir())}
    found = groups.of_near_duplicates(paths, 2)
    assert found == {'a': 'a', 'b': 'b', 'c': 'a', 'd': 'd', 'e': 'a'}
    assert '5 images are 3 groups of near-duplicates, up to 3' in capsys.readouterr().out
    assert groups.of_near_duplicates({'d': paths['d']}, 1) == {'d': 'd'}
    joined = groups.of_near_duplicates(paths, 1, lambda some: [np.array([[len(some) - 1, 1]])])
    assert joined == {'a': 'a', 'b': 'b', 'c': 'c', 'd': 'd', 'e': 'b'}


def test_images_are_found_in_nested_folders_whatever_their_suffix(tmp_path):
    for name in ('a.jpg', 'x/x/b.JPG', 'x/c.png', 'x/x/a.jpg', 'y/d.tar.jpeg'):
        fabricated.picture(tmp_path / name)
    fabricated.litter(tmp_path / 'x')
    found = tool.index_images(tmp_path)
    assert set(found) == {'a', 'b', 'c', 'd.tar'}
    assert found['a'] == tmp_path / 'a.jpg'


def test_things_are_looked_for_two_levels_down(tmp_path):
    for name in ('p/q/file.csv', 'p/other.csv', 'p/q/r/deep.csv'):
        fabricated.table(tmp_path / name, ('a',), [])
    assert tool.look(tmp_path, 'none.csv', 'file.csv') == tmp_path / 'p/q/file.csv'
    assert tool.look(tmp_path, 'other.csv', 'file.csv') == tmp_path / 'p/other.csv'
    assert tool.look(tmp_path, 'deep.csv') is None
    with pytest.raises(UserError, match=r'has no deep\.csv\. Get it\.'):
        tool.find(tmp_path, 'deep.csv', 'Get it.')


def test_many_missing_images_are_counted_and_some_named(tmp_path):
    images = {'a': tmp_path, 'z': tmp_path}
    with pytest.raises(UserError, match=r'6 of 7 labelled .*: b, c, d, e, f and 1 more\. Get it\.'):
        tool.matched('abcdefg', images, partial=False, origin='Get it.')
    assert tool.matched('abcdefg', images, partial=True, origin='') == ['a']
    with pytest.raises(UserError, match='2 of 2 labelled images are missing'):
        tool.matched('bc', images, partial=True, origin='')


@pytest.mark.parametrize('name', tool.PROTOCOLS)
def test_every_protocol_can_be_drawn(name, tmp_path):
    items = [Item(f'{at}', at % 3, tmp_path, f'{at // 2}') for at in range(150)]
    drawn = tool.draw(items, (name, f'clean_{name}'), seed=1)
    assert drawn == tool.draw(items, (f'clean_{name}', name), seed=1)
    assert drawn != tool.draw(items, (name, f'clean_{name}'), seed=2)
    shares = tool.PROTOCOLS[name]
    for split in drawn.values():
        sizes = np.unique(list(split.values()), return_counts=True)
        if isinstance(shares, int):
            assert sizes[0].tolist() == [str(fold) for fold in range(shares)]
            expected = np.full(shares, 150 / shares)
        else:
            assert sizes[0].tolist() == ['test', 'train', 'val']
            expected = 150 * np.array([shares[2], shares[0], shares[1]])
        np.testing.assert_allclose(sizes[1], expected, atol=6)
    clean = drawn[f'clean_{name}']
    assert all(clean[f'{2 * at}'] == clean[f'{2 * at + 1}'] for at in range(75))


def test_the_command_says_what_is_not_there(tmp_path, capsys):
    def read(source, arguments):
        raise UserError('checked')

    source = tool.Source('name', 'Get it.', 'MIT', read)
    for folder, message in ((tmp_path, 'error: checked'), (tmp_path / 'no', 'not exist. Get it.')):
        with pytest.raises(SystemExit) as error:
            tool.run(source, 'what it is', [f'--source={folder}', '--out=x'])
        assert error.value.code == 2
        assert message in capsys.readouterr().err
