import json
import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from gdd_keras.evaluation import audit
from gdd_keras.evaluation.audit import audit_memorisation

DIM = 12


def images(count, seed=0, dim=DIM):
    """Returns pixels in [0, 1] around three prototypes, float32."""
    rng = np.random.default_rng(seed)
    prototypes = np.random.default_rng(99).random((3, dim))
    rows = prototypes[rng.integers(0, 3, count)]
    return (0.5 * rows + 0.5 * rng.random((count, dim))).astype(np.float32)


def all_distances(queries, references):
    """Distance of every pair, from differences in float64."""
    difference = queries.astype(np.float64)[:, None] - references[None]
    return np.sqrt(np.mean(difference**2, axis=-1))


class TestBruteForceTwin:
    @pytest.fixture(params=[(2500, 4000, 1000), (7, 11, 5)])
    def blocks(self, request, monkeypatch):
        names = ("_QUERY_BLOCK", "_REFERENCE_BLOCK", "_EXACT_BLOCK")
        for name, size in zip(names, request.param, strict=True):
            monkeypatch.setattr(audit, name, size)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_every_figure(self, blocks, dtype):
        sets = images(40), images(120, 1), images(120, 2)
        generated, train, held_out = (rows.astype(dtype) for rows in sets)
        generated[:4] = train[:4]
        report = audit_memorisation(generated, train, held_out)

        to_train = all_distances(generated, train).min(axis=1)
        to_held_out = all_distances(generated, held_out).min(axis=1)
        natural = np.sort(all_distances(held_out, train).min(axis=1))
        # 1 % of 121 intervals: between the first and the second of 120.
        threshold = natural[0] + 0.21 * (natural[1] - natural[0])
        distances = np.concatenate(
            [
                all_distances(train, generated).min(axis=1),
                all_distances(held_out, generated).min(axis=1),
            ]
        )
        twin = {
            "num_generated": 40,
            "num_train": 120,
            "num_held_out": 120,
            "num_reference": 120,
            "median_distance_train": np.median(to_train),
            "median_distance_held_out": np.median(to_held_out),
            "share_nearer_train": np.mean(to_train < to_held_out),
            "share_near_duplicates": np.mean(to_train <= threshold),
            "share_near_duplicates_expected": 0.01,
            "duplicate_threshold": threshold,
            "share_exact": 0.1,
            "attack_auc": roc_auc_score([1] * 120 + [0] * 120, -distances),
        }
        assert {key: report[key] for key in twin} == pytest.approx(
            twin, rel=1e-9
        )

    def test_effective_number_counts_shared_neighbours(self):
        # Nearest images: a training image of three, a held-out one of one.
        generated = np.array([[0.0], [0.1], [0.2], [0.9]])
        report = audit_memorisation(generated, [[0.1], [5.0]], [[1.0], [6.0]])
        assert report["share_nearer_train"] == 0.75
        assert report["num_effective"] == 4**2 / (3**2 + 1**2)

    def test_ties_count_half(self):
        train = np.array([[0.0, 0.0], [9.0, 9.0]])
        held_out = np.array([[0.0, 1.0], [8.0, 8.0]])
        generated = np.array([[0.3, 0.5], [0.0, 0.4]])
        report = audit_memorisation(generated, train, held_out)
        assert report["share_nearer_train"] == 0.75


class TestNearest:
    def find(self, queries, references):
        return audit._find_nearest(
            queries, references, references.mean(axis=0), 1.0
        )

    def test_finds_what_products_cannot_tell_apart(self):
        # Steps far below the rounding of float32 products at this norm.
        base = images(1, dim=1000)
        references = np.repeat(base, 40, axis=0).astype(np.float64)
        references[:, 0] += 1e-6 * np.arange(40)
        references = np.concatenate([references, images(40, 1, 1000)])
        queries = references[:40][::-1].copy()
        distances, nearest = self.find(queries, references)
        np.testing.assert_array_equal(nearest, np.arange(40)[::-1])
        np.testing.assert_array_equal(distances, np.zeros(40))

    def test_equal_rows_have_no_distance(self):
        references = images(300, dim=700)
        distances, nearest = self.find(references[50:90], references)
        np.testing.assert_array_equal(nearest, np.arange(50, 90))
        np.testing.assert_array_equal(distances, np.zeros(40))

    def test_far_from_the_origin(self):
        references = 1e3 + images(200, dim=64).astype(np.float64)
        queries = 1e3 + images(50, 1, 64).astype(np.float64)
        distances, nearest = self.find(queries, references)
        twin = all_distances(queries, references)
        np.testing.assert_array_equal(nearest, twin.argmin(axis=1))
        np.testing.assert_allclose(distances, twin.min(axis=1), rtol=1e-9)


class TestVerdicts:
    def test_copies_of_training_images(self):
        train = images(300)
        rng = np.random.default_rng(5)
        report = audit_memorisation(
            rng.permutation(train), train, images(300, 1)
        )
        assert report["share_nearer_train"] == 1.0
        assert report["share_nearer_train_low"] > 0.98
        assert report["num_effective"] == 300.0
        assert report["share_exact"] == 1.0
        assert report["share_near_duplicates"] == 1.0
        assert report["median_distance_train"] == 0.0
        assert report["attack_auc"] == 1.0 == report["attack_auc_high"]

    def test_copies_up_to_rounding(self):
        pixels = np.random.default_rng(0).integers(0, 256, (200, 60))
        train = (pixels / 255).astype(np.float32)
        copies = pixels.astype(np.float32) * np.float32(1 / 255)
        assert not np.array_equal(train, copies)
        held_out = np.random.default_rng(1).integers(0, 256, (200, 60)) / 255
        report = audit_memorisation(copies, train, held_out)
        assert report["share_exact"] == 1.0
        pixels[:, 0] ^= 1
        report = audit_memorisation(pixels / 255, train, held_out)
        assert report["share_exact"] == 0.0
        assert report["share_near_duplicates"] == 1.0

    def test_noisy_copies(self):
        train = images(300)
        noise = np.random.default_rng(5).normal(0.0, 0.02, train.shape)
        report = audit_memorisation(train + noise, train, images(300, 1))
        assert report["share_exact"] == 0.0
        assert report["share_nearer_train"] > 0.95
        assert report["share_near_duplicates"] > 0.9
        assert report["attack_auc"] > 0.95

    def test_copies_of_held_out_images(self):
        held_out = images(300, 1)
        report = audit_memorisation(held_out, images(300), held_out)
        assert report["share_nearer_train"] == 0.0
        assert report["share_nearer_train_high"] < 0.02
        assert report["attack_auc"] == 0.0 == report["attack_auc_low"]
        assert report["share_exact"] == 0.0

    def test_independent_images(self):
        reports = [
            audit_memorisation(
                images(200, 3 * n),
                images(500, 3 * n + 1),
                images(250, 3 * n + 2),
            )
            for n in range(20)
        ]

        def mean(name):
            return np.mean([report[name] for report in reports])

        # Four standard deviations of the mean and more.
        assert mean("share_nearer_train") == pytest.approx(0.5, abs=0.05)
        assert mean("attack_auc") == pytest.approx(0.5, abs=0.03)
        assert mean("share_near_duplicates") == pytest.approx(0.01, abs=0.01)
        for name in ("share_nearer_train", "attack_auc"):
            hits = [
                r[f"{name}_low"] <= 0.5 <= r[f"{name}_high"] for r in reports
            ]
            assert np.mean(hits) > 0.8

    def test_larger_training_set_has_no_advantage(self):
        report = audit_memorisation(
            images(500), images(5000, 1), images(250, 2)
        )
        assert report["num_reference"] == 250
        assert abs(report["share_nearer_train"] - 0.5) < 0.15


class TestIntervals:
    @pytest.mark.parametrize(
        ("share", "count", "low", "high"),
        [
            # Closed form at the ends: z^2 / (n + z^2).
            (0.0, 10, 0.0, 3.841459 / 13.841459),
            (1.0, 10, 1 - 3.841459 / 13.841459, 1.0),
            # At one half: half the width is z / sqrt(n + z^2) / 2.
            (0.5, 96, 0.5 - 0.0980760, 0.5 + 0.0980760),
        ],
    )
    def test_wilson(self, share, count, low, high):
        assert audit._wilson_interval(share, count) == pytest.approx(
            (low, high), abs=1e-6
        )

    def test_hanley_mcneil(self):
        # At 1/2 the variance is that of the rank-sum statistic but for its
        # denominator: (1/4 + (p + n - 2) / 12) / (p n).
        low, high = audit._hanley_mcneil_interval(0.5, 30, 20)
        half = 1.959964 * math.sqrt((0.25 + 48 / 12) / 600)
        assert (low, high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-6)
        assert audit._hanley_mcneil_interval(1.0, 30, 20) == (1.0, 1.0)
        assert audit._hanley_mcneil_interval(0.98, 3, 2)[1] == 1.0


class TestReport:
    def test_is_ready_for_json(self):
        report = audit_memorisation(images(9), images(30, 1), images(20, 2))
        assert json.loads(json.dumps(report, allow_nan=False)) == report
        assert {type(value) for value in report.values()} == {int, float}
        # 20 held-out images cannot tell less than one in 21.
        assert report["share_near_duplicates_expected"] == 1 / 21

    def test_order_is_irrelevant(self):
        rng = np.random.default_rng(3)
        sets = images(50), images(80, 1), images(80, 2)
        report = audit_memorisation(*sets)
        other = audit_memorisation(*(rng.permutation(rows) for rows in sets))
        assert other == pytest.approx(report, rel=1e-12)

    @pytest.mark.parametrize("counts", [(90, 40), (40, 90)])
    def test_seed_draws_the_subset(self, counts):
        sets = images(30), images(counts[0], 1), images(counts[1], 2)
        report = audit_memorisation(*sets, seed=4)
        assert report == audit_memorisation(*sets, seed=4)
        assert report["num_reference"] == 40
        other = audit_memorisation(*sets, seed=5)
        assert other["attack_auc"] != report["attack_auc"]
        # What sees all training images does not depend on the subset.
        for name in ("duplicate_threshold", "share_near_duplicates"):
            assert other[name] == report[name]

    def test_scale_of_features(self):
        sets = [images(n, n).astype(np.float64) for n in (50, 80, 70)]
        report = audit_memorisation(*sets)
        for factor in (2.0**-90, 2.0**90):
            other = audit_memorisation(*(factor * rows for rows in sets))
            for name, value in other.items():
                if "distance" in name or "threshold" in name:
                    value /= factor
                assert value == pytest.approx(report[name], rel=1e-9), name

    def test_arrays_stay_as_they_are(self):
        sets = images(20), images(40, 1), images(30, 2)
        copies = [rows.copy() for rows in sets]
        audit_memorisation(*sets)
        for rows, copy in zip(sets, copies, strict=True):
            np.testing.assert_array_equal(rows, copy)

    def test_constant_images(self):
        zeros = np.zeros((5, 3))
        report = audit_memorisation(zeros, zeros, zeros)
        assert report["share_nearer_train"] == 0.5 == report["attack_auc"]
        assert report["share_exact"] == 1.0


@pytest.mark.parametrize(
    ("changed", "value", "message"),
    [
        (
            "generated",
            np.zeros((4, 2, 6)),
            r"`generated` must be a matrix.*2, 6",
        ),
        (
            "train",
            np.zeros(12),
            "`train` must be a matrix of one row per image",
        ),
        ("held_out", np.zeros((0, DIM)), r"`held_out` must be a matrix.*\(0,"),
        ("train", np.zeros((4, 0)), r"`train` must be a matrix.*\(4, 0\)"),
        (
            "generated",
            np.zeros((4, 9)),
            r"`generated` must .* `train`, 12\. Rec",
        ),
        ("held_out", np.zeros((4, 9)), r"`held_out` must have as many columns"),
        (
            "generated",
            np.full((2, DIM), np.nan),
            "`generated` must be finite.*24",
        ),
        ("train", np.full((2, DIM), np.inf), "`train` must be finite"),
        ("held_out", np.full((1, DIM), -np.inf), "`held_out` must be finite"),
    ],
)
def test_rejects_other_sets(changed, value, message):
    sets = {
        "generated": images(5),
        "train": images(6, 1),
        "held_out": images(7, 2),
        changed: value,
    }
    with pytest.raises(ValueError, match=message):
        audit_memorisation(**sets)
