"""An exported generator in other forms: half size, LiteRT, ONNX.

Only the SavedModel and its metadata are needed, neither Keras nor any code of
training.
"""

import functools
import pathlib

import numpy as np
import tensorflow as tf

from gdd_keras import files
from gdd_keras.config import WEIGHT_TYPES
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.inference import exported_classifier
from gdd_keras.inference import exported_network
from gdd_keras.inference import stored_weights
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import find_version
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_libraries
from gdd_keras.saved_model import write_version
from gdd_keras.saved_model import written_now

__all__ = ["ONNX_PACKAGES", "convert_model", "target_directory"]

# What `pip install` takes, as pinned in requirements-dev.txt.
ONNX_PACKAGES = "tf2onnx==1.17.0 onnx==1.23.2 onnxruntime==1.32.0"

_OPSET = 17

# Largest deviation from the SavedModel's images in [-1, 1] that a converted
# file may have: one grey level for rounding in another order (a GPU's TF32
# counts), and six with half weights. Beyond, weights overflowed or an
# operation differs.
_TOLERANCES = {"float32": 2 / 255, "float16": 12 / 255}


def convert_model(model, to, output=None, weights=None):
    """Writes an exported generator in another form.

    - `saved_model`: the same signatures, soft labels included; with weights
      `float16`, half the bytes.
    - `litert`: `model.tflite`, `latents` float32 `(batch, latent_dim)` and
      `labels` int32 `(batch,)` -> `images` float32 in [-1, 1]; built-in
      operations only.
    - `onnx`: `model.onnx`, the same function.

    These two cannot raise errors: the image of a label out of range is NaN
    throughout. Both are run once beside the SavedModel before they are kept.

    Args:
        model: Version directory, or its parent.
        to: One of the above.
        output: New or empty directory; `None` with `saved_model` is the next
            version beside the model.
        weights: `"float32"`, `"float16"`, or `None` for the model's own.

    Returns:
        `pathlib.Path` of the new directory, with its `metadata.json`.

    Raises:
        InputError: If an argument, the model or the output cannot be used, or
            if a package is missing.
        RunError: If the file's images are not those of the SavedModel.
    """
    _check_choice("to", to, ("saved_model", *_FORMATS))
    if weights is not None:
        _check_choice("weights", weights, WEIGHT_TYPES)
    directory = find_version(model)
    metadata = read_metadata(directory)
    weights = weights or metadata.get("weights", "float32")
    target = functools.partial(target_directory, directory, output, to)
    files.check_new_directory(target())
    metadata = _carried_metadata(directory, metadata, weights)
    network = exported_network(directory, metadata)
    if to == "saved_model":
        classifier = exported_classifier(directory, metadata)
        return write_version(network, target, metadata, weights, classifier)
    build, run, name = _FORMATS[to]
    function = _from_latents(network)
    output = target()
    with files.new_directory(output) as temporary:
        with quiet_libraries():
            content = build(function, weights)
            reached = run(content, *_sample(network))
        _check_images(function, network, reached, to, weights)
        (temporary / name).write_bytes(content)
        full = {
            **metadata,
            "format": to,
            "num_bytes": len(content),
            "weights": weights,
            "signatures": ["from_latents"],
            "label_out_of_range": "every pixel of its image is NaN",
            **written_now(metadata),
        }
        files.write_json(temporary / METADATA_NAME, full)
    return output


def _check_choice(name, value, choices):
    if value not in choices:
        raise InputError(
            f"`{name}` must be one of {', '.join(choices)}. Received: "
            f"{name}={value!r}."
        )


def target_directory(directory, output, to):
    """Returns the directory to write, refusing what cannot be meant.

    Args:
        directory: Version directory of the model.
        output: New or empty directory; `None` for the next version beside it.
        to: As in `convert_model`.

    Raises:
        InputError: If there is no such next version.
    """
    if output is not None:
        return pathlib.Path(output)
    if to != "saved_model" or not files.is_version(directory.name):
        raise InputError(
            "`output` must be a new or empty directory. Received: none, which "
            "means the next version for a `saved_model` of a numbered version "
            f"only; {directory} is to become `{to}`. Pass `--output`."
        )
    return directory.parent / str(files.next_version(directory.parent))


def _carried_metadata(directory, metadata, weights):
    """Returns the metadata of the copy: all but the scores.

    They were measured on other weights, or with another runtime.
    """
    config = metadata.get("config")
    # Nor are these the images of before the labeller any longer, for sure.
    metadata = {k: v for k, v in metadata.items() if k != "labelled_from"}
    if config is not None:
        generation = {**config.get("generation", {}), "weights": weights}
        metadata = {**metadata, "config": {**config, "generation": generation}}
    return {
        **metadata,
        # Exports of the first version did not mix.
        "label_mixing": metadata.get("label_mixing", 0.0),
        "scores": [],
        "converted_from": {
            "model": str(directory),
            "digest": model_digest(directory),
        },
    }


def _from_latents(network):
    """Returns a `tf.function` of float32 weights that needs no checks."""
    weights = stored_weights(network.weights)

    def from_latents(latents, labels):
        images = network.call(
            weights, latents, tf.one_hot(labels, network.num_classes)
        )
        inside = tf.logical_and(labels >= 0, labels < network.num_classes)
        inside = inside[:, tf.newaxis, tf.newaxis, tf.newaxis]
        return {"images": tf.where(inside, images, float("nan"))}

    return tf.function(
        from_latents,
        input_signature=[
            tf.TensorSpec(
                (None, network.latent_dim), tf.float32, name="latents"
            ),
            tf.TensorSpec((None,), tf.int32, name="labels"),
        ],
        autograph=False,
    )


def _sample(network):
    """Returns latents and labels to try a file with; the last one is wrong."""
    rng = np.random.default_rng(0)
    count = network.num_classes + 1
    latents = rng.standard_normal((count, network.latent_dim), np.float32)
    return latents, np.arange(count, dtype=np.int32)


def _check_images(function, network, reached, to, weights):
    """Raises `RunError` unless the file's images are the SavedModel's."""
    latents, labels = _sample(network)
    expected = function(tf.constant(latents), tf.constant(labels))["images"]
    same = np.isclose(
        reached, expected, rtol=0.0, atol=_TOLERANCES[weights], equal_nan=True
    )
    if not same.all():
        raise RunError(
            f"The images of the {to} file must be those of the SavedModel, up "
            f"to {_TOLERANCES[weights]:.3f}. Received: {np.mean(~same):.2%} of "
            f"pixels that differ by more, with weights {weights}. Nothing is "
            "written; `--weights float32` or `--to saved_model` may serve."
        )


def _build_litert(function, weights):
    """Returns the bytes of a LiteRT file."""
    module = tf.Module()
    module.from_latents = function
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], module
    )
    if weights == "float16":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def _run_litert(content, latents, labels):
    """Returns the images of a LiteRT file."""
    runner = tf.lite.Interpreter(model_content=content).get_signature_runner()
    return runner(latents=latents, labels=labels)["images"]


def _build_onnx(function, weights):
    """Returns the bytes of an ONNX file."""
    onnx, _, tf2onnx = _onnx_packages()
    model, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=_OPSET
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if weights == "float16":
        _halve(model, onnx)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _run_onnx(content, latents, labels):
    """Returns the images of an ONNX file."""
    _, onnxruntime, _ = _onnx_packages()
    session = onnxruntime.InferenceSession(
        content, providers=["CPUExecutionProvider"]
    )
    (images,) = session.run(["images"], {"latents": latents, "labels": labels})
    return images


def _halve(model, onnx):
    """Stores the matrices of an ONNX model as half; computes as before."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        value = onnx.numpy_helper.to_array(tensor)
        (half,) = stored_weights([value], "float16")
        if half.dtype != np.float16:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_half"))
        casts.append(
            onnx.helper.make_node(
                "Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT
            )
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _onnx_packages():
    """Returns the modules onnx, onnxruntime and tf2onnx."""
    try:
        import onnx
        import onnxruntime
        import tf2onnx
    except ImportError as error:
        raise InputError(
            "`onnx` needs three packages more. Received: "
            f"{error}. Install them: `pip install {ONNX_PACKAGES}`."
        ) from error
    return onnx, onnxruntime, tf2onnx


_FORMATS = {
    "litert": (_build_litert, _run_litert, "model.tflite"),
    "onnx": (_build_onnx, _run_onnx, "model.onnx"),
}
