"""Distribution matching: pixels whose class means agree with many images'.

Reference:
    - [Zhao & Bilen, 2023](https://arxiv.org/abs/2110.04181)
"""

import numpy as np
import tensorflow as tf

from gdd_keras.config import checked_integer
from gdd_keras.data.augmentation import augment
from gdd_keras.data.augmentation import siamese_strategy
from gdd_keras.data.pipeline import scale_images
from gdd_keras.networks import ModelPool
from gdd_keras.sampling import to_uint8
from gdd_keras.selection import CLASSES_AT_ONCE
from gdd_keras.selection import IMAGES_PER_CLASS
from gdd_keras.selection import MAX_CONDENSED
from gdd_keras.selection import check_condensing
from gdd_keras.selection.typical import statistics_of
from gdd_keras.selection.typical import typical_images

__all__ = [
    "ClassMeanMatcher",
    "class_mean_loss",
    "condensed_images",
]

_MOMENTUM = 0.5
# Of condensed images; fifty steps do most of it. At the publication's rate, 1
# whatever their number, a single image of a class first moves away.
_STEPS = 200
_RATE_PER_IMAGE = 0.1
# Draws of each class that condensed images stand for.
_DRAWS_PER_CLASS = 1000
_STREAM = 5


def class_mean_loss(wanted_features, features, num_classes):
    """Sums over classes the squared distance of mean features (eq. 6 of DM).

    Args:
        wanted_features: float `(num_classes * a, ...)`; row i has the label
            `i % num_classes`.
        features: float `(num_classes * b, ...)`, likewise.
        num_classes: Number of classes.

    Returns:
        Scalar float32, `>= 0`.
    """

    def means(features):
        size = tf.size(features) // tf.shape(features)[0]
        return tf.reduce_mean(
            tf.reshape(features, (-1, num_classes, size)), axis=0
        )

    return tf.reduce_sum(tf.square(means(wanted_features) - means(features)))


class ClassMeanMatcher:
    """Moves the pixels of few images until they stand for many others.

    Each step draws a fresh ConvNet3 and moves the pixels by SGD (momentum 0.5)
    towards equal class means of its last features, under siamese augmentation.

    Args:
        image_shape: `(height, width, channels)`.
        ipc: Images per class.
        num_classes: Number of classes.
        statistics: Means and standard deviations of the channels in [-1, 1].
        augmentation: `Dataset.augmentation` of such images.
        learning_rate: Rate of SGD, in the units of pixels in [-1, 1].
        seed: Integer, 0 to 2**31 - 1.
    """

    def __init__(
        self,
        image_shape,
        ipc,
        num_classes,
        statistics,
        augmentation,
        learning_rate=1.0,
        seed=0,
    ):
        self._num_classes = num_classes
        self._strategy = siamese_strategy(augmentation)
        self._learning_rate = learning_rate
        self._seed = seed
        zeros = tf.zeros((ipc * num_classes, *image_shape))
        self._pixels = tf.Variable(zeros)
        self._velocity = tf.Variable(zeros)
        self._pool = ModelPool(
            ["convnet3"],
            ["block_3"],
            image_shape,
            num_classes,
            *statistics,
            seed=seed,
        )

    def match(self, start, batch, steps, progress=None):
        """Returns where the pixels of images end.

        Args:
            start: uint8 `(ipc * num_classes, height, width, channels)`; row i
                has the label `i % num_classes`.
            batch: Function from a step, an int, to uint8 images to stand for,
                `IMAGES_PER_CLASS` of each class, in the same order.
            steps: Steps; the publication takes 20,000.
            progress: Function of (steps done, loss), or `None`.

        Returns:
            uint8 images, as `start`.
        """
        self._pixels.assign(scale_images(tf.constant(start)))
        self._velocity.assign(tf.zeros_like(self._velocity))
        for step in range(steps):
            self._pool.draw(step)
            loss = self._train_step(
                tf.constant(batch(step)), tf.constant(step, tf.int32)
            )
            if progress is not None:
                progress(step + 1, float(loss))
        return to_uint8(self._pixels).numpy()

    @tf.function(autograph=False)
    def _train_step(self, images, step):
        salt = tf.stack([tf.constant(self._seed, tf.int32), step])

        def features(images):
            images = augment(images, self._strategy, salt, shared=True)
            return self._pool.features(0, images)[1]

        wanted = features(scale_images(images))
        with tf.GradientTape() as tape:
            moved = features(tf.convert_to_tensor(self._pixels))
            loss = class_mean_loss(wanted, moved, self._num_classes)
        gradient = tape.gradient(loss, self._pixels)
        self._velocity.assign(_MOMENTUM * self._velocity + gradient)
        self._pixels.assign_sub(self._learning_rate * self._velocity)
        return loss


def condensed_images(generator, ipc, seed=0, progress=None, steps=None):
    """Makes few images that stand for many draws of a generator.

    Typical images, whose pixels a `ClassMeanMatcher` moves towards the means
    of 1,000 draws of each class. They teach more than any draw does, and look
    less like one. Neither real images nor training take part. The rate grows
    with `ipc`, since each image has so much less of a say in the mean.

    Args:
        generator: `DistilledGenerator`.
        ipc: Images per class, at most `MAX_CONDENSED`.
        seed: Integer >= 0; another seed gives other images.
        progress: `None`, or a function of `(done, in all)`, of classes of
            typical images and then of steps.
        steps: Steps, for ten classes at a time: `None` for 200, 0 leaves
            typical images as they are.

    Returns:
        uint8 `(ipc * num_classes, height, width, channels)`, with the labels
        of `generator.balanced_labels(ipc)`.

    Raises:
        InputError: If an argument is out of range, or a step would not fit
            into the memory.
    """
    ipc = checked_integer("ipc", ipc, 1, MAX_CONDENSED)
    steps = _STEPS if steps is None else steps
    num_classes, image_shape = generator.num_classes, generator.image_shape
    check_condensing(ipc, image_shape, num_classes)
    # Groups of one size, so that one graph does; the last may begin early.
    size = min(num_classes, CLASSES_AT_ONCE)
    groups = [
        np.arange(size) + min(first, num_classes - size)
        for first in range(0, num_classes, size)
    ]
    total = num_classes + len(groups) * steps

    def show(done):
        if progress is not None:
            progress(done, total)

    images = typical_images(
        generator, ipc, seed, progress=lambda done, _: show(done)
    )
    start = images.reshape(ipc, num_classes, *image_shape)
    condensed = start.copy()
    matcher = ClassMeanMatcher(
        image_shape,
        ipc,
        size,
        statistics_of(generator),
        # Flips would spoil digits and letters.
        generator.metadata.get("dataset", {}).get("augmentation", "crop"),
        learning_rate=_RATE_PER_IMAGE * ipc,
        # Draws may have seeds of 63 bits.
        seed=seed % 2**31,
    )
    for number, group in enumerate(groups):
        before = num_classes + number * steps
        draws = np.stack(
            [
                generator.generate(np.full(_DRAWS_PER_CLASS, label), seed)
                for label in group
            ],
            axis=1,
        )

        def batch(step, draws=draws):
            rng = np.random.default_rng([seed, _STREAM, step])
            rows = rng.choice(len(draws), IMAGES_PER_CLASS, replace=False)
            return draws[rows].reshape(-1, *image_shape)

        condensed[:, group] = matcher.match(
            start[:, group].reshape(-1, *image_shape),
            batch,
            steps,
            progress=lambda done, _, before=before: show(before + done),
        ).reshape(ipc, size, *image_shape)
    return condensed.reshape(-1, *image_shape)
