"""Classifiers for small images, from the dataset-condensation literature.

Each takes images in [-1, 1], standardises them in its first layer, and names
the last layer of its k-th block `block_k`, so that `feature_extractor` can
expose it.

Reference:
    - [Zhao et al., 2021](https://arxiv.org/abs/2006.05929)
    - [Wang et al., 2023](https://arxiv.org/abs/2303.04707)
"""

import importlib
import inspect

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from gdd_keras.config import InputError
from gdd_keras.config import about
from gdd_keras.config import shown
from gdd_keras.data.pipeline import scale_images
from gdd_keras.networks.initializers import seeded_initializers
from gdd_keras.networks.initializers import small_uniform
from gdd_keras.networks.normalization import InstanceNormalization
from gdd_keras.networks.outline import outline
from gdd_keras.networks.precision import layer_precision

__all__ = [
    "alexnet",
    "build_classifier",
    "check_network",
    "classifier_names",
    "convnet3",
    "feature_extractor",
    "image_features",
    "mlp",
    "resnet10",
    "resnet18",
    "vgg11",
]

# Images whose features are computed at once.
_CHUNK_SIZE = 500


def convnet3(image_shape, num_classes, mean=None, std=None, width=128):
    """Three blocks of convolution, instance norm, ReLU, average pooling.

    Args:
        image_shape: `(height, width, channels)`, at least 8 pixels a side.
        num_classes: Length of the logits.
        mean: Per-channel means in [-1, 1] to standardise with, or `None`.
        std: Per-channel standard deviations, or `None`.
        width: Channels of each block.

    Returns:
        `keras.Model` from images to logits float32 `(batch, num_classes)`.
    """
    inputs, x = _standardized_inputs(image_shape, mean, std)
    for index in range(3):
        x = _convolution(x, width)
        x = InstanceNormalization("relu")(x)
        x = layers.AveragePooling2D(2, name=f"block_{index + 1}")(x)
    return keras.Model(inputs, _head(x, num_classes), name="convnet3")


def resnet10(image_shape, num_classes, mean=None, std=None, width=64):
    """ResNet with one basic block in each of four stages; see `convnet3`."""
    return _resnet("resnet10", 1, image_shape, num_classes, mean, std, width)


def resnet18(image_shape, num_classes, mean=None, std=None, width=64):
    """ResNet with two basic blocks in each of four stages; see `convnet3`."""
    return _resnet("resnet18", 2, image_shape, num_classes, mean, std, width)


def alexnet(image_shape, num_classes, mean=None, std=None):
    """Five convolutions with ReLU, three max poolings; see `convnet3`."""
    inputs, x = _standardized_inputs(image_shape, mean, std)
    for index, (filters, size, pool) in enumerate(
        (
            (128, 5, True),
            (192, 5, True),
            (256, 3, False),
            (192, 3, False),
            (192, 3, True),
        )
    ):
        x = _convolution(x, filters, size)
        last = {"name": f"block_{index + 1}"}
        x = layers.ReLU(**({} if pool else last))(x)
        if pool:
            x = layers.MaxPooling2D(2, **last)(x)
    return keras.Model(inputs, _head(x, num_classes), name="alexnet")


def mlp(image_shape, num_classes, mean=None, std=None, width=128):
    """Two hidden dense layers with ReLU; see `convnet3`."""
    inputs, x = _standardized_inputs(image_shape, mean, std)
    x = layers.Flatten()(x)
    for index in range(2):
        x = layers.Dense(width, kernel_initializer=small_uniform())(x)
        x = layers.ReLU(name=f"block_{index + 1}")(x)
    return keras.Model(inputs, _head(x, num_classes), name="mlp")


def vgg11(image_shape, num_classes, mean=None, std=None):
    """VGG-11 with instance norm; see `convnet3`.

    A map that would become one pixel high or wide before another norm is not
    pooled, so that images below 32 pixels work.
    """
    inputs, x = _standardized_inputs(image_shape, mean, std)
    stages = ((64,), (128,), (256, 256), (512, 512), (512, 512))
    for index, stage in enumerate(stages):
        for filters in stage:
            x = _convolution(x, filters)
            x = InstanceNormalization("relu")(x)
        smallest = 2 if index == len(stages) - 1 else 4
        window = 2 if min(x.shape[1:3]) >= smallest else 1
        x = layers.MaxPooling2D(window, name=f"block_{index + 1}")(x)
    return keras.Model(inputs, _head(x, num_classes), name="vgg11")


_BUILDERS = {
    "convnet3": convnet3,
    "resnet10": resnet10,
    "resnet18": resnet18,
    "alexnet": alexnet,
    "vgg11": vgg11,
    "mlp": mlp,
}


def classifier_names():
    """Returns the names that `build_classifier` knows."""
    return tuple(_BUILDERS)


def build_classifier(
    name,
    image_shape,
    num_classes,
    mean=None,
    std=None,
    seed=0,
    precision=None,
    **arguments,
):
    """Builds a classifier by name, or a user's own.

    A user's own is `package.module:function` (or the function itself). It is
    called as `function(image_shape, num_classes)` and returns a functional or
    Sequential `keras.Model` with a defined input, from images float32 in
    [-1, 1] to logits; it does its own standardisation.

    Args:
        name: One of `classifier_names()`, `package.module:function`, or a
            function.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes.
        mean: Per-channel means in [-1, 1], for the networks of this package.
        std: Per-channel standard deviations.
        seed: Integer seed of the weights.
        precision: Name of the Keras dtype policy of its layers, such as
            `mixed_bfloat16`; `None` keeps the global one.
        **arguments: Further arguments of the network, such as `width`.

    Returns:
        Built `keras.Model` whose output is `(batch, num_classes)` logits.

    Raises:
        InputError: If the name is unknown, cannot be imported, or returns
            something else.
    """
    image_shape = tuple(image_shape)
    with seeded_initializers(seed), layer_precision(precision):
        if name in _BUILDERS:
            return _BUILDERS[name](
                image_shape, num_classes, mean, std, **arguments
            )
        function = name if callable(name) else _import_function(name)
        model = function(image_shape, num_classes)
    # A Sequential model without an input has no attribute `inputs` either.
    inputs = getattr(model, "inputs", None)
    if not isinstance(model, keras.Model) or inputs is None:
        raise InputError(
            f"`{name}` must return a functional or Sequential `keras.Model` "
            f"with a defined input. Received: {type(model).__name__}."
        )
    got = tuple(model.input_shape[1:]), tuple(model.output_shape[1:])
    if got != (image_shape, (num_classes,)):
        raise InputError(
            f"`{name}` must map images {image_shape} to logits "
            f"({num_classes},). Received: a model from {got[0]} to {got[1]}."
        )
    return model


def check_network(field, name, image_shape, num_classes):
    """Refuses a network that cannot be built; builds next to nothing.

    Args:
        field: Setting that names it, for an error.
        name: As in `build_classifier`.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes.

    Returns:
        The network; of those of this package without values, see `outline`.

    Raises:
        InputError: If it is unknown, cannot be imported, or is no such
            network.
    """

    def build():
        return build_classifier(name, image_shape, num_classes)

    with about(field):
        return outline(build) if name in _BUILDERS else build()


def feature_extractor(classifier, layer_names):
    """Exposes inner layers of a classifier as a submodel sharing its weights.

    Args:
        classifier: Functional `keras.Model` that ends in logits.
        layer_names: Names of the layers to expose, such as `"block_2"`.

    Returns:
        `keras.Model` from images to a dict of `"logits"` and one entry per
        layer name, from one forward pass.

    Raises:
        InputError: If the network has no such layer; lists those it has.
    """
    available = [
        layer.name
        for layer in classifier.layers
        if not isinstance(layer, keras.layers.InputLayer)
    ]
    for name in layer_names:
        if name not in available:
            blocks = [n for n in available if n.startswith("block_")]
            raise InputError(
                f"`local_layer` must be a layer of {classifier.name}. "
                f"Received: local_layer={name}. It has: "
                f"{', '.join(blocks or available)}."
            )
    outputs = {name: classifier.get_layer(name).output for name in layer_names}
    return keras.Model(
        classifier.inputs[0],
        {"logits": classifier.outputs[0], **outputs},
        name=f"{classifier.name}_features",
    )


def image_features(classifier, size=None):
    """Returns a function from images to what enters the last layer.

    Args:
        classifier: Functional `keras.Model` from images in [-1, 1] to logits.
        size: `(height, width)` to which images are shrunk first, or `None`.

    Returns:
        Function from uint8 `(n, height, width, channels)` to float32 `(n, d)`.
    """
    extractor = keras.Model(classifier.inputs, classifier.layers[-1].input)

    @tf.function(autograph=False, reduce_retracing=True)
    def extract(images):
        images = scale_images(images)
        if size is not None:
            images = tf.image.resize(images, size, "area")
        return tf.cast(extractor(images, training=False), tf.float32)

    def features(images):
        chunks = [
            extract(tf.constant(images[start : start + _CHUNK_SIZE]))
            for start in range(0, len(images), _CHUNK_SIZE)
        ]
        return np.concatenate(
            [chunk.numpy().reshape(len(chunk), -1) for chunk in chunks]
        )

    return features


def _resnet(name, blocks, image_shape, num_classes, mean, std, width):
    """Builds a small-image ResNet: 3x3 stem without pooling, four stages."""
    inputs, x = _standardized_inputs(image_shape, mean, std)
    x = _convolution(x, width, use_bias=False)
    x = InstanceNormalization("relu")(x)
    for stage in range(4):
        for block in range(blocks):
            # Instance norm of a single pixel is zero: the network would be
            # dead below 16 pixels if every stage halved the map.
            halve = stage > 0 and block == 0 and min(x.shape[1:3]) >= 4
            stride = 2 if halve else 1
            last = stage + 1 if block == blocks - 1 else None
            x = _basic_block(x, width * 2**stage, stride, last)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, _head(x, num_classes), name=name)


def _basic_block(x, filters, stride, stage):
    """Adds two convolutions and a shortcut; names the end `block_<stage>`."""
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = _convolution(x, filters, 1, stride, use_bias=False)
        shortcut = InstanceNormalization()(shortcut)
    x = _convolution(x, filters, 3, stride, use_bias=False)
    x = InstanceNormalization("relu")(x)
    x = _convolution(x, filters, use_bias=False)
    x = InstanceNormalization()(x)
    x = layers.Add()([x, shortcut])
    name = None if stage is None else f"block_{stage}"
    return layers.ReLU(name=name)(x)


def _standardized_inputs(image_shape, mean, std):
    """Returns the input tensor and the standardised images."""
    inputs = keras.Input(image_shape, name="images")
    channels = image_shape[-1]
    mean = [0.0] * channels if mean is None else list(mean)
    std = [1.0] * channels if std is None else list(std)
    # (x - mean) / std, as scale and offset.
    scale = [1.0 / value for value in std]
    offset = [-m / s for m, s in zip(mean, std, strict=True)]
    return inputs, layers.Rescaling(scale, offset, name="standardize")(inputs)


def _convolution(x, filters, size=3, stride=1, use_bias=True):
    return layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=small_uniform(),
    )(x)


def _head(x, num_classes):
    x = layers.Flatten()(x)
    # float32 under mixed precision too, as the loss needs it.
    return layers.Dense(
        num_classes,
        kernel_initializer=small_uniform(),
        dtype="float32",
        name="logits",
    )(x)


def _import_function(name):
    """Imports `package.module:function`."""
    module_name, _, function_name = str(name).partition(":")
    words = [*module_name.split("."), function_name]
    if not all(word.isidentifier() for word in words):
        raise InputError(
            f"The network must be one of {', '.join(_BUILDERS)}, or "
            f"`package.module:function`. Received: {shown(name)}."
        )
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"The network `{name}` cannot be imported: {error}. It must be "
            "`package.module:function` on the Python path."
        ) from error
    try:
        inspect.signature(function).bind((8, 8, 1), 2)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The network `{name}` must be a function of (image_shape, "
            f"num_classes). Received: {type(function).__name__} ({error})."
        ) from error
    return function
