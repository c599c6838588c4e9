"""What the papers state of their experiments, section by section, against what their configs resolve to."""

import importlib

import numpy as np
import pytest

import tiny
from ltjax import benchmarks, methods
from ltjax.data.augment import VIEWS
from ltjax.data.augment.colour import ColorJitter, Erasing, GaussianBlur, Greyscale, Sharpness
from ltjax.data.augment.crops import ResizedCrop
from ltjax.data.augment.distortion import Distort
from ltjax.data.augment.geometry import Affine, HorizontalFlip, Shift, VerticalFlip
from ltjax.data.augment.photometry import BrightnessContrast, GridDropout, OneOfBlur, RGBShift
from ltjax.errors import UserError
from ltjax.losses import schedules
from ltjax.methods.task import Task
from ltjax.run.settings import Settings

TRAIN = 'method.train.'
SGD = {'optimizer.name': 'sgd', 'optimizer.momentum': 0.9}


def below(prefix, values):
    return {prefix + name: value for name, value in values.items()}


LMD = {
    # 4.2: "We use ResNet-18, pre-trained on ImageNet"
    'model.name': 'resnet18',
    'model.pretrained': 'timm/resnet18.tv_in1k',
    # 4.2: "Images are resized to 224 x 224 pixels."
    'data.image_size': 224,
    # 4.2: "four NVIDIA GTX 1080 Ti GPUs with a batch size of 128": 4 x 128, as in the code
    'method.rrl.batch_size': 512,
    # 4.2: "In the first stage, we use Stochastic Gradient Descent (SGD) with a learning rate of 0.01"
    'method.rrl.optimizer.name': 'sgd',
    'method.rrl.optimizer.learning_rate': 0.01,
    # 4.2: "Strong augmentation", "only random flip and normalization"
    'method.rrl.view': 'lmd_strong',
    'method.rrl.teacher_view': 'lmd_weak',
    # 4.2: "a learning rate of 1e-5 is employed for classifier optimization, and 1e-6 for encoder optimization"
    'method.icc.m_optimizer.learning_rate': 1e-5,
    'method.icc.e_optimizer.learning_rate': 1e-6,
    # 4.2: "The loss weight lambda_1 in the first stage is set to 10."
    'method.rrl.weight': 10.0,
    # 4.6: "we set R as 50,000"; lambda_e is chosen in table 4
    'method.icc.virtual_per_class': 50_000,
    'method.icc.lambda_e': 1e-4,
    # table 5: balanced M, not balanced E
    'method.icc.balanced_m': True,
    'method.icc.balanced_e': False,
}

ADUNI = {
    # 3.1: "For both datasets, we conduct 5-fold cross validation"
    'data.split.protocol': '5_fold',
    'data.split.fold': -1,
    # 3.1: "resize, random affine transformation, horizontal and vertical flip and color jittering"
    TRAIN + 'view': 'aduni',
    TRAIN + 'second_view': 'aduni',
    # 3.1: "we resize images to 384 x 384 for training a ResNet18 backbone"
    'data.image_size': 384,
    'model.name': 'resnet18',
    'model.pretrained': '',
    # 3.1: "we train the model for 400 epochs with batch size of 128"
    TRAIN + 'epochs': 400,
    TRAIN + 'batch_size': 128,
    # 3.1: "set the initial learning rate to 0.1, which is decayed to 0.001 using the cosine schedule"
    TRAIN + 'optimizer.learning_rate': 0.1,
    TRAIN + 'optimizer.floor': 0.001,
    TRAIN + 'optimizer.schedule': 'cosine',
    # 3.1: "tau = 0.1, alpha_min = 0.01, alpha_max = 1.0 ... t_decay = 1000"
    'method.temperature': 0.1,
    'method.alpha.min': 0.01,
    'method.alpha.max': 1.0,
    'method.alpha.decay_epochs': 1000,
}

ALPA = {
    # 5.1: "each dataset was split 80-20 into training and testing sets"
    'data.split.protocol': '80_20',
    # 5.2: "We use ConvNeXT-B as the backbone", "resize the input images as 256 x 256"
    'model.name': 'convnext_base',
    'data.image_size': 256,
    # 5.2: "Adam optimizer with 0.9 momentum and 0.001 weight decay. The batch size is 128, and the initial learning
    # rate is set to 1e-4."
    TRAIN + 'optimizer.name': 'adam',
    TRAIN + 'optimizer.learning_rate': 1e-4,
    TRAIN + 'optimizer.weight_decay': 0.001,
    TRAIN + 'batch_size': 128,
    # 5.2: "the data augmentation schemes following the previous work"
    TRAIN + 'view': 'alpa',
    # 6.1: "Loss v2 is referred to as L_ALPA"
    'method.version': 'v2',
    'method.classifier': 'linear',
}

ICCL = {
    # 4.3: "SGD optimiser with a momentum of 0.9"; m = 0.99, gamma = 0, gamma' = 1, omega_d = 0.5, tau_d = 10
    **below(TRAIN, SGD),
    TRAIN + 'centroid_momentum': 0.99,
    TRAIN + 'gamma': 0.0,
    TRAIN + 'interpolative_weight': 1.0,
    'method.retrain.gamma': 1.0,
    'method.retrain.distillation_weight': 0.5,
    'method.retrain.temperature': 10.0,
    # 4.3: "the original learning rate x 0.1 with cosine scheduling for 10 epochs"
    'method.retrain.epochs': 10,
    'method.retrain.optimizer.schedule': 'cosine',
    'data.groups.by': 'counts',
}
ICCL_LARGE = ICCL | {
    # 4.3: "Unless otherwise specified ... tau = 0.07, omega_u = 1 ... d_z = 128"; "we freeze the CNN"
    TRAIN + 'temperature': 0.07,
    TRAIN + 'uniform_weight': 1.0,
    TRAIN + 'embedding_dim': 128,
    'method.retrain.trains': 'classifier',
}
ICCL_CIFAR = ICCL | {
    # 4.3, CIFAR-LT: "ResNet-32", "200 epochs with a batch size of 128", "d_z = 32"
    'model.name': 'resnet32_cifar',
    TRAIN + 'epochs': 200,
    TRAIN + 'batch_size': 128,
    TRAIN + 'embedding_dim': 32,
    # "random horizontal flip and cropping with a padding size of 4"
    TRAIN + 'view': 'cifar',
    # "warms up to 0.1 within the first 5 epochs and decays at epoch 120 and 160 with a step size of 0.01"
    TRAIN + 'optimizer.learning_rate': 0.1,
    TRAIN + 'optimizer.warmup_epochs': 5.0,
    TRAIN + 'optimizer.schedule': 'multistep',
    TRAIN + 'optimizer.milestones': (120, 160),
    TRAIN + 'optimizer.factor': 0.01,
    # the weight decay is 2e-4, tau 0.3, and "omega_u is set as 0 after warm-up"
    TRAIN + 'optimizer.weight_decay': 2e-4,
    TRAIN + 'temperature': 0.3,
    TRAIN + 'uniform_weight': 0.0,
    # "we fine-tune the CNN encoder using cosine scheduling with an initial learning rate of 0.01"
    'method.retrain.trains': 'all',
    'method.retrain.encoder_learning_rate': 0.01,
    'select': 'last',
}
INATURALIST = ICCL_LARGE | {
    # 4.3: "ResNet-50", "0.2 learning rate with cosine decay, 512 batch size and 1e-4 weight decay", "flip and cropping"
    'model.name': 'resnet50',
    TRAIN + 'optimizer.learning_rate': 0.2,
    TRAIN + 'optimizer.schedule': 'cosine',
    TRAIN + 'optimizer.weight_decay': 1e-4,
    TRAIN + 'batch_size': 512,
    TRAIN + 'view': 'crop_flip',
    'method.retrain.optimizer.learning_rate': 0.2 / 10,
    'select': 'last',
}

PROCO = {
    # 4.1: "train and test sets with the ratio of 7:3"
    'data.split.protocol': '7_3',
    # 4.2: "augmentation ... identical to MoCoV2. ResNet50", hidden layer 2048, batch 128
    TRAIN + 'view': 'moco_v2',
    TRAIN + 'key_view': 'moco_v2',
    'model.name': 'resnet50',
    'method.hidden': 2048,
    TRAIN + 'batch_size': 128,
    # 4.2: "SGD with a momentum of 0.9 and a weight decay of 0.0001. The initial learning rate is set to 0.05."
    **below(TRAIN, SGD),
    TRAIN + 'optimizer.weight_decay': 1e-4,
    TRAIN + 'optimizer.learning_rate': 0.05,
    # 4.2: omega_c 0.01, beta 0.95, gamma 20, E 0.4
    'method.omega': 0.01,
    'method.beta': 0.95,
    'method.num_negatives': 20,
    'method.epsilon': 0.4,
    # 4.2: "in the test phase, we only utilize F(x) and P"
    'method.inference': 'raw',
}

STATED = {
    **{
        f'lmd:isic2019_lt_r{ratio}@lmd': LMD | {'data.split.protocol': f'lmd_r{ratio}'}
        for ratio in (100, 300, 500)
    },
    'lmd:isic_archive_lt@lmd': LMD,
    'lmd:hyper_kvasir@lmd': LMD | {'data.split.protocol': '8_1_1'},  # 4.1: "as 8:1:1"
    'aduni:isic2018@aduni': ADUNI,
    'aduni:aptos2019@aduni': ADUNI,
    'alpa:aptos2019@alpa': ALPA,
    'alpa:isic2018@alpa': ALPA,
    'alpa:bone_marrow@alpa': ALPA,
    # 4.3: "T as 80 and 100 epochs for CIFAR100-LT and CIFAR10-LT"
    **{
        f'iccl:cifar{classes}_lt_r{ratio}@iccl': ICCL_CIFAR
        | {TRAIN + 'warmup_epochs': t, 'data.split.protocol': f'exp_r{ratio}'}
        for classes, t in ((100, 80), (10, 100))
        for ratio in (100, 50, 10)
    },
    # 4.3: "ResNeXt-50 for 90 epochs using a batch size of 256, a weight decay of 5e-4, and a base learning rate of 0.1
    # with cosine scheduling", "flip, cropping and colour jittering. We set T = 40."
    'iccl:imagenet_lt@iccl': ICCL_LARGE
    | {
        'model.name': 'resnext50_32x4d',
        TRAIN + 'epochs': 90,
        TRAIN + 'batch_size': 256,
        TRAIN + 'optimizer.weight_decay': 5e-4,
        TRAIN + 'optimizer.learning_rate': 0.1,
        TRAIN + 'view': 'crop_flip_jitter',
        TRAIN + 'warmup_epochs': 40,
        'method.retrain.optimizer.learning_rate': 0.1 / 10,
    },
    # 4.3: "for 90 epochs and 200 epochs", "T is set as 40 and 100"
    'iccl:inaturalist2018@iccl': INATURALIST | {TRAIN + 'epochs': 90, TRAIN + 'warmup_epochs': 40},
    'iccl:inaturalist2018@iccl_200': INATURALIST
    | {TRAIN + 'epochs': 200, TRAIN + 'warmup_epochs': 100},
    # 4.2: "the training epochs of ISIC2018 and APTOS2019 are set at 1,000 and 2,000"
    'proco:isic2018@proco': PROCO | {TRAIN + 'epochs': 1000},
    'proco:aptos2019@proco': PROCO | {TRAIN + 'epochs': 2000},
    # Cao et al., 2019, algorithm 1: deferred until the rate first falls, theirs at 160 of 200 epochs, ICCL's at 120.
    **{
        f'{method}:cifar100_lt_r100@iccl': {TRAIN + 'defer_until': 120}
        for method in ('ce_drs', 'ce_drw', 'ldam_drw')
    },
    'm2m:cifar100_lt_r100@iccl': {'method.retrain.defer_until': 120},
    'ldam_drw:inaturalist2018@iccl_200': {TRAIN + 'defer_until': 160},
    # LMD, 4.1, compares with GCL of "Li et al., 2024a", whose clouds are on the angles.
    'gcl:hyper_kvasir@lmd': {
        TRAIN + 'loss.form': 'angle',
        TRAIN + 'loss.noise_scale': 0.1,
        TRAIN + 'loss.margin': 0.5,
    },
}


def config_of(pair):
    method, benchmark = pair.split(':')
    return importlib.import_module(f'configs.{method}').get_config(benchmark)


@pytest.mark.parametrize('pair', STATED)
def test_a_config_has_what_its_paper_states(pair):
    config = config_of(pair)
    found = {key: _at(config, key) for key in STATED[pair]}
    assert found == STATED[pair]


def _at(config, key):
    for name in key.split('.'):
        config = config[name]
    return config


def test_every_benchmark_of_a_paper_is_among_them():
    assert {pair.split(':')[1] for pair in STATED} == {b for b in benchmarks.names() if '@' in b}


# What the papers, or where they are silent their codes, do to images.
OPERATIONS = {
    'lmd_weak': (HorizontalFlip, VerticalFlip),
    'lmd_strong': (
        HorizontalFlip, VerticalFlip, Affine, Distort, OneOfBlur, RGBShift, BrightnessContrast, GridDropout,
    ),
    'aduni': (Affine, HorizontalFlip, VerticalFlip, ColorJitter),
    'alpa': (HorizontalFlip, Affine, Sharpness, Erasing),
    'cifar': (Shift, HorizontalFlip),
    'crop_flip': (ResizedCrop, HorizontalFlip),
    'crop_flip_jitter': (ResizedCrop, HorizontalFlip, ColorJitter),
    'moco_v2': (ResizedCrop, HorizontalFlip, ColorJitter, Greyscale, GaussianBlur),
}  # fmt: skip


@pytest.mark.parametrize('view', OPERATIONS)
def test_a_view_has_the_operations_of_its_paper(view):
    assert tuple(type(op) for op in VIEWS[view]) == OPERATIONS[view]


@pytest.mark.parametrize('method', tiny.CONFIGS)
def test_every_method_has_settings_for_every_benchmark(method):
    """Values are of known names and types, stages can be made of them, and paper and length are the benchmark's."""
    for name in benchmarks.names():
        experiment, config = benchmarks.get(name), config_of(f'{method}:{name}')
        settings = Settings.of(config)
        assert (settings.benchmark, settings.data.name) == (name, experiment.set)
        assert settings.model.name == experiment.model['name']
        assert settings.select == experiment.select
        data, counts = settings.data, np.full(experiment.classes or 4, 600)
        task = Task(counts, data.mean, data.std, tiny.columns(data.further))
        recipe = methods.recipe(settings.method, task)
        assert len({stage.name for stage in recipe.stages}) == len(recipe.stages)


def test_reported_figures_are_of_methods_and_metrics_that_are_there():
    for name in benchmarks.names():
        experiment = benchmarks.get(name)
        assert set(experiment.reported) <= {*tiny.CONFIGS}
        for figures in experiment.reported.values():
            assert set(figures) <= set(experiment.metrics)
            assert all(1 < value < 100 for value in figures.values())


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        (
            'isic2018',
            'isic2018 is of several benchmarks or of a paper: say isic2018@aduni or isic2018@alpa or',
        ),
        ('isic2018@lmdd', "unknown benchmark 'isic2018@lmdd': did you mean isic2018@"),
        ('chula', "unknown benchmark 'chula': did you mean chula_rbc12"),
        ('imagenet_lt', 'say imagenet_lt@iccl'),
    ],
)
def test_a_benchmark_that_does_not_exist_is_named_with_the_nearest(name, message):
    with pytest.raises(UserError, match=message):
        benchmarks.get(name)


def test_data_that_are_not_the_benchmark_s_are_said():
    experiment = benchmarks.get('isic2019_lt_r100@lmd')
    whole = {'train': 16170, 'val': 2313, 'test': 4621, 'all': 23104}
    assert experiment.differences('abcdefgh', whole) == []
    assert experiment.differences('abc', whole | {'val': 9}) == [
        'isic2019_lt_r100@lmd has 8 classes, these data 3.',
        'isic2019_lt_r100@lmd has 2,313 images (val), these data 9.',
    ]
    assert benchmarks.get('folder').differences('ab', {}) == []


@pytest.mark.parametrize('method', ['aduni', 'paco_aduc'])
def test_alpha_is_at_its_floor_after_the_same_share_of_every_training(method):
    """A little after the middle, as the paper's 400 epochs have it."""
    for name in benchmarks.names():
        values = config_of(f'{method}:{name}').method
        alpha, epochs = values.alpha, values.train.epochs
        fall = schedules.aduni_alpha(alpha.max, alpha.min, decay_epochs=alpha.decay_epochs)
        shares = [epoch / epochs for epoch in range(epochs) if fall(epoch) < 1.05 * alpha.min]
        assert 0.45 < shares[0] < 0.65, name
