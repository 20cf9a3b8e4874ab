import keras
import numpy as np
import pytest

from gdd_keras.config import make_config
from gdd_keras.networks import build_generator
from gdd_keras.networks.generator import count_halvings

SHAPES = [(8, 8, 1), (9, 11, 3), (28, 28, 1), (40, 24, 3), (33, 64, 3)]
ARCHITECTURES = ("compact", "residual", "dim")


def build(shape=(8, 8, 1), architecture="compact", seed=0):
    return build_generator(shape, 4, architecture, 6, 4, seed=seed)


def latents(batch, seed=0):
    values = np.random.default_rng(seed).normal(size=(batch, 6))
    return values.astype("float32")


def one_hot(*labels):
    return np.eye(4, dtype="float32")[list(labels)]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((8, 8, 1), 1),
        ((15, 15, 1), 1),
        ((16, 16, 1), 2),
        ((28, 28, 1), 2),
        ((32, 32, 3), 3),
        ((24, 40, 3), 2),
        ((64, 64, 3), 4),
        ((1024, 8, 3), 1),
    ],
)
def test_count_halvings(shape, expected):
    assert count_halvings(shape) == expected
    assert min(shape[:2]) / 2**expected >= 4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shape", SHAPES)
def test_images(shape, architecture):
    generator = build(shape, architecture)
    assert generator.output_shape == (None, *shape)
    images = generator([latents(3), one_hot(0, 1, 2)], training=True).numpy()
    assert images.shape == (3, *shape)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1.0
    # Not one value everywhere, right up to the borders.
    assert images[:, 0].std() > 1e-3
    assert images[:, -1].std() > 1e-3
    assert images[:, :, -1].std() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_label_and_latents_change_the_image(architecture):
    generator = build((9, 11, 3), architecture)
    z = latents(1)
    images = generator(
        [np.repeat(z, 4, 0), one_hot(0, 1, 2, 3)], training=False
    ).numpy()
    for first in range(4):
        for second in range(first):
            assert np.abs(images[first] - images[second]).max() > 1e-4
    other = generator([latents(1, seed=1), one_hot(0)], training=False)
    assert np.abs(other - images[:1]).max() > 1e-4


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_follow_the_seed(architecture):
    first, same, other = (
        build(architecture=architecture, seed=seed).get_weights()
        for seed in (3, 3, 4)
    )
    for left, right in zip(first, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert (first[0] != other[0]).any()


def test_last_layer_is_a_tanh():
    # Saturated, so that both ends of the range are reached and not passed.
    generator = build()
    generator.set_weights([50 * weight for weight in generator.get_weights()])
    images = generator([latents(20), one_hot(*[0] * 20)], training=True)
    assert images.numpy().min() == pytest.approx(-1.0, abs=1e-4)
    assert images.numpy().max() == pytest.approx(1.0, abs=1e-4)


def test_batch_normalisation_has_two_modes():
    generator = build()
    inputs = [latents(5), one_hot(0, 1, 2, 3, 0)]
    before = [w.copy() for w in generator.get_weights()]
    in_training = generator(inputs, training=True)
    after = generator.get_weights()
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    assert np.abs(in_training - generator(inputs, training=False)).max() > 1e-4
    for a, b in zip(after, generator.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_residual_adds_a_convolution_to_each_doubling():
    plain, residual = (
        build((33, 64, 3), architecture) for architecture in ARCHITECTURES[:2]
    )
    # Doublings to 16, 8 and 4 channels: a 3 x 3 convolution each, and batch
    # normalisation's four values a channel.
    added = sum(9 * width**2 + 4 * width for width in (16, 8, 4))
    assert residual.count_params() - plain.count_params() == added
    # A branch of zeros leaves what it is added to.
    branches = set()
    for layer in residual.layers:
        if isinstance(layer, keras.layers.Add):
            norm = layer.input[1]._keras_history.operation
            branches |= {norm, norm.input._keras_history.operation}
    assert len(branches) == 6
    values = iter(plain.get_weights())
    for layer in residual.layers:
        weights = layer.get_weights()
        if layer in branches:
            layer.set_weights([np.zeros_like(value) for value in weights])
        else:
            layer.set_weights([next(values) for _ in weights])
    inputs = [latents(3), one_hot(0, 1, 2)]
    np.testing.assert_allclose(
        residual(inputs, training=False),
        plain(inputs, training=False),
        atol=1e-6,
    )


def test_paper_preset_has_the_size_of_dim():
    networks = make_config("paper").networks
    generator = build_generator(
        (32, 32, 3),
        10,
        networks.generator,
        networks.latent_dim,
        networks.generator_width,
    )
    # DiM writes the label over ten of its 100 latents; 90 + 10 is the same.
    assert generator.input_shape == [(None, 90), (None, 10)]
    assert generator.count_params() == pytest.approx(3.56e6, rel=0.01)


def test_compact_preset_is_small():
    networks = make_config("compact").networks
    generator = build_generator(
        (32, 32, 3),
        10,
        networks.generator,
        networks.latent_dim,
        networks.generator_width,
    )
    assert generator.count_params() < 1.2e6
