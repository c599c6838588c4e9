"""A run with patients: what it leaves of validation images, and its predictions and itself evaluated anew."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

import tiny
from ltjax import evaluate, predict
from ltjax.errors import UserError
from ltjax.evaluation.prediction_files import read
from ltjax.report import writing
from ltjax.run import train

pytestmark = pytest.mark.slow

NAMES = ('mel', '<b>', 'nv')
ARRAYS = tiny.arrays(held=12)
# A patient is on one side of the split alone; some images have none.
GROUPS = np.array([f'{side} {k // 8}' if k % 12 else '' for k, side in enumerate(ARRAYS['split'])])


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    path = tiny.npz(folder / 'data.npz', **ARRAYS | {'class_names': NAMES, 'group': GROUPS})
    train.run(tiny.config('cross_entropy', path), folder / 'run')
    return folder / 'run'


@pytest.fixture(autouse=True)
def draw(monkeypatch):
    """Leaves out the reports of evaluations; returns what would write them."""
    real = writing.write_report
    monkeypatch.setattr(writing, 'write_report', lambda folder: folder / 'report.html')
    return real


@pytest.fixture
def site(tmp_path):
    """New images of patients, one of them alone."""
    rng = np.random.default_rng(1)
    labels = np.arange(30) % 3
    noise = rng.integers(0, 120, (30, 12, 12, 1))
    images = (noise + 40 * labels[:, None, None, None]).astype(np.uint8)
    groups = np.array([f'new {k // 5}' for k in range(29)] + [''])
    names = np.array(NAMES)
    path = tmp_path / 'site.npz'
    np.savez(path, images=images, labels=labels, group=groups, class_names=names)
    return path


def predicted(workdir, site, out, *more):
    predict.main([f'--workdir={workdir}', f'--data={site}', f'--out={out}', *more])
    return read(out)


def test_a_run_leaves_predictions_of_its_validation_images(workdir):
    for name, side in (('validation.npz', 'val'), ('predictions.npz', 'test')):
        rows = ARRAYS['split'] == side
        found = read(workdir / name)
        assert found.labels.tolist() == ARRAYS['labels'][rows].tolist()
        assert found.groups.tolist() == GROUPS[rows].tolist()
        assert found.class_names == NAMES
    test = json.loads((workdir / 'results.json').read_text('utf-8'))['test']
    assert test['num_groups'] < test['num_images']
    assert test['operating_points'] is not None
    text = (workdir / 'report.html').read_text('utf-8')
    assert '<b>' not in text.replace('<b style=', '')
    assert '&lt;b&gt;' in text


def test_the_files_of_a_run_are_evaluated_to_what_it_said(workdir, tmp_path):
    evaluate.main([
        str(workdir / 'predictions.npz'), f'--validation={workdir / "validation.npz"}',
        '--bootstrap=10', f'--out={tmp_path}',
    ])  # fmt: skip
    ours = json.loads((tmp_path / 'results.json').read_text('utf-8'))
    theirs = json.loads((workdir / 'results.json').read_text('utf-8'))
    assert ours['train_counts'] == list(tiny.COUNTS)
    for name in ('metrics', 'groups', 'calibration', 'operating_points', 'prediction_sets'):
        assert ours['test'][name] == theirs['test'][name]
    with pytest.raises(UserError, match='is the folder of a run, whose results would be lost'):
        evaluate.main([str(workdir / 'predictions.npz'), f'--out={workdir}'])
    assert json.loads((workdir / 'results.json').read_text('utf-8')) == theirs


def test_groups_are_written_and_read_back(workdir, site, tmp_path, capsys):
    archive = predicted(workdir, site, tmp_path / 'a.npz')
    table = predicted(workdir, site, tmp_path / 'a.csv')
    with np.load(site) as arrays:
        for found in (archive, table):
            assert found.groups.tolist() == arrays['group'].tolist()
            assert found.labels.tolist() == arrays['labels'].tolist()
    np.testing.assert_allclose(table.scores.matrix(), archive.scores.matrix(), atol=2e-6)
    with (tmp_path / 'a.csv').open(newline='') as file:
        header = next(csv.reader(file))
    assert header == ['id', 'label', 'prediction', 'group', *(f'p({name})' for name in NAMES)]
    capsys.readouterr()
    shown = []
    for name in ('a.npz', 'a.csv'):
        evaluate.main([str(tmp_path / name), '--bootstrap=10'])
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    evaluate.main([str(tmp_path / 'a.npz'), '--against', str(tmp_path / 'a.csv'), '--bootstrap=10'])
    assert 'better' not in capsys.readouterr().out


def test_calibrated_probabilities_keep_the_predicted_classes(workdir, site, tmp_path):
    raw = predicted(workdir, site, tmp_path / 'raw.npz')
    results = json.loads((workdir / 'results.json').read_text('utf-8'))
    fitted = results['test']['calibration']['temperature']['fitted']['temperature']
    for out in ('scaled.npz', 'scaled.csv'):
        scaled = predicted(workdir, site, tmp_path / out, '--calibrate=temperature')
        assert scaled.scores.predictions.tolist() == raw.scores.predictions.tolist()
        log_odds = [np.log(each.scores.matrix()) for each in (raw, scaled)]
        gaps = [each[:, 0] - each[:, 1] for each in log_odds]
        np.testing.assert_allclose(gaps[1], gaps[0] / fitted, atol=1e-4)
        assert abs(scaled.scores.matrix() - raw.scores.matrix()).max() > 1e-3
    with np.load(tmp_path / 'raw.npz') as before, np.load(tmp_path / 'scaled.npz') as after:
        expected = before['logits'].astype(np.float64) / fitted
        np.testing.assert_array_equal(after['logits'], expected)
    predicted(workdir, site, tmp_path / 'vector.npz', '--calibrate=vector')


def test_probabilities_for_patients_of_another_prevalence(workdir, site, tmp_path, capsys):
    scaled = predicted(workdir, site, tmp_path / 'vector.npz', '--calibrate=vector')
    presumed = np.bincount(read(workdir / 'validation.npz').labels)
    meant = np.array([0.7, 0.2, 0.1])
    line = ','.join(f'{name}={share}' for name, share in zip(NAMES, meant, strict=True))
    found = predicted(workdir, site, tmp_path / 'meant.npz', f'--prevalence={line}')
    weighted = scaled.scores.matrix() * meant / presumed
    expected = weighted / weighted.sum(1, keepdims=True)
    np.testing.assert_allclose(found.scores.matrix(), expected, atol=1e-6)
    assert 'prevalence: mel 0.7, <b> 0.2, nv 0.1' in capsys.readouterr().out
    estimated = predicted(workdir, site, tmp_path / 'estimated.npz', '--prevalence=estimate')
    # What the estimate ends at: the mean of the probabilities that it leads to.
    shares = estimated.scores.matrix().mean(0)
    said = re.search(r'prevalence: mel ([\d.]+)', capsys.readouterr().out)
    assert float(said[1]) == pytest.approx(shares[0], rel=0.01)
    for flags, said in (
        (['--prevalence=mel=1'], "no share of '<b>'"),
        (['--prevalence=estimate', '--calibrate=temperature'], 'leave out --calibrate=temperature'),
    ):
        with pytest.raises(UserError, match=said):
            predicted(workdir, site, tmp_path / 'no.npz', *flags)
    assert not (tmp_path / 'no.npz').exists()


def test_a_run_without_scaling_has_none_to_apply(workdir, site, tmp_path):
    shutil.copytree(workdir, tmp_path / 'run')
    path = tmp_path / 'run' / 'results.json'
    results = json.loads(path.read_text('utf-8'))
    reason = 'the validation split has images of class 0 alone'
    for calibration, said in (
        (None, 'it left no predictions of validation images'),
        (results['test']['calibration'] | {'temperature': {'left_out': reason}}, reason),
    ):
        results['test']['calibration'] = calibration
        path.write_text(json.dumps(results))
        with pytest.raises(UserError, match=f'the run has no temperature scaling: {said}'):
            predicted(tmp_path / 'run', site, tmp_path / 'a.npz', '--calibrate=temperature')
    assert not (tmp_path / 'a.npz').exists()


def test_a_run_at_another_place(workdir, site, tmp_path, capsys, draw):
    out = tmp_path / 'out'
    evaluate.main([
        f'--workdir={workdir}', f'--data={site}', '--bootstrap=10', f'--out={out}',
        '--specificity=0.7', '--prevalence=mel=0.2,<b>=0.2,nv=0.6', '--alpha=0.3',
    ])  # fmt: skip
    shown = capsys.readouterr().out
    assert 'own test' in shown
    assert '33.3 -> 33.3' in shown
    found = json.loads((out / 'results.json').read_text('utf-8'))
    own = json.loads((workdir / 'results.json').read_text('utf-8'))['test']
    assert found['internal']['metrics']['accuracy'] == {
        'internal': own['metrics']['accuracy'], 'external': found['test']['metrics']['accuracy'],
    }  # fmt: skip
    assert found['test']['num_groups'] == 7
    assert found['test']['operating_points']['wished'] == {'specificity': 0.7}
    assert found['test']['operating_points']['prevalence'] == [0.2, 0.2, 0.6]
    assert found['test']['prediction_sets']['alpha'] == 0.3
    text = draw(out).read_text('utf-8')
    assert 'Beside its own test' in text
    assert '<b>' not in text.replace('<b style=', '')


@pytest.mark.parametrize(
    'flags',
    [['--against', 'a.csv'], ['--validation=a.csv'], ['--train-counts=a.csv'],
     ['--columns=id=a'], ['--classes=a,b'], ['--logits']],
)  # fmt: skip
def test_what_is_for_files_is_refused_for_a_run(workdir, site, flags):
    name = flags[0].split('=', maxsplit=1)[0]
    with pytest.raises(UserError, match=f'{name} is for a file of predictions: write one with'):
        evaluate.main([f'--workdir={workdir}', f'--data={site}', *flags])


def test_new_images_without_a_label_are_predicted_and_not_evaluated(workdir, site, tmp_path):
    with np.load(site) as arrays:
        images = arrays['images']
    np.savez(tmp_path / 'x.npz', images=images)
    with pytest.raises(UserError, match='30 of 30 images of .* have no label'):
        evaluate.main([f'--workdir={workdir}', f'--data={tmp_path / "x.npz"}'])
    for out in (tmp_path / 'a.npz', tmp_path / 'a.csv'):
        with pytest.raises(UserError, match='keep images with a label'):
            predicted(workdir, tmp_path / 'x.npz', out)
