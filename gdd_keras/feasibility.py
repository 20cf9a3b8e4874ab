"""Whether a run can train at all: asked before anything is written."""

import math

import keras
import tensorflow as tf

from gdd_keras.config import InputError
from gdd_keras.evaluation.sources import balanced_batch_size
from gdd_keras.memory import check_memory
from gdd_keras.memory import check_stored_set
from gdd_keras.networks import check_network
from gdd_keras.networks import check_pool
from gdd_keras.networks import outline
from gdd_keras.networks.latent_mixture import LatentMixture
from gdd_keras.strategy import open_strategy
from gdd_keras.training import build_networks

__all__ = ["check_scoring", "check_training"]

_FLOAT_BYTES = 4
# Weights, Adam's two moments and gradients; of generator and encoder also
# averages.
_AVERAGED_COPIES = 5
_DISCRIMINATOR_COPIES = 4
# In each stage one; and, while it is fitted, squares of its triangles, twice.
_MIXTURE_COPIES = 6


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
    pool = []
    if config.matching.distill_steps > 0:
        pool = check_pool(
            config.matching.pool,
            config.matching.local_layer,
            image_shape,
            num_classes,
        )
    _check_networks(config, image_shape, num_classes, pool)
    _check_mixture(config, num_classes)
    evaluation = config.evaluation
    if evaluation.num_seeds or config.run.monitor_every:
        check_scoring(
            evaluation.network, evaluation.ipc, image_shape, num_classes
        )
    if evaluation.num_seeds and evaluation.protocol == "fixed":
        check_stored_set(evaluation.ipc, image_shape, num_classes)


def check_scoring(network, ipc, image_shape, num_classes):
    """Refuses a network that cannot be built, or not be trained here.

    Args:
        network: Its name, the setting `network`.
        ipc: Images per class.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes.

    Raises:
        InputError: Saying why.
    """
    built = check_network("network", network, image_shape, num_classes)
    batch_size = balanced_batch_size(ipc, num_classes)
    _check_device_memory(
        _num_outputs([built], batch_size),
        f"The network that scores (network={network}) and a batch of its "
        f"images (ipc={ipc}, image_size={image_shape[0]}x{image_shape[1]})",
        "Lower one of these, or score later: `--num-seeds 0`.",
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


def _check_networks(config, image_shape, num_classes, pool):
    """Refuses networks of either stage beyond the memory."""
    networks = outline(lambda: build_networks(config, image_shape, num_classes))
    networks = [network for network in networks if network is not None]
    generator, discriminator, *encoders = networks
    weights = (
        _AVERAGED_COPIES * generator.count_params()
        + _DISCRIMINATOR_COPIES * discriminator.count_params()
        + sum(_AVERAGED_COPIES * e.count_params() for e in encoders)
    )
    batch_size = config.cgan.batch_size
    # One network of the pool is in use at a time.
    outputs = _num_outputs(networks, batch_size) + max(
        (_num_outputs([network], batch_size) for network in pool), default=0
    )
    given = config.networks
    _check_device_memory(
        weights + outputs,
        f"The networks (generator_width={given.generator_width}, "
        f"discriminator_width={given.discriminator_width}, "
        f"latent_dim={given.latent_dim}) and a batch "
        f"(batch_size={batch_size}, image_size="
        f"{image_shape[0]}x{image_shape[1]})",
        "Lower one of these.",
    )


def _check_mixture(config, num_classes):
    """Refuses a mixture of latents beyond the memory."""
    if config.networks.latents != "encoded":
        return
    given, latent_dim = config.generation, config.networks.latent_dim
    mixture = outline(
        lambda: LatentMixture(
            num_classes,
            given.mixture_components,
            latent_dim,
            given.mixture_centres,
        )
    )
    values = sum(math.prod(weight.shape) for weight in mixture.weights)
    check_memory(
        _FLOAT_BYTES * _MIXTURE_COPIES * values,
        f"The mixture of latents (latent_dim={latent_dim}, "
        f"mixture_components={given.mixture_components}, "
        f"mixture_centres={given.mixture_centres}) of {num_classes} classes",
        "Lower one of these.",
    )


def _num_outputs(networks, batch_size):
    """Returns how many numbers layers make of a batch.

    Backpropagation needs what every layer made of every image.
    """
    return batch_size * sum(
        math.prod(size or 1 for size in output.shape[1:])
        for network in networks
        for layer in network.layers
        for output in keras.tree.flatten(layer.output)
    )


def _check_device_memory(num_floats, what, advice):
    """Refuses what a CPU has no memory for, see `check_memory`.

    A GPU has memory of its own, and TensorFlow says when it is full.
    """
    if not tf.config.list_physical_devices("GPU"):
        check_memory(_FLOAT_BYTES * num_floats, what, advice)
