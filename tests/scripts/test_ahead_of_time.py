"""Compiled steps are counted right, and the script that compiles them for devices that are not there goes on."""

import gzip
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

import tiny
from scripts.benchmarks import hlo, hlo_account

SCRIPT = tiny.ROOT / 'scripts' / 'ahead_of_time.py'

# As XLA writes it: a convolution of 2 images of 8 x 8 by 3 x 3, stride 2, fused with a rectifier; a loop of five turns;
# a gather from a table; a sum over devices; and what costs nothing.
PROGRAM = pathlib.Path(__file__).with_name('step.hlo').read_text('utf-8')


def by_name(text):
    return {kernel.name: kernel for kernel in hlo_account.kernels(hlo.parse(text))}


def test_kernels_their_parts_and_how_often_they_run():
    found = by_name(PROGRAM)
    assert [(k.name, k.part, k.kind, k.times) for k in found.values()] == [
        ('fusion.1', 'forward', 'matrix', 1),
        ('fusion.2', 'augmentation', 'gather', 1),
        ('copy.1', 'forward', 'copy', 1),
        ('product', 'loss', 'matrix', 5),
        ('all-reduce.1', 'optimiser', 'collective', 1),
    ]


def test_a_loop_without_a_count_runs_up_to_the_number_it_compares_with():
    text = PROGRAM.replace('{"known_trip_count":{"n":"5"}}', '{}')
    assert by_name(text)['product'].times == 7
    assert by_name(text.replace('constant(7)', 'parameter(1)'))['product'].times == 1


def test_operations_leave_out_the_padding():
    found = by_name(PROGRAM)
    # Along each axis 4 outputs by 3 places of the kernel, of which the first output's first place is padding.
    assert found['fusion.1'].operations == 2 * 4 * 16 * 2 * (4 * 3 - 1) ** 2
    assert found['product'].operations == 2 * 100 * 8 * 100


def test_a_gather_reads_what_it_takes_and_other_kernels_all():
    found = by_name(PROGRAM)
    assert found['fusion.2'].bytes == 10 * 8 * 4 + 10 * 4 + 10 * 8 * 4
    assert found['fusion.2'].gathered == 10
    assert found['fusion.1'].bytes == 2 * (2 * 8 * 8 * 4 + 3 * 3 * 4 * 16 + 2 * 4 * 4 * 16)
    assert found['copy.1'].bytes == 2 * 2 * 512
    assert (found['all-reduce.1'].bytes, found['all-reduce.1'].sent) == (1024 + 64, 1024)


def test_sums_and_the_least_time():
    kernels = hlo_account.kernels(hlo.parse(PROGRAM))
    sums = hlo_account.summary(kernels, flops=1e9, bandwidth=1e6)
    product = next(k for k in kernels if k.name == 'product')
    assert sums['operations'] == sum(k.times * k.operations for k in kernels)
    assert sums['parts']['loss']['bytes'] == 5 * product.bytes
    assert sums['parts']['loss']['bound_ms'] == pytest.approx(5e3 * product.bytes / 1e6)
    assert sums['bound_ms'] == pytest.approx(sum(p['bound_ms'] for p in sums['parts'].values()))
    assert sum(part['share'] for part in sums['parts'].values()) == pytest.approx(1)
    assert sums['kernels'] == {'matrix': 6, 'gather': 1, 'copy': 1, 'collective': 1}
    assert sums['collectives'] == {'all-reduce': {'count': 1, 'bytes': 1024}}
    assert sums['slowest'][0]['name'] == 'product'


@pytest.mark.parametrize(
    ('text', 'size'),
    [
        ('f32[100,3]{1,0}', 100 * 3 * 4),
        ('f32[100,3]{1,0:T(8,128)}', 104 * 128 * 4),
        ('u8[100,3]{0,1:T(8,128)(4,1)}', 128 * 8),
        ('bf16[2,5,3]{2,0,1:T(8,128)(2,1)}', 8 * 5 * 128 * 2),
        ('f32[1000]{0:T(1024)}', 1024 * 4),
        ('f32[100,3]{1,0:T(8,128)S(1)}', 0),
        ('(f32[2]{0}, (s8[3]{0}, pred[]))', 8 + 3 + 1),
        ('token[]', 0),
    ],
)
def test_bytes_of_arrays_in_tiles(text, size):
    assert sum(array.bytes for array in hlo.arrays(text)) == size


@pytest.mark.parametrize(
    ('target', 'operands'),
    [
        ('__cudnn$convForward', ('f32[2,8,8,4]', 'f32[16,3,3,4]', 'f32[2,4,4,16]')),
        ('__cudnn$convBackwardInput', ('f32[2,4,4,16]', 'f32[16,3,3,4]', 'f32[2,8,8,4]')),
        ('__cudnn$convBackwardFilter', ('f32[2,8,8,4]', 'f32[2,4,4,16]', 'f32[16,3,3,4]')),
    ],
)
def test_the_three_convolutions_of_cudnn_cost_the_same(target, operands):
    first, second, made = operands
    text = (
        f'ENTRY %main (a: f32[1]) -> f32[1] {{\n  %a = {first} parameter(0)\n  %b = {second} parameter(1)\n'
        f'  ROOT %c = ({made}, u8[0]{{0}}) custom-call(%a, %b), window={{size=3x3 stride=2x2 pad=1_0x1_0}}, '
        f'dim_labels=b01f_o01i->b01f, custom_call_target="{target}"\n}}\n'
    )
    (kernel,) = hlo_account.kernels(hlo.parse(text))
    assert kernel.operations == 2 * 4 * 16 * 2 * 11**2
    assert kernel.kind == 'matrix'


def test_a_text_without_a_program_is_refused():
    with pytest.raises(ValueError, match='ENTRY'):
        hlo.parse('HloModule nothing\n')


def run(out, *arguments, **environment):
    command = [sys.executable, str(SCRIPT), '--out', str(out), '--small', *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {'PYTHONPATH': str(tiny.ROOT)} | environment,
    )


@pytest.mark.slow
@pytest.mark.processes
def test_the_script_compiles_each_step_once_and_says_what_it_found(tmp_path):
    only = ('--device', 'cpu', '--chips', '8', '--only', 'lmd/icc', 'alpa')
    done = run(tmp_path, *only)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / 'rows.json').read_text('utf-8'))
    assert [row['step'] for row in rows] == ['lmd/icc/m_step', 'lmd/icc/e_step', 'alpa/alpa/train']
    assert done.stdout == (tmp_path / 'table.md').read_text('utf-8')
    m_step, e_step, _ = rows
    for row in rows:
        assert row['collectives']['all-reduce']['count'] > 0
        assert 0 < row['memory'] < row['memory_of_device']
    assert set(e_step['parts']) > {'augmentation', 'forward', 'backward', 'loss', 'optimiser'}
    assert 'augmentation' not in m_step['parts']
    # A convolution's gradients cost as much as itself, twice; less that of the images.
    parts = e_step['parts']
    assert 1 < parts['backward']['operations'] / parts['forward']['operations'] < 2.2
    again = run(tmp_path, *only)
    assert '...' in done.stderr
    assert '...' not in again.stderr
    assert again.stdout == done.stdout
    name = tmp_path / f'{m_step["name"]}.hlo.gz'
    name.write_bytes(gzip.compress(PROGRAM.encode()))
    counted = run(tmp_path, *only, '--recount')
    assert counted.returncode == 0, counted.stderr
    changed = json.loads((tmp_path / 'rows.json').read_text('utf-8'))
    assert changed[0]['kernels'] == {'matrix': 6, 'gather': 1, 'copy': 1, 'collective': 1}
    assert changed[1:] == rows[1:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ('arguments', 'named'),
    [
        (('--device', 'v6'), 'v5e'),
        (('--device', 'h100', '--chips', '5'), '1, 8'),
        (('--device', 'cpu', '--only', 'lmb'), 'lmd'),
        (('--device', 'cpu', '--only', 'lmd/icc/estep'), 'lmd/icc/e_step'),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(tmp_path, arguments, named):
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert done.stderr.count('\n') == 1
    assert named in done.stderr


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(importlib.util.find_spec('libtpu') is None, reason='libtpu is not installed')
def test_a_tpu_compiles_a_step(tmp_path):
    done = run(tmp_path, '--device', 'v5e', '--only', 'lmd/icc/m_step')
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / 'rows.json').read_text('utf-8'))
    assert row['chips'] == 8
    assert row['bytes'] > 0
    assert 'all-reduce' in row['collectives']
