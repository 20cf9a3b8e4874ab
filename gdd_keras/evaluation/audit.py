"""Memorisation audit: are generated images copies of training images?

The figures are reported as they are; no guarantee of privacy is claimed. They
see only what plain distances see: not a copy that is shifted, mirrored or
recoloured, and not an attack with the network itself.
"""

import math
import statistics

import numpy as np
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.metrics import roc_auc_score

from gdd_keras.evaluation.quality import check_matrices

__all__ = ["audit_memorisation"]

# Share of fresh real images that count as near duplicates.
_DUPLICATE_SHARE = 0.01

# Root mean square difference of equal rows, in terms of the largest value:
# rounding, yet less than one step of one value of an 8-bit image.
_SAME = 1e-6

# Squared distance, in terms of the squared norm, below which the error of
# float32 products could hide the nearest row.
_DOUBTFUL = 1e-3

_QUERY_BLOCK = 2500
_REFERENCE_BLOCK = 4000
_EXACT_BLOCK = 1000

_QUANTILE = statistics.NormalDist().inv_cdf(0.975)


def audit_memorisation(generated, train, held_out, seed=0):
    """Compares distances to training images with those to unseen ones.

    Blurred or typical images lie near to all images, so a small distance to
    the training images says nothing alone. Held-out images of the same
    distribution, which training never saw, show what is natural:

    - Nearest image. A generated image of a model that only generalises is as
      often nearer to a training as to a held-out image. Both sets are cut to
      equal size, for the larger one would win; copies of what is cut off do
      not show here, nor in the attack, but in the next two.
    - Near duplicates: generated images as near to a training image as only
      1 % of the held-out images are. More than 1 % can also come from blur.
    - Exact copies of training images.
    - Membership attack: guesses from the distance to the nearest generated
      image whether an image was trained on; equally many of both kinds.

    The intervals are of 95 % and cover the chance in the choice of images,
    not that in training. Often many generated images have the same nearest
    image, and are then nearer to one of the sets all together: the Wilson
    interval is that of `num_effective` independent images. Hanley's and
    McNeil's interval of the attack takes all its images as independent.

    Reference:
        - [Chen et al., 2020](https://arxiv.org/abs/1909.03935), the attack

    Args:
        generated: Float `(num_generated, dim)`, pixels in [0, 1] or features.
        train: Float `(num_train, dim)`, all that the generator was trained
            on.
        held_out: Float `(num_held_out, dim)` of the same distribution. 99
            rows or more, or a share of 1 % cannot be told.
        seed: Integer >= 0, draws the subset of the larger of `train` and
            `held_out`.

    Returns:
        Dict of floats and integers, ready for JSON. Distances are Euclidean
        divided by `sqrt(dim)`, so root mean square differences:

        - `num_generated`, `num_train`, `num_held_out`: rows given;
        - `num_reference`: rows of either set where both are equally large;
        - `num_effective`: float, at most `num_generated`;
        - `median_distance_train`, `median_distance_held_out`: from generated
          images to the nearest of `num_reference`;
        - `share_nearer_train`, `share_nearer_train_low` and `_high`: share of
          generated images nearer to a training image, ties half; 0.5 means
          no difference;
        - `share_near_duplicates`, `share_near_duplicates_expected` (what
          fresh real images give) and `duplicate_threshold` (a distance);
        - `share_exact`: share equal to a training row up to rounding;
        - `attack_auc`, `attack_auc_low` and `_high`: area under the ROC
          curve of the attack; 0.5 means no information.

    Raises:
        ValueError: If the sets are no matrices of equal width and finite.

    Example:
        ```python
        rows = lambda split: split.images.reshape(len(split), -1) / 255.0
        report = audit_memorisation(
            generated, rows(dataset.train), rows(dataset.test)
        )
        ```
    """
    # `train` first: messages compare the others' width with it.
    matrices = check_matrices(
        train=train, generated=generated, held_out=held_out
    )
    train, generated, held_out = matrices.values()
    scale = max(_largest(matrix) for matrix in matrices.values()) or 1.0
    centre = train.mean(axis=0, dtype=np.float64)

    def nearest(queries, references):
        return _find_nearest(queries, references, centre, scale)

    num_reference = min(len(train), len(held_out))
    rng = np.random.default_rng(seed)
    train_subset = _subset(train, num_reference, rng)
    held_out_subset = _subset(held_out, num_reference, rng)

    to_train, _ = nearest(generated, train)
    natural, _ = nearest(held_out, train)
    threshold = _lower_quantile(natural, _DUPLICATE_SHARE)
    members, _ = nearest(train_subset, generated)
    others, _ = nearest(held_out_subset, generated)
    return {
        "num_generated": len(generated),
        "num_train": len(train),
        "num_held_out": len(held_out),
        "num_reference": num_reference,
        **_compare_nearest(
            *nearest(generated, train_subset),
            *nearest(generated, held_out_subset),
        ),
        "share_near_duplicates": float(np.mean(to_train <= threshold)),
        "share_near_duplicates_expected": max(
            _DUPLICATE_SHARE, 1 / (len(held_out) + 1)
        ),
        "duplicate_threshold": threshold,
        "share_exact": float(np.mean(to_train <= _SAME * scale)),
        **_attack(members, others),
    }


def _largest(matrix):
    """Returns the largest absolute value, without a copy of the matrix."""
    return max(float(matrix.max()), -float(matrix.min()))


def _subset(matrix, count, rng):
    """Returns `count` different rows in their order, at random if it can."""
    if len(matrix) == count:
        return matrix
    return matrix[np.sort(rng.choice(len(matrix), count, replace=False))]


def _lower_quantile(values, share):
    """Returns what `share` of further values of the kind will not exceed.

    At n values the k-th smallest has k / (n + 1) below it on average.
    """
    return float(np.quantile(values, share, method="weibull"))


def _compare_nearest(to_train, train_index, to_held_out, held_out_index):
    """Returns medians, and the share of rows nearer to a training image."""
    nearer = float(
        np.mean(to_train < to_held_out) + np.mean(to_train == to_held_out) / 2
    )
    # Negative numbers for held-out images, 0 and above for training images.
    winners = np.where(to_train < to_held_out, train_index, -1 - held_out_index)
    _, sizes = np.unique(winners, return_counts=True)
    num_effective = float(sizes.sum() ** 2 / np.square(sizes).sum())
    low, high = _wilson_interval(nearer, num_effective)
    return {
        "num_effective": num_effective,
        "median_distance_train": float(np.median(to_train)),
        "median_distance_held_out": float(np.median(to_held_out)),
        "share_nearer_train": nearer,
        "share_nearer_train_low": low,
        "share_nearer_train_high": high,
    }


def _attack(members, others):
    """Returns the area under the ROC curve for two sets of distances."""
    area = float(
        roc_auc_score(
            np.repeat([1, 0], [len(members), len(others)]),
            -np.concatenate([members, others]),
        )
    )
    low, high = _hanley_mcneil_interval(area, len(members), len(others))
    return {
        "attack_auc": area,
        "attack_auc_low": low,
        "attack_auc_high": high,
    }


def _wilson_interval(share, count):
    """Returns the 95 % interval of a share of `count` independent cases."""
    weight = _QUANTILE**2 / count
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return max(0.0, middle - half), min(1.0, middle + half)


def _hanley_mcneil_interval(area, num_positive, num_negative):
    """Returns the 95 % interval of an area under the ROC curve.

    Reference:
        - Hanley & McNeil, 1982, Radiology 143(1)
    """
    two_positive = area / (2 - area)
    two_negative = 2 * area**2 / (1 + area)
    variance = (
        area * (1 - area)
        + (num_positive - 1) * (two_positive - area**2)
        + (num_negative - 1) * (two_negative - area**2)
    ) / (num_positive * num_negative)
    half = _QUANTILE * math.sqrt(max(0.0, variance))
    return max(0.0, area - half), min(1.0, area + half)


def _find_nearest(queries, references, centre, scale):
    """Returns each query's distance to its nearest reference, and its index.

    Float32 products find the neighbour; its distance is then computed from
    the difference, which for equal rows is 0. Where the products' rounding
    could matter, the search is repeated in float64.
    """
    scaled = _normalise(queries, centre, scale)
    nearest = _nearest_by_products(scaled, references, centre, scale)
    distances = _row_distances(queries, references, nearest)
    relative = np.square(distances / scale) * queries.shape[1]
    norms = np.einsum("ij,ij->i", scaled, scaled)
    doubtful = np.flatnonzero(
        (relative < _DOUBTFUL * norms) & (distances > 0.0)
    )
    if len(doubtful):
        rows = queries[doubtful].astype(references.dtype)
        nearest[doubtful], _ = pairwise_distances_argmin_min(rows, references)
        distances[doubtful] = _row_distances(
            rows, references, nearest[doubtful]
        )
    return distances, nearest


def _normalise(rows, centre, scale):
    """Returns rows as float32 about 0 and within [-2, 2].

    The smaller their norms, the less rounding in products; and no square
    leaves the range of float32.
    """
    centred = rows - centre.astype(rows.dtype)
    centred /= scale
    return centred.astype(np.float32, copy=False)


def _nearest_by_products(scaled, references, centre, scale):
    """Returns the index of each query's nearest reference.

    |q - r|^2 = |q|^2 + |r|^2 - 2 q r, of which |q|^2 changes no order.

    Args:
        scaled: Queries from `_normalise`.
        references: Float `(num_references, dim)`, as given.
        centre: For `_normalise`.
        scale: For `_normalise`.
    """
    nearest = np.zeros(len(scaled), np.int64)
    smallest = np.full(len(scaled), np.inf, np.float32)
    for first in range(0, len(references), _REFERENCE_BLOCK):
        block = _normalise(
            references[first : first + _REFERENCE_BLOCK], centre, scale
        )
        norms = np.einsum("ij,ij->i", block, block)
        block *= -2.0
        for start in range(0, len(scaled), _QUERY_BLOCK):
            rows = slice(start, start + _QUERY_BLOCK)
            # (queries, references)
            values = scaled[rows] @ block.T
            values += norms
            index = values.argmin(axis=1)
            value = np.take_along_axis(values, index[:, None], axis=1)[:, 0]
            nearer = value < smallest[rows]
            smallest[rows][nearer] = value[nearer]
            nearest[rows][nearer] = first + index[nearer]
    return nearest


def _row_distances(queries, references, nearest):
    """Returns the distance of each query to the reference of an index."""
    distances = np.empty(len(queries))
    for start in range(0, len(queries), _EXACT_BLOCK):
        rows = slice(start, start + _EXACT_BLOCK)
        # Float64 first: a difference of float32 is rounded again.
        difference = queries[rows].astype(np.float64)
        difference -= references[nearest[rows]]
        distances[rows] = np.sqrt(np.mean(difference**2, axis=1))
    return distances
