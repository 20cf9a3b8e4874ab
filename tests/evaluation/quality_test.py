import math

import numpy as np
import pytest

from gdd_keras.evaluation.quality import check_matrices
from gdd_keras.evaluation.quality import quality_scores

SHARES = ("precision", "recall", "coverage")


def normal(count, dim=4, seed=0):
    return np.random.default_rng(seed).standard_normal((count, dim))


def exactly_normal(mean, factor, count=50, seed=0):
    """Returns rows of exactly this mean and the covariance factor factor'."""
    rows = normal(count, len(mean), seed)
    rows, _ = np.linalg.qr(rows - rows.mean(axis=0))
    return rows * math.sqrt(count - 1) @ np.transpose(factor) + mean


def brute_force(real, generated, neighbours):
    """The formulas of the papers, one pair at a time."""

    def distance(a, b):
        return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))

    def radii(rows):
        return [
            sorted(distance(a, b) for j, b in enumerate(rows) if j != i)[
                neighbours - 1
            ]
            for i, a in enumerate(rows)
        ]

    in_real = [
        [distance(r, g) <= radius for g in generated]
        for r, radius in zip(real, radii(real), strict=True)
    ]
    in_generated = [
        [distance(r, g) <= radius for r in real]
        for g, radius in zip(generated, radii(generated), strict=True)
    ]
    return {
        "precision": np.any(in_real, axis=0).mean(),
        "recall": np.any(in_generated, axis=0).mean(),
        "density": np.sum(in_real) / (neighbours * len(generated)),
        "coverage": np.any(in_real, axis=1).mean(),
    }


class TestNeighbourhoods:
    def test_hand_made_line(self):
        real = np.array([[0.0], [1], [2], [4], [20], [1000], [1001]])
        generated = np.array([[0.5], [3], [10], [11], [90], [91]])
        scores = quality_scores(real, generated, neighbours=1)
        # Radii of the real rows: 1, 1, 1, 2, 16, 1 and 1. 0.5 lies in the
        # balls of 0 and 1; 3 in those of 2 (its boundary) and 4; 10 and 11 in
        # 20's; 90 and 91 in none.
        assert scores["precision"] == 4 / 6
        assert scores["density"] == (2 + 2 + 1 + 1) / 6
        assert scores["coverage"] == 5 / 7
        # Radii of the generated rows: 2.5, 2.5 and four times 1.
        assert scores["recall"] == 4 / 7
        scores = quality_scores(real, generated, neighbours=2)
        # Radii of the real rows: 2, 1, 2, 3, 18, 980 and 981.
        assert scores["density"] == (3 + 3 + 1 + 1 + 2 + 2) / (2 * 6)

    @pytest.mark.parametrize("neighbours", [1, 3, 5])
    @pytest.mark.parametrize("counts", [(40, 25), (12, 50)])
    def test_brute_force_twin(self, neighbours, counts):
        real, generated = normal(counts[0]), 0.8 * normal(counts[1], seed=1)
        scores = quality_scores(real, generated, neighbours)
        twin = brute_force(real, generated, neighbours)
        assert 0.0 < twin["precision"] < 1.0 or 0.0 < twin["recall"] < 1.0
        assert {key: scores[key] for key in twin} == pytest.approx(
            twin, abs=1e-12
        )

    def test_blocks_do_not_show(self, monkeypatch):
        real, generated = normal(50), normal(40, seed=1)
        whole = quality_scores(real, generated)
        monkeypatch.setattr("gdd_keras.evaluation.quality._BLOCK", 7)
        assert quality_scores(real, generated) == whole

    def test_equal_sets(self):
        real = normal(60)
        scores = quality_scores(real, real[::-1], neighbours=5)
        assert all(scores[name] == 1.0 for name in SHARES)
        # Each ball holds its centre and five more.
        assert scores["density"] == pytest.approx(6 / 5, abs=1e-12)
        assert scores["frechet_distance"] == pytest.approx(0.0, abs=1e-12)

    def test_copies_without_extent_are_inside(self):
        # More copies than neighbours: all radii are 0, far from the origin.
        real = np.repeat(1000.0 + normal(3, 20), 4, axis=0)
        scores = quality_scores(real, real[::4].repeat(4, axis=0), 3)
        assert all(scores[name] == 1.0 for name in SHARES)
        assert scores["density"] == pytest.approx(4 / 3, abs=1e-12)

    def test_far_sets(self):
        scores = quality_scores(normal(30), 1e4 + normal(30, seed=1))
        assert all(scores[name] == 0.0 for name in SHARES)
        assert scores["density"] == 0.0

    def test_one_mode_of_two(self):
        modes = normal(80) + np.repeat([[0.0], [100.0]], 40, axis=0)
        scores = quality_scores(modes, normal(80, seed=1))
        assert scores["precision"] > 0.7
        assert scores["recall"] < 0.5 and scores["coverage"] <= 0.5

    def test_reversed_sets_swap_precision_and_recall(self):
        real, generated = normal(40), 0.5 * normal(40, seed=1)
        forth = quality_scores(real, generated)
        back = quality_scores(generated, real)
        assert forth["precision"] == back["recall"]
        assert forth["recall"] == back["precision"]
        assert forth["frechet_distance"] == pytest.approx(
            back["frechet_distance"], abs=1e-9
        )

    def test_order_shift_and_scale_are_irrelevant(self):
        real, generated = normal(50), 0.8 * normal(40, seed=1)
        scores = quality_scores(real, generated)
        rng = np.random.default_rng(2)
        other = quality_scores(
            1e3 + 10 * rng.permutation(real),
            1e3 + 10 * rng.permutation(generated),
        )
        other["frechet_distance"] /= 100.0
        assert other == pytest.approx(scores, rel=1e-9)


class TestFrechetDistance:
    def test_shifted_set(self):
        real = normal(40, 3)
        scores = quality_scores(real, real + [1.0, -2.0, 0.5])
        assert scores["frechet_distance"] == pytest.approx(5.25, abs=1e-9)

    def test_common_axes(self):
        widths, others = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 1.0])
        shift = np.array([0.0, 1.0, 2.0])
        real = exactly_normal(np.zeros(3), np.diag(widths))
        generated = exactly_normal(shift, np.diag(others), 70, seed=1)
        expected = np.square(shift).sum() + np.square(widths - others).sum()
        scores = quality_scores(real, generated)
        assert scores["frechet_distance"] == pytest.approx(expected, abs=1e-9)

    def test_different_axes(self):
        first = np.array([[2.0, 0.0], [1.0, 1.0]])
        second = np.array([[0.5, -1.0], [0.0, 3.0]])
        c, d = first @ first.T, second @ second.T
        # Of a 2 x 2 matrix: tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)).
        product = c @ d
        root = math.sqrt(
            np.trace(product) + 2 * math.sqrt(np.linalg.det(product))
        )
        expected = np.trace(c) + np.trace(d) - 2 * root
        scores = quality_scores(
            exactly_normal(np.zeros(2), first),
            exactly_normal(np.zeros(2), second, 90, seed=1),
        )
        assert scores["frechet_distance"] == pytest.approx(expected, abs=1e-9)

    def test_fewer_rows_than_columns(self):
        real = normal(20, 64)
        scores = quality_scores(real, real + 0.5)
        assert scores["frechet_distance"] == pytest.approx(16.0, abs=1e-9)

    def test_one_column(self):
        real = exactly_normal(np.zeros(1), np.eye(1))
        generated = exactly_normal(np.ones(1), 3 * np.eye(1), 30)
        scores = quality_scores(real, generated)
        assert scores["frechet_distance"] == pytest.approx(5.0, abs=1e-9)

    def test_constant_features(self):
        scores = quality_scores(np.zeros((8, 3)), np.ones((8, 3)))
        assert scores["frechet_distance"] == pytest.approx(3.0, abs=1e-12)


def test_plain_floats_of_any_precision():
    real, generated = normal(40), normal(30, seed=1)
    scores = quality_scores(real, generated)
    assert list(scores) == [
        "precision",
        "recall",
        "density",
        "coverage",
        "frechet_distance",
    ]
    assert all(type(score) is float for score in scores.values())
    # Of float32 with a tolerance for its rounding.
    assert quality_scores(
        real.astype(np.float32), generated.astype(np.float32)
    ) == pytest.approx(scores, rel=1e-5)
    np.testing.assert_array_equal(real, normal(40))


@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (normal(9)[None], normal(9), r"`real_features` must be a matrix.*\(1,"),
        (normal(9), normal(9)[0], r"`generated_features` must be a matrix"),
        (normal(9), normal(0), r"`generated_features` must be a matrix.*\(0,"),
        (normal(9), normal(9, 3), r"as many columns as `real_features`, 4\. "),
        (normal(5), normal(9), r"`real_features` must have more rows.*5 rows"),
        (normal(9), normal(4), r"`generated_features` must have more rows"),
        (normal(9), normal(9) / [1, 1, 1, np.inf] * np.nan, "36 infinite or"),
        (normal(9) + [0, 0, 0, np.inf], normal(9), "must be finite.*: 9 inf"),
    ],
)
def test_rejects_other_features(real, generated, message):
    with pytest.raises(ValueError, match=message):
        quality_scores(real, generated)


@pytest.mark.parametrize("neighbours", [0, -1, 2.0, "5"])
def test_rejects_other_neighbours(neighbours):
    with pytest.raises(ValueError, match="`neighbours` must be a positive"):
        quality_scores(normal(9), normal(9), neighbours)


def test_matrices_keep_their_memory():
    single, double = np.zeros((3, 2), np.float32), np.zeros((4, 2))
    checked = check_matrices(a=single, b=double, c=[[1, 2]])
    assert checked["a"] is single and checked["b"] is double
    assert checked["c"].dtype == np.float64
    assert check_matrices(a=double.T)["a"].flags["C_CONTIGUOUS"]
