"""The command that evaluates predictions of anybody: its flags, what it prints, writes and refuses."""

import csv
import json
import unicodedata

import numpy as np
import pytest

from ltjax import evaluate
from ltjax.errors import UserError
from ltjax.report import writing

NAMES = ('mel', 'bkl', 'nv')
COUNTS = {'mel': 20, 'bkl': 90, 'nv': 400}


def write(path, *, right=0.8, number=90, start=0, names=NAMES, ids=True, groups=None, seed=0):
    """Writes a CSV of anybody: of images of all classes alike, of which a share is right."""
    rng = np.random.default_rng(seed)
    columns = [*(['id'] if ids else []), 'label', *(['group'] if groups else [])]
    with path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow([*columns, *(f'p({name})' for name in names)])
        for k in range(start, start + number):
            label = k % len(names)
            top = label if rng.random() < right else (label + 1) % len(names)
            scores = rng.dirichlet(np.ones(len(names)))
            scores = np.round(0.4 * scores + 0.6 * np.eye(len(names))[top], 4)
            cells = [*([f'i{k}'] if ids else []), names[label], *([groups(k)] if groups else [])]
            writer.writerow([*cells, *scores])
    return path


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('files')
    write(folder / 'ours.csv')
    write(folder / 'worse.csv', right=0.3, seed=1)
    write(folder / 'like.csv', right=0.8, seed=2)
    write(folder / 'val.csv', start=1000, seed=3)
    with (folder / 'counts.csv').open('w', newline='') as file:
        csv.writer(file).writerows([('count', 'class'), *((n, name) for name, n in COUNTS.items())])
    return folder


@pytest.fixture(autouse=True)
def draw(monkeypatch):
    """Leaves out the reports, which take seconds; returns what would write them."""
    real = writing.write_report
    monkeypatch.setattr(writing, 'write_report', lambda folder: folder / 'report.html')
    return real


def call(*arguments):
    evaluate.main([*map(str, arguments), '--bootstrap=20'])


def refused(*arguments):
    with pytest.raises(UserError) as error:
        call(*arguments)
    said = str(error.value)
    assert '\n' not in said
    return said


def results(folder):
    return json.loads((folder / 'results.json').read_text('utf-8'))


def as_run(folder, seed, start):
    """Writes an npz as a run leaves it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(90) % len(NAMES)
    scores = 3 * np.eye(len(NAMES))[labels] + rng.normal(0, 2, (90, len(NAMES)))
    ids = np.char.mod('i%d', np.arange(start, start + 90))
    np.savez(folder, ids=ids, labels=labels, logits=scores, class_names=np.array(NAMES))


def test_the_validation_that_a_run_left_beside_its_predictions_is_taken(tmp_path, capsys):
    as_run(tmp_path / 'predictions.npz', 0, 0)
    as_run(tmp_path / 'validation.npz', 1, 1000)
    call(tmp_path / 'predictions.npz', f'--out={tmp_path / "out"}')
    assert 'operating_points' in results(tmp_path / 'out')['test']
    as_run(tmp_path / 'validation.npz', 1, 0)  # of the same images
    call(tmp_path / 'predictions.npz')
    said = capsys.readouterr().out
    assert 'The file beside was passed over: the image i0 is in' in said
    assert 'no predictions of validation images' in said


def test_predictions_alone(files, capsys):
    call(files / 'ours.csv')
    shown = capsys.readouterr().out
    for text in ('Balanced accuracy', 'Macro F1', 'Training counts are not known', 'mel'):
        assert text in shown
    assert 'no predictions of validation images' in shown
    assert not list(files.glob('*.json'))


def test_against_two_files_that_are_judged_together(files, tmp_path, capsys):
    out = tmp_path / 'out'
    call(files / 'ours.csv', '--against', files / 'worse.csv', files / 'like.csv', f'--out={out}')
    shown = capsys.readouterr().out
    worse, like = shown.split('minus ')[1:]
    assert worse.startswith(f'{files / "worse.csv"}, points')
    assert '  better' in worse.split('\n')[1]
    assert 'better' not in like
    assert 'worse' not in like
    against = results(out)['against']
    for metric in against[str(files / 'worse.csv')]:
        rows = [compared[metric] for compared in against.values()]
        for row in rows:
            assert row['p'] <= row['p_holm'] <= min(1, 2 * row['p']) + 1e-12
    call(files / 'worse.csv', '--against', files / 'ours.csv')
    assert '  worse' in capsys.readouterr().out


def test_a_verdict_is_of_the_corrected_p():
    row = {'difference': 0.1, 'low': 0.01, 'high': 0.19, 'p': 0.03}
    assert not evaluate._difference('accuracy', row | {'p_holm': 0.06}).endswith('better')
    assert evaluate._difference('accuracy', row | {'p_holm': 0.04}).endswith('better')
    nothing = dict.fromkeys(('difference', 'low', 'high', 'p'))
    assert evaluate._difference('head_recall', nothing).endswith('-')


def test_validation_chooses_and_out_holds_it(files, tmp_path, capsys, draw):
    out = tmp_path / 'a' / 'b'
    prevalence = '--prevalence=mel=0.1, bkl=0.2,nv=0.7'
    call(
        files / 'ours.csv', f'--validation={files / "val.csv"}', '--sensitivity=0.95',
        prevalence, '--alpha=0.2', f'--train-counts={files / "counts.csv"}', f'--out={out}',
    )  # fmt: skip
    assert f'report: {out / "report.html"}' in capsys.readouterr().out
    found = results(out)
    test = found['test']
    assert found['train_counts'] == [20, 90, 400]
    assert test['groups']['head']['classes'] == ['nv']
    assert test['operating_points']['wished'] == {'sensitivity': 0.95}
    assert test['operating_points']['prevalence'] == [0.1, 0.2, 0.7]
    assert test['prediction_sets']['alpha'] == 0.2
    assert 'PPV at the given prevalence' in draw(out).read_text('utf-8')
    call(
        files / 'ours.csv', f'--validation={files / "val.csv"}', '--specificity=0.8', f'--out={out}'
    )
    assert results(out)['test']['operating_points']['wished'] == {'specificity': 0.8}


def test_files_that_name_no_images(tmp_path):
    ours = write(tmp_path / 'a.csv', ids=False)
    validation = write(tmp_path / 'v.csv', ids=False, seed=3)
    call(ours, f'--validation={validation}', '--against', write(tmp_path / 'b.csv', ids=False))
    named = write(tmp_path / 'c.csv')
    assert 'compare predictions of the same images' in refused(ours, '--against', named)


def test_groups_are_told(tmp_path, capsys):
    ours = write(tmp_path / 'a.csv', groups=lambda k: f'p{k // 6}')
    call(ours, f'--out={tmp_path / "out"}')
    assert results(tmp_path / 'out')['test']['num_groups'] == 15
    validation = write(tmp_path / 'v.csv', start=1000, groups=lambda k: f'p{k % 7}')
    assert 'the group p0 is in' in refused(ours, f'--validation={validation}')
    assert 'the image i0 is in' in refused(ours, f'--validation={ours}')


def test_columns_and_classes_by_name(tmp_path):
    path = tmp_path / 'a.csv'
    rows = [('file', 'truth', 'mel, in situ', 'nv')]
    rows += [(k, ('nv', 'mel, in situ')[k % 2], k % 2, 0.3) for k in range(20)]
    with path.open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    flags = [
        '--columns=id=file',
        '--columns=label=truth',
        '--classes="mel, in situ",nv',
        '--logits',
    ]
    call(path, *flags, f'--out={tmp_path / "out"}')
    found = results(tmp_path / 'out')
    assert found['class_names'] == ['mel, in situ', 'nv']
    assert found['test']['metrics']['accuracy']['value'] == 1
    assert '--columns=label=COLUMN' in refused(path)
    assert "'fil': did you mean file" in refused(path, '--columns=id=fil', *flags[1:])
    assert "'group=patient'" not in refused(path, '--columns=group=patient', *flags)
    assert "unknown column 'lable=truth'" in refused(path, '--columns=lable=truth')
    assert 'no probabilities' in refused(path, *flags[:-1])
    assert '--logits goes with --classes' in refused(path, *flags[:2], '--logits')


def run_results(**changes):
    groups = {'head': {'classes': ['mel']}, 'tail': {'classes': ['nv', 'bkl']}}
    values = {'class_names': NAMES, 'train_counts': [20, 90, 400], 'test': {'groups': groups}}
    return json.dumps(values | changes)


def test_results_of_a_run_say_how_it_was_trained(files, tmp_path):
    path, out = tmp_path / 'run.json', tmp_path / 'out'
    path.write_text(run_results())
    call(files / 'ours.csv', f'--train-counts={path}', f'--out={out}')
    assert results(out)['test']['groups']['head']['classes'] == ['mel']
    assert results(out)['train_counts'] == [20, 90, 400]
    write(tmp_path / 'ours.csv')
    (tmp_path / 'results.json').write_text(run_results(train_counts=[1, 2, 3]))
    call(tmp_path / 'ours.csv', f'--out={out}')
    assert results(out)['train_counts'] == [1, 2, 3]


@pytest.mark.parametrize(
    'content',
    ['[]', '{}', '{"accuracy": 1}', '{"test"', run_results(train_counts=None),
     run_results(test=None), run_results(train_counts=[1]), run_results(class_names=['a', 'b', 'c'])],
)  # fmt: skip
def test_results_beside_that_are_anybodys_are_passed_over(tmp_path, capsys, content):
    write(tmp_path / 'ours.csv')
    (tmp_path / 'results.json').write_text(content)
    call(tmp_path / 'ours.csv')
    assert 'Training counts are not known' in capsys.readouterr().out
    said = refused(tmp_path / 'ours.csv', f'--train-counts={tmp_path / "results.json"}')
    assert 'is no results.json of a run' in said or "training images of the class 'mel'" in said


def test_an_evaluation_may_lie_beside_what_it_is_of(tmp_path):
    write(tmp_path / 'ours.csv')
    for _ in range(2):
        call(tmp_path / 'ours.csv', f'--out={tmp_path}')
        assert results(tmp_path)['train_counts'] is None


def test_nothing_of_a_run_or_of_anybody_is_written_over(files, tmp_path):
    (tmp_path / 'results.json').write_text('{"accuracy": 0.9}')
    assert 'would be lost: give another --out' in refused(files / 'ours.csv', f'--out={tmp_path}')
    assert results(tmp_path) == {'accuracy': 0.9}
    (tmp_path / 'results.json').unlink()
    (tmp_path / 'config.json').write_text('{}')
    assert 'is the folder of a run' in refused(files / 'ours.csv', f'--out={tmp_path}')
    assert 'is no folder' in refused(files / 'ours.csv', f'--out={tmp_path / "config.json"}')


def test_names_are_compared_as_unicode_says(tmp_path):
    taken_apart = unicodedata.normalize('NFD', 'naïve')
    ours = write(tmp_path / 'a.csv', names=('naïve', 'nv'))
    other = write(tmp_path / 'b.csv', names=(taken_apart, 'nv'))
    (tmp_path / 'c.csv').write_text(f'class,count\n{taken_apart},9\nnv,4\n', 'utf-8-sig')
    call(
        ours, '--against', other, f'--train-counts={tmp_path / "c.csv"}',
        f'--prevalence={taken_apart}=0.5,nv=0.5',
    )  # fmt: skip


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--bootstrap=0'], '--bootstrap=0: use 1 or more'),
        (['--workdir=w'], 'give PREDICTIONS, or --workdir=RUN and --data=NEW_SITE'),
        (['--data=w'], 'give PREDICTIONS, or'),
        (['--against', 'absent.csv'], 'absent.csv: there is no such file'),
        (['--validation=absent.csv'], 'absent.csv: there is no such file'),
        (['--train-counts=absent.csv'], 'absent.csv cannot be read (No such file'),
        (['--sensitivity=0.9', '--specificity=0.9'], 'not both'),
        (['--sensitivity=90'], '--sensitivity=90.0: give a share between 0 and 1'),
        (['--specificity=nan'], '--specificity=nan: give a share'),
        (['--alpha=0'], '--alpha=0.0: give a share'),
        (['--prevalence=mel=0.5'], "--prevalence has no share of 'bkl': give one of each class"),
        (['--prevalence=mel=0.5,bkl=x,nv=0.1'], 'give CLASS=SHARE'),
        (['--prevalence=mel=0.5,bkl,nv=0.1'], 'bkl: give CLASS=SHARE,...'),
        (['--prevalence=mel=0.5,mle=0.1'], 'unknown class of --prevalence=CLASS=SHARE,...'),
        (['--prevalence=mel=0.1,mel=0.2,bkl=0.7'], "--prevalence has two shares of 'mel'"),
        (['--prevalence=mel=10,bkl=20,nv=70'], 'that sum to one, not 100'),
        (['--prevalence=mel=-0.5,bkl=0.5,nv=1'], 'shares of zero or more'),
        (['--prevalence=mel=nan,bkl=0.5,nv=0.5'], 'that sum to one, not nan'),
    ],
)  # fmt: skip
def test_mistakes_are_named(files, flags, said):
    with pytest.raises(UserError) as error:
        evaluate.main([str(files / 'ours.csv'), *flags])
    assert said in str(error.value)
    assert '\n' not in str(error.value)


def test_a_folder_that_cannot_be_made_is_refused_before_the_work(files, tmp_path, monkeypatch):
    (tmp_path / 'file').touch()
    monkeypatch.setattr(evaluate, '_of_a_file', None)
    assert 'give another --out' in refused(files / 'ours.csv', f'--out={tmp_path / "file" / "x"}')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'should be a CSV with the columns class and count'),
        ('class,number\nmel,1\n', 'should be a CSV with the columns class and count'),
        ('class,count\nmel,many\n', 'a whole number'),
        ('class,count\nmel\n', 'a whole number'),
        ('class,count\nmel,-1\nbkl,2\nnv,3\n', 'a whole number'),
        ('class,count\nmel,1\nmel,2\n', "has 'mel' twice: keep one row of each"),
        ('class,count\nmel,1\nbkl,2\n', "no training images of the class 'nv'"),
    ],
)
def test_training_counts_that_are_none(files, tmp_path, text, said):
    (tmp_path / 'c.csv').write_text(text)
    assert said in refused(files / 'ours.csv', f'--train-counts={tmp_path / "c.csv"}')
