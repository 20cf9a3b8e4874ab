"""Instance normalisation that is fast on a CPU."""

import keras
import tensorflow as tf

__all__ = ["InstanceNormalization"]

# Memory traffic, not arithmetic, is what a norm costs. TensorFlow makes one
# pass over the map for each operation; XLA fuses all of them, ReLU included,
# into one pass per direction. It stays off the convolutions, which oneDNN
# does faster. The closed-form gradient keeps both directions whole.


@tf.function(jit_compile=True, autograph=False)
def _normalize(inputs, gamma, beta, epsilon, relu):
    """Returns outputs, mean and reciprocal deviation."""
    # Statistics of bfloat16 would be rounded; fused, the casts are free.
    dtype = inputs.dtype
    inputs = tf.cast(inputs, tf.float32)
    mean = tf.reduce_mean(inputs, (1, 2), keepdims=True)
    # E[x^2] - E[x]^2 needs one pass; cancellation can leave a small negative
    # number on constant maps.
    variance = tf.maximum(
        tf.reduce_mean(tf.square(inputs), (1, 2), keepdims=True)
        - tf.square(mean),
        0.0,
    )
    deviation = tf.math.rsqrt(variance + epsilon)
    scale = deviation * gamma
    outputs = inputs * scale + (beta - mean * scale)
    if relu:
        outputs = tf.nn.relu(outputs)
    return tf.cast(outputs, dtype), mean, deviation


@tf.function(jit_compile=True, autograph=False)
def _normalize_gradient(inputs, upstream, mean, deviation, gamma, beta, relu):
    """Returns the gradients of inputs, gamma and beta."""
    dtype = inputs.dtype
    inputs = tf.cast(inputs, tf.float32)
    upstream = tf.cast(upstream, tf.float32)
    scale = deviation * gamma
    if relu:
        outputs = inputs * scale + (beta - mean * scale)
        upstream = tf.where(outputs > 0.0, upstream, 0.0)
    upstream_mean = tf.reduce_mean(upstream, (1, 2), keepdims=True)
    # Mean of upstream times the normalised inputs.
    correlation = (
        tf.reduce_mean(upstream * inputs, (1, 2), keepdims=True)
        - mean * upstream_mean
    ) * deviation
    normalized = (inputs - mean) * deviation
    inputs_gradient = scale * (
        upstream - upstream_mean - normalized * correlation
    )
    size = tf.cast(tf.shape(inputs)[1] * tf.shape(inputs)[2], inputs.dtype)
    return (
        tf.cast(inputs_gradient, dtype),
        size * tf.reduce_sum(correlation, (0, 1, 2)),
        size * tf.reduce_sum(upstream_mean, (0, 1, 2)),
    )


@keras.saving.register_keras_serializable("gdd_keras")
class InstanceNormalization(keras.layers.Layer):
    """Normalises each channel of each image over height and width.

    Equal to `keras.layers.GroupNormalization(groups=-1)`, optionally followed
    by ReLU, which costs nothing here.

    Reference:
        - [Ulyanov et al., 2016](https://arxiv.org/abs/1607.08022)

    Args:
        activation: `None` or `"relu"`.
        epsilon: Added to the variance.
        fused: Whether XLA makes one pass of it. What is exported must not
            need XLA: a model server refuses such a graph, as its default.
        **kwargs: Of `keras.layers.Layer`.

    Raises:
        ValueError: If the activation is another one.

    Call arguments:
        inputs: float `(batch, height, width, channels)`.

    Example:
        ```python
        x = keras.layers.Conv2D(128, 3, padding="same")(images)
        x = InstanceNormalization("relu")(x)
        ```
    """

    def __init__(self, activation=None, epsilon=1e-5, fused=True, **kwargs):
        super().__init__(**kwargs)
        if activation not in (None, "relu"):
            raise ValueError(
                "`activation` must be None or 'relu'. Received: "
                f"activation={activation!r}."
            )
        self.activation = activation
        self.epsilon = epsilon
        self.fused = fused

    def build(self, input_shape):
        channels = input_shape[-1]
        self.gamma = self.add_weight(
            shape=(channels,),
            initializer="ones",
            name="gamma",
            autocast=False,
        )
        self.beta = self.add_weight(
            shape=(channels,),
            initializer="zeros",
            name="beta",
            autocast=False,
        )

    def call(self, inputs):
        relu = self.activation == "relu"
        gamma = tf.convert_to_tensor(self.gamma)
        beta = tf.convert_to_tensor(self.beta)
        if not self.fused:
            outputs, *_ = _normalize.python_function(
                inputs, gamma, beta, self.epsilon, relu
            )
            return outputs

        @tf.custom_gradient
        def normalize(inputs, gamma, beta):
            outputs, mean, deviation = _normalize(
                inputs, gamma, beta, self.epsilon, relu
            )

            def gradient(upstream):
                return _normalize_gradient(
                    inputs, upstream, mean, deviation, gamma, beta, relu
                )

            return outputs, gradient

        return normalize(inputs, gamma, beta)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "activation": self.activation,
            "epsilon": self.epsilon,
            "fused": self.fused,
        }
