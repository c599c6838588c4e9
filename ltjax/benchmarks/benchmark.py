"""What a benchmark is. Values only: imports in no time."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ml_collections import ConfigDict

from ltjax.data import catalog
from ltjax.engine.settings import Optimizer


def figures(
    metrics: Sequence[str], rows: Mapping[str, Sequence[float | None]]
) -> dict[str, dict[str, float]]:
    """Returns `Benchmark.reported` of a printed table: by method a number a metric, None where none is printed."""
    return {
        method: {m: v for m, v in zip(metrics, values, strict=True) if v is not None}
        for method, values in rows.items()
        if any(value is not None for value in values)
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All of an experiment that does not depend on the method.

    Attributes:
      name: SET@PAPER; or SET alone, of the small sets and for one's own data.
      prepare: the program of data_prep that makes its files of the official ones, with its flags.
      data: values of the config's `data` by their dotted names, beside those of the set in `catalog`.
      model: values of the config's `model`: network, its options, initial weights.
      epochs: passes over the training images in which the encoder learns; see docs/benchmarks.md for later stages.
      batch_size: images in a step.
      optimizer: of the first stage; later ones are made of it, see `short`.
      view: augmentations of training images, see `ltjax.data.augment`.
      weak_view: those of an image that shall stay easy to recognise, as a teacher sees it.
      select: the round that is tested; 'last' where nothing is held out to choose it on.
      metrics: those that the paper reports, the most important one first; none: all are printed.
      classes: K, as the paper has it; 0: any.
      images: as many the paper has of each part of the split, or in 'all'.
      reported: what the paper prints, in percent: by method (a name of configs/) a number a metric.
      readings: where the text leaves something open, or says it otherwise than its code: a sentence each.
    """

    name: str
    prepare: str = ''
    data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any]
    epochs: int
    batch_size: int
    optimizer: Optimizer
    view: str
    weak_view: str
    select: Literal['best', 'last'] = 'best'
    metrics: tuple[str, ...] = ()
    classes: int = 0
    images: Mapping[str, int] = dataclasses.field(default_factory=dict)
    reported: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    readings: tuple[str, ...] = ()

    @property
    def set(self) -> str:
        """The name of the data set."""
        return self.name.partition('@')[0]

    @property
    def paper(self) -> str:
        """The paper whose experiment it is; '' for the small sets and one's own."""
        return self.name.partition('@')[2]

    def data_config(self) -> ConfigDict:
        """Returns the `data` of a config."""
        config = catalog.get(self.set)
        config.update_from_flattened_dict(self.data)
        return config

    def differences(self, class_names: Sequence[str], counts: Mapping[str, int]) -> list[str]:
        """Says in what the data are not the benchmark's: a sentence each.

        Args:
          class_names: of the data.
          counts: their images, by part of the split and in 'all'.
        """
        told = []
        if self.classes and len(class_names) != self.classes:
            told.append(f'{self.name} has {self.classes} classes, these data {len(class_names)}.')
        for part, number in self.images.items():
            if counts.get(part, 0) != number:
                told.append(
                    f'{self.name} has {number:,} images ({part}), these data {counts.get(part, 0):,}.'
                )
        return told

    def training(self, **changes: Any) -> dict[str, Any]:
        """Returns the values of `methods.task.Supervised` for all epochs on the base optimiser, with changes.

        Where there are fewer epochs, the optimiser's milestones come as much earlier.
        """
        epochs = changes.get('epochs', self.epochs)
        milestones = tuple(m * epochs // self.epochs for m in self.optimizer.milestones)
        return {
            'epochs': epochs,
            'batch_size': self.batch_size,
            'sampler': 'instance_balanced',
            'view': self.view,
            'optimizer': self.base(milestones=milestones),
        } | changes

    def base(self, **changes: Any) -> dict[str, Any]:
        """Returns the values of the base optimiser, with changes."""
        return dataclasses.asdict(dataclasses.replace(self.optimizer, **changes))

    def short(self, **changes: Any) -> dict[str, Any]:
        """Returns the base optimiser for a short further stage: no warm-up, and a cosine in place of steps."""
        schedule = 'cosine' if self.optimizer.schedule == 'multistep' else self.optimizer.schedule
        values = {'schedule': schedule, 'milestones': (), 'warmup_epochs': 0.0, 'floor': 0.0}
        return self.base(**values | changes)
