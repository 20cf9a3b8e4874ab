import keras

from gdd_keras.networks import build_discriminator
from gdd_keras.networks import build_generator
from gdd_keras.networks import count_multiply_adds


def test_published_networks():
    generator = build_generator((32, 32, 1), 10)
    # 100 -> 4 x 4 x 256; to 128, 64, 32 channels; 3 x 3 to one.
    assert count_multiply_adds(generator) == (
        100 * 4096
        + 16 * 16 * 256 * 128
        + 64 * 16 * 128 * 64
        + 256 * 16 * 64 * 32
        + 1024 * 9 * 32
    )
    discriminator = build_discriminator((32, 32, 1), 10)
    assert count_multiply_adds(discriminator) == (
        256 * 16 * 64
        + 64 * 16 * 64 * 128
        + 16 * 16 * 128 * 256
        + 4096 * (1 + 10)
    )


def test_strides_padding_and_inner_models():
    inner = keras.Sequential(
        [keras.Input((6, 7, 2)), keras.layers.Conv2D(3, 3, strides=2)]
    )
    inputs = keras.Input((6, 7, 2))
    outputs = keras.layers.Flatten()(inner(inputs))
    model = keras.Model(inputs, keras.layers.Dense(4)(outputs))
    assert count_multiply_adds(model) == 2 * 3 * (9 * 2 * 3) + 18 * 4
