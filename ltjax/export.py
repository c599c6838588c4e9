"""Writes a trained model as PyTorch would name it: `python -m ltjax.export --workdir=RUN --out=FILE.safetensors`.

The file holds the parameters and running statistics under the names of torchvision, timm or the network's
authors (--layout); `model.pretrained` takes it again, and so do those libraries. Its header has the names of the
classes in the order of the classifier's outputs, which no tensor says.
"""

import argparse
import json
import sys

from flax import nnx

from ltjax.command import called, exits
from ltjax.files import user_path
from ltjax.models import pretrained
from ltjax.run.trained import Trained


def main(argv: list[str]) -> None:
    """Reads the arguments, writes the file and says so."""
    parser = argparse.ArgumentParser(called('ltjax.export'), description=__doc__.splitlines()[0])
    parser.add_argument('--workdir', type=user_path, required=True, help='a finished run')
    parser.add_argument('--out', type=user_path, required=True, help='the .safetensors to write')
    parser.add_argument('--layout', help='torchvision, timm or original; default: the first it has')
    given = parser.parse_args(argv)
    trained = Trained.load(given.workdir)
    model = nnx.merge(trained.graphdef, trained.state)
    about = {
        'class_names': json.dumps(trained.class_names, ensure_ascii=False),
        'data_sha256': trained.data_sha256,
    }
    pretrained.write(given.out, model, given.layout, about)
    print(f'{given.out}: {trained.settings.model.name}, {len(trained.class_names)} classes')


@exits()
def cli() -> None:
    """The entry point."""
    main(sys.argv[1:])


if __name__ == '__main__':
    cli()
