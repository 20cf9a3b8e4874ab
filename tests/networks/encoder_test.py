import keras
import numpy as np
import pytest

from gdd_keras.networks import build_encoder
from gdd_keras.networks.precision import float32_copy


def images(shape, seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, (5, *shape))
    return values.astype("float32")


def one_hot(label):
    return np.tile(np.eye(3, dtype="float32")[label], (5, 1))


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 11, 3), (40, 24, 3)])
def test_shapes(shape, precision):
    encoder = build_encoder(shape, 3, 6, 4, precision=precision)
    encoded = encoder([images(shape), one_hot(0)], training=True)
    assert set(encoded) == {"mean", "log_variance"}
    for values in encoded.values():
        assert values.shape == (5, 6)
        assert values.dtype == "float32"
        assert np.std(values) > 1e-3


def test_image_and_label_count():
    encoder = build_encoder((8, 8, 1), 3, 6, 4)
    first, other = (images((8, 8, 1), seed) for seed in range(2))
    base = encoder([first, one_hot(0)])
    for changed in ([other, one_hot(0)], [first, one_hot(1)]):
        encoded = encoder(changed)
        for name, values in base.items():
            assert np.abs(values - encoded[name]).max() > 1e-3


def test_log_variance_is_bounded():
    encoder = build_encoder((8, 8, 1), 3, 6, 4)
    encoder.set_weights([1e3 * weight for weight in encoder.get_weights()])
    log_variance = encoder([images((8, 8, 1)), one_hot(0)])["log_variance"]
    assert set(np.unique(log_variance)) == {-8.0, 4.0}


def test_seed_decides():
    first, same, other = (
        build_encoder((8, 8, 1), 3, 6, 4, seed=seed).get_weights()
        for seed in (0, 0, 1)
    )
    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_float32_copy():
    encoder = build_encoder((8, 8, 1), 3, 6, 4, precision="mixed_bfloat16")
    copy = float32_copy(encoder)
    policies = {
        layer.dtype_policy.name
        for layer in copy.layers
        if isinstance(layer, keras.layers.Conv2D)
    }
    assert policies == {"float32"}
    inputs = [images((8, 8, 1)), one_hot(2)]
    np.testing.assert_allclose(
        copy(inputs)["mean"], encoder(inputs)["mean"], atol=0.05
    )
