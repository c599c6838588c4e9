"""The papers' tables and figures as they are written down: rows, benchmarks, printed figures, sweeps."""

import experiments
import numpy as np
import pytest
from reproduction import items, runs, tables

import tiny
from ltjax import benchmarks, losses, methods
from ltjax.methods.task import Task

SMALL = 'npz'
PRINTED = {
    'lmd': 'T1 T2 T3 T4 T5 F3 F4 F5 F6 F7',
    'aduni': 'T1 T2 F1 F2 F4 F5',
    'alpa': 'T1 T2 T3 T4 T5 search F1',
    'iccl': 'T1 T2 T3 T4 T5 T6 T7 T8 T8_cRT F3 F4',
    'proco': 'T1 T2 T3 losses',
}


def test_all_tables_and_figures_are_there():
    assert {paper: ' '.join(items.read(paper)[1]) for paper in items.papers()} == PRINTED


@pytest.mark.parametrize('paper', PRINTED)
@pytest.mark.parametrize('small', [False, True])
def test_every_row_makes_a_recipe_on_every_benchmark(paper, small, tmp_path):
    """Also in the other experiments of its paper, where --benchmark may take it."""
    own = [name for name in benchmarks.names() if f'@{paper}' in name]
    for item in items.get(paper, small=small):
        for benchmark in (SMALL,) if small else dict.fromkeys((*item.benchmarks, *own)):
            planned = runs.plan(item, benchmark, runs.Options((0,), tmp_path))
            assert set(item.rows) <= set(planned)
            assert all(len(made) == 1 for made in planned.values())
            counts = np.full(benchmarks.get(benchmark).classes or 4, 600)
            for [run] in planned.values():
                columns = tiny.columns(run.config.data.further)
                methods.recipe(run.config.method, Task(counts, (0.5,), (0.25,), columns))
            for row in item.options.get('virtual', ()):  # which that method alone has
                method = planned[row][0].config.method
                assert (method.name, method.icc.vfc) == ('lmd', True)


def test_what_the_papers_print_is_as_printed():
    """Some figures of each paper, looked up in its text."""
    lmd, aduni, alpa, iccl, proco = (
        items.read(p)[1] for p in ('lmd', 'aduni', 'alpa', 'iccl', 'proco')
    )
    assert lmd['T1'].published['LMD']['hyper_kvasir@lmd'] == [98.96, 62.99, 92.43, 62.35, 67.27]
    assert lmd['T3'].published['cRT']['isic2019_lt_r300@lmd'] == [92.79, 53.89]
    assert lmd['T3'].published['LMD w/o FDC']['isic2019_lt_r500@lmd'] == [91.73, 46.23]
    assert aduni['T1'].published['AdUni']['aptos2019@aduni'] == [83.9, 69.5]
    assert alpa['T3'].published['CE']['aptos2019@alpa'][-1] == 47
    assert iccl['T1'].published['M2m'] == {
        'cifar100_lt_r100@iccl': [43.5], 'cifar100_lt_r10@iccl': [57.6],
        'cifar10_lt_r100@iccl': [79.1], 'cifar10_lt_r10@iccl': [87.5],
    }  # fmt: skip
    assert iccl['T3'].published['LDAM-DRW']['inaturalist2018@iccl_200'] == [66.1, None, None, None]
    assert proco['losses'].published['InfoNCE']['isic2018@proco'] == [73.9]


def test_printed_figures_by_class_say_of_which_class_they_are():
    [item] = items.get('alpa/T4')
    made = tables.grid(item, [tables.Found('isic2018@alpa', None, 'not run', {}, {})], (0,))
    assert made.header[1] == 'paper, isic2018@alpa: recall of AKIEC'
    at = made.header.index('paper, isic2018@alpa: f1 of MEL')
    assert [row[at].text for row in made.rows] == ['18', '15', '1', '3']


def test_a_sweep_trains_its_first_stage_once_and_its_middle_not_again(tmp_path):
    [item] = items.get('lmd/T4', small=True)
    planned = runs.plan(item, 'fashion_mnist_lt_mini', runs.Options((0, 1), tmp_path))
    folders = {row: [run.workdir.name for run in made] for row, made in planned.items()}
    assert folders['LMD'] == ['lmd-0', 'lmd-1'] == folders['LMD, lambda_e 0.0001']
    assert folders['LMD, lambda_e 0.01'] == ['lmd-lambda-e-0-01-0', 'lmd-lambda-e-0-01-1']
    swept = planned['LMD, lambda_e 0.01'][1]
    assert swept.config.start_from == str(planned['LMD'][1].workdir)
    assert swept.config.method.icc.lambda_e == 0.01
    every = [run for made in planned.values() for run in made]
    first, later = runs.waves(every)
    assert [run.workdir.name for run in first] == ['lmd-0', 'lmd-1']
    assert len(later) == 8


def test_a_search_takes_its_candidates_from_within_the_bounds():
    [item] = items.get('alpa/search')
    assert len(item.rows) == 18
    bounds = np.array([[0.5, 0.5, 0, 0], [2, 2, 5, 5]])
    drawn = np.array(list(item.swept.values()))
    assert ((bounds[0] <= drawn) & (drawn <= bounds[1])).all()
    keys = ('alpha', 'beta', 'gamma_pos', 'gamma_neg')
    for name, experiment in item.rows.items():
        method = experiments.make_config(experiment, 'aptos2019@alpa', 0).method
        assert method.version == 'custom'
        assert tuple(method.custom[key] for key in keys) == item.swept[name]
    for k, version in enumerate(('v1', 'v2')):
        assert dict(zip(keys, drawn[k], strict=True)) == losses.ALPA_VERSIONS[version]
