import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.losses import classification_loss
from gdd_keras.losses import discriminator_loss
from gdd_keras.losses import generator_loss

NAMES = ("non_saturating", "hinge", "wgan_gp")


def scores(seed, size=7):
    values = np.random.default_rng(seed).normal(0.0, 2.0, size)
    return values.astype("float32")


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x.astype("float64")))


DISCRIMINATOR_TWINS = {
    "non_saturating": lambda real, generated: (
        -np.log(sigmoid(real)).mean() - np.log(1 - sigmoid(generated)).mean()
    ),
    "hinge": lambda real, generated: (
        np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + generated).mean()
    ),
    "wgan_gp": lambda real, generated: generated.mean() - real.mean(),
}
GENERATOR_TWINS = {
    "non_saturating": lambda generated: -np.log(sigmoid(generated)).mean(),
    "hinge": lambda generated: -generated.mean(),
    "wgan_gp": lambda generated: -generated.mean(),
}


@pytest.mark.parametrize("name", NAMES)
def test_losses_equal_numpy(name):
    real, generated = scores(0), scores(1)
    loss = discriminator_loss(name, real, generated)
    assert loss.shape == ()
    np.testing.assert_allclose(
        loss, DISCRIMINATOR_TWINS[name](real, generated), rtol=1e-6
    )
    np.testing.assert_allclose(
        generator_loss(name, generated),
        GENERATOR_TWINS[name](generated),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("name", "undecided", "perfect"),
    [("non_saturating", 2 * np.log(2), 0), ("hinge", 2, 0), ("wgan_gp", 0, -8)],
)
def test_undecided_and_perfect_discriminator(name, undecided, perfect):
    zeros, ones = np.zeros(3, "float32"), np.ones(3, "float32")
    np.testing.assert_allclose(
        discriminator_loss(name, zeros, zeros), undecided, rtol=1e-6
    )
    scale = 4 if name == "wgan_gp" else 100
    np.testing.assert_allclose(
        discriminator_loss(name, scale * ones, -scale * ones),
        perfect,
        atol=1e-6,
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_two_networks_pull_apart(name):
    generated = tf.constant(scores(1))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(generated)
        against = discriminator_loss(name, scores(0), generated)
        towards = generator_loss(name, generated)
    assert (tape.gradient(towards, generated).numpy() < 0).all()
    gradients = tape.gradient(against, generated).numpy()
    assert (gradients >= 0).all()
    assert gradients.any()


@pytest.mark.parametrize("name", NAMES)
def test_large_scores_stay_finite(name):
    huge = np.array([1e4, -1e4], "float32")
    assert np.isfinite(discriminator_loss(name, huge, huge))
    assert np.isfinite(generator_loss(name, huge))


@pytest.mark.parametrize("name", NAMES)
def test_order_of_the_batch_is_irrelevant(name):
    real, generated = scores(0), scores(1)
    np.testing.assert_allclose(
        discriminator_loss(name, real[::-1], generated),
        discriminator_loss(name, real, generated),
        rtol=1e-6,
    )


def test_unknown_names():
    message = "`cgan_loss` must be one of .* Received: cgan_loss=lsgan."
    with pytest.raises(ValueError, match=message):
        discriminator_loss("lsgan", scores(0), scores(1))
    with pytest.raises(ValueError, match=message):
        generator_loss("lsgan", scores(0))


def test_classification_loss_equals_numpy():
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    labels = np.array([0, 3, 1, 1, 2, 0], "int32")
    exponents = np.exp(logits.astype("float64"))
    shares = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        classification_loss(labels, logits),
        -np.log(shares[np.arange(6), labels]).mean(),
        rtol=1e-6,
    )


def test_classification_loss_closed_forms():
    labels = np.array([1, 0], "int32")
    np.testing.assert_allclose(
        classification_loss(labels, np.zeros((2, 10), "float32")),
        np.log(10.0),
        rtol=1e-6,
    )
    certain = 1e4 * keras.ops.one_hot(labels, 2)
    assert float(classification_loss(labels, certain)) == 0.0
    assert np.isfinite(classification_loss(1 - labels, certain))


def test_classification_loss_of_soft_labels():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6, 4)).astype("float32")
    labels = generator.dirichlet(np.ones(4), 6).astype("float32")
    exponents = np.exp(logits.astype("float64"))
    shares = exponents / exponents.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        classification_loss(labels, logits),
        -(labels * np.log(shares)).sum(axis=1).mean(),
        rtol=1e-6,
    )
    certain = np.array([0, 3, 1, 1, 2, 0], "int32")
    np.testing.assert_allclose(
        classification_loss(np.eye(4, dtype="float32")[certain], logits),
        classification_loss(certain, logits),
        rtol=1e-6,
    )
