import html.parser
import json

import numpy as np
import pytest

from ltjax.errors import UserError
from ltjax.evaluation import confusion
from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.metrics import evaluate
from ltjax.report.writing import write_report

pytestmark = pytest.mark.figures

NAMES = ['<script>alert(1)</script>', 'B & B', 'naïve']


def finished_run(folder):
    """A finished run of three classes and thirty test images, without what serves decisions."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [15, 10, 5])
    features = rng.normal(size=(30, 4)) + np.eye(3, 4)[labels] * 2
    logits = features[:, :3]
    counts = [40, 400, 4]
    test = evaluate(
        labels,
        logits,
        class_names=NAMES,
        train_counts=counts,
        groups=head_medium_tail(counts),
        num_bootstrap=20,
    )
    results = {
        'test': test,
        'plots': [
            {'title': 'norm of classifier weights', 'per_class': [1.0, 1.5, 0.7]},
            {
                'title': 'gradients',
                'lines': {'one': [[0, 1], [2, 3]]},
                'x_label': 'p',
                'y_label': 'g',
            },
        ],
        'train_counts': counts,
        'class_names': NAMES,
        'method': 'lmd <b>',
        'dataset': 'blood & cells',
        'seed': 3,
        'seconds': 200.0,
        'best': {'step': 20, 'val_balanced_accuracy': 0.51234},
        'versions': {'jax': '0.10.2'},
        'data': {
            'where': '/set <1>', 'layout': 'folder', 'identity': {'sha256': 'c0ffee' * 10},
            'said': ['30 images: train 30', 'passed over: 3 DICOM'],
        },
    }  # fmt: skip
    (folder / 'results.json').write_text(json.dumps(results))
    config = {'command': 'python main.py --note "<i>"', 'seed': 3, 'note': '</pre><script>'}
    (folder / 'config.json').write_text(json.dumps(config))
    rows = [
        {'stage': 'rrl', 'step': step, 'loss': 1 / step, 'val_balanced_accuracy': step / 100}
        for step in (10, 20)
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / 'metrics.jsonl').write_text('\n'.join([*lines, '{"stage": "rr']))
    np.savez(
        folder / 'predictions.npz',
        ids=np.arange(30).astype(str),
        labels=labels,
        logits=logits,
        features=features,
    )
    return folder


@pytest.fixture
def workdir(tmp_path):
    return finished_run(tmp_path)


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A run with its report, and the report's page: as they are, for tests that only read."""
    folder = finished_run(tmp_path_factory.mktemp('run'))
    return folder, read(folder)


class Page(html.parser.HTMLParser):
    """The tags, links inside, references to elsewhere, and text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.references, self.text, self.open, self.scripts = [], [], '', [], []
        self.links, self.ids = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        references = [value for name, value in attrs if name in ('src', 'href')]
        self.links += [value[1:] for value in references if value.startswith('#')]
        self.references += [value for value in references if not value.startswith('#')]
        self.ids += [value for name, value in attrs if name == 'id']
        if tag not in ('meta', 'img', 'input'):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ['script']:
            self.scripts.append(data)
        else:
            self.text += data


def read(workdir):
    path = write_report(workdir)
    assert path == workdir / 'report.html'
    return Page(path.read_text(encoding='utf-8'))


def test_report_is_whole_and_self_contained(written):
    workdir, page = written
    assert page.tags.count('img') == 6
    assert all(ref.startswith('data:image/svg+xml;base64,') for ref in page.references)
    # These results hold no calibration, operating points, referral and prediction sets: there is no section of them.
    assert 'Left out' not in page.text
    test = json.loads((workdir / 'results.json').read_text())['test']
    balanced, low, high = (
        f'{100 * test["metrics"]["balanced_accuracy"][part]:.1f}'
        for part in ('value', 'low', 'high')
    )
    assert f'Balanced accuracy{balanced}[{low}, {high}]' in page.text
    for text in ('seed 3', '3 min of training', '444 training and 30 test images', '0.5123'):
        assert text in page.text
    assert 'fewer than 100 test images' in page.text
    assert not list(workdir.glob('*.tmp'))


def test_contents_lead_to_the_headings_of_three_readers(written):
    _, page = written
    assert page.links == page.ids
    assert len(set(page.ids)) == len(page.ids)
    readers = ['for-the-clinician', 'for-the-statistician', 'for-the-engineer']
    assert [each for each in page.ids if each.startswith('for-')] == readers
    assert page.ids[:2] == ['for-the-clinician', 'in-short']
    levels = [tag for tag in page.tags if tag in ('h1', 'h2', 'h3', 'h4')]
    assert levels.count('h1') == 1
    assert levels[:3] == ['h1', 'h2', 'h3']
    assert levels.count('h2') == 3
    assert len(levels) == 1 + len(page.ids)


def test_texts_from_data_are_escaped(written):
    workdir, page = written
    assert 'script' not in page.tags
    assert NAMES[0] in page.text
    text = (workdir / 'report.html').read_text(encoding='utf-8')
    assert '<script' not in text
    assert '&lt;script&gt;alert(1)&lt;/script&gt;' in text
    assert 'lmd &lt;b&gt; on blood &amp; cells' in text
    assert 'naïve' in text


def test_report_is_repeatable_and_replaces_the_last_one(written):
    workdir, _ = written
    first = (workdir / 'report.html').read_bytes()
    assert write_report(workdir).read_bytes() == first


def test_classes_come_in_order_of_training_size(written):
    text = written[1].text
    table = text[text.index('training images', text.rindex('Classes')) :]
    assert table.index('B & B') < table.index('alert(1)') < table.index('naïve')


def test_report_without_features(workdir):
    with np.load(workdir / 'predictions.npz') as arrays:
        np.savez(workdir / 'predictions.npz', labels=arrays['labels'], logits=arrays['logits'])
    page = read(workdir)
    assert 'Left out: predictions.npz was saved without features.' in page.text
    assert page.tags.count('img') == 5


def test_what_was_decided_about_the_data_is_said(written):
    text = written[1].text
    for line in ('From /set <1> (folder).', 'passed over: 3 DICOM', 'sha256 c0ffeec0ffee'):
        assert line in text


def test_report_of_results_alone(workdir):
    results = json.loads((workdir / 'results.json').read_text())
    (workdir / 'results.json').write_text(json.dumps({'test': results['test']}))
    for name in ('config.json', 'metrics.jsonl', 'predictions.npz'):
        (workdir / name).unlink()
    page = read(workdir)
    assert page.text.count('Left out: ') == 5
    assert page.tags.count('img') == 2


@pytest.mark.parametrize('content', [b'', b'no archive', b'PK\x03\x04 cut short'])
def test_broken_predictions_leave_out_the_map(workdir, content):
    (workdir / 'predictions.npz').write_bytes(content)
    assert 'Left out: there is no readable predictions.npz.' in read(workdir).text


def test_report_with_undefined_metrics(workdir):
    results = json.loads((workdir / 'results.json').read_text())
    results['test'] = evaluate(
        np.array([0, 0, 1, 1]),
        np.eye(3)[[0, 1, 1, 1]],
        class_names=NAMES,
        train_counts=[40, 400, 4],
        groups=head_medium_tail([40, 400, 4]),
        num_bootstrap=5,
    )
    (workdir / 'results.json').write_text(json.dumps(results))
    assert 'No test images of naïve' in read(workdir).text


def many_classes(tmp_path, num_classes, recognised=0.5):
    """A finished run with two test images a class, of which the last has none."""
    rng = np.random.default_rng(0)
    labels = np.arange(num_classes - 1).repeat(2)
    logits = rng.normal(size=(len(labels), num_classes))
    right = rng.random(len(labels)) < recognised
    logits[np.arange(len(labels)), np.where(right, labels, 0)] += 9.0
    counts = list(range(num_classes, 0, -1))
    names = ['_background', *(f'species {k}' for k in range(1, num_classes))]
    test = evaluate(
        labels,
        logits,
        class_names=names,
        train_counts=counts,
        groups=head_medium_tail(counts),
        num_bootstrap=3,
    )
    plots = [{'title': 'norm of classifier weights', 'per_class': [1.0] * num_classes}]
    (tmp_path / 'results.json').write_text(json.dumps({'test': test, 'plots': plots}))
    np.savez(
        tmp_path / 'predictions.npz', labels=labels, features=rng.normal(size=(len(labels), 4))
    )
    return tmp_path


@pytest.mark.parametrize('num_classes', [61, 250])
def test_report_of_many_classes_is_short(tmp_path, num_classes):
    """Of 250 classes the confusions are stored as lists, of 61 as a matrix."""
    page = read(many_classes(tmp_path, num_classes))
    assert page.tags.count('img') == 5
    assert page.tags.count('tr') < 75
    assert page.text.count('_background') <= 4 + 12  # and in the 12 rows of the summary
    assert f'results.json has all {num_classes} classes' in page.text
    assert f'Of {num_classes} classes 24 are drawn' in page.text
    assert 't-SNE of the features of 48 of' in page.text
    assert 'No quadratic kappa is given' in page.text
    medium = num_classes - 2 * (num_classes // 3)
    assert f'and {medium - 20} more' in page.text


def crowd(num_classes):
    """Results of three test images a class, as `evaluate` has them, but made up."""
    rng = np.random.default_rng(0)
    counts = [max(1, int(1000 * 0.999**k)) for k in range(num_classes)]
    names = [f'Quercus ilicifolia subspecies {k}' for k in range(num_classes)]
    names[7:9] = '</script><b>\u2028', 'naïve 木'
    recalls = rng.integers(4, size=num_classes) / 3
    true = np.arange(num_classes).repeat(2)
    figure = {'value': 1 / 3, 'low': 0.25, 'high': 0.75}
    rows = [
        {'name': name, 'train_count': count, 'test_count': 3}
        | dict.fromkeys(('precision', 'f1', 'auc'), figure)
        | {'recall': {'value': recall, 'low': 0.0, 'high': 1.0}}
        for name, count, recall in zip(names, counts, recalls.tolist(), strict=True)
    ]
    groups = {
        group: {'classes': [names[k] for k in classes], 'recall': figure}
        for group, classes in head_medium_tail(counts).items()
    }
    test = {'num_images': 3 * num_classes, 'metrics': {'accuracy': figure}, 'groups': groups}
    predicted = (true + rng.integers(2, size=len(true))) % num_classes
    pairs = confusion.to_json(confusion.count_pairs(true, predicted), num_classes)
    return test | {'per_class': rows, 'confusion': pairs, 'warnings': []}


def test_report_of_thousands_of_classes_finds_each_and_stays_small(tmp_path):
    test = crowd(8142)
    (tmp_path / 'results.json').write_text(json.dumps({'test': test}))
    page = read(tmp_path)
    assert (tmp_path / 'report.html').stat().st_size < 3e6
    assert page.tags.count('script') == 2
    assert page.tags.count('input') == 1
    data = json.loads(page.scripts[0])
    assert [row[0][0] for row in data] == [row['name'] for row in test['per_class']]
    recall = test['per_class'][7]['recall']['value']
    assert data[7] == [
        ['</script><b>\u2028', 'head'],
        *[[f'{test["per_class"][7]["train_count"]}', ''], ['3', '']],
        *[[f'{100 * recall:.1f}', '[0.0, 100.0]'], *([['33.3', '[25.0, 75.0]']] * 3)],
    ]
    assert all(reference.startswith('data:') for reference in page.references)
    for title in ('lowest recall, of equals the largest', 'highest recall, of equals the smallest'):
        assert title in page.text


def test_the_best_classes_are_the_smallest_of_those_found(tmp_path):
    test = crowd(300)
    (tmp_path / 'results.json').write_text(json.dumps({'test': test}))
    text = read(tmp_path).text
    right = [row['name'] for row in test['per_class'] if row['recall']['value'] == 1]
    part = text[text.index('highest recall') : text.index('results.json has all')]
    assert part.index(right[-1]) < part.index(right[-2]) < part.index(right[-10])
    assert right[-11] not in part


def test_report_of_many_classes_without_a_mistake(tmp_path):
    page = read(many_classes(tmp_path, 70, recognised=1.0))
    assert 'No test image is taken for another class.' in page.text
    assert page.tags.count('img') == 4


@pytest.mark.parametrize('content', [None, '{"test"', '{}', '[]'])
def test_report_needs_results(tmp_path, content):
    if content is not None:
        (tmp_path / 'results.json').write_text(content)
    with pytest.raises(UserError, match=r'results\.json'):
        write_report(tmp_path)
