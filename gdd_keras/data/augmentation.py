"""Differentiable augmentation as a pure function of a seed."""

import math

import keras
import tensorflow as tf

__all__ = ["augment", "siamese_strategy"]

# Of the image's side; 4 pixels of 32, as in the literature.
_SHIFT_FRACTION = 0.125
_BRIGHTNESS = 0.25
_CUTOUT_FRACTION = 0.5
_SCALE = 1.2
_ROTATION = math.radians(15.0)

# How many seeds of TensorFlow the draws of one augmentation take.
_SALTS = 16


def augment(images, strategy, seed, shared=False, rows=None):
    """Augments each image by its own draw.

    Called twice with the same seed and batch size, it applies the same draws:
    that is how real image i and generated image i are augmented alike.

    - `crop`: shifts by up to an eighth of the side, repeating the edge
    - `color_crop`: also brightness, saturation (RGB) and contrast
    - `dsa`: differentiable siamese augmentation, one of colour, shift,
      cutout (half a side, filled with the mean), flip, scale (to 1.2) and
      rotation (15 degrees), drawn once for the batch
    - `dsa_digits`: that without colour and flip

    Reference:
        - [Zhao & Bilen, 2021](https://arxiv.org/abs/2102.08259)

    Args:
        images: float32 `(batch, height, width, channels)` in [-1, 1].
        strategy: `"none"` or one of the above.
        seed: Integer tensor `(2,)`. Different seeds have independent draws.
        shared: Whether all images get one and the same draw.
        rows: `(count, indices)` where the images are these rows of a batch of
            `count` images, to get the draws that they would get there; see
            `gdd_keras.strategy.batch_rows`.

    Returns:
        Images of the same shape, differentiable; colour may leave [-1, 1] a
        little.

    Raises:
        ValueError: If the strategy is unknown.
    """
    draws = 1 if shared else rows or tf.shape(images)[0]
    if strategy == "none":
        return images
    # Steps count up by one; their draws must not share seeds.
    seed = tf.convert_to_tensor(seed)
    seed *= tf.constant([1, _SALTS], seed.dtype)
    if strategy == "crop":
        return _shift(images, seed, draws)
    if strategy == "color_crop":
        return _shift(_color(images, seed, draws), seed, draws)
    if strategy in _SIAMESE:
        functions = _SIAMESE[strategy]
        drawn = tf.random.stateless_uniform(
            (), seed + [0, 15], 0, len(functions), tf.int32
        )
        augmented = tf.switch_case(
            drawn,
            [
                lambda f=function: f(images, seed, draws)
                for function in functions
            ],
        )
        augmented.set_shape(images.shape)
        return augmented
    raise ValueError(
        "`strategy` must be none, crop, color_crop, dsa or dsa_digits. "
        f"Received: strategy={strategy}."
    )


def siamese_strategy(augmentation):
    """Returns the siamese strategy that fits data of an augmentation.

    Args:
        augmentation: `Dataset.augmentation`.

    Returns:
        `dsa` where colour fits the data, `dsa_digits` for the rest but
        `none`.
    """
    return {"color_crop": "dsa", "crop": "dsa_digits"}.get(
        augmentation, augmentation
    )


def _uniform(draws, seed, salt, low, high):
    """Draws one number per image, shape `(draws, 1, 1, 1)`."""
    return _draw(draws, (1, 1, 1), seed + [0, salt], low, high)


def _draw(draws, shape, seed, low, high, dtype=tf.float32):
    """Draws `(draws, *shape)` numbers; `draws` is a count, or `rows`."""
    count, rows = draws if isinstance(draws, tuple) else (draws, None)
    numbers = tf.random.stateless_uniform(
        (count, *shape), seed, low, high, dtype
    )
    return numbers if rows is None else tf.gather(numbers, rows)


def _color(images, seed, draws):
    """Shifts brightness by up to 0.25, scales saturation and contrast."""
    images += _uniform(draws, seed, 1, -_BRIGHTNESS, _BRIGHTNESS)
    if images.shape[-1] == 3:
        grey = tf.reduce_mean(images, -1, keepdims=True)
        images = grey + (images - grey) * _uniform(draws, seed, 2, 0.0, 2.0)
    mean = tf.reduce_mean(images, (1, 2, 3), keepdims=True)
    return mean + (images - mean) * _uniform(draws, seed, 3, 0.5, 1.5)


def _shift(images, seed, draws):
    """Shifts rows and columns by whole pixels.

    A shift is a product with a 0-1 matrix; its gradient is one too, where
    that of a gather would be a slow scatter.
    """
    rows = _shift_matrix(images, 1, seed + [0, 4], draws)
    columns = _shift_matrix(images, 2, seed + [0, 5], draws)
    batch, height, width, channels = tf.unstack(tf.shape(images))
    static_shape = images.shape
    images = tf.reshape(images, (batch, height, width * channels))
    images = tf.reshape(rows @ images, (batch, height, width, channels))
    images = tf.einsum("bvw,bhwc->bhvc", columns, images)
    images.set_shape(static_shape)
    return images


def _shift_matrix(images, axis, seed, draws):
    """Returns `(batch, side, side)` matrices that move by whole pixels."""
    side = tf.shape(images)[axis]
    limit = tf.cast(
        tf.round(tf.cast(side, tf.float32) * _SHIFT_FRACTION), tf.int32
    )
    offsets = _draw(draws, (1,), seed, -limit, limit + 1, tf.int32)
    offsets = tf.broadcast_to(offsets, (tf.shape(images)[0], 1))
    sources = tf.clip_by_value(tf.range(side)[None] + offsets, 0, side - 1)
    return tf.one_hot(sources, side, dtype=images.dtype)


def _cutout(images, seed, draws):
    """Fills a square around a drawn pixel with the batch's mean."""
    mask = 1.0
    for axis, salt in ((1, 6), (2, 7)):
        side = tf.shape(images)[axis]
        half = tf.cast(side, tf.float32) * _CUTOUT_FRACTION / 2.0
        shape = [1, 1, 1, 1]
        shape[axis] = side
        pixels = tf.reshape(tf.range(side, dtype=tf.float32) + 0.5, shape)
        center = _uniform(draws, seed, salt, 0.0, tf.cast(side, tf.float32))
        mask *= tf.cast(tf.abs(pixels - center) < half, tf.float32)
    # The literature fills with zero in standardised units, which is the mean.
    mean = tf.reduce_mean(images, (0, 1, 2), keepdims=True)
    return images * (1.0 - mask) + mean * mask


def _flip(images, seed, draws):
    """Mirrors left and right, half of the time."""
    flipped = _uniform(draws, seed, 8, 0.0, 1.0) < 0.5
    return tf.where(flipped, tf.reverse(images, [2]), images)


def _scale(images, seed, draws):
    """Scales height and width apart by 1 / 1.2 to 1.2."""
    height, width = (
        _uniform(draws, seed, salt, 1.0 / _SCALE, _SCALE)[:, 0, 0, 0]
        for salt in (9, 10)
    )
    return _transform(images, 1.0 / width, 0.0 * width, 1.0 / height)


def _rotate(images, seed, draws):
    """Rotates by up to 15 degrees."""
    angle = _uniform(draws, seed, 11, -_ROTATION, _ROTATION)[:, 0, 0, 0]
    return _transform(images, tf.cos(angle), tf.sin(angle), tf.cos(angle))


def _transform(images, x_from_x, y_from_x, y_from_y):
    """Samples bilinearly about the centre, repeating the edge."""
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    center_x = (tf.cast(width, tf.float32) - 1.0) / 2.0
    center_y = (tf.cast(height, tf.float32) - 1.0) / 2.0
    zero = tf.zeros_like(x_from_x)
    matrix = tf.stack(
        [
            x_from_x,
            -y_from_x,
            center_x - x_from_x * center_x + y_from_x * center_y,
            y_from_x,
            y_from_y,
            center_y - y_from_x * center_x - y_from_y * center_y,
            zero,
            zero,
        ],
        axis=1,
    )
    return keras.ops.image.affine_transform(
        images,
        tf.broadcast_to(matrix, (batch, 8)),
        interpolation="bilinear",
        fill_mode="nearest",
        data_format="channels_last",
    )


_SIAMESE = {
    "dsa": (_color, _shift, _cutout, _flip, _scale, _rotate),
    "dsa_digits": (_shift, _cutout, _scale, _rotate),
}
