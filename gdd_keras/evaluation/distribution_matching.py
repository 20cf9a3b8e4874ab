"""Baseline DM: pixels whose class means agree under random networks.

Reference:
    - [Zhao & Bilen, 2023](https://arxiv.org/abs/2110.04181)
"""

import numpy as np
import tensorflow as tf

from gdd_keras.data.augmentation import SALTS
from gdd_keras.data.augmentation import augment
from gdd_keras.data.augmentation import siamese_strategy
from gdd_keras.data.pipeline import BatchSampler
from gdd_keras.data.pipeline import scale_images
from gdd_keras.evaluation.sources import first_real_images
from gdd_keras.networks import ModelPool
from gdd_keras.sampling import to_uint8

__all__ = ["class_mean_loss", "distribution_matching"]

_LEARNING_RATE = 1.0
_MOMENTUM = 0.5
# The publication takes 256 real images per class; the cost of a step is
# theirs, and a CPU has few steps.
_REAL_PER_CLASS = 64
_STREAM = 3


def class_mean_loss(real_features, generated_features, num_classes):
    """Sums over classes the squared distance of mean features (eq. 6 of DM).

    Args:
        real_features: float `(num_classes * a, ...)`; row i has the label
            `i % num_classes`.
        generated_features: float `(num_classes * b, ...)`, likewise.
        num_classes: Number of classes.

    Returns:
        Scalar float32, `>= 0`.
    """

    def means(features):
        size = tf.size(features) // tf.shape(features)[0]
        return tf.reduce_mean(
            tf.reshape(features, (-1, num_classes, size)), axis=0
        )

    return tf.reduce_sum(
        tf.square(means(real_features) - means(generated_features))
    )


def distribution_matching(dataset, ipc, steps, seed=0, progress=None):
    """Optimises `ipc` images per class.

    Each step draws a fresh ConvNet3 and moves the pixels by SGD (rate 1,
    momentum 0.5) towards equal class means of its last features, under
    siamese augmentation. Images start as real ones and end as uint8.

    Args:
        dataset: `Dataset`; only its training split is read.
        ipc: Images per class.
        steps: Steps; the publication takes 20,000.
        seed: Integer >= 0.
        progress: Function of (steps done, loss), or `None`.

    Returns:
        uint8 images `(ipc * num_classes, height, width, channels)` and int32
        labels, `i % num_classes`.
    """
    num_classes = dataset.num_classes
    start, labels = _in_label_order(
        *first_real_images(dataset.train, ipc, num_classes)(seed), num_classes
    )
    pixels = tf.Variable(scale_images(tf.constant(start)))
    velocity = tf.Variable(tf.zeros_like(pixels))
    pool = ModelPool(
        ["convnet3"],
        ["block_3"],
        dataset.image_shape,
        num_classes,
        dataset.mean,
        dataset.std,
        seed=seed,
    )
    strategy = siamese_strategy(dataset.augmentation)
    sampler = BatchSampler(
        dataset.train.labels,
        num_classes * _REAL_PER_CLASS,
        seed,
        stream=_STREAM,
    )

    @tf.function(autograph=False)
    def train_step(real_images, step):
        salt = tf.stack([tf.constant(seed, tf.int32), step * SALTS])
        real = augment(scale_images(real_images), strategy, salt, shared=True)
        _, real_features = pool.features(0, real)
        with tf.GradientTape() as tape:
            generated = augment(
                tf.convert_to_tensor(pixels), strategy, salt, shared=True
            )
            _, features = pool.features(0, generated)
            loss = class_mean_loss(real_features, features, num_classes)
        gradient = tape.gradient(loss, pixels)
        velocity.assign(_MOMENTUM * velocity + gradient)
        pixels.assign_sub(_LEARNING_RATE * velocity)
        return loss

    for step in range(steps):
        pool.draw(step)
        rows = sampler.indices(step)
        images, _ = _in_label_order(
            dataset.train.images[rows], dataset.train.labels[rows], num_classes
        )
        loss = train_step(tf.constant(images), tf.constant(step, tf.int32))
        if progress is not None:
            progress(step + 1, float(loss))
    return to_uint8(pixels).numpy(), labels


def _in_label_order(images, labels, num_classes):
    """Sorts a balanced batch so that row i has the label `i % num_classes`."""
    order = np.argsort(labels, kind="stable")
    order = order.reshape(num_classes, -1).T.ravel()
    return images[order], labels[order]
