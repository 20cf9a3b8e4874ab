"""Mean and deviation of images, exact and in chunks."""

import numpy as np

from gdd_keras.data.raw import CHUNK_BYTES

__all__ = ["channel_statistics"]


def channel_statistics(images):
    """Returns mean and standard deviation per channel in `[-1, 1]`.

    Counting grey levels is exact whatever the chunks. The deviation is at
    least one grey level, so that a constant channel can be divided by it.

    Args:
        images: uint8 `(n, height, width, channels)`, array or `ImageRows`.

    Returns:
        Pair of tuples of floats, one entry per channel.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), np.int64)
    step = max(1, CHUNK_BYTES // int(np.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        chunk = images[start : start + step].reshape(-1, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel], minlength=256)
    levels = np.arange(256) / 127.5 - 1
    weights = counts / counts.sum(axis=1, keepdims=True)
    means = weights @ levels
    deviations = np.sqrt((weights * (levels - means[:, None]) ** 2).sum(axis=1))
    deviations = np.maximum(deviations, 1 / 127.5)
    return tuple(means.tolist()), tuple(deviations.tolist())
