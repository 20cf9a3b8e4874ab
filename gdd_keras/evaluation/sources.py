"""Where an `eval_model` gets its images: fresh, stored or real.

A source is an endless sequence of numbered examples, cut into epochs and
those into batches. It has

- `images_per_epoch` and `batch_size`: integers; the last batch of an epoch
  may be smaller;
- `reset(seed)`: begins the sequence of one network, outside the graph;
- `examples(start, count)`: examples `start` to `start + count - 1` in the
  graph, uint8 images and int32 labels (soft: float32 probabilities), a pure
  function of the seed;
- `num_distinct(epochs)`: how many different images that many epochs show.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from gdd_keras.data.pipeline import BatchSampler
from gdd_keras.metadata import soft_labels_error
from gdd_keras.sampling import image_drawer

__all__ = [
    "FixedSet",
    "GeneratorStream",
    "MAX_BATCH_SIZE",
    "RealStream",
    "SoftLabelled",
    "UnexportedGenerator",
    "balanced_batch_size",
    "first_real_images",
    "generated_set",
]

MAX_BATCH_SIZE = 256

# Not the streams of `BatchSampler` that trained the generator.
_EVALUATION_STREAM = 2

# Images that get soft labels at once.
_LABELLED_AT_ONCE = 64

# Images of a stored set that are made at once.
_CHUNK_SIZE = 1024


def balanced_batch_size(ipc, num_classes):
    """Returns the batch size that cuts a balanced epoch evenly.

    At most 256; the whole epoch where that is smaller. Every batch holds
    every class equally often, unless there are more than 256 classes.

    Args:
        ipc: Images per class and epoch.
        num_classes: Number of classes.

    Returns:
        Positive integer.
    """
    if num_classes > MAX_BATCH_SIZE:
        return _even_part(ipc * num_classes, MAX_BATCH_SIZE)
    return _even_part(ipc, MAX_BATCH_SIZE // num_classes) * num_classes


class GeneratorStream:
    """Fresh images for every batch: image e is number e of the seed.

    Example e has the label `e % num_classes`; nothing is shown twice.

    Args:
        generator: `DistilledGenerator`, or Keras generator of `[latents,
            one_hot_labels]`.
        ipc: Images per class and epoch.
    """

    def __init__(self, generator, ipc):
        self._draw, self._num_classes = _drawing_function(generator)
        self.images_per_epoch = ipc * self._num_classes
        self.batch_size = balanced_batch_size(ipc, self._num_classes)
        self._seed = _cpu_variable(np.int64(0))

    def reset(self, seed):
        self._seed.assign(seed)

    def examples(self, start, count):
        numbers = start + tf.range(tf.cast(count, tf.int64))
        labels = tf.cast(numbers % self._num_classes, tf.int32)
        return self._draw(labels, self._seed, start), labels

    def num_distinct(self, epochs):
        return epochs * self.images_per_epoch


class UnexportedGenerator:
    """The images that an export of a generator would give.

    Args:
        generator: Keras generator of `[latents, one_hot_labels]`.
        label_mixing: See `gdd_keras.sampling.mixed_labels`.
    """

    def __init__(self, generator, label_mixing):
        self.draw = image_drawer(generator, label_mixing)
        self.num_classes = generator.inputs[1].shape[-1]


class RealStream:
    """Real images in the place of `GeneratorStream`: its natural ceiling.

    Each class walks through its images in an order shuffled anew for every
    pass, so that none repeats before all were shown.

    Args:
        split: `Split` to draw from.
        ipc: Images per class and epoch.
        num_classes: Number of classes.
    """

    def __init__(self, split, ipc, num_classes):
        self._split = split
        self._ipc = ipc
        self.images_per_epoch = ipc * num_classes
        self.batch_size = balanced_batch_size(ipc, num_classes)
        # Every batch begins and ends on a multiple of it.
        self._unit = math.gcd(self.images_per_epoch, self.batch_size)
        self._sampler = None

    def reset(self, seed):
        self._sampler = _sampler(self._split, self._unit, seed)

    def examples(self, start, count):
        images, labels = tf.numpy_function(
            self._gather, [start, count], (tf.uint8, tf.int32)
        )
        shape = self._split.images.shape[1:]
        return (
            tf.ensure_shape(images, (None, *shape)),
            tf.ensure_shape(labels, (None,)),
        )

    def num_distinct(self, epochs):
        sizes = np.unique(self._split.labels, return_counts=True)[1]
        draws = epochs * self.images_per_epoch
        # Class c is drawn in turn; the first ones may get one draw more.
        turns = (draws + np.arange(len(sizes))[::-1]) // len(sizes)
        return int(np.minimum(sizes, turns).sum())

    def _gather(self, start, count):
        first, last = start // self._unit, (start + count) // self._unit
        indices = np.concatenate(
            [self._sampler.indices(n) for n in range(first, last)]
        )
        return self._split.images[indices], self._split.labels[indices]


class FixedSet:
    """A stored set, shown whole in every epoch in a new order.

    Args:
        make: Function from a seed to uint8 images `(n, height, width,
            channels)` and int32 labels `(n,)`; called once per network. All
            its sets have the same size.
        num_images: n.
    """

    def __init__(self, make, num_images):
        self._make = make
        self.images_per_epoch = num_images
        self.batch_size = min(num_images, MAX_BATCH_SIZE)
        self._seed = _cpu_variable(np.int64(0))
        self._images = None
        self._labels = None
        self._num_distinct = 0

    def stored(self, seed):
        """Returns the images and labels of a network's seed."""
        return self._make(seed)

    def reset(self, seed):
        images, labels = self._make(seed)
        self._num_distinct = len(np.unique(_rows(images, labels)))
        self._seed.assign(seed)
        if self._images is None:
            self._images = _cpu_variable(images)
            self._labels = _cpu_variable(labels)
        else:
            self._images.assign(images)
            self._labels.assign(labels)

    def examples(self, start, count):
        size = self.images_per_epoch
        first = start // size
        last = (start + count - 1) // size

        def order(epoch):
            return tf.random.experimental.stateless_shuffle(
                tf.range(size), tf.stack([self._seed.value(), epoch])
            )

        orders = tf.map_fn(
            order, tf.range(first, last + 1), fn_output_signature=tf.int32
        )
        begin = start - first * size
        rows = tf.reshape(orders, [-1])[begin : begin + count]
        return tf.gather(self._images, rows), tf.gather(self._labels, rows)

    def num_distinct(self, epochs):
        """Counts the set of the last `reset`, whatever the epochs."""
        return self._num_distinct


class SoftLabelled:
    """A source of generated images with the soft labels of their generator.

    Args:
        source: Any of the sources above, or one like them.
        generator: `DistilledGenerator`.

    Raises:
        InputError: If the generator gives no soft labels.
    """

    def __init__(self, source, generator):
        if not getattr(generator, "has_soft_labels", False):
            raise soft_labels_error(getattr(generator, "path", generator))
        self._source = source
        self._generator = generator
        self.images_per_epoch = source.images_per_epoch
        self.batch_size = source.batch_size
        self.reset = source.reset
        self.num_distinct = source.num_distinct

    def examples(self, start, count):
        images, _ = self._source.examples(start, count)
        return images, self._classify(images)

    def _classify(self, images):
        """Returns soft labels, made of few images at once.

        Those of many steps come together, and all that the classifier's
        layers make of them would fill the memory.
        """
        count = tf.shape(images)[0]
        padding = -count % _LABELLED_AT_ONCE
        padded = tf.pad(images, [[0, padding], [0, 0], [0, 0], [0, 0]])
        labels = tf.map_fn(
            self._generator.classify,
            tf.reshape(padded, (-1, _LABELLED_AT_ONCE, *images.shape[1:])),
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        labels = tf.reshape(labels, (-1, self._generator.num_classes))
        return labels[:count]


def generated_set(generator, ipc):
    """Returns `make` of `FixedSet`: the first images of a generator's seed.

    Args:
        generator: As in `GeneratorStream`.
        ipc: Images per class.
    """
    draw, num_classes = _drawing_function(generator)
    count = ipc * num_classes
    draw = tf.function(draw, autograph=False, reduce_retracing=True)

    def make(seed):
        labels = np.tile(np.arange(num_classes, dtype=np.int32), ipc)
        seed = tf.constant(seed, tf.int64)
        images = [
            draw(
                tf.constant(labels[start : start + _CHUNK_SIZE]),
                seed,
                tf.constant(start, tf.int64),
            ).numpy()
            for start in range(0, count, _CHUNK_SIZE)
        ]
        return np.concatenate(images), labels

    return make


def first_real_images(split, ipc, num_classes):
    """Returns `make` of `FixedSet`: random real images, `ipc` of each class.

    A class of fewer than `ipc` images repeats some of them.

    Args:
        split: `Split` to draw from.
        ipc: Images per class.
        num_classes: Number of classes.
    """

    def make(seed):
        indices = _sampler(split, ipc * num_classes, seed).indices(0)
        return split.images[indices], split.labels[indices]

    return make


def _drawing_function(generator):
    """Returns `draw(labels, seed, first_index)` for a graph, and the classes.

    It gives uint8 images.
    """
    if not isinstance(generator, keras.Model):
        # The exported signature; `generate` is its face outside a graph.
        return generator.draw, generator.num_classes
    return image_drawer(generator), generator.inputs[1].shape[-1]


def _even_part(total, maximum):
    """Cuts a total into the fewest parts of at most `maximum`, evenly."""
    return math.ceil(total / math.ceil(total / maximum))


def _sampler(split, batch_size, seed):
    return BatchSampler(
        split.labels, batch_size, seed, stream=_EVALUATION_STREAM
    )


def _cpu_variable(value):
    """Returns a variable that stays in main memory, beside the input data."""
    with tf.device("/cpu:0"):
        return tf.Variable(value, trainable=False)


def _rows(images, labels):
    """Returns one opaque value per image with its label, to compare whole."""
    flat = np.concatenate(
        [
            np.ascontiguousarray(images).reshape(len(images), -1),
            np.asarray(labels, "<i4")[:, None].view(np.uint8),
        ],
        axis=1,
    )
    return flat.view(np.dtype((np.void, flat.shape[1]))).ravel()
