"""Bone marrow cytomorphology: single cells of 945 patients, 21 types, 171,374 images, 3,678 to 1.

Matek et al., Blood 2021 (Munich Leukemia Laboratory, Helmholtz Munich, Fraunhofer IIS). Get
Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer at https://doi.org/10.7937/TCIA.AXH3-T579 (6.8 GB):

    BM_cytomorphology_data/<CODE>/0001-1000/<CODE>_00001.jpg     (small classes may lack the folders of 1,000)

    python -m data_prep.bone_marrow --source DIR --out PREPARED
    python -m data_prep.bone_marrow --source DIR --out PREPARED17 --classes 17

`--classes 17` leaves out abnormal eosinophils, artefacts, not identifiable and other cells, as the ALPA paper does
(147,904 images). Protocols: `80_20` (ALPA; a fifth of its training part is validation here; `80_20__0` to
`80_20__4` validate on each fifth in turn) and `5_fold`.

The trap: files do not say which cells are of one patient, so there is no clean split: every result on this set may
owe something to the stain of a slide that was trained on.
"""

import argparse
import pathlib

from data_prep.tools import tool
from ltjax.data.prepared.writing import Item
from ltjax.errors import UserError

COUNTS = {
    'ABE': 8, 'ART': 19630, 'BAS': 441, 'BLA': 11973, 'EBO': 27395, 'EOS': 5883, 'FGC': 47,
    'HAC': 409, 'KSC': 42, 'LYI': 65, 'LYT': 26242, 'MMZ': 3055, 'MON': 4040, 'MYB': 6557,
    'NGB': 9968, 'NGS': 29424, 'NIF': 3538, 'OTH': 294, 'PEB': 2740, 'PLM': 7629, 'PMO': 11994,
}  # fmt: skip
NOT_IN_17 = ('ABE', 'ART', 'NIF', 'OTH')
ORIGIN = 'Get it at https://doi.org/10.7937/TCIA.AXH3-T579.'


def class_counts(number: int) -> dict[str, int]:
    """Returns the images of each class of the set of 21 or 17 classes."""
    return {code: count for code, count in COUNTS.items() if number == 21 or code not in NOT_IN_17}


def read(source: pathlib.Path, arguments: argparse.Namespace) -> tool.Content:
    """Reads the folders of classes."""
    root = tool.look(source, 'BM_cytomorphology_data') or source
    counts = class_counts(arguments.classes)
    classes = tuple(counts)
    absent = [code for code in classes if not (root / code).is_dir()]
    if absent and (len(absent) == len(classes) or not arguments.partial):
        raise UserError(f'{root} has no folder {", ".join(absent)}. {ORIGIN}')
    items = []
    for label, code in enumerate(classes):
        for id_, path in sorted(tool.index_images(root / code).items()):
            if not id_.startswith(f'{code}_'):
                raise UserError(f'{path} lies in the folder of {code}: move it. {ORIGIN}')
            items.append(Item(id_, label, path))
    tool.check_counts(items, classes, counts, arguments.partial)
    return tool.Content(
        classes, items, tool.draw(items, ('80_20', '5_fold', *tool.INNER), arguments.seed)
    )


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--classes', type=int, choices=(21, 17), default=21)


SOURCE = tool.Source(
    name='bone_marrow',
    origin=ORIGIN,
    licence='CC BY 4.0',
    read=read,
    options=_options,
)

if __name__ == '__main__':
    tool.run(SOURCE, __doc__)
