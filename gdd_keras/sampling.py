"""From (seed, image number) to latents, and from network output to pixels.

Used by the exported signatures and by everything that generates in a graph
of its own, so that both see the same images.
"""

import tensorflow as tf

__all__ = [
    "BLOCK_SIZE",
    "ImageSampler",
    "MAX_FIRST_INDEX",
    "image_drawer",
    "latents_for",
    "mixed_labels",
    "to_uint8",
]

# Convolution and matrix kernels may round differently for another batch size
# (seen on a CPU for batches of 3 and 7). Exported generators therefore always
# run on blocks of this many images, aligned to the image number; measured, 32
# is as fast as 256 from 28 pixels on. Within a block of 32 no difference was
# seen (oneDNN and Eigen on AVX-512), but kernels may treat the last rows of
# another block size, or on another processor, in their own way: the place of
# an image is kept too.
BLOCK_SIZE = 32

# Keeps image number x latent length far from the end of the counter.
MAX_FIRST_INDEX = 2**48

_PHILOX = 1

# Streams of one seed.
_LATENTS = 0
_MIXING = 1


def latents_for(seed, first_index, count, latent_dim, stream=_LATENTS):
    """Draws the latents of images `first_index` to `first_index + count - 1`.

    Row i depends on `seed` and `first_index + i` only: it is bit-identical
    however a range of images is cut into calls. Philox is a counter-based
    generator, so the image number is the position in the stream of the seed.

    Inside a function compiled by XLA (`jit_compile=True`), TensorFlow lays out
    the same stream otherwise: the values are as random, but they are others
    and depend on `count`.

    Args:
        seed: Integer or int64 scalar tensor.
        first_index: Integer or int64 scalar tensor, 0 to `MAX_FIRST_INDEX`.
        count: Integer or int32 scalar tensor.
        latent_dim: Integer.
        stream: Integer; streams of one seed are independent.

    Returns:
        float32 tensor `(count, latent_dim)`, standard normal.
    """
    # One step of the counter gives four numbers; a row starts on a whole step.
    steps = -(-latent_dim // 4)
    seed = tf.reshape(tf.cast(seed, tf.int64), [])
    offset = tf.reshape(tf.cast(first_index, tf.int64), []) * steps
    values = tf.raw_ops.StatelessRandomNormalV2(
        shape=tf.stack([tf.cast(count, tf.int32), steps * 4]),
        key=tf.bitcast(seed[tf.newaxis], tf.uint64),
        counter=tf.bitcast(
            tf.stack([offset, stream * tf.ones_like(offset)]), tf.uint64
        ),
        alg=_PHILOX,
        dtype=tf.float32,
    )
    values = tf.ensure_shape(values, [None, steps * 4])
    return values[:, :latent_dim]


def mixed_labels(labels, seed, first_index, num_classes, label_mixing=0.0):
    """Returns the label vectors y of G([z + y]), mixed with another class's.

    A generator trained under an auxiliary classifier makes images that are
    easier to tell apart than real ones. Between two classes it makes the
    harder ones: y = (1 - m) e_label + m e_other, with m uniform in [0,
    `label_mixing`] and the other class drawn uniformly. The label that goes
    with the image stays the first.

    Args:
        labels: int32 `(count,)`.
        seed: As in `latents_for`; each image has its own draw.
        first_index: Number of the first image.
        num_classes: Integer.
        label_mixing: Largest share of the other class, 0 (none) to 1.

    Returns:
        float32 `(count, num_classes)`; rows sum to 1.
    """
    one_hot_labels = tf.one_hot(labels, num_classes)
    if label_mixing == 0.0:
        return one_hot_labels
    draws = latents_for(
        seed, first_index, tf.shape(labels)[0], num_classes + 1, _MIXING
    )
    # The normal distribution function makes a normal number uniform.
    uniform = 0.5 * tf.math.erfc(-draws[:, :1] * 0.5**0.5)
    share = label_mixing * uniform
    others = tf.one_hot(tf.argmax(draws[:, 1:], axis=-1), num_classes)
    return (1.0 - share) * one_hot_labels + share * others


class ImageSampler:
    """Images of a network by seed and image number, inside a graph.

    The network always runs on blocks of `BLOCK_SIZE` in which image number n
    has the place `n % BLOCK_SIZE`: see there. So an image has the same bits
    whichever method draws it, and whatever is drawn with it.

    Args:
        network: Function from float32 latents `(batch, latent_dim)` and label
            vectors `(batch, num_classes)` to float images.
        latent_dim: Integer.
        num_classes: Integer.
        image_shape: `(height, width, channels)`.
        label_mixing: See `mixed_labels`.
    """

    def __init__(
        self, network, latent_dim, num_classes, image_shape, label_mixing=0.0
    ):
        self.network = network
        self.latent_dim = latent_dim
        self.num_classes = num_classes
        self.image_shape = tuple(image_shape)
        self.label_mixing = label_mixing

    def draw(self, labels, seed, first_index):
        """Draws consecutive images of one seed.

        Args:
            labels: int32 `(count,)`.
            seed: int64 scalar.
            first_index: int64 scalar, 0 to `MAX_FIRST_INDEX`.

        Returns:
            uint8 `(count, height, width, channels)`; row i is image number
            `first_index + i` of the seed.
        """
        first_index = tf.cast(first_index, tf.int64)
        count = tf.shape(labels)[0]
        before = tf.cast(first_index % BLOCK_SIZE, tf.int32)
        num_blocks = -(-(before + count) // BLOCK_SIZE)
        after = num_blocks * BLOCK_SIZE - before - count
        labels = tf.pad(labels, [[before, after]])
        start = first_index - tf.cast(before, tf.int64)

        def one_block(inputs):
            block, block_labels = inputs
            number = start + block * BLOCK_SIZE
            return self._block(*self._inputs(block_labels, seed, number))

        blocks = (
            tf.range(tf.cast(num_blocks, tf.int64)),
            tf.reshape(labels, [-1, BLOCK_SIZE]),
        )
        images = self._map_blocks(one_block, blocks)
        return images[before : before + count]

    def draw_rows(self, labels, seeds, indices):
        """Draws images that have nothing to do with each other.

        Rows whose numbers have the same place cannot share a block: it is
        cheapest to number the rows of a batch consecutively.

        Args:
            labels: int32 `(count,)`.
            seeds: int64 `(count,)`.
            indices: int64 `(count,)`, 0 to `MAX_FIRST_INDEX`.

        Returns:
            uint8 `(count, height, width, channels)`; row i is image number
            `indices[i]` of `seeds[i]`.
        """

        def one_row(inputs):
            label, seed, index = inputs
            latents, vectors = self._inputs(label[tf.newaxis], seed, index)
            return latents[0], vectors[0]

        latents, vectors = tf.map_fn(
            one_row,
            (labels, seeds, indices),
            fn_output_signature=(
                tf.TensorSpec((self.latent_dim,), tf.float32),
                tf.TensorSpec((self.num_classes,), tf.float32),
            ),
        )
        places = tf.cast(indices % BLOCK_SIZE, tf.int32)
        at_place = tf.one_hot(places, BLOCK_SIZE, dtype=tf.int32)
        # The k-th row of a place goes into the k-th block.
        blocks = tf.reduce_sum(
            tf.cumsum(at_place, exclusive=True) * at_place, axis=1
        )
        num_blocks = tf.reduce_max(tf.reduce_sum(at_place, axis=0))
        slots = blocks * BLOCK_SIZE + places
        # Row numbers from 1, since 0 is left where a slot stays free.
        rows = tf.scatter_nd(
            slots[:, tf.newaxis],
            tf.range(1, tf.shape(slots)[0] + 1),
            [num_blocks * BLOCK_SIZE],
        )
        latents = tf.pad(latents, [[1, 0], [0, 0]])
        vectors = tf.pad(vectors, [[1, 0], [0, 0]])

        def one_block(rows):
            return self._block(
                tf.gather(latents, rows), tf.gather(vectors, rows)
            )

        images = self._map_blocks(one_block, tf.reshape(rows, [-1, BLOCK_SIZE]))
        return tf.gather(images, slots)

    def _inputs(self, labels, seed, first_index):
        """Returns latents and label vectors of consecutive images."""
        latents = latents_for(
            seed, first_index, tf.shape(labels)[0], self.latent_dim
        )
        vectors = mixed_labels(
            labels, seed, first_index, self.num_classes, self.label_mixing
        )
        return latents, vectors

    def _block(self, latents, label_vectors):
        """Returns uint8 images of one block."""
        images = to_uint8(self.network(latents, label_vectors))
        return tf.ensure_shape(images, [BLOCK_SIZE, *self.image_shape])

    def _map_blocks(self, one_block, blocks):
        """Returns the images of all blocks, one after the other."""
        images = tf.map_fn(
            one_block,
            blocks,
            fn_output_signature=tf.TensorSpec(
                (BLOCK_SIZE, *self.image_shape), tf.uint8
            ),
            # Two at a time keep two cores busier than one spread over both.
            parallel_iterations=2,
        )
        return tf.reshape(images, [-1, *self.image_shape])


def image_drawer(generator, label_mixing=0.0):
    """Returns the function from labels and numbers to images.

    Args:
        generator: `keras.Model` of `[latents, one_hot_labels]`.
        label_mixing: See `mixed_labels`.

    Returns:
        `ImageSampler.draw` of the generator.
    """
    latent_dim, num_classes = (x.shape[-1] for x in generator.inputs)

    def network(latents, label_vectors):
        return generator([latents, label_vectors], training=False)

    return ImageSampler(
        network,
        latent_dim,
        num_classes,
        generator.output_shape[1:],
        label_mixing,
    ).draw


def to_uint8(images):
    """Converts images from [-1, 1] to whole numbers from 0 to 255.

    Args:
        images: Float tensor; values outside [-1, 1] are clipped.

    Returns:
        uint8 tensor of the same shape, `round((images + 1) * 127.5)` with
        halves going to the even neighbour.
    """
    scaled = tf.round((tf.cast(images, tf.float32) + 1.0) * 127.5)
    return tf.cast(tf.clip_by_value(scaled, 0.0, 255.0), tf.uint8)
