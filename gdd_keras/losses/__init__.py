"""Stateless losses of both stages."""

from gdd_keras.losses.adversarial import classification_loss
from gdd_keras.losses.adversarial import discriminator_loss
from gdd_keras.losses.adversarial import generator_loss
from gdd_keras.losses.matching import feature_matching_loss
from gdd_keras.losses.matching import logit_matching_loss
from gdd_keras.losses.variational import kl_loss
from gdd_keras.losses.variational import reconstruction_loss

__all__ = [
    "classification_loss",
    "discriminator_loss",
    "feature_matching_loss",
    "generator_loss",
    "kl_loss",
    "logit_matching_loss",
    "reconstruction_loss",
]
