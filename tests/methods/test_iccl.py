"""ICCL: the loss by hand, the warm-up, the centroids, who moves what; every switch changes what it says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import tiny
from ltjax import losses, models, sharding, train
from ltjax.engine import loop
from ltjax.engine.state import flatten, parameter_filter
from ltjax.engine.step import make_step
from ltjax.errors import UserError
from ltjax.losses import centroids, class_probabilities, distillation, mixing
from ltjax.methods import iccl
from ltjax.methods.task import Task

LAST = {'select': 'last'}
STEPS = 3  # a round: 56 images in batches of 16


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return tiny.npz(tmp_path_factory.mktemp('data') / 'data.npz')


@pytest.fixture(scope='module')
def watched(data, tmp_path_factory):
    """The unchanged run: its folder, result, and the state before and after each step [(update, before, after)]."""
    steps = []

    def watching(*arguments, **options):
        update, step_fn = arguments[0], make_step(*arguments, **options)

        def wrapped(state, *inputs):
            before = jax.device_get(state)
            state, metrics = step_fn(state, *inputs)
            steps.append((update.name, before, jax.device_get(state)))
            return state, metrics

        return wrapped

    folder = tmp_path_factory.mktemp('watched')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, 'make_step', watching)
        result = tiny.run(tiny.config('iccl', data, LAST), folder)
    return steps, result


@pytest.fixture(scope='module')
def first_stage(data, tmp_path_factory):
    """Workdir of a run whose first stage the others take over, and its results."""
    folder = tmp_path_factory.mktemp('first')
    return folder, train.run(tiny.config('iccl', data, LAST), folder)


def config(changes=None, data='any', **others):
    named = {f'method.{name}': value for name, value in (changes or {}).items()}
    return tiny.config('iccl', data, LAST | named | others)


def task(counts=tiny.COUNTS):
    return Task(np.array(counts), (0.5,), (0.25,))


def parameters(state, trains='all'):
    return flatten(nnx.split_state(state.model, parameter_filter(trains), ...)[0])


def moved(before, after):
    before, after = flatten(before.model), flatten(after.model)
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def finite(state, rows):
    values = [v for row in rows for v in row.values() if isinstance(v, float)]
    return all(np.isfinite(x).all() for x in jax.tree.leaves(state)) and np.isfinite(values).all()


# The losses by hand.


@pytest.fixture
def network():
    """A network with its head, centroids and a batch of both streams."""
    made = config({'train.embedding_dim': 6})
    recipe = iccl.recipe(made.method, task())
    rngs = nnx.Rngs(0)
    model = models.create('small_cnn', num_classes=3, channels=1, width=4, rngs=rngs)
    recipe.add_heads(model, rngs)
    keys = jax.random.split(jax.random.key(1), 3)

    def stream(key, labels):
        return {'view': jax.random.normal(key, (8, 12, 12, 1)), 'label': jnp.array(labels)}

    batch = stream(keys[0], [0, 0, 0, 0, 1, 1, 0, 0])
    batch |= {'class_aware': stream(keys[1], [2, 1, 0, 2, 2, 1, 0, 1])}
    centres = 0.5 * losses.normalise_rows(jax.random.normal(keys[2], (3, 6)))
    return model, batch, {'centroids': centres}


def stage_loss(stage, changes):
    made = config({'train.embedding_dim': 6} | changes)
    loss_fn = iccl.recipe(made.method, task()).stages[stage].updates[0].loss_fn

    def value_and_gradient(model, extra, batch, step):
        def value(model):
            loss = loss_fn(model, extra, batch, jax.random.key(7), step)
            return loss.value, loss.extra

        return nnx.value_and_grad(value, has_aux=True)(model)

    return made.method, nnx.jit(value_and_gradient)


def by_hand(model, extra, batch, settings, active):
    """Equations 5 to 8 put together from the golden-tested functions, and the embeddings."""
    aware, centre = (
        batch['class_aware'],
        {'centroids': extra['centroids'], 'temperature': settings.temperature},
    )
    outputs = model(batch['view'])
    embeddings = model.projection(outputs.features)
    total = losses.mean(losses.softmax_cross_entropy(outputs.logits, batch['label']))
    if not active:
        contrast = centroids.centroid_contrastive(embeddings, batch['label'], **centre)
        return total + losses.mean(contrast), embeddings
    lam = mixing.mixing_weight(jax.random.key(7), settings.lam_alpha, settings.lam_beta, shape=(8,))
    mixed = model(mixing.interpolate(batch['view'], aware['view'], lam))
    pair = {'other_labels': aware['label'], 'lam': lam}
    cross_entropy = mixing.interpolated_cross_entropy(mixed.logits, batch['label'], **pair)
    contrast = centroids.interpolative_centroid_contrastive(
        model.projection(mixed.features), batch['label'], **pair, **centre
    )
    total = settings.uniform_weight * total
    return (
        total + settings.interpolative_weight * losses.mean(cross_entropy + contrast),
        embeddings,
    )


@pytest.mark.parametrize('step', [STEPS - 1, STEPS], ids=['warm-up', 'active'])
def test_the_loss_is_the_golden_functions_put_together(network, step):
    model, batch, extra = network
    weights = {'train.uniform_weight': 0.7, 'train.interpolative_weight': 1.3}
    method, loss = stage_loss(0, weights | {'train.lam_alpha': 0.6})

    @nnx.jit
    def hand(model):
        return nnx.value_and_grad(
            lambda m: by_hand(m, extra, batch, method.train, step >= STEPS), has_aux=True
        )(model)

    ours, theirs = nnx.clone(model), nnx.clone(model)
    (value, found), gradients = loss(ours, extra, batch, step)
    (expected, embeddings), expected_gradients = hand(theirs)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for a, b in zip(
        jax.tree.leaves((gradients, nnx.state(ours, nnx.BatchStat))),
        jax.tree.leaves((expected_gradients, nnx.state(theirs, nnx.BatchStat))),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    moved_centroids = found['centroids']
    # By the uniform branch's embeddings, after the loss; the absent class stays.
    expected = centroids.update_centroids(extra['centroids'], embeddings, batch['label'])
    np.testing.assert_allclose(moved_centroids, expected, atol=1e-6)
    assert np.array_equal(moved_centroids[2], extra['centroids'][2])
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize('trains', iccl.REBALANCED)
def test_the_second_loss_distils_the_first_stage(network, trains):
    model, batch, _ = network
    method, loss = stage_loss(1, {'retrain.trains': trains, 'retrain.temperature': 3.0})
    teacher = nnx.clone(model)
    for leaf in (teacher.classifier.kernel, teacher.convs[0].kernel)[: 1 + (trains == 'all')]:
        leaf[...] = -2 * leaf[...]
    model.eval()
    teacher.eval()
    taught = nnx.split_state(nnx.state(teacher), parameter_filter(trains), ...)[0]
    (value, found), _ = loss(model, {'centroids': jnp.ones(1), 'teacher': taught}, batch, 0)
    expected = distillation.distilled_cross_entropy(
        model(batch['view']).logits,
        batch['label'],
        teacher_logits=teacher(batch['view']).logits,
        weight=method.retrain.distillation_weight,
        temperature=3.0,
    )
    assert float(value) == pytest.approx(float(losses.mean(expected)), rel=1e-5)
    assert found is None


# Who moves what.


def test_steps_come_in_order(watched):
    assert [name for name, _, _ in watched[0]] == ['train'] * 2 * STEPS + ['retrain'] * 2 * STEPS


def test_centroids_start_at_nothing_and_follow_the_embeddings(watched):
    steps = [(before, after) for name, before, after in watched[0] if name == 'train']
    assert not steps[0][0].extra['centroids'].any()
    for number, (before, after) in enumerate(steps):
        moved_by = after.extra['centroids'] - before.extra['centroids']
        assert np.linalg.norm(moved_by, axis=1).max() > 0
        # The mean of unit vectors, after at most 16 samples of a class and step.
        longest = 1 - 0.99 ** (16 * (number + 1))
        assert np.linalg.norm(after.extra['centroids'], axis=1).max() <= longest + 1e-6


def test_the_second_stage_moves_the_classifier_and_nothing_else(watched):
    steps = watched[0]
    end = [after for name, _, after in steps if name == 'train'][-1]
    for name, before, after in steps:
        if name == 'retrain':
            assert moved(before, after) == set(parameters(before, 'classifier'))
            assert tiny.same(before.extra, after.extra)
    start = steps[2 * STEPS][1]
    assert tiny.same(end.model, start.model)  # fine-tuned, not reset
    assert tiny.same(end.extra['centroids'], watched[1][0].extra['centroids'])
    assert tiny.same(flatten(start.extra['teacher']), parameters(start, 'classifier'))


def test_no_mixture_reaches_the_network_during_the_warm_up(watched, data, tmp_path):
    other = config({'train.lam_alpha': 0.1, 'train.gamma': 1.0, 'retrain.enabled': False}, data)
    trained = tiny.training(other, tmp_path)
    states = []

    def save(state, progress, score):
        states.append(jax.device_get(state))

    trained.checkpoints.save = save
    trained.run()
    trained.checkpoints.close()
    steps = [after for name, _, after in watched[0] if name == 'train']
    assert tiny.same(states[0], steps[STEPS - 1]._replace(optimizers=states[0].optimizers))
    assert not tiny.same(states[1].model, steps[-1].model)
    rows = watched[1][2]
    assert rows[0]['loss'] == pytest.approx(rows[0]['cross_entropy'] + rows[0]['contrast'])
    total = rows[1]['cross_entropy'] + rows[1]['interpolated_contrast']
    assert rows[1]['loss'] == pytest.approx(total + rows[1]['interpolated_cross_entropy'])


@pytest.mark.parametrize('gamma', [-1.0, 0.0, 0.5, 1.0])
def test_gamma_is_that_of_the_samplers(gamma):
    made = config({'train.gamma': gamma, 'retrain.gamma': gamma})
    first, second = [s.updates[0] for s in iccl.recipe(made.method, task()).stages]
    expected = class_probabilities.class_aware(tiny.COUNTS, gamma=gamma)
    assert np.array_equal(first.streams['class_aware'].sampler, expected)
    assert np.array_equal(second.sampler, expected)
    assert first.sampler == 'instance_balanced'
    if gamma == -1:
        np.testing.assert_allclose(expected, np.array(tiny.COUNTS) / sum(tiny.COUNTS))


# Switches of stage 1: they change the loss, the centroids after it, or the end of the stage.


def one_loss(network, changes=None):
    """The loss of a step after the warm-up; not compiled, which would take longer than it."""
    model, batch, extra = network
    made = config({'train.embedding_dim': 6} | (changes or {}))
    update = iccl.recipe(made.method, task()).stages[0].updates[0]
    return update.loss_fn(nnx.clone(model), extra, batch, jax.random.key(7), STEPS)


@pytest.mark.parametrize(
    'changes',
    [
        {'train.uniform_weight': 0.0},
        {'train.interpolative_weight': 3.0},
        {'train.lam_alpha': 0.2},
        {'train.lam_beta': 5.0},
        {'train.temperature': 0.05},
        {'train.warmup_epochs': 0, 'train.interpolated_cross_entropy': False},
    ],
    ids=str,
)
def test_switches_of_the_loss(network, changes):
    base, other = one_loss(network), one_loss(network, changes)
    assert np.isfinite(other.value)
    assert float(other.value) != pytest.approx(float(base.value), rel=1e-3)
    assert tiny.same(other.extra, base.extra)


@pytest.mark.parametrize('rule', iccl.CENTROID_RULES)
@pytest.mark.parametrize('normalise', [False, True])
def test_switches_of_the_centroids(network, rule, normalise):
    model, batch, extra = network
    changes = {'centroid_rule': rule, 'centroid_momentum': 0.8, 'normalise_centroids': normalise}
    found = one_loss(network, {f'train.{name}': value for name, value in changes.items()})
    embeddings = model.projection(nnx.clone(model).encode(batch['view']))
    expected = centroids.update_centroids(
        extra['centroids'], embeddings, batch['label'], momentum=0.8, rule=rule
    )
    if normalise:
        expected = losses.normalise_rows(expected)
    np.testing.assert_allclose(found.extra['centroids'], expected, atol=1e-6)
    assert float(found.value) == float(one_loss(network).value)


@pytest.mark.parametrize(
    ('changes', 'logged'),
    [
        ({'train.warmup_epochs': 0}, {'interpolated_cross_entropy', 'interpolated_contrast'}),
        ({'train.interpolated_cross_entropy': False}, {'contrast', 'interpolated_contrast'}),
        ({'train.centroid_contrast': False}, {'interpolated_cross_entropy'}),
        (
            {'train.centroid_contrast': False, 'train.interpolated_cross_entropy': False},
            set(),
        ),
        (
            {'train.gamma': -1.0},
            {'contrast', 'interpolated_cross_entropy', 'interpolated_contrast'},
        ),
    ],
    ids=lambda value: str(value if isinstance(value, dict) else sorted(value)),
)
def test_switches_of_the_first_stage(watched, data, tmp_path, changes, logged):
    state, _, rows = tiny.run(config(changes | {'retrain.enabled': False}, data), tmp_path)
    assert finite(state, rows)
    assert {row['stage'] for row in rows} == {'representation'}
    base = [after for name, _, after in watched[0] if name == 'train'][-1]
    assert not tiny.same(parameters(state), parameters(base))
    terms = {'cross_entropy', 'contrast', 'interpolated_cross_entropy', 'interpolated_contrast'}
    assert terms & set(rows[0]) == {'cross_entropy'} | logged


# Switches of stage 2: from the same first stage, they change the end.


@pytest.mark.parametrize(
    ('changes', 'what'),
    [
        ({'retrain.gamma': 0.0}, 'classifier'),
        ({'retrain.distillation_weight': 0.0}, 'classifier'),
        ({'retrain.temperature': 1.0}, 'classifier'),
        ({'retrain.reset_classifier': True}, 'classifier'),
        ({'retrain.trains': 'all'}, 'all'),
    ],
    ids=str,
)
def test_switches_of_the_second_stage(watched, data, first_stage, tmp_path, changes, what):
    made = config(changes, data, start_from=str(first_stage[0]))
    state, _, rows = tiny.run(made, tmp_path)
    assert finite(state, rows)
    assert [row['stage'] for row in rows] == ['rebalance'] * 2
    base = watched[1][0]
    assert not tiny.same(parameters(state, 'classifier'), parameters(base, 'classifier'))
    encoder = tiny.same(parameters(state, 'encoder'), parameters(base, 'encoder'))
    assert encoder is (what == 'classifier')
    statistics = [nnx.split_state(s.model, nnx.BatchStat, ...)[0] for s in (state, base)]
    assert tiny.same(*map(flatten, statistics))


def test_a_borrowed_first_stage_gives_the_same_state(watched, data, first_stage, tmp_path):
    made = config({}, data, start_from=str(first_stage[0]))
    state, _, _ = tiny.run(made, tmp_path)
    assert tiny.same(state, watched[1][0])


def test_distillation_alone_leaves_the_classifier_where_it_is(data, first_stage, tmp_path):
    changes = {'retrain.distillation_weight': 1.0, 'retrain.optimizer.weight_decay': 0.0}
    made = config(changes, data, start_from=str(first_stage[0]))
    _, _, rows = tiny.run(made, tmp_path)
    assert all(row['loss'] == pytest.approx(0, abs=1e-5) for row in rows)
    assert all(row['gradient_norm'] == pytest.approx(0, abs=1e-4) for row in rows)


# What lasts.


def test_the_report_draws_the_norms_of_the_centroids(watched, first_stage):
    plots = {plot['title']: plot['per_class'] for plot in first_stage[1]['plots']}
    norms = np.linalg.norm(watched[1][0].extra['centroids'], axis=1)
    np.testing.assert_allclose(plots['norm of class centroids'], norms, rtol=1e-6)
    assert (norms > 0).all()
    assert 'norm of class centroids' in (first_stage[0] / 'report.html').read_text('utf-8')


@pytest.mark.parametrize('at', [1, 2, 3])
def test_centroids_and_teacher_survive_an_interruption_bit_for_bit(watched, data, tmp_path, at):
    tiny.interrupt(config({}, data), tmp_path, at=at)
    state, _, _ = tiny.run(config({}, data), tmp_path)
    assert tiny.same(state, watched[1][0])


def test_one_device_and_eight_train_the_same(watched, data, tmp_path):
    one = sharding.make_mesh(jax.devices()[:1])
    state, _, rows = tiny.run(config({}, data), tmp_path, mesh=one)
    for a, b in zip(
        jax.tree.leaves((state.model, state.extra)),
        jax.tree.leaves((watched[1][0].model, watched[1][0].extra)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=5e-3, atol=5e-3)
    for a, b in zip(rows, watched[1][2], strict=True):
        assert a['loss'] == pytest.approx(b['loss'], rel=1e-2)


def test_a_class_of_one_image_runs_to_the_end(tmp_path):
    path = tiny.npz(tmp_path / 'data.npz', **tiny.arrays((32, 16, 1)))
    state, _, rows = tiny.run(config({}, path), tmp_path / 'run')
    assert finite(state, rows)


# Mistakes.


@pytest.mark.parametrize(
    ('key', 'value', 'message'),
    [
        ('train.centroid_rule', 'means', "unknown centroid_rule 'means': did you mean mean"),
        ('retrain.trains', 'encoder', "unknown part to rebalance 'encoder'.*all, classifier"),
        ('train.warmup_epochs', 2, 'none of 2 epochs: use 0 to 1'),
        ('train.warmup_epochs', -1, 'use 0 to 1'),
        ('train.lam_beta', 0.0, 'train.lam_beta is 0.0: use a positive number'),
        ('train.temperature', -1.0, 'train.temperature is -1.0'),
        ('train.embedding_dim', 0, 'train.embedding_dim is 0'),
        ('train.centroid_momentum', 1.5, 'centroid_momentum is 1.5: use a number from 0 to 1'),
        ('retrain.distillation_weight', -0.5, 'retrain.distillation_weight is -0.5'),
        ('retrain.temperature', 0.0, 'retrain.temperature is 0.0'),
        ('retrain.epochs', 0, 'no step'),
        ('retrain.view', 'weak', "unknown augmentation 'weak'"),
    ],
)
def test_mistakes_in_the_recipe(key, value, message):
    with pytest.raises(UserError, match=message) as error:
        iccl.recipe(config({key: value}).method, task())
    assert '\n' not in str(error.value)
