"""Stratified parts of a training set."""

import numpy as np

__all__ = ["hold_out"]


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
