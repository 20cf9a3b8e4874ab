"""Draws that teach more: hard images more often, wrong ones left out."""

import dataclasses
import functools
import json
import math
import time

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
from gdd_keras.evaluation.training import progress_bar
from gdd_keras.inference import exported_classifier
from gdd_keras.inference import exported_network
from gdd_keras.inference import keras_function
from gdd_keras.labeller import build_labeller
from gdd_keras.labeller import train_labeller
from gdd_keras.metadata import find_version
from gdd_keras.metadata import hard_share_of
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
    "time_hard_draws",
    "train_judges",
]

# One network alone finds hard what happened to be late in its own order.
_NUM_BEGINNERS = 3
# They have seen what a student at IPC 1 sees.
_BEGINNER_EPOCHS = 1000
_BEGINNER_LEARNING_RATE = 0.01
# Of each class, with repetitions: so many taught networks of IPC 50
# (docs/experiments.md, "Hard draws, chosen one by one").
NUM_CHOSEN = 8192
# Judged at once, of 32 x 32 pixels; of larger images fewer fit the memory.
_BATCH_SIZE = 500
# Of a class of which the expert takes less for right, it knows too little.
_LEAST_RIGHT = 0.05
_TIMED_STEPS = 20


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

    def judge(self, images, labels):
        """Says how easy images are, and which are right.

        Args:
            images: uint8 `(n, height, width, channels)`.
            labels: int32 `(n,)`.

        Returns:
            How probable beginners find the classes, their mean, float `(n,)`
            in [0, 1]; whether the expert takes the images for these classes
            rather than for any other, bool `(n,)`.
        """
        scaled = scale_images(images)
        rows = np.arange(len(labels))
        *beginners, expert = (
            network.predict_on_batch(scaled)
            for network in (*self.beginners, self.expert)
        )
        easy = np.mean(
            [_softmax(logits)[rows, labels] for logits in beginners], axis=0
        )
        return easy, np.argmax(expert, axis=-1) == labels


def describe_reweighting(hard_share):
    """Returns a line that says what `choose_noise` takes."""
    return (
        f"hard draws: a share of {hard_share:g}, by {_NUM_BEGINNERS} networks "
        f"of {_BEGINNER_EPOCHS:,} epochs, {NUM_CANDIDATES:,} draws per class"
    )


def reweight_model(model, dataset, config, output=None, verbose=1):
    """Favours the hard draws of an exported generator.

    Nothing of it is trained, and its soft labels stay.

    Args:
        model: Version directory, or its parent.
        dataset: `Dataset` that it was distilled from.
        config: `Config`: its hard share, labeller, seed and precision count.
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
    hard_share = config.generation.hard_share
    check_reweighting(directory, metadata, hard_share)
    check_origin(directory, metadata, dataset)
    # Asked again when it is written: the next version may be taken by then.
    target = functools.partial(
        target_directory, directory, output, "saved_model"
    )
    files.check_new_directory(target())
    network = exported_network(directory, metadata)
    precision = config.run.precision
    precision = fast_precision() if precision == "auto" else precision
    seed = config.run.seed
    expert, _ = train_labeller(
        dataset, config.labeller.labeller_steps, seed, precision, verbose
    )
    judges = train_judges(dataset, expert, seed, precision, verbose)
    layer, wrong = choose_noise(
        lambda *inputs: network.call(network.weights, *inputs),
        network.latent_dim,
        network.num_classes,
        network.image_shape,
        judges,
        hard_share,
        seed,
        verbose,
    )
    # The expert is not the labeller of the export, whose settings stay.
    settings = metadata.get("config") or json.loads(config_to_json(config))
    generation = {**settings.get("generation", {}), "hard_share": hard_share}
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


def check_reweighting(directory, metadata, hard_share):
    """Refuses to favour hard draws twice, or not at all.

    Args:
        directory: Version directory.
        metadata: Its metadata.
        hard_share: What is asked for.

    Raises:
        InputError: Saying what is wrong.
    """
    earlier = hard_share_of(metadata)
    if earlier or "num_chosen" in metadata or not hard_share:
        raise InputError(
            "`--hard-share` must be above 0, for a generator whose hard draws "
            f"are not favoured yet. Received: hard_share={hard_share:g}, and "
            f"{directory} with {earlier:g}."
        )


def train_judges(dataset, expert, seed=0, precision=None, verbose=0):
    """Trains the beginners on the training split.

    As the students of `stream` at IPC 1: 1000 epochs of one real image per
    class, no augmentation, a tenth of the rate after half time.

    Args:
        dataset: `Dataset`.
        expert: As from `gdd_keras.labeller.train_labeller`.
        seed: Integer seed of weights and images.
        precision: As in `build_classifier`.
        verbose: 1 shows progress, 0 nothing.

    Returns:
        `Judges`.

    Raises:
        RunError: If a loss is no longer finite.
    """
    bar = progress_bar(_NUM_BEGINNERS, "network") if verbose else None
    beginners = []
    for index in range(_NUM_BEGINNERS):
        # Not the seed of the expert, whose weights would begin alike.
        own_seed = (seed + 1 + index) % 2**31
        network = build_labeller(dataset, own_seed, precision)
        trainer = _beginner_trainer(network, dataset, _BEGINNER_EPOCHS)
        trainer.source.reset(own_seed)
        loss = trainer.train(own_seed)
        if not np.isfinite(loss):
            raise RunError(
                "A network that finds out which images are hard has a loss "
                "that is not finite. Look at the data, or export a run that "
                "is trained without: `python -m gdd_keras.refit --hard-share "
                "0 --run`, and its folder."
            )
        beginners.append(network)
        if bar is not None:
            bar.update(len(beginners), [("loss", loss)])
    return Judges(beginners, expert)


def choose_noise(
    generate,
    noise_dim,
    num_classes,
    image_shape,
    judges,
    hard_share,
    seed=0,
    verbose=0,
):
    """Chooses noise of which a generator makes hard images oftener.

    Of each class the same candidates are drawn. Those that the expert takes
    for another class do not count, the others `(1 - s) + s (1 - p) / m` times,
    with the share s, the probability p that beginners give to the class, and
    the mean m of 1 - p over all that count. They are resampled so; nothing is
    fitted, and no real image takes part. It is importance sampling of what a
    classifier has still to learn, mixed with the draws as they are, and its
    aim is not the distribution of real images any more.

    Reference:
        - [Katharopoulos & Fleuret, 2018](https://arxiv.org/abs/1803.00942),
          for importance sampling by what is not learnt yet
        - Hesterberg, 1995, Weighted Average Importance Sampling and Defensive
          Mixture Distributions, Technometrics 37 (2), for the mixture

    Args:
        generate: Function from float32 noise `(batch, noise_dim)` and label
            vectors `(batch, num_classes)` to images, float32 in [-1, 1].
        noise_dim: Integer.
        num_classes: Integer.
        image_shape: `(height, width, channels)`.
        judges: `Judges`.
        hard_share: Float in [0, 1), s above.
        seed: Integer seed of what is chosen.
        verbose: 1 shows progress, 0 nothing.

    Returns:
        `ChosenNoise`, and the share of the candidates that the expert did not
        take for their class, in [0, 1]. Of a class of which that is nearly
        all, they count all the same.
    """
    layer = ChosenNoise(num_classes, NUM_CHOSEN, noise_dim)
    draw = _draw_function(generate, layer)
    batch_size = _batch_size(image_shape)
    bar = progress_bar(num_classes, "class") if verbose else None
    hardness, right = [], []
    for label in range(num_classes):
        for start in range(0, NUM_CANDIDATES, batch_size):
            numbers = np.arange(start, min(start + batch_size, NUM_CANDIDATES))
            easy, right_ones = _judged(draw, judges, numbers, label)
            hardness.append(1.0 - easy)
            right.append(right_ones)
        if bar is not None:
            bar.update(label + 1)
    shape = (num_classes, NUM_CANDIDATES)
    hardness, right = (
        np.concatenate(x).reshape(shape) for x in (hardness, right)
    )
    known = np.mean(right, axis=1, keepdims=True) >= _LEAST_RIGHT
    weights = _draw_weights(hardness, right | ~known, hard_share)
    generator = np.random.default_rng(seed)
    layer.assign(
        np.stack([_resampled(own, NUM_CHOSEN, generator) for own in weights])
    )
    return layer, float(np.mean(~right))


def time_hard_draws(dataset, generate, noise_dim, precision=None):
    """Returns the seconds that `train_judges` and `choose_noise` take here.

    Args:
        dataset: `Dataset`.
        generate: As in `choose_noise`.
        noise_dim: Integer.
        precision: As in `build_classifier`.
    """
    begun = time.monotonic()
    network = build_labeller(dataset, precision=precision)
    trainer = _beginner_trainer(network, dataset, _TIMED_STEPS)
    seconds = _NUM_BEGINNERS * _BEGINNER_EPOCHS * trainer.time_epoch()
    layer = ChosenNoise(dataset.num_classes, 1, noise_dim)
    draw = _draw_function(generate, layer)
    judges = Judges(_NUM_BEGINNERS * [network], network)
    numbers = np.arange(min(_batch_size(dataset.image_shape), NUM_CANDIDATES))
    # The first time it is compiled.
    _judged(draw, judges, numbers, 0)
    started = time.monotonic()
    _judged(draw, judges, numbers, 0)
    judging = time.monotonic() - started
    batches = dataset.num_classes * math.ceil(NUM_CANDIDATES / len(numbers))
    # Each network is built and compiled anew, for which this one took nearly
    # all of its time.
    building = _NUM_BEGINNERS * (time.monotonic() - begun)
    return seconds + batches * judging + building


def _beginner_trainer(network, dataset, epochs):
    """Returns the `EvalTrainer` of a beginner."""
    return EvalTrainer(
        network,
        RealStream(dataset.train, 1, dataset.num_classes),
        epochs,
        _BEGINNER_LEARNING_RATE,
        decay_at_half=True,
    )


def _batch_size(image_shape):
    """Returns how many images are judged at once."""
    height, width, _ = image_shape
    return max(1, min(_BATCH_SIZE, _BATCH_SIZE * 32 * 32 // (height * width)))


def _draw_function(generate, layer):
    """Returns a function from candidates and their labels to uint8 images."""

    @tf.function(autograph=False, reduce_retracing=True)
    def draw(numbers, labels):
        # As they will be seen, in whole grey levels.
        label_vectors = tf.one_hot(labels, layer.num_classes)
        return to_uint8(generate(layer.candidates(numbers), label_vectors))

    return draw


def _judged(draw, judges, numbers, label):
    """Returns what judges find of candidates, see `Judges.judge`."""
    labels = np.full(len(numbers), label, np.int32)
    return judges.judge(draw(numbers, labels).numpy(), labels)


def _draw_weights(hardness, counts, hard_share):
    """Returns how often each draw is to be chosen.

    Args:
        hardness: `(num_classes, n)`, 1 - p.
        counts: bool likewise, whether it is to be chosen at all.
        hard_share: As in `choose_noise`.
    """
    mean = np.mean(hardness[counts])
    # Where beginners know everything, nothing is harder than the rest.
    relative = hardness / mean if mean > 0.0 else np.ones_like(hardness)
    return (1.0 - hard_share + hard_share * relative) * counts


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


def _softmax(logits):
    """Returns probabilities, float32, of logits of any precision."""
    return tf.nn.softmax(tf.cast(logits, tf.float32)).numpy()
