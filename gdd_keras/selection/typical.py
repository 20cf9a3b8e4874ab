"""Few images that stand for many: what a small stored set should hold."""

import numpy as np

from gdd_keras.config import checked_integer
from gdd_keras.networks import build_classifier
from gdd_keras.networks import image_features
from gdd_keras.selection import MAX_TYPICAL
from gdd_keras.selection import herding

__all__ = ["statistics_of", "typical_images"]

_CANDIDATES = 2000
_CANDIDATES_PER_IMAGE = 20
_NETWORK = "convnet3"
# Larger images are looked at in this size: features would fill the memory.
_MAX_SIZE = 32


def typical_images(generator, ipc, seed=0, progress=None):
    """Chooses, out of many draws, few whose mean features are theirs.

    Of each class 2,000 images are drawn, at least 20 for each that is kept,
    and herded: each next one brings the mean of the chosen ones as near to the
    mean of all as it can. Features are those of a ConvNet3 with random
    weights, as in distribution matching, so that neither real images nor
    training take part. What is chosen for a smaller `ipc` comes first, up to
    100.

    Reference:
        - [Welling, 2009](https://doi.org/10.1145/1553374.1553517), herding
        - [Zhao & Bilen, 2023](https://arxiv.org/abs/2110.04181), for features
          of random networks

    Args:
        generator: `DistilledGenerator`.
        ipc: Images per class, at most `MAX_TYPICAL`.
        seed: Integer >= 0; another seed chooses from other images.
        progress: `None`, or a function of `(classes done, classes in all)`.

    Returns:
        uint8 `(ipc * num_classes, height, width, channels)`, with the labels
        of `generator.balanced_labels(ipc)`.

    Raises:
        InputError: If an argument is out of range.
    """
    ipc = checked_integer("ipc", ipc, 1, MAX_TYPICAL)
    count = max(_CANDIDATES, _CANDIDATES_PER_IMAGE * ipc)
    extract = _random_features(generator)
    shape = (ipc, generator.num_classes, *generator.image_shape)
    chosen = np.empty(shape, np.uint8)
    for label in range(generator.num_classes):
        images = generator.generate(np.full(count, label), seed)
        chosen[:, label] = images[herding(extract(images), ipc)]
        if progress is not None:
            progress(label + 1, generator.num_classes)
    return chosen.reshape(-1, *generator.image_shape)


def _random_features(generator):
    """Returns a function from uint8 images to float32 `(n, d)`."""
    height, width, channels = generator.image_shape
    size = (min(height, _MAX_SIZE), min(width, _MAX_SIZE))
    network = build_classifier(
        _NETWORK,
        (*size, channels),
        generator.num_classes,
        *statistics_of(generator),
    )
    return image_features(network, None if size == (height, width) else size)


def statistics_of(generator):
    """Returns means and standard deviations of the channels in [-1, 1].

    Args:
        generator: `DistilledGenerator`; one that does not know its data's
            gets zeros and ones.
    """
    channels = generator.image_shape[-1]
    statistics = generator.metadata.get("statistics", {})
    return (
        statistics.get("mean", channels * [0.0]),
        statistics.get("std", channels * [1.0]),
    )
