"""Batches of a split as `tf.data`; step s of a seed is always the same."""

import keras
import numpy as np
import tensorflow as tf

__all__ = [
    "BatchSampler",
    "evaluation_batches",
    "scale_images",
    "training_batches",
]

# Streams of one seed that must not repeat each other's order.
_TRAINING_STREAM = 0
_POOL_STREAM = 1


def scale_images(images):
    """Maps uint8 images to the value range of all networks.

    Args:
        images: Tensor or array of 0..255, any shape.

    Returns:
        float32 tensor in `[-1, 1]`.
    """
    return keras.ops.cast(images, "float32") / 127.5 - 1.0


class BatchSampler:
    """Says which images form a batch: a pure function of seed and number.

    Examples are numbered through all batches. Under class balance, example e
    has class `e % num_classes`, and each class walks through its images in an
    order shuffled anew for every pass; else all images form one such walk.

    Args:
        labels: Integer `(n,)`.
        batch_size: Examples per batch; may exceed `n`.
        seed: Non-negative integer.
        class_balance: Whether every class occurs equally often.
        stream: Non-negative integer; streams are independent.

    Example:
        >>> sampler = BatchSampler([0, 0, 1], batch_size=4, seed=0)
        >>> sampler.indices(7)  # four of 0..2; no other batch is needed
    """

    def __init__(self, labels, batch_size, seed, class_balance=True, stream=0):
        labels = np.asarray(labels)
        if class_balance:
            classes = np.unique(labels)
            self._members = [np.flatnonzero(labels == c) for c in classes]
        else:
            self._members = [np.arange(len(labels))]
        self._batch_size = batch_size
        self._seed = seed
        self._stream = stream
        self._orders = {}

    def indices(self, number):
        """Returns the int64 `(batch_size,)` indices of batch `number`."""
        start = int(number) * self._batch_size
        examples = np.arange(start, start + self._batch_size)
        # Under balance: which group, and the how-manieth draw from it.
        draws, groups = np.divmod(examples, len(self._members))
        picked = np.empty(self._batch_size, np.int64)
        for group in np.unique(groups):
            here = np.flatnonzero(groups == group)
            passes, places = np.divmod(draws[here], len(self._members[group]))
            for number_of_pass in np.unique(passes):
                now = passes == number_of_pass
                order = self._order(int(group), int(number_of_pass))
                picked[here[now]] = order[places[now]]
        return picked

    def _order(self, group, number_of_pass):
        """Returns the images of a group in the order of one pass."""
        known = self._orders.get(group)
        if known is None or known[0] != number_of_pass:
            generator = np.random.default_rng(
                [self._seed, self._stream, group, number_of_pass]
            )
            order = generator.permutation(self._members[group])
            known = self._orders[group] = (number_of_pass, order)
        return known[1]


def training_batches(
    split,
    batch_size,
    seed,
    start_step=0,
    class_balance=True,
    extra_batches=0,
    replica=0,
    num_replicas=1,
):
    """Returns endless training batches; step s depends on seed and s alone.

    A run that resumes at step s passes `start_step=s` and sees exactly the
    batches that it would have seen without the break. For `Model.fit`, pass
    `steps_per_epoch` and `shuffle=False`; Keras warns otherwise.

    Args:
        split: `Split` with at least one image.
        batch_size: Images per batch.
        seed: Non-negative integer.
        start_step: Number of the first batch.
        class_balance: Whether every class is drawn equally often.
        extra_batches: Batches of an independent stream beside each step, for
            the training of pool networks.
        replica: Which share of every batch to give, from 0.
        num_replicas: Shares of a batch; they must divide it.

    Returns:
        Infinite `tf.data.Dataset` of dicts: `images` uint8 `(batch, height,
        width, channels)`, `labels` int32 `(batch,)` and, if `extra_batches`
        is k > 0, `pool_images` `(k, batch, ...)`, `pool_labels` `(k, batch)`;
        `batch` is `batch_size / num_replicas`.
    """
    sampler = BatchSampler(
        split.labels, batch_size, seed, class_balance, _TRAINING_STREAM
    )
    pool_sampler = BatchSampler(
        split.labels, batch_size, seed, class_balance, _POOL_STREAM
    )
    image_shape = tuple(split.images.shape[1:])
    size = batch_size // num_replicas
    share = slice(replica * size, (replica + 1) * size)

    def gather(step):
        indices = sampler.indices(step)[share]
        return split.images[indices], split.labels[indices]

    def gather_pool(step):
        first = int(step) * extra_batches
        indices = np.stack(
            [
                pool_sampler.indices(first + i)[share]
                for i in range(extra_batches)
            ]
        )
        images = split.images[indices.ravel()]
        images = images.reshape(*indices.shape, *image_shape)
        return images, split.labels[indices]

    def element(step):
        images, labels = _call(gather, step, (size,), image_shape)
        batch = {"images": images, "labels": labels}
        if extra_batches:
            images, labels = _call(
                gather_pool, step, (extra_batches, size), image_shape
            )
            batch |= {"pool_images": images, "pool_labels": labels}
        return batch

    steps = tf.data.Dataset.counter(start=start_step)
    return _without_threads(steps.map(element))


def evaluation_batches(split, batch_size):
    """Returns all images of a split once, in order.

    Args:
        split: `Split`.
        batch_size: Images per batch; the last batch may be smaller.

    Returns:
        Finite `tf.data.Dataset` of `(images, labels)`: uint8 `(batch, height,
        width, channels)` and int32 `(batch,)`.
    """
    image_shape = tuple(split.images.shape[1:])

    def gather(start):
        rows = slice(int(start), int(start) + batch_size)
        return split.images[rows], split.labels[rows]

    starts = tf.data.Dataset.range(0, len(split), batch_size)
    batches = starts.map(
        lambda start: _call(gather, start, (None,), image_shape)
    )
    return _without_threads(batches)


def _without_threads(dataset):
    """Keeps tf.data from working ahead in threads of its own.

    A thread that works ahead may be inside a Python function, waiting for the
    interpreter, while the garbage collector, which holds the interpreter,
    deletes the iterator and waits for the thread: the process stops for ever
    (seen once, in a run of stage 2). Batches are made on demand instead, in
    the thread that trains.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def _call(gather, number, leading, image_shape):
    """Runs a NumPy function of a number in the graph, shapes stated."""
    images, labels = tf.numpy_function(
        gather, [number], (tf.uint8, tf.int32), stateful=False
    )
    return (
        tf.ensure_shape(images, (*leading, *image_shape)),
        tf.ensure_shape(labels, leading),
    )
