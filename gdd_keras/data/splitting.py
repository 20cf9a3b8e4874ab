"""Stratified parts of a training set, and what parts share."""

import hashlib

import numpy as np

__all__ = ["describe_overlaps", "hold_out"]

# Images read at a time, where they lie on disk.
_ROWS = 1000


def hold_out(labels, fraction, seed):
    """Picks the same fraction of every class.

    A class of two or more images gives at least one and keeps at least one; a
    class of one image keeps it.

    Args:
        labels: Integer `(n,)`.
        fraction: Part to hold out, between 0 and 1, rounded per class.
        seed: Non-negative integer, or a sequence of them.

    Returns:
        Pair of sorted int64 index arrays: kept and held out.
    """
    labels = np.asarray(labels)
    by_class = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.unique(labels, return_counts=True)[1])
    generator = np.random.default_rng(seed)
    is_held = np.zeros(len(labels), bool)
    for members in np.split(by_class, ends[:-1]):
        wanted = max(1, round(len(members) * fraction))
        count = min(wanted, len(members) - 1)
        is_held[generator.permutation(members)[:count]] = True
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def describe_overlaps(dataset):
    """Says which images that are scored on are training images, too.

    Compared are pixels at the training size, so that copies in another file
    format or of other labels count; images that are merely alike do not.

    Args:
        dataset: `Dataset`.

    Returns:
        List of lines, empty for a data set without such images.
    """
    seen = set(_digests(dataset.train.images))
    lines = []
    for name, split in dataset.splits.items():
        if name == "train":
            continue
        digests = _digests(split.images)
        shared = sum(digest in seen for digest in digests)
        if shared:
            lines.append(
                f"{name} images that are training images, too: {shared:,} of "
                f"{len(split):,}; scores on them flatter"
            )
        # Held-out images choose, so that they count as seen by the test.
        seen.update(digests)
    return lines


def _digests(images):
    """Returns one digest for each image."""
    return [
        hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        for start in range(0, len(images), _ROWS)
        for image in images[start : start + _ROWS]
    ]
