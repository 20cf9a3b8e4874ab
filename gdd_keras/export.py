"""Generator -> TF Serving SavedModel with its metadata."""

import datetime
import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

import gdd_keras
from gdd_keras import files
from gdd_keras.config import InputError
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import check_metadata
from gdd_keras.metadata import read_metadata
from gdd_keras.metadata import update_metadata
from gdd_keras.sampling import MAX_FIRST_INDEX
from gdd_keras.sampling import image_drawer

__all__ = ["export_generator", "read_metadata", "update_metadata"]


def export_generator(generator, directory, metadata, label_mixing=0.0):
    """Writes the next numbered version of a generator for TF Serving.

    The SavedModel runs with TensorFlow alone. Its signatures are

    - `serving_default`, also called `generate`: `labels` int32 `(batch,)`,
      `seed` int64, `first_index` int64 -> `images` uint8. Row i is image
      number `first_index + i` of the seed and of its label, bit-identical
      however a range of images is cut into calls.
    - `from_latents`: `latents` float32 `(batch, latent_dim)`, `labels` int32
      `(batch,)` -> `images` float32 in [-1, 1].

    Args:
        generator: Functional `keras.Model` of `[latents, one_hot_labels]`.
        directory: Folder of versions, for instance `saved_models/digits`.
        metadata: Dict for `metadata.json`; needs `class_names`, in order. See
            `gdd_keras.metadata` for the checked fields; others are kept.
        label_mixing: See `gdd_keras.sampling.mixed_labels`; built into
            `generate`.

    Returns:
        `pathlib.Path` of the new version directory.

    Raises:
        InputError: If `directory` holds other things than versions, or if a
            field of `metadata` is missing or wrong.
        ValueError: If the generator has other inputs or outputs.
    """
    directory = pathlib.Path(directory)
    latent_dim, num_classes, image_shape = _shapes(generator)
    # As it will be read back: tuples become lists.
    metadata = json.loads(json.dumps(metadata))
    versions = metadata.get("versions", {})
    if isinstance(versions, dict):
        versions = {
            **versions,
            "gdd_keras": gdd_keras.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "tensorflow": tf.__version__,
        }
    now = datetime.datetime.now(datetime.UTC)
    full = {
        "value_range": [-1.0, 1.0],
        **metadata,
        "image_shape": list(image_shape),
        "latent_dim": latent_dim,
        "label_mixing": label_mixing,
        "num_classes": num_classes,
        "num_parameters": generator.count_params(),
        "num_bytes": 0,
        "signatures": ["serving_default", "generate", "from_latents"],
        "versions": versions,
        "created": now.isoformat(timespec="seconds"),
    }
    check_metadata(full, "The metadata to export")
    target = directory / str(files.next_version(directory))
    with files.new_directory(target) as temporary:
        _write_saved_model(
            generator, temporary, latent_dim, num_classes, label_mixing
        )
        full["num_bytes"] = sum(
            path.stat().st_size
            for path in temporary.rglob("*")
            if path.is_file()
        )
        files.write_json(temporary / METADATA_NAME, full)
    return target


def _shapes(generator):
    """Returns latent length, number of classes and image shape."""
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
    return shapes[0][1], shapes[1][1], output[1:]


def _write_saved_model(
    generator, directory, latent_dim, num_classes, label_mixing
):
    """Writes both signatures."""
    draw = image_drawer(generator, label_mixing)

    def run_network(latents, labels):
        one_hot_labels = tf.one_hot(labels, num_classes, dtype=tf.float32)
        images = generator([latents, one_hot_labels], training=False)
        return tf.cast(images, tf.float32)

    def check_labels(labels):
        # Deterministic order: the check is stateful, so the graph keeps it.
        inside = tf.logical_and(labels >= 0, labels < num_classes)
        tf.debugging.Assert(
            tf.reduce_all(inside),
            [
                f"labels must be in 0..{num_classes - 1}. Received:",
                tf.boolean_mask(labels, tf.logical_not(inside)),
            ],
        )

    def generate(labels, seed, first_index):
        check_labels(labels)
        tf.debugging.Assert(
            tf.logical_and(first_index >= 0, first_index <= MAX_FIRST_INDEX),
            ["first_index must be in 0..2^48. Received:", first_index],
        )
        return {"images": draw(labels, seed, first_index)}

    def from_latents(latents, labels):
        check_labels(labels)
        return {"images": run_network(latents, labels)}

    labels_spec = tf.TensorSpec((None,), tf.int32, name="labels")
    # Not `keras.export.ExportArchive`: it writes every weight twice.
    module = tf.Module()
    module.weights = [variable.value for variable in generator.variables]
    module.generate = tf.function(
        generate,
        input_signature=[
            labels_spec,
            tf.TensorSpec((), tf.int64, name="seed"),
            tf.TensorSpec((), tf.int64, name="first_index"),
        ],
        autograph=False,
    )
    module.from_latents = tf.function(
        from_latents,
        input_signature=[
            tf.TensorSpec((None, latent_dim), tf.float32, name="latents"),
            labels_spec,
        ],
        autograph=False,
    )
    try:
        tf.saved_model.save(
            module,
            str(directory),
            signatures={
                "serving_default": module.generate,
                "generate": module.generate,
                "from_latents": module.from_latents,
            },
        )
    except tf.errors.OpError as error:
        raise InputError(
            f"The generator cannot be written to {directory.parent}: "
            f"{error.message}."
        ) from error
