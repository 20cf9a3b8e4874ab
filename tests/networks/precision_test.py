import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.networks import build_discriminator
from gdd_keras.networks import build_generator
from gdd_keras.networks import fast_precision
from gdd_keras.networks.precision import float32_copy
from gdd_keras.networks.precision import layer_precision

SHAPE = (8, 8, 1)
MIXED = "mixed_bfloat16"


def test_policy_is_put_back():
    before = keras.config.dtype_policy()
    with pytest.raises(RuntimeError), layer_precision(MIXED):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise RuntimeError
    assert keras.config.dtype_policy() == before


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx512_bf16", "sse"}, MIXED),
        ({"amx_bf16"}, MIXED),
        ({"avx512f"}, "float32"),
        (set(), "float32"),
    ],
)
def test_fast_precision_of_a_cpu(flags, expected, monkeypatch):
    monkeypatch.setattr("gdd_keras.networks.precision.cpu_flags", lambda: flags)
    assert fast_precision() == expected


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), "float32"), ((9, 0), MIXED)]
)
def test_fast_precision_of_a_gpu(capability, expected, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    monkeypatch.setattr(
        tf.config.experimental,
        "get_device_details",
        lambda gpu: {"compute_capability": capability},
    )
    assert fast_precision() == expected


def test_generator_in_mixed_precision():
    mixed, exact = (
        build_generator(SHAPE, 3, "compact", 5, 4, seed=1, precision=precision)
        for precision in (MIXED, "float32")
    )
    inputs = [tf.random.normal((4, 5)), tf.one_hot([0, 1, 2, 0], 3)]
    images = mixed(inputs)
    assert images.dtype == tf.float32
    assert any(layer.compute_dtype == "bfloat16" for layer in mixed.layers)
    assert {v.dtype for v in mixed.variables} == {"float32"}
    # bfloat16 has 8 bits; the copy has them all.
    np.testing.assert_allclose(images, exact(inputs), atol=0.02)
    assert np.any(images != exact(inputs))
    copy = float32_copy(mixed)
    assert all(layer.compute_dtype == "float32" for layer in copy.layers)
    np.testing.assert_allclose(copy(inputs), exact(inputs), rtol=1e-6)


@pytest.mark.parametrize("architecture", ["compact", "dim"])
@pytest.mark.parametrize("conditioning", ["auxiliary", "projection"])
def test_discriminator_in_mixed_precision(architecture, conditioning):
    mixed, exact = (
        build_discriminator(
            SHAPE, 3, architecture, conditioning, 4, seed=1, precision=precision
        )
        for precision in (MIXED, "float32")
    )
    images = tf.random.stateless_normal((4, *SHAPE), seed=(0, 0))
    inputs = [images, tf.one_hot([0, 1, 2, 0], 3)]
    expected = exact(inputs, training=True)
    for name, values in mixed(inputs, training=True).items():
        assert values.dtype == tf.float32
        np.testing.assert_allclose(values, expected[name], atol=0.05)


def test_spectral_norm_does_not_round_the_weights():
    discriminator = build_discriminator(SHAPE, 3, width=4, precision=MIXED)
    inputs = [tf.random.normal((4, *SHAPE)), tf.one_hot([0, 1, 2, 0], 3)]
    discriminator(inputs, training=True)
    for variable in discriminator.trainable_variables:
        value = tf.convert_to_tensor(variable.value)
        rounded = tf.cast(tf.cast(value, tf.bfloat16), tf.float32)
        if variable.name == "kernel":
            assert np.any(value != rounded), variable.path
