import math

import pytest

from gdd_keras.evaluation.ranking import hard_label_recovery
from gdd_keras.evaluation.ranking import improvement_over_random
from gdd_keras.evaluation.ranking import label_robust_score


def test_differences():
    assert hard_label_recovery(0.935, 0.886) == pytest.approx(0.049)
    assert improvement_over_random(0.886, 0.738) == pytest.approx(0.148)
    assert hard_label_recovery(0.5, 0.75) == -0.25
    assert improvement_over_random(0.5, 0.75) == -0.25


@pytest.mark.parametrize(
    ("recovery", "improvement", "expected"),
    [
        # The exponents -1, 0 and 1.
        (1.0, -1.0, 0.0),
        (0.0, 0.0, (math.e - 1) / (math.e**2 - 1)),
        (0.3, 0.3, 1 / (math.e + 1)),
        (-1.0, 1.0, 1.0),
        # exp(ln 2) and exp(-ln 2).
        (-math.log(2), math.log(2), (2 - 1 / math.e) / (math.e - 1 / math.e)),
        (math.log(2), -math.log(2), (0.5 - 1 / math.e) / (math.e - 1 / math.e)),
    ],
)
def test_label_robust_score(recovery, improvement, expected):
    score = label_robust_score(recovery, improvement)
    assert score == pytest.approx(expected, abs=1e-12)


def test_weight():
    only_recovery = label_robust_score(0.25, 0.8, weight=0.0)
    assert only_recovery == label_robust_score(0.25, -0.25)
    only_improvement = label_robust_score(0.9, 0.25, weight=1.0)
    assert only_improvement == label_robust_score(-0.25, 0.25)


def test_score_grows_with_improvement_and_falls_with_recovery():
    middle = label_robust_score(0.1, 0.1)
    assert label_robust_score(0.1, 0.2) > middle > label_robust_score(0.2, 0.1)


@pytest.mark.parametrize(
    ("function", "values", "name"),
    [
        (hard_label_recovery, (93.5, 0.8), "full_accuracy"),
        (hard_label_recovery, (0.9, float("nan")), "distilled_accuracy"),
        (improvement_over_random, (0.9, -0.1), "random_accuracy"),
        (improvement_over_random, (88.6, 0.1), "distilled_accuracy"),
        (label_robust_score, (1.5, 0.0), "recovery"),
        (label_robust_score, (0.0, -1.5), "improvement"),
        (label_robust_score, (0.0, 0.0, 2.0), "weight"),
    ],
)
def test_values_out_of_range(function, values, name):
    with pytest.raises(ValueError, match=f"`{name}` must be in .*Pass fract"):
        function(*values)
