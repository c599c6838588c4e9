"""Which items of two reporting guidelines a run answers, for the model card; the wordings are ours.

CLAIM: Tejani et al., Checklist for Artificial Intelligence in Medical Imaging: 2024 Update, Radiology: Artificial
Intelligence 6(4), e240300. TRIPOD+AI: Collins et al., BMJ 385, e078378, 2024. The originals say in full what each item
asks for.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

AUTHOR = 'to be filled in by the author'
COLUMNS = ('CLAIM 2024', 'TRIPOD+AI', 'item', 'where')


class _Item(NamedTuple):
    """An item.

    Attributes:
      claim: its numbers in CLAIM 2024, '' for none.
      tripod: its numbers in TRIPOD+AI, '' for none.
      asked: what it asks for.
      where: the section of the card, or the file, that a run fills in; '' for none.
      needs: what the run has to hold for that, of what `rows` says; '' for nothing.
    """

    claim: str
    tripod: str
    asked: str
    where: str = ''
    needs: str = ''


_DETAILS, _DATA, _FIGURES = 'Model details', 'Data', 'Quantitative analyses'
_ITEMS = (
    _Item('3', '3b', 'purpose, and the patients and users that are meant'),
    _Item('7', '5a', 'files that the data are from', _DATA, 'data'),
    _Item('7, 13', '5a, 6a', 'hospitals, devices and dates behind these files'),
    _Item('8', '6b', 'who was included, and who was not'),
    _Item('9', '7', 'how images were prepared', 'config.json, under data', 'config'),
    _Item('10', '', 'whether a part of the images was taken, and how', _DATA, 'data'),
    _Item('11', '', 'how patients were made unrecognisable'),
    _Item('12', '11', 'what was done about missing and damaged images', _DATA, 'data'),
    _Item('14', '8a', 'what the labels rest on'),
    _Item('16, 18', '8b', 'who labelled, and how well labellers agreed'),
    _Item('19', '12a', 'how images came to training, validation and test', _DATA, 'data'),
    _Item('20', '12a', 'what is kept on one side: image, lesion, patient', _DATA, 'data'),
    _Item('21', '10', 'why there are enough test images'),
    _Item('22', '12c, 22', 'network, its input and its output', _DETAILS, 'num_parameters'),
    _Item('23', '', 'software, with versions', _DETAILS, 'versions'),
    _Item('24', '', 'initial weights', _DETAILS, 'config'),
    _Item('25', '12c', 'training: steps, rates, views, losses', 'config.json, under method', 'config'),
    _Item('', '13', 'what was done about rare classes', f'{_DETAILS}: the method', 'method'),
    _Item('26', '12c', 'which round of training was tested', _DETAILS, 'best'),
    _Item('28', '12e', 'measures of performance', 'Metrics'),
    _Item('29', '', 'how uncertainty is measured', 'Metrics'),
    _Item('32', '12a', 'test on images of the same source', _FIGURES),
    _Item('33', '16', 'test at another place, and how it differs'),
    _Item('35', '21', 'numbers of images and of groups', _DATA, 'data'),
    _Item('36', '20b', 'age, sex and disease of the patients, by side'),
    _Item('37', '23a', 'figures with intervals', _FIGURES),
    _Item('38', '15, 23a', 'thresholds and what they are worth', 'report.html, Operating points', 'operating_points'),
    _Item('39', '', 'what is taken for what', 'report.html, Confusions'),
    _Item('', '14, 23a', 'figures by age, sex, skin type, device', 'Factors', 'subgroups'),
    _Item('40', '26', 'limits', 'Limits'),
    _Item('43', '18e, 18f', 'where data, code and model can be had'),
    _Item('44', '18a', 'funding'),
)  # fmt: skip


def rows(
    results: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[tuple[str, str, str, str]]:
    """Yields a row for each item, see COLUMNS; what a run does not hold is left to the author.

    Args:
      results: what results.json holds.
      config: the settings that config.json holds, empty where it is not there.
    """
    held = {
        **results,
        'config': config,
        **{name: results['test'].get(name) for name in ('operating_points', 'subgroups')},
    }
    for item in _ITEMS:
        answered = item.where and (not item.needs or held.get(item.needs))
        yield item.claim, item.tripod, item.asked, item.where if answered else AUTHOR
