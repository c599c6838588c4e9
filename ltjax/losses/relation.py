"""Consistency of a student with its teacher: sample relations, channel relations, predictions.

The student sees one view of each image, the teacher another. The teacher's side is a constant: no
gradient reaches it. The two relations are set losses over the global batch.

Source: the LMD paper ("relation-aware representation learning"), equations 3 to 5, whose released
code normalises the rows of the Gram matrices and turns the divergence round; both readings are
offered and the code's is the default.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ltjax.losses._arrays import at_least_float32, checked_floats
from ltjax.losses.distillation import kl_divergence


def gram(vectors: ArrayLike) -> jax.Array:
    """Gram matrix V V^T [n, n] of the rows of V [n, d], in full precision on every device.

    >>> gram(jnp.array([[1.0, 0.0], [1.0, 2.0]])).tolist()
    [[1.0, 1.0], [1.0, 5.0]]
    """
    vectors = at_least_float32(vectors)
    return jnp.matmul(vectors, vectors.T, precision=jax.lax.Precision.HIGHEST)


def normalise_rows(matrix: ArrayLike) -> jax.Array:
    """Divides every row of [n, d] by its Euclidean length, without an epsilon.

    A row of zeros stays one and has a zero gradient.

    >>> normalise_rows(jnp.array([[0.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    matrix = at_least_float32(matrix)
    # The result does not depend on a row's scale: dividing by the largest entry first changes
    # neither value nor gradient, and keeps the squares from overflowing or vanishing.
    scale = jax.lax.stop_gradient(jnp.abs(matrix).max(axis=1, keepdims=True))
    positive = scale > 0
    scaled = jnp.where(positive, matrix / jnp.where(positive, scale, 1), 0)
    squared = (scaled * scaled).sum(axis=1, keepdims=True)
    return scaled / jnp.sqrt(jnp.where(positive, squared, 1))


def _gram_distance(student: jax.Array, teacher: jax.Array, normalise: bool) -> jax.Array:
    """Squared Frobenius distance of the two Gram matrices of the rows."""
    student_gram, teacher_gram = gram(student), gram(jax.lax.stop_gradient(teacher))
    if normalise:
        student_gram, teacher_gram = normalise_rows(student_gram), normalise_rows(teacher_gram)
    return jnp.square(student_gram - teacher_gram).sum()


def _checked_features(
    student_features: ArrayLike, teacher_features: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    student = checked_floats(student_features, (None, None), name='student_features')
    return student, checked_floats(teacher_features, student.shape, name='teacher_features')


def sample_relation(
    student_features: ArrayLike, teacher_features: ArrayLike, *, normalise: bool = True
) -> jax.Array:
    """Distance of the relations among samples, (1/B) || n(Z Z^T) - n(Z' Z'^T) ||_F^2.

    Z are the student's features, Z' the teacher's, B the batch size; n divides each row of a
    matrix by its length.

    Args:
      student_features: [B, C] pooled backbone features, not normalised.
      teacher_features: [B, C] the same of the teacher, a constant.
      normalise: False leaves n out, as equation 4 is printed.

    Returns:
      Scalar over the whole batch.

    Source: Pan et al. (LMD), equation 4; row normalisation as in its released code.

    >>> features = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> float(sample_relation(features, jnp.array([[1.0, 0.0], [1.0, 0.0]]), normalise=False))
    1.0
    """
    student, teacher = _checked_features(student_features, teacher_features)
    return _gram_distance(student, teacher, normalise) / student.shape[0]


def channel_relation(
    student_features: ArrayLike,
    teacher_features: ArrayLike,
    *,
    normalise: bool = True,
    divisor: Literal['channels', 'batch'] = 'channels',
) -> jax.Array:
    """Distance of the relations among channels, (1/C) || n(Z^T Z) - n(Z'^T Z') ||_F^2.

    Args:
      student_features: [B, C] pooled backbone features, not normalised.
      teacher_features: [B, C] the same of the teacher, a constant.
      normalise: False leaves n out, as equation 5 is printed.
      divisor: 'channels' divides by C as in the paper, 'batch' by B as in the released code. In
        the authors' setting B = C = 512; at another batch only 'channels' keeps their weight.

    Returns:
      Scalar over the whole batch.

    Raises:
      ValueError: another dtype or shape, or divisor is something else.

    Source: Pan et al. (LMD), equation 5; row normalisation as in its released code.

    >>> student, teacher = jnp.array([[1.0, 1.0]]), jnp.array([[1.0, 0.0]])
    >>> float(channel_relation(student, teacher, normalise=False))
    1.5
    """
    student, teacher = _checked_features(student_features, teacher_features)
    divisors = {'channels': student.shape[1], 'batch': student.shape[0]}
    if divisor not in divisors:
        raise ValueError(f"divisor must be 'channels' or 'batch', got {divisor!r}")
    return _gram_distance(student.T, teacher.T, normalise) / divisors[divisor]


def probability_consistency(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    direction: Literal['teacher_to_student', 'student_to_teacher'] = 'teacher_to_student',
    where: ArrayLike | None = None,
) -> jax.Array:
    """Kullback-Leibler divergence of the two predictions, sum_k t_k (log t_k - log s_k).

    Args:
      student_logits: [batch, K], s = softmax of these.
      teacher_logits: [batch, K], t = softmax of these, a constant.
      direction: 'teacher_to_student' is KL(t || s) as in the released code; 'student_to_teacher'
        is KL(s || t), the order that the paper prints.
      where: [batch] bool, True for the examples that count; None counts all.

    Returns:
      [batch]; 0 with zero gradient for a masked example.

    Raises:
      ValueError: another dtype or shape, or direction is something else.

    Source: Pan et al. (LMD), equation 3, whose 1/B is the mean over the batch.

    >>> teacher = jnp.array([[0.0, 0.0]])
    >>> round(float(probability_consistency(jnp.array([[2.0, 0.0]]), teacher)[0]), 4)
    0.4338
    """
    student = checked_floats(student_logits, (None, None), name='student_logits')
    teacher = checked_floats(teacher_logits, student.shape, name='teacher_logits')
    teacher = jax.lax.stop_gradient(teacher)
    if direction == 'teacher_to_student':
        return kl_divergence(teacher, student, where=where)
    if direction == 'student_to_teacher':
        return kl_divergence(student, teacher, where=where)
    raise ValueError(
        f"direction must be 'teacher_to_student' or 'student_to_teacher', got {direction!r}"
    )
