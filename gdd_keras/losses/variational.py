"""Losses of the encoder: stateless, means over the batch."""

from keras import ops

__all__ = ["kl_loss", "reconstruction_loss"]


def reconstruction_loss(real_images, generated_images):
    """Returns the mean squared difference of paired pixels.

    Over 2 s^2 it is, but for a constant, the negative log-likelihood per value
    of images with normal noise of variance s^2.

    Args:
        real_images: float `(batch, height, width, channels)`.
        generated_images: float, same shape and order.

    Returns:
        Scalar, `>= 0`.
    """
    return ops.mean(ops.square(generated_images - real_images))


def kl_loss(mean, log_variance):
    """Returns the Kullback-Leibler divergence from N(0, I), in nats.

    Reference:
        - [Kingma & Welling, 2014](https://arxiv.org/abs/1312.6114), appendix B

    Args:
        mean: float `(batch, latent_dim)`, means of normal distributions
            without correlations.
        log_variance: float, same shape: logarithms of their variances.

    Returns:
        Scalar, `>= 0`: the mean over the batch of sums over the entries.
    """
    terms = ops.square(mean) + ops.exp(log_variance) - 1.0 - log_variance
    return 0.5 * ops.mean(ops.sum(terms, axis=-1))
