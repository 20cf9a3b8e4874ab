"""The labeller: a small network, trained on real images.

It gives soft labels, and judges which draws are right.
"""

import dataclasses
import functools
import json
import math

import keras
from keras import layers

from gdd_keras import files
from gdd_keras.config import RunError
from gdd_keras.config import config_to_json
from gdd_keras.conversion import target_directory
from gdd_keras.evaluation.protocols import check_origin
from gdd_keras.evaluation.protocols import pick_split
from gdd_keras.evaluation.sources import MAX_BATCH_SIZE
from gdd_keras.evaluation.sources import RealStream
from gdd_keras.evaluation.training import EvalTrainer
from gdd_keras.evaluation.training import progress_bar
from gdd_keras.inference import exported_network
from gdd_keras.inference import keras_classifier
from gdd_keras.metadata import find_version
from gdd_keras.metadata import hard_share_of
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.metadata import recorded_scores
from gdd_keras.networks import build_classifier
from gdd_keras.networks import fast_precision
from gdd_keras.networks.normalization import InstanceNormalization
from gdd_keras.networks.precision import float32_copy
from gdd_keras.saved_model import write_version

__all__ = [
    "build_labeller",
    "describe_labeller",
    "label_model",
    "soft_labeller",
    "time_labeller",
    "train_labeller",
]

# Half as wide as the published network, for half the time and bytes.
_NETWORK = "convnet3"
_WIDTH = 64
_LEARNING_RATE = 0.02
_TIMED_STEPS = 10


def build_labeller(dataset, seed=0, precision=None):
    """Builds the labeller: a ConvNet3 of half the width.

    Args:
        dataset: `Dataset`; its shape, classes and statistics count.
        seed: Integer seed of the weights.
        precision: As in `build_classifier`.

    Returns:
        `keras.Model` from images in [-1, 1] to logits `(batch, num_classes)`.
    """
    return build_classifier(
        _NETWORK,
        dataset.image_shape,
        dataset.num_classes,
        dataset.mean,
        dataset.std,
        seed,
        precision,
        width=_WIDTH,
    )


def train_labeller(dataset, steps, seed=0, precision=None, verbose=1):
    """Trains a labeller on the training split, labels balanced.

    SGD of the evaluation protocols, with the data set's own augmentation; the
    rate falls to a tenth at half time. A network that no generator was trained
    against teaches more than the discriminator's class head that is right as
    often (docs/experiments.md).

    Args:
        dataset: `Dataset`.
        steps: SGD steps of about 256 images.
        seed: Integer seed of weights, images and augmentation.
        precision: As in `build_classifier`.
        verbose: 1 shows progress, 0 nothing.

    Returns:
        `keras.Model` as from `build_labeller`, and its accuracy on the
        held-out part of the training split, in [0, 1].

    Raises:
        RunError: If the loss is no longer finite.
    """
    network = build_labeller(dataset, seed, precision)
    trainer = _trainer(network, dataset, steps)
    epochs = trainer.epochs
    bar = progress_bar(epochs, "step") if verbose else None

    def progress(done, loss):
        if not math.isfinite(loss):
            raise RunError(
                f"The labeller's loss is {loss} after {done} of {epochs} "
                "epochs. Look at the data; without `--soft-labels` and with "
                "`--hard-share 0` a run needs no labeller."
            )
        if bar is not None:
            bar.update(done, [("loss", loss)])

    trainer.source.reset(seed)
    trainer.train(seed, progress)
    return network, trainer.score(pick_split(dataset, "validation"))


def time_labeller(dataset, precision=None):
    """Returns the seconds that a step of `train_labeller` takes here.

    Args:
        dataset: `Dataset`.
        precision: As in `build_classifier`.
    """
    network = build_labeller(dataset, precision=precision)
    trainer = _trainer(network, dataset, _TIMED_STEPS)
    return trainer.time_epoch() / trainer.steps_per_epoch


def soft_labeller(network, temperature=1.0):
    """Returns what gives soft labels in an export.

    Args:
        network: As from `build_labeller`.
        temperature: What logits are divided by, above 0: more makes labels
            softer.

    Returns:
        `keras.Model` with a copy of the weights, computing in float32, from
        images of whole numbers from 0 to 255, as they are delivered, to
        float32 `(batch, num_classes)`, probabilities.
    """
    images = keras.Input(network.input_shape[1:], name="images")
    scaled = layers.Rescaling(1.0 / 127.5, -1.0, dtype="float32")(images)
    copy = float32_copy(network)
    for layer in copy.layers:
        if isinstance(layer, InstanceNormalization):
            layer.fused = False
    logits = copy(scaled)
    cooled = layers.Rescaling(1.0 / temperature, dtype="float32")(logits)
    probabilities = layers.Softmax(dtype="float32", name="soft_labels")(cooled)
    return keras.Model(images, probabilities, name="labeller")


def label_model(model, dataset, config, output=None, verbose=1):
    """Adds soft labels to an exported generator, whose images stay the same.

    So its scores with hard labels stay, too.

    Args:
        model: Version directory, or its parent.
        dataset: `Dataset` that it was distilled from.
        config: `Config`: its labeller, seed and precision count.
        output: New or empty directory; `None` for the next version beside the
            model.
        verbose: 1 shows progress, 0 nothing.

    Returns:
        `pathlib.Path` of the new version directory, and the accuracy of the
        labeller on held-out images, in [0, 1].

    Raises:
        InputError: If the model, the data or the output cannot be used.
        RunError: If the labeller's loss is no longer finite.
    """
    directory = find_version(model)
    metadata = read_metadata(directory)
    check_origin(directory, metadata, dataset)
    # Asked again when it is written: the next version may be taken by then.
    target = functools.partial(
        target_directory, directory, output, "saved_model"
    )
    files.check_new_directory(target())
    network = exported_network(directory, metadata)
    precision = config.run.precision
    settings = config.labeller
    labeller, accuracy = train_labeller(
        dataset,
        settings.labeller_steps,
        config.run.seed,
        fast_precision() if precision == "auto" else precision,
        verbose,
    )
    # Its images stay, however the config would draw them.
    generation = dataclasses.replace(
        config.generation,
        soft_labels=True,
        hard_share=hard_share_of(metadata),
    )
    config = dataclasses.replace(config, generation=generation)
    own = {"model": str(directory), "digest": model_digest(directory)}
    full = {
        **metadata,
        "config": json.loads(config_to_json(config)),
        "labeller": {"held_out_accuracy": accuracy},
        # Of several labellers in turn, the images are still the first one's.
        "labelled_from": metadata.get("labelled_from", own),
        "scores": [
            score
            for score in recorded_scores(metadata)
            if score.get("labels", "hard") == "hard"
        ],
    }
    version = write_version(
        network,
        target,
        full,
        metadata.get("weights", "float32"),
        keras_classifier(soft_labeller(labeller, settings.label_temperature)),
    )
    return version, accuracy


def describe_labeller(dataset, steps):
    """Returns a line that says how it will be trained.

    Args:
        dataset: `Dataset`.
        steps: As in `train_labeller`.
    """
    source = _source(dataset)
    return f"labeller: {steps:,} steps of {source.batch_size} real images"


def _trainer(network, dataset, steps):
    """Returns the `EvalTrainer` of a labeller."""
    source = _source(dataset)
    # Steps, unless a batch cannot hold an image of every class.
    steps_per_epoch = -(-source.images_per_epoch // source.batch_size)
    return EvalTrainer(
        network,
        source,
        -(-steps // steps_per_epoch),
        _LEARNING_RATE,
        dataset.augmentation,
        decay_at_half=True,
    )


def _source(dataset):
    """Returns real images, those of about one step in an epoch."""
    ipc = max(1, MAX_BATCH_SIZE // dataset.num_classes)
    return RealStream(dataset.train, ipc, dataset.num_classes)
