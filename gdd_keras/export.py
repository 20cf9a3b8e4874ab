"""Generator -> TF Serving SavedModel with its metadata."""

import json
import pathlib

import keras

from gdd_keras import files
from gdd_keras.inference import keras_classifier
from gdd_keras.inference import keras_network
from gdd_keras.metadata import read_metadata
from gdd_keras.saved_model import write_version

__all__ = [
    "export_generator",
    "read_metadata",
]


def export_generator(
    generator,
    directory,
    metadata,
    label_mixing=0.0,
    weights="float32",
    classifier=None,
):
    """Writes the next numbered version of a generator for TF Serving.

    The SavedModel runs with TensorFlow alone. Its signatures are

    - `serving_default`, also called `generate`: `labels` int32 `(batch,)`,
      `seed` int64, `first_index` int64 -> `images` uint8. Row i is image
      number `first_index + i` of the seed and of its label, bit-identical
      however a range of images is cut into calls.
    - `by_name`: the same with `class_names`, strings `(batch,)`, for labels.
    - `by_row`: `labels` int32 `(batch,)`, `seeds` int64 `(batch,)`, `indices`
      int64 `(batch,)` -> `images` uint8, the same images: row i is number
      `indices[i]` of `seeds[i]`. Every input has a row per image, as batching
      on the server and the row format of REST need.
    - `from_latents`: `latents` float32 `(batch, latent_dim)`, `labels` int32
      `(batch,)` -> `images` float32 in [-1, 1].
    - `soft_labels`, of an export with a classifier: `images` uint8 `(batch,
      height, width, channels)` -> `soft_labels` float32 `(batch,
      num_classes)`, probabilities.

    A label, name or number out of range is an error that says so.

    Args:
        generator: Functional `keras.Model` of `[latents, one_hot_labels]`.
        directory: Folder of versions, for instance `saved_models/digits`.
        metadata: Dict for `metadata.json`; needs `class_names`, in order. See
            `gdd_keras.metadata` for the checked fields; others are kept.
        label_mixing: See `gdd_keras.sampling.mixed_labels`; built into
            all signatures but `from_latents`.
        weights: `"float32"`, or `"float16"` for half the bytes: matrices are
            stored as half and computed with in float32.
        classifier: `keras.Model` from images to probabilities, as from
            `gdd_keras.labeller.soft_labeller`, or `None`.

    Returns:
        `pathlib.Path` of the new version directory.

    Raises:
        InputError: If `directory` holds other things than versions, or if a
            field of `metadata` is missing or wrong.
        ValueError: If the generator has other inputs or outputs.
    """
    directory = pathlib.Path(directory)
    network = keras_network(generator)
    # As it will be read back: tuples become lists.
    metadata = json.loads(json.dumps(metadata))
    versions = metadata.get("versions", {})
    if isinstance(versions, dict):
        metadata["versions"] = {**versions, "keras": keras.__version__}
    full = {
        "value_range": [-1.0, 1.0],
        **metadata,
        "image_shape": list(network.image_shape),
        "latent_dim": network.latent_dim,
        "label_mixing": label_mixing,
        "num_classes": network.num_classes,
        "num_parameters": generator.count_params(),
    }
    if classifier is not None:
        classifier = keras_classifier(classifier)

    def target():
        return directory / str(files.next_version(directory))

    return write_version(network, target, full, weights, classifier)
