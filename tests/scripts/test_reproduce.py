"""The papers' tables and figures run in miniature, and end the same however they are started."""

import csv
import functools
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import experiments
import numpy as np
import pytest
import reproduce
from reproduction import items, maps, runs

import tiny
from ltjax import files, provenance
from ltjax.errors import UserError
from ltjax.evaluation import paired
from ltjax.evaluation.metrics import evaluate
from ltjax.run import start

SMALL = 'npz'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'a.npz')


@pytest.fixture
def shrunk(monkeypatch, data):
    """Every row is shrunk, but for what the row itself changes."""
    make = experiments.make_config

    def smaller(experiment, benchmark, seed, **others):
        made = make(experiment, benchmark, seed, **others)
        before = made.to_dict()
        tiny.shrink(made)
        changed = {k: v for k, v in experiment.overrides.items() if not k.startswith('model.')}
        for key, value in changed.items():
            if key in ('method.icc.rounds', 'method.rrl.epochs', 'method.icc.virtual_per_class'):
                continue
            made.update_from_flattened_dict({key: value})
        assert before['method']['name'] == made.method.name
        return made

    monkeypatch.setattr(experiments, 'make_config', smaller)
    return data


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, 'argv', ['reproduce.py', *map(str, words)])
    monkeypatch.setenv('XLA_FLAGS', '')
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    reproduce.main()


def test_a_search_chooses_by_validation(data, tmp_path, monkeypatch, capsys):
    """Not by the test, on which another is better."""
    validated = {}

    def better_on_one_side(config, workdir, **others):
        leave(config, workdir)
        results = json.loads((workdir / 'results.json').read_text())
        kept = 1 - results['test']['metrics']['balanced_accuracy']['value']
        results['best']['val_balanced_accuracy'] = validated[workdir.name] = kept
        files.write_json(workdir / 'results.json', results)

    monkeypatch.setattr(start, 'train', better_on_one_side)
    monkeypatch.setattr(paired, 'compare', functools.partial(paired.compare, num_bootstrap=20))
    call(monkeypatch, 'alpa/search', '--benchmark', SMALL, '--path', data, '--out', tmp_path)
    [item] = items.get('alpa/search', small=True)
    of = {experiments.slug(row, 0): row for row in item.rows}
    of['alpa-own-numbers-0'] = item.references[0]
    chosen = of[max(validated, key=validated.get)]
    said = capsys.readouterr().out
    assert (
        f'of 18 candidates balanced accuracy on validation images alone, never the test, chooses {chosen}.'
        in said
    )
    text = (tmp_path / 'tables' / SMALL / 'alpa-search.md').read_text()
    bold = [
        line for line in text.splitlines() if line.startswith('|') and '**' in line.split('|')[4]
    ]
    assert [line.split('|')[1].strip() for line in bold] == [chosen]


def leave(config, workdir, **others):
    """Leaves what tables read of a finished run, whose predictions are those of chance and its seed and name."""
    rng = np.random.default_rng([config.seed, *workdir.name.encode()])
    labels = np.repeat(np.arange(3), 8)
    logits = rng.normal(size=(24, 3)) + 2 * np.eye(3)[labels]
    names = ['a', 'b', 'c']
    workdir.mkdir(parents=True)
    arrays = {'ids': np.arange(24).astype(str), 'labels': labels, 'logits': logits}
    np.savez(workdir / 'predictions.npz', **arrays, class_names=np.array(names))
    test = evaluate(
        labels,
        logits,
        class_names=names,
        train_counts=tiny.COUNTS,
        groups={'head': [0], 'medium': [1], 'tail': [2]},
        num_bootstrap=10,
        ordered=True,
    )
    results = {'test': test, 'class_names': names, 'train_counts': [*tiny.COUNTS], 'versions': {}}
    results |= {'seconds': rng.uniform(1, 9), 'split_sha256': 's'}
    results['best'] = {'val_balanced_accuracy': rng.uniform()}
    norms = {'classifier weights': [3, 2, 1], 'class centroids': [0.9, 0.8, 0.9]}
    results['plots'] = [{'title': f'norm of {k}', 'per_class': v} for k, v in norms.items()]
    results['data'] = {'identity': dict.fromkeys(('images', 'split', 'contents'), 'c')}
    files.write_json(workdir / 'results.json', results)
    (workdir / 'report.html').write_text('')
    files.write_json(workdir / 'config.json', provenance.of(json.loads(config.to_json())))


def some_features(run, shown, *, virtual):
    """Stands in for the features of a run, which `leave` leaves without a checkpoint."""
    labels = np.repeat(shown, 6)
    vectors = np.random.default_rng(run.seed).normal(size=(len(labels), 3)) + labels[:, None]
    return maps.Features(vectors, labels, np.full(len(labels), virtual))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('paper', 'seeds'), [*((paper, '0') for paper in items.papers()), ('proco', '0,1')]
)
def test_a_whole_paper(paper, seeds, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(start, 'train', leave)
    monkeypatch.setattr(maps, 'features', some_features)
    quick = functools.partial(paired.compare, num_bootstrap=20)
    monkeypatch.setattr(paired, 'compare', quick)
    words = (paper, '--benchmark', SMALL, '--path', data, '--out', tmp_path, '--seeds', seeds)
    call(monkeypatch, *words)
    assert 'failed' not in capsys.readouterr().out
    folder = tmp_path / 'tables' / SMALL
    made = items.get(paper, small=True)
    for item in made:
        name = item.name.partition('/')[2]
        rows = list(csv.reader(io.StringIO((folder / f'{paper}-{name}.csv').read_text())))
        assert [row[0] for row in rows[1:]] == list(item.rows) or not item.rows
        assert all(row[1] not in ('', '-', 'failed') for row in rows[1:])
        lines = (folder / f'{paper}-{name}.tex').read_text().splitlines()
        assert sum(line.endswith(r' \\') for line in lines) == len(rows)
        assert json.loads((folder / f'{paper}-{name}.json').read_text())
        if item.kind != 'table':
            assert (folder / f'{paper}-{name}.png').read_bytes().startswith(b'\x89PNG')
            assert '<svg' in (folder / f'{paper}-{name}.svg').read_text()
    page = (folder / f'{paper}.html').read_text()
    assert page.count('<table>') == len(made)
    assert f', on {SMALL}</h1>' in page
    assert page.count(f', here on {SMALL}</h3>') == sum(bool(item.rows) for item in made)
    links = re.findall('<a href="([^"#]+)">seed ', page)
    assert len(links) == sum(len(item.rows) for item in made) * len(seeds.split(','))
    assert all((folder / link).resolve().is_relative_to(tmp_path) for link in links)
    assert all((folder / link).is_file() for link in links)

    # Again: nothing is trained, and the same comes out.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(start, 'train', None)
    monkeypatch.setattr(runs, 'check_data', lambda run: None)  # `leave` leaves no identity of any
    call(monkeypatch, *words)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.slow
def test_a_table_in_miniature(shrunk, tmp_path, monkeypatch, capsys):
    """With real trainings, one of which takes its first stage from another."""
    call(monkeypatch, 'iccl/T8_cRT', '--benchmark', SMALL, '--path', shrunk, '--out', tmp_path)
    out = capsys.readouterr().out
    assert 'failed' not in out
    assert f"- {SMALL}, what rows take: cRT, retrained as ICCL, gamma' 0.0" in out
    folder = tmp_path / SMALL
    assert (folder / 'crt-retrained-as-iccl-0' / 'results.json').exists()
    rows = list(
        csv.reader(io.StringIO((tmp_path / 'tables' / SMALL / 'iccl-T8_cRT.csv').read_text()))
    )
    assert len(rows) == 5
    assert all(float(row[1]) > 0 for row in rows[1:])

    # Again, with other images: no table of before comes out.
    arrays = dict(np.load(shrunk))
    arrays['images'] = arrays['images'][:, ::-1]
    np.savez(tmp_path / 'other.npz', **arrays)
    words = ('--benchmark', SMALL, '--path', tmp_path / 'other.npz', '--out', tmp_path, '--tables')
    with pytest.raises(UserError, match='holds a finished run on other data: contents changed'):
        call(monkeypatch, 'iccl/T8_cRT', *words)


def test_a_run_that_fails_is_told_and_the_others_go_on(shrunk, tmp_path, monkeypatch, capsys):
    def sometimes(config, workdir, **others):
        if config.method.name == 'proco' and config.method.recalibration == 'none':
            raise UserError('the loss became NaN')
        leave(config, workdir)

    monkeypatch.setattr(start, 'train', sometimes)
    call(monkeypatch, 'proco/losses', '--benchmark', SMALL, '--path', shrunk, '--out', tmp_path)
    said = capsys.readouterr().out
    assert 'ProCo, queue alone, seed 0 on npz: failed: the loss became NaN' in said
    assert '| ProCo, queue alone | failed |' in said
    assert '- npz, ProCo, queue alone: the loss became NaN.' in said
    assert '| CE | ' in said


@pytest.mark.slow
@pytest.mark.processes
def test_runs_come_out_the_same_however_they_are_started(data, tmp_path):
    """One after the other, two at once, by a scheduler on this machine; and killed on the way, by SIGKILL."""
    script = pathlib.Path(reproduce.__file__).resolve()
    found = {}
    cache = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'xla')}
    environment = os.environ | cache | {'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'}
    for name, words in {
        'here': ['--jobs', '1'], 'at once': ['--jobs', '2'], 'scheduled': ['--launcher', 'local'],
    }.items():  # fmt: skip
        out = tmp_path / name.replace(' ', '-')
        command = [sys.executable, script, 'alpa/T1', '--benchmark', SMALL, '--path', data]
        command += ['--seeds', '0,1', '--out', out, *words]
        for change in ('method.train.epochs=2', 'method.train.batch_size=16', 'num_bootstrap=10'):
            command += ['--set', change]
        if name == 'at once':
            with subprocess.Popen(command, start_new_session=True, env=environment) as process:
                wait_for(lambda out=out: any(out.glob(f'{SMALL}/*/metrics.jsonl')))
                os.killpg(process.pid, signal.SIGKILL)
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=300, env=environment
        )
        assert ended.returncode == 0, ended.stderr
        assert 'failed' not in ended.stdout, ended.stdout
        runs_of = [out / SMALL / f'ce-{seed}' / 'predictions.npz' for seed in (0, 1)]
        table = out / 'tables' / SMALL / 'alpa-T1.csv'
        found[name] = [np.load(path)['logits'].tobytes() for path in runs_of] + [table.read_text()]
    assert found['here'] == found['at once'] == found['scheduled']


def wait_for(true, seconds=240):
    """Waits until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_figure_of_formulas_needs_no_run(tmp_path, monkeypatch, capsys):
    call(monkeypatch, 'alpa/F1', '--out', tmp_path)
    text = (tmp_path / 'tables' / 'papers' / 'alpa-F1.csv').read_text()
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(text))}
    p = np.array([0.1, 0.3, 0.5, 0.7, 0.9])  # of cross-entropy the derivatives are p and p - 1
    np.testing.assert_allclose(np.float64(rows['cross-entropy']), [*p, *(p - 1)], atol=1e-3)
    # And of p^5 5 p^5 (1 - p).
    np.testing.assert_allclose(
        np.float64(rows['ALPA, gamma 4 once'][:5]), 5 * p**5 * (1 - p), atol=1e-3
    )
    assert 'note:' not in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match=r'file/.*: Not a directory. Mend that'):
        call(monkeypatch, 'alpa/F1', '--out', tmp_path / 'file' / 'out')


def test_what_is_missing_is_named_and_the_rest_is_planned(tmp_path, monkeypatch, capsys):
    (tmp_path / 'isic').mkdir()
    path = f'isic2018@proco={tmp_path / "isic"}'
    call(monkeypatch, 'proco', '--path', path, '--out', tmp_path, '--print')
    lines = capsys.readouterr().out.splitlines()
    assert all('isic2018@proco' in line for line in lines if 'reproduce.py' in line)
    assert sum('--row ProCo ' in line for line in lines) == 1  # of three tables that have it
    with pytest.raises(
        UserError,
        match=r'no such data .*aptos2019@aduni: its data are not given: python -m data_prep',
    ):
        call(monkeypatch, 'aduni/F2', '--out', tmp_path)


@pytest.mark.slow
def test_a_command_line_trains_one_run(shrunk, tmp_path, monkeypatch):
    [item] = items.get('proco/losses', small=True)
    asked = runs.Options((3,), tmp_path, {SMALL: str(shrunk)}, {'num_bootstrap': 7})
    run = runs.plan(item, SMALL, asked)['CE'][0]
    words = runs.command(run, asked)
    assert words[:2] == [sys.executable, str(pathlib.Path(reproduce.__file__).resolve())]
    call(monkeypatch, *words[2:])
    found = json.loads((tmp_path / SMALL / 'ce-3' / 'results.json').read_text())
    assert found['method'] == 'cross_entropy'
    assert sorted(path.name for path in (tmp_path / SMALL).iterdir()) == ['ce-3']
    assert not runs.outdated(run)
    changed = run._replace(
        config=runs.plan(item, SMALL, asked._replace(seeds=(4,)))['CE'][0].config
    )
    assert runs.outdated(changed) == 'its seed is 3, and would be 4 now'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['lmd/T9'], "unknown table or figure of lmd 'T9'"),
        (['lmdd'], "unknown paper 'lmdd'.*did you mean lmd"),
        ([], 'say what: aduni, alpa, iccl, lmd, proco'),
        (['lmd', '--seeds', 'x'], '--seeds=x: give numbers'),
        (['lmd', '--jobs', '0'], '--jobs=0'),
        (['lmd', '--jobs', '2', '--launcher', 'local'], '--jobs is for this machine'),
        (['lmd', '--benchmark', 'mnist'], "unknown benchmark 'mnist'"),
        (
            ['lmd/T1', '--path', 'isic2018@proco=x'],
            "unknown benchmark 'isic2018@proco'.*hyper_kvasir@lmd",
        ),
        (['lmd/T1', '--path', '/not/there'], '/not/there does not exist'),
        (
            ['lmd/T1', '--benchmark', 'fashion_mnist_lt_mini', '--row', 'CEE'],
            "unknown row of lmd/T1 'CEE': did you mean CE?",
        ),
        (
            ['lmd/T1', '--benchmark', 'fashion_mnist_lt_mini', '--set', 'seeed=1'],
            'overrides of --set.*seeed',
        ),
    ],
)
def test_mistakes_are_one_line(words, message, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=message) as error:
        call(monkeypatch, *words, '--out', tmp_path)
    assert '\n' not in str(error.value)
