import itertools

import numpy as np
import pytest

from gdd_keras import memory
from gdd_keras.config import InputError
from gdd_keras.selection import check_condensing
from gdd_keras.selection import herding
from gdd_keras.selection import k_center
from gdd_keras.selection import most_forgotten
from gdd_keras.selection import repeated
from gdd_keras.selection import select_per_class


def rows(count, dimensions=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dimensions))


def radius(features, picked):
    """Largest distance of a row to its nearest picked one."""
    distances = np.linalg.norm(
        features[:, None] - features[list(picked)][None], axis=-1
    )
    return distances.min(1).max()


class TestHerding:
    def test_closed_form(self):
        # 2 is nearest; with 4 the mean is 3; then 1 gives 7 / 3, where 0
        # gives 2 and 8 gives 14 / 3; and so on.
        features = np.array([[8.0], [0.0], [2.0], [4.0], [1.0]])
        target = np.array([2.9])
        np.testing.assert_array_equal(
            herding(features, 5, target), [2, 3, 4, 0, 1]
        )

    @pytest.mark.parametrize("target", [None, np.array([0.5, -1.0, 0.0, 2.0])])
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_equals_brute_force(self, target, seed):
        features = rows(20, seed=seed)
        aim = features.mean(0) if target is None else target
        picked = []
        for _ in range(20):
            left = [row for row in range(20) if row not in picked]
            means = [features[[*picked, row]].mean(0) for row in left]
            picked.append(left[np.linalg.norm(means - aim, axis=1).argmin()])
        got = herding(features, 20, target)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got, picked)
        np.testing.assert_array_equal(herding(features, 7, target), picked[:7])

    def test_mean_comes_closer_than_a_random_choice(self):
        features = rows(200)
        mean = features.mean(0)
        chosen = features[herding(features, 10)].mean(0)
        first = features[:10].mean(0)
        assert np.linalg.norm(chosen - mean) < (
            np.linalg.norm(first - mean) / 4
        )

    def test_far_from_zero(self):
        # float32 features; squares of 1e4 must not hide differences of one.
        features = rows(30).astype("float32")
        np.testing.assert_array_equal(
            herding(np.float32(np.round(features * 64) / 64 + 1e4), 10),
            herding(np.float32(np.round(features * 64) / 64), 10),
        )


class TestKCenter:
    def test_closed_form(self):
        # Mean 4.4: 4 is nearest, then the ends; 1 and 6 are nearer to those.
        features = np.array([[0.0], [1.0], [4.0], [6.0], [11.0]])
        np.testing.assert_array_equal(k_center(features, 5), [2, 4, 0, 3, 1])
        # 0 is nearest to a target of its own.
        np.testing.assert_array_equal(
            k_center(features, 3, np.array([-9.0])), [0, 4, 3]
        )

    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("count", [1, 2, 3, 4])
    def test_first_is_nearest_and_the_cover_at_most_twice_the_best(
        self, seed, count
    ):
        features = rows(11, 2, seed)
        picked = k_center(features, count)
        assert picked.dtype == np.int64
        assert len(set(picked)) == len(picked) == count
        distances = np.linalg.norm(features - features.mean(0), axis=1)
        assert picked[0] == distances.argmin()
        best = min(
            radius(features, chosen)
            for chosen in itertools.combinations(range(11), count)
        )
        if count > 1:
            assert radius(features, picked) <= 2 * best

    def test_each_is_farthest_from_those_before(self):
        features = rows(30, 3)
        picked = k_center(features, 30, features[4] + 1e-9)
        assert picked[0] == 4
        for number in range(1, 30):
            distances = np.linalg.norm(
                features[:, None] - features[picked[:number]], axis=-1
            ).min(1)
            assert distances[picked[number]] == distances.max()


@pytest.mark.parametrize("choose", [herding, k_center])
@pytest.mark.parametrize("count", [3, 6])
def test_equal_rows_are_never_picked_twice(choose, count):
    for features in (np.full((6, 3), 0.1), np.repeat(rows(2, 3), 3, axis=0)):
        picked = choose(features, count)
        assert len(set(picked.tolist())) == count
        assert set(picked.tolist()) <= set(range(6))


@pytest.mark.parametrize("choose", [herding, k_center])
def test_refuses_what_cannot_be_chosen_from(choose):
    for features, count, received in (
        (rows(3), 4, r"\(3, 4\), count=4"),
        (rows(3), 0, r"\(3, 4\), count=0"),
        (np.zeros((0, 4)), 0, r"\(0, 4\), count=0"),
        (np.zeros(5), 2, r"\(5,\), count=2"),
        (np.zeros((5, 2, 2)), 2, r"\(5, 2, 2\), count=2"),
    ):
        with pytest.raises(
            ValueError,
            match=r"must be \(n, d\) with n >= count >= 1. Received: "
            + received,
        ):
            choose(features, count)


class TestMostForgotten:
    def test_order(self):
        np.testing.assert_array_equal(
            most_forgotten([0, 5, 2, 7, 1], 3), [3, 1, 2]
        )

    def test_ties_follow_the_seed(self):
        events = np.array([1, 0, 1, 0, 1, 0, 1, 9])
        picks = [tuple(most_forgotten(events, 3, seed)) for seed in range(20)]
        assert picks == [
            tuple(most_forgotten(events, 3, seed)) for seed in range(20)
        ]
        assert {pick[0] for pick in picks} == {7}
        assert {row for pick in picks for row in pick[1:]} == {0, 2, 4, 6}
        assert all(len(set(pick)) == 3 for pick in picks)

    def test_all_rows_once(self):
        picked = most_forgotten(np.zeros(9, np.int32), 9, seed=3)
        assert sorted(picked) == list(range(9))


class TestSelectPerClass:
    labels = np.array([2, 0, 1, 0, 2, 0, 1, 0])

    def test_calls_and_rows(self):
        calls = []

        def choose(label, rows, count):
            calls.append((label, rows.tolist(), count))
            return np.arange(count)[::-1]

        chosen = select_per_class(self.labels, 2, 3, choose)
        assert calls == [(0, [1, 3, 5, 7], 2), (1, [2, 6], 2), (2, [0, 4], 2)]
        # Positions among the rows of the class, class after class.
        np.testing.assert_array_equal(chosen, [3, 1, 6, 2, 4, 0])

    def test_a_small_class_repeats_its_images(self):
        counts = []

        def choose(label, rows, count):
            counts.append(count)
            return np.arange(count)

        chosen = select_per_class(self.labels, 3, 3, choose)
        assert counts == [3, 2, 2]
        np.testing.assert_array_equal(chosen, [1, 3, 5, 2, 6, 2, 0, 4, 0])

    def test_with_a_real_choice(self):
        features = np.arange(8.0)[:, None]
        chosen = select_per_class(
            self.labels,
            1,
            3,
            lambda label, rows, count: k_center(features[rows], count),
        )
        # Means 4, 4 and 2; of equal distances the first.
        np.testing.assert_array_equal(chosen, [3, 2, 0])


def test_repeated():
    np.testing.assert_array_equal(
        repeated(np.array([4, 7]), 5), [4, 7, 4, 7, 4]
    )
    np.testing.assert_array_equal(repeated(np.array([4, 7, 1]), 2), [4, 7])


class TestCheckCondensing:
    # Of one class: three maps of 64 images, eight of each that moves.
    NUM_BYTES = (3 * 64 + 8 * 2) * 4 * 32 * 24 * 128

    def test_what_does_not_fit_is_refused(self, monkeypatch):
        monkeypatch.setattr(memory, "total_memory", lambda: self.NUM_BYTES)
        check_condensing(2, (32, 24, 3), 1)
        with pytest.raises(
            InputError,
            match=r"^A step of condensed images \(ipc=3 of 32 x 24 pixels\) "
            r"must fit .* Lower `--ipc`, or choose `--selection typical`.$",
        ):
            check_condensing(3, (32, 24, 3), 1)

    def test_ten_classes_at_a_time(self, monkeypatch):
        monkeypatch.setattr(memory, "total_memory", lambda: 10 * self.NUM_BYTES)
        check_condensing(2, (32, 24, 3), 1000)
        with pytest.raises(InputError):
            check_condensing(3, (32, 24, 3), 10)
