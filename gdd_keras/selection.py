"""Choosing few images out of many by their features, class by class.

scikit-learn has neither algorithm: its `kmeans_plusplus` draws at random.

Reference:
    - [Welling, 2009](https://doi.org/10.1145/1553374.1553517), herding
    - [Sener & Savarese, 2018](https://arxiv.org/abs/1708.00489), k-center
    - [Toneva et al., 2019](https://arxiv.org/abs/1812.05159), forgetting
"""

import numpy as np

from gdd_keras.config import InputError
from gdd_keras.memory import check_memory

__all__ = [
    "CLASSES_AT_ONCE",
    "IMAGES_PER_CLASS",
    "MAX_CONDENSED",
    "MAX_TYPICAL",
    "REAL_SELECTIONS",
    "SELECTIONS",
    "check_condensing",
    "check_size",
    "herding",
    "k_center",
    "most_forgotten",
    "repeated",
    "select_per_class",
]


# What any export gives, and what needs real images, too.
SELECTIONS = ("random", "typical", "condensed")
REAL_SELECTIONS = ("herding", "k_center")
# Images per class that `typical_images` chooses at most: of more, choosing
# takes long.
MAX_TYPICAL = 500
# And that `condensed_images` makes: of more, a step takes much memory.
MAX_CONDENSED = 100
# Images that a step of distribution matching stands for. The publication takes
# 256; the cost of a step is theirs, and a CPU has few steps.
IMAGES_PER_CLASS = 64
# Of `condensed_images`. Classes touch each other by what cutouts are filled
# with alone: more at once would only take memory.
CLASSES_AT_ONCE = 10

# Maps of ConvNet3's first block, float32, that are in memory at once: of
# images that are only looked at, and of those that get a gradient.
_LOOKED_AT_MAPS = 3
_MOVED_MAPS = 8
_MAP_WIDTH = 128


def check_size(selection, ipc):
    """Refuses more images than a selection is of use for.

    Args:
        selection: `typical`, `condensed`, or any other, which has no limit.
        ipc: Images per class.

    Raises:
        InputError: If they are more than `MAX_TYPICAL` or `MAX_CONDENSED`.
    """
    most = {"typical": MAX_TYPICAL, "condensed": MAX_CONDENSED}.get(selection)
    if most is not None and ipc > most:
        raise InputError(
            f"`--selection {selection}` gives up to {most} images per class. "
            f"Received: ipc={ipc}. Lower it, or choose random ones."
        )


def check_condensing(ipc, image_shape, num_classes):
    """Refuses condensed images that a step has no memory for.

    Args:
        ipc: Images per class.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes.

    Raises:
        InputError: If this machine has less memory.
    """
    height, width, _ = image_shape
    maps = _LOOKED_AT_MAPS * IMAGES_PER_CLASS + _MOVED_MAPS * ipc
    maps *= min(num_classes, CLASSES_AT_ONCE)
    check_memory(
        4 * maps * height * width * _MAP_WIDTH,
        f"A step of condensed images (ipc={ipc} of {height} x {width} pixels)",
        "Lower `--ipc`, or choose `--selection typical`.",
    )


def herding(features, count, target=None):
    """Picks rows whose running mean stays closest to a target.

    Args:
        features: float `(n, d)`.
        count: Rows to pick, at most n.
        target: float `(d,)`; default: the mean of all rows.

    Returns:
        int64 `(count,)`, in the order of choice, without repeats.
    """
    features = _checked(features, count)
    target = features.mean(0) if target is None else np.asarray(target)
    squares = np.einsum("nd,nd->n", features, features)
    picked = []
    total = np.zeros(features.shape[1])
    for number in range(1, count + 1):
        # |target - (total + row) / number|^2 without what all rows share.
        wanted = number * target - total
        distances = squares - 2.0 * features @ wanted
        distances[picked] = np.inf
        picked.append(int(distances.argmin()))
        total += features[picked[-1]]
    return np.array(picked, np.int64)


def k_center(features, count, target=None):
    """Picks rows so that every row is near a picked one (greedy 2-cover).

    The first is the row nearest to the target, each next one the row that is
    farthest from all picked.

    Args:
        features: As in `herding`, as are the rest and the result.
        count: Rows to pick.
        target: float `(d,)`; default: the mean of all rows.
    """
    features = _checked(features, count)
    target = features.mean(0) if target is None else np.asarray(target)
    picked = [int(_squared_distances(features, target).argmin())]
    nearest = _squared_distances(features, features[picked[0]])
    while len(picked) < count:
        # Rounding must not let a picked row be farthest of equal ones.
        nearest[picked] = -1.0
        picked.append(int(nearest.argmax()))
        nearest = np.minimum(
            nearest, _squared_distances(features, features[picked[-1]])
        )
    return np.array(picked, np.int64)


def most_forgotten(events, count, seed=0):
    """Picks the rows with most forgetting events, ties at random.

    Args:
        events: Integer `(n,)`, how often each image was forgotten.
        count: Rows to pick, at most n.
        seed: Integer >= 0.

    Returns:
        int64 `(count,)`, most forgotten first.
    """
    events = np.asarray(events)
    order = np.random.default_rng(seed).permutation(len(events))
    return order[np.argsort(-events[order], kind="stable")][:count]


def select_per_class(labels, count, num_classes, choose):
    """Applies a choice to each class.

    Args:
        labels: Integer `(n,)`.
        count: Images per class.
        num_classes: Number of classes.
        choose: Function of (label, int64 rows of that class, how many),
            giving positions among these rows.

    Returns:
        int64 `(num_classes * count,)` rows, class after class. A class of
        fewer than `count` images repeats them.
    """
    chosen = []
    for label in range(num_classes):
        rows = np.flatnonzero(labels == label)
        positions = choose(label, rows, min(count, len(rows)))
        chosen.append(repeated(rows[positions], count))
    return np.concatenate(chosen)


def repeated(rows, count):
    """Returns the first `count` of the rows, said again and again."""
    return np.resize(rows, count)


def _checked(features, count):
    """Returns the features as float64, or raises `ValueError`."""
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or not 1 <= count <= len(features):
        raise ValueError(
            "`features` must be (n, d) with n >= count >= 1. Received: "
            f"{features.shape}, count={count}."
        )
    return features


def _squared_distances(features, point):
    difference = features - point
    return np.einsum("nd,nd->n", difference, difference)
