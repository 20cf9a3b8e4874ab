import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.losses import feature_matching_loss
from gdd_keras.losses import logit_matching_loss


def pair(shape):
    generator = np.random.default_rng(0)
    return (generator.normal(size=(2, *shape))).astype("float32")


CASES = [(logit_matching_loss, (6, 10)), (feature_matching_loss, (6, 4, 5, 3))]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("loss", "shape"), CASES)
def test_equals_numpy(loss, shape, reduction):
    real, generated = pair(shape)
    squares = np.square(real.astype("float64") - generated)
    got = loss(real, generated, reduction)
    assert got.shape == ()
    np.testing.assert_allclose(got, getattr(squares, reduction)(), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("loss", "shape"), CASES)
def test_identities(loss, shape, reduction):
    real, generated = pair(shape)
    assert float(loss(real, real, reduction)) == 0.0
    value = float(loss(real, generated, reduction))
    assert float(loss(generated, real, reduction)) == value
    np.testing.assert_allclose(
        loss(3 * real, 3 * generated, reduction), 9 * value, rtol=1e-5
    )
    # Pairs may come in any order, but they are pairs.
    np.testing.assert_allclose(
        loss(real[::-1], generated[::-1], reduction), value, rtol=1e-6
    )
    assert abs(float(loss(real[::-1], generated, reduction)) - value) > 1e-4


@pytest.mark.parametrize(("loss", "shape"), CASES)
def test_mean_is_the_default(loss, shape):
    real, generated = pair(shape)
    assert float(loss(real, generated)) == float(loss(real, generated, "mean"))


@pytest.mark.parametrize(("loss", "shape"), CASES)
def test_gradient_closed_form(loss, shape):
    real, generated = (tf.constant(values) for values in pair(shape))
    with tf.GradientTape() as tape:
        tape.watch(generated)
        value = loss(real, generated, "sum")
    np.testing.assert_allclose(
        tape.gradient(value, generated), 2 * (generated - real), rtol=1e-6
    )


def test_errors():
    real, generated = pair((6, 10))
    for loss, what in (
        (logit_matching_loss, "logits"),
        (feature_matching_loss, "features"),
    ):
        with pytest.raises(
            ValueError,
            match=rf"Real and generated {what} must have the same shape. "
            r"Received: \(6, 10\) and \(5, 10\).",
        ):
            loss(real, generated[:5])
        with pytest.raises(
            ValueError,
            match="`matching_reduction` must be mean or sum. Received: "
            "matching_reduction=max.",
        ):
            loss(real, generated, "max")
