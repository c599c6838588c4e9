"""The picture of the views: what it shows, and mistakes."""

import sys

import numpy as np
import pytest
from PIL import Image

import tiny
from ltjax.data import augment, show
from ltjax.errors import UserError


def test_a_row_holds_an_image_and_its_views():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    pictures = show.grid(images, ['none', 'cell_weak'], 2, seed=0)
    assert pictures.shape == (3, 5, 8, 8, 3)
    assert pictures.dtype == np.uint8
    for column in range(3):  # the original, and twice nothing done
        np.testing.assert_array_equal(pictures[:, column], images)
    flips = [images, images[:, ::-1], images[:, :, ::-1], images[:, ::-1, ::-1]]
    for row in range(3):
        for column in (3, 4):
            assert any(np.array_equal(pictures[row, column], f[row]) for f in flips)
    figure = show.draw(pictures, ['none', 'cell_weak'], 2)
    titles = [axis.get_title(loc='left') for axis in figure.axes]
    assert titles[:5] == ['original', 'none', '', 'cell_weak', '']


def test_the_command_draws_images_of_every_class(tmp_path, capsys):
    data, out = tiny.npz(tmp_path / 'data.npz'), tmp_path / 'views.png'
    show.main([f'--out={out}', f'--data={data}', '--images=3', '--draws=1', '--image-size=8'])
    assert capsys.readouterr().out == f'{out}: 3 images, upright_weak, upright_strong\n'
    with Image.open(out) as picture:
        assert min(picture.size) > 300


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            ['--views', 'weak'],
            f'unknown augmentation .weak.: did you mean {"|".join(augment.VIEWS)}',
        ),
        (['--draws', '0'], 'should be 1 or more'),
        (['--data', 'absent.npz'], 'absent.npz does not exist'),
    ],
)
def test_mistakes_are_told(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        show.main(['--out', str(tmp_path / 'a.png'), *options])


def test_the_command_line_ends_in_one_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / 'absent' / 'a.png'
    monkeypatch.setattr(sys, 'argv', ['show', f'--out={path}', '--images=1', '--views', 'none'])
    with pytest.raises(SystemExit) as stopped:
        show.cli()
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f'error: cannot write {path}')
