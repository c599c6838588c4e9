"""Hyper-Kvasir, APTOS 2019 and bone marrow, in miniature."""

import functools
import hashlib
import shutil
from collections import Counter

import numpy as np
import pytest

import fabricated
from data_prep import aptos2019, bone_marrow, hyper_kvasir
from data_prep.tools import tool
from ltjax.data.prepared import writing
from ltjax.data.reading import images as image_files

# Counts and parts of the lists that LMD published.
PARTS = {
    'barretts': (33, 4, 4), 'barretts-short-segment': (43, 5, 5), 'bbps-0-1': (516, 65, 65),
    'bbps-2-3': (918, 115, 115), 'cecum': (807, 101, 101), 'dyed-lifted-polyps': (802, 100, 100),
    'dyed-resection-margins': (791, 99, 99), 'esophagitis-a': (323, 40, 40), 'esophagitis-b-d': (208, 26, 26),
    'hemorrhoids': (4, 1, 1), 'ileum': (7, 1, 1), 'impacted-stool': (105, 13, 13), 'polyps': (822, 103, 103),
    'pylorus': (799, 100, 100), 'retroflex-rectum': (313, 39, 39), 'retroflex-stomach': (610, 77, 77),
    'ulcerative-colitis-grade-0-1': (27, 4, 4), 'ulcerative-colitis-grade-1': (161, 20, 20),
    'ulcerative-colitis-grade-1-2': (9, 1, 1), 'ulcerative-colitis-grade-2': (355, 44, 44),
    'ulcerative-colitis-grade-2-3': (22, 3, 3), 'ulcerative-colitis-grade-3': (107, 13, 13), 'z-line': (746, 93, 93),
}  # fmt: skip

# Folders in the order of the official table: tract, category, finding.
FOLDERS = [
    'lower-gi-tract/anatomical-landmarks/cecum',
    'lower-gi-tract/anatomical-landmarks/ileum',
    'lower-gi-tract/anatomical-landmarks/retroflex-rectum',
    'lower-gi-tract/pathological-findings/hemorrhoids',
    'lower-gi-tract/pathological-findings/polyps',
    'lower-gi-tract/pathological-findings/ulcerative-colitis-grade-0-1',
    'lower-gi-tract/pathological-findings/ulcerative-colitis-grade-1',
    'lower-gi-tract/pathological-findings/ulcerative-colitis-grade-1-2',
    'lower-gi-tract/pathological-findings/ulcerative-colitis-grade-2',
    'lower-gi-tract/pathological-findings/ulcerative-colitis-grade-2-3',
    'lower-gi-tract/pathological-findings/ulcerative-colitis-grade-3',
    'lower-gi-tract/quality-of-mucosal-views/bbps-0-1',
    'lower-gi-tract/quality-of-mucosal-views/bbps-2-3',
    'lower-gi-tract/quality-of-mucosal-views/impacted-stool',
    'lower-gi-tract/therapeutic-interventions/dyed-lifted-polyps',
    'lower-gi-tract/therapeutic-interventions/dyed-resection-margins',
    'upper-gi-tract/anatomical-landmarks/pylorus',
    'upper-gi-tract/anatomical-landmarks/retroflex-stomach',
    'upper-gi-tract/anatomical-landmarks/z-line',
    'upper-gi-tract/pathological-findings/barretts',
    'upper-gi-tract/pathological-findings/barretts-short-segment',
    'upper-gi-tract/pathological-findings/esophagitis-a',
    'upper-gi-tract/pathological-findings/esophagitis-b-d',
]
OFFICIAL = {
    'cecum': 'normal-cecum', 'pylorus': 'normal-pylorus', 'z-line': 'normal-z-line', 'polyps': 'polyp',
    'esophagitis-a': 'oesophagitis-a', 'esophagitis-b-d': 'oesophagitis-b-d', 'hemorrhoids': 'hemorroids',
    'barretts-short-segment': 'short-segment-barretts',
}  # fmt: skip
COPY = 'frame-099'  # of frame-000


def kvasir(root):
    """Three images a finding, a copy of the first, and the tables; returns the finding by image."""
    labels, rows, folds = {}, [], []
    for at, folder in enumerate(FOLDERS):
        tract, category, finding = folder.split('/')
        for number in (0, 1, 2):
            image = f'frame-{3 * at + number:03d}'
            labels[image] = finding
            fabricated.picture(root / 'labeled-images' / folder / f'{image}.jpg', size=(40, 30))
    fabricated.litter(root / 'labeled-images' / FOLDERS[0])
    first = root / 'labeled-images' / FOLDERS[0]
    shutil.copy(first / 'frame-000.jpg', first / f'{COPY}.jpg')
    labels[COPY] = labels['frame-000']
    for at, (image, finding) in enumerate(labels.items()):
        tract, category, _ = next(path for path in FOLDERS if path.endswith(f'/{finding}')).split(
            '/'
        )
        rows.append((image, {'l': 'Lower GI', 'u': 'Upper GI'}[tract[0]], finding, category))
        folds.append((f'{image}.jpg', OFFICIAL.get(finding, finding), at % 5))
    header = ('Video file', 'Organ', 'Finding', 'Classification')
    fabricated.table(root / 'labeled-images' / 'image-labels.csv', header, rows)
    fabricated.table(
        root / 'official_splits' / '5_fold_split.csv', ('file-name', 'class-name', 'split-index'), folds, ';'
    )  # fmt: skip
    return labels


def test_hyper_kvasir_with_both_spellings(tmp_path):
    labels = kvasir(tmp_path / 'in')
    found = fabricated.run(hyper_kvasir, tmp_path / 'in', tmp_path / 'out')
    assert fabricated.labels_of(found) == labels
    assert found.class_names == tuple(sorted(PARTS))
    assert set(found.manifest['splits']) == {'clean_8_1_1', 'clean_5_fold', 'official_5_fold'}
    folds = fabricated.sides(found, 'official_5_fold')
    assert [int(folds[image]) for image in labels] == [at % 5 for at in range(len(labels))]
    group = dict(zip(found.ids.tolist(), found.groups.tolist(), strict=True))
    assert group.pop(COPY) == 'frame-000'
    assert all(image == own for image, own in group.items())
    for protocol in ('clean_8_1_1', 'clean_5_fold'):
        side = fabricated.sides(found, protocol)
        assert side[COPY] == side['frame-000']


@pytest.mark.parametrize(
    'change', ['other finding', 'strange finding', 'absent', 'more', 'no image']
)
def test_hyper_kvasir_s_tables_are_checked(tmp_path, capsys, change):
    labels = kvasir(tmp_path / 'in')
    path = tmp_path / 'in' / 'labeled-images' / 'image-labels.csv'
    lines = path.read_text('utf-8').splitlines()
    image, message = 'frame-001', ''
    if change == 'other finding':
        lines = [line.replace('cecum', 'ileum') if image in line else line for line in lines]
        message = f'{image} lies in cecum; in {path} it is ileum'
    elif change == 'strange finding':
        lines = [line.replace('cecum', 'caecum') if image in line else line for line in lines]
        message = "has the finding 'caecum'"
    elif change == 'absent':
        lines = [line for line in lines if image not in line]
        message = f'in {path} it is not there'
    elif change == 'more':
        lines.append('frame-777,Lower GI,cecum,anatomical-landmarks')
        message = f'1 of {len(labels) + 1} labelled images are missing: frame-777.'
    else:
        shutil.rmtree(tmp_path / 'in' / 'labeled-images')
        path.parent.mkdir()
        message = 'has no images in folders of findings'
    path.write_text('\n'.join(lines), 'utf-8')
    argv = [f'--source={tmp_path / "in"}', f'--out={tmp_path / "out"}']
    with pytest.raises(SystemExit):
        tool.run(hyper_kvasir.SOURCE, '', argv)
    assert message in capsys.readouterr().err


def test_8_1_1_is_what_lmd_published():
    order = [hyper_kvasir.CLASSES.index(folder.split('/')[2]) for folder in FOLDERS]
    labels = np.repeat(order, [hyper_kvasir.COUNTS[hyper_kvasir.CLASSES[k]] for k in order])
    parts = hyper_kvasir.authors_split(labels)
    for label, name in enumerate(hyper_kvasir.CLASSES):
        sizes = Counter(parts[labels == label].tolist())
        assert (sizes['train'], sizes['val'], sizes['test']) == PARTS[name]
    # With the real names this is, image for image, what is in LMD's lists.
    text = ','.join(parts.tolist())
    assert hashlib.sha256(text.encode()).hexdigest().startswith('eb74f317afa2a615')


def test_whole_hyper_kvasir_has_its_paper_s_split(tmp_path, monkeypatch):
    labels = kvasir(tmp_path / 'in')
    monkeypatch.setattr(hyper_kvasir, 'COUNTS', dict(Counter(labels.values())))
    monkeypatch.setattr(
        hyper_kvasir, 'authors_split', lambda some: np.array(['val', 'test'])[np.array(some) % 2]
    )
    found = fabricated.run(hyper_kvasir, tmp_path / 'in', tmp_path / 'out')
    expected = {
        image: ('val', 'test')[hyper_kvasir.CLASSES.index(name) % 2] for image, name in labels.items()
    }  # fmt: skip
    assert fabricated.sides(found, '8_1_1') == expected
    assert fabricated.has_what_its_benchmarks_take(found, 'hyper_kvasir')


GRADES = {f'{at:012x}': at % 5 for at in range(20)}


def aptos(root, nested=False):
    folder = root / 'train_images'
    folder = folder / 'train_images' if nested else folder
    for at, image in enumerate(GRADES):
        fabricated.picture(folder / f'{image}.png', size=(40 + at, 30))
    fabricated.litter(folder)
    fabricated.picture(root / 'test_images' / 'ffff.png')
    fabricated.table(root / 'test.csv', ('id_code',), [('ffff',)])
    return fabricated.table(root / 'train.csv', ('id_code', 'diagnosis'), GRADES.items())


@pytest.mark.parametrize('nested', [False, True])
def test_aptos(tmp_path, nested):
    aptos(tmp_path / 'in', nested)
    found = fabricated.run(aptos2019, tmp_path / 'in', tmp_path / 'out')
    assert dict(zip(found.ids.tolist(), found.labels.tolist(), strict=True)) == GRADES
    names = {'5_fold', '7_3', '80_20'}
    clean = {f'clean_{name}' for name in names}
    assert set(found.manifest['splits']) == names | clean | {*tool.INNER}
    assert fabricated.has_what_its_benchmarks_take(found, 'aptos2019')
    assert sum(aptos2019.COUNTS.values()) == 3662


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('000000000000,4', 'names 000000000000 twice'),
        ('abc,5', "abc has the grade '5'"),
        ('abc,', "abc has the grade ''"),
        ('abc', 'line 22 of'),
        ('abc,1', '1 of 21 labelled images are missing: abc. Get it at'),
        ('', 'no DR 4, not 1805; mild 4, not 370'),
    ],
)
def test_aptos_is_checked_before_anything_is_decoded(tmp_path, capsys, line, message):
    table = aptos(tmp_path / 'in')
    table.write_text(table.read_text('utf-8') + line + '\n', 'utf-8')
    for path in (tmp_path / 'in' / 'train_images').glob('0*.png'):
        path.write_bytes(b'no image')
    argv = [f'--source={tmp_path / "in"}', f'--out={tmp_path / "out"}']
    with pytest.raises(SystemExit) as error:
        tool.run(aptos2019.SOURCE, '', argv)
    assert error.value.code == 2
    (printed,) = capsys.readouterr().err.splitlines()
    assert message in printed
    assert not (tmp_path / 'out').exists()


def test_a_damaged_image_stops_the_run_or_is_left_out(tmp_path, capsys):
    aptos(tmp_path / 'in')
    broken = tmp_path / 'in' / 'train_images' / f'{list(GRADES)[7]}.png'
    picture = broken.read_bytes()
    broken.write_bytes(picture[:100])
    with pytest.raises(SystemExit):
        fabricated.run(aptos2019, tmp_path / 'in', tmp_path / 'out')
    assert broken.name in capsys.readouterr().err
    assert not (tmp_path / 'out' / 'manifest.json').exists()
    without = fabricated.run(aptos2019, tmp_path / 'in', tmp_path / 'fewer', '--on-damaged=exclude')
    assert set(without.manifest['excluded']) == {broken.stem}
    assert len(without.ids) == 19
    broken.write_bytes(picture)
    again = fabricated.run(aptos2019, tmp_path / 'in', tmp_path / 'out')
    undisturbed = fabricated.run(aptos2019, tmp_path / 'in', tmp_path / 'other')
    assert again.manifest == undisturbed.manifest
    again.verify()


def marrow(root, codes, count=5):
    for code in codes:
        for number in range(1, count + 1):
            between = [] if code in ('ABE', 'KSC') else [f'{number // 3:04d}-1000']
            path = root.joinpath(code, *between, f'{code}_{number:05d}.jpg')
            fabricated.picture(path)
        fabricated.litter(root / code)
    (root / '__MACOSX').mkdir(exist_ok=True)
    (root / 'abbreviations.csv').write_text('x', 'utf-8')
    return root


def test_an_interrupted_run_is_taken_up(tmp_path, monkeypatch):
    root, decode, decoded = marrow(tmp_path / 'in', bone_marrow.COUNTS), image_files.decode, []

    def counted(path, channels):
        decoded.append(path)
        if len(decoded) == stop:
            raise KeyboardInterrupt
        return decode(path, channels)

    monkeypatch.setattr(writing, 'write', functools.partial(writing.write, images_per_shard=20))
    undisturbed = fabricated.run(bone_marrow, root, tmp_path / 'other')
    monkeypatch.setattr(image_files, 'decode', counted)
    stop = 50
    with pytest.raises(KeyboardInterrupt):
        fabricated.run(bone_marrow, root, tmp_path / 'out')
    assert not (tmp_path / 'out' / 'manifest.json').exists()
    decoded.clear()
    stop = None
    again = fabricated.run(bone_marrow, root, tmp_path / 'out')
    assert 0 < len(decoded) <= len(again.ids) - 40
    assert again.manifest == undisturbed.manifest
    again.verify()


@pytest.mark.parametrize(('classes', 'inside'), [(21, True), (17, False)])
def test_bone_marrow(tmp_path, classes, inside):
    root = tmp_path / 'in'
    marrow(root / 'BM_cytomorphology_data' if inside else root, bone_marrow.COUNTS)
    found = fabricated.run(bone_marrow, root, tmp_path / 'out', f'--classes={classes}')
    left_out = () if classes == 21 else bone_marrow.NOT_IN_17
    assert set(found.class_names) == set(bone_marrow.COUNTS) - set(left_out)
    assert Counter(id_[:3] for id_ in found.ids.tolist()) == dict.fromkeys(found.class_names, 5)
    assert all(id_.startswith(name) for id_, name in fabricated.labels_of(found).items())
    assert set(found.manifest['splits']) == {'80_20', '5_fold', *tool.INNER}
    assert fabricated.has_what_its_benchmarks_take(found, 'bone_marrow') == (classes == 17)


def test_bone_marrow_s_counts_are_those_of_its_papers():
    assert sum(bone_marrow.COUNTS.values()) == 171374
    assert len(bone_marrow.COUNTS) == 21
    assert sum(bone_marrow.class_counts(17).values()) == 147904


def test_bone_marrow_says_what_is_missing(tmp_path, capsys):
    root = marrow(tmp_path / 'in', [code for code in bone_marrow.COUNTS if code != 'KSC'])
    with pytest.raises(SystemExit):
        tool.run(bone_marrow.SOURCE, '', [f'--source={root}', f'--out={tmp_path / "out"}'])
    assert 'has no folder KSC. Get it at' in capsys.readouterr().err
    fabricated.picture(root / 'NGS' / 'NGB_00001.jpg')
    with pytest.raises(SystemExit):
        fabricated.run(bone_marrow, root, tmp_path / 'out')
    assert 'NGB_00001.jpg lies in the folder of NGS' in capsys.readouterr().err
