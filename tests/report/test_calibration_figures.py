import json
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from ltjax.evaluation.bootstrap import bootstrap
from ltjax.evaluation.calibration import bin_accuracies, reliability
from ltjax.report.calibration import reliability_diagram
from ltjax.report.style import GROUP_COLOURS

pytestmark = pytest.mark.figures

GROUPS = {'head': (0,), 'medium': (1,), 'tail': (2,)}


def texts(svg):
    """All text of an SVG; raises if it is not well-formed."""
    return [''.join(element.itertext()) for element in ET.fromstring(svg).iter() if element.text]


def panels(groups, resampled=True):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [1200, 30, 1])
    probabilities = rng.dirichlet([1, 1, 1], len(labels))
    samples = None
    if resampled:
        statistic = bin_accuracies(labels, probabilities, groups)
        samples = bootstrap(labels, statistic, num_classes=3, num_bootstrap=20)
    found = reliability(labels, probabilities, groups, samples=samples)
    return json.loads(json.dumps(found))


@pytest.mark.parametrize('groups', [GROUPS, {}], ids=['groups', 'all'])
@pytest.mark.parametrize('resampled', [True, False], ids=['intervals', 'values'])
def test_the_diagram_is_well_formed_and_repeatable(groups, resampled):
    settings = dict(matplotlib.rcParams)
    given = panels(groups, resampled)
    svg = reliability_diagram(given)
    assert reliability_diagram(given) == svg
    assert dict(matplotlib.rcParams) == settings
    found = texts(svg)
    for text in ('accuracy, percent', 'confidence, percent', 'images, percent', '95 % interval'):
        assert text in found
    titles = {'all (1,231 images)'}
    if groups:
        titles |= {'head (1,200 images)', 'medium (30 images)', 'tail (1 image)'}
    assert titles <= set(found)
    assert found.count('confidence, percent') == len(titles)
    assert all((colour in svg) == bool(groups) for colour in GROUP_COLOURS.values())


def test_only_bins_with_intervals_have_a_band():
    svg, plain = (reliability_diagram(panels({}, resampled)) for resampled in (True, False))
    assert len(svg) > len(plain) + 1000


def test_a_group_without_test_images_has_no_panel():
    given = panels({'head': (0, 1, 2), 'tail': ()})
    assert list(given) == ['all', 'head']
    assert not any(text.startswith('tail') for text in texts(reliability_diagram(given)))
