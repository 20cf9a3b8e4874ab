"""An exported generator in use: images, labels and `tf.data` (stage 3)."""

import pathlib

import numpy as np
import tensorflow as tf

from gdd_keras.config import InputError
from gdd_keras.config import checked_integer
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import SOFT_LABELS_ADVICE
from gdd_keras.metadata import find_version
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_libraries
from gdd_keras.sampling import BLOCK_SIZE
from gdd_keras.sampling import MAX_FIRST_INDEX

__all__ = ["DistilledGenerator", "load_generator"]

_CHUNK_SIZE = 8 * BLOCK_SIZE
_MAX_SEED = 2**63 - 1
_INPUTS = ("first_index", "labels", "seed")


def load_generator(path):
    """Loads a generator that `distill` exported; Keras is not needed.

    Args:
        path: Version directory such as `saved_models/digits/3`, or its parent,
            whose highest version is taken.

    Returns:
        A `DistilledGenerator`.

    Raises:
        InputError: If there is no complete exported generator at the path.

    Example:
    ```python
    generator = gdd_keras.load_generator("saved_models/digits")
    dataset = generator.as_dataset(ipc=10).batch(64)
    ```
    """
    directory = find_version(path)
    metadata = read_metadata(directory)
    try:
        # oneDNN calls half weights an error, and computes with them.
        with quiet_libraries():
            loaded = tf.saved_model.load(str(directory))
        signature = loaded.signatures["serving_default"]
        inputs = sorted(signature.structured_input_signature[1])
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        raise InputError(
            f"{directory} must hold a SavedModel with the signature "
            f"`serving_default`. Received: {type(error).__name__}: {error}. "
            "Export again."
        ) from error
    if inputs != sorted(_INPUTS):
        raise InputError(
            f"{directory} must hold a generator whose `serving_default` takes "
            f"{', '.join(_INPUTS)}. Received: {', '.join(inputs)}. Export it "
            "with `python -m gdd_keras.distill`."
        )
    _check_described(directory, loaded, metadata)
    return DistilledGenerator(directory, loaded, metadata)


def _check_described(directory, loaded, metadata):
    """Refuses metadata that describe another model."""
    function = loaded.signatures.get("from_latents")
    if function is None:
        return
    latent_dim = function.structured_input_signature[1]["latents"].shape[1]

    def takes(label):
        latents, labels = tf.zeros((1, latent_dim)), tf.constant([label])
        try:
            # TensorFlow logs the error, too.
            with quiet_libraries():
                function(latents=latents, labels=labels)
        except tf.errors.InvalidArgumentError:
            return False
        return True

    given = metadata["num_classes"]
    found = {
        "latent_dim": latent_dim,
        "image_shape": list(function.structured_outputs["images"].shape[1:]),
        # Only the graph knows: it refuses labels beyond.
        "num_classes": given if takes(given - 1) and not takes(given) else None,
    }
    for field, value in found.items():
        if metadata[field] != value:
            what = "another number" if value is None else value
            raise InputError(
                f"{directory / METADATA_NAME}: `{field}` must be that of the "
                f"SavedModel beside it, {what}. Received: {field}="
                f"{metadata[field]}. Export again."
            )


class DistilledGenerator:
    """An endless, seeded set of images; made by `load_generator`.

    Image number i of a seed always has the label `i % num_classes` in
    `as_dataset`, and its pixels depend on the seed, i and the label alone.
    So the set of a larger number of images per class begins with the set of
    a smaller one. On the same machine the pixels are bit-identical however a
    range is cut; another processor may round a few of them otherwise.

    Attributes:
        path: Version directory.
        class_names: List of names; label i is `class_names[i]`.
        image_shape: `(height, width, channels)`.
        num_classes: Number of labels.
        metadata: Dict of `metadata.json`.
        has_soft_labels: Whether it can say how probable each class of an
            image is; see `soft_labels`.
    """

    def __init__(self, path, loaded, metadata):
        self.path = pathlib.Path(path)
        self.metadata = metadata
        self.class_names = list(metadata["class_names"])
        self.image_shape = tuple(metadata["image_shape"])
        self.num_classes = metadata["num_classes"]
        self._max_ipc = MAX_FIRST_INDEX // self.num_classes
        # A signature does not keep the variables alive; the model does.
        self._loaded = loaded
        self._signature = loaded.signatures["serving_default"]
        self._classify = loaded.signatures.get("soft_labels")
        self.has_soft_labels = self._classify is not None

    def __repr__(self):
        return (
            f"DistilledGenerator({str(self.path)!r}, "
            f"image_shape={self.image_shape}, num_classes={self.num_classes})"
        )

    def generate(self, labels, seed=0, first_index=0):
        """Generates one image per label.

        Args:
            labels: Integers `(n,)` from 0 to `num_classes - 1`.
            seed: Integer >= 0; another seed gives other images.
            first_index: Number of the first image. `generate(labels)` is
                bit-identical to `generate(labels[:k])` followed by
                `generate(labels[k:], first_index=k)`.

        Returns:
            uint8 array `(n, height, width, channels)`.

        Raises:
            InputError: If an argument is out of range or of the wrong type.
        """
        labels = self._checked_labels(labels)
        seed = checked_integer("seed", seed, 0, _MAX_SEED)
        first_index = checked_integer(
            "first_index", first_index, 0, MAX_FIRST_INDEX - len(labels)
        )
        images = np.empty((len(labels), *self.image_shape), np.uint8)
        start = 0
        while start < len(labels):
            # Chunks end on whole blocks of the exported graph, which would
            # otherwise run the block at a seam twice.
            number = first_index + start
            stop = min(start + _CHUNK_SIZE - number % _CHUNK_SIZE, len(labels))
            images[start:stop] = self.draw(labels[start:stop], seed, number)
            start = stop
        return images

    def balanced_labels(self, ipc):
        """Returns `ipc` labels of every class, in the order of `as_dataset`.

        Args:
            ipc: Images per class.

        Returns:
            int32 array `(ipc * num_classes,)`: 0, 1, ..., 0, 1, ...

        Raises:
            InputError: If `ipc` is not a positive integer.
        """
        ipc = checked_integer("ipc", ipc, 1, self._max_ipc)
        return np.tile(np.arange(self.num_classes, dtype=np.int32), ipc)

    def soft_labels(self, images):
        """Returns how probable each class is for each image.

        By the export's labeller, a small network trained on real images;
        docs/experiments.md tells what networks gain by them.

        Args:
            images: uint8 `(n, height, width, channels)`, for instance from
                `generate`.

        Returns:
            float32 array `(n, num_classes)`; rows sum to 1.

        Raises:
            InputError: If the generator was exported without, or if the
                images have another shape or type.
        """
        self._check_soft_labels()
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != self.image_shape:
            shape = ", ".join(map(str, self.image_shape))
            raise InputError(
                f"`images` must be uint8 (n, {shape}). Received: "
                f"{images.dtype} {images.shape}. Pass what `generate` gives."
            )
        labels = np.empty((len(images), self.num_classes), np.float32)
        for start in range(0, len(images), _CHUNK_SIZE):
            chunk = images[start : start + _CHUNK_SIZE]
            labels[start : start + len(chunk)] = self.classify(chunk)
        return labels

    def as_dataset(self, ipc=None, seed=0, batch_size=None, soft_labels=False):
        """Returns the images as a `tf.data.Dataset`, generated when read.

        Args:
            ipc: Images per class; `None` never ends.
            seed: Integer >= 0.
            batch_size: Images per element; `None` gives single images. The
                last batch may be smaller.
            soft_labels: Whether to give, in the place of labels, those of
                `soft_labels`; train on them with `categorical_crossentropy`.

        Returns:
            Dataset of `(image, label)`: uint8 `(height, width, channels)` and
            int32 (soft: float32 `(num_classes,)`), in the order 0, 1, ..., 0,
            1, ... of labels, not shuffled.

        Raises:
            InputError: If an argument is out of range or of the wrong type,
                or there are no soft labels.
        """
        if soft_labels:
            self._check_soft_labels()
        seed = checked_integer("seed", seed, 0, _MAX_SEED)
        if batch_size is not None:
            batch_size = checked_integer("batch_size", batch_size, 1, 2**31)
        if ipc is None:
            total = None
            starts = tf.data.Dataset.counter(step=_CHUNK_SIZE)
        else:
            ipc = checked_integer("ipc", ipc, 1, self._max_ipc)
            total = ipc * self.num_classes
            starts = tf.data.Dataset.range(0, total, _CHUNK_SIZE)

        def chunk(start):
            stop = start + _CHUNK_SIZE
            if total is not None:
                stop = tf.minimum(stop, total)
            numbers = tf.range(start, stop)
            labels = tf.cast(numbers % self.num_classes, tf.int32)
            images = self.draw(labels, seed, start)
            return images, self.classify(images) if soft_labels else labels

        # `rebatch` would make TensorFlow log an error about its own tensors.
        dataset = starts.map(chunk).unbatch()
        if batch_size is not None:
            dataset = dataset.batch(batch_size)
        if total is None:
            cardinality = tf.data.INFINITE_CARDINALITY
        else:
            cardinality = -(-total // (batch_size or 1))
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(cardinality)
        )
        return dataset.prefetch(tf.data.AUTOTUNE)

    def draw(self, labels, seed, first_index):
        """Calls the signature, in eager mode or inside a graph.

        Args:
            labels: int32 `(n,)`, array or tensor.
            seed: Integer or int64 scalar tensor.
            first_index: Integer or int64 scalar tensor.

        Returns:
            uint8 tensor `(n, height, width, channels)`; see `generate`.
        """
        outputs = self._signature(
            labels=tf.convert_to_tensor(labels, tf.int32),
            seed=tf.convert_to_tensor(seed, tf.int64),
            first_index=tf.convert_to_tensor(first_index, tf.int64),
        )
        return tf.ensure_shape(outputs["images"], [None, *self.image_shape])

    # There is nothing to convert, and the conversion mistakes the method.
    @tf.autograph.experimental.do_not_convert
    def classify(self, images):
        """Calls the signature `soft_labels`, eagerly or inside a graph.

        Args:
            images: uint8 `(n, height, width, channels)`, array or tensor.

        Returns:
            float32 tensor `(n, num_classes)`; see `soft_labels`.
        """
        self._check_soft_labels()
        outputs = self._classify(images=tf.convert_to_tensor(images, tf.uint8))
        return tf.ensure_shape(outputs["soft_labels"], [None, self.num_classes])

    def _check_soft_labels(self):
        """Raises `InputError` if the export has none."""
        if not self.has_soft_labels:
            raise InputError(
                "Soft labels need a generator that was exported with them. "
                f"Received: {self.path}. {SOFT_LABELS_ADVICE}"
            )

    def _checked_labels(self, labels):
        """Returns the labels as int32 `(n,)`, or raises `InputError`."""
        labels = np.asarray(labels)
        # An empty list has NumPy's default type, float.
        if labels.shape == (0,):
            return labels.astype(np.int32)
        if labels.ndim != 1 or labels.dtype.kind not in "iu":
            raise InputError(
                "`labels` must be a sequence of integers. Received: labels of "
                f"shape {labels.shape} and type {labels.dtype}."
            )
        wrong = labels[(labels < 0) | (labels >= self.num_classes)]
        if wrong.size:
            raise InputError(
                f"`labels` must be in 0..{self.num_classes - 1}. Received: "
                f"{wrong[0]}. See `class_names` for the meaning of each."
            )
        return labels.astype(np.int32)
