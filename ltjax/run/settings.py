"""A config as a plain object, resolved once where a run begins; and what every config has beside its method.

Values only, so that configs import it in no time.
"""

import copy
import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from ml_collections import ConfigDict, config_dict

from ltjax import benchmarks
from ltjax.data.settings import Data
from ltjax.settings import at_least, from_to, typed

# Keys that change no result: when to save, what to watch, how to share the work, where to keep what was decoded.
FREE = (
    'checkpoint', 'watchdog_minutes', 'on_nonfinite', 'max_skipped', 'mesh', 'accumulate', 'errors_shown', 'data.cache',
)  # fmt: skip

# What networks take beside the fields of `Network`, so that a command can set it; see `models.create`.
NETWORK_OPTIONS: Mapping[str, type] = {
    'stem': str, 'width': int, 'drop_path_rate': float, 'patch': int, 'grid': int, 'pool': str, 'class_token': bool,
    'registers': int, 'positions': str, 'mlp': str, 'layer_scale': float, 'qkv_bias': bool, 'pre_norm': bool,
    'epsilon': float,
}  # fmt: skip

Values = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Devices along which the batch is split (-1: all), and along which the state is split too."""

    data: int = -1
    fsdp: int = 1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Minutes and steps between checkpoints inside a round, beside those after each; 0: none."""

    every_minutes: Annotated[float, at_least(0)] = 10.0
    every_steps: int = 0


@dataclasses.dataclass(frozen=True)
class Network:
    """The network.

    Attributes:
      name: see `ltjax.models`.
      dtype: of the computation, or bfloat16.
      remat: compute activations again for the gradient, to save memory.
      pretrained: a file, or published weights such as timm/resnet18.tv_in1k.
      pretrained_sha256: of the file.
      pretrained_preprocessing: take the image size, mean and std of published weights.
      frozen: train only what is behind the encoder, on features that are made once; see `run.frozen`.
      tune: of a network with weights train few parameters alone, beside the heads: 'last' (blocks), 'bias', 'lora',
        'adapter' or 'prompt'; see `models.tuning`. '': all.
      tune_size: blocks, rank, width or tokens; 0: what is usual.
      options: what `models.create` takes beside name, dtype and remat.
    """

    name: str
    dtype: str = 'float32'
    remat: bool = False
    pretrained: str = ''
    pretrained_sha256: str = ''
    pretrained_preprocessing: bool = True
    frozen: bool = False
    tune: str = ''
    tune_size: int = 0
    options: Values = dataclasses.field(default_factory=dict, metadata={'rest': True})


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run is told.

    Attributes:
      method: the method's own values, among them its `name`; `methods.recipe` reads them.
      model: the network.
      data: the data set.
      benchmark: the name of the experiment, see `ltjax.benchmarks`; '': none of them.
      seed: of initialisation, augmentation, order and draws.
      select: the round that is tested: the 'best' by validation balanced accuracy, or the 'last'.
      start_from: workdir of a run whose first stage stands in for this one's.
      save_features: whether predictions.npz holds features.
      num_bootstrap: resamples of the intervals.
      errors_shown: how many of the worst errors on rare classes the report shows, with their images; 0: none.
      accumulate: parts of a batch that the encoder takes one after another, to save memory.
      mesh: the devices.
      checkpoint: when to save inside a round.
      on_nonfinite: what a step with NaN or infinity does: 'stop' the run, or leave all as it was ('skip').
      max_skipped: such steps in a run, before it stops.
      watchdog_minutes: without a step before the run says where it hangs; 0: never.
      values: all of this as JSON values, as config.json has it.
    """

    method: Values
    model: Network
    data: Data
    benchmark: str = ''
    seed: Annotated[int, from_to(0, 2**32 - 1)] = 0
    select: Literal['best', 'last'] = 'best'
    start_from: str = ''
    save_features: bool = True
    num_bootstrap: Annotated[int, at_least(1)] = 1000
    errors_shown: Annotated[int, at_least(0)] = 6
    accumulate: int = 1
    mesh: Mesh = Mesh()
    checkpoint: Checkpoint = Checkpoint()
    on_nonfinite: Literal['stop', 'skip'] = 'stop'
    max_skipped: Annotated[int, at_least(0)] = 10
    watchdog_minutes: Annotated[float, at_least(0)] = 20.0
    values: Values = dataclasses.field(default_factory=dict)

    @staticmethod
    def of(config: 'ConfigDict | Settings | Values') -> 'Settings':
        """Returns the object for a config.

        Raises:
          UserError: a key or value that does not exist.
        """
        if isinstance(config, Settings):
            return config
        text = config.to_json() if isinstance(config, ConfigDict) else json.dumps(config)
        values = json.loads(text)
        # An option of networks that nobody set is not there.
        model = values.get('model', {})
        values['model'] = {name: value for name, value in model.items() if value is not None}
        return dataclasses.replace(typed(Settings, values), values=values)

    def replace(self, name: str, value: Any) -> 'Settings':
        """Returns a copy with another value of the key 'data.split.fold', say."""
        values = copy.deepcopy(dict(self.values))
        *path, last = name.split('.')
        below = values
        for key in path:
            below = below[key]
        below[last] = value
        return Settings.of(values)


def default(benchmark: str) -> ConfigDict:
    """Returns what a config for a benchmark has beside its method.

    Raises:
      UserError: no benchmark has that name.
    """
    experiment = benchmarks.get(benchmark)
    values = dataclasses.asdict(Settings({}, Network(''), Data()))
    config = ConfigDict({key: values[key] for key in values if key not in ('method', 'values')})
    del config.model['options']
    for name, kind in NETWORK_OPTIONS.items():
        config.model[name] = config_dict.placeholder(kind)
    config.model.update(experiment.model)
    config.data = experiment.data_config()
    config.benchmark, config.select = experiment.name, experiment.select
    return config
