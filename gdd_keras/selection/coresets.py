"""Choosing few images out of many by their features, class by class.

scikit-learn has neither algorithm: its `kmeans_plusplus` draws at random.

Reference:
    - [Welling, 2009](https://doi.org/10.1145/1553374.1553517), herding
    - [Sener & Savarese, 2018](https://arxiv.org/abs/1708.00489), k-center
    - [Toneva et al., 2019](https://arxiv.org/abs/1812.05159), forgetting
"""

import numpy as np

__all__ = [
    "herding",
    "k_center",
    "most_forgotten",
    "repeated",
    "select_per_class",
]


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
