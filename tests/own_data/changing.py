"""Data sets in three layouts, changes of them, and what is said of each; shared by the tests of their identity."""

import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tiny
from ltjax.engine.rounds import Rounds
from ltjax.errors import Preempted, UserError
from ltjax.run import cross_validation, train
from own_data.sets import config as data_config
from own_data.sets import folder, pictures, pixels, save, table

CLASSES = {'mel': 20, 'nv': 20}


def as_folder(root):
    return folder(root / 'set', CLASSES)


def as_csv(root):
    paths = pictures(root / 'set', 40)
    rows = [[path, 'mel' if i < 20 else 'nv', f'p{i // 2}'] for i, path in enumerate(paths)]
    return table(root / 'set' / 'set.csv', ['path', 'label', 'group'], rows)


def as_npz(root):
    images = np.stack([pixels(i) for i in range(40)])
    path = root / 'set.npz'
    names = np.array(['mel', 'nv'])
    np.savez(path, images=images, labels=np.arange(40) // 20, class_names=names)
    return path


def edit(path, old, new):
    text = path.read_text('utf-8')
    assert old in text
    path.write_text(text.replace(old, new, 1), 'utf-8')


def change_npz(path, **changes):
    with np.load(path) as archive:
        arrays = {name: archive[name].copy() for name in archive.files}
    for name, change in changes.items():
        arrays[name] = change(arrays[name])
    np.savez(path, **arrays)


def set_label(labels):
    labels[3] = 1
    return labels


def set_pixel(images):
    images[3, 0, 0, 0] ^= 1
    return images


# By name: how the set is made, how it is changed, and what is said of that.
CHANGES = {
    'image added': (as_folder, lambda p: save(p / 'mel' / 'new.png', 99), 'images added: mel/new.png'),
    'image gone': (as_folder, lambda p: (p / 'nv' / '3.png').unlink(), 'images gone: nv/3.png'),
    'class renamed': (as_folder, lambda p: (p / 'mel').rename(p / 'z'), "'mel' gone, 'z' new"),
    'class added': (as_folder, lambda p: folder(p, {'bcc': 3}, 80), "'bcc' new"),
    'image replaced': (as_folder, lambda p: save(p / 'mel' / '3.png', 99), 'contents changed: mel/3.png'),
    'image moved': (
        as_folder, lambda p: (p / 'mel' / '3.png').rename(p / 'nv' / 'x.png'), 'images added: nv/x.png'
    ),
    'label changed': (
        as_csv, lambda p: edit(p, '3.png,mel', '3.png,nv'), 'labels changed: images/3.png (mel, now nv)'
    ),
    'row added': (as_csv, lambda p: edit(p, 'path,label,group\n', 'path,label,group\nimages/../images/x.png,nv,p9\n')
                  if save(p.parent / 'images' / 'x.png', 99) else None, 'images added: images/../images/x.png'),
    'row removed': (as_csv, lambda p: edit(p, 'images/3.png,mel,p1\n', ''), 'images gone: images/3.png'),
    'group changed': (as_csv, lambda p: edit(p, '39.png,nv,p19', '39.png,nv,p3'), 'images/39.png (p19, now p3)'),
    'rows in another order': (
        as_csv, lambda p: edit(p, 'images/3.png,mel,p1\nimages/4.png,mel,p2\n',
                               'images/4.png,mel,p2\nimages/3.png,mel,p1\n'), 'the order of the images changed'
    ),
    'label of an npz': (as_npz, lambda p: change_npz(p, labels=set_label), 'labels changed: 000003 (mel, now nv)'),
    'pixel of an npz': (as_npz, lambda p: change_npz(p, images=set_pixel), 'contents changed: 000003'),
    'names of an npz': (as_npz, lambda p: change_npz(p, class_names=lambda n: n[::-1]), 'classes or their order'),
}  # fmt: skip


def config(path, **changes):
    made = tiny.config('cross_entropy', path, {'method.train.epochs': 3, 'num_bootstrap': 2})
    made.data = data_config(path)
    made.update_from_flattened_dict(changes)
    return made


def begin(made, workdir):
    """Trains until two rounds are saved, and is told to end."""
    save = Rounds._save
    rounds = []

    def stopping(self, *arguments, **options):
        rounds.append(1)
        self._stop = len(rounds) == 2
        save(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rounds, '_save', stopping)
        with pytest.raises(Preempted):
            train.run(made, workdir)


def refused(made, workdir, run=train.run, **options):
    with pytest.raises(UserError) as error:
        run(made, workdir, **options)
    assert '\n' not in str(error.value)
    return str(error.value)


class Kept:
    """Data sets and the runs on them, made once and put back as they were, times of files too, for each who asks."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.paths: dict[str, pathlib.Path] = {}

    def __call__(
        self, make: Callable[..., Any], run: Callable[..., Any], **changes: Any
    ) -> tuple[pathlib.Path, pathlib.Path]:
        """Returns the path of `make`'s data set and a work directory after `run(config, work directory)`."""
        name = '-'.join((make.__name__, run.__module__, run.__name__, *map(str, changes.values())))
        here, kept = self.folder / name, self.folder / f'{name}.kept'
        if name in self.paths:
            shutil.rmtree(here)
            shutil.copytree(kept, here)
        else:
            here.mkdir()
            path = make(here)
            run(config(path, **changes), here / 'run')
            shutil.copytree(here, kept)
            self.paths[name] = path
        return self.paths[name], here / 'run'


FOLDS = {'data.split.folds': 3, 'data.split.fold': cross_validation.ALL, 'method.train.epochs': 1}
