"""Damaged and hostile files of weights end in a clear refusal, and run nothing."""

import io
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from ltjax.errors import UserError
from small_weights import changed, load, save, sha256, tensors

HOSTILE = b"cos\nsystem\n(S'touch %s'\ntR."


def damaged(count, seed, touched):
    """Yields the names and contents of files that must be refused, and whether a checksum is needed to tell."""
    rng = np.random.default_rng(seed)
    pickled = HOSTILE % bytes(touched)
    good = {'.safetensors': safetensors.numpy.save(dict(tensors())), '.npz': archived(tensors())}
    keys = sorted(tensors())
    for number in range(count):
        suffix = ('.safetensors', '.npz')[number // 8 % 2]
        key = keys[rng.integers(len(keys))]
        value = tensors()[key]
        kind = number % 8
        content = bytearray(good[suffix])
        if kind == 0:
            content = content[: rng.integers(len(content))]
        elif kind == 1:
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        elif kind == 2:
            dtype = rng.choice(['f2', 'f8', 'i4', 'u1', '?'])
            content = written(suffix, changed(key, value.astype(dtype)))
        elif kind == 3:
            shape = (*value.shape[:-1], value.shape[-1] + 1 + rng.integers(3))
            content = written(suffix, changed(key, np.zeros(shape, np.float32)))
        elif kind == 4:
            content = written(suffix, changed(key, None) | {f'{key}_{number}': value})
        elif kind == 5:
            content = archived(changed(key, np.array([{}, Hostile(touched)], object)))
            suffix = '.npz'
        elif kind == 6:
            content, suffix = pickled, ('.pth', '.pt', '.npz', '.safetensors')[number // 8 % 4]
        else:
            content, suffix = zipped(pickled), '.pth'
        yield f'{number}{suffix}', bytes(content), kind == 1


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, touched):
        self.touched = touched

    def __reduce__(self):
        return (exec, (f'open({str(self.touched)!r}, "w").close()',))


def archived(values):
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **values)
    return file.getvalue()


def written(suffix, values):
    return archived(values) if suffix == '.npz' else safetensors.numpy.save(values)


def zipped(pickled):
    """Returns what torch.save writes nowadays, around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', pickled)
        archive.writestr('archive/version', '3\n')
    return file.getvalue()


@pytest.mark.slow
def test_damaged_files_end_in_a_clear_refusal_and_run_nothing(tmp_path):
    touched = tmp_path / 'touched'
    good = sha256(save(tmp_path / 'good.safetensors', tensors()))
    refused = 0
    for name, content, needs_checksum in damaged(200, 0, touched):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError) as error:
            load(path, sha256=good if needs_checksum else '')
        assert '\n' not in str(error.value)
        assert str(path) in str(error.value) or 'torch' in str(error.value)
        path.unlink()
        refused += 1
    assert refused == 200
    assert not touched.exists()
    Hostile(touched).__reduce__()[0](Hostile(touched).__reduce__()[1][0])
    assert touched.exists(), 'the hostile object does nothing'
