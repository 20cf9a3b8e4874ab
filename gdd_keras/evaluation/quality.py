"""How near generated images come to real ones, and how many kinds they show.

All figures compare two sets of features of the same network. They depend on
that network, on the sizes of the sets and on `neighbours`: compare only
figures for which these are equal.

Reference:
    - [Kynkäänniemi et al., 2019](https://arxiv.org/abs/1904.06991), precision
      and recall
    - [Naeem et al., 2020](https://arxiv.org/abs/2002.09797), density and
      coverage
    - [Heusel et al., 2017](https://arxiv.org/abs/1706.08500), the distance
"""

import numbers

import numpy as np
from sklearn.metrics import euclidean_distances
from sklearn.neighbors import NearestNeighbors

__all__ = ["check_matrices", "quality_scores"]

# Real rows compared with all generated ones at a time.
_BLOCK = 1000

# Bound of the relative rounding of a squared distance.
_ROUNDING = 1e-12


def quality_scores(real_features, generated_features, neighbours=5):
    """Compares two sets of features.

    The ball of a feature reaches to its `neighbours`-th nearest other feature
    of its own set, the boundary included.

    - `precision`: share of generated features in the ball of any real one.
    - `recall`: share of real features in the ball of any generated one.
    - `density`: number of real balls that a generated feature lies in, mean,
      divided by `neighbours`. Unlike precision, one outlier hardly moves it.
    - `coverage`: share of real balls with a generated feature in them.
    - `frechet_distance`: squared distance of the means, plus that of the
      covariances, of two normal distributions; 0 for equal ones. It is no
      FID, which is for features of an Inception network.

    Args:
        real_features: Float `(num_real, dim)`, more rows than `neighbours`.
        generated_features: Float `(num_generated, dim)`, likewise.
        neighbours: Positive integer. Kynkäänniemi et al. use 3 and Naeem et
            al. 5.

    Returns:
        Dict of floats: `precision`, `recall` and `coverage` in [0, 1],
        `density` >= 0, about 1 for equal distributions, and
        `frechet_distance` >= 0 in squared units of the features.

    Raises:
        ValueError: If the features are no two matrices of equal width, finite
            and with more rows than `neighbours`.
    """
    if not isinstance(neighbours, numbers.Integral) or neighbours < 1:
        raise ValueError(
            "`neighbours` must be a positive integer. Received: "
            f"neighbours={neighbours}. Choose for instance 5."
        )
    matrices = check_matrices(
        real_features=real_features, generated_features=generated_features
    )
    for name, matrix in matrices.items():
        if len(matrix) <= neighbours:
            raise ValueError(
                f"`{name}` must have more rows than `neighbours`, "
                f"{neighbours}. Received: {len(matrix)} rows. Pass more "
                "images, or choose fewer neighbours."
            )
    real, generated = (m.astype(np.float64) for m in matrices.values())
    # Far from the origin the differences would drown in rounding.
    centre = real.mean(axis=0)
    real -= centre
    generated -= centre
    return {
        **_neighbourhood_scores(real, generated, int(neighbours)),
        "frechet_distance": _frechet_distance(real, generated),
    }


def check_matrices(**matrices):
    """Checks sets of rows that are to be compared.

    Args:
        **matrices: Arrays by name, for the messages; real numbers.

    Returns:
        Dict of the same as NumPy arrays, row by row in memory, float32
        where they were and else float64.

    Raises:
        ValueError: If one is no matrix, has no rows or columns, has not as
            many columns as the first, or is not finite.
    """
    checked = {}
    for name, values in matrices.items():
        matrix = np.asarray(values, order="C")
        if matrix.dtype != np.float32:
            matrix = matrix.astype(np.float64, copy=False)
        if matrix.ndim != 2 or not matrix.size:
            raise ValueError(
                f"`{name}` must be a matrix of one row per image. Received: "
                f"shape {matrix.shape}. Flatten images or features to rows."
            )
        first = next(iter(checked), name)
        width = checked.get(first, matrix).shape[1]
        if matrix.shape[1] != width:
            raise ValueError(
                f"`{name}` must have as many columns as `{first}`, {width}. "
                f"Received: shape {matrix.shape}. Take images of one size, "
                "or features of one network."
            )
        finite = np.isfinite(matrix)
        if not finite.all():
            raise ValueError(
                f"`{name}` must be finite. Received: "
                f"{np.count_nonzero(~finite)} infinite or undefined values. "
                "Check the images, or the network of the features."
            )
        checked[name] = matrix
    return checked


def _neighbourhood_scores(real, generated, neighbours):
    """Returns precision, recall, density and coverage."""
    real_radii = _squared_radii(real, neighbours)
    generated_radii = _squared_radii(generated, neighbours)
    balls_around = np.zeros(len(generated), np.int64)
    covered = np.zeros(len(real), bool)
    recalled = np.zeros(len(real), bool)
    for start in range(0, len(real), _BLOCK):
        rows = slice(start, start + _BLOCK)
        # (block, num_generated)
        squared = euclidean_distances(real[rows], generated, squared=True)
        in_real_ball = squared <= real_radii[rows, None]
        balls_around += np.count_nonzero(in_real_ball, axis=0)
        covered[rows] = in_real_ball.any(axis=1)
        recalled[rows] = (squared <= generated_radii).any(axis=1)
    return {
        "precision": float(np.mean(balls_around > 0)),
        "recall": float(np.mean(recalled)),
        "density": float(np.mean(balls_around) / neighbours),
        "coverage": float(np.mean(covered)),
    }


def _squared_radii(features, neighbours):
    """Returns the squared radius of each row's ball, `(rows,)`.

    Rounding is added, so that rows on the boundary, and copies of a row whose
    ball has no extent, are inside for sure.
    """
    search = NearestNeighbors(n_neighbors=neighbours, algorithm="brute")
    # Without an argument no row is a neighbour of its own.
    distances, _ = search.fit(features).kneighbors()
    squared = distances[:, -1] ** 2
    norms = np.einsum("ij,ij->i", features, features)
    return squared + _ROUNDING * (squared + norms)


def _frechet_distance(real, generated):
    """Returns |m - n|^2 + tr(C + D - 2 (C D)^(1/2)) of means and covariances.

    With C = E E' and D = F F', the eigenvalues of (C D)^(1/2) are the
    singular values of E' F: real and >= 0 also if C or D is singular, where
    the square root of the product C D itself is unstable.
    """
    shift = real.mean(axis=0) - generated.mean(axis=0)
    real_factor = _covariance_factor(real)
    generated_factor = _covariance_factor(generated)
    overlap = np.linalg.svd(
        real_factor.T @ generated_factor, compute_uv=False
    ).sum()
    distance = (
        shift @ shift
        + np.square(real_factor).sum()
        + np.square(generated_factor).sum()
        - 2.0 * overlap
    )
    return max(0.0, float(distance))


def _covariance_factor(features):
    """Returns F `(dim, dim)` with F F' = the covariance (divisor n - 1)."""
    centred = features - features.mean(axis=0)
    covariance = centred.T @ centred / (len(features) - 1)
    values, vectors = np.linalg.eigh(covariance)
    # Rounding makes eigenvalues of 0 slightly negative.
    return vectors * np.sqrt(np.maximum(values, 0.0))
