"""A report as a browser shows it: no error, nothing wider than the page, every picture described."""

import html.parser
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest

from ltjax.evaluation import whole
from ltjax.evaluation.groups import head_medium_tail
from ltjax.evaluation.predictions import Predictions
from ltjax.evaluation.probabilities import Probabilities
from ltjax.report.writing import write_report

BROWSER = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason='no chromium or google-chrome is on the path'),
]
MOST_BYTES = 5_000_000
# Headless, offline, and said on standard error what a page writes to its console.
FLAGS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--hide-scrollbars',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--enable-logging=stderr', '--v=0', '--dump-dom',
)  # fmt: skip
# A window is at least 500 px wide: a phone's width is that of a frame in it.
FRAME = """<!DOCTYPE html><iframe width="{width}" height="900" srcdoc=""></iframe><pre id="said"></pre><script>
const frame = document.querySelector('iframe');
frame.onload = () => {{
  const inside = frame.contentDocument.documentElement;
  document.querySelector('#said').textContent = [inside.scrollWidth, inside.clientWidth].join(' of ');
}};
frame.srcdoc = {page};
</script>"""
NAMES = (
    'melanocytic naevus',
    'basal cell carcinoma, superficial or nodular',
    'df',
    'Kaposi-Sarkom' * 4,
)


def predictions(name, per_class, seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), per_class)
    logits = rng.normal(size=(len(labels), 4)) + 2 * np.eye(4)[labels]
    ids = np.array([f'{name} {k}' for k in range(len(labels))])
    groups = np.array([f'{name} {k // 3}' for k in range(len(labels))])
    return Predictions(name, ids, labels, NAMES, Probabilities(logits), groups)


@pytest.fixture(scope='module')
def report(tmp_path_factory):
    """The report of a run with every section but those of other predictions."""
    workdir = tmp_path_factory.mktemp('run')
    counts, test = [400, 90, 30, 8], predictions('test', [60, 40, 20, 6], 0)
    validation = predictions('val', [30, 20, 12, 6], 1)
    results = {
        'test': whole.evaluate(
            test, train_counts=counts, groups=head_medium_tail(counts), validation=validation,
            num_bootstrap=20,
        ),
        'method': 'cross_entropy', 'dataset': 'csv', 'seed': 0, 'parameters': '+------+\n' * 3,
        'plots': [{'title': 'norm of classifier weights', 'per_class': [1.0, 1.5, 0.7, 0.5]}],
    }  # fmt: skip
    (workdir / 'results.json').write_text(json.dumps(results), 'utf-8')
    (workdir / 'config.json').write_text(
        json.dumps({'command': 'ltjax train ' + '--config.x=1 ' * 30}), 'utf-8'
    )
    rows = [
        {'stage': 'train', 'step': step, 'loss': 1 / step, 'val_balanced_accuracy': 0.5}
        for step in (1, 2)
    ]
    (workdir / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)), 'utf-8')
    features = np.random.default_rng(0).normal(size=(len(test.labels), 5))
    np.savez(workdir / 'predictions.npz', labels=test.labels, features=features)
    return write_report(workdir)


def loaded(path, tmp_path):
    """Returns the page as the browser has it when it is loaded, and what was written to its console."""
    done = subprocess.run(
        [BROWSER, *FLAGS, f'--user-data-dir={tmp_path / "profile"}', path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if 'CONSOLE' in line]


def test_a_page_loads_without_an_error(report, tmp_path):
    page, console = loaded(report, tmp_path)
    assert console == []
    assert page.count('<h2') == 3
    assert report.stat().st_size < MOST_BYTES


@pytest.mark.parametrize('width', [390, 1000])
def test_nothing_is_wider_than_the_page(report, tmp_path, width):
    # A script ends at the first `</script>`, wherever that stands.
    page = json.dumps(report.read_text('utf-8')).replace('</', '<\\/')
    frame = tmp_path / 'frame.html'
    frame.write_text(FRAME.format(width=width, page=page), 'utf-8')
    said, console = loaded(frame, tmp_path)
    assert console == []
    assert re.search(r'<pre id="said">(.*)</pre>', said)[1] == f'{width} of {width}'


def test_every_picture_is_described(report):
    found = []

    class Pictures(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag == 'img':
                found.append(dict(attrs).get('alt', ''))

    Pictures().feed(pathlib.Path(report).read_text('utf-8'))
    assert len(found) >= 8
    assert all(text.strip() for text in found)
