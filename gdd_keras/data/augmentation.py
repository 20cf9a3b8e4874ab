"""Differentiable augmentation as a pure function of a seed."""

import tensorflow as tf

__all__ = ["augment"]

# Of the image's side; 4 pixels of 32, as in the literature.
_SHIFT_FRACTION = 0.125
_BRIGHTNESS = 0.25


def augment(images, strategy, seed):
    """Augments each image by its own draw.

    Called twice with the same seed and batch size, it applies the same draws:
    that is how real image i and generated image i are augmented alike.

    - `crop`: shifts by up to an eighth of the side, repeating the edge
    - `color_crop`: also brightness, saturation (RGB) and contrast

    Reference:
        - [Zhao & Bilen, 2021](https://arxiv.org/abs/2102.08259)

    Args:
        images: float32 `(batch, height, width, channels)` in [-1, 1].
        strategy: `"none"`, `"crop"` or `"color_crop"`.
        seed: Integer tensor `(2,)`.

    Returns:
        Images of the same shape, differentiable; colour may leave [-1, 1] a
        little.

    Raises:
        ValueError: If the strategy is unknown.
    """
    if strategy == "none":
        return images
    if strategy == "crop":
        return _shift(images, seed)
    if strategy == "color_crop":
        return _shift(_color(images, seed), seed)
    raise ValueError(
        "`strategy` must be none, crop or color_crop. Received: "
        f"strategy={strategy}."
    )


def _uniform(images, seed, salt, low, high):
    """Draws one number per image, shape `(batch, 1, 1, 1)`."""
    return tf.random.stateless_uniform(
        (tf.shape(images)[0], 1, 1, 1), seed + [0, salt], low, high
    )


def _color(images, seed):
    """Shifts brightness by up to 0.25, scales saturation and contrast."""
    images += _uniform(images, seed, 1, -_BRIGHTNESS, _BRIGHTNESS)
    if images.shape[-1] == 3:
        grey = tf.reduce_mean(images, -1, keepdims=True)
        images = grey + (images - grey) * _uniform(images, seed, 2, 0.0, 2.0)
    mean = tf.reduce_mean(images, (1, 2, 3), keepdims=True)
    return mean + (images - mean) * _uniform(images, seed, 3, 0.5, 1.5)


def _shift(images, seed):
    """Shifts rows and columns by whole pixels.

    A shift is a product with a 0-1 matrix; its gradient is one too, where
    that of a gather would be a slow scatter.
    """
    rows = _shift_matrix(images, 1, seed + [0, 4])
    columns = _shift_matrix(images, 2, seed + [0, 5])
    batch, height, width, channels = tf.unstack(tf.shape(images))
    static_shape = images.shape
    images = tf.reshape(images, (batch, height, width * channels))
    images = tf.reshape(rows @ images, (batch, height, width, channels))
    images = tf.einsum("bvw,bhwc->bhvc", columns, images)
    images.set_shape(static_shape)
    return images


def _shift_matrix(images, axis, seed):
    """Returns `(batch, side, side)` matrices that move by whole pixels."""
    side = tf.shape(images)[axis]
    limit = tf.cast(
        tf.round(tf.cast(side, tf.float32) * _SHIFT_FRACTION), tf.int32
    )
    offsets = tf.random.stateless_uniform(
        (tf.shape(images)[0], 1), seed, -limit, limit + 1, tf.int32
    )
    sources = tf.clip_by_value(tf.range(side)[None] + offsets, 0, side - 1)
    return tf.one_hot(sources, side, dtype=images.dtype)
