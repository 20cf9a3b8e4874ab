"""The signatures of an exported generator, around one copy of its graph."""

import tensorflow as tf

from gdd_keras.sampling import MAX_FIRST_INDEX
from gdd_keras.sampling import ImageSampler

__all__ = ["SIGNATURES", "SOFT_LABELS", "save_network"]

SIGNATURES = (
    "serving_default",
    "generate",
    "by_name",
    "by_row",
    "from_latents",
)
# Of an export that can give soft labels, too.
SOFT_LABELS = "soft_labels"


def save_network(
    network,
    weights,
    directory,
    class_names,
    label_mixing=0.0,
    classifier=None,
    classifier_weights=(),
):
    """Writes a SavedModel; `gdd_keras.export` says what its signatures do.

    Args:
        network: `gdd_keras.inference.Network`.
        weights: Arrays to store, as from
            `gdd_keras.inference.stored_weights`.
        directory: Empty folder to write to.
        class_names: List of names, of label 0, 1, ...
        label_mixing: See `gdd_keras.sampling.mixed_labels`.
        classifier: `gdd_keras.inference.ImageClassifier` for the signature
            `soft_labels`, or `None`.
        classifier_weights: Its arrays to store.

    Raises:
        tf.errors.OpError: If it cannot be written.
    """
    # Not `keras.export.ExportArchive`: it writes every weight twice.
    module = tf.Module()
    module.weights = [
        tf.Variable(value, trainable=False)
        for value in (*weights, *classifier_weights)
    ]
    own = len(weights)
    latents_spec = tf.TensorSpec(
        (None, network.latent_dim), tf.float32, name="latents"
    )

    # Functions of their own, so that the graph holds each of them once.
    @tf.function(
        input_signature=[
            latents_spec,
            tf.TensorSpec((None, network.num_classes), tf.float32),
        ],
        autograph=False,
    )
    def run_network(latents, label_vectors):
        return network.call(module.weights[:own], latents, label_vectors)

    sampler = ImageSampler(
        run_network,
        network.latent_dim,
        network.num_classes,
        network.image_shape,
        label_mixing,
    )
    signatures = _Signatures(sampler, class_names).functions(latents_spec)
    if classifier is not None:
        images = tf.TensorSpec(
            (None, *network.image_shape), tf.uint8, name="images"
        )

        @tf.function(input_signature=[images], autograph=False)
        def soft_labels(images):
            probabilities = classifier.call(module.weights[own:], images)
            return {SOFT_LABELS: probabilities}

        signatures[SOFT_LABELS] = soft_labels
    tf.saved_model.save(module, str(directory), signatures=signatures)


class _Signatures:
    """What a server calls: checks, then the sampler or the network."""

    def __init__(self, sampler, class_names):
        self._sampler = sampler
        self._class_names = list(class_names)
        self._draw = tf.function(
            sampler.draw,
            input_signature=[
                tf.TensorSpec((None,), tf.int32),
                tf.TensorSpec((), tf.int64),
                tf.TensorSpec((), tf.int64),
            ],
            autograph=False,
        )

    def functions(self, latents_spec):
        """Returns a dict from each signature's name to its function."""
        labels = tf.TensorSpec((None,), tf.int32, name="labels")
        scalars = [
            tf.TensorSpec((), tf.int64, name=name)
            for name in ("seed", "first_index")
        ]
        rows = [
            tf.TensorSpec((None,), tf.int64, name=name)
            for name in ("seeds", "indices")
        ]
        names = tf.TensorSpec((None,), tf.string, name="class_names")
        inputs = {
            "generate": (self._generate, [labels, *scalars]),
            "by_name": (self._by_name, [names, *scalars]),
            "by_row": (self._by_row, [labels, *rows]),
            "from_latents": (self._from_latents, [latents_spec, labels]),
        }
        functions = {
            name: tf.function(function, specs, autograph=False)
            for name, (function, specs) in inputs.items()
        }
        return {"serving_default": functions["generate"], **functions}

    def _generate(self, labels, seed, first_index):
        self._check_labels(labels)
        _check_indices("first_index", first_index)
        return {"images": self._draw(labels, seed, first_index)}

    def _by_name(self, class_names, seed, first_index):
        # A comparison and no table: nothing has to be initialised.
        same = tf.equal(class_names[:, tf.newaxis], self._class_names)
        known = tf.reduce_any(same, axis=1)
        names = ", ".join(self._class_names)
        tf.debugging.Assert(
            tf.reduce_all(known),
            [
                f"class_names must be of: {names}. Received:",
                tf.boolean_mask(class_names, tf.logical_not(known)),
            ],
        )
        _check_indices("first_index", first_index)
        labels = tf.argmax(same, axis=1, output_type=tf.int32)
        return {"images": self._draw(labels, seed, first_index)}

    def _by_row(self, labels, seeds, indices):
        sizes = _check_sizes(labels=labels, seeds=seeds, indices=indices)
        self._check_labels(labels)
        _check_indices("indices", indices)
        # Else images begin beside the check, and may fail first.
        with tf.control_dependencies([sizes]):
            images = self._sampler.draw_rows(labels, seeds, indices)
        return {"images": images}

    def _from_latents(self, latents, labels):
        sizes = _check_sizes(latents=latents, labels=labels)
        self._check_labels(labels)
        one_hot_labels = tf.one_hot(labels, self._sampler.num_classes)
        with tf.control_dependencies([sizes]):
            images = self._sampler.network(latents, one_hot_labels)
        return {"images": images}

    def _check_labels(self, labels):
        last = self._sampler.num_classes - 1
        _check_range("labels", labels, last, f"0..{last}")


# The checks are stateful ops, so the graph keeps them and their order.


def _check_indices(name, indices):
    """Fails for an image number out of range."""
    _check_range(name, indices, MAX_FIRST_INDEX, "0..2^48")


def _check_range(name, values, maximum, shown):
    """Fails for a value below 0 or above the maximum, naming it."""
    # Both ends rather than all that are wrong: that takes a graph many times
    # this one's size.
    lowest, highest = tf.reduce_min(values), tf.reduce_max(values)
    inside = tf.reduce_all(tf.logical_and(values >= 0, values <= maximum))
    tf.debugging.Assert(
        inside,
        [f"{name} must be in {shown}. Received:", lowest, "to", highest],
    )


def _check_sizes(**inputs):
    """Fails unless all inputs have one row for each image.

    Returns:
        The check, for what cannot work without it to wait for.
    """
    sizes = tf.stack([tf.shape(value)[0] for value in inputs.values()])
    return tf.debugging.Assert(
        tf.reduce_all(sizes == sizes[0]),
        [f"{', '.join(inputs)} must have one row per image. Sizes:", sizes],
    )
