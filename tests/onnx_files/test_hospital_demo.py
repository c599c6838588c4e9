"""scripts/hospital_demo.py from generated photographs to classes by onnxruntime, as docs/hospital.md shows it."""

import csv
import subprocess
import sys

import numpy as np
from PIL import Image

import tiny

DEMO = tiny.ROOT / 'scripts' / 'hospital_demo.py'
CLASSES = {'nv': 24, 'mel': 12, 'bcc': 9}
SHORT = (
    '--config.model.name=small_cnn',
    '--config.method.train.epochs=2',
    '--config.method.train.batch_size=8',
    '--config.num_bootstrap=20',
    '--config.errors_shown=0',
)


def photographs(folder):
    """Writes JPEG files of lesions of three colours, two of each, and their table."""
    rng = np.random.default_rng(0)
    rows = []
    for k, (name, number) in enumerate(CLASSES.items()):
        for i in range(number):
            pixels = rng.normal(100, 20, (30, 40, 3))
            pixels[8:22, 10:30, k] += 90
            row = {'image_id': f'{name}_{i:02d}', 'lesion_id': f'{name} {i // 2}', 'dx': name}
            rows.append(row | {'sex': ('male', 'female')[i // 2 % 2]})
            picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
            picture.save(folder / f'{row["image_id"]}.jpg')
    with (folder.parent / 'patients.csv').open('w', encoding='utf-8', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder.parent / 'patients.csv'


def demo(table, photos, out):
    return subprocess.run(
        [
            *(sys.executable, DEMO, table, '--images-in', photos, '--suffix=.jpg', '--by=sex'),
            *('--columns=path=image_id', '--columns=label=dx', '--columns=group=lesion_id'),
            *('--size=16', '--method=cross_entropy', f'--train={" ".join(SHORT)}', '--out', out),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tiny.ROOT,
    )


def test_from_photographs_to_onnxruntime(tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    table, out = photographs(photos), tmp_path / 'out'
    ended = demo(table, photos, out)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert 'ltjax and onnxruntime give 45 of 45 images the same class' in ended.stdout
    with (out / 'ltjax.csv').open(encoding='utf-8', newline='') as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:5] == ['id', 'label', 'prediction', 'positive', 'set']
    assert (out / 'evaluation' / 'report.html').is_file()

    (out / 'ltjax.csv').unlink()
    again = demo(table, photos, out)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count('is there)') == 6
    assert (out / 'ltjax.csv').is_file()


def test_it_stops_at_the_first_step_that_fails(tmp_path):
    photos = tmp_path / 'photos'
    photos.mkdir()
    table = photographs(photos)
    next(photos.iterdir()).unlink()
    ended = demo(table, photos, tmp_path / 'out')
    assert ended.returncode == 2
    assert 'Traceback' not in ended.stderr
    assert 'is missing' in ended.stderr or 'does not exist' in ended.stderr, ended.stderr
    assert not (tmp_path / 'out' / 'run').exists()
