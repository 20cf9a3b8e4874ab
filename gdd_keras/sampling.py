"""From (seed, image number) to latents, and from network output to pixels.

Used by the exported signatures and by everything that generates in a graph
of its own, so that both see the same images.
"""

import tensorflow as tf

__all__ = ["BLOCK_SIZE", "MAX_FIRST_INDEX", "latents_for", "to_uint8"]

# Convolution and matrix kernels may round differently for another batch size
# (seen on a CPU for batches of 3 and 7). Exported generators therefore always
# run on blocks of this many images, aligned to the image number; measured, 32
# is as fast as 256 from 28 pixels on.
BLOCK_SIZE = 32

# Keeps image number x latent length far from the end of the counter.
MAX_FIRST_INDEX = 2**48

_PHILOX = 1


def latents_for(seed, first_index, count, latent_dim):
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
            tf.stack([offset, tf.zeros_like(offset)]), tf.uint64
        ),
        alg=_PHILOX,
        dtype=tf.float32,
    )
    values = tf.ensure_shape(values, [None, steps * 4])
    return values[:, :latent_dim]


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
