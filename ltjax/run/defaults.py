"""What every config has beside its method. Values only, so that configs import it in no time."""

from ml_collections import ConfigDict

from ltjax.data import catalog


def get(dataset: str) -> ConfigDict:
    """Returns the part of a config that does not depend on the method, for a data set.

    Raises:
      UserError: no set has that name.
    """
    large = dataset in catalog.LARGE
    config = ConfigDict()
    config.seed = 0
    config.data = catalog.get(dataset)
    config.select = 'best'  # the round with the best validation balanced accuracy; or 'last'
    config.start_from = ''  # workdir of a run whose first stage stands in for this one's
    config.save_features = True
    config.num_bootstrap = 1000
    config.accumulate = (
        1  # parts of a batch that the encoder takes one after another, to save memory
    )
    # Devices along which the batch is split (-1: all), and along which the state is split too.
    config.mesh = {'data': -1, 'fsdp': 1}
    # Checkpoints inside a round, beside those after each: minutes and steps between them; 0: none. None of these
    # changes a result.
    config.checkpoint = {'every_minutes': 10.0, 'every_steps': 0}
    config.on_nonfinite = 'stop'  # or 'skip': a step with NaN or infinity leaves all as it was
    config.max_skipped = 10  # such steps in a run, before it stops
    config.watchdog_minutes = 20.0  # without a step before the run says where it hangs; 0: never
    config.model = {
        **({'name': 'resnet18', 'stem': 'imagenet'} if large else {'name': 'small_cnn'}),
        'dtype': 'float32',  # of the computation, or bfloat16
        'remat': False,  # compute activations again for the gradient, to save memory
        'pretrained': '',  # a file, or published weights such as timm/resnet18.tv_in1k
        'pretrained_sha256': '',
        'pretrained_preprocessing': True,  # the image size, mean and std of published weights
    }
    return config
