import json

import numpy as np
import pytest
from sklearn import metrics as sk

from ltjax.errors import UserError
from ltjax.evaluation.bootstrap import Units, percentiles
from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.metrics import (
    Probabilities,
    evaluate,
    point_metrics,
)
from ltjax.evaluation.probabilities import softmax
from ltjax.evaluation.spread import spread
from ltjax.evaluation.table import format_metrics
from scripts.benchmarks.evaluation import many_classes

pytestmark = pytest.mark.figures  # the size of a report counts them


def test_softmax_is_float64_and_stable():
    probabilities = softmax(np.array([[1e4, 0.0], [0.0, np.log(3.0)]], np.float32))
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, [[1, 0], [0.25, 0.75]], rtol=1e-7)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    with pytest.raises(UserError, match='1 of 2 images are not finite'):
        softmax(np.array([[0.0, 1.0], [bad, 0.0]]))


def point_values(labels, probabilities):
    several = len(np.unique(labels)) > 1
    areas = [
        sk.roc_auc_score(labels == k, own) if several and (labels == k).any() else np.nan
        for k, own in enumerate(probabilities.T)
    ]
    return point_metrics(labels, probabilities.argmax(1), np.array(areas), ordered=True)


def test_point_metrics_by_hand():
    labels = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8]])
    values = point_values(labels, probabilities)
    assert values == {
        'accuracy': 0.75,
        'balanced_accuracy': 0.75,
        'macro_f1': pytest.approx((2 / 3 + 4 / 5) / 2),
        'macro_precision': pytest.approx((1 + 2 / 3) / 2),
        'macro_recall': 0.75,
        'macro_auc': 3.5 / 4,  # of four pairs three are in order, one is tied
        'quadratic_kappa': pytest.approx(0.5),
    }


def fake_test_set(counts, seed=0, signal=2.0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    logits = rng.normal(size=(len(labels), len(counts)))
    logits[np.arange(len(labels)), labels] += signal
    return labels, logits


def test_point_metrics_agree_with_scikit_learn():
    labels, logits = fake_test_set([50, 30, 20, 10])
    probabilities = softmax(logits)
    predictions = probabilities.argmax(1)
    values = point_values(labels, probabilities)
    auc = sk.roc_auc_score(labels, probabilities, multi_class='ovr', average='macro')
    assert values['macro_auc'] == pytest.approx(auc, abs=1e-12)
    balanced = sk.balanced_accuracy_score(labels, predictions)
    assert values['balanced_accuracy'] == pytest.approx(balanced, abs=1e-12)


def test_class_without_test_images_is_left_out():
    labels, logits = fake_test_set([20, 0, 10])
    values = point_values(labels, softmax(logits))
    recalls = [np.mean(logits[labels == k].argmax(1) == k) for k in (0, 2)]
    assert values['balanced_accuracy'] == values['macro_recall'] == pytest.approx(np.mean(recalls))
    assert 0 < values['macro_auc'] < 1


def test_one_class_only_has_no_auc_and_no_kappa():
    for logits in (np.eye(3)[[0, 0, 1]], np.eye(3)[[0, 0, 0]]):
        values = point_values(np.zeros(3, int), softmax(logits))
        assert np.isnan([values['macro_auc'], values['quadratic_kappa']]).all()
        assert values['accuracy'] == logits[:, 0].mean()


def run_evaluate(labels, logits, **kwargs):
    num_classes = logits.shape[1]
    train_counts = [1000 // 3**k for k in range(num_classes)]
    settings = {
        'class_names': [f'class {k}' for k in range(num_classes)],
        'train_counts': train_counts,
        'groups': head_medium_tail(train_counts),
        'num_bootstrap': 100,
        'ordered': True,
    }
    return evaluate(labels, logits, **settings | kwargs)


def test_evaluate_holds_every_figure_with_its_interval():
    labels, logits = fake_test_set([60, 40, 30, 20, 12])
    results = run_evaluate(labels, logits)
    predictions = logits.argmax(1)
    assert results['num_images'] == 162
    np.testing.assert_array_equal(results['confusion'], sk.confusion_matrix(labels, predictions))
    for name, value in point_values(labels, softmax(logits)).items():
        figure = results['metrics'][name]
        assert figure['value'] == value
        assert figure['low'] < value < figure['high']
        assert figure['high'] - figure['low'] < 0.3
    precision, recall, f1, support = sk.precision_recall_fscore_support(labels, predictions)
    for k, row in enumerate(results['per_class']):
        assert (row['name'], row['train_count']) == (f'class {k}', 1000 // 3**k)
        assert row['test_count'] == support[k]
        assert row['recall']['value'] == pytest.approx(recall[k])
        assert row['precision']['value'] == pytest.approx(precision[k])
        assert row['f1']['value'] == pytest.approx(f1[k])
        auc = sk.roc_auc_score(labels == k, softmax(logits)[:, k])
        assert row['auc']['value'] == pytest.approx(auc, abs=1e-12)
        assert row['auc']['low'] < auc < row['auc']['high']
    assert results['groups']['medium']['classes'] == ['class 1', 'class 2', 'class 3']
    assert results['groups']['medium']['recall']['value'] == pytest.approx(recall[1:4].mean())
    assert results['groups']['tail']['recall'] == results['per_class'][4]['recall']


def test_published_intervals_repeat():
    """The same seed draws the same images."""
    results = run_evaluate(*fake_test_set([60, 40, 30, 20, 12]))
    want = {
        'balanced_accuracy': [0.765, 0.6812951189151845, 0.8422611430690382],
        'macro_precision': [0.7532425126055526, 0.6783297047031778, 0.8423317900584483],
        'macro_auc': [0.9672499081158878, 0.9468899426911239, 0.9791598435605704],
        'quadratic_kappa': [0.7038120486333302, 0.5694487865098234, 0.7973646697604392],
    }
    for name, figures in want.items():
        assert list(results['metrics'][name].values()) == pytest.approx(figures, rel=1e-12)
    auc = [0.9619718309859155, 0.9088047236390144, 0.9962265470118509]
    assert list(results['per_class'][3]['auc'].values()) == pytest.approx(auc, rel=1e-12)


def test_evaluate_is_json_and_repeatable():
    labels, logits = fake_test_set([20, 10, 5])
    results = run_evaluate(labels, logits.astype(np.float32))
    assert json.loads(json.dumps(results, allow_nan=False)) == results
    assert run_evaluate(labels, logits.astype(np.float32)) == results
    assert run_evaluate(labels, logits.astype(np.float32), seed=1) != results


def test_evaluate_without_images_of_a_class():
    labels, logits = fake_test_set([20, 10, 0])
    results = run_evaluate(labels, logits)
    undefined = {'value': None, 'low': None, 'high': None}
    absent = results['per_class'][2]
    assert absent['test_count'] == 0
    assert all(absent[figure] == undefined for figure in ('recall', 'precision', 'f1', 'auc'))
    assert results['groups']['tail']['recall'] == undefined
    assert 'No test images of class 2: left out of every average.' in results['warnings']
    json.dumps(results, allow_nan=False)
    table = format_metrics(results)
    assert 'Tail recall (1 class)             -' in table.splitlines()


@pytest.mark.parametrize(
    ('counts', 'decimals'), [([5, 0, 2, 1], 9), ([1] * 30, 1), ([2, 0, 1] * 67, 0)]
)
def test_intervals_are_those_of_resamples_made_one_by_one(counts, decimals):
    """Every figure from repeated images: of absent classes, single images and ties; few and many."""
    labels, logits = fake_test_set(counts)
    logits = logits.round(decimals)
    results = run_evaluate(
        labels,
        logits,
        train_counts=[1] * len(counts),
        groups={'tail': range(len(counts))},
        num_bootstrap=3,
        ordered=False,
    )
    units = Units(labels)
    weights = units.draw(3, np.random.default_rng(0))
    probabilities, present = softmax(logits), np.unique(labels)
    predictions = probabilities.argmax(1)
    recalls, precisions, aucs = [], [], []
    for row in weights:
        true, given = labels.repeat(row), predictions.repeat(row)
        options = {'labels': present, 'average': None, 'zero_division': 0}
        recalls.append(sk.recall_score(true, given, **options))
        precisions.append(sk.precision_score(true, given, **options))
        scores = probabilities.repeat(row, axis=0)
        aucs.append([sk.roc_auc_score(true == k, scores[:, k]) for k in present])
    found = [results['per_class'][k] for k in present]
    for name, samples in (('recall', recalls), ('precision', precisions), ('auc', aucs)):
        columns = zip(np.transpose(samples), np.bincount(labels)[present], strict=True)
        bounds = [np.percentile(column, percentiles(max(1, n - 1))) for column, n in columns]
        bounds = np.transpose(bounds)
        got = [[row[name][part] for row in found] for part in ('low', 'high')]
        np.testing.assert_allclose(got, bounds, atol=1e-12)
        means = np.mean(samples, axis=1)
        freedom = np.floor(spread(means[:, None], weights, units.strata).freedom[0] + 1e-9)
        macro = np.percentile(means, percentiles(freedom))
        figure = results['metrics'][f'macro_{name}']
        np.testing.assert_allclose([figure['low'], figure['high']], macro, atol=1e-12)


def test_evaluate_of_one_class_only():
    results = run_evaluate(np.zeros(4, int), np.eye(2)[[0, 0, 0, 1]])
    assert results['metrics']['macro_auc']['value'] is None
    assert results['metrics']['balanced_accuracy']['value'] == 0.75
    assert 'Test images of one class only: AUC and kappa are undefined.' in results['warnings']


@pytest.mark.parametrize('order', ['C', 'F'])
@pytest.mark.parametrize('num_classes', [3, 77])
def test_probabilities_class_by_class_are_those_of_the_softmax(num_classes, order):
    """To the last bit, beyond one block of images and one of classes."""
    _, logits = fake_test_set([9] * 71 + [1] * 6 if num_classes == 77 else [300, 200, 145])
    logits = np.array(logits, np.float32, order=order)
    probabilities, want = Probabilities(logits), softmax(logits)
    np.testing.assert_array_equal(probabilities.predictions, want.argmax(1))
    np.testing.assert_array_equal(list(probabilities.by_class()), want.T)
    assert probabilities.shape == (645, num_classes)
    with pytest.raises(UserError, match='2 of 645 images are not finite'):
        Probabilities(np.where(np.isin(np.arange(645), (1, 599))[:, None], np.nan, logits))


def test_kappa_only_where_classes_have_an_order():
    labels, logits = fake_test_set([20, 10, 5])
    ordered = run_evaluate(labels, logits)
    results = run_evaluate(labels, logits, ordered=False)
    line = results['warnings'].pop()
    assert line.startswith('No quadratic kappa')
    assert '--config.data.class_order' in line
    assert 'kappa' in format_metrics(ordered)
    assert 'kappa' not in format_metrics(results)
    del ordered['metrics']['quadratic_kappa']
    assert results == ordered


@pytest.mark.slow
def test_evaluate_of_a_thousand_classes():
    """No matrix of classes by classes; every figure as scikit-learn has it."""
    labels, logits = fake_test_set([4] + [2] * 998 + [0], signal=4.0)
    names = [f'class {k}' for k in range(1000)]
    results = run_evaluate(
        labels, logits, class_names=names, train_counts=list(range(1000, 0, -1)), num_bootstrap=20,
        groups={'head': range(300), 'tail': range(300, 1000)},
    )  # fmt: skip
    json.dumps(results, allow_nan=False)
    predictions = logits.argmax(1)
    metrics = {name: figure['value'] for name, figure in results['metrics'].items()}
    present = np.unique(labels)
    probabilities = softmax(logits)
    aucs = [sk.roc_auc_score(labels == k, probabilities[:, k]) for k in present]
    assert metrics['macro_auc'] == pytest.approx(np.mean(aucs), abs=1e-12)
    kappa = sk.cohen_kappa_score(labels, predictions, labels=range(1000), weights='quadratic')
    assert metrics['quadratic_kappa'] == pytest.approx(kappa, abs=1e-12)
    assert metrics['accuracy'] == np.mean(labels == predictions)
    correct = np.bincount(labels[labels == predictions], minlength=1000)
    tail = np.mean(correct[300:999] / 2)
    assert results['groups']['tail']['recall']['value'] == pytest.approx(tail)
    assert results['per_class'][0]['recall']['value'] == correct[0] / 4
    assert results['per_class'][999]['auc']['value'] is None
    stored = results['confusion']
    assert sum(stored['images']) == len(labels)
    matrix = sk.confusion_matrix(labels, predictions, labels=range(1000))
    np.testing.assert_array_equal(matrix[stored['true'], stored['predicted']], stored['images'])
    assert max(map(len, results['warnings'])) < 300
    assert max(map(len, format_metrics(results).splitlines())) < 80


def test_benchmark_in_miniature():
    figures = many_classes(8142, 3, small=True)
    assert (figures['classes'], figures['images'], figures['resamples']) == (40, 120, 20)
    assert figures['logits_mb'] == 40 * 120 * 4 / 1e6
    assert all(value >= 0 for value in figures.values())
    assert 0.01 < figures['results_mb'] < 0.1 < figures['report_mb'] < 1


@pytest.mark.parametrize(
    ('labels', 'change', 'error', 'message'),
    [
        ([], {}, UserError, 'no images'),
        ([0, 1], {'class_names': ['a', 'a']}, UserError, 'same name'),
        ([0, 2], {}, ValueError, '0 to 1'),
        ([0, -1], {}, ValueError, '0 to 1'),
        ([0, 1], {'train_counts': [1, 2, 3]}, ValueError, 'shapes disagree'),
        ([0, 1], {'class_names': ['a', 'b', 'c']}, ValueError, 'shapes disagree'),
    ],
)
def test_wrong_input(labels, change, error, message):
    with pytest.raises(error, match=message):
        run_evaluate(np.array(labels, int), np.zeros((len(labels), 2)), **change)


def test_table_fits_a_terminal():
    labels, logits = fake_test_set([60, 40, 30, 20, 12])
    results = run_evaluate(labels, logits)
    table = format_metrics(results)
    assert table == format_metrics({'test': results})
    lines = table.splitlines()
    assert max(map(len, lines)) < 80
    assert table.isascii()
    balanced = results['metrics']['balanced_accuracy']
    value, low, high = (f'{100 * balanced[part]:.1f}' for part in ('value', 'low', 'high'))
    assert f'Balanced accuracy{value:>18}  [{low}, {high}]' in lines
    assert sum(line.startswith(('Head', 'Medium', 'Tail')) for line in lines) == 3
