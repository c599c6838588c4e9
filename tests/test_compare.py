"""The comparison: equal budgets, names of folders, and the table."""

import argparse
import importlib
import json
import pathlib
import subprocess
import sys

import compare
import comparison
import experiments
import numpy as np
import pytest

import tiny
from ltjax import benchmarks, files, methods
from ltjax.data import catalog, datasets
from ltjax.errors import UserError
from ltjax.evaluation import paired
from ltjax.methods.task import Task

EXPERIMENTS, TABLES = experiments.read()
# Of equal budgets; the others say their own.
EQUAL = [name for key, table in TABLES.items() if key != 'pretrained' for name in table.rows]


def arguments(**changes):
    values = {
        'benchmark': 'fashion_mnist_lt_mini',
        'path': '',
        'set': {},
        'seeds': [0],
        'out': pathlib.Path(),
    }
    return argparse.Namespace(**values | changes)


@pytest.fixture(scope='module')
def counts():
    return datasets.load(catalog.get('fashion_mnist_lt_mini')).train_counts


def encoder_steps(method, counts):
    """Gradient steps on images that move the encoder."""
    stages = methods.recipe(method, Task(counts, (0.5,), (0.25,))).stages
    return sum(
        stage.rounds * update.steps
        for stage in stages
        for update in stage.updates
        if update.views and not update.trains.startswith('classifier')
    )


@pytest.mark.parametrize('name', dict.fromkeys(EQUAL))
def test_the_rows_of_a_table_have_the_same_encoder_steps(name, counts):
    steps = {
        row: encoder_steps(experiments.make_config(EXPERIMENTS[row], arguments(), 0).method, counts)
        for row in ('CE', name)
    }
    assert steps['CE'] == 40 * (2478 // 128)
    assert steps[name] == steps['CE']


def test_overrides_path_and_seed_arrive():
    config = experiments.make_config(
        EXPERIMENTS['LMD w/o FDC'], arguments(path='x.npz', benchmark='npz'), 3
    )
    assert config.seed == 3
    assert config.data.path == 'x.npz'
    assert config.method.icc.fdc is False
    assert config.method.icc.vfc is True
    shipped = importlib.import_module('configs.lmd').get_config('npz')
    assert config.method.rrl.to_dict() == shipped.method.rrl.to_dict()


def test_first_stages_are_shared_only_where_they_are_the_same():
    for name, (*_, first) in EXPERIMENTS.items():
        if not first:
            continue
        ours = experiments.make_config(EXPERIMENTS[name], arguments(), 0).method
        theirs = experiments.make_config(EXPERIMENTS[first], arguments(), 0).method
        settings = [
            {**(method.rrl if 'rrl' in method else method.train).to_dict()}
            for method in (ours, theirs)
        ]
        common = set(settings[0]) & set(settings[1])
        assert {'epochs', 'batch_size', 'sampler', 'view', 'optimizer'} <= common
        for key in common - {'enabled'}:
            assert settings[0][key] == settings[1][key], (name, key)
        for stage in settings:
            assert stage.get('enabled', True) is True or first == 'CE'


def test_folders_have_a_name_of_their_own():
    assert compare.slug('LMD w/o RRL', 0) == 'lmd-w-o-rrl-0'
    assert compare.slug('CE + VFC, frozen encoder', 12) == 'ce-vfc-frozen-encoder-12'
    names = {compare.slug(name, seed) for name in EXPERIMENTS for seed in range(3)}
    assert len(names) == 3 * len(EXPERIMENTS)


def fabricate(folder, correct, content='c', **changes):
    """Writes a run of 30 test images in three classes of which the first `correct` are right in each class."""
    labels = np.repeat(np.arange(3), 10)
    right = np.arange(30) % 10 < correct
    logits = np.eye(3, dtype=np.float32)[np.where(right, labels, (labels + 1) % 3)]
    folder.mkdir(parents=True)
    files.write_npz(
        folder / 'predictions.npz',
        {
            'ids': np.arange(30).astype(str),
            'labels': labels,
            'logits': logits,
            'class_names': np.array(['a', 'b', 'c']),
            **changes,
        },
    )
    results = {
        'class_names': ['a', 'b', 'c'], 'train_counts': [30, 20, 10], 'split_sha256': 'f00d',
        'versions': {'ltjax': '0'}, 'seconds': 1.5,
        'data': {'identity': {'images': 'i', 'split': 's', 'contents': content, 'classes': 'c'}},
        'test': {
            'metrics': {'macro_auc': {'value': 0.75}, 'balanced_accuracy': {'value': correct / 10}},
            'groups': {
                name: {'classes': classes, 'recall': {'value': correct / 10}}
                for name, classes in {'head': ['a'], 'tail': ['b', 'c']}.items()
            },
        },
    }  # fmt: skip
    files.write_json(folder / 'results.json', results)
    return folder


def test_the_table_holds_means_and_paired_differences(tmp_path):
    runs = {
        'CE': [fabricate(tmp_path / 'ce0', 4), fabricate(tmp_path / 'ce1', 6)],
        'LMD': [fabricate(tmp_path / 'l0', 7), fabricate(tmp_path / 'l1', 9)],
    }
    made = comparison.compare(runs, ['CE', 'LMD'])
    assert made['split_sha256'] == 'f00d'
    row = made['experiments']['LMD']
    assert row['values']['macro_auc'] == [0.75, 0.75]
    difference = row['vs CE']['balanced_accuracy']
    assert difference['difference'] == pytest.approx(0.3)
    assert difference['low'] <= 0.3 <= difference['high']
    json.dumps(made)
    lines = comparison.markdown('npz', [0, 1], made).splitlines()
    assert lines[0].startswith(
        'npz, seeds 0, 1; percent, mean over the seeds. Intervals (95 %) cover'
    )
    assert '30 test images (taken as independent) and the training. Bold: not zero' in lines[0]
    header, rule, ce, lmd = lines[2:]
    assert '| tail |' in header
    assert header.count('|') == rule.count('|') == ce.count('|') == lmd.count('|')
    assert ce.startswith('| CE | 50.0 |')
    assert lmd.startswith('| LMD | 80.0 |')
    assert '+30.0 [' in lmd
    assert '-30.0 [' in ce


def test_groups_are_drawn_whole_and_rows_corrected_together(tmp_path):
    """The two images of a group are right together, so that they say as much as one."""
    groups = {'groups': np.repeat(np.arange(15), 2).astype(str)}
    runs = {
        'CE': [fabricate(tmp_path / 'ce', 4, **groups)],
        'LMD': [fabricate(tmp_path / 'l', 6, **groups)],
        'cRT': [fabricate(tmp_path / 'r', 10, **groups)],
    }
    made = comparison.compare(runs, ['CE'])
    assert made['num_groups'] == 15
    rows = [made['experiments'][name]['vs CE']['balanced_accuracy'] for name in ('LMD', 'cRT')]
    assert [row['p_holm'] for row in rows] == paired.holm([row['p'] for row in rows])
    alone = {name: [fabricate(tmp_path / f'{name}-2', n)] for name, n in (('CE', 4), ('LMD', 6))}
    images = comparison.compare(alone, ['CE'])['experiments']['LMD']['vs CE']['balanced_accuracy']
    assert rows[0]['high'] - rows[0]['low'] > 1.3 * (images['high'] - images['low'])
    rows[0]['p_holm'], rows[1]['p_holm'] = 0.06, 0.04
    lines = comparison.markdown('npz', [0], made).splitlines()
    assert '30 test images of 15 groups (drawn whole), but not the training' in lines[0]
    assert '| **+60.0 [' in lines[-1]
    assert '| +20.0 [' in lines[-2]


REFUSED = {
    'other images': ({'ids': np.arange(1, 31).astype(str)}, 'is of other images than'),
    'other data': (
        {'content': 'other'},
        'is of other data than the runs beside it .its contents differ',
    ),
    'other classes': ({'class_names': np.array(['a', 'b', 'd'])}, 'has the classes a, b, d'),
    'other labels': ({'labels': np.repeat([1, 0, 2], 10)}, 'has other labels'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_runs_that_cannot_be_paired_are_refused(tmp_path, case):
    changes, message = REFUSED[case]
    runs = {'CE': [fabricate(tmp_path / 'ce', 4)], 'LMD': [fabricate(tmp_path / 'l', 7, **changes)]}
    with pytest.raises(UserError, match=message):
        comparison.compare(runs, ['CE', 'LMD'])


def test_runs_are_paired_by_ids_and_names_of_classes(tmp_path):
    runs = {'CE': [fabricate(tmp_path / 'ce', 4)], 'LMD': [fabricate(tmp_path / 'l', 7)]}
    expected = comparison.compare(runs, ['CE'])['experiments']
    path = tmp_path / 'l' / 'predictions.npz'
    with np.load(path) as archive:
        arrays = dict(archive)
    rows, classes = np.random.default_rng(0).permutation(30), np.array([2, 0, 1])
    number = np.argsort(classes)
    arrays |= {
        'ids': arrays['ids'][rows],
        'labels': number[arrays['labels'][rows]],
        'logits': arrays['logits'][rows][:, classes],
        'class_names': arrays['class_names'][classes],
    }
    np.savez(path, **arrays)
    assert comparison.compare(runs, ['CE'])['experiments'] == expected


def test_a_table_without_any_of_its_references_is_refused(tmp_path):
    with pytest.raises(UserError, match='none of the experiments to compare with'):
        comparison.compare({'cRT': [fabricate(tmp_path / 'crt', 4)]}, ['CE'])


def test_an_override_of_nothing_is_refused():
    experiment = experiments.Experiment('lmd', {'method.icc.vfcc': False})
    with pytest.raises(UserError, match='configs/lmd.py.*vfcc'):
        experiments.make_config(experiment, arguments(), 0)


def configs(table, benchmark, **changes):
    """Returns the rows of a table on a benchmark."""
    given = arguments(benchmark=benchmark, **changes)
    return {
        name: experiments.make_config(EXPERIMENTS[name], given, 0) for name in TABLES[table].rows
    }


@pytest.mark.parametrize('benchmark', ['aptos2019@alpa', 'isic2018@alpa', 'bone_marrow@alpa'])
def test_rates_chosen_on_small_sets_stay_there(benchmark):
    for name, config in configs('alpa', benchmark).items():
        optimizer = config.method.train.optimizer
        assert (optimizer.name, optimizer.learning_rate, optimizer.weight_decay) == (
            'adam', 1e-4, 1e-3,
        ), name  # fmt: skip
    row = configs('alpa', benchmark)['CE, cosine classifier, SqRt'].method
    assert row.train.loss.name == 'cross_entropy'
    assert (row.head.name, row.head.scale, row.train.sampler) == ('cosine', 16.0, 'square_root')
    small = configs('alpa', 'fashion_mnist_lt_mini')
    assert small['ALPA, linear classifier'].method.train.optimizer.learning_rate == 0.4


@pytest.mark.parametrize('benchmark', [b for b in benchmarks.names() if '@' in b])
def test_a_table_on_a_paper_s_benchmark_has_one_network_one_size_and_one_length(benchmark):
    rows = configs('methods', benchmark)
    found = experiments.unequal(rows, 'CE')
    published = {}  # second stages that train the encoder longer than others do
    if benchmark.endswith('@lmd'):
        published = {'LMD': 'epochs 300'}
    elif benchmark.startswith('cifar'):
        published = {'ICCL': 'epochs 210'}
    assert found == published


def test_rows_that_differ_in_more_than_their_method_are_named():
    rows = configs('methods', 'isic2018@proco')
    rows['cRT'].model.name = 'resnet18'
    rows['AdUni'].data.image_size = 384
    rows['ICCL'].method.train.epochs = 500
    assert experiments.unequal(rows, 'CE') == {
        'cRT': 'network resnet18', 'AdUni': 'pixels 384', 'ICCL': 'epochs 500',
    }  # fmt: skip
    text = comparison.markdown('b', [0], COMPARISON, experiments.marks(rows, {'LMD': 'epochs 300'}))
    assert '| LMD (two passes a step; not equal: epochs 300) |' in text
    assert '| CE |' in text


COMPARISON = {
    'references': ['CE'],
    'columns': ['accuracy'],
    'num_images': 30,
    'num_groups': None,
    'experiments': {name: {'values': {'accuracy': [0.5]}, 'vs CE': {}} for name in ('CE', 'LMD')},
}


def test_a_row_that_is_another_one_s_twin_is_not_trained_twice():
    lmd = configs('lmd', 'isic2019_lt_r100@lmd')
    assert experiments.twins(lmd)['LMD, E-step not class-balanced'] == 'LMD'
    small = experiments.twins(configs('lmd', 'fashion_mnist_lt_mini'))
    assert small == {
        'LMD, E-step class-balanced': 'LMD',
        'LMD, only the E-step class-balanced': 'LMD, M-step not class-balanced',
    }
    # Table 5 of the paper has four rows, on every benchmark.
    for benchmark in ('isic2019_lt_r100@lmd', 'fashion_mnist_lt_mini'):
        rows = configs('lmd', benchmark).values()
        assert {(c.method.icc.balanced_e, c.method.icc.balanced_m) for c in rows if 'icc' in c.method} == {
            (True, True), (True, False), (False, True), (False, False),
        }  # fmt: skip


def test_changes_to_all_rows_come_last():
    changes = dict(
        map(
            experiments.parse_change,
            ['model.name=resnet34', 'data.split.fold=-1', 'method.train.epochs=3'],
        )
    )
    assert changes == {'model.name': 'resnet34', 'data.split.fold': -1, 'method.train.epochs': 3}
    config = experiments.make_config(
        EXPERIMENTS['Focal'], arguments(benchmark='aptos2019@alpa', set=changes), 0
    )
    assert (config.model.name, config.data.split.fold, config.method.train.epochs) == (
        'resnet34', -1, 3,
    )  # fmt: skip
    with pytest.raises(UserError, match='overrides of --set.*epoch'):
        experiments.make_config(EXPERIMENTS['CE'], arguments(set={'method.train.epoch': 3}), 0)
    with pytest.raises(UserError, match='give KEY=VALUE'):
        experiments.parse_change('seed')


ROW = "[experiments.a]\nconfig = 'lmd'\n"


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('[tables', 'see scripts/experiments.toml'),
        (ROW, "'tables'"),
        (ROW + 'wrong = 1\n[tables.t]\nrows = []\nreferences = []', 'wrong'),
        (ROW + "first = 'b'\n[tables]", "unknown experiment .* 'b'"),
        (ROW + "[tables.t]\nrows = ['A']\nreferences = ['A']", "unknown experiment .* 'A'"),
        (ROW + "[tables.t]\nrows = ['a']\nreferences = ['b']", 'among its rows'),
        (ROW + "[tables.t]\nrows = ['a']\nreferences = []", 'among its rows'),
    ],
)
def test_a_wrong_experiments_file_is_refused(tmp_path, content, message):
    path = tmp_path / 'own.toml'
    path.write_text(content, 'utf-8')
    with pytest.raises(UserError, match=message):
        experiments.read(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (
            '--only=LMD w/o ICCC',
            "error: unknown row of the table lmd 'LMD w/o ICCC': did you mean LMD w/o ICC",
        ),
        ('--table=lmdd', "error: unknown table 'lmdd': did you mean lmd"),
    ],
)
def test_an_unknown_name_is_refused(tmp_path, option, message):
    done = subprocess.run(
        [sys.executable, tiny.ROOT / 'scripts' / 'compare.py', '--table=lmd', option],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)
