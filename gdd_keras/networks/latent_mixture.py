"""Latents with the distribution that an encoder gives to real images."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

__all__ = ["LatentMixture", "with_latent_mixture"]

# Above every normal number. Too large for half precision on purpose, so that
# `stored_weights` keeps the bounds as they are.
_HIGHEST = 1.0e6


class LatentMixture(layers.Layer):
    """Maps normal numbers to draws from a mixture of Gaussians per class.

    The first entry of a row chooses the centre j, by where it falls between
    the centre's bounds; the others, e, become m_j + L_k e with the mean m_j
    and the lower triangle L_k of the centre's component k, so that the
    covariance is L_k L_k^T. A component has one centre, or several that share
    its covariance: a mean takes far fewer images to know than a covariance,
    and far fewer bytes. Of a label vector only its largest entry counts.

    Until `assign` is called, draws are standard normal.

    Reference:
        - [Ghosh et al., 2020](https://arxiv.org/abs/1903.12436), for a mixture
          fitted after training in the place of the prior

    Args:
        num_classes: Number of classes.
        num_components: Components of each class.
        latent_dim: Length of z.
        num_centres: Centres of each class; `None` or less than
            `num_components` for as many, one each.
        **kwargs: Of `keras.layers.Layer`.

    Call arguments:
        inputs: List of float32 `(batch, latent_dim + 1)`, standard normal, and
            label vectors `(batch, num_classes)`; gives float32
            `(batch, latent_dim)`.
    """

    def __init__(
        self,
        num_classes,
        num_components,
        latent_dim,
        num_centres=None,
        **kwargs,
    ):
        # Whatever the policy of the process: bfloat16 would round draws into
        # those of other centres.
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_classes = num_classes
        self.num_components = num_components
        self.latent_dim = latent_dim
        self.num_centres = max(num_centres or 0, num_components)
        # Rows of the triangle one after the other: zeros above the diagonal
        # would take as many bytes of the export again.
        self._triangle = np.tril_indices(latent_dim)
        values = len(self._triangle[0])
        # Where each entry of the square lies in the triangle; those above the
        # diagonal point behind its end, to a zero.
        positions = np.full((latent_dim, latent_dim), values, np.int32)
        positions[self._triangle] = np.arange(values)
        self._positions = positions.ravel()
        centres = (num_classes, self.num_centres)
        components = (num_classes, num_components)
        highest = keras.initializers.Constant(_HIGHEST)
        identity = np.eye(latent_dim, dtype=np.float32)[self._triangle]
        tables = [
            ("upper_bounds", centres, highest),
            ("means", (*centres, latent_dim), "zeros"),
            (
                "triangles",
                (*components, values),
                lambda shape, dtype: np.broadcast_to(identity, shape),
            ),
        ]
        if self._shares_covariances:
            tables.append(("component_bounds", components, highest))
        for name, shape, initializer in tables:
            weight = self.add_weight(
                shape=shape,
                initializer=initializer,
                trainable=False,
                # bfloat16 would round the components into each other.
                dtype="float32",
                autocast=False,
                name=name,
            )
            setattr(self, name, weight)

    @property
    def _shares_covariances(self):
        # Without, the layer has the weights that checkpoints from before
        # there were centres know.
        return self.num_centres != self.num_components

    @property
    def is_fitted(self):
        """Whether `assign` was called, or what it set was restored."""
        return bool(tf.reduce_any(tf.convert_to_tensor(self.means) != 0.0))

    def assign(self, upper_bounds, means, factors, components=None):
        """Sets the distribution.

        Args:
            upper_bounds: float `(num_classes, num_centres)`, rising along a
                row: centre j is chosen between bounds j - 1 and j. They are
                rounded to half precision; the last one counts as infinite.
            means: float `(num_classes, num_centres, latent_dim)`.
            factors: float `(num_classes, num_components, latent_dim,
                latent_dim)`, L, of whose entries above the diagonal none
                counts. A diagonal L holds standard deviations.
            components: Integer `(num_classes, num_centres)`, whose covariance
                each centre has, never falling along a row; `None` where each
                has its own.
        """
        # LiteRT stores them so. Rounded by it alone, they would turn draws
        # into those of another centre.
        with np.errstate(over="ignore"):
            upper_bounds = np.array(upper_bounds, np.float16)
        upper_bounds = upper_bounds.astype(np.float32)
        upper_bounds[:, -1] = _HIGHEST
        upper_bounds = upper_bounds.clip(-_HIGHEST, _HIGHEST)
        self.upper_bounds.assign(upper_bounds)
        self.means.assign(means)
        self.triangles.assign(np.asarray(factors)[..., *self._triangle])
        if self._shares_covariances:
            # A component ends where its last centre does, at the same number:
            # so the draw that chooses a centre chooses its component, too.
            ends = np.stack(
                [
                    np.searchsorted(row, range(self.num_components), "right")
                    for row in components
                ]
            )
            padded = np.pad(
                upper_bounds, [(0, 0), (1, 0)], constant_values=-_HIGHEST
            )
            self.component_bounds.assign(
                np.take_along_axis(padded, ends, axis=1)
            )

    def call(self, inputs):
        # TensorFlow's own operations: LiteRT has none for Keras's argmax.
        latents, label_vectors = inputs
        latents = tf.cast(latents, tf.float32)
        classes = tf.argmax(label_vectors, axis=-1, output_type=tf.int32)

        def chosen(bounds):
            bounds = tf.gather(bounds, classes)[:, :-1]
            below = tf.cast(latents[:, :1] > bounds, tf.int32)
            return tf.reduce_sum(below, axis=-1)

        def row(table, column):
            rows = classes * table.shape[1] + column
            return tf.gather(tf.reshape(table, (-1, table.shape[-1])), rows)

        centres = chosen(self.upper_bounds)
        components = (
            chosen(self.component_bounds)
            if self._shares_covariances
            else centres
        )
        triangles = row(self.triangles, components)
        triangles = tf.pad(triangles, [[0, 0], [0, 1]])
        factors = tf.reshape(
            tf.gather(triangles, self._positions, axis=1),
            (-1, self.latent_dim, self.latent_dim),
        )
        return row(self.means, centres) + tf.linalg.matvec(
            factors, latents[:, 1:]
        )

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.latent_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "num_components": self.num_components,
            "latent_dim": self.latent_dim,
            "num_centres": self.num_centres,
        }


def with_latent_mixture(generator, num_components, num_centres=None):
    """Puts a `LatentMixture` before a generator, whose weights it shares.

    Args:
        generator: As from `build_generator`.
        num_components: As in `LatentMixture`.
        num_centres: Likewise.

    Returns:
        `keras.Model` that is called like the generator, with latents that
        are one entry longer; its layer `latent_mixture` is the mixture.
    """
    (_, latent_dim), (_, num_classes) = generator.input_shape
    latents = keras.Input((latent_dim + 1,), name="latents")
    one_hot_labels = keras.Input((num_classes,), name="one_hot_labels")
    mixture = LatentMixture(
        num_classes,
        num_components,
        latent_dim,
        num_centres,
        name="latent_mixture",
    )
    images = generator([mixture([latents, one_hot_labels]), one_hot_labels])
    return keras.Model(
        [latents, one_hot_labels], images, name="mixture_generator"
    )
