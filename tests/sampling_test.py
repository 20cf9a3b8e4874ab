import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.sampling import BLOCK_SIZE
from gdd_keras.sampling import ImageSampler
from gdd_keras.sampling import image_drawer
from gdd_keras.sampling import latents_for
from gdd_keras.sampling import mixed_labels


def test_without_mixing_label_vectors_are_one_hot():
    labels = tf.constant([2, 0, 1])
    np.testing.assert_array_equal(
        mixed_labels(labels, 0, 0, 3), np.eye(3)[[2, 0, 1]]
    )


def test_mixed_labels_share_one_other_class_uniformly():
    labels = tf.zeros(20_000, tf.int32)
    vectors = mixed_labels(labels, 5, 0, 4, label_mixing=0.4).numpy()
    np.testing.assert_allclose(vectors.sum(1), 1.0, atol=1e-6)
    others = vectors[:, 1:]
    assert ((others > 0).sum(1) <= 1).all()
    mixed = others.max(1)[others.max(1) > 0]
    # Partners are uniform over all four classes, the own one included.
    assert mixed.size == pytest.approx(15_000, rel=0.02)
    # Uniform in [0, 0.4]: mean and standard deviation, wide tolerance.
    assert 0.0 < mixed.min() and mixed.max() <= 0.4
    assert mixed.mean() == pytest.approx(0.2, abs=0.005)
    assert mixed.std() == pytest.approx(0.4 / 12**0.5, abs=0.005)


def test_mixed_labels_depend_on_the_image_number_only():
    labels = tf.range(40) % 5
    whole = mixed_labels(labels, 9, 100, 5, 0.5).numpy()
    part = mixed_labels(labels[7:], 9, 107, 5, 0.5).numpy()
    np.testing.assert_array_equal(whole[7:], part)
    other = mixed_labels(labels, 10, 100, 5, 0.5).numpy()
    assert np.abs(whole - other).max() > 0.05


def test_mixing_and_latents_are_different_streams():
    latents = latents_for(3, 0, 1000, 4)
    mixing = latents_for(3, 0, 1000, 4, stream=1)
    correlation = np.corrcoef(latents[:, 0], mixing[:, 0])[0, 1]
    assert abs(correlation) < 0.15


def test_drawer_shows_the_label_vectors_that_it_draws():
    latents = keras.Input((4,))
    one_hot_labels = keras.Input((3,))
    # Pixels are the label vector itself, scaled to [-1, 1].
    pixels = keras.layers.Rescaling(2.0, -1.0)(one_hot_labels)
    images = keras.layers.Reshape((1, 3, 1))(pixels)
    network = keras.Model([latents, one_hot_labels], images)
    labels = tf.range(50) % 3
    drawn = image_drawer(network, 0.5)(labels, tf.constant(1, tf.int64), 30)
    expected = mixed_labels(labels, 1, 30, 3, 0.5)
    np.testing.assert_allclose(
        drawn.numpy()[:, 0, :, 0], 255.0 * expected.numpy(), atol=0.51
    )


def test_rows_are_drawn_as_ranges_are():
    latents = keras.Input((4,))
    one_hot_labels = keras.Input((3,))
    joined = keras.layers.Concatenate()([latents, one_hot_labels])
    images = keras.layers.Reshape((1, 7, 1))(joined)
    network = keras.Model([latents, one_hot_labels], images)
    # What the network is given shows in its pixels; batches are whole blocks.
    sizes = []

    def call(latents, vectors):
        sizes.append(latents.shape[0])
        return network([latents, vectors])

    sampler = ImageSampler(call, 4, 3, (1, 7, 1), label_mixing=0.5)
    labels = tf.constant([0, 1, 2, 1])
    seeds = tf.constant([5, 5, 6, 5], tf.int64)
    indices = tf.constant([33, 1, 65, 40], tf.int64)
    rows = sampler.draw_rows(labels, seeds, indices).numpy()
    # Three rows share a place, so they need three blocks.
    assert sizes == [BLOCK_SIZE] * 3
    for row, label, seed, index in zip(
        rows, labels, seeds, indices, strict=True
    ):
        expected = sampler.draw(label[tf.newaxis], seed, index)
        np.testing.assert_array_equal(row, expected[0])
