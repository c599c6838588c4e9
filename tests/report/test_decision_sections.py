"""The sections of a report for whoever acts on a model: of all results, of older ones, and with names of anybody."""

import base64
import html
import json
import re

import numpy as np
import pytest

from ltjax.evaluation import external, whole
from ltjax.evaluation.groups import by_training_size, head_medium_tail
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import Probabilities
from ltjax.report import decision_sections as sections
from ltjax.report.writing import write_report

pytestmark = pytest.mark.figures

NAMES = ('<b>bold</b>', 'a & "b"', '$x_1$')
COUNTS = (400, 90, 20)
ORDER = by_training_size(COUNTS)
HEADINGS = ('Calibration', 'Operating points', 'Referral', 'Prediction sets')
NEW = ('calibration', 'referral', 'decision_curves', 'operating_points', 'prediction_sets')
NONE = dict.fromkeys(('value', 'low', 'high'))


def evaluated(validated=(40, 30, 20), tested=(30, 20, 10), prevalence=(0.8, 0.1, 0.1)):
    def made(counts, seed):
        labels = np.repeat(np.arange(3), counts)
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(len(labels), 3)) + np.eye(3)[labels]
        ids = np.array([f'{seed} {k}' for k in range(len(labels))])
        return Predictions('a.npz', ids, labels, NAMES, Probabilities(logits))

    found = whole.evaluate(
        made(tested, 0),
        train_counts=COUNTS,
        groups=head_medium_tail(COUNTS),
        validation=validated and made(validated, 1),
        wishes=whole.Wishes(prevalence=prevalence),
        num_bootstrap=20,
    )
    return json.loads(json.dumps(found))


@pytest.fixture(scope='module')
def test_set():
    return evaluated()


def every(test):
    """Returns the four sections as one text."""
    return ''.join([
        sections.calibrated(test), sections.operating_points(test, ORDER),
        sections.referred(test), sections.prediction_sets(test, ORDER),
    ])  # fmt: skip


def pictures(markup):
    """Returns the texts of the figures."""
    found = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', markup)
    return [base64.b64decode(data).decode('utf-8') for data in found]


def plain(markup):
    return html.unescape(re.sub(r'<[^>]*>', ' ', markup))


def only_escaped(markup):
    assert '<b>bold' not in markup
    assert '</b> ' not in markup
    assert 'a & "b"' not in markup


def test_a_report_holds_the_sections(test_set, tmp_path):
    (tmp_path / 'results.json').write_text(json.dumps({'test': test_set}))
    text = write_report(tmp_path).read_text('utf-8')
    for heading in HEADINGS:
        assert f'>{heading}</h3>' in text
    for heading in ('Beside its own test', 'Compared'):
        assert heading not in text
    assert 'predictions of validation images' not in text
    assert 'was not measured' not in text
    only_escaped(text)


def test_calibration_before_and_after(test_set):
    markup = sections.calibrated(test_set)
    text = plain(markup)
    for words in (
        'as they are',
        'temperature scaling',
        'vector scaling',
        '--calibrate=temperature',
    ):
        assert words in text
    assert f'{test_set["calibration"]["temperature"]["brier"]["value"]:.3f}' in text
    for group in test_set['groups']:
        value = test_set['calibration']['as_they_are'][f'{group} log_loss']['value']
        assert f'{value:.3f}' in text
    assert len(pictures(markup)) == 1
    assert 'counts every miss as positive' in text


def test_operating_points_of_every_class(test_set):
    markup = sections.operating_points(test_set, ORDER)
    text = plain(markup)
    assert 'a sensitivity of 90.0 %' in text
    assert 'PPV at the given prevalence' in text
    for row in test_set['operating_points']['per_class']:
        assert row['name'] in text
        assert f'{row["threshold"]:.3g}' in text
    drawn = pictures(markup)
    assert len(drawn) == 3
    assert 'Decision curve of $x_1$' in html.unescape(markup)
    assert 'PPV at the' not in sections.operating_points(evaluated(prevalence=None), ORDER)
    only_escaped(markup)


def test_prediction_sets_of_every_kind(test_set):
    markup = sections.prediction_sets(test_set, ORDER)
    text = plain(markup)
    for words in ('for all images', 'for each class', 'for clusters of classes', 'adjusted'):
        assert words in text
    assert 'hold the true one with 90.0 %' in text
    assert 'Too few validation' not in text
    few = sections.prediction_sets(evaluated(validated=(40, 30, 5)), ORDER)
    assert 'to promise anything of $x_1$' in few
    few = sections.prediction_sets(evaluated(validated=(5, 30, 20)), ORDER)
    assert f'to promise anything of {NAMES[0]}' in html.unescape(few)
    only_escaped(few)


def test_referral_is_drawn(test_set):
    (svg,) = pictures(sections.referred(test_set))
    assert 'tail recall' in svg


def test_without_validation_what_is_chosen_is_left_out():
    test = evaluated(validated=None)
    markup = every(test)
    assert plain(markup).count('there are no predictions of validation images') == 2
    assert 'temperature' not in sections.calibrated(test)
    assert len(pictures(markup)) == 5


def test_what_could_not_be_fitted_is_said():
    test = evaluated(validated=(0, 0, 30), tested=(30, 20, 0))
    text = plain(every(test))
    assert (
        'Temperature scaling is left out: the validation split has images of class 2 alone' in text
    )
    assert 'Vector scaling is left out' in text


@pytest.mark.parametrize('empty', [False, True])
def test_older_results_and_very_many_classes_have_none(test_set, empty):
    old = {name: value for name, value in test_set.items() if name not in NEW}
    old |= dict.fromkeys(NEW) if empty else {}
    markup = every(old)
    assert markup == ''


def test_a_model_beside_its_own_test(test_set):
    there = evaluated(validated=None, tested=(3, 0, 20))
    found = external.beside(test_set, there)
    json.dumps(found, allow_nan=False)
    assert found['per_class'][1]['external'] == NONE
    assert found['per_class'][0]['internal_share'] == 0.5
    markup = sections.beside(found)
    for name in NAMES:
        assert name in plain(markup)
    assert 'Tail recall' in markup
    only_escaped(markup)
    lines = external.text(found).splitlines()
    assert any(line.startswith('$x_1$') and '16.7 -> 87.0' in line for line in lines)
    assert sections.beside(None) == ''


def test_figures_that_one_of_both_lacks_are_left_out(test_set):
    internal = test_set | {'groups': {'tail': test_set['groups']['tail']}}
    metrics = {name: row for name, row in test_set['metrics'].items() if name != 'macro_auc'}
    found = external.beside(internal | {'metrics': metrics}, test_set)
    assert set(found['groups']) == {'tail'}
    assert 'macro_auc' not in found['metrics']


def test_differences_to_others():
    row = {'difference': -0.123, 'low': -0.2, 'high': -0.05, 'p': 0.0001, 'p_holm': 0.0002}
    found = {'<i>other</i>.csv': {'accuracy': row, 'head_recall': row | {'p_holm': 0.04}}}
    found['<i>other</i>.csv']['tail_recall'] = dict.fromkeys(row)
    del found['<i>other</i>.csv']['tail_recall']['p_holm']
    markup = sections.against(found)
    assert 'Minus &lt;i&gt;other&lt;/i&gt;.csv, points:' in markup
    text = plain(markup)
    for words in ('-12.3', '[-20.0, -5.0]', 'below 0.001', '0.040', 'Head recall'):
        assert words in text
    assert 'Tail recall' not in text
    assert sections.against(None) == sections.against({}) == ''
