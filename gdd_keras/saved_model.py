"""A version directory of TF Serving: SavedModel and metadata, written whole."""

import datetime
import errno

import numpy as np
import tensorflow as tf

import gdd_keras
from gdd_keras import files
from gdd_keras.inference import stored_weights
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import check_metadata
from gdd_keras.signatures import SIGNATURES
from gdd_keras.signatures import SOFT_LABELS
from gdd_keras.signatures import save_network

__all__ = ["write_version", "written_now"]


def write_version(network, target, metadata, weights, classifier=None):
    """Writes SavedModel and metadata, whole or not at all.

    Args:
        network: `gdd_keras.inference.Network`.
        target: Version directory; must not exist, or be empty. Or a function
            that gives the next one, and is asked again if another process
            took it meanwhile.
        metadata: Dict of all that this function does not know: bytes,
            signatures, versions of libraries, date.
        weights: `"float32"` or `"float16"`, see `stored_weights`; the
            network's.
        classifier: `gdd_keras.inference.ImageClassifier` that gives soft
            labels, or `None`. It is stored in half, which no student sees.

    Returns:
        `pathlib.Path` of the version directory.

    Raises:
        InputError: If a field of `metadata` is missing or wrong, or if the
            target holds something.
        OSError: If it cannot be written; also `tf.errors.OpError`.
    """
    signatures, classifier_weights = list(SIGNATURES), []
    if classifier is not None:
        signatures.append(SOFT_LABELS)
        classifier_weights = stored_weights(classifier.weights, "float16")
    full = {
        # Exports of the first version did not mix, and do not say so.
        "label_mixing": 0.0,
        **metadata,
        "weights": weights,
        "num_bytes": 0,
        "signatures": signatures,
        **written_now(metadata),
    }
    check_metadata(full, "The metadata to export")
    while True:
        directory = target() if callable(target) else target
        try:
            with files.new_directory(directory) as temporary:
                save_network(
                    network,
                    stored_weights(network.weights, weights),
                    temporary,
                    full["class_names"],
                    full["label_mixing"],
                    classifier,
                    classifier_weights,
                )
                full["num_bytes"] = sum(
                    path.stat().st_size
                    for path in temporary.rglob("*")
                    if path.is_file()
                )
                files.write_json(temporary / METADATA_NAME, full)
            return directory
        except OSError as error:
            # Of a directory that is given, the next round says so.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def written_now(metadata):
    """Returns the fields `versions` and `created` of what is written now.

    Args:
        metadata: Dict; its `versions` are kept where they are not known here.
    """
    versions = metadata.get("versions", {})
    if isinstance(versions, dict):
        versions = {
            **versions,
            "gdd_keras": gdd_keras.__version__,
            "numpy": np.__version__,
            "tensorflow": tf.__version__,
        }
    now = datetime.datetime.now(datetime.UTC)
    return {"versions": versions, "created": now.isoformat(timespec="seconds")}
