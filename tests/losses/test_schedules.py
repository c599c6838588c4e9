import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ltjax.losses import class_weights, schedules

EPOCHS = np.arange(420)
SCHEDULES = {
    'ldam': schedules.ldam_learning_rate(0.1),
    'gcl': schedules.gcl_learning_rate(0.1),
    'gcl_finetune': schedules.gcl_finetune_learning_rate(0.1),
    'paco': schedules.paco_learning_rate(0.1),
    'cc_sam': schedules.cc_sam_learning_rate(0.1),
    'aduni': schedules.aduni_learning_rate(0.1),
    'alpha': schedules.aduni_alpha(),
    'bbn': schedules.bilateral_coefficient(200),
    'cc_sam_coefficient': schedules.cc_sam_coefficient(start=10, end=20),
}


@pytest.mark.parametrize('schedule', SCHEDULES.values(), ids=SCHEDULES.keys())
def test_an_epoch_an_array_of_them_and_a_traced_one_are_the_same(schedule):
    values = schedule(EPOCHS)
    assert values.shape == EPOCHS.shape
    compiled = jax.jit(schedule)
    for epoch in (0, 3, 161, 200, 419):
        for value in (schedule(epoch), compiled(jnp.int32(epoch))):
            np.testing.assert_allclose(value, values[epoch], rtol=1e-5, atol=1e-7)


def test_schedules_drive_an_optimiser():
    optimiser = optax.sgd(schedules.ldam_learning_rate(0.1))
    updates, _ = optimiser.update(jnp.ones(1), optimiser.init(jnp.ones(1)))
    np.testing.assert_allclose(updates, [-0.02], rtol=1e-6)


def test_a_multistep_without_warmup_is_optax():
    drops = {3: 0.1, 7: 0.5}
    ours = schedules.warmup_multistep(2.0, warmup_epochs=0, drops=drops)
    theirs = optax.piecewise_constant_schedule(2.0, drops)
    np.testing.assert_allclose(ours(EPOCHS), theirs(EPOCHS), rtol=1e-6)


def test_a_cosine_is_optax_until_its_end():
    ours = schedules.cosine_schedule(0.1, epochs=90, floor=0.02)(EPOCHS[:91])
    theirs = optax.cosine_decay_schedule(0.1, 90, alpha=0.2)(EPOCHS[:91])
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_warmup_ends_at_the_peak():
    rate = schedules.warmup_multistep(1.0, warmup_epochs=4, warmup_start=0.2, drops={})
    np.testing.assert_allclose(rate(np.arange(6)), [0.4, 0.6, 0.8, 1, 1, 1], rtol=1e-6)


def test_alpha_falls_from_peak_to_floor():
    alpha = np.asarray(schedules.aduni_alpha(2.0, 0.5, decay_epochs=50)(EPOCHS))
    assert alpha[0] == 2.0
    assert (np.diff(alpha) <= 0).all()
    np.testing.assert_array_equal(alpha[50:], 0.5)
    half = schedules.aduni_alpha(2.0, 0.5, decay_epochs=50, reading='half_cosine')
    np.testing.assert_allclose(half(25), 1.25, rtol=1e-6)
    printed = schedules.aduni_alpha(2.0, 0.5, decay_epochs=50, reading='printed')
    np.testing.assert_allclose(printed(0), 3.5, rtol=1e-6)
    with pytest.raises(ValueError, match="reading must be .*, got 'literal'"):
        schedules.aduni_alpha(reading='literal')


@pytest.mark.parametrize(('epochs', 'divisor'), [(90, 100), (180, 200), (200, 200), (60, 60)])
def test_bbn_divides_by_round_numbers(epochs, divisor):
    alpha = schedules.bilateral_coefficient(epochs)(EPOCHS[:epochs])
    np.testing.assert_allclose(alpha[-1], 1 - ((epochs - 1) / divisor) ** 2, rtol=1e-4)
    assert (np.diff(alpha) < 0).all()


def test_the_coefficient_of_cc_sam_rises_to_its_limit():
    coefficient = schedules.cc_sam_coefficient(start=10, end=20, limit=0.35)(EPOCHS)
    np.testing.assert_array_equal(coefficient[:10], 0)
    np.testing.assert_allclose(coefficient[10:14], [0.1, 0.2, 0.3, 0.35], rtol=1e-5)
    np.testing.assert_allclose(coefficient[14:], 0.35, rtol=1e-6)


def test_progress_goes_from_0_to_1():
    share = schedules.progressive_share(np.arange(90), epochs=90)
    assert share.dtype == np.float64
    np.testing.assert_allclose(share, np.linspace(0, 1, 90), rtol=1e-14)
    assert schedules.progressive_share(0, epochs=1) == 0


def test_reweighting_is_deferred():
    counts = [1000, 100, 1]
    np.testing.assert_array_equal(schedules.deferred_weights(counts, epoch=4, start=5), 1)
    np.testing.assert_array_equal(
        schedules.deferred_weights(counts, epoch=5, start=5, beta=0.99),
        class_weights.effective_number_weights(counts, beta=0.99),
    )
    beta = schedules.deferred_beta(np.arange(4), start=2, beta=0.9)
    np.testing.assert_array_equal(beta, [0, 0, 0.9, 0.9])
