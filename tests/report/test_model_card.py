"""The model card of results that are made up: what is filled in, what is left to the author, and what is escaped."""

import copy
import json

import numpy as np
import pytest

from ltjax.errors import UserError
from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.metrics import evaluate
from ltjax.report.model_card import write_model_card

NAMES = ['a|b', '<i>`x`</i>', '_c_']
TODO = '**TODO by the author:**'


def measured():
    labels = np.repeat(np.arange(3), [30, 12, 4])
    logits = np.eye(3)[labels] + np.random.default_rng(0).normal(size=(len(labels), 3))
    counts = [400, 40, 4]
    patients = np.array([f'p{k // 2}' for k in range(len(labels))])
    return evaluate(
        labels, logits, class_names=NAMES, train_counts=counts, groups=head_medium_tail(counts), belongs_to=patients,
        num_bootstrap=10,
    )  # fmt: skip


TEST = measured()
DATA = {
    'where': '/sets/<skin>', 'layout': 'csv', 'images': 520,
    'class_order': {'names': NAMES, 'from': 'in natural order', 'ordered': False},
    'counts': {'train': [400, 40, 4], 'val': [20, 8, 2], 'test': [30, 12, 4]},
    'split': {'from': 'drawn with data.split.seed=0', 'sha256': 'ab' * 32, 'thinned': 7, 'leaks': {}, 'conflicts': 0,
              'compared': True},
    'groups': {'number': 250, 'without': 3},
    'columns': {'sex': {'names': ['f', 'm'], 'without': 0}},
    'excluded': {'damaged': 2}, 'passed_over': {}, 'notes': [],
    'identity': {'sha256': 'cd' * 32},
    'said': ['520 images: train 444, val 30, test 46', 'more'],
}  # fmt: skip
RESULTS = {
    'test': TEST, 'data': DATA, 'method': 'balanced_softmax', 'method_title': 'Balanced softmax',
    'paper': 'Ren et al., NeurIPS 2020', 'dataset': 'csv', 'benchmark': '', 'seed': 3, 'image_shape': [64, 64, 3],
    'num_parameters': 72666, 'split_sha256': 'ab' * 32, 'versions': {'ltjax': '1.0', 'jax': '0.10.2'},
    'best': {'stage': 'train', 'round': 6, 'val_balanced_accuracy': 0.51234},
    'pretrained': {'name': 'resnet18.tv', 'sha256': 'ef' * 32},
}  # fmt: skip
CONFIG = {
    'config': {'model': {'name': 'resnet18'}},
    'started': '2026-11-27T05:40:54+0000',
    'source': '12' * 32,
}


def card(tmp_path, results=RESULTS, config=CONFIG):
    (tmp_path / 'results.json').write_text(json.dumps(results), 'utf-8')
    if config is not None:
        (tmp_path / 'config.json').write_text(json.dumps(config), 'utf-8')
    path = write_model_card(tmp_path)
    assert path == tmp_path / 'model_card.md'
    return path.read_text('utf-8').split('\n')


def test_what_a_run_knows_is_filled_in(tmp_path):
    lines = card(tmp_path)
    for line in (
        '# Model card: Balanced softmax on csv',
        '- Method: balanced_softmax (Balanced softmax), Ren et al., NeurIPS 2020',
        '- Network: resnet18, 72,666 parameters; input 64 x 64 x 3; output: a probability of each of 3 classes',
        f'- Initial weights: resnet18.tv, sha256 {"ef" * 32}',
        '- Seed: 3',
        '- Date: the run began 2026-11-27T05:40:54+0000',
        '- Kept for the test: stage train, round 6, val_balanced_accuracy 0.5123',
        '- Versions: ltjax 1.0, jax 0.10.2',
        '- The data also say of each image: sex. Figures by these are not given.',
        r'- From /sets/\<skin\> (csv)',
        '- 520 images: train 444, val 30, test 46',
        '- Split: drawn with data.split.seed=0',
        f'- sha256 of the split: {"ab" * 32}',
        '- 7 training images are left out to make a long tail',
        '- Groups (patients, lesions, smears): 250; 3 images are in none',
        '- Leaks: all images of a group lie on one side of the split',
        '- Leaks: equal images lie on one side of the split',
        '- Left out: 2 damaged',
        '- Passed over: none',
        '46 test images of 23 groups. Figures in percent.',
        '- Intervals: 95 %, by stratified bootstrap of the 23 groups of test images (patients, lesions, smears).',
        'Not measured.',
        '| 23 |  | software, with versions | Model details |',
        '| 44 | 18a | funding | to be filled in by the author |',
    ):
        assert line in lines
    headings = [line[3:] for line in lines if line.startswith('## ')]
    assert headings == [
        'Model details', 'Intended use', 'Factors', 'Metrics', 'Data', 'Quantitative analyses',
        'Ethical considerations', 'Limits', 'Reporting checklist',
    ]  # fmt: skip
    assert sum(line.startswith(f'- {TODO} ') for line in lines) >= 10
    assert sum('not a medical device' in line for line in lines) == 1


def test_names_of_classes_break_no_table(tmp_path):
    lines = card(tmp_path)
    assert r'| \_c\_ | 4 | 2 | 4 |' in lines
    assert r'| \<i\>\`x\`\</i\> | 40 | 8 | 12 |' in lines
    assert r'| a\|b | 400 | 20 | 30 |' in lines
    widths = []
    for line in lines:
        if line.startswith('|'):
            widths.append(line.replace(r'\|', '').count('|'))
        elif widths:
            assert len(set(widths)) == 1
            widths = []
    assert not any('<i>' in line for line in lines)


def test_limits_name_the_classes_not_to_be_trusted(tmp_path):
    lines = card(tmp_path)
    limits = lines[lines.index('## Limits') : lines.index('## Reporting checklist')]
    assert r'- Fewer than 10 were tested of: \_c\_ (2), \<i\>\`x\`\</i\> (6).' in limits
    assert any('at another hospital' in line for line in limits)
    assert not any('taken as independent' in line for line in limits)
    assert len([line for line in limits if line.startswith('- ')]) > len(TEST['warnings'])


def test_results_of_an_earlier_version_leave_more_to_the_author(tmp_path):
    test = copy.deepcopy(TEST)
    del test['num_groups'], test['warnings']
    for row in test['per_class']:
        del row['test_groups']
    lines = card(tmp_path, {'test': test, 'method': 'lmd'}, config=None)
    assert '- Method: lmd' in lines
    assert '- results.json does not say of the data.' in lines
    assert '| 23 |  | software, with versions | to be filled in by the author |' in lines
    assert (
        '| 19 | 12a | how images came to training, validation and test | to be filled in by the author |'
        in lines
    )
    assert any('Test images are taken as independent.' in line for line in lines)


def test_folds_are_told(tmp_path):
    data = {**DATA, 'counts': {'test': [450, 60, 10]}, 'split': {**DATA['split'], 'sha256': ''}}
    folds = [{'balanced_accuracy': 0.5, 'macro_f1': 0.5}] * 2
    lines = card(
        tmp_path, {**RESULTS, 'data': data, 'folds': folds, 'split_sha256': ['12' * 32, '34' * 32]}
    )
    assert any(line.startswith('- Cross-validation: 2 networks, one a fold.') for line in lines)
    assert [line[-64:] for line in lines if line.startswith('- sha256 of the split')] == [
        '12' * 32,
        '34' * 32,
    ]
    assert r'| a\|b | 450 |' in lines


def test_leaks_are_told(tmp_path):
    split = {**DATA['split'], 'leaks': {'groups': 5}, 'compared': False}
    lines = card(tmp_path, {**RESULTS, 'data': {**DATA, 'split': split}})
    assert [line for line in lines if line.startswith('- Leaks')] == [
        '- Leaks: equal images were not looked for',
        '- Leaks: 5 groups lie on two sides of the split',
    ]


def test_what_the_author_wrote_is_kept(tmp_path):
    card(tmp_path)
    path = tmp_path / 'model_card.md'
    path.write_text(path.read_text('utf-8') + 'for dermoscopy\n', 'utf-8')
    assert 'for dermoscopy' in card(tmp_path)
    assert 'for dermoscopy' not in card(tmp_path, {**RESULTS, 'seed': 4})
    (kept,) = tmp_path.glob('model_card.2*.md')
    assert 'for dermoscopy' in kept.read_text('utf-8')


def test_of_many_classes_the_rarest_are_listed(tmp_path):
    size = 90
    labels = np.arange(size).repeat(2)
    test = evaluate(
        labels, np.eye(size)[labels], class_names=[f'c{k}' for k in range(size)],
        train_counts=list(range(size, 0, -1)), groups=head_medium_tail(range(size, 0, -1)), num_bootstrap=2,
    )  # fmt: skip
    lines = card(tmp_path, {'test': test})
    assert 'The 60 rarest classes; results.json has 30 more.' in lines
    assert any(line.startswith('| c89 |') for line in lines)
    assert not any(line.startswith('| c29 |') for line in lines)


@pytest.mark.parametrize('content', [None, '{"test"', '{}', '[]'])
def test_a_card_needs_results(tmp_path, content):
    if content is not None:
        (tmp_path / 'results.json').write_text(content)
    with pytest.raises(UserError, match=r'results\.json'):
        write_model_card(tmp_path)


def test_figures_of_subgroups_are_factors(tmp_path):
    figure, none = (
        {'value': 0.5, 'low': 0.4, 'high': 0.625},
        dict.fromkeys(('value', 'low', 'high')),
    )
    rows = [
        {'name': name, 'images': 1200, 'groups': None, 'balanced_accuracy': figure, 'gap': gap}
        for name, gap in (('f', figure), ('m|x', none))
    ]
    test = TEST | {'subgroups': [{'column': 'sex', 'subgroups': rows}]}
    text = '\n'.join(card(tmp_path, RESULTS | {'test': test}))
    assert '| f | 1,200 | 50.0 (40.0 to 62.5) | 50.0 (40.0 to 62.5) |' in text
    assert '| m\\|x | 1,200 | 50.0 (40.0 to 62.5) | - |' in text
    assert 'Figures by these are not given' not in text
    assert '| figures by age, sex, skin type, device | Factors |' in text
