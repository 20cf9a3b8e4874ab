"""Whether a run can train at all: asked before anything is written."""

import math

import tensorflow as tf

from gdd_keras.config import InputError
from gdd_keras.memory import check_memory
from gdd_keras.memory import check_stored_set
from gdd_keras.networks import check_network
from gdd_keras.networks import check_pool
from gdd_keras.networks import outline
from gdd_keras.strategy import open_strategy
from gdd_keras.training import build_networks

__all__ = ["check_training"]

_FLOAT_BYTES = 4
# Weights, Adam's two moments and gradients; of generator and encoder also
# averages.
_AVERAGED_COPIES = 5
_DISCRIMINATOR_COPIES = 4


def check_training(config, image_shape, num_classes):
    """Refuses settings that no training would survive.

    Args:
        config: `Config`.
        image_shape: `(height, width, channels)` of the training images.
        num_classes: Number of classes.

    Raises:
        InputError: If a network or a local layer does not exist, the
            devices cannot share out a batch, the networks cannot fit into
            the memory, or there is nothing to give soft labels.
    """
    _check_soft_labels(config)
    open_strategy(config.run.strategy, config.cgan.batch_size)
    # A GPU has memory of its own, and TensorFlow says when it is full.
    if not tf.config.list_physical_devices("GPU"):
        _check_networks(config, image_shape, num_classes)
    evaluation = config.evaluation
    if evaluation.num_seeds or config.run.monitor_every:
        check_network("network", evaluation.network, image_shape, num_classes)
    if evaluation.num_seeds and evaluation.protocol == "fixed":
        check_stored_set(evaluation.ipc, image_shape, num_classes)
    if config.matching.distill_steps > 0:
        check_pool(
            config.matching.pool,
            config.matching.local_layer,
            image_shape,
            num_classes,
        )


def _check_soft_labels(config):
    """Refuses soft labels without a network that gives them."""
    if config.generation.soft_labels:
        return
    evaluation = config.evaluation
    if evaluation.num_seeds and evaluation.eval_labels != "hard":
        raise InputError(
            "`eval_labels` may be soft for a generator that is exported "
            "with them. Received: eval_labels=soft, soft_labels=False. "
            "Add `--soft-labels`, or score with hard labels."
        )


def _check_networks(config, image_shape, num_classes):
    """Refuses generators and discriminators beyond the memory."""
    networks = outline(lambda: build_networks(config, image_shape, num_classes))
    networks = [network for network in networks if network is not None]
    generator, discriminator, *encoders = networks
    weights = (
        _AVERAGED_COPIES * generator.count_params()
        + _DISCRIMINATOR_COPIES * discriminator.count_params()
        + sum(_AVERAGED_COPIES * e.count_params() for e in encoders)
    )
    # Backpropagation needs what every layer made of every image.
    outputs = config.cgan.batch_size * sum(
        math.prod(layer.output.shape[1:])
        for network in networks
        for layer in network.layers
    )
    given = config.networks
    check_memory(
        _FLOAT_BYTES * (weights + outputs),
        f"The networks (generator_width={given.generator_width}, "
        f"discriminator_width={given.discriminator_width}, "
        f"latent_dim={given.latent_dim}) and a batch "
        f"(batch_size={config.cgan.batch_size}, image_size="
        f"{image_shape[0]}x{image_shape[1]})",
        "Lower one of these.",
    )
