"""Contrastive losses, with the queue that feeds them: SupCon, SimCLR, PaCo, MoCo, AdUni."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from golden_checks.compare import Arrays, Check, Tolerances, values_and_gradients
from ltjax.losses import contrastive, gaussian, parametric, queues, reduce, samplers


def _flat(views: Any) -> Any:
    """[B, V, D] to [V B, D]: all first views, then all second ones."""
    return views.transpose(1, 0, 2).reshape(-1, views.shape[2])


def _tiled(labels: Any, views: Any) -> Any:
    return jnp.tile(labels, views.shape[1])


def _log_prior(counts: Any, epsilon: Any) -> Any:
    return np.log(samplers.class_prior(counts) + epsilon)


def supcon(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The mean over both views, over the first, without labels, and of single views."""
    base = float(arrays['hp_base_temperature'])
    features, single = arrays['in_features'], arrays['in_features_single']
    batch = len(features)
    labels = _tiled(arrays['in_labels'], features)
    options = {'temperature': float(arrays['hp_temperature']), 'base_temperature': base}

    def anchors(views, **changed):
        return contrastive.supervised_contrastive(_flat(views), labels, **(options | changed))

    def simclr(views):
        images = _tiled(jnp.arange(batch), views)
        return reduce.mean(contrastive.nt_xent(_flat(views), images, **options))

    def one_view(views):
        values = contrastive.supervised_contrastive(
            _flat(views), arrays['in_labels_single'], **options
        )
        return reduce.mean(values)

    outputs = {
        'loss': lambda views: reduce.mean(anchors(views)),
        'loss_cicl': lambda views: reduce.mean(anchors(views)),
        'loss_one': lambda views: reduce.mean(anchors(views)[:batch]),
        'loss_simclr': simclr,
    }
    for key in arrays:
        if key.startswith('out_loss_t'):  # t07 is a temperature of 0.07
            changed = float('0.' + key.removeprefix('out_loss_t'))
            outputs[key.removeprefix('out_')] = lambda views, t=changed: reduce.mean(
                anchors(views, temperature=t)
            )
    results = values_and_gradients(
        {name: lambda v, f=f: f(v['features']) for name, f in outputs.items()},
        {'features': features},
    )
    results |= values_and_gradients(
        {'loss_single': lambda v: one_view(v['features'])}, {'features': single}
    )
    alone = (arrays['in_labels_single'][:, None] == arrays['in_labels_single'][None, :]).sum(1) == 1
    return results | {'out_loss_single_cicl_is_nan': jnp.any(alone).astype(jnp.int32)}


def paco(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """Loss and gradients of queries, keys and queue for each setting of the file."""
    batch, labels = int(arrays['hp_batch']), arrays['in_labels']
    settings = [key.removeprefix('out_loss_') for key in arrays if key.startswith('out_loss_')]

    def loss(values, setting):
        options = {
            ours: float(arrays[f'hp_{theirs}_{setting}'])
            for ours, theirs in (
                ('alpha', 'alpha'),
                ('beta', 'beta'),
                ('gamma', 'gamma'),
                ('temperature', 'temperature'),
                ('class_temperature', 'supt'),
            )
        }
        anchors = parametric.parametric_contrastive(
            values['sup_logits'],
            values['features'][:batch],
            labels[:batch],
            keys=values['features'][batch:],
            key_labels=labels[batch:],
            log_prior=_log_prior(arrays['hp_counts'], arrays['hp_prior_eps']),
            epsilon=float(arrays['hp_log_eps']),
            **options,
        )
        return reduce.mean(anchors)

    return values_and_gradients(
        {f'loss_{setting}': lambda values, s=setting: loss(values, s) for setting in settings},
        {'features': arrays['in_features'], 'sup_logits': arrays['in_sup_logits']},
    )


def moco_state(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The queue and the key encoder after every step."""
    rows = arrays['in_queue']
    full = jnp.ones(len(rows), bool)
    queue = queues.Queue(rows, arrays['in_queue_labels'], full, jnp.zeros((), jnp.int32))

    def step(state, batch):
        keys, labels, params_q = batch
        params_k = gaussian.ema(state[0], params_q, float(arrays['hp_m']))
        state = params_k, queues.push(state[1], keys, labels)
        return state, state

    batches = arrays['in_keys'], arrays['in_key_labels'], arrays['in_params_q']
    params_k, states = jax.lax.scan(step, (arrays['in_params_k'], queue), batches)[1]
    return {
        'out_queue': states.features,
        'out_queue_labels': states.labels,
        'out_ptr': states.pointer,
        'out_params_k': params_k,
    }


def _adaptive_values(arrays: Arrays, **options: Any) -> Any:
    """Per-anchor values and the gradients of their mean, an entry for each alpha."""
    labels = _tiled(arrays['in_labels'], arrays['in_features'])

    def loss(values, alpha):
        anchors = parametric.adaptive_unified_contrastive(
            values['logits'], _flat(values['features']), labels, alpha=alpha, **options
        )
        return reduce.mean(anchors), anchors

    values = {'features': arrays['in_features'], 'logits': arrays['in_logits']}
    each_alpha = jax.vmap(jax.value_and_grad(loss, has_aux=True), in_axes=(None, 0))
    (means, anchors), gradients = jax.jit(each_alpha)(values, arrays['in_alpha'])
    return means, anchors, gradients


def aduc(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The released code's combined loss for every alpha."""
    means, anchors, gradients = _adaptive_values(
        arrays,
        log_prior=_log_prior(arrays['in_class_counts'], arrays['hp_prior_eps']),
        beta=float(arrays['hp_beta']),
        temperature=float(arrays['hp_temperature']),
        class_temperature=float(arrays['hp_supt']),
        base_temperature=float(arrays['hp_base_temperature']),
    )
    return {
        'out_loss': means,
        'out_per_anchor': anchors,
        'grad_features': gradients['features'],
        'grad_logits': gradients['logits'],
    }


def aduc_parts(arrays: Arrays, dtype: Any) -> dict[str, Any]:
    """The two terms by themselves and the equations as they are printed."""
    labels = _tiled(arrays['in_labels'], arrays['in_features'])
    temperature = float(arrays['hp_temperature'])

    def feature(values, base=None, positives='mean'):
        return contrastive.supervised_contrastive(
            _flat(values['features']),
            labels,
            temperature=temperature,
            base_temperature=base,
            positives=positives,
        )

    def classifier(values, positives='sum'):
        return contrastive.classifier_contrastive(
            values['logits'], labels, temperature=temperature, positives=positives
        )

    base = float(arrays['hp_base_temperature'])
    outputs = {
        'feature_code': lambda values: reduce.mean(feature(values, base)),
        'feature_paper': lambda values: reduce.mean(feature(values, positives='sum')),
        'feature_paper_posmean': lambda values: reduce.mean(feature(values)),
        'classifier_paper': lambda values: reduce.mean(classifier(values)),
        'classifier_paper_posmean': lambda values: reduce.mean(classifier(values, 'mean')),
    }
    values = {'features': arrays['in_features'], 'logits': arrays['in_logits']}
    results = values_and_gradients(outputs, values)
    means, _, gradients = _adaptive_values(
        arrays,
        temperature=temperature,
        class_temperature=temperature,
        base_temperature=None,
        positives='sum',
    )
    return results | {
        'out_feature_paper_per_anchor': feature(values, positives='sum'),
        'out_classifier_paper_per_anchor': classifier(values),
        'out_aduc_paper': means,
        'grad_aduc_paper_features': gradients['features'],
        'grad_aduc_paper_logits': gradients['logits'],
    }


CHECKS: dict[str, Check] = {
    'supcon': supcon,
    'paco': paco,
    'moco_state': moco_state,
    'aduc': aduc,
    'aduc_parts': aduc_parts,
}
TOLERANCES: dict[str, Tolerances] = {}
COVERS: dict[str, tuple[str, ...]] = {
    'supcon': ('supervised_contrastive', 'nt_xent'),
    'paco': ('parametric_contrastive',),
    'moco_state': ('push', 'ema'),
    'aduc': ('adaptive_unified_contrastive',),
    'aduc_parts': (
        'supervised_contrastive',
        'classifier_contrastive',
        'adaptive_unified_contrastive',
    ),
}
