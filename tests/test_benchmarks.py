"""The papers' experiments train, in miniature, by every method: splits, views, schedules, groups and all.

Of each paper's the most demanding ones train, by its own method, and one by all five. LTJAX_TEST_ALL=1: all by all.
"""

import importlib

import jax
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import benchmarks, methods
from ltjax.data.prepared import writing
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError
from ltjax.methods.task import Task
from ltjax.run import build, start, train
from ltjax.run.settings import Settings

PAPERS = ('lmd', 'aduni', 'alpa', 'iccl', 'proco')
# Of several that differ in a protocol's name or a length alone, one.
EXPERIMENTS = [
    name
    for name in benchmarks.names()
    if '@' in name and not name.endswith(('r300@lmd', 'r500@lmd', 'r50@iccl', 'r10@iccl', '_200'))
]
BY_ALL = 'cifar100_lt_r100@iccl'  # which has most that is its own: a schedule, no validation, groups by counts
# In miniature a paper's experiments differ in the number of classes alone, but for ICCL's: the one of the most trains.
TRAINED = (
    'hyper_kvasir@lmd', 'isic2018@aduni', 'bone_marrow@alpa', 'imagenet_lt@iccl', 'inaturalist2018@iccl',
    'isic2018@proco',
)  # fmt: skip
PAIRS = [
    (method, name)
    for name in EXPERIMENTS
    for method in PAPERS
    if tiny.ALL or name == BY_ALL or (name in TRAINED and name.endswith(f'@{method}'))
]
SIDE = 16


def prepared(folder, experiment, *, side=SIDE, images=None):
    """Writes a set as data_prep leaves it, with the benchmark's protocol and, up to 23, its number of classes."""
    num_classes = experiment.classes if experiment.classes <= 23 else 5
    number = images or 9 * num_classes
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (number, side, side, 3), np.uint8)
    labels = np.arange(number) % num_classes
    if experiment.data['split.protocol'] == '5_fold':
        parts = [str(at // num_classes % 5) for at in range(number)]
    else:
        held = ('val', 'test') if experiment.data.get('split.val') != 0 else ('test', 'test')
        parts = [(*('train',) * 7, *held)[at // num_classes % 9] for at in range(number)]
    items = [Item(f'i{at:04d}', int(labels[at]), lambda at=at: pixels[at]) for at in range(number)]
    plan = writing.Plan(
        name=experiment.set,
        class_names=tuple(f'class {k}' for k in range(num_classes)),
        items=items,
        image_size=side,
        channels=3,
        licence='',
        origin='',
        splits={
            experiment.data['split.protocol']: {item.id: part for item, part in zip(items, parts, strict=True)},
            'another': {item.id: 'train' for item in items},
        },
    )  # fmt: skip
    writing.write(folder, plan, report=lambda line: None)
    return folder


def miniature(method, experiment, path):
    made = importlib.import_module(f'configs.{method}').get_config(experiment.name)
    tiny.shrink(made)
    made.data.path, made.data.image_size = str(path), SIDE
    if made.data.split.fold == -1:
        made.data.split.fold = 3
    for stage in ('train', 'rrl'):
        if stage in made.method and made.method[stage].optimizer.schedule == 'multistep':
            made.method[stage].epochs = 3
            made.method[stage].optimizer.update({'milestones': (1, 2), 'warmup_epochs': 0.5})
    if 'icc' in made.method:
        made.method.icc.update({'rounds': 1, 'm_batch_size': 24})
    if 'queue' in made.method:
        made.method.queue = 32
    return made


@pytest.fixture(scope='module')
def sets(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp('set')
            made[name] = prepared(folder / 'set', benchmarks.get(name))
        return made[name]

    return get


@pytest.mark.slow
@pytest.mark.parametrize(('method', 'name'), PAIRS)
def test_every_method_trains_in_every_papers_experiment(tmp_path, sets, method, name):
    experiment = benchmarks.get(name)
    made = miniature(method, experiment, sets(name))
    state, best, rows = tiny.run(made, tmp_path / 'run')
    assert all(np.isfinite(row['loss']) for row in rows if 'loss' in row)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.model))
    assert ('val_balanced_accuracy' in rows[-1]) == (experiment.data.get('split.val') != 0)
    assert best['round'] <= rows[-1]['round']
    if experiment.select == 'last':
        assert best['round'] == rows[-1]['round']


@pytest.mark.slow
@pytest.mark.parametrize('name', ['isic2018@proco', 'cifar100_lt_r100@iccl'])
def test_a_run_says_where_it_is_unlike_the_benchmark(tmp_path, sets, name, capsys):
    made = miniature('cross_entropy', benchmarks.get(name), sets(name))
    results = train.run(made, tmp_path / 'run')
    said = results['test']['warnings']
    assert results['benchmark'] == name
    if name.startswith('isic'):
        assert 'isic2018@proco has 10,015 images (all), these data 63.' in said
        assert set(results['test']['groups']) == {'head', 'medium', 'tail'}
    else:
        assert 'cifar100_lt_r100@iccl has 100 classes, these data 5.' in said
        assert any('nothing was chosen on the test images' in line for line in said)
        assert set(results['test']['groups']) == {'tail'}  # by counts: few images of each class
        assert 'val_balanced_accuracy' not in results['best']
        page = (tmp_path / 'run' / 'report.html').read_text('utf-8')
        assert 'nothing was chosen on the test images' in page
    assert said[-1] in capsys.readouterr().err


@pytest.mark.slow
def test_nothing_chooses_a_round_where_no_image_is_held_out(tmp_path, sets):
    made = miniature(
        'cross_entropy', benchmarks.get('cifar10_lt_r100@iccl'), sets('cifar10_lt_r100@iccl')
    )
    made.select = 'best'
    with pytest.raises(UserError, match=r'no image is held out .*--config\.select=last'):
        train.run(made, tmp_path / 'run')
    made.data.split.val = 0.2  # holds some out of the training part
    assert train.run(made, tmp_path / 'other')['best']['val_balanced_accuracy'] >= 0


@pytest.mark.slow
def test_five_folds_come_one_after_the_other(tmp_path, sets):
    experiment = benchmarks.get('aptos2019@aduni')
    made = miniature('cross_entropy', experiment, sets(experiment.name))
    made.data.split.fold, made.method.train.epochs = -1, 1
    results = start.train(made, tmp_path / 'run')
    assert (results['num_folds'], results['benchmark']) == (5, 'aptos2019@aduni')


def test_a_set_that_is_too_small_or_lacks_the_protocol_is_refused(tmp_path, sets):
    experiment = benchmarks.get('isic2018@aduni')
    made = miniature('aduni', experiment, sets('isic2018@aduni'))
    made.data.image_size = 384
    with pytest.raises(
        UserError, match=rf'prepared at {SIDE} px, and 384 are asked for.*--size=384'
    ):
        train.run(made, tmp_path / 'run')
    made.data.update({'image_size': SIDE, 'path': str(sets('isic2018@proco'))})
    with pytest.raises(UserError, match='5_fold.*7_3|7_3.*5_fold'):
        train.run(made, tmp_path / 'run')


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_the_network_of_a_benchmark_can_be_made(name):
    experiment = benchmarks.get(name)
    settings = Settings.of(importlib.import_module(f'configs.{experiment.paper}').get_config(name))
    classes = experiment.classes
    task = Task(np.full(classes, 600), settings.data.mean, settings.data.std)
    recipe = methods.recipe(settings.method, task)
    model = nnx.eval_shape(lambda: build.create_model(settings, recipe, classes, 3, nnx.Rngs(0)))
    expected = {'resnet18': 512, 'convnext_base': 1024, 'resnet32_cifar': 64}
    assert model.feature_dim == expected.get(settings.model.name, 2048)
