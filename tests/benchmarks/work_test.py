import keras
import pytest
import tensorflow as tf

from benchmarks.work import multiply_adds


def count(function, *shapes):
    return multiply_adds(function, *map(tf.zeros, shapes))


def test_convolution_in_closed_form():
    kernel = tf.zeros((3, 3, 4, 7))

    def convolve(images):
        return tf.nn.conv2d(images, kernel, 1, "SAME")

    def gradient(images):
        with tf.GradientTape() as tape:
            tape.watch([images, kernel])
            outputs = convolve(images)
        return tape.gradient(outputs, [images, kernel])

    forward = 2 * 8 * 6 * (3 * 3 * 4 * 7)
    assert count(convolve, (2, 8, 6, 4)) == forward
    assert count(gradient, (2, 8, 6, 4)) == 3 * forward


def test_strided_and_transposed_convolution():
    kernel = tf.zeros((4, 4, 5, 3))
    strided = 2 * 4 * 4 * (4 * 4 * 5 * 3)
    assert (
        count(lambda x: tf.nn.conv2d(x, kernel, 2, "SAME"), (2, 8, 8, 5))
        == strided
    )
    assert (
        count(
            lambda x: tf.nn.conv2d_transpose(x, kernel, (2, 8, 8, 5), 2),
            (2, 4, 4, 3),
        )
        == strided
    )


def test_matrix_products_whichever_is_transposed():
    def product(a, b):
        return tf.matmul(a, b, transpose_a=True) + tf.matmul(
            b, a, transpose_a=True
        )

    assert count(product, (5, 3), (5, 3)) == 2 * 3 * 5 * 3


def test_functions_are_entered():
    @tf.function(autograph=False)
    def inner(x):
        return x @ x

    def choose(x):
        return tf.cond(
            tf.reduce_sum(x) > 0, lambda: inner(x), lambda: x @ x + x
        )

    # Both branches count.
    assert count(choose, (4, 4)) == 2 * 64


def test_network_is_its_layers():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 3)]
        + [keras.layers.Flatten(), keras.layers.Dense(5)]
    )
    assert count(model, (7, 6, 6, 2)) == 7 * (16 * 54 + 48 * 5)


def test_unknown_shape():
    def of_unknown(x):
        return tf.nn.conv2d(x, tf.zeros((1, 1, 1, 1)), 1, "SAME")

    traced = tf.function(
        of_unknown, input_signature=[tf.TensorSpec((None, 4, 4, 1))]
    )
    with pytest.raises(ValueError, match="shape must be known.*Conv2D"):
        multiply_adds(traced, tf.zeros((1, 4, 4, 1)))
