"""Cases of the relation losses; the teacher's constant side takes the place of the labels."""

import functools

import numpy as np

from losses.conformance import Case
from ltjax.losses import distillation, relation

BATCH, WIDTH = 6, 4
STUDENT, TEACHER = np.random.default_rng(0).uniform(size=(2, BATCH, WIDTH))

bind = functools.partial
sample, channel = relation.sample_relation, relation.channel_relation
consistency = relation.probability_consistency


def set_case(name, loss, **fields):
    return Case(
        name, loss, (STUDENT,), TEACHER, WIDTH, per_example=False, takes_where=False, **fields
    )


def _transposed(loss, factor=1, **options):
    return lambda student, teacher: factor * loss(student.T, teacher.T, **options)


CASES = [
    set_case(
        'sample_relation',
        sample,
        equals=(('channels of the transpose', _transposed(channel)),),
    ),
    set_case('sample_relation:raw', bind(sample, normalise=False)),
    set_case(
        'channel_relation',
        channel,
        equals=(('samples of the transpose', _transposed(sample)),),
    ),
    set_case(
        'channel_relation:by_batch',
        bind(channel, normalise=False, divisor='batch'),
        equals=(
            (
                'samples of the transpose',
                _transposed(sample, WIDTH / BATCH, normalise=False),
            ),
        ),
    ),
    Case(
        'probability_consistency',
        consistency,
        (STUDENT,),
        TEACHER,
        WIDTH,
        equals=(('divergence', lambda s, t: distillation.kl_divergence(t, s)),),
    ),
    Case(
        'probability_consistency:student_to_teacher',
        bind(consistency, direction='student_to_teacher'),
        (STUDENT,),
        TEACHER,
        WIDTH,
        equals=(('sides exchanged', lambda s, t: consistency(t, s)),),
    ),
]
