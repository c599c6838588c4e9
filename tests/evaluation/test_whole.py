"""Everything that is said of predictions: beside scikit-learn, of sets that lack something, and as JSON."""

import csv
import json

import numpy as np
import pytest
from sklearn import metrics as sk

from ltjax.errors import UserError
from ltjax.evaluation import whole
from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.parts import Wishes
from ltjax.evaluation.prediction_files import read
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import GivenProbabilities, Probabilities, softmax

COUNTS = (400, 90, 20)
PARTS = ('calibration', 'referral', 'decision_curves', 'operating_points', 'prediction_sets')


def made(labels, num_classes=3, *, seed=0, groups=None, decimals=None, where='a.npz'):
    """Returns predictions of images with labels, that are right more often than not."""
    rng = np.random.default_rng(seed)
    labels = np.asarray(labels)
    logits = rng.normal(size=(len(labels), num_classes)) + 1.5 * np.eye(num_classes)[labels]
    scores = Probabilities(logits)
    if decimals is not None:
        rounded = np.round(softmax(logits), decimals)
        rounded[:, 0] += 1 - rounded.sum(1)
        scores = GivenProbabilities(np.abs(np.round(rounded, decimals)))
    ids = np.array([f'{where} {k}' for k in range(len(labels))])
    names = tuple(f'class {k}' for k in range(num_classes))
    groups = None if groups is None else np.asarray(groups).astype(np.str_)
    return Predictions(where, ids, labels, names, scores, groups)


def labels_of(*counts):
    return np.repeat(np.arange(len(counts)), counts)


def evaluate(test, validation=None, counts=COUNTS, **options):
    found = whole.evaluate(
        test,
        train_counts=counts,
        groups=head_medium_tail(counts or np.bincount(test.labels, minlength=3).tolist()),
        validation=validation,
        num_bootstrap=20,
        **options,
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


VALIDATION = made(labels_of(40, 30, 15), seed=1, where='v.npz')


def test_figures_are_those_of_scikit_learn_on_a_csv_of_anybody(tmp_path):
    """Rounded to two decimals, so that many probabilities are equal."""
    test = made(labels_of(60, 25, 15), decimals=2)
    with (tmp_path / 'a.csv').open('w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['id', 'label', *(f'p({name})' for name in test.class_names)])
        for k, (label, row) in enumerate(zip(test.labels, test.scores.matrix(), strict=True)):
            writer.writerow([k, test.class_names[label], *(f'{value:.2f}' for value in row)])
    with (tmp_path / 'a.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    true = np.array([test.class_names.index(row['label']) for row in rows])
    scores = np.array([[float(row[f'p({name})']) for name in test.class_names] for row in rows])
    predicted = scores.argmax(1)
    assert len(np.unique(scores[:, 1])) < 80
    found = evaluate(read(tmp_path / 'a.csv'), VALIDATION)
    areas = [sk.roc_auc_score(true == k, scores[:, k]) for k in range(3)]
    expected = {
        'accuracy': sk.accuracy_score(true, predicted),
        'balanced_accuracy': sk.balanced_accuracy_score(true, predicted),
        'macro_f1': sk.f1_score(true, predicted, average='macro'),
        'macro_precision': sk.precision_score(true, predicted, average='macro'),
        'macro_auc': np.mean(areas),
    }
    for name, value in expected.items():
        assert found['metrics'][name]['value'] == pytest.approx(value, abs=1e-12)
        assert found['metrics'][name]['low'] <= found['metrics'][name]['high']
    for row, area in zip(found['per_class'], areas, strict=True):
        assert row['auc']['value'] == pytest.approx(area, abs=1e-12)
    assert found['confusion'] == sk.confusion_matrix(true, predicted).tolist()
    as_they_are = found['calibration']['as_they_are']
    brier = ((scores - np.eye(3)[true]) ** 2).sum(1).mean()
    assert as_they_are['brier']['value'] == pytest.approx(brier, abs=1e-12)
    assert as_they_are['log_loss']['value'] == pytest.approx(sk.log_loss(true, scores), abs=1e-12)
    for k, row in enumerate(found['operating_points']['per_class']):
        called = scores[:, k] >= row['threshold']
        ppv = sk.precision_score(true == k, called)
        assert row['ppv']['value'] == pytest.approx(ppv, abs=1e-12)
        assert row['sensitivity']['value'] == pytest.approx(sk.recall_score(true == k, called))


def test_without_validation_what_is_chosen_is_left_out():
    found = evaluate(made(labels_of(30, 20, 10)))
    assert [name for name in PARTS if found[name] is None] == [
        'operating_points',
        'prediction_sets',
    ]
    assert set(found['calibration']) == {'as_they_are', 'reliability'}
    assert any('no predictions of validation images' in line for line in found['warnings'])


def test_with_validation_nothing_is_left_out():
    found = evaluate(made(labels_of(30, 20, 10)), VALIDATION)
    assert all(found[name] for name in PARTS)
    calibrated = found['calibration']
    assert calibrated['temperature']['accuracy'] == calibrated['as_they_are']['accuracy']
    methods = [row['fitted']['method'] for row in found['prediction_sets']['methods']]
    assert methods == ['marginal', 'class_conditional', 'clustered', 'prevalence_adjusted']
    assert not any('no predictions of validation' in line for line in found['warnings'])


def test_without_training_counts_no_set_is_adjusted_to_them():
    for counts in (None, (400, 90, 0)):
        found = evaluate(made(labels_of(30, 20, 10)), VALIDATION, counts)
        methods = [row['fitted']['method'] for row in found['prediction_sets']['methods']]
        assert methods == ['marginal', 'class_conditional', 'clustered']


def test_groups_are_drawn_whole():
    labels = labels_of(40, 40, 40)
    patients = np.arange(120) // 10
    alone, whole_patients = (evaluate(made(labels, groups=g)) for g in (None, patients))
    assert (alone['num_groups'], whole_patients['num_groups']) == (None, 12)
    values = [each['metrics']['accuracy']['value'] for each in (alone, whole_patients)]
    assert values[0] == values[1]
    assert alone['calibration'] != whole_patients['calibration']
    each_its_own = evaluate(made(labels, groups=np.arange(120)))
    assert each_its_own['calibration'] == alone['calibration']


def test_groups_of_validation_images_are_counted_as_one_patient():
    validation = made(labels_of(40, 30, 20), groups=np.arange(90) // 10, seed=1, where='v')
    found = evaluate(made(labels_of(30, 20, 10)), validation)
    (row,) = (r for r in found['prediction_sets']['methods'] if r['fitted']['method'] == 'marginal')
    assert [each['units'] for each in row['per_class']] == [4, 3, 2]
    assert found['prediction_sets']['too_few'] == ['class 0', 'class 1', 'class 2']
    assert any('too few images or groups of class 0' in line for line in found['warnings'])


@pytest.mark.parametrize('tested', [(30, 20, 0), (30, 0, 0), (1, 1, 1)])
@pytest.mark.parametrize('validated', [(40, 20, 0), (0, 0, 40), (1, 0, 0), None])
def test_classes_without_images(tested, validated):
    validation = validated and made(labels_of(*validated), seed=1, where='v')
    found = evaluate(
        made(labels_of(*tested)), validation, wishes=Wishes(prevalence=(0.8, 0.1, 0.1))
    )
    for row, number in zip(found['per_class'], tested, strict=True):
        assert (row['recall']['value'] is None) == (number == 0)
    if validated is None:
        return
    present = np.count_nonzero(validated)
    assert ('left_out' in found['calibration']['temperature']) == (present == 1)
    for row, here, there in zip(
        found['operating_points']['per_class'], tested, validated, strict=True
    ):
        assert (row['threshold'] is None) == (present == 1 or there == 0)
        if row['threshold'] is None or not here:
            assert row['sensitivity']['value'] is None


def test_what_is_wished_is_what_is_chosen():
    wishes = Wishes(sensitivity=0.0, specificity=0.8, prevalence=(0.7, 0.2, 0.1), alpha=0.2)
    test = made(labels_of(30, 20, 10))
    found = evaluate(test, VALIDATION, wishes=wishes)
    assert found['operating_points']['wished'] == {'specificity': 0.8}
    assert found['operating_points']['prevalence'] == [0.7, 0.2, 0.1]
    assert found['prediction_sets']['alpha'] == 0.2
    row = found['operating_points']['per_class'][1]
    called = test.scores.matrix()[:, 1] >= row['threshold']
    shares = [called[test.labels == k].mean() * wishes.prevalence[k] for k in range(3)]
    assert row['sensitivity']['value'] == pytest.approx(shares[1] / 0.2)
    assert row['ppv at prevalence']['value'] == pytest.approx(shares[1] / sum(shares))
    assert 'ppv at prevalence' not in evaluate(test, VALIDATION)['operating_points']['per_class'][0]


def test_certain_probabilities_are_measured_too():
    """Zeros and ones, as a hard vote gives them."""
    labels = labels_of(20, 10, 5)
    hard = GivenProbabilities(np.eye(3)[np.roll(labels, 1)])
    test = made(labels)
    test = Predictions(test.where, test.ids, labels, test.class_names, hard)
    found = evaluate(test, Predictions('v', test.ids, labels, test.class_names, hard))
    assert found['calibration']['as_they_are']['log_loss']['value'] > 1
    assert found['operating_points'] is not None


def test_of_very_many_classes_there_are_the_metrics_alone():
    labels = np.arange(201).repeat(2)
    counts = tuple(range(400, 199, -1))
    found = evaluate(made(labels, 201), made(labels, 201, seed=1, where='v'), counts)
    assert all(found[name] is None for name in PARTS)
    assert any('With more than 200 classes' in line for line in found['warnings'])


def with_(predictions, **changes):
    fields = {name: getattr(predictions, name) for name in predictions.__dataclass_fields__}
    return Predictions(**fields | changes)


def test_validation_and_test_are_apart():
    test = made(labels_of(3, 2, 2), groups=[*'aabbc', '', ''])
    validation = made(labels_of(3, 2, 2), groups=[*'ddeef', '', ''], where='v.npz')
    whole.check_apart(test, validation)
    whole.check_apart(test, with_(validation, groups=None))
    shared = np.array([*'cdefg', '', ''])
    with pytest.raises(UserError, match=r'the group c is in v.npz and in a.npz \(1 such\)'):
        whole.check_apart(test, with_(validation, groups=shared))
    spelled = np.array(['A', '7', '007', 'x', 'y', '', ''])
    with pytest.raises(UserError, match='the group a is in'):
        whole.check_apart(test, with_(validation, groups=spelled))
    with pytest.raises(UserError, match=r'the image a.npz 0 is in v.npz and in a.npz \(7 such\)'):
        whole.check_apart(test, with_(validation, ids=test.ids))
    with pytest.raises(UserError, match='they should be the same, in the same order'):
        whole.check_apart(test, with_(validation, class_names=test.class_names[::-1]))


def test_places_in_two_files_are_no_names_of_images():
    numbers = np.arange(7).astype(np.str_)
    test, validation = (made(labels_of(3, 2, 2), where=where) for where in ('a.npz', 'v.npz'))
    whole.check_apart(
        with_(test, ids=numbers, numbered=True), with_(validation, ids=numbers, numbered=True)
    )
    whole.check_apart(with_(test, ids=numbers), with_(validation, ids=numbers, numbered=True))
