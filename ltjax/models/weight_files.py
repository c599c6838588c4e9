"""Files of tensors: safetensors, npz and PyTorch's; read whole, checked by sha256, running nothing."""

import argparse
import hashlib
import io
import json
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from ltjax import files
from ltjax.errors import UserError

# Older versions of the weights-only loader can be made to run code (CVE-2025-32434).
_SAFE_TORCH = (2, 6)
_NESTED = ('state_dict', 'model')


class WeightFile(NamedTuple):
    """What a file holds: its tensors by name, its sha256, whether that was known before, and what its header says."""

    tensors: dict[str, np.ndarray]
    sha256: str
    pinned: bool
    about: dict[str, str]


def read(path: pathlib.Path, expected: Mapping[str, str]) -> WeightFile:
    """Reads a .safetensors or .npz file, or PyTorch's: .pth, .pt or .bin.

    Its sha256 is compared before anything is parsed with those of `expected`, with that in
    PATH.sha256 if there is such a file, and, as PyTorch names its files, with the hexadecimal digits
    after the last hyphen of a .pth or .pt file's name.

    Args:
      path: the file.
      expected: the first 8 to 64 digits of its sha256, by who says so; empty ones count for nothing.

    Raises:
      UserError: the file cannot be read, has another checksum, is damaged, holds anything but
        tensors, or is PyTorch's and torch is not installed.
    """
    if path.suffix not in _PARSERS:
        raise UserError(f'{path} should end in {", ".join(_PARSERS)}.')
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = f'cannot read the weights {path} ({error.strerror})'
        raise UserError(f'{reason}: correct the path.') from None
    sha256 = hashlib.sha256(content).hexdigest()
    checksums = _checksums(path, expected)
    for source, digits in checksums.items():
        if not sha256.startswith(digits):
            raise UserError(
                f'{path} is damaged or another file: its sha256 is {sha256}, but {source} says '
                f'{digits}: fetch it again or correct the checksum.'
            )
    tensors = _parse(path, content)
    about = _about(content) if path.suffix == '.safetensors' else {}
    return WeightFile(tensors, sha256, bool(checksums), about)


def write(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, str] | None = None
) -> None:
    """Writes a .safetensors file of named tensors, whole or not at all, with `about` in its header.

    Raises:
      UserError: another ending, or a folder that cannot be written.
    """
    if path.suffix != '.safetensors':
        raise UserError(f'{path} should end in .safetensors.')
    # The library takes an array's memory as it lies, so transposed views must be copied.
    laid_out = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    metadata = {'format': 'pt', **(about or {})}
    try:
        with files.whole(path) as temporary:
            temporary.write_bytes(safetensors.numpy.save(laid_out, metadata=metadata))
    except OSError as error:
        raise UserError(f'cannot write {path} ({error.strerror}): give another path.') from None


def _checksums(path: pathlib.Path, expected: Mapping[str, str]) -> dict[str, str]:
    found = {source: digits.strip().lower() for source, digits in expected.items() if digits}
    beside = path.with_name(f'{path.name}.sha256')
    if beside.exists():
        first, *_ = beside.read_text('utf-8', 'replace').split() or ['nothing']
        found[str(beside)] = first.lower()
    named = re.search(r'-([0-9a-f]{8,64})\.pth?$', path.name)
    if named:
        found['its name'] = named[1]
    for source, digits in found.items():
        if not re.fullmatch(r'[0-9a-f]{8,64}', digits):
            raise UserError(
                f'{source} says {digits!r}, which is no sha256: see `sha256sum {path}`.'
            )
    return found


def _parse(path: pathlib.Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        return _PARSERS[path.suffix](content)
    except UserError:
        raise
    except Exception as error:  # there is no end to what a damaged file makes a parser raise
        reason = (str(error).splitlines() or [''])[0][:120] or type(error).__name__
        raise UserError(
            f'{path} is no readable {path.suffix} file of tensors ({reason}): fetch it again.'
        ) from None


def _about(content: bytes) -> dict[str, str]:
    """Returns what the header of a sound .safetensors file says beside its tensors."""
    size = int.from_bytes(content[:8], 'little')
    return json.loads(content[8 : 8 + size]).get('__metadata__', {})


def _npz(content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return dict(archive)


def _torch(content: bytes) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(
            "PyTorch's .pth, .pt and .bin files need torch: pip install 'ltjax[torch]', or take the "
            'weights as .safetensors.'
        ) from None
    version = tuple(map(int, re.findall(r'\d+', torch.__version__)[:2]))
    if version < _SAFE_TORCH:
        raise UserError(
            f'torch {torch.__version__} does not read files of strangers safely: '
            "pip install 'torch>=2.6'."
        )
    # Many checkpoints hold the arguments of their program, beside the tensors; of those only the values are taken.
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded = torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    for name in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping):
        raise ValueError(f'a {type(loaded).__name__} in place of named tensors')
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ValueError(f'{name!r} is a {type(value).__name__} and no tensor')
    return {name: value.detach().numpy() for name, value in loaded.items()}


_PARSERS: Mapping[str, Callable[[bytes], dict[str, np.ndarray]]] = {
    '.safetensors': safetensors.numpy.load,
    '.npz': _npz,
    '.pth': _torch,
    '.pt': _torch,
    '.bin': _torch,
}
FORMATS = tuple(_PARSERS)
