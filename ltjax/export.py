"""Writes a trained model for other programs: `python -m ltjax.export --workdir=RUN --out=MODEL.onnx`.

The suffix says the format, or --format does:

- onnx, for onnxruntime and others (needs `pip install 'ltjax[onnx]'`), and stablehlo, for JAX without ltjax: from
  pixels to logits and probabilities, with the names of the classes and how images are prepared. --calibrate scales the
  logits on the way to probabilities. docs/deployment.md has the rest;
- safetensors: the parameters and running statistics under the names of torchvision, timm or the network's authors
  (--layout); `model.pretrained` takes it again, and so do those libraries. Its header has the names of the classes in
  the order of the classifier's outputs, which no tensor says.

A file of onnx or stablehlo is read again and compared with the model before it gets its name.
"""

import argparse
import json
import sys

from flax import nnx

from ltjax.command import called, exits
from ltjax.errors import UserError, unknown
from ltjax.evaluation.recalibration import SCALINGS
from ltjax.files import user_path
from ltjax.models import pretrained, tuning
from ltjax.run import deployed_formats, deployment
from ltjax.run.trained import Trained

WEIGHTS = 'safetensors'
FORMATS = (*deployed_formats.FORMATS, WEIGHTS)


def parse(argv: list[str]) -> argparse.Namespace:
    """Reads the arguments; UserError where they do not go together."""
    parser = argparse.ArgumentParser(called('ltjax.export'), description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', type=user_path, required=True, help='a finished run')
    parser.add_argument('--out', type=user_path, required=True, help='the file to write')
    parser.add_argument(
        '--format', default='', help=f'{", ".join(FORMATS)}; default: as the suffix of --out says'
    )
    parser.add_argument(
        '--calibrate',
        choices=SCALINGS,
        default='',
        help='scale the logits as the run found best for its validation images (onnx, stablehlo)',
    )
    parser.add_argument(
        '--layout', help='torchvision, timm or original; default: the first it has (safetensors)'
    )
    given = parser.parse_args(argv)
    if not given.format and given.out.suffix[1:] not in FORMATS:
        endings = ', '.join(f'.{name}' for name in FORMATS)
        raise UserError(f'{given.out} should end in one of {endings}, or give --format.')
    given.format = given.format or given.out.suffix[1:]
    if given.format not in FORMATS:
        raise unknown('format', given.format, FORMATS)
    if given.calibrate and given.format == WEIGHTS:
        raise UserError(f'{WEIGHTS} holds weights alone: leave out --calibrate.')
    if given.layout and given.format != WEIGHTS:
        raise UserError(f'{given.format} has no names of weights: leave out --layout.')
    if not given.out.parent.is_dir():
        raise UserError(f'{given.out.parent} is no folder: make it first.')
    return given


def main(argv: list[str]) -> None:
    """Reads the arguments, writes the file and says so."""
    given = parse(argv)
    trained = Trained.load(given.workdir)
    said = f'{given.out}: {trained.settings.model.name}, {len(trained.class_names)} classes'
    if given.format == WEIGHTS:
        model = nnx.merge(trained.graphdef, trained.state)
        tuning.merge(model)
        about = {
            'class_names': json.dumps(trained.class_names, ensure_ascii=False),
            'data_sha256': trained.data_sha256,
        }
        pretrained.write(given.out, model, given.layout, about)
        print(said)
        return
    checked = deployment.write(
        given.out,
        trained,
        given.workdir,
        format_name=given.format,
        calibrate=given.calibrate,
    )
    print(f'{said}; probabilities: {given.calibrate or "no"} scaling')
    print(checked)


@exits()
def cli() -> None:
    """The entry point."""
    main(sys.argv[1:])


if __name__ == '__main__':
    cli()
