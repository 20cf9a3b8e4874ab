import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.inference import exported_network
from gdd_keras.inference import keras_network
from gdd_keras.inference import stored_weights
from gdd_keras.metadata import read_metadata


@pytest.fixture(scope="module", params=["keras", "exported"])
def network(request, tiny_generator, tiny_saved_model):
    if request.param == "keras":
        return keras_network(tiny_generator)
    return exported_network(tiny_saved_model, read_metadata(tiny_saved_model))


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(5, 6)).astype(np.float32)
    # Mixed labels: no row is one-hot.
    vectors = rng.dirichlet([1, 1, 1], 5).astype(np.float32)
    return latents, vectors


def test_network_is_the_generator(network, tiny_generator, inputs):
    assert network.latent_dim == 6
    assert network.num_classes == 3
    assert network.image_shape == (6, 10, 3)
    assert sum(w.size for w in network.weights) == tiny_generator.count_params()
    images = tf.function(network.call)(network.weights, *inputs)
    expected = tiny_generator(list(inputs), training=False)
    np.testing.assert_allclose(images, expected, rtol=1e-6, atol=1e-6)


def test_network_depends_on_the_weights_that_it_gets(network, inputs):
    zeros = [np.zeros_like(weight) for weight in network.weights]
    images = tf.function(network.call)(zeros, *inputs)
    np.testing.assert_array_equal(images, np.zeros((5, 6, 10, 3)))


def test_network_computes_half_weights_in_float32(network, inputs):
    half = stored_weights(network.weights, "float16")
    whole = [weight.astype(np.float32) for weight in half]
    call = tf.function(network.call)
    np.testing.assert_array_equal(call(half, *inputs), call(whole, *inputs))
    assert call(half, *inputs).dtype == tf.float32


def test_half_weights_convert_back(tiny_generator, inputs, tmp_path):
    from gdd_keras.export import export_generator

    version = export_generator(
        tiny_generator,
        tmp_path / "set",
        {"class_names": ["a", "b", "c"]},
        weights="float16",
    )
    half = exported_network(version, read_metadata(version))
    assert {weight.dtype.name for weight in half.weights} == {
        "float16",
        "float32",
    }
    expected = keras_network(tiny_generator)
    weights = stored_weights(expected.weights, "float16")
    np.testing.assert_allclose(
        tf.function(half.call)(half.weights, *inputs),
        tf.function(expected.call)(weights, *inputs),
        rtol=1e-6,
        atol=1e-6,
    )


def stored(value):
    (kept,) = stored_weights([np.asarray(value, np.float32)], "float16")
    return kept


def test_matrices_are_stored_as_half():
    value = np.random.default_rng(0).normal(0.0, 0.02, (3, 3, 8, 4))
    kept = stored(value)
    assert kept.dtype == np.float16
    # Half has 11 binary digits.
    np.testing.assert_allclose(kept, value, rtol=2**-11, atol=6e-8)
    assert stored(np.zeros((2, 2))).dtype == np.float16


@pytest.mark.parametrize(
    "value",
    [
        np.linspace(0, 1, 9),
        # A vector in the shape in which ONNX adds it to images.
        np.ones((1, 9, 1, 1)),
        [[1.0, 70_000.0]],
        [[1.0, -70_000.0]],
        # Below 2^-14 half has fewer digits.
        np.full((4, 4), 1.2345e-6),
        [[1e-9, 2e-9], [3e-9, 4e-9]],
    ],
)
def test_what_half_would_spoil_stays_float32(value):
    kept = stored(value)
    assert kept.dtype == np.float32
    np.testing.assert_array_equal(kept, np.asarray(value, np.float32))


def test_few_tiny_values_do_not_count():
    value = np.ones((8, 8))
    value[0, 0] = 1e-9
    assert stored(value).dtype == np.float16


def test_float32_keeps_everything():
    values = [np.ones((2, 2), np.float16), np.ones(3, np.float32)]
    assert {weight.dtype for weight in stored_weights(values)} == {
        np.dtype(np.float32)
    }
