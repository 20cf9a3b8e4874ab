"""Encoder q(z | x, y): the latents under which G makes an image again."""

import keras
from keras import layers

from gdd_keras.networks.generator import count_halvings
from gdd_keras.networks.generator import norm_activation
from gdd_keras.networks.initializers import seeded_initializers
from gdd_keras.networks.precision import layer_precision

__all__ = ["build_encoder"]

# Outside, a sample would be its mean in float32, or noise without end.
_LOG_VARIANCES = (-8.0, 4.0)


def build_encoder(
    image_shape,
    num_classes,
    latent_dim=64,
    width=64,
    seed=0,
    synchronized=False,
    precision=None,
):
    """Builds q(z | x, y), a normal distribution without correlations.

    Strided 4x4 convolutions with batch normalisation, channels doubling from
    `width`, then a dense layer on features and label: the generator's mirror
    image.

    Reference:
        - [Kingma & Welling, 2014](https://arxiv.org/abs/1312.6114)
        - [Bao et al., 2017](https://arxiv.org/abs/1703.10155), for the encoder
          of a conditional GAN

    Args:
        image_shape: `(height, width, channels)`, at least 8 pixels a side.
        num_classes: Length of the one-hot label.
        latent_dim: Length of z.
        width: Channels of the first convolution.
        seed: Integer seed of the weights.
        synchronized: As in `build_generator`.
        precision: As in `build_classifier`.

    Returns:
        `keras.Model` called as `encoder([images, one_hot_labels])`; gives a
        dict of float32 `"mean"` and `"log_variance"` `(batch, latent_dim)`,
        the latter within [-8, 4].
    """
    with seeded_initializers(seed), layer_precision(precision):
        images = keras.Input(image_shape, name="images")
        one_hot_labels = keras.Input((num_classes,), name="one_hot_labels")
        x = images
        for index in range(count_halvings(image_shape)):
            x = layers.Conv2D(
                width * 2**index, 4, strides=2, padding="same", use_bias=False
            )(x)
            x = norm_activation(x, layers.LeakyReLU(0.1), synchronized)
        x = layers.Concatenate()([layers.Flatten()(x), one_hot_labels])
        # float32 under mixed precision too, as the losses need it.
        mean = layers.Dense(latent_dim, dtype="float32", name="mean")(x)
        log_variance = layers.Dense(
            latent_dim, dtype="float32", name="unbounded_log_variance"
        )(x)
        log_variance = keras.ops.clip(log_variance, *_LOG_VARIANCES)
    return keras.Model(
        [images, one_hot_labels],
        {"mean": mean, "log_variance": log_variance},
        name="encoder",
    )
