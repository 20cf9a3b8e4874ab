"""Generator, discriminator, classifiers, and the pool of stage 2."""

from gdd_keras.networks.classifiers import build_classifier
from gdd_keras.networks.classifiers import check_network
from gdd_keras.networks.classifiers import classifier_names
from gdd_keras.networks.classifiers import feature_extractor
from gdd_keras.networks.discriminator import build_discriminator
from gdd_keras.networks.generator import build_generator
from gdd_keras.networks.model_pool import ModelPool
from gdd_keras.networks.model_pool import check_pool
from gdd_keras.networks.outline import outline

__all__ = [
    "ModelPool",
    "build_classifier",
    "build_discriminator",
    "build_generator",
    "check_network",
    "check_pool",
    "classifier_names",
    "feature_extractor",
    "outline",
]
