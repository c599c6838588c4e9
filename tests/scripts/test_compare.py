"""The comparison: the table, and what is refused."""

import argparse
import json
import subprocess
import sys

import compare
import comparison
import experiments
import numpy as np
import pytest
from reproduction import tables

import tiny
from ltjax import files
from ltjax.errors import UserError
from ltjax.evaluation import paired


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


def test_the_table_says_what_rows_take_behind_their_names():
    row = {'values': {'accuracy': [0.5]}, 'vs CE': {}}
    made = {'references': ['CE'], 'columns': ['accuracy'], 'num_images': 30, 'num_groups': None}
    made['experiments'] = {'CE': row, 'LMD': row}
    marks = {'LMD': ['two passes a step', 'not equal: epochs 300'], 'CE': []}
    text = comparison.markdown('b', [0], made, marks)
    assert '| LMD (two passes a step; not equal: epochs 300) |' in text
    assert '| CE |' in text


def test_figures_of_classes_and_seconds_are_columns_too():
    result = {
        'seconds': 12.5,
        'class_names': ['a', 'b'],
        'test': {
            'per_class': [{'name': 'a', 'f1': {'value': 0.5}}, {'name': 'b', 'f1': {'value': None}}]
        },
    }
    assert comparison.value(result, 'seconds') == 12.5
    assert [comparison.value(result, f'class_f1:{name}') for name in 'abc'] == [0.5, None, None]
    assert comparison.title('class_f1:a') == 'f1 of a'
    assert comparison.paired_metric('class_recall:b', result) == [1]
    assert comparison.paired_metric('class_f1:b', result) is None


def test_a_row_that_cannot_be_trained_is_told_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def train(config, workdir):
        if config.method.name == refused:
            raise UserError('3 classes do not divide a batch of 128')
        return {'test': {'metrics': {'balanced_accuracy': {'value': 0.5}}}, 'seconds': 1.0}

    monkeypatch.setattr(compare.start, 'train', train)
    asked = argparse.Namespace(out=tmp_path, benchmark='npz', seeds=(0, 1), path='x.npz', set={})
    rows = {name: experiments.Experiment(name) for name in ('cross_entropy', 'cicl', 'lmd')}
    refused = 'cicl'
    runs, lacking = compare.run_all(rows, asked)
    assert list(runs) == ['cross_entropy', 'lmd']
    assert lacking == {'cicl': 'seed 1: 3 classes do not divide a batch of 128'}
    assert 'cicl is left out, seed 0: 3 classes' in capsys.readouterr().out
    refused = 'cross_entropy'  # the first, with which all are compared
    with pytest.raises(UserError, match='3 classes'):
        compare.run_all(rows, asked)


def test_the_spread_of_folds_stands_behind_the_value_of_all_of_them(tmp_path):
    run = fabricate(tmp_path / 'ce', 4)
    results = json.loads((run / 'results.json').read_text())
    results['folds'] = [{'balanced_accuracy': 0.5}, {'balanced_accuracy': 0.7}]
    files.write_json(run / 'results.json', results)
    made = comparison.compare({'CE': [run]}, ['CE'])
    assert made['experiments']['CE']['folds'] == {'balanced_accuracy': [0.5, 0.7]}
    found = tables.Found('b', made, '', {}, {})
    [cell] = tables._values('CE', found, ['balanced_accuracy'])
    assert cell.text.endswith(' ± 14.1')


def test_rows_that_are_left_out_stand_below_the_table(tmp_path):
    made = comparison.compare({'CE': [fabricate(tmp_path / 'ce', 4)]}, ['CE'])
    text = comparison.markdown('b', (0,), made, lacking={'CICL': 'seed 0: it diverged'})
    assert text.endswith('|\n\n- CICL is left out, seed 0: it diverged\n')


def test_a_table_without_any_of_its_references_is_refused(tmp_path):
    with pytest.raises(UserError, match='none of the experiments to compare with'):
        comparison.compare({'cRT': [fabricate(tmp_path / 'crt', 4)]}, ['CE'])


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
