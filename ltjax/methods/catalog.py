"""The list of methods: what each is, where it is from, and which family trains it. To add one: its line here."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

Status = Literal['code', 'formula', 'reading']

STATUS = {
    'code': 'numbers equal to those of the released code',
    'formula': 'numbers equal to the formula; no code of the authors, or none that runs, was there to compare with',
    'reading': 'our reading of a text that leaves open what it does',
}


@dataclasses.dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
      title: as tables call it.
      family: the module of `ltjax.methods` that trains it.
      paper: authors and place.
      year: of the paper; 0: of none.
      status: how its parts compare with the original, see `STATUS`.
      needs: what it takes beside images and labels, or more of than cross-entropy.
      page: of docs/, if it has one of its own.
      further: whether it learns a further column (`data.further`), which not every set has.
    """

    title: str
    family: str
    paper: str
    year: int
    status: Status
    needs: str = ''
    page: str = ''
    further: bool = False


_KANG = 'Kang et al., Decoupling, ICLR'
_CAO = 'Cao et al., LDAM-DRW, NeurIPS'
_CUI = 'Cui et al., CVPR'
_TWO_PASSES = 'two passes a step'
_VALIDATION = 'validation images'
_TWO_VIEWS = 'two views'

METHODS: Mapping[str, Method] = {
    # One supervised stage.
    'cross_entropy': Method('CE', 'supervised', '', 0, 'code'),
    'resampling': Method('RS', 'supervised', _KANG, 2020, 'code'),
    'square_root': Method('CE, square-root sampling', 'supervised', _KANG, 2020, 'code'),
    'progressive': Method('CE, progressively balanced', 'supervised', _KANG, 2020, 'code'),
    'focal': Method('Focal', 'supervised', 'Lin et al., ICCV', 2017, 'code'),
    'sigmoid_focal': Method('Focal, sigmoid', 'supervised', 'Lin et al., ICCV', 2017, 'code'),
    'ohem': Method('OHEM', 'supervised', 'Shrivastava et al., CVPR', 2016, 'formula'),
    'class_balanced': Method('CB', 'supervised', _CUI, 2019, 'formula'),
    'cb_focal': Method('CB-Focal', 'supervised', _CUI, 2019, 'code'),
    'ldam': Method('LDAM', 'supervised', _CAO, 2019, 'code'),
    'ldam_rs': Method('LDAM-RS', 'supervised', _CAO, 2019, 'code'),
    'ldam_drw': Method('LDAM-DRW', 'supervised', _CAO, 2019, 'code'),
    'ce_drw': Method('CE-DRW', 'supervised', _CAO, 2019, 'code'),
    'ce_drs': Method('CE-DRS', 'supervised', _CAO, 2019, 'code'),
    'balanced_softmax': Method('Balanced softmax', 'supervised', 'Ren et al., NeurIPS', 2020, 'code'),
    'logit_adjustment': Method(
        'Logit adjustment', 'supervised', 'Menon et al., ICLR', 2021, 'formula'
    ),
    'seesaw': Method('Seesaw', 'supervised', 'Wang et al., CVPR', 2021, 'code'),
    'asl': Method('ASL', 'supervised', 'Ridnik et al., ICCV', 2021, 'code'),
    'asl_single': Method('ASL, single label', 'supervised', 'Ridnik et al., ICCV', 2021, 'code'),
    'mixup': Method('Mixup', 'supervised', 'Zhang et al., ICLR', 2018, 'code'),
    'manifold_mixup': Method('Manifold mixup', 'supervised', 'Verma et al., ICML', 2019, 'code'),
    'manifold_mixup_two_samplers': Method(
        'Manifold mixup, two samplers', 'supervised', 'Tiong et al. (ICCL)', 2021, 'formula',
        needs='a second stream of images',
    ),
    'balanced_mixup': Method(
        'Bal-Mixup', 'supervised', 'Galdran et al., MICCAI', 2021, 'code',
        needs='a second stream of images',
    ),
    'remix': Method('Remix', 'supervised', 'Chou et al., ECCV Workshops', 2020, 'formula'),
    'sam': Method('SAM', 'supervised', 'Foret et al., ICLR', 2021, 'formula', needs=_TWO_PASSES),
    'danil': Method(
        'DANIL', 'supervised', 'Gong et al., MICCAI', 2020, 'reading', needs='gradients of gradients'
    ),
    'vs': Method('VS', 'supervised', 'Kini et al., NeurIPS', 2021, 'code'),
    'lade': Method('LADE', 'supervised', 'Hong et al., CVPR', 2021, 'code'),
    'seql': Method('SEQL', 'supervised', 'Tan et al., CVPR', 2020, 'formula'),
    'range_loss': Method('Range loss', 'supervised', 'Zhang et al., ICCV', 2017, 'formula'),
    # A second stage, or a value chosen after the first.
    'crt': Method('cRT', 'decoupled', _KANG, 2020, 'code'),
    'lws': Method('LWS', 'decoupled', _KANG, 2020, 'code'),
    'cb_wd_max': Method('CB+WD+Max', 'decoupled', 'Alshammari et al., CVPR', 2022, 'code'),
    'gcl': Method('GCL', 'decoupled', 'Li et al., CVPR', 2022, 'code'),
    'cc_sam': Method('CC-SAM', 'decoupled', 'Zhou et al., CVPR', 2023, 'code', needs='a classifier pass a class'),
    'mislas': Method('MiSLAS', 'decoupled', 'Zhong et al., CVPR', 2021, 'code'),
    'disalign': Method('DisAlign', 'decoupled', 'Zhang et al., CVPR', 2021, 'formula'),
    'fcd': Method('FCD', 'decoupled', 'Li et al., MICCAI', 2022, 'reading', needs=_TWO_PASSES),
    'tau_norm': Method('tau-norm', 'post_hoc', _KANG, 2020, 'code', needs=_VALIDATION),
    'ncm': Method('NCM', 'post_hoc', _KANG, 2020, 'code', needs=_VALIDATION),
    'logit_adjustment_post_hoc': Method(
        'Logit adjustment, post hoc', 'post_hoc', 'Menon et al., ICLR', 2021, 'formula',
        needs=_VALIDATION,
    ),
    'tde': Method(
        'De-confound-TDE', 'post_hoc', 'Tang et al., NeurIPS', 2020, 'code', needs=_VALIDATION
    ),
    # Families of their own.
    'supcon': Method('CL', 'contrastive', 'Khosla et al., NeurIPS', 2020, 'code', needs=_TWO_VIEWS),
    'cicl': Method('CICL', 'contrastive', 'Marrakchi et al., MICCAI', 2021, 'code', needs=_TWO_VIEWS),
    'infonce': Method('InfoNCE', 'contrastive', 'Chen et al., SimCLR, ICML', 2020, 'code', needs=_TWO_VIEWS),
    'conmix': Method('ConMix', 'contrastive', 'Li and Jia, ICLR', 2025, 'reading', needs=_TWO_VIEWS),
    'bbn': Method(
        'BBN', 'branches', 'Zhou et al., CVPR', 2020, 'code', needs='a second stream of images, two further blocks'
    ),
    'sade': Method(
        'SADE', 'branches', 'Zhang et al., NeurIPS', 2022, 'reading',
        needs='three further blocks',
    ),
    'oltr': Method('OLTR', 'memory', 'Liu et al., CVPR', 2019, 'reading', needs='a pass over the training images'),
    'fs': Method(
        'FS', 'flexible', 'Ju et al., MICCAI', 2022, 'reading',
        needs='passes over the training images',
    ),
    'mtl': Method(
        'MTL', 'multi_task', 'Liao and Luo, AAAI Workshops', 2017, 'reading',
        needs='a further column, such as the body site', further=True,
    ),
    'balms': Method('BALMS', 'meta', 'Ren et al., NeurIPS', 2020, 'code', needs='a second stream of images'),
    'm2m': Method(
        'M2m', 'translation', 'Kim et al., CVPR', 2020, 'code', needs='two trainings, passes to the pixels'
    ),
    # The five papers'.
    'lmd': Method('LMD', 'lmd', 'Pan et al.', 2025, 'code', needs=_TWO_PASSES, page='lmd.md'),
    'aduni': Method(
        'AdUni', 'aduni', 'Cong et al., MLMI', 2022, 'code', needs=_TWO_VIEWS, page='aduni.md'
    ),
    'paco': Method('PaCo', 'aduni', 'Cui et al., ICCV', 2021, 'code', needs=_TWO_VIEWS, page='aduni.md'),
    'paco_aduc': Method('PaCo+AduC', 'aduni', 'Cong et al., MLMI', 2022, 'code', needs=_TWO_VIEWS, page='aduni.md'),
    'alpa': Method('ALPA', 'alpa', 'Kashyap et al.', 2024, 'code', page='alpa.md'),
    'iccl': Method('ICCL', 'iccl', 'Tiong et al.', 2021, 'formula', needs=_TWO_PASSES, page='iccl.md'),
    'proco': Method('ProCo', 'proco', 'Yang et al., MICCAI', 2022, 'formula', needs=_TWO_VIEWS, page='proco.md'),
}  # fmt: skip

# What readers may look for, and why it is not there.
LEFT_OUT: Mapping[str, str] = {
    'RSG': (
        'Wang et al., CVPR 2021: samples are made inside the feature maps by modules with three losses and gradients '
        'of their own, a family by itself, and no table of the five papers has it'
    ),
}
