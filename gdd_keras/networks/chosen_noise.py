"""Normal noise of which only what was chosen is drawn."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

__all__ = ["NUM_CANDIDATES", "ChosenNoise", "with_chosen_noise"]

# Each candidate is one of some normal vectors in one of some orders, with
# signs: a few kilobytes for all of them, and two numbers for each, which half
# precision and every converter keep exactly. A random generator in the graph
# would be none of LiteRT's operations.
_NUM_VECTORS = 256
_NUM_ORDERS = 64
NUM_CANDIDATES = _NUM_VECTORS * _NUM_ORDERS

# What a normal number has behind the point, in this unit, is uniform, and
# exact: from the normal distribution function converters choose others.
_PERIODS = 64.0

# So much of a draw is new: with more, images are hard less often and wrong
# more often; with none, there were no more images than chosen ones.
_JITTER = 0.1


class ChosenNoise(layers.Layer):
    """Maps normal numbers to noise near vectors that were chosen by class.

    The first entry of a row chooses one of the class's vectors c, all of
    which are as probable: by what it has beyond a whole number of 1 / 64. The
    others, e, become `sqrt(1 - h^2) c + h e` with h = 0.1; the first of c
    stays, since it chooses the centre in a `LatentMixture`. Of a label vector
    only its largest entry counts.

    Until `assign` is called, all draws are near candidate 0.

    Args:
        num_classes: Number of classes.
        num_chosen: Vectors of each class; they may repeat.
        noise_dim: Length of the noise.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        inputs: List of float32 `(batch, noise_dim)`, standard normal, and
            label vectors `(batch, num_classes)`; gives float32
            `(batch, noise_dim)`.
    """

    def __init__(self, num_classes, num_chosen, noise_dim, **kwargs):
        # Whatever the policy of the process: of a latent in bfloat16 nothing is
        # left beyond 1 / 64.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_classes = num_classes
        self.num_chosen = num_chosen
        self.noise_dim = noise_dim
        generator = np.random.default_rng(0)
        vectors = generator.standard_normal((_NUM_VECTORS, noise_dim))
        # LiteRT stores them so. Rounded by it alone, they would choose other
        # centres.
        vectors = vectors.astype(np.float16).astype(np.float32)
        # An entry behind the end of a vector is its negative.
        self._vectors = np.concatenate([vectors, -vectors], axis=1)
        orders = [generator.permutation(noise_dim) for _ in range(_NUM_ORDERS)]
        negative = generator.integers(0, 2, (_NUM_ORDERS, noise_dim))
        self._orders = (orders + noise_dim * negative).astype(np.int32)
        self.chosen = self.add_weight(
            shape=(num_classes, num_chosen, 2),
            initializer="zeros",
            trainable=False,
            name="chosen",
        )

    def assign(self, numbers):
        """Sets what is drawn.

        Args:
            numbers: Integer `(num_classes, num_chosen)`, of candidates, each
                in `0..NUM_CANDIDATES - 1`.
        """
        orders, vectors = np.divmod(numbers, _NUM_VECTORS)
        self.chosen.assign(np.stack([vectors, orders], axis=-1))

    def candidates(self, numbers):
        """Returns noise from which to choose.

        Args:
            numbers: Integer `(n,)`, each in `0..NUM_CANDIDATES - 1`.

        Returns:
            float32 `(n, noise_dim)`; over all numbers, mean and variance of
            each entry are those of standard normal noise, nearly.
        """
        numbers = tf.cast(numbers, tf.int32)
        return self._noise(numbers % _NUM_VECTORS, numbers // _NUM_VECTORS)

    def call(self, inputs):
        # TensorFlow's own operations: LiteRT has none for Keras's argmax.
        latents, label_vectors = inputs
        classes = tf.argmax(label_vectors, axis=-1, output_type=tf.int32)
        finer = latents[:, 0] * _PERIODS
        uniform = finer - tf.floor(finer)
        places = tf.cast(tf.floor(uniform * self.num_chosen), tf.int32)
        # Just below a whole number the difference may be rounded to 1; NaN is
        # no place at all, and its images are to be NaN.
        places = tf.clip_by_value(places, 0, self.num_chosen - 1)
        table = tf.reshape(self.chosen, (-1, 2))
        chosen = tf.gather(table, classes * self.num_chosen + places)
        chosen = tf.cast(chosen, tf.int32)
        noise = self._noise(chosen[:, 0], chosen[:, 1])
        kept = (1.0 - _JITTER**2) ** 0.5
        near = kept * noise[:, 1:] + _JITTER * latents[:, 1:]
        return tf.concat([noise[:, :1], near], axis=1)

    def _noise(self, vectors, orders):
        vectors = tf.gather(tf.constant(self._vectors), vectors)
        orders = tf.gather(tf.constant(self._orders), orders)
        return tf.gather(vectors, orders, batch_dims=1)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "num_chosen": self.num_chosen,
            "noise_dim": self.noise_dim,
        }


def with_chosen_noise(generator, layer):
    """Puts a `ChosenNoise` before a generator, whose weights it shares.

    Args:
        generator: `keras.Model` of `[noise, one_hot_labels]`.
        layer: `ChosenNoise` of such noise and labels.

    Returns:
        `keras.Model` that is called like the generator.
    """
    latents = keras.Input((layer.noise_dim,), name="latents")
    one_hot_labels = keras.Input((layer.num_classes,), name="one_hot_labels")
    noise = layer([latents, one_hot_labels])
    images = generator([noise, one_hot_labels])
    return keras.Model(
        [latents, one_hot_labels], images, name="chosen_generator"
    )
