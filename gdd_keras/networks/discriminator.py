"""Discriminators that also see the label."""

import keras
from keras import layers
from keras import ops

from gdd_keras.networks.generator import count_halvings
from gdd_keras.networks.initializers import seeded_initializers
from gdd_keras.networks.precision import layer_precision

__all__ = ["build_discriminator"]


def build_discriminator(
    image_shape,
    num_classes,
    architecture="compact",
    conditioning="auxiliary",
    width=64,
    seed=0,
    precision=None,
    gain=1.0,
    stem=0,
):
    """Builds D(x | y).

    Reference:
        - [Odena et al., 2017](https://arxiv.org/abs/1610.09585), auxiliary
          classifier
        - [Miyato & Koyama, 2018](https://arxiv.org/abs/1802.05637), projection
        - [Miyato et al., 2018](https://arxiv.org/abs/1802.05957), spectral
          normalisation
        - [Wang et al., 2023](https://arxiv.org/abs/2303.04707), for `dim`

    Args:
        image_shape: `(height, width, channels)`, at least 8 pixels a side.
        num_classes: Length of the one-hot label.
        architecture: `"compact"` (strided 4x4 convolutions with spectral
            normalisation, channels doubling from `width`) or `"dim"` (eight
            convolutions of `width` channels with layer normalisation).
        conditioning: `"auxiliary"` adds class logits; `"projection"` adds the
            inner product of features and label embedding to the score.
        width: Channels, see `architecture`.
        seed: Integer seed of the weights.
        precision: As in `build_classifier`.
        gain: Factor after each spectrally normalised convolution. With 1 the
            score is nearly blind to what an encoder's generator gets wrong,
            which is small in every pixel.
        stem: Channels of a convolution at full resolution before those of
            `"compact"`, which start with a stride of 2; 0 for none.

    Returns:
        `keras.Model` called as `discriminator([images, one_hot_labels])`;
        gives a dict of `"scores"` float32 `(batch,)`, unbounded, higher for
        real, and under `"auxiliary"` `"class_logits"` `(batch, num_classes)`.
    """
    with seeded_initializers(seed), layer_precision(precision):
        images = keras.Input(image_shape, name="images")
        one_hot_labels = keras.Input((num_classes,), name="one_hot_labels")
        # The Lipschitz bound of hinge and non-saturating training; WGAN-GP
        # bounds the gradient instead.
        if architecture == "compact":
            bounded = _spectrally_normalized
            halvings = count_halvings(image_shape)
            x = _compact_trunk(images, halvings, width, gain, stem)
        else:
            bounded = _as_is
            x = _dim_trunk(images, width)
        # float32 under mixed precision too, as the losses need it.
        x = layers.Identity(dtype="float32")(x)
        scores = bounded(layers.Dense(1, dtype="float32"))(x)
        outputs = {}
        if conditioning == "projection":
            embedding = bounded(
                layers.Dense(x.shape[-1], use_bias=False, dtype="float32")
            )(one_hot_labels)
            scores = scores + ops.sum(embedding * x, axis=-1, keepdims=True)
        else:
            outputs["class_logits"] = layers.Dense(
                num_classes, dtype="float32", name="class_logits"
            )(x)
        outputs["scores"] = ops.squeeze(scores, axis=-1)
    return keras.Model([images, one_hot_labels], outputs, name="discriminator")


def _compact_trunk(x, halvings, width, gain, stem):
    if stem:
        x = _bounded_convolution(x, stem, 3, 1, gain)
    for index in range(halvings):
        x = _bounded_convolution(x, width * 2**index, 4, 2, gain)
    return layers.Flatten()(x)


def _bounded_convolution(x, channels, size, strides, gain):
    convolution = layers.Conv2D(channels, size, strides=strides, padding="same")
    x = _spectrally_normalized(convolution)(x)
    if gain != 1.0:
        x = layers.Rescaling(gain)(x)
    return layers.LeakyReLU(0.1)(x)


def _dim_trunk(x, width):
    for strides in (1, 2, 1, 2, 1, 1, 1, 2):
        x = layers.Conv2D(width, 3, strides=strides, padding="same")(x)
        x = layers.LayerNormalization(axis=(1, 2, 3), epsilon=1e-5)(x)
        x = layers.LeakyReLU(0.01)(x)
    return layers.GlobalMaxPooling2D()(x)


def _spectrally_normalized(layer):
    # It assigns the kernel: in lower precision it would round the weights.
    # Images stay as they are, else they would be cast there and back.
    return layers.SpectralNormalization(layer, dtype="float32", autocast=False)


def _as_is(layer):
    return layer
