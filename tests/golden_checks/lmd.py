"""LMD: relation losses, EMA, class Gaussians, virtual features, FDC, GCE, long-tailed split."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.compare import Arrays, Check, Judged, Tolerances, values_and_gradients
from ltjax import losses
from ltjax.data import long_tail


def relation(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The terms of stage 1, their weighted totals and all gradients."""
    teacher, teacher_logits = arrays['in_teacher_features'], arrays['in_teacher_logits']
    labels = arrays['in_labels']
    w_ce, w_prob, w_sample, w_channel = (
        float(arrays[f'hp_w_{name}']) for name in ('ce', 'prob', 'sample', 'channel')
    )

    def ce(student):
        return losses.mean(losses.softmax_cross_entropy(student['logits'], labels))

    def prob(student, direction='teacher_to_student'):
        return losses.mean(
            losses.probability_consistency(student['logits'], teacher_logits, direction=direction)
        )

    def prob_reverse(student):
        return prob(student, 'student_to_teacher')

    def sample(student, **options):
        return losses.sample_relation(student['features'], teacher, **options)

    def channel(student, **options):
        return losses.channel_relation(student['features'], teacher, **options)

    def total(student, **options):
        relations = w_sample * sample(student) + w_channel * channel(student, **options)
        return w_ce * ce(student) + w_prob * prob(student) + relations

    def total_literal(student):
        raw = sample(student, normalise=False) + channel(student, normalise=False)
        return ce(student) + w_sample * (raw + prob_reverse(student) / 2)

    outputs = {
        'ce': ce,
        'prob': prob,
        'prob_reverse': prob_reverse,
        'sample': sample,
        'sample_raw_gram': lambda student: sample(student, normalise=False),
        'channel': lambda student: channel(student, divisor='batch'),
        'channel_div_c': channel,
        'channel_raw_gram': lambda student: channel(student, normalise=False),
        'total': lambda student: total(student, divisor='batch'),
        'total_channel_div_c': total,
        'total_literal': total_literal,
    }
    student = {'features': arrays['in_student_features'], 'logits': arrays['in_student_logits']}
    return values_and_gradients(outputs, student)


def _running(states: Any, initial: Any, alphas: Any) -> Any:
    """All states of an exponential moving average, stacked."""

    def update(average, step):
        average = losses.ema(average, step[0], step[1])
        return average, average

    return jax.lax.scan(update, initial, (states, alphas))[1]


def ema_teacher(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The teacher's parameters after each update, for both decays."""
    results = {}
    for suffix, decay in (('', arrays['hp_decay']), ('_decay90', arrays['hp_decay90'])):
        alpha = losses.ema_decay(arrays['in_step'], decay=float(decay))
        results[f'out_alpha{suffix}'] = alpha
        results[f'out_ema{suffix}'] = _running(arrays['in_student'], arrays['in_ema_init'], alpha)
    return results


def distribution_ema(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The averaged means and covariances after each iteration, for both decays."""
    estimates = {'mean': arrays['in_mean'], 'cov': arrays['in_cov']}
    initial = jax.tree.map(lambda estimate: jnp.zeros_like(estimate[0]), estimates)
    results = {}
    for suffix, decay in (('', arrays['hp_decay']), ('_decay50', arrays['hp_decay50'])):
        alpha = losses.ema_decay(jnp.arange(len(estimates['mean'])), decay=float(decay))
        states = _running(estimates, initial, alpha)
        results[f'out_alpha{suffix}'] = alpha
        results[f'out_ema_mean{suffix}'] = states['mean']
        results[f'out_ema_cov{suffix}'] = states['cov']
    return results


def class_stats(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Means and covariances of the classes, with and without the ridge."""
    features, labels = arrays['in_features'], arrays['in_labels']
    num_classes = len(arrays['out_count'])
    ridged = losses.class_gaussians(features, labels, num_classes, ridge=float(arrays['hp_eps']))
    raw = losses.class_gaussians(features, labels, num_classes, ridge=0.0)
    return {
        'out_mean': ridged.mean,
        'out_cov': ridged.covariance,
        'out_cov_raw': raw.covariance,
        'out_count': ridged.counts,
        'out_rank_raw': np.linalg.matrix_rank(np.asarray(raw.covariance)),
    }


def _mean_z(mean: Any, true_mean: Any, true_cov: Any, draws: int) -> Any:
    """Errors of empirical means in standard errors."""
    variance = np.diagonal(true_cov, axis1=1, axis2=2)
    return np.abs(mean - true_mean) / np.sqrt(variance / draws)


def _cov_z(cov: Any, true_cov: Any, draws: int) -> Any:
    """Errors of empirical covariances in standard errors."""
    variance = np.diagonal(true_cov, axis1=1, axis2=2)
    spread = true_cov**2 + variance[:, :, None] * variance[:, None, :]
    return np.abs(cov - true_cov) / np.sqrt(spread / draws)


def virtual_features(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The deterministic draw exactly; the sampler by its standard errors.

    For `out_mc_mean` and `out_mc_cov` our own draws must lie within 5 standard errors of the true
    parameters and, being independent of the stored draws, within 5 sqrt(2) of those.
    """
    num_classes, per_class, width = arrays['in_noise'].shape
    gaussians = losses.class_gaussians(
        arrays['in_features'], arrays['in_labels'], num_classes, ridge=float(arrays['hp_eps'])
    )
    cholesky = losses.cholesky_factors(gaussians.covariance)
    virtual = losses.reparameterise(gaussians.mean, cholesky, arrays['in_noise'])
    key = jax.random.key(0)
    _, labels = losses.virtual_features(key, gaussians.mean, cholesky, per_class)

    draws = int(arrays['hp_R_mc'])
    drawn, _ = losses.virtual_features(key, gaussians.mean, cholesky, draws)
    drawn = np.asarray(drawn, np.float64).reshape(num_classes, draws, width)
    drawn_mean = drawn.mean(axis=1)
    centred = drawn - drawn_mean[:, None, :]
    drawn_cov = centred.transpose(0, 2, 1) @ centred / (draws - 1)
    mean, cov = arrays['out_mean'], arrays['out_cov']

    def judge(own_z, other_z):
        def verdict(want):
            own, other = own_z.max(), other_z(want).max()
            sound = own <= 5 and other <= 5 * np.sqrt(2)
            return '' if sound else f'{own:.2f} (true) and {other:.2f} (stored) standard errors off'

        return Judged(verdict)

    return {
        'out_mean': gaussians.mean,
        'out_cov': gaussians.covariance,
        'out_chol': cholesky,
        'out_virtual': virtual.reshape(num_classes * per_class, width),
        'out_virtual_labels': labels,
        'out_mc_mean': judge(
            _mean_z(drawn_mean, mean, cov, draws),
            lambda want: _mean_z(drawn_mean - want, 0.0, cov, draws),
        ),
        'out_mc_cov': judge(
            _cov_z(drawn_cov, cov, draws),
            lambda want: _cov_z(drawn_cov - want + cov, cov, draws),
        ),
        'out_mc_max_z_mean': _mean_z(arrays['out_mc_mean'], mean, cov, draws).max(),
        'out_mc_max_z_cov': _cov_z(arrays['out_mc_cov'], cov, draws).max(),
    }


def distribution_consistency(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Both readings of the distance, the terms made of it and the E-step totals."""
    labels, mean, cov = arrays['in_labels'], arrays['in_mean'], arrays['in_cov']
    weight, bias = arrays['in_classifier_w'], arrays['in_classifier_b']
    lambda_e, q = float(arrays['hp_lambda_e']), float(arrays['hp_gce_q'])
    whitening = losses.whitening_matrices(losses.cholesky_factors(cov))
    distances = {
        'inv': lambda features: losses.squared_mahalanobis(features, mean, whitening),
        'literal': lambda features: losses.quadratic_form(features, mean, cov),
    }

    def logits(features):
        return features @ weight.T + bias[None, :]

    def ce(at):
        return losses.mean(losses.softmax_cross_entropy(logits(at['features']), labels))

    def gce(at):
        values = losses.generalized_cross_entropy(logits(at['features']), labels, q=q)
        return losses.mean(values)

    def term(loss, reading):
        return lambda at: losses.mean(loss(distances[reading](at['features']), labels))

    fdc = {reading: term(losses.feature_distribution_consistency, reading) for reading in distances}
    outputs = {
        'ce': ce,
        'gce': gce,
        'fdc_code_sign': lambda at: -fdc['inv'](at),
        'estep_total': lambda at: ce(at) + lambda_e * fdc['inv'](at),
        'estep_total_literal': lambda at: ce(at) + lambda_e * fdc['literal'](at),
        'estep_total_gce': lambda at: gce(at) + lambda_e * fdc['inv'](at),
        'estep_total_code': lambda at: gce(jax.lax.stop_gradient(at)) - lambda_e * fdc['inv'](at),
    }
    for reading in distances:
        outputs[f'attraction_{reading}'] = term(losses.attraction, reading)
        outputs[f'repulsion_{reading}'] = term(losses.repulsion, reading)
        outputs[f'fdc_{reading}'] = fdc[reading]
    results = values_and_gradients(outputs, {'features': arrays['in_features']})
    for reading, distance in distances.items():
        results[f'out_dist_{reading}'] = distance(arrays['in_features'])
    results['out_cov_cond'] = np.linalg.cond(np.asarray(cov, np.float64))
    return results


def generalized_cross_entropy(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Value and gradient of the generalised cross-entropy, one row below the clamp."""
    q, clamp_min = float(arrays['hp_q']), float(arrays['hp_clamp_min'])

    def per_sample(logits):
        return losses.generalized_cross_entropy(
            logits, arrays['in_labels'], q=q, clamp_min=clamp_min
        )

    logits = arrays['in_logits']
    loss, gradient = jax.value_and_grad(lambda z: losses.mean(per_sample(z)))(logits)
    return {'out_loss': loss, 'out_per_sample': per_sample(logits), 'grad_logits': gradient}


def longtail_split(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Class sizes at each imbalance factor, and how each class is split."""
    counts = np.asarray(arrays['in_counts'])
    totals = [
        long_tail.decayed_counts(counts, factor)
        for factor in np.asarray(arrays['in_imbalance_factor']).tolist()
    ]
    splits = [
        [long_tail.split_counts_7_1_2(count) for count in class_counts] for class_counts in totals
    ]
    return {
        'out_total': np.array(totals),
        'out_split_train_val_test': np.array(splits).transpose(0, 2, 1),
    }


CHECKS: dict[str, Check] = {
    'lmd_relation': relation,
    'lmd_ema_teacher': ema_teacher,
    'lmd_class_stats': class_stats,
    'lmd_dist_ema': distribution_ema,
    'lmd_vfc': virtual_features,
    'lmd_fdc': distribution_consistency,
    'lmd_gce': generalized_cross_entropy,
    'lmd_longtail_split': longtail_split,
}

# An inverse covariance of a tail class amplifies rounding by its condition number.
_INVERSE = (1e-7, 5e-4)
TOLERANCES: dict[str, Tolerances] = {
    'lmd_class_stats': {'out_cov*': (1e-9, 1e-4)},
    'lmd_vfc': {'out_cov': (1e-9, 1e-4), 'out_chol': (1e-9, 1e-4), 'out_virtual': (1e-9, 1e-4)},
    'lmd_fdc': {
        '*_literal*': (1e-9, 2e-5),
        'out_ce': (1e-9, 2e-5),
        'out_gce': (1e-9, 2e-5),
        '*': _INVERSE,
    },
}

COVERS: dict[str, tuple[str, ...]] = {
    'lmd_relation': (
        'softmax_cross_entropy',
        'probability_consistency',
        'sample_relation',
        'channel_relation',
        'mean',
    ),
    'lmd_ema_teacher': ('ema', 'ema_decay'),
    'lmd_class_stats': ('class_gaussians',),
    'lmd_dist_ema': ('ema', 'ema_decay'),
    'lmd_vfc': ('class_gaussians', 'cholesky_factors', 'reparameterise', 'virtual_features'),
    'lmd_fdc': (
        'squared_mahalanobis',
        'quadratic_form',
        'attraction',
        'repulsion',
        'feature_distribution_consistency',
        'cholesky_factors',
        'whitening_matrices',
        'generalized_cross_entropy',
    ),
    'lmd_gce': ('generalized_cross_entropy',),
    'lmd_longtail_split': (),
}
