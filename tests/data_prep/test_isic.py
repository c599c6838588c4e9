"""ISIC 2018 (two layouts), ISIC 2019 and its long-tailed versions, and the ISIC Archive, in miniature."""

import hashlib
from collections import Counter

import numpy as np
import pytest

import fabricated
from data_prep import isic2018, isic2019, isic_archive
from data_prep.isic2019 import CLASSES as CLASSES_2019
from data_prep.tools import tool
from ltjax.data import long_tail

SEVEN = fabricated.names({'MEL': 6, 'NV': 14, 'BCC': 4, 'AKIEC': 3, 'BKL': 5, 'DF': 2, 'VASC': 2})
LESIONS = {image: f'HAM_{at // 2:07d}' for at, image in enumerate(SEVEN)}
PLAIN_2018 = {'5_fold', '7_3', '80_20', *tool.INNER}
PROTOCOLS_2018 = PLAIN_2018 | {'clean_5_fold', 'clean_7_3', 'clean_80_20'}


def challenge(root, labels=SEVEN, part='Training'):
    name = f'ISIC2018_Task3_{part}'
    for image in labels:
        fabricated.picture(root / f'{name}_Input' / f'{image}.jpg')
    fabricated.litter(root / f'{name}_Input')
    fabricated.one_hot(
        root / f'{name}_GroundTruth' / f'{name}_GroundTruth.csv', labels, isic2018.CLASSES
    )
    return root


def groupings(root):
    rows = [(image, lesion, 'histopathology') for image, lesion in LESIONS.items()]
    header = ('image', 'lesion_id', 'diagnosis_confirm_type')
    fabricated.table(root / 'ISIC2018_Task3_Training_LesionGroupings.csv', header, rows)
    return root


def ham10000(root, metadata='HAM10000_metadata', delimiter=','):
    for at, image in enumerate(SEVEN):
        part = 1 + (at >= len(SEVEN) // 2)
        fabricated.picture(root / f'HAM10000_images_part_{part}' / f'{image}.jpg')
    fabricated.litter(root / 'HAM10000_images_part_1')
    header = ['lesion_id', 'image_id', 'dx', 'dx_type', 'age', 'sex', 'localization']
    rows = [
        [LESIONS[image], image, dx.lower(), 'histo', '', 'female', 'lower, left']
        for image, dx in SEVEN.items()
    ]
    if delimiter == '\t':  # the Dataverse's, which has a column more
        header, rows = [*header, 'dataset'], [[*row, 'vidir_modern'] for row in rows]
    fabricated.table(root / metadata, header, rows, delimiter)
    return root


def whole(found, protocol):
    """No group lies on two sides; images without one do not count."""
    seen = {}
    for id_, side in fabricated.sides(found, protocol).items():
        group = found.groups[found.ids == id_][0]
        if group and seen.setdefault(group, side) != side:
            return False
    return True


def test_the_challenge_of_2018(tmp_path):
    root = groupings(challenge(tmp_path / 'in'))
    fabricated.picture(root / 'ISIC2018_Task3_Training_Input' / 'ISIC_9999999.jpg')
    found = fabricated.run(isic2018, root, tmp_path / 'out')
    assert fabricated.labels_of(found) == SEVEN
    assert dict(zip(found.ids.tolist(), found.groups.tolist(), strict=True)) == LESIONS
    assert set(found.manifest['splits']) == PROTOCOLS_2018
    assert fabricated.has_what_its_benchmarks_take(found, 'isic2018')
    assert whole(found, 'clean_5_fold')
    assert whole(found, 'clean_7_3')
    assert not whole(found, '5_fold')
    assert set(fabricated.sides(found, '7_3').values()) == {'train', 'val', 'test'}
    assert sorted(Counter(fabricated.sides(found, '5_fold').values()).values()) == [7] * 4 + [8]
    assert found.stored()[:].shape == (36, 8, 8, 3)


def test_each_fifth_of_the_training_part_is_validation_once(tmp_path):
    found = fabricated.run(isic2018, groupings(challenge(tmp_path / 'in')), tmp_path / 'out')
    plain = fabricated.sides(found, '80_20')
    held = {id_ for id_, side in plain.items() if side == 'test'}
    validated = Counter()
    for name in tool.INNER:
        sides = fabricated.sides(found, name)
        assert {id_ for id_, side in sides.items() if side == 'test'} == held
        validated.update(id_ for id_, side in sides.items() if side == 'val')
    assert validated == dict.fromkeys(set(plain) - held, 1)


def test_without_groupings_there_is_no_clean_split(tmp_path, capsys):
    found = fabricated.run(isic2018, challenge(tmp_path / 'in'), tmp_path / 'out')
    assert set(found.manifest['splits']) == PLAIN_2018
    assert 'clean_7_3 is left out: no groups are known' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('metadata', 'delimiter'),
    [('HAM10000_metadata', ','), ('HAM10000_metadata.csv', ','), ('HAM10000_metadata.tab', '\t')],
)
def test_the_release_of_ham10000_gives_the_same_set(tmp_path, metadata, delimiter):
    release = fabricated.run(
        isic2018, ham10000(tmp_path / 'ham', metadata, delimiter), tmp_path / 'out'
    )
    both = fabricated.run(isic2018, groupings(challenge(tmp_path / 'isic')), tmp_path / 'challenge')
    assert fabricated.labels_of(release) == SEVEN
    assert release.manifest['splits'] == both.manifest['splits']
    assert release.groups.tolist() == both.groups.tolist()


def test_site_and_sex_are_further_columns_where_the_metadata_are_there(tmp_path):
    root = ham10000(tmp_path / 'ham')
    path = root / 'HAM10000_metadata'
    path.write_text(path.read_text('utf-8').replace('female', 'unknown', 1), 'utf-8')
    release = fabricated.run(isic2018, root, tmp_path / 'out')
    assert list(release.columns) == ['site', 'sex']
    assert set(release.columns['site'].tolist()) == {'lower, left'}
    assert Counter(release.columns['sex'].tolist()) == {'female': 35, '': 1}
    both = challenge(tmp_path / 'both')
    (both / path.name).write_bytes(path.read_bytes())
    beside = fabricated.run(isic2018, both, tmp_path / 'beside')
    assert beside.columns['sex'].tolist() == release.columns['sex'].tolist()
    without = fabricated.run(isic2018, challenge(tmp_path / 'alone'), tmp_path / 'without')
    assert without.columns == {}


def test_a_strange_diagnosis_is_named(tmp_path, capsys):
    root = ham10000(tmp_path / 'ham')
    path = root / 'HAM10000_metadata'
    path.write_text(path.read_text('utf-8').replace(',nv,', ',naevus,', 1), 'utf-8')
    with pytest.raises(SystemExit):
        fabricated.run(isic2018, root, tmp_path / 'out')
    assert "HAM10000_metadata has the diagnosis 'naevus'" in capsys.readouterr().err


def test_the_official_parts_are_taken_where_they_are(tmp_path):
    root = challenge(tmp_path / 'in')
    val, test = {'ISIC_0034321': 'NV'}, {'ISIC_0035068': 'DF', 'ISIC_0035069': 'MEL'}
    challenge(root, val, 'Validation')
    challenge(root, test, 'Test')
    found = fabricated.run(isic2018, root, tmp_path / 'out')
    official = fabricated.sides(found, 'official')
    assert official == dict.fromkeys(SEVEN, 'train') | dict.fromkeys(val, 'val') | dict.fromkeys(
        test, 'test'
    )
    assert set(fabricated.sides(found, '7_3')) == set(SEVEN)
    assert fabricated.labels_of(found) == SEVEN | val | test


_NAMES = fabricated.names(
    {'MEL': 20, 'NV': 40, 'BCC': 10, 'AK': 10, 'BKL': 10, 'DF': 10, 'VASC': 10, 'SCC': 10}
)
EIGHT = {f'{name}_downsampled' if name[-1] == '7' else name: _NAMES[name] for name in _NAMES}


def isic2019_files(root, values=('0.0', '1.0'), more=(), metadata=True, nested=False):
    folder = root / 'ISIC_2019_Training_Input'
    folder = folder / folder.name if nested else folder
    for image in EIGHT:
        fabricated.picture(folder / f'{image}.jpg')
    fabricated.litter(folder)
    unknown = {'ISIC_0099999': 'UNK'}
    fabricated.one_hot(
        root / 'ISIC_2019_Training_GroundTruth.csv', EIGHT | unknown, (*CLASSES_2019, 'UNK'),
        values=values, more=more,
    )  # fmt: skip
    if metadata:  # of every fourth image the lesion is not known
        rows = [
            (image, 55, 'torso', '' if at % 4 == 3 else f'MSK4_{at // 4}', 'male')
            for at, image in enumerate(EIGHT)
        ]
        header = ('image', 'age_approx', 'anatom_site_general', 'lesion_id', 'sex')
        fabricated.table(root / 'ISIC_2019_Training_Metadata.csv', header, rows)
    return root


@pytest.fixture
def small_2019(monkeypatch):
    monkeypatch.setattr(isic2019, 'COUNTS', dict(Counter(EIGHT.values())))
    monkeypatch.setattr(isic2019, 'RATIOS', (8, 10))


@pytest.mark.parametrize(
    ('values', 'more', 'nested'),
    [(('0.0', '1.0'), (), False), (('0', '1'), ('score_weight', 'validation_weight'), True)],
)
def test_the_challenge_of_2019(tmp_path, small_2019, values, more, nested):
    root = isic2019_files(tmp_path / 'in', values, more, nested=nested)
    found = fabricated.run(isic2019, root, tmp_path / 'out')
    assert fabricated.labels_of(found) == EIGHT
    assert any(id_.endswith('_downsampled') for id_ in found.ids)
    assert np.sum(found.groups == '') == 30
    names = {f'{clean}lmd_r{ratio}' for clean in ('', 'clean_') for ratio in (8, 10)}
    assert set(found.manifest['splits']) == names
    for ratio in (8, 10):
        kept = fabricated.sides(found, f'lmd_r{ratio}')
        sizes = Counter(EIGHT[id_] for id_ in kept)
        present = [isic2019.COUNTS[name] for name in CLASSES_2019]
        assert [sizes[name] for name in CLASSES_2019] == long_tail.decayed_counts(present, ratio)
        assert set(fabricated.sides(found, f'clean_lmd_r{ratio}')) == set(kept)
        assert whole(found, f'clean_lmd_r{ratio}')
        assert not whole(found, f'lmd_r{ratio}')


def test_without_metadata_and_in_part_there_is_less(tmp_path, capsys):
    root = isic2019_files(tmp_path / 'in', metadata=False)
    found = fabricated.run(isic2019, root, tmp_path / 'out')
    assert found.manifest['splits'] == {}
    assert 'the long-tailed sets are left out' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('ratio', 'counts', 'sizes', 'fingerprint'),
    [
        (100, (4140, 12875, 2785, 609, 2013, 129, 149, 404), (16170, 2313, 4621), '5b990327c9d07a45'),
        (300, (3539, 12875, 2035, 325, 1258, 43, 59, 185), (14220, 2035, 4064), '70e2cb99716d8e76'),
        (500, (3290, 12875, 1759, 243, 1010, 26, 38, 128), (13556, 1939, 3874), '0ce86ec8e03784ab'),
    ],
)  # fmt: skip
def test_isic_2019_lt_is_what_its_authors_draw(ratio, counts, sizes, fingerprint):
    labels = np.repeat(np.arange(8), list(isic2019.COUNTS.values()))
    ids = [f'ISIC_{at:07d}' for at in range(len(labels))]
    split = isic2019.long_tailed(labels, ids, ratio)
    assert tuple(np.bincount(labels[[int(id_[5:]) for id_ in split]])) == counts
    sides = Counter(split.values())
    assert (sides['train'], sides['val'], sides['test']) == sizes
    # With the real names this draw is, image for image, the lists that LMD published for ratio 100.
    text = ','.join(f'{id_}:{side}' for id_, side in sorted(split.items()))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == fingerprint


ARCHIVE = fabricated.names({code: 2 + (code == 'NV') * 10 for code in isic_archive.CLASSES})


def archive(root, skip=()):
    for at, image in enumerate(ARCHIVE):
        fabricated.picture(root / f'{image}{".JPG" if at % 3 else ".jpg"}')
    fabricated.litter(root)
    for code in isic_archive.CLASSES:
        rows = [
            (f'IP_{at // 3}' if at % 2 else ('', 'NA')[at // 2 % 2], image, 'CC-0', f'IL_{at // 5}')
            for at, image in enumerate(ARCHIVE)
            if ARCHIVE[image] == code
        ]
        if code not in skip:
            header = ('patient_id', 'isic_id', 'copyright_license', 'lesion_id')
            fabricated.table(root / f'{code}.csv', header, rows)
    return root


def test_the_archive(tmp_path):
    found = fabricated.run(isic_archive, archive(tmp_path / 'in'), tmp_path / 'out')
    assert fabricated.labels_of(found) == ARCHIVE
    assert set(found.manifest['splits']) == {'lmd', 'clean_lmd'}
    assert fabricated.has_what_its_benchmarks_take(found, 'isic_archive_lt')
    assert whole(found, 'clean_lmd')
    at = {id_: number for number, id_ in enumerate(ARCHIVE)}
    group = dict(zip(found.ids.tolist(), found.groups.tolist(), strict=True))
    for one, other in zip(list(ARCHIVE), list(ARCHIVE)[1:], strict=False):
        if at[one] // 5 == at[other] // 5:
            assert group[one] == group[other]
    assert len(set(group.values())) > 3  # `NA` is no patient of all the others


def test_the_archive_is_split_7_1_2_as_published():
    labels = np.repeat(np.arange(14), list(isic_archive.COUNTS.values()))
    split = long_tail.lmd_split(labels, np.arange(len(labels)).astype(str), ratio=None, seed=0)
    assert sum(isic_archive.COUNTS.values()) == 25020
    assert Counter(split.values()) == {'train': 17508, 'val': 2509, 'test': 5003}
    some = Counter((int(labels[int(id_)]), side) for id_, side in split.items())
    for code, sizes in {'AMP': (9, 2, 3), 'LK': (22, 4, 6), 'SK': (1024, 147, 293)}.items():
        label = isic_archive.CLASSES.index(code)
        assert tuple(some[label, side] for side in ('train', 'val', 'test')) == sizes


def test_tables_of_the_archive_are_checked(tmp_path, capsys):
    root = archive(tmp_path / 'in', skip=('AMP', 'LS'))
    with pytest.raises(SystemExit):
        tool.run(isic_archive.SOURCE, '', [f'--source={root}', f'--out={tmp_path / "out"}'])
    assert 'AMP.csv (atypical melanocytic proliferation), LS.csv' in capsys.readouterr().err
    image = next(iter(ARCHIVE))
    other = next(code for code in isic_archive.CLASSES if code != ARCHIVE[image] and code != 'LS')
    fabricated.table(root / f'{other}.csv', ('isic_id',), [(image,)])
    with pytest.raises(SystemExit):
        fabricated.run(isic_archive, root, tmp_path / 'out')
    assert f'{image} is also in' in capsys.readouterr().err


def test_splits_of_authors_are_taken_as_they_are(tmp_path):
    root, lists = isic2019_files(tmp_path / 'in'), tmp_path / 'lists'
    parts = {
        'training': list(EIGHT)[:60],
        'validation': list(EIGHT)[60:80],
        'testing': list(EIGHT)[90:],
    }
    for name, images in parts.items():
        some = {image: EIGHT[image] for image in images}
        fabricated.one_hot(lists / f'{name}.csv', some, CLASSES_2019, values=('0', '1'))
    found = fabricated.run(isic2019, root, tmp_path / 'out', f'--splits={lists}')
    expected = {
        image: name[:5].rstrip('i') if name == 'training' else {'v': 'val', 't': 'test'}[name[0]]
        for name, images in parts.items()
        for image in images
    }
    assert fabricated.sides(found, 'authors') == expected
