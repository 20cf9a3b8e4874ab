"""The pool of randomly initialised networks that stage 2 matches under."""

import keras
import numpy as np
import tensorflow as tf

from gdd_keras.config import POOL_NETWORKS
from gdd_keras.config import InputError
from gdd_keras.losses import classification_loss
from gdd_keras.networks.classifiers import build_classifier
from gdd_keras.networks.classifiers import check_network
from gdd_keras.networks.classifiers import classifier_names
from gdd_keras.networks.classifiers import feature_extractor
from gdd_keras.networks.outline import initial_weights
from gdd_keras.strategy import apply_gradients
from gdd_keras.strategy import scalar

__all__ = ["ModelPool", "check_pool"]

# DiM's pool holds narrow ResNets.
_POOL_ARGUMENTS = {"resnet10": {"width": 32}, "resnet18": {"width": 32}}


def check_pool(names, local_layers, image_shape, num_classes):
    """Refuses a pool that could not be built; builds next to nothing.

    Args:
        names: As in `ModelPool`.
        local_layers: As there.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes.

    Returns:
        List of the networks, each once, as `check_network` gives them.

    Raises:
        InputError: If a network or a layer does not exist.
    """
    layers = _layers_of_all(tuple(names), tuple(local_layers))
    networks = {}
    for name, layer in dict.fromkeys(zip(names, layers, strict=True)):
        network = check_network("pool", name, image_shape, num_classes)
        feature_extractor(network, [layer])
        networks[name] = network
    return list(networks.values())


def _layers_of_all(names, local_layers):
    """Returns one layer for each network, or raises `InputError`."""
    if len(local_layers) == 1:
        local_layers *= len(names)
    if len(local_layers) != len(names):
        known = " ".join(map(str, names or POOL_NETWORKS))
        raise InputError(
            "`local_layer` must be one name, or one for each network of "
            f"the pool ({known}). Received: {len(local_layers)} names for "
            f"{len(names)} networks."
        )
    return local_layers


class ModelPool:
    """Networks drawn at random and re-initialised, one in use at a time.

    The network in use is an index variable, not a Python attribute: a
    compiled `train_step` freezes attributes, and would match under its first
    network for ever.

    Reference:
        - [Li et al., 2024](https://arxiv.org/abs/2404.17732), section 3.2

    Args:
        names: Networks, as in `build_classifier`.
        local_layers: Layer compared by the local loss: one name for all, or
            one per network.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes.
        mean: Per-channel means in [-1, 1].
        std: Per-channel standard deviations.
        learning_rate: SGD rate (momentum 0.9) of `train_on`.
        seed: Integer; draw n is a function of (seed, n).
        precision: As in `build_classifier`.

    Raises:
        InputError: If a network or a layer does not exist.
    """

    def __init__(
        self,
        names,
        local_layers,
        image_shape,
        num_classes,
        mean=None,
        std=None,
        learning_rate=0.01,
        seed=0,
        precision=None,
    ):
        names = tuple(names)
        local_layers = _layers_of_all(names, tuple(local_layers))
        self.names = names
        self.local_layers = local_layers
        self.seed = seed
        self._build_arguments = (tuple(image_shape), num_classes, mean, std)
        self._precision = precision
        self.networks = [
            self._build(index, seed) for index in range(len(names))
        ]
        self.extractors = [
            feature_extractor(network, [layer])
            for network, layer in zip(self.networks, local_layers, strict=True)
        ]
        self.optimizers = [
            keras.optimizers.SGD(learning_rate, momentum=0.9) for _ in names
        ]
        for optimizer, network in zip(
            self.optimizers, self.networks, strict=True
        ):
            optimizer.build(network.trainable_variables)
        self.index = tf.Variable(0, trainable=False, dtype=tf.int32)
        self.draw_count = tf.Variable(-1, trainable=False, dtype=tf.int64)

    def draw(self, number):
        """Puts draw `number` in use: another network, with fresh weights.

        Args:
            number: Non-negative integer; the same number gives the same
                network and weights.
        """
        generator = np.random.default_rng([self.seed, number])
        index = int(generator.integers(len(self.names)))
        weights_seed = int(generator.integers(2**31))
        self.networks[index].set_weights(
            self._initial_weights(index, weights_seed)
        )
        optimizer = self.optimizers[index]
        for variable in optimizer.variables:
            # Momentum of the network before it is none of this one's.
            if variable is not optimizer.learning_rate:
                variable.assign(keras.ops.zeros_like(variable))
        self.index.assign(index)
        self.draw_count.assign(number)

    @property
    def current_name(self):
        """Name of the network in use."""
        return self.names[scalar(self.index)]

    def switch(self, function):
        """Calls `function(i)` for the network in use, inside the graph.

        Args:
            function: Takes a Python integer, the network's position; must
                return tensors of the same shapes for all.

        Returns:
            What the function returned for the network in use.
        """
        if len(self.networks) == 1:
            return function(0)
        branches = [
            lambda index=index: function(index)
            for index in range(len(self.networks))
        ]
        return tf.switch_case(tf.convert_to_tensor(self.index), branches)

    def train_on(self, index, images, labels):
        """Takes one SGD step of network `index`.

        Args:
            index: Position of the network.
            images: float32 `(batch, height, width, channels)`.
            labels: int32 `(batch,)`.

        Returns:
            Scalar cross-entropy before the step.
        """
        network = self.networks[index]
        with tf.GradientTape() as tape:
            logits = tf.cast(network(images, training=True), tf.float32)
            loss = classification_loss(labels, logits)
        variables = network.trainable_variables
        gradients = tape.gradient(loss, variables)
        apply_gradients(self.optimizers[index], gradients, variables)
        return loss

    def features(self, index, images):
        """Returns logits and local features of network `index`.

        Args:
            index: Position of the network.
            images: float32 `(batch, height, width, channels)`.

        Returns:
            `(logits, features)`, float32.
        """
        outputs = self.extractors[index](images, training=True)
        # Squares of what a mixed precision gives would be rounded.
        return tuple(
            tf.cast(outputs[name], tf.float32)
            for name in ("logits", self.local_layers[index])
        )

    def _initial_weights(self, index, seed):
        """Returns the weights of a fresh network."""
        if self.names[index] in classifier_names():
            return initial_weights(lambda: self._build(index, seed))
        # A user's function may read or set weights.
        return self._build(index, seed).get_weights()

    def _build(self, index, seed):
        name = self.names[index]
        return build_classifier(
            name,
            *self._build_arguments,
            seed=seed,
            precision=self._precision,
            **_POOL_ARGUMENTS.get(name, {}),
        )
