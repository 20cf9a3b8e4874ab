"""Draws that teach more: hard images more often, wrong ones left out."""

import dataclasses
import json

import keras
import numpy as np
import tensorflow as tf

from gdd_keras import files
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import config_to_json
from gdd_keras.conversion import target_directory
from gdd_keras.data.pipeline import scale_images
from gdd_keras.evaluation.protocols import check_origin
from gdd_keras.evaluation.sources import RealStream
from gdd_keras.evaluation.training import EvalTrainer
from gdd_keras.inference import exported_classifier
from gdd_keras.inference import exported_network
from gdd_keras.inference import keras_function
from gdd_keras.labeller import build_labeller
from gdd_keras.labeller import train_labeller
from gdd_keras.metadata import find_version
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.networks import fast_precision
from gdd_keras.networks.chosen_noise import NUM_CANDIDATES
from gdd_keras.networks.chosen_noise import ChosenNoise
from gdd_keras.sampling import to_uint8
from gdd_keras.saved_model import write_version

__all__ = [
    "NUM_CHOSEN",
    "Judges",
    "check_reweighting",
    "choose_noise",
    "describe_reweighting",
    "reweight_model",
    "train_judges",
]

# One network alone finds hard what happened to be late in its own order.
_NUM_BEGINNERS = 3
# They have seen what a student at IPC 1 sees.
_BEGINNER_EPOCHS = 1000
_BEGINNER_LEARNING_RATE = 0.01
# An image of its class rather than of all others together.
_RIGHT = 0.5
# Of each class, with repetitions: so many taught networks of IPC 50
# (docs/experiments.md, "Hard draws, chosen one by one").
NUM_CHOSEN = 8192
# Judged at once, of 32 x 32 pixels; of larger images fewer fit the memory.
_BATCH_SIZE = 500
# Of a class of which the expert takes less for right, it knows too little.
_LEAST_RIGHT = 0.05


@dataclasses.dataclass(frozen=True)
class Judges:
    """Classifiers that say how hard an image is, and whether it is right.

    Attributes:
        beginners: List of `keras.Model` from images in [-1, 1] to logits,
            which have seen few real images: what they do not recognise is
            hard.
        expert: `keras.Model` likewise, trained for long: what it does not
            recognise is no image of its class.
    """

    beginners: list
    expert: keras.Model

    def probabilities(self, images, labels):
        """Returns how probable the classes of images are.

        Args:
            images: uint8 `(n, height, width, channels)`.
            labels: int32 `(n,)`.

        Returns:
            Two float `(n,)`, in [0, 1]: the beginners' mean, the expert's.
        """
        scaled = scale_images(images)
        *beginners, expert = (
            _probabilities(network, scaled, labels)
            for network in (*self.beginners, self.expert)
        )
        return np.mean(beginners, axis=0), expert


def describe_reweighting(difficulty):
    """Returns a line that says what `choose_noise` takes."""
    return (
        f"hard draws: difficulty {difficulty:g}, by {_NUM_BEGINNERS} networks "
        f"of {_BEGINNER_EPOCHS:,} epochs, {NUM_CANDIDATES:,} draws per class"
    )


def reweight_model(model, dataset, config, output=None, verbose=1):
    """Favours the hard draws of an exported generator.

    Nothing of it is trained, and its soft labels stay.

    Args:
        model: Version directory, or its parent.
        dataset: `Dataset` that it was distilled from.
        config: `Config`: its difficulty, labeller, seed and precision count.
        output: New or empty directory; `None` for the next version beside the
            model.
        verbose: 1 shows progress, 0 nothing.

    Returns:
        `pathlib.Path` of the new version directory, and what
        `choose_noise` returns as its second.

    Raises:
        InputError: If the model, the data or the output cannot be used, or
            hard draws are favoured already.
        RunError: If a loss is no longer finite.
    """
    directory = find_version(model)
    metadata = read_metadata(directory)
    difficulty = config.generation.difficulty
    check_reweighting(directory, metadata, difficulty)
    check_origin(directory, metadata, dataset)
    target = target_directory(directory, output, "saved_model")
    files.check_new_directory(target)
    network = exported_network(directory, metadata)
    precision = config.run.precision
    precision = fast_precision() if precision == "auto" else precision
    seed = config.run.seed
    expert, _ = train_labeller(
        dataset, config.labeller.labeller_steps, seed, precision, verbose
    )
    judges = train_judges(dataset, expert, seed, precision)
    layer, wrong = choose_noise(
        lambda *inputs: network.call(network.weights, *inputs),
        network.latent_dim,
        network.num_classes,
        network.image_shape,
        judges,
        difficulty,
        seed,
    )
    # The expert is not the labeller of the export, whose settings stay.
    settings = metadata.get("config") or json.loads(config_to_json(config))
    generation = {**settings.get("generation", {}), "difficulty": difficulty}
    full = {
        **{k: v for k, v in metadata.items() if k != "labelled_from"},
        "config": {**settings, "generation": generation},
        "reweighted_from": {
            "model": str(directory),
            "digest": model_digest(directory),
            "labeller_steps": config.labeller.labeller_steps,
        },
        "num_chosen": NUM_CHOSEN,
        "scores": [],
    }
    if "num_parameters" in metadata:
        full["num_parameters"] += int(np.size(layer.chosen))
    classifier = exported_classifier(directory, metadata)
    weights = metadata.get("weights", "float32")
    network = _with_chosen_noise(network, layer)
    return write_version(network, target, full, weights, classifier), wrong


def check_reweighting(directory, metadata, difficulty):
    """Refuses to favour hard draws twice, or not at all.

    Args:
        directory: Version directory.
        metadata: Its metadata.
        difficulty: What is asked for.

    Raises:
        InputError: Saying what is wrong.
    """
    generation = (metadata.get("config") or {}).get("generation") or {}
    earlier = generation.get("difficulty") or 0.0
    if earlier or not difficulty:
        raise InputError(
            "`--difficulty` must be above 0, for a generator whose hard draws "
            f"are not favoured yet. Received: difficulty={difficulty:g}, and "
            f"{directory} with {earlier:g}."
        )


def train_judges(dataset, expert, seed=0, precision=None):
    """Trains the beginners on the training split.

    As the students of `stream` at IPC 1: 1000 epochs of one real image per
    class, no augmentation, a tenth of the rate after half time.

    Args:
        dataset: `Dataset`.
        expert: As from `gdd_keras.labeller.train_labeller`.
        seed: Integer seed of weights and images.
        precision: As in `build_classifier`.

    Returns:
        `Judges`.

    Raises:
        RunError: If a loss is no longer finite.
    """
    source = RealStream(dataset.train, 1, dataset.num_classes)
    beginners = []
    for index in range(_NUM_BEGINNERS):
        # Not the seed of the expert, whose weights would begin alike.
        own_seed = (seed + 1 + index) % 2**31
        network = build_labeller(dataset, own_seed, precision)
        trainer = EvalTrainer(
            network,
            source,
            _BEGINNER_EPOCHS,
            _BEGINNER_LEARNING_RATE,
            decay_at_half=True,
        )
        source.reset(own_seed)
        if not np.isfinite(trainer.train(own_seed)):
            raise RunError(
                "A network that finds out which images are hard has a loss "
                "that is not finite. Look at the data, or leave draws as they "
                "are, `--difficulty 0`."
            )
        beginners.append(network)
    return Judges(beginners, expert)


def choose_noise(
    generate, noise_dim, num_classes, image_shape, judges, difficulty, seed=0
):
    """Chooses noise of which a generator makes hard images oftener.

    Of each class the same candidates are drawn. Those that the expert takes
    for another class do not count, the others `1 + difficulty (1 - p)` times,
    with the probability p that beginners give to the class. They are resampled
    so; nothing is fitted, and no real image takes part. It is importance
    sampling of what a classifier has still to learn, and its aim is not the
    distribution of real images any more.

    Reference:
        - [Katharopoulos & Fleuret, 2018](https://arxiv.org/abs/1803.00942),
          for importance sampling by what is not learnt yet

    Args:
        generate: Function from float32 noise `(batch, noise_dim)` and label
            vectors `(batch, num_classes)` to images, float32 in [-1, 1].
        noise_dim: Integer.
        num_classes: Integer.
        image_shape: `(height, width, channels)`.
        judges: `Judges`.
        difficulty: Float >= 0.
        seed: Integer seed of what is chosen.

    Returns:
        `ChosenNoise`, and the share of the candidates that the expert did not
        take for their class, in [0, 1]. Of a class of which that is nearly
        all, they count all the same.
    """
    layer = ChosenNoise(num_classes, NUM_CHOSEN, noise_dim)

    @tf.function(autograph=False, reduce_retracing=True)
    def draw(numbers, labels):
        # As they will be seen, in whole grey levels.
        label_vectors = tf.one_hot(labels, num_classes)
        return to_uint8(generate(layer.candidates(numbers), label_vectors))

    generator = np.random.default_rng(seed)
    height, width, _ = image_shape
    batch_size = min(_BATCH_SIZE, _BATCH_SIZE * 32 * 32 // (height * width))
    batch_size = max(1, batch_size)
    chosen, num_wrong = [], 0
    for label in range(num_classes):
        weights, right = [], []
        for start in range(0, NUM_CANDIDATES, batch_size):
            numbers = np.arange(start, min(start + batch_size, NUM_CANDIDATES))
            labels = np.full(len(numbers), label, np.int32)
            images = draw(numbers, labels).numpy()
            easy, expert = judges.probabilities(images, labels)
            weights.append(1.0 + difficulty * (1.0 - easy))
            right.append(expert >= _RIGHT)
        weights, right = map(np.concatenate, (weights, right))
        num_wrong += np.sum(~right)
        if np.mean(right) >= _LEAST_RIGHT:
            weights = weights * right
        chosen.append(_resampled(weights, NUM_CHOSEN, generator))
    layer.assign(np.stack(chosen))
    return layer, float(num_wrong / (num_classes * NUM_CANDIDATES))


def _resampled(weights, count, generator):
    """Returns the places of weights, each as often as its share says.

    Systematic resampling: that number rounded up or down.
    """
    sums = np.cumsum(weights)
    points = (np.arange(count) + generator.random()) / count
    # The last sum over itself is 1, above all points.
    return np.searchsorted(sums / sums[-1], points, side="right")


def _with_chosen_noise(network, layer):
    """Puts a `ChosenNoise` before an exported `Network`."""
    inputs = [
        keras.Input((layer.noise_dim,)),
        keras.Input((layer.num_classes,)),
    ]
    choose, own = keras_function(keras.Model(inputs, layer(inputs)))
    count = len(own)

    def call(weights, latents, label_vectors):
        noise = choose(weights[:count], [latents, label_vectors])
        return network.call(weights[count:], noise, label_vectors)

    return dataclasses.replace(
        network, call=call, weights=[*own, *network.weights]
    )


def _probabilities(network, images, labels):
    """Returns how probable a classifier finds the labels, float `(n,)`."""
    logits = tf.cast(network.predict_on_batch(images), tf.float32)
    probabilities = tf.nn.softmax(logits).numpy()
    return probabilities[np.arange(len(labels)), labels]
