"""Draws that teach more: hard images more often, wrong ones less."""

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
from gdd_keras.labeller import build_labeller
from gdd_keras.labeller import train_labeller
from gdd_keras.latents import assign_fitted
from gdd_keras.metadata import find_version
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.networks import fast_precision
from gdd_keras.networks.latent_mixture import LatentMixture
from gdd_keras.sampling import to_uint8
from gdd_keras.saved_model import write_version

__all__ = [
    "Judges",
    "check_reweighting",
    "describe_reweighting",
    "favour_hard_draws",
    "favour_hard_draws_of_network",
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
# What lies between hard draws is wrong more often than these: nearer to the
# centres there is less of it.
_SPREAD = 0.7
# More would take minutes and teach no more.
_DRAWN_PER_CLASS = 8000
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
    """Returns a line that says what `favour_hard_draws` takes."""
    return (
        f"hard draws: difficulty {difficulty:g}, by {_NUM_BEGINNERS} networks "
        f"of {_BEGINNER_EPOCHS:,} epochs, {_DRAWN_PER_CLASS:,} draws per class"
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
        `favour_hard_draws` returns.

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
    _mixture_weights(network)
    precision = config.run.precision
    precision = fast_precision() if precision == "auto" else precision
    seed = config.run.seed
    expert, _ = train_labeller(
        dataset, config.labeller.labeller_steps, seed, precision, verbose
    )
    judges = train_judges(dataset, expert, seed, precision)
    network, wrong = favour_hard_draws_of_network(
        network, judges, difficulty, seed
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
        "scores": [],
    }
    classifier = exported_classifier(directory, metadata)
    weights = metadata.get("weights", "float32")
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


def favour_hard_draws(mixture, decode, image_shape, judges, difficulty, seed=0):
    """Fits a mixture of latents anew, so that hard images are drawn oftener.

    To draws of its own, of which those that the expert takes for their class
    count, each `1 + difficulty (1 - p)` times, with the probability p that
    beginners give to its class. No real image is needed for the fit, and none
    is remembered by it. It is importance sampling of what a classifier has
    still to learn, and its aim is not the distribution of real images any
    more.

    Reference:
        - [Katharopoulos & Fleuret, 2018](https://arxiv.org/abs/1803.00942),
          for importance sampling by what is not learnt yet

    Args:
        mixture: `LatentMixture`, fitted; is changed.
        decode: Function from float32 latents `(batch, latent_dim)` and int32
            labels `(batch,)` to images, float32 in [-1, 1].
        image_shape: `(height, width, channels)` of these.
        judges: `Judges`.
        difficulty: Float >= 0.
        seed: Integer seed of the draws and of the fit.

    Returns:
        Share of the draws that the expert did not take for their class, in
        [0, 1]. Of a class of which that is nearly all, they count all the
        same.
    """
    generator = np.random.default_rng(seed)
    chosen, num_wrong = [], 0
    height, width, _ = image_shape
    batch_size = min(_BATCH_SIZE, _BATCH_SIZE * 32 * 32 // (height * width))
    batch_size = max(1, batch_size)
    for label in range(mixture.num_classes):
        drawn, weights, right = [], [], []
        for start in range(0, _DRAWN_PER_CLASS, batch_size):
            size = min(batch_size, _DRAWN_PER_CLASS - start)
            labels = np.full(size, label, np.int32)
            label_vectors = tf.one_hot(labels, mixture.num_classes)
            noise = generator.standard_normal(
                (size, mixture.latent_dim + 1), np.float32
            )
            latents = mixture([noise, label_vectors])
            # As they will be seen, in whole grey levels.
            images = to_uint8(decode(latents, labels))
            easy, expert = judges.probabilities(images, labels)
            drawn.append(latents.numpy())
            weights.append(1.0 + difficulty * (1.0 - easy))
            right.append(expert >= _RIGHT)
        drawn, weights, right = map(np.concatenate, (drawn, weights, right))
        num_wrong += np.sum(~right)
        if np.mean(right) >= _LEAST_RIGHT:
            weights = weights * right
        rows = generator.choice(
            len(drawn), len(drawn), p=weights / weights.sum()
        )
        chosen.append(drawn[rows])
    assign_fitted(mixture, chosen, seed, _SPREAD)
    return float(num_wrong / (mixture.num_classes * _DRAWN_PER_CLASS))


def favour_hard_draws_of_network(network, judges, difficulty, seed=0):
    """Does so for an exported generator.

    Args:
        network: `gdd_keras.inference.Network`.
        judges: As in `favour_hard_draws`, as are the rest.
        difficulty: Float >= 0.
        seed: Integer seed.

    Returns:
        `Network` of other draws, and what `favour_hard_draws` returns.

    Raises:
        InputError: If it draws from no mixture of latents.
    """
    places = _mixture_weights(network)
    num_centres = network.weights[places[0]].shape[1]
    num_components = network.weights[places[2]].shape[1]
    sizes = (
        network.num_classes,
        num_components,
        network.latent_dim - 1,
        num_centres,
    )
    mixture, plain = LatentMixture(*sizes), LatentMixture(*sizes)
    weights = list(network.weights)
    plain_weights = list(network.weights)
    for place, own, plain_own in zip(
        places, mixture.weights, plain.weights, strict=True
    ):
        own.assign(network.weights[place])
        plain_weights[place] = plain_own.numpy()

    @tf.function(autograph=False, reduce_retracing=True)
    def decode(latents, labels):
        # Before a mixture that was never fitted latents are what is drawn.
        unused = tf.zeros_like(latents[:, :1])
        return network.call(
            plain_weights,
            tf.concat([unused, latents], axis=1),
            tf.one_hot(labels, network.num_classes),
        )

    wrong = favour_hard_draws(
        mixture, decode, network.image_shape, judges, difficulty, seed
    )
    for place, own in zip(places, mixture.weights, strict=True):
        weights[place] = own.numpy()
    return dataclasses.replace(network, weights=weights), wrong


def _mixture_weights(network):
    """Returns where a network's weights are those of `LatentMixture`.

    In the layer's order: `upper_bounds`, `means`, `triangles`, and
    `component_bounds` where there are any. An exported graph has no names of
    layers, but no other weights have such shapes.
    """
    latent_dim = network.latent_dim - 1
    shapes = [tuple(np.shape(weight)) for weight in network.weights]

    def places(*ends):
        return [
            place
            for place, shape in enumerate(shapes)
            if len(shape) == 1 + len(ends)
            and shape[0] == network.num_classes
            and all(
                end in (None, size)
                for size, end in zip(shape[1:], ends, strict=True)
            )
        ]

    means = places(None, latent_dim)
    triangles = places(None, latent_dim * (latent_dim + 1) // 2)
    found = None
    if len(means) == len(triangles) == 1:
        num_centres = shapes[means[0]][1]
        num_components = shapes[triangles[0]][1]
        bounds = [p for p in places(num_centres) if _are_bounds(network, p)]
        found = [*bounds, *means, *triangles]
        if num_centres != num_components:
            components = places(num_components)
            found += [p for p in components if _are_bounds(network, p)]
        if len(found) != 3 + (num_centres != num_components):
            found = None
    if found is None:
        raise InputError(
            "Hard draws can be favoured of a generator that draws from a "
            "mixture of latents. Received: one without. Distil with "
            "`--latents encoded`."
        )
    return found


def _are_bounds(network, place):
    """Says whether a weight rises along its rows, as bounds do."""
    return bool((np.diff(network.weights[place], axis=1) >= 0.0).all())


def _probabilities(network, images, labels):
    """Returns how probable a classifier finds the labels, float `(n,)`."""
    logits = tf.cast(network.predict_on_batch(images), tf.float32)
    probabilities = tf.nn.softmax(logits).numpy()
    return probabilities[np.arange(len(labels)), labels]
