"""DD-Ranking's scores: what a distilled set gives beyond the training recipe.

Accuracies are fractions of networks trained on hard labels. All three scores
compare figures of one network, and `improvement_over_random` figures of one
schedule too.

Reference:
    - [Li et al., 2025](https://arxiv.org/abs/2505.13300)
"""

import math

__all__ = [
    "hard_label_recovery",
    "improvement_over_random",
    "label_robust_score",
]


def hard_label_recovery(full_accuracy, distilled_accuracy):
    """Returns how much accuracy is lost against the full real data (HLR).

    Args:
        full_accuracy: Accuracy in [0, 1] after training on all real images.
        distilled_accuracy: Accuracy in [0, 1] after training on the distilled
            images.

    Returns:
        Float in [-1, 1]; smaller is better, 0 when nothing is lost.

    Raises:
        ValueError: If an accuracy is not in [0, 1].
    """
    _check(full_accuracy=full_accuracy, distilled_accuracy=distilled_accuracy)
    return full_accuracy - distilled_accuracy


def improvement_over_random(distilled_accuracy, random_accuracy):
    """Returns how much accuracy is gained over random real images (IOR).

    Args:
        distilled_accuracy: Accuracy in [0, 1] after training on the distilled
            images.
        random_accuracy: The same for as many random real images, with the
            same labels, augmentation and schedule.

    Returns:
        Float in [-1, 1]; larger is better, 0 for a random subset itself.

    Raises:
        ValueError: If an accuracy is not in [0, 1].
    """
    _check(
        distilled_accuracy=distilled_accuracy, random_accuracy=random_accuracy
    )
    return distilled_accuracy - random_accuracy


def label_robust_score(recovery, improvement, weight=0.5):
    """Returns the label-robust score (LRS).

    `(exp(a) - exp(-1)) / (exp(1) - exp(-1))` with
    `a = weight * improvement - (1 - weight) * recovery`.

    Args:
        recovery: As from `hard_label_recovery`, in [-1, 1].
        improvement: As from `improvement_over_random`, in [-1, 1].
        weight: Weight of `improvement` in [0, 1]; the authors take 0.5.

    Returns:
        Float in [0, 1]; larger is better.

    Raises:
        ValueError: If an argument is out of its range.
    """
    _check(-1.0, recovery=recovery, improvement=improvement)
    _check(weight=weight)
    exponent = weight * improvement - (1.0 - weight) * recovery
    lowest = math.exp(-1.0)
    return (math.exp(exponent) - lowest) / (math.e - lowest)


def _check(minimum=0.0, **values):
    """Raises `ValueError` unless `minimum <= value <= 1` for each."""
    for name, value in values.items():
        # Also refuses NaN.
        if not minimum <= value <= 1.0:
            raise ValueError(
                f"`{name}` must be in [{minimum:g}, 1]. Received: "
                f"{name}={value}. Pass fractions, not percent."
            )
