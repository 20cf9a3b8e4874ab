"""Generator, discriminator, classifiers, and the pool of stage 2."""

from gdd_keras.networks.chosen_noise import ChosenNoise
from gdd_keras.networks.chosen_noise import with_chosen_noise
from gdd_keras.networks.classifiers import build_classifier
from gdd_keras.networks.classifiers import check_network
from gdd_keras.networks.classifiers import classifier_names
from gdd_keras.networks.classifiers import feature_extractor
from gdd_keras.networks.classifiers import image_features
from gdd_keras.networks.discriminator import build_discriminator
from gdd_keras.networks.encoder import build_encoder
from gdd_keras.networks.generator import build_generator
from gdd_keras.networks.latent_mixture import LatentMixture
from gdd_keras.networks.latent_mixture import with_latent_mixture
from gdd_keras.networks.model_pool import ModelPool
from gdd_keras.networks.model_pool import check_pool
from gdd_keras.networks.outline import outline
from gdd_keras.networks.precision import fast_precision
from gdd_keras.networks.work import count_multiply_adds

__all__ = [
    "ChosenNoise",
    "LatentMixture",
    "ModelPool",
    "build_classifier",
    "build_discriminator",
    "build_encoder",
    "build_generator",
    "check_network",
    "check_pool",
    "classifier_names",
    "count_multiply_adds",
    "fast_precision",
    "feature_extractor",
    "image_features",
    "outline",
    "with_chosen_noise",
    "with_latent_mixture",
]
