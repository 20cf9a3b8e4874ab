"""From (seed, image number) to latents, and from network output to pixels.

Used by the exported signatures and by everything that generates in a graph
of its own, so that both see the same images.
"""

import tensorflow as tf

__all__ = [
    "BLOCK_SIZE",
    "MAX_FIRST_INDEX",
    "image_drawer",
    "latents_for",
    "mixed_labels",
    "to_uint8",
]

# Convolution and matrix kernels may round differently for another batch size
# (seen on a CPU for batches of 3 and 7). Exported generators therefore always
# run on blocks of this many images, aligned to the image number; measured, 32
# is as fast as 256 from 28 pixels on.
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


def image_drawer(generator, label_mixing=0.0):
    """Returns the function from labels and numbers to images.

    The network always runs on aligned blocks of `BLOCK_SIZE`, see there.

    Args:
        generator: `keras.Model` of `[latents, one_hot_labels]`.
        label_mixing: See `mixed_labels`.

    Returns:
        `draw(labels, seed, first_index)`: int32 `(count,)`, two int64
        scalars; gives uint8 images, row i being number `first_index + i` of
        the seed. Usable inside a graph.
    """
    latent_dim, num_classes = (x.shape[-1] for x in generator.inputs)
    image_shape = tuple(generator.output_shape[1:])

    def draw(labels, seed, first_index):
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
            latents = latents_for(seed, number, BLOCK_SIZE, latent_dim)
            label_vectors = mixed_labels(
                block_labels, seed, number, num_classes, label_mixing
            )
            return to_uint8(generator([latents, label_vectors], training=False))

        images = tf.map_fn(
            one_block,
            (
                tf.range(tf.cast(num_blocks, tf.int64)),
                tf.reshape(labels, [-1, BLOCK_SIZE]),
            ),
            fn_output_signature=tf.TensorSpec(
                (BLOCK_SIZE, *image_shape), tf.uint8
            ),
            parallel_iterations=1,
        )
        images = tf.reshape(images, [-1, *image_shape])
        return images[before : before + count]

    return draw


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
