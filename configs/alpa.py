"""ALPA: asymmetric loss with Pade approximants, against CE, focal, ASL and LDAM (Kashyap et al., 2024).

    python -m ltjax.main --config=configs/alpa.py                  # embedded Fashion-MNIST-LT mini
    python -m ltjax.main --config=configs/alpa.py --config.method.loss=ldam  # or another that it is compared with
    python -m ltjax.main --config=configs/alpa.py:chula_rbc12 --config.data.path=chula_rbc12_32.npz
    python -m ltjax.main --config=configs/alpa.py:csv --config.data.path=aptos.csv  # columns path, label

Large sets have the paper's setting: ConvNeXt-B at 256 px, Adam at 1e-4, 128 images a step. The paper reports a balanced
accuracy of 65 % on APTOS 2019 (CE 47 %, focal 48 %, ASL 57 %), 39 % on DermaMNIST and 77 % on bone marrow cells;
its code starts from ImageNet weights, as --config.model.pretrained=timm/convnext_base.fb_in1k does.
Small sets and one's own have cosines for logits, the true Pade coefficients and a square-root sampler, our additions.
What classifier and sampler gain, cross-entropy gains by them too: see docs/alpa.md.

Measured (docs/results.md): balanced accuracy 78.0 % on the embedded set (CE 73.2), 57.2 % on chula_rbc12 (CE 47.7).
Wall time: 60 s and 110 s on one CPU core.
"""

from ml_collections import ConfigDict

from ltjax.data import catalog
from ltjax.run import settings

# View and epochs: as many as configs/cross_entropy.py.
SMALL_STAGES = {'fashion_mnist_lt_mini': ('upright_weak', 40), 'chula_rbc12': ('cell_moderate', 25)}


def get_config(dataset: str = 'fashion_mnist_lt_mini') -> ConfigDict:
    """Returns the settings for a data set; the encoder makes as many steps as in configs/cross_entropy.py."""
    paper = dataset in catalog.LARGE
    view, epochs = ('upright_strong', 50) if paper else SMALL_STAGES.get(dataset, ('lmd_weak', 40))
    sgd = {
        'name': 'sgd',
        'learning_rate': 0.2,  # for the other losses 0.1 and 5e-4, as in configs/cross_entropy.py
        'momentum': 0.9,
        'weight_decay': 2.5e-4,
        'schedule': 'cosine',
        'clip_norm': 0.0,
    }
    adam = {
        'name': 'adam',
        'learning_rate': 1e-4,
        'weight_decay': 1e-3,
        'schedule': 'constant',
        'clip_norm': 1.0,
    }
    config = settings.default(dataset)
    if paper:
        config.data.image_size = 256
        config.model.update({'name': 'convnext_base', 'drop_path_rate': 0.0})
    config.method = {
        'name': 'alpa',
        'loss': 'alpa',  # or cross_entropy, sigmoid_cross_entropy, focal, asl, ldam
        'version': 'v2',  # or v1, v3; custom: the numbers below
        'custom': {'alpha': 0.875, 'beta': 1.625, 'gamma_pos': 0.0, 'gamma_neg': 4.0, 'hill': 0.0},
        'clip': 0.05,  # of the code; 0: eq. 11
        'coefficients': 'printed' if paper else 'pade',  # pade solves the paper's conditions
        'focal': {'gamma': 2.0},
        'asl': {'gamma_pos': 0.0, 'gamma_neg': 4.0, 'clip': 0.05},
        'ldam': {'max_margin': 0.5, 'scale': 30.0},
        'classifier': 'linear' if paper else 'cosine',  # LDAM has cosines of its own scale
        'cosine_scale': 5.0,
        'bias_init': 'layer',  # or uniform, prior: sigmoids start at 1 / K, or at the class's share
        'reduction': 'sum' if paper else 'mean',  # over the batch; over the classes it is a sum
        'train': {
            'epochs': epochs,
            'batch_size': 128,
            'sampler': 'instance_balanced' if paper else 'square_root',
            'view': view,
            'optimizer': adam if paper else sgd,
        },
    }
    return config
