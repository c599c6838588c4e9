"""The rows that scripts can train: equal budgets, names of folders, overrides, twins."""

import importlib

import experiments
import pytest

from ltjax import benchmarks, methods
from ltjax.data import catalog, datasets
from ltjax.errors import UserError
from ltjax.methods.task import Task

EXPERIMENTS, TABLES = experiments.read()
SMALL = 'fashion_mnist_lt_mini'
# Of equal budgets; the others say their own.
EQUAL = [name for key, table in TABLES.items() if key != 'pretrained' for name in table.rows]


def make(name, benchmark=SMALL, seed=0, **others):
    return experiments.make_config(EXPERIMENTS[name], benchmark, seed, **others)


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
    steps = {row: encoder_steps(make(row).method, counts) for row in ('CE', name)}
    assert steps['CE'] == 40 * (2478 // 128)
    assert steps[name] == steps['CE']


def test_overrides_path_and_seed_arrive():
    config = make('LMD w/o FDC', 'npz', 3, path='x.npz')
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
        ours = make(name).method
        theirs = make(first).method
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
    assert experiments.slug('LMD w/o RRL', 0) == 'lmd-w-o-rrl-0'
    assert experiments.slug('CE + VFC, frozen encoder', 12) == 'ce-vfc-frozen-encoder-12'
    names = {experiments.slug(name, seed) for name in EXPERIMENTS for seed in range(3)}
    assert len(names) == 3 * len(EXPERIMENTS)


def test_an_override_of_nothing_is_refused():
    experiment = experiments.Experiment('lmd', {'method.icc.vfcc': False})
    with pytest.raises(UserError, match='configs/lmd.py.*vfcc'):
        experiments.make_config(experiment, SMALL, 0)


def configs(table, benchmark):
    """Returns the rows of a table on a benchmark."""
    return {name: make(name, benchmark) for name in TABLES[table].rows}


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
    for row in rows.values():
        row.model.tune = 'lora'
    rows['ProCo'].model.update({'frozen': True, 'tune': ''})
    rows['ICCL'].method.train.epochs = 500
    assert experiments.unequal(rows, 'CE') == {
        'cRT': 'network resnet18', 'AdUni': 'pixels 384', 'ICCL': 'epochs 500',
        'ProCo': 'frozen True, tune none',
    }  # fmt: skip
    rows['ICCL'].method.train.epochs = rows['CE'].method.train.epochs + 1  # of some hundred
    assert 'ICCL' not in experiments.unequal(rows, 'CE')
    marks = experiments.marks(rows, {'LMD': 'epochs 300'})
    assert marks['LMD'] == ['two passes a step', 'not equal: epochs 300']
    assert marks['CE'] == []


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
    config = make('Focal', 'aptos2019@alpa', changes=changes)
    assert (config.model.name, config.data.split.fold, config.method.train.epochs) == (
        'resnet34', -1, 3,
    )  # fmt: skip
    with pytest.raises(UserError, match='overrides of --set.*epoch'):
        make('CE', changes={'method.train.epoch': 3})
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
