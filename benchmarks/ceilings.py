"""What this machine reaches at best, through TensorFlow."""

import tensorflow as tf

from benchmarks.timing import time_calls

__all__ = ["measure_ceilings"]

_MATRIX_SIZE = 4096
# Batch, pixels a side, channels of 3 x 3 convolutions; large enough that
# arithmetic, not memory, takes the time.
_CONVOLUTIONS = ((32, 32, 128), (64, 16, 196), (64, 8, 256))


def measure_ceilings(seconds=2.0):
    """Measures a large float32 matrix product and large convolutions.

    Args:
        seconds: Time for each of them.

    Returns:
        Dict from `matmul` and `convolution` to GFLOP/s, floats: the median of
        the product, and of the best of three convolutions, forward and
        backward together, as training does them.
    """
    return {
        "matmul": _matmul(seconds),
        "convolution": max(
            _convolution(*sizes, seconds) for sizes in _CONVOLUTIONS
        ),
    }


def _matmul(seconds):
    size = _MATRIX_SIZE
    a, b = tf.random.stateless_normal((2, size, size), (0, 0))
    multiply = tf.function(lambda: _last(a @ b), autograph=False)
    timing = time_calls(lambda: multiply().numpy(), seconds)
    return 2.0 * size**3 / timing.median / 1e9


def _convolution(batch, side, channels, seconds):
    images = tf.random.stateless_normal((batch, side, side, channels), (0, 1))
    kernel = tf.random.stateless_normal((3, 3, channels, channels), (0, 2))

    def forward_and_backward():
        with tf.GradientTape() as tape:
            tape.watch((images, kernel))
            outputs = tf.nn.conv2d(images, kernel, 1, "SAME")
        gradients = tape.gradient(
            outputs, (images, kernel), output_gradients=images
        )
        # Something of all three must be asked for, or it is not computed.
        return sum(map(_last, (outputs, *gradients)))

    compute = tf.function(forward_and_backward, autograph=False)
    timing = time_calls(lambda: compute().numpy(), seconds)
    multiply_adds = batch * side**2 * 9 * channels**2
    return 3 * 2.0 * multiply_adds / timing.median / 1e9


def _last(tensor):
    """Returns one number of a tensor, cheaper to fetch than all."""
    return tf.reshape(tensor, [-1])[-1]
