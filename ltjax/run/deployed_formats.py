"""The formats that a model is handed on in: written from a function of JAX, and run again without it.

Each takes a function uint8 [n, H, W, C] -> (logits [n, K], probabilities [n, K]) of any n.
"""

import contextlib
import importlib
import json
import logging
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ltjax.errors import UserError
from ltjax.run.plain import plain

# Lower than what jax2onnx writes by default, so that older programs read it; tried with onnxruntime 1.32.
OPSET, IR_VERSION = 20, 9
PLATFORMS = ('cpu', 'cuda', 'tpu')
_NAMES = ('images', 'logits', 'probabilities')
# Under this name a file holds its metadata, as JSON.
METADATA = 'ltjax'
_BATCH = 64

Function = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
Arrays = tuple[np.ndarray, np.ndarray]


class Format(Protocol):
    """A format."""

    def check_installed(self) -> None:
        """Raises UserError if a library is missing."""

    def write(
        self,
        path: pathlib.Path,
        function: Function,
        image_shape: tuple[int, int, int],
        about: Mapping[str, Any],
    ) -> None:
        """Writes the function and its metadata."""

    def run(self, path: pathlib.Path, images: np.ndarray) -> Arrays:
        """Returns logits and probabilities of images uint8 [n, H, W, C], by what lies in the file."""

    def files(self, path: pathlib.Path) -> tuple[pathlib.Path, ...]:
        """Returns the files that `write` writes, that of the function last."""

    def rename(self, source: pathlib.Path, target: pathlib.Path) -> None:
        """Gives them other names, in that order."""


class _Files:
    def files(self, path: pathlib.Path) -> tuple[pathlib.Path, ...]:
        return (path,)

    def rename(self, source: pathlib.Path, target: pathlib.Path) -> None:
        for before, after in zip(self.files(source), self.files(target), strict=True):
            os.replace(before, after)


class Onnx(_Files):
    """ONNX, by jax2onnx; the metadata are in the file."""

    def check_installed(self) -> None:
        for name in ('jax2onnx', 'onnx', 'onnxruntime'):
            try:
                with _without_warnings(name):
                    importlib.import_module(name)
            except ImportError as error:
                raise UserError(
                    f"{name} cannot be imported ({error}): pip install 'ltjax[onnx]', or take --format=stablehlo."
                ) from None

    def write(
        self,
        path: pathlib.Path,
        function: Function,
        image_shape: tuple[int, int, int],
        about: Mapping[str, Any],
    ) -> None:
        import jax2onnx
        import onnx

        images = _any_number_of(image_shape)
        try:
            with _without_warnings('jax2onnx', 'onnx_ir'):
                model = jax2onnx.to_onnx(
                    plain(function, images),
                    [images],
                    opset=OPSET,
                    model_name=about['model'],
                    input_names=_NAMES[:1],
                    output_names=_NAMES[1:],
                )
            model.ir_version = IR_VERSION
            onnx.helper.set_model_props(model, {METADATA: json.dumps(about, ensure_ascii=False)})
            onnx.checker.check_model(model)
        except Exception as error:  # what it does not know, jax2onnx says in many ways
            reason = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise UserError(
                f'this model cannot be written as ONNX: {reason}. Please report it, or take --format=stablehlo.'
            ) from error
        path.write_bytes(model.SerializeToString())

    def run(self, path: pathlib.Path, images: np.ndarray) -> Arrays:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
        return _in_batches(lambda some: session.run(_NAMES[1:], {_NAMES[0]: some}), images)


class StableHlo(_Files):
    """What `jax.export` serialises, for all kinds of devices; the metadata lie beside it as NAME.json."""

    def check_installed(self) -> None:
        return

    def write(
        self,
        path: pathlib.Path,
        function: Function,
        image_shape: tuple[int, int, int],
        about: Mapping[str, Any],
    ) -> None:
        export = jax.export.export(jax.jit(function), platforms=PLATFORMS)
        exported = export(_any_number_of(image_shape))
        path.write_bytes(exported.serialize())
        beside, _ = self.files(path)
        beside.write_text(json.dumps(about, ensure_ascii=False, indent=1) + '\n', 'utf-8')

    def run(self, path: pathlib.Path, images: np.ndarray) -> Arrays:
        exported = jax.export.deserialize(bytearray(path.read_bytes()))
        return _in_batches(jax.jit(exported.call), images)

    def files(self, path: pathlib.Path) -> tuple[pathlib.Path, ...]:
        return path.with_name(f'{path.name}.json'), path


@contextlib.contextmanager
def _without_warnings(*libraries: str) -> Iterator[None]:
    """Within it, libraries keep their warnings to themselves: that parts of them which are not used do not load."""
    loggers = [logging.getLogger(library) for library in libraries]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


FORMATS: Mapping[str, Format] = MappingProxyType({'onnx': Onnx(), 'stablehlo': StableHlo()})


def _in_batches(run: Callable[[np.ndarray], Any], images: np.ndarray) -> Arrays:
    parts = [run(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)]
    logits, probabilities = (np.concatenate(values) for values in zip(*parts, strict=True))
    return logits, probabilities


def _any_number_of(image_shape: tuple[int, int, int]) -> jax.ShapeDtypeStruct:
    shape = jax.export.symbolic_shape('n, ' + ', '.join(map(str, image_shape)))
    return jax.ShapeDtypeStruct(shape, jnp.uint8)
