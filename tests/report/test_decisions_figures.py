import json
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest

from ltjax.evaluation.operating_points import SHARES
from ltjax.report import decisions
from ltjax.report.style import GROUP_COLOURS

pytestmark = pytest.mark.figures

NONE = {'value': None, 'low': None, 'high': None}
NAMES = ['a <b> & c', 'costs $5 to $9', '_background']


def texts(svg):
    """All text of an SVG; raises if it is not well-formed."""
    return [''.join(element.itertext()) for element in ET.fromstring(svg).iter() if element.text]


def interval(value, spread=0.05):
    return {'value': value, 'low': value - spread, 'high': value + spread}


def curve(values):
    return [interval(float(value)) for value in values]


def decision_curve(model=None, treat_all=None):
    thresholds = [0.1, 0.5, 0.9]
    return decisions.decision_curve(
        thresholds, model or curve([0.2, 0.1, 0.0]), treat_all or curve([0.2, -0.6, -7]), NAMES[0]
    )


def referral_curve(tail=None):
    rising = curve(np.linspace(0.7, 0.95, len(SHARES)))
    figures = {'accuracy': rising, 'tail recall': tail or [*rising[:5], *[NONE] * 5]}
    return decisions.referral_curve(SHARES, json.loads(json.dumps(figures)))


def class_coverage(last=NONE):
    rows = [
        {'name': NAMES[0], 'coverage': interval(0.9), 'size': interval(1.5)},
        {'name': NAMES[1], 'coverage': interval(0.7), 'size': interval(3.0)},
        {'name': NAMES[2], 'coverage': last, 'size': last},
    ]
    return decisions.class_coverage(rows, ['head', 'medium', 'tail'], 0.9)


CASES = {
    'decision': (decision_curve, ['decision curve of a <b> & c', 'act on all', 'act on none']),
    'referral': (referral_curve, ['accuracy', 'tail recall']),
    'coverage': (
        class_coverage,
        [*NAMES, 'no test images', 'labels in a set', 'head', 'medium', 'tail'],
    ),
}


@pytest.mark.parametrize('name', CASES)
def test_figures_are_well_formed_and_repeatable(name):
    draw, wanted = CASES[name]
    settings = dict(matplotlib.rcParams)
    svg = draw()
    assert draw() == svg
    assert dict(matplotlib.rcParams) == settings
    assert set(wanted) <= {text.strip() for text in texts(svg)}


@pytest.mark.parametrize('name', ['decision', 'referral'])
def test_axes_say_what_they_show(name):
    found = ' '.join(texts(CASES[name][0]()))
    assert 'percent' in found
    assert {'decision': 'net benefit', 'referral': 'sent to a human'}[name] in found


def test_curves_are_told_apart_without_colours():
    for draw in (decision_curve, referral_curve):
        styles = {
            element.get('style')
            for element in ET.fromstring(draw()).iter('{http://www.w3.org/2000/svg}path')
        }
        assert any(style and 'stroke-dasharray' in style for style in styles)


def test_treat_all_does_not_press_the_model_flat():
    """Its net benefit falls without bound: the axis ends a little below what the model has."""
    ticks = [float(text.replace('−', '-')) for text in texts(decision_curve()) if _number(text)]
    assert min(ticks) > -200
    assert max(ticks) < 400


def _number(text):
    return text.strip().lstrip('−-').isdecimal()


def test_the_wished_coverage_is_a_line_with_its_number():
    assert any('wished 90' in text for text in texts(class_coverage()))


@pytest.mark.parametrize(
    'draw',
    [
        lambda: decision_curve([NONE] * 3, [NONE] * 3),
        lambda: referral_curve([NONE] * len(SHARES)),
        lambda: decisions.class_coverage(
            [{'name': 'a', 'coverage': NONE, 'size': NONE}], ['tail'], 0.9
        ),
    ],
)
def test_figures_of_nothing_are_drawn_too(draw):
    assert texts(draw())


def test_classes_have_the_colours_of_their_groups():
    svg = class_coverage(interval(0.5))
    assert all(colour in svg for colour in GROUP_COLOURS.values())
    assert 'no test images' not in svg
