"""Heads: cosine, tau-normalised, LWS, NCM, TDE, OLTR's memory, BBN's branches; mixed examples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.compare import Arrays, Check, Judged, Tolerances, values_and_gradients
from ltjax.losses import branches, causal, heads, memory, mixing, reduce, schedules
from ltjax.losses.classification import softmax_cross_entropy


def _mean_cross_entropy(logits: Any, labels: Any) -> Any:
    return reduce.mean(softmax_cross_entropy(logits, labels))


def _hyper(arrays: Arrays, *names: str) -> list[float]:
    return [float(arrays[f'hp_{name}']) for name in names]


def cosine_head(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Both normalised heads and their gradients, weights a column for each class."""
    features, weight, cotangent = (
        arrays[f'in_{name}'] for name in ('features', 'weight', 'cotangent')
    )
    eps, temperature, power, mm_eps = _hyper(arrays, 'eps', 'mm_temperature', 'mm_power', 'mm_eps')

    def cosine(features, weight):
        return heads.cosine_logits(features, weight.T, eps=eps)

    def normalised(features, weight):
        return heads.normalised_linear(
            features, weight.T, temperature=temperature, power=power, eps=mm_eps
        )

    out_cosine, pullback = jax.vjp(cosine, features, weight)
    out_mm, mm_pullback = jax.vjp(normalised, features, weight)
    (grad_features, grad_weight), (mm_features, mm_weight) = (
        pullback(cotangent),
        mm_pullback(cotangent),
    )
    return {
        'out_cosine': out_cosine,
        'grad_features': grad_features,
        'grad_weight': grad_weight,
        'out_mm_logits': out_mm,
        'grad_mm_features': mm_features,
        'grad_mm_weight': mm_weight,
    }


def tau_norm(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Weights, logits and predictions for every tau."""
    taus = arrays['hp_taus'].tolist()
    weights = [heads.tau_normalised(arrays['in_weight'], tau=tau) for tau in taus]
    logits = jnp.stack([heads.linear_logits(arrays['in_features'], weight) for weight in weights])
    return {
        'out_weights': jnp.stack(weights),
        'out_logits': logits,
        'out_pred': logits.argmax(axis=2),
    }


def lws(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Scaled logits; the initial scale must leave the logits of the frozen head as they are."""
    frozen = heads.linear_logits(arrays['in_features'], arrays['in_weight'], arrays['in_bias'])

    def loss(scales):
        return _mean_cross_entropy(heads.learnable_scaling(frozen, scales), arrays['in_labels'])

    def initial(want):
        scales = jnp.full_like(arrays['in_scales'], want)
        unchanged = np.array_equal(heads.learnable_scaling(frozen, scales), frozen)
        return '' if unchanged else 'the initial scale changes the logits'

    value, gradient = jax.value_and_grad(loss)(arrays['in_scales'])
    return {
        'out_logits': heads.learnable_scaling(frozen, arrays['in_scales']),
        'out_loss': value,
        'grad_scales': gradient,
        'out_init_scale': Judged(initial),
    }


def ncm(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Centroids of each transform; logits and predictions of each metric."""
    train = arrays['in_train_features'], arrays['in_train_labels']
    results = {}
    for transform in ('un', 'l2n', 'cl2n'):
        num_classes = len(arrays[f'out_centroids_{transform}'])
        means = heads.nearest_means(*train, num_classes, transform=transform)
        results['out_mean'] = means.mean
        results[f'out_centroids_{transform}'] = means.centroids
        for metric in ('l2', 'cos'):
            logits = heads.nearest_mean_logits(
                arrays['in_features'], means, transform=transform, metric=metric
            )
            results[f'out_logits_{transform}_{metric}'] = logits
            results[f'out_pred_{transform}_{metric}'] = logits.argmax(axis=1)
    return results


def tde(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Training logits and loss, the running direction, and inference for every alpha."""
    features, weight, labels = (arrays[f'in_{name}'] for name in ('features', 'weight', 'labels'))
    scale, gamma, mu = _hyper(arrays, 'scale', 'gamma', 'mu')
    head = {'num_heads': int(arrays['hp_num_head']), 'scale': scale, 'gamma': gamma}

    def loss(features, weight):
        logits = causal.deconfounded_logits(features, weight, **head)
        return _mean_cross_entropy(logits, labels)

    def directions(momenta):
        direction, steps = jnp.zeros_like(features[0]), []
        for batch, momentum in zip(arrays['in_batch_features'], momenta, strict=True):
            direction = causal.update_direction(direction, batch, mu=momentum)
            steps.append(direction)
        return jnp.stack(steps)

    lr_scale = jnp.asarray(arrays['hp_lr_scale'], dtype)
    constant = directions([mu] * len(arrays['in_batch_features']))
    value, (grad_features, grad_weight) = jax.value_and_grad(loss, (0, 1))(features, weight)
    inferred = jnp.stack(
        [
            causal.total_direct_effect(features, weight, constant[-1], alpha=alpha, **head)
            for alpha in arrays['hp_alphas'].tolist()
        ]
    )
    return {
        'out_embed': constant,
        # hp_lr_scale stands for min(50 lr, 1).
        'out_embed_lr_scaled': directions(causal.direction_momentum(lr_scale / 50, mu=mu)),
        'out_train_logits': causal.deconfounded_logits(features, weight, **head),
        'out_train_loss': value,
        'grad_features': grad_features,
        'grad_weight': grad_weight,
        'out_infer_logits': inferred,
        'out_infer_pred': inferred.argmax(axis=2),
    }


def oltr(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The memory head, and the centroid loss near to and far from the margin."""
    labels, centroids = arrays['in_labels'], arrays['in_centroids']
    cos_scale, reach, margin, repel_weight = _hyper(
        arrays, 'cos_scale', 'reach_scale', 'margin', 'repel_weight'
    )

    def logits(at):
        layers = memory.MemoryLayers(
            at['hall_w'], arrays['in_hall_b'], at['sel_w'], arrays['in_sel_b']
        )
        embedding = memory.memory_embedding(at['features'], centroids, layers, reach=reach)
        return memory.squashed_cosine_logits(embedding, at['cos_w'], scale=cos_scale)

    def centroid_loss(at):
        values = memory.centroid_loss(
            at['features'],
            labels,
            centroids=at['centroids_custom'],
            margin=margin,
            repel_weight=repel_weight,
        )
        return reduce.mean(values)

    head = {name: arrays[f'in_{name}'] for name in ('features', 'hall_w', 'sel_w', 'cos_w')}
    outputs = {'ce': lambda at: _mean_cross_entropy(logits(at), labels)}
    results = values_and_gradients(outputs, head) | {'out_logits': logits(head)}
    for where in ('near', 'far'):
        (scale,) = _hyper(arrays, f'scale_{where}')
        at = {'features': scale * arrays['in_features'], 'centroids_custom': scale * centroids}
        results |= values_and_gradients({f'centroid_loss_{where}': centroid_loss}, at)
    return results


def bbn(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Loss and gradients at each epoch (there counted from 1), and the logits at inference."""
    names = ('features_cb', 'features_rb', 'weight', 'bias')
    inputs = tuple(arrays[f'in_{name}'] for name in names)
    coefficient = schedules.bilateral_coefficient(int(arrays['hp_epochs']))
    alphas = coefficient(arrays['hp_epoch_1based'] - 1)

    def loss(inputs, alpha):
        values = mixing.interpolated_cross_entropy(
            branches.bilateral_logits(*inputs, alpha=alpha),
            arrays['in_labels_cb'],
            other_labels=arrays['in_labels_rb'],
            lam=alpha,
        )
        return reduce.mean(values)

    values, gradients = jax.vmap(jax.value_and_grad(loss), (None, 0))(inputs, alphas)
    return {
        'out_alpha': alphas,
        'out_loss': values,
        'out_infer_logits': branches.bilateral_logits(*inputs),
    } | {f'grad_{name}': gradient for name, gradient in zip(names, gradients, strict=True)}


def mixed_examples(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Mixup, balanced mixup and remix for each lambda; manifold mixup for one."""
    images, labels, logits = (arrays[f'in_{name}'] for name in ('images', 'labels', 'logits'))
    permutation, balanced = arrays['in_perm'], arrays['in_labels_balanced']
    partners = labels[permutation]
    num_classes = logits.shape[1]
    lams = arrays['hp_lams'].tolist()
    kappa, tau, manifold_lam = _hyper(arrays, 'remix_kappa', 'remix_tau', 'manifold_lam')

    def one_hot(classes):
        return jax.nn.one_hot(classes, num_classes, dtype=dtype)

    def loss(logits, labels, other_labels, lam):
        return reduce.mean(
            mixing.interpolated_cross_entropy(logits, labels, other_labels=other_labels, lam=lam)
        )

    def remix(lam):
        return mixing.remix_weight(
            labels,
            partners,
            lam=lam,
            counts=arrays['hp_counts'],
            kappa=kappa,
            tau=tau,
        )

    def losses(arguments):
        at_each = [jax.value_and_grad(loss)(logits, *argument) for argument in arguments]
        return (jnp.stack(parts) for parts in zip(*at_each, strict=True))

    def hidden(w1):
        flat = images.reshape(len(images), -1)
        return mixing.mixup(jax.nn.relu(heads.linear_logits(flat, w1.T)), permutation, manifold_lam)

    def manifold(w1):
        return loss(
            heads.linear_logits(hidden(w1), arrays['in_w2'].T), labels, partners, manifold_lam
        )

    out_mixup, grad_mixup = losses([(labels, partners, lam) for lam in lams])
    out_balanced, grad_balanced = losses([(balanced, labels, lam) for lam in lams])
    out_remix, grad_remix = losses([(labels, partners, remix(lam)) for lam in lams])
    out_manifold, grad_manifold = jax.value_and_grad(manifold)(arrays['in_w1'])
    return {
        'out_mixed_images': jnp.stack([mixing.mixup(images, permutation, lam) for lam in lams]),
        'out_mixup_loss': out_mixup,
        'grad_mixup_logits': grad_mixup,
        'out_balanced_images': jnp.stack(
            [mixing.balanced_mixup(images, arrays['in_images_balanced'], lam) for lam in lams]
        ),
        'out_balanced_targets': jnp.stack(
            [mixing.balanced_mixup(one_hot(labels), one_hot(balanced), lam) for lam in lams]
        ),
        'out_balanced_loss': out_balanced,
        'grad_balanced_logits': grad_balanced,
        'out_remix_loss': out_remix,
        'grad_remix_logits': grad_remix,
        'out_remix_label_lam': jnp.stack([remix(lam) for lam in lams]),
        'out_manifold_hidden': hidden(arrays['in_w1']),
        'out_manifold_loss': out_manifold,
        'grad_manifold_w1': grad_manifold,
    }


CHECKS: dict[str, Check] = {
    'cosine_head': cosine_head,
    'tau_norm': tau_norm,
    'lws': lws,
    'ncm': ncm,
    'tde': tde,
    'oltr': oltr,
    'bbn': bbn,
    'mixing': mixed_examples,
}

TOLERANCES: dict[str, Tolerances] = {}

COVERS: dict[str, tuple[str, ...]] = {
    'cosine_head': ('cosine_logits', 'normalised_linear'),
    'tau_norm': ('linear_logits', 'tau_normalised'),
    'lws': ('learnable_scaling', 'linear_logits'),
    'ncm': ('nearest_mean_logits', 'nearest_means'),
    'tde': (
        'deconfounded_logits',
        'direction_momentum',
        'total_direct_effect',
        'update_direction',
    ),
    'oltr': ('centroid_loss', 'memory_embedding', 'squashed_cosine_logits'),
    'bbn': ('bilateral_coefficient', 'bilateral_logits', 'interpolated_cross_entropy'),
    'mixing': ('balanced_mixup', 'interpolated_cross_entropy', 'mixup', 'remix_weight'),
}
