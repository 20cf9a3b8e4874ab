import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.losses import kl_loss
from gdd_keras.losses import reconstruction_loss

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (2, 3, 4, 5, 2)).astype("float32")
MEAN, LOG_VARIANCE = RNG.normal(size=(2, 3, 4)).astype("float32")


def test_reconstruction_equals_numpy():
    expected = np.mean((IMAGES[0].astype("float64") - IMAGES[1]) ** 2)
    got = reconstruction_loss(*IMAGES)
    assert got.shape == ()
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert float(reconstruction_loss(IMAGES[0], IMAGES[0])) == 0.0


def test_kl_equals_numpy():
    mean, log_variance = MEAN.astype("float64"), LOG_VARIANCE.astype("float64")
    expected = 0.5 * np.mean(
        np.sum(
            mean**2 + np.exp(log_variance) - 1 - log_variance,
            axis=1,
        )
    )
    got = kl_loss(MEAN, LOG_VARIANCE)
    assert got.shape == ()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_kl_is_zero_at_the_prior_alone():
    zeros = np.zeros((3, 4), "float32")
    assert float(kl_loss(zeros, zeros)) == 0.0
    assert float(kl_loss(zeros + 0.1, zeros)) > 0.0
    assert float(kl_loss(zeros, zeros - 0.1)) > 0.0
    assert float(kl_loss(zeros, zeros + 0.1)) > 0.0


def test_kl_is_the_mean_log_ratio_of_densities():
    # E_q[log q(z) - log p(z)] over many draws of one entry.
    mean, log_variance = 0.7, -0.9
    deviation = np.exp(0.5 * log_variance)
    draws = mean + deviation * np.random.default_rng(1).normal(size=400_000)
    log_q = -0.5 * ((draws - mean) / deviation) ** 2 - np.log(deviation)
    expected = np.mean(log_q + 0.5 * draws**2)
    got = kl_loss(np.float32([[mean]]), np.float32([[log_variance]]))
    assert float(got) == pytest.approx(expected, abs=0.005)


def test_kl_gradient_closed_form():
    mean, log_variance = tf.constant(MEAN), tf.constant(LOG_VARIANCE)
    with tf.GradientTape() as tape:
        tape.watch([mean, log_variance])
        value = kl_loss(mean, log_variance)
    by_mean, by_log_variance = tape.gradient(value, [mean, log_variance])
    rows = len(MEAN)
    np.testing.assert_allclose(by_mean, MEAN / rows, rtol=1e-5)
    np.testing.assert_allclose(
        by_log_variance, (np.exp(LOG_VARIANCE) - 1) / 2 / rows, rtol=1e-4
    )
