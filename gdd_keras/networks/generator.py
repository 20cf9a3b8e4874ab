"""Conditional generators for any image size from 8 pixels up."""

import math

import keras
from keras import layers

from gdd_keras.networks.initializers import seeded_initializers
from gdd_keras.networks.precision import layer_precision

__all__ = ["build_generator", "count_halvings", "norm_activation"]

# Moving averages over about ten batches: the export uses them, and Keras's
# default of 0.99 lags behind a generator that still moves fast.
_BATCH_NORM_MOMENTUM = 0.9


def count_halvings(image_shape):
    """Returns how often both sides can be halved without falling below 4."""
    return max(1, int(math.log2(min(image_shape[:2]) / 4)))


def build_generator(
    image_shape,
    num_classes,
    architecture="compact",
    latent_dim=90,
    width=32,
    seed=0,
    synchronized=False,
    precision=None,
):
    """Builds G([z + y]) of eq. 5: latents and label, concatenated.

    A dense layer makes a map of four to seven pixels a side, one transposed
    convolution doubles it per resolution, and what exceeds the image is
    cropped evenly.

    Reference:
        - [Li et al., 2024](https://arxiv.org/abs/2404.17732), eq. 5
        - [Wang et al., 2023](https://arxiv.org/abs/2303.04707), for `dim`

    Args:
        image_shape: `(height, width, channels)`, at least 8 pixels a side.
        num_classes: Length of the one-hot label.
        architecture: `"compact"` (channels halve at each resolution, down to
            `width`), `"residual"` (the same with a residual convolution after
            each doubling, which cleans what it leaves) or `"dim"` (constant
            `width`, more convolutions).
        latent_dim: Length of z.
        width: Channels, see `architecture`.
        seed: Integer seed of the weights.
        synchronized: Whether batch statistics are those of all replicas of a
            `tf.distribute` strategy.
        precision: As in `build_classifier`.

    Returns:
        `keras.Model` called as `generator([latents, one_hot_labels])`, with
        latents float32 `(batch, latent_dim)` and one-hot labels float32
        `(batch, num_classes)`; gives float32 images in [-1, 1].
    """
    height, width_pixels, channels = image_shape
    halvings = count_halvings(image_shape)
    start = tuple(
        math.ceil(side / 2**halvings) for side in (height, width_pixels)
    )
    with seeded_initializers(seed), layer_precision(precision):
        latents = keras.Input((latent_dim,), name="latents")
        one_hot_labels = keras.Input((num_classes,), name="one_hot_labels")
        x = layers.Concatenate()([latents, one_hot_labels])
        if architecture == "dim":
            x = _dim_trunk(x, start, halvings, width, synchronized)
        else:
            residual = architecture == "residual"
            x = _compact_trunk(
                x, start, halvings, width, residual, synchronized
            )
        x = layers.Conv2D(channels, 3, padding="same")(x)
        excess = (x.shape[1] - height, x.shape[2] - width_pixels)
        if any(excess):
            x = layers.Cropping2D(
                [(extra // 2, extra - extra // 2) for extra in excess]
            )(x)
        # float32 under mixed precision too, as all that sees images needs it.
        images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model([latents, one_hot_labels], images, name="generator")


def _compact_trunk(x, start, halvings, width, residual, synchronized):
    """Halves the channels at each resolution, ending with `width`."""
    x = _dense_start(x, start, width * 2**halvings, synchronized)
    for index in reversed(range(halvings)):
        x = _upsample(x, width * 2**index, synchronized)
        if residual:
            x = _residual_convolution(x, synchronized)
    return x


def _dim_trunk(x, start, halvings, width, synchronized):
    """Keeps `width` channels, with convolutions between the doublings."""
    x = _dense_start(x, start, width, synchronized)
    for index in range(halvings):
        x = _upsample(x, width, synchronized)
        if index == 0:
            convolutions = 3
        else:
            # The last resolution's convolution is the one to the image.
            convolutions = 0 if index == halvings - 1 else 1
        for _ in range(convolutions):
            x = _convolution(x, width)
            x = _norm_relu(x, synchronized)
    return x


def _dense_start(x, start, channels, synchronized):
    x = layers.Dense(math.prod(start) * channels, use_bias=False)(x)
    return _norm_relu(layers.Reshape((*start, channels))(x), synchronized)


def _upsample(x, channels, synchronized):
    x = layers.Conv2DTranspose(
        channels, 4, strides=2, padding="same", use_bias=False
    )(x)
    return _norm_relu(x, synchronized)


def _residual_convolution(x, synchronized):
    branch = _norm(_convolution(x, x.shape[-1]), synchronized)
    return layers.ReLU()(layers.Add()([x, branch]))


def _convolution(x, channels):
    return layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)


def _norm_relu(x, synchronized):
    return norm_activation(x, layers.ReLU(), synchronized)


def norm_activation(x, activation, synchronized):
    """Adds batch normalisation and an activation.

    Args:
        x: Keras tensor.
        activation: `keras.Layer`.
        synchronized: As in `build_generator`.
    """
    return activation(_norm(x, synchronized))


def _norm(x, synchronized):
    return layers.BatchNormalization(
        momentum=_BATCH_NORM_MOMENTUM, synchronized=synchronized
    )(x)
