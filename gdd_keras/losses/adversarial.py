"""Losses of the conditional GAN: stateless, means over the batch."""

from keras import ops

__all__ = [
    "classification_loss",
    "discriminator_loss",
    "generator_loss",
]


def discriminator_loss(name, real_scores, generated_scores):
    """Returns the discriminator's adversarial loss, to be minimised.

    - `non_saturating`: -log D(x) - log(1 - D(G(z))), eq. 3 of the paper
    - `hinge`: max(0, 1 - D(x)) + max(0, 1 + D(G(z)))
    - `wgan_gp`: D(G(z)) - D(x), without the gradient penalty

    Reference:
        - [Goodfellow et al., 2014](https://arxiv.org/abs/1406.2661)
        - [Lim & Ye, 2017](https://arxiv.org/abs/1705.02894)
        - [Gulrajani et al., 2017](https://arxiv.org/abs/1704.00028)

    Args:
        name: One of the names above.
        real_scores: float `(batch,)`, before any sigmoid.
        generated_scores: float `(batch,)`.

    Returns:
        Scalar.

    Raises:
        ValueError: If the name is unknown.
    """
    if name == "non_saturating":
        return ops.mean(ops.softplus(-real_scores)) + ops.mean(
            ops.softplus(generated_scores)
        )
    if name == "hinge":
        return ops.mean(ops.relu(1.0 - real_scores)) + ops.mean(
            ops.relu(1.0 + generated_scores)
        )
    if name == "wgan_gp":
        return ops.mean(generated_scores) - ops.mean(real_scores)
    raise ValueError(_unknown(name))


def generator_loss(name, generated_scores):
    """Returns the generator's adversarial loss, to be minimised.

    - `non_saturating`: -log D(G(z)), the non-saturating form of eq. 4
    - `hinge` and `wgan_gp`: -D(G(z))

    Args:
        name: As in `discriminator_loss`.
        generated_scores: float `(batch,)`, before any sigmoid.

    Returns:
        Scalar.

    Raises:
        ValueError: If the name is unknown.
    """
    if name == "non_saturating":
        return ops.mean(ops.softplus(-generated_scores))
    if name in ("hinge", "wgan_gp"):
        return -ops.mean(generated_scores)
    raise ValueError(_unknown(name))


def classification_loss(labels, logits):
    """Returns the mean cross-entropy of hard or soft labels.

    Args:
        labels: int32 `(batch,)`, or float `(batch, num_classes)`:
            probabilities, of which each row sums to 1.
        logits: float `(batch, num_classes)`.

    Returns:
        Scalar, `>= 0`.
    """
    log_probabilities = ops.log_softmax(logits)
    if len(labels.shape) == 1:
        labels = ops.one_hot(labels, logits.shape[-1])
    return -ops.mean(ops.sum(labels * log_probabilities, axis=-1))


def _unknown(name):
    return (
        "`cgan_loss` must be one of non_saturating, hinge, wgan_gp. "
        f"Received: cgan_loss={name}."
    )
