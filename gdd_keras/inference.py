"""A generator's forward pass as a function of its weights, without training.

It comes from a Keras model or from an exported SavedModel of any age; what is
written from it does not see the difference.
"""

import dataclasses
import hashlib
import typing

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from gdd_keras.config import InputError
from gdd_keras.metadata import gives_soft_labels
from gdd_keras.quiet import quiet_warnings

__all__ = [
    "ImageClassifier",
    "Network",
    "exported_classifier",
    "exported_network",
    "keras_classifier",
    "keras_function",
    "keras_network",
    "stored_weights",
]

# What XLA must compile, a model server refuses by default; of what freezing
# has specialised, no SavedModel can be loaded.
_MARKS = ("_XlaMustCompile", "_GrapplerSpecializedFunc")
# Rounding to half changes a matrix by at most this factor of its norm, unless
# values are so small that half has fewer digits for them.
_HALF_ROUNDING = 2.0**-11


@dataclasses.dataclass(frozen=True)
class Network:
    """A generator G([z + y]).

    Attributes:
        call: `call(weights, latents, label_vectors)` with tensors or
            variables in the order of `weights`, of any float type, and float32
            `(batch, latent_dim)` and `(batch, num_classes)`; computes in
            float32 and gives float32 images in [-1, 1]. For use in a graph.
        weights: List of float arrays.
        latent_dim: Length of z.
        num_classes: Length of y.
        image_shape: `(height, width, channels)`.
    """

    call: typing.Callable
    weights: list
    latent_dim: int
    num_classes: int
    image_shape: tuple


@dataclasses.dataclass(frozen=True)
class ImageClassifier:
    """What gives soft labels to images.

    Attributes:
        call: `call(weights, images)` with weights as in `Network` and images
            uint8 `(batch, height, width, channels)`; gives float32 `(batch,
            num_classes)`, probabilities. For use in a graph.
        weights: List of float arrays.
    """

    call: typing.Callable
    weights: list


def keras_network(generator):
    """Returns the forward pass of a Keras model, in inference mode.

    Args:
        generator: Functional `keras.Model` of `[latents, one_hot_labels]`.

    Returns:
        `Network`.

    Raises:
        ValueError: If the generator has other inputs or outputs.
    """
    shapes = [tuple(tensor.shape) for tensor in generator.inputs]
    output = tuple(generator.output_shape)
    if (
        len(shapes) != 2
        or any(len(shape) != 2 or shape[1] is None for shape in shapes)
        or len(output) != 4
        or None in output[1:]
    ):
        raise ValueError(
            "`generator` must map [latents (batch, latent_dim), one_hot_labels "
            "(batch, num_classes)] to images (batch, height, width, channels). "
            f"Received: inputs {shapes}, output {output}."
        )
    run, weights = keras_function(generator)
    return Network(
        call=lambda weights, *inputs: run(weights, list(inputs)),
        weights=weights,
        latent_dim=shapes[0][1],
        num_classes=shapes[1][1],
        image_shape=output[1:],
    )


def keras_classifier(classifier):
    """Returns the forward pass of a Keras model from images to probabilities.

    Args:
        classifier: As from `gdd_keras.labeller.soft_labeller`.

    Returns:
        `ImageClassifier`.
    """
    run, weights = keras_function(classifier)
    return ImageClassifier(
        call=lambda weights, images: run(weights, tf.cast(images, tf.float32)),
        weights=weights,
    )


def keras_function(model):
    """Returns the forward pass of a Keras model, in inference mode.

    Args:
        model: `keras.Model` with one output.

    Returns:
        Function of weights, in the order of the second value, and inputs as
        the model takes them, for use in a graph; and list of the weights,
        float arrays.
    """
    variables = [*model.trainable_variables, *model.non_trainable_variables]
    num_trainable = len(model.trainable_variables)

    def call(weights, inputs):
        weights = [
            tf.cast(weight, variable.dtype)
            for weight, variable in zip(weights, variables, strict=True)
        ]
        outputs, _ = model.stateless_call(
            weights[:num_trainable],
            weights[num_trainable:],
            inputs,
            training=False,
        )
        return tf.cast(outputs, tf.float32)

    return call, [variable.value.numpy() for variable in variables]


def exported_network(directory, metadata):
    """Returns the forward pass of an exported generator.

    It is cut out of the graph of `from_latents`, which all exports have: the
    label check before it stays behind, and what was its one-hot label becomes
    an input, for the mixed label vectors of `generate`.

    Args:
        directory: Version directory.
        metadata: Its metadata, as from `gdd_keras.metadata.read_metadata`.

    Returns:
        `Network`; its weights have the types that are stored.

    Raises:
        InputError: If there is no such signature, or another graph.
    """
    run, weights = _exported_function(
        directory, "from_latents", ("latents",), has_label_vectors=True
    )
    return Network(
        call=run,
        weights=weights,
        latent_dim=metadata["latent_dim"],
        num_classes=metadata["num_classes"],
        image_shape=tuple(metadata["image_shape"]),
    )


def exported_classifier(directory, metadata):
    """Returns what gives soft labels in an exported generator, or `None`.

    Args:
        directory: As in `exported_network`.
        metadata: As there.

    Returns:
        `ImageClassifier` whose weights have the types that are stored; `None`
        if the metadata name no signature `soft_labels`.

    Raises:
        InputError: If they name one that is not there.
    """
    if not gives_soft_labels(metadata):
        return None
    return ImageClassifier(
        *_exported_function(directory, "soft_labels", ("images",))
    )


def _exported_function(
    directory, signature, input_names, has_label_vectors=False
):
    """Cuts a network out of a signature.

    Args:
        directory: Version directory.
        signature: Its name; it has one output.
        input_names: Its inputs that the network depends on.
        has_label_vectors: Whether what is made of `labels` becomes an input,
            the last one.

    Returns:
        Function of weights and inputs, for use in a graph, and the weights.

    Raises:
        InputError: As in `exported_network`.
    """
    try:
        loaded = tf.saved_model.load(str(directory))
        function = loaded.signatures[signature]
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise InputError(
            f"{directory} must hold a SavedModel with the signature "
            f"`{signature}`. Received: {type(error).__name__}: {error}. "
            "Export again."
        ) from error
    variables = getattr(loaded, "weights", ())
    values = {variable.handle.ref(): variable for variable in variables}
    values = {
        inner.op.name: values[outer.ref()].numpy()
        for outer, inner in function.graph.captures
        if outer.ref() in values
    }
    with quiet_warnings():
        frozen = convert_to_constants.convert_variables_to_constants_v2(
            function, lower_control_flow=False
        )
    graph = frozen.graph.as_graph_def()
    output = frozen.outputs[0].op.name
    inputs = list(input_names)
    if has_label_vectors:
        inputs.append(_open_label_vectors(graph, directory))
    graph, names = _cut_out(graph, output, values)
    # Weights that the output does not depend on are left out.
    values = {name: value for name, value in values.items() if name in names}
    types = [tf.as_dtype(value.dtype) for value in values.values()]
    places = [names[name] for name in (*values, *inputs)]

    def call(weights, *feeds):
        weights = [
            tf.cast(weight, dtype)
            for weight, dtype in zip(weights, types, strict=True)
        ]
        (outputs,) = tf.graph_util.import_graph_def(
            graph,
            dict(zip(places, [*weights, *feeds], strict=True)),
            [f"{names[output]}:0"],
            name="network",
        )
        return outputs

    return call, list(values.values())


def _open_label_vectors(graph, directory):
    """Makes an input of the one-hot label; returns its name.

    Args:
        graph: `GraphDef` of `from_latents`; is changed.
        directory: What to call the model in an error.
    """
    one_hot = [node for node in graph.node if node.op == "OneHot"]
    if len(one_hot) != 1:
        raise InputError(
            f"{directory} must hold a generator that `python -m "
            "gdd_keras.distill` exported. Received: another graph, with "
            f"{len(one_hot)} one-hot encodings. Export again."
        )
    _make_placeholder(one_hot[0], tf.float32.as_datatype_enum)
    return one_hot[0].name


def _cut_out(graph, output, weights):
    """Cuts out of a frozen graph what an output needs.

    Args:
        graph: `GraphDef`; is changed.
        output: Name of the node of the output.
        weights: Container of the names of the weights' nodes.

    Returns:
        `GraphDef` of the nodes that the output needs, weights being
        placeholders, and a dict from old to new names. The new ones are
        short: else each conversion would add the names of the functions
        around a node, at a tenth of the bytes of the graph.
    """
    nodes = {node.name: node for node in graph.node}
    needed = {}
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        node = nodes[name]
        if name in weights:
            _make_placeholder(node, node.attr["dtype"].type)
        # Only the label check, which is left out, orders nodes (`^`).
        data = [source for source in node.input if source[0] != "^"]
        # Nobody trains through it: a gradient of its own is dead weight.
        node.attr.pop("_gradient_op_type", None)
        del node.input[:]
        node.input.extend(data)
        needed[name] = node
        waiting.extend(source.split(":")[0] for source in data)
    names = {
        name: f"{node.op}_{i}" for i, (name, node) in enumerate(needed.items())
    }
    network = tf.compat.v1.GraphDef(versions=graph.versions)
    for node in needed.values():
        node.name = names[node.name]
        for i, source in enumerate(node.input):
            name, *port = source.split(":")
            node.input[i] = ":".join([names[name], *port])
        network.node.append(node)
    _copy_functions(graph.library, network)
    return network, names


def _copy_functions(library, network):
    """Adds to a graph the functions that its nodes call.

    Args:
        library: `FunctionDefLibrary` that has them.
        network: `GraphDef`; is changed.
    """
    functions = {f.signature.name: f for f in library.function}
    waiting = list(network.node)
    copied = set()
    while waiting:
        for value in waiting.pop().attr.values():
            name = value.func.name
            if name and name not in copied:
                copied.add(name)
                network.library.function.add().CopyFrom(functions[name])
                waiting.extend(functions[name].node_def)
    _free_functions(network)


def _free_functions(network):
    """Removes marks from functions, which get names of their own.

    Args:
        network: `GraphDef`; is changed.
    """
    functions = network.library.function
    nodes = [*network.node, *(n for f in functions for n in f.node_def)]
    for part in (*nodes, *functions):
        for mark in _MARKS:
            part.attr.pop(mark, None)
    # The process may know others by the names that these had.
    digest = hashlib.sha256()
    for function in functions:
        digest.update(function.SerializeToString(deterministic=True))
    digest = digest.hexdigest()[:16]
    names = {
        function.signature.name: f"function_{digest}_{index}"
        for index, function in enumerate(functions)
    }
    for node in nodes:
        for value in node.attr.values():
            if value.func.name in names:
                value.func.name = names[value.func.name]
    for function in functions:
        function.signature.name = names[function.signature.name]


def _make_placeholder(node, dtype):
    """Makes an input of a node; `dtype` is a number of `types.proto`."""
    node.op = "Placeholder"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = dtype


def stored_weights(values, weights="float32"):
    """Returns weights in the types in which they are stored.

    Half keeps 11 binary digits between 6e-5 and 65504. Vectors stay float32:
    they hold what may lie outside, the variances of batch normalisation above
    all, and are a hundredth of the bytes. So does a matrix that half would
    change by more than its rounding, because of very large or tiny values.

    Args:
        values: List of float arrays.
        weights: `"float32"`, or `"float16"` for half the bytes.

    Returns:
        List of float32 and float16 arrays.
    """
    return [
        value.astype(np.float16)
        if weights == "float16" and _fits_half(value)
        else value.astype(np.float32)
        for value in values
    ]


def _fits_half(value):
    """Returns whether a weight is a matrix that half hardly changes."""
    if np.squeeze(value).ndim < 2:
        return False
    # Squares of many halves are too large for half.
    value = value.astype(np.float32)
    with np.errstate(over="ignore"):
        half = value.astype(np.float16).astype(np.float32)
    if not np.isfinite(half).all():
        return False
    change = np.linalg.norm((value - half).ravel())
    return bool(change <= _HALF_ROUNDING * np.linalg.norm(value.ravel()))
