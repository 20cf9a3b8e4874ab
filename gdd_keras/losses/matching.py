"""Global and local matching losses of stage 2, on pairs that share a label."""

from keras import ops

__all__ = ["feature_matching_loss", "logit_matching_loss"]


def logit_matching_loss(real_logits, generated_logits, reduction="mean"):
    """L_global of eq. 6: squared distance of paired logits.

    Zero if and only if the drawn network sees every generated image as it
    sees its real partner.

    Reference:
        - [Li et al., 2024](https://arxiv.org/abs/2404.17732), eq. 6

    Args:
        real_logits: float `(batch, num_classes)`.
        generated_logits: float, same shape; row i has the label of real row
            i.
        reduction: `"sum"` as eq. 6 is written, or `"mean"` over batch and
            classes, to which the paper's weight 0.01 belongs.

    Returns:
        Scalar, `>= 0`.

    Raises:
        ValueError: If the shapes differ or the reduction is unknown.
    """
    return _squared_distance("logits", real_logits, generated_logits, reduction)


def feature_matching_loss(real_features, generated_features, reduction="mean"):
    """L_local of eq. 7: squared distance of paired intermediate features.

    Reference:
        - [Li et al., 2024](https://arxiv.org/abs/2404.17732), eq. 7

    Args:
        real_features: float `(batch, ...)`, output of one inner layer.
        generated_features: float, same shape and pairing.
        reduction: See `logit_matching_loss`.

    Returns:
        Scalar, `>= 0`.

    Raises:
        ValueError: If the shapes differ or the reduction is unknown.
    """
    return _squared_distance(
        "features", real_features, generated_features, reduction
    )


def _squared_distance(what, real, generated, reduction):
    if tuple(real.shape) != tuple(generated.shape):
        raise ValueError(
            f"Real and generated {what} must have the same shape. Received: "
            f"{tuple(real.shape)} and {tuple(generated.shape)}."
        )
    squares = ops.square(real - generated)
    if reduction == "mean":
        return ops.mean(squares)
    if reduction == "sum":
        return ops.sum(squares)
    raise ValueError(
        "`matching_reduction` must be mean or sum. Received: "
        f"matching_reduction={reduction}."
    )
