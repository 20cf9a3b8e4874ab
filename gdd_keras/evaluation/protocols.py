"""The two protocols of the literature: `stream` and `fixed`.

- `stream`: every batch shows fresh images, labels balanced; constant rate,
  unless `eval_schedule` says otherwise.
- `fixed`: the same stored images in every epoch; the rate falls to a tenth at
  half time.

Both train networks from scratch with SGD (momentum 0.9, weight decay 5e-4) on
hard labels and report the accuracy after the **last** epoch. Figures of one
are not comparable with figures of the other.

Reference:
    - [Wang et al., 2023](https://arxiv.org/abs/2303.04707), stream
    - [Zhao & Bilen, 2021](https://arxiv.org/abs/2102.08259), fixed
"""

import dataclasses
import math
import statistics
import time

import keras

from gdd_keras.config import BASELINES
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.data.augmentation import siamese_strategy
from gdd_keras.evaluation.baselines import baseline_source
from gdd_keras.evaluation.baselines import generator_source
from gdd_keras.evaluation.baselines import num_candidates
from gdd_keras.evaluation.training import EvalTrainer
from gdd_keras.evaluation.training import progress_bar
from gdd_keras.networks.classifiers import build_classifier
from gdd_keras.selection import REAL_SELECTIONS

__all__ = [
    "Score",
    "SourceScorer",
    "check_classes",
    "check_origin",
    "evaluate_generator",
    "evaluate_real",
    "evaluate_source",
    "format_accuracy",
    "pick_split",
    "score_fields",
    "summarize",
]


@dataclasses.dataclass(frozen=True)
class Score:
    """Accuracy of one network.

    Attributes:
        method: What it was trained on, for instance `gdd`.
        selection: How the images were chosen: `random`, `typical`, or a
            method of `gdd_keras.selection`.
        protocol: `stream` or `fixed`; `full_size` is `fixed` with as many
            images as the training split has.
        ipc: Images per class: per epoch under `stream`, in all under
            `fixed`; `None` under `full_size`.
        network: Name of the network.
        seed: Seed of its weights, images and augmentation.
        epochs: Epochs trained.
        learning_rate: SGD's rate; its first half's under `fixed` or `step`.
        augmentation: Augmentation while it trained.
        precision: Keras dtype policy of the network.
        distinct_images: Different images it was shown.
        split: Split of the accuracy.
        accuracy: Fraction of right answers after the last epoch.
        seconds: Time for training and scoring.
        schedule: `protocol`, or `step`: a tenth of the rate after half time
            under `stream` too, whose rate is constant else.
        labels: `hard`, or `soft`: probabilities that the generator's export
            gives to its images. Figures of one are not comparable with
            figures of the other.
        preparation: What else the images depend on, as text, for instance
            `500 steps`; `None` where that is nothing.
        held_out: `Dataset.held_out` where the figure depends on which
            training images are held out: that of real images, and on the
            validation split; else `None`.
    """

    method: str
    selection: str
    protocol: str
    ipc: int | None
    network: str
    seed: int
    epochs: int
    learning_rate: float
    augmentation: str
    precision: str
    distinct_images: int
    split: str
    accuracy: float
    seconds: float
    labels: str = "hard"
    schedule: str = "protocol"
    preparation: str | None = None
    held_out: str | None = None


def evaluate_generator(
    generator,
    dataset,
    config,
    seed=0,
    split="test",
    verbose=1,
    method="generator",
    earlier=(),
    on_score=None,
):
    """Trains networks on a generator's images and scores them.

    Network n has the seed `seed + n`: it draws the weights, the images and
    the augmentation.

    Args:
        generator: `DistilledGenerator`, or Keras generator of `[latents,
            one_hot_labels]`.
        dataset: `Dataset` to score on; its training images are not used, but
            for their mean and standard deviation.
        config: `EvaluationConfig`.
        seed: Integer >= 0, the first network's.
        split: Split to score on. Use `validation` for every choice and
            `test` for the final figure only.
        verbose: 1 shows progress, 0 nothing.
        method: Name for the scores.
        earlier: `Score`s of an interrupted call; of those that this one
            would repeat, no network is trained again.
        on_score: Function of the list of `Score`s so far, called after each
            network that was trained.

    Returns:
        List of `Score`, one per network; see `summarize`.

    Raises:
        InputError: If generator, data set and config do not fit together.
        RunError: If a network's loss is no longer finite.

    Example:
        ```python
        scores = evaluate_generator(
            load_generator("saved_models/digits"),
            load_dataset(DataConfig()),
            EvaluationConfig(ipc=10, num_seeds=5),
        )
        print(summarize(scores)["accuracy_mean"])
        ```
    """
    _check_generator(generator, dataset)
    source = generator_source(generator, dataset, config, config.protocol)
    return evaluate_source(
        source,
        dataset,
        config,
        seed,
        split,
        verbose,
        method,
        earlier,
        on_score,
    )


def evaluate_real(dataset, config, seed=0, split="test", verbose=1):
    """Puts real images in the generator's place, all else being equal.

    Under `stream` these are fresh real images, the natural ceiling (method
    `real_stream`); under `fixed`, a random subset (method `random`).

    Args:
        dataset: `Dataset` whose training part gives the images.
        config: As in `evaluate_generator`, as are the rest and the result.
        seed: The first network's.
        split: Split to score on.
        verbose: 1 shows progress, 0 nothing.
    """
    method = "real_stream" if config.protocol == "stream" else "random"
    config = dataclasses.replace(config, eval_labels="hard")
    source = baseline_source(method, dataset, config)
    return evaluate_source(
        source, dataset, config, seed, split, verbose, method
    )


class SourceScorer:
    """Trains networks on one source, one at a time, and scores them.

    All share one compiled step; only the values differ.

    Args:
        source: See `gdd_keras.evaluation.sources`.
        dataset: `Dataset`.
        config: `EvaluationConfig`; its protocol and `eval_schedule` set the
            schedule.
        split: Split to score on.
        method: Name for the scores.
        selection: How the source's images were chosen, for the scores.
        protocol: Instead of the config's, for the scores; the schedule of
            all but `stream` is that of `fixed`.
        set_seed: Seed of what was made once for all networks, for the scores.

    Attributes:
        fields: Dict of what all its scores have in common.
        trainer: `EvalTrainer`.

    Raises:
        InputError: If the split has no images.
    """

    def __init__(
        self,
        source,
        dataset,
        config,
        split="test",
        method="source",
        selection="random",
        protocol=None,
        set_seed=0,
    ):
        self._source = source
        self._dataset = dataset
        self._config = config
        self._split = pick_split(dataset, split)
        self.fields = score_fields(
            dataset, config, split, method, selection, protocol, set_seed
        )
        self.trainer = EvalTrainer(
            _build(config, dataset, 0),
            source,
            config.eval_epochs,
            config.eval_learning_rate,
            self.fields["augmentation"],
            decay_at_half=(
                self.fields["protocol"] != "stream"
                or self.fields["schedule"] == "step"
            ),
        )

    def score(self, seed, progress=None, on_epoch_end=None):
        """Trains one network from scratch.

        Args:
            seed: Integer >= 0 of its weights, images and augmentation.
            progress: As in `EvalTrainer.train`.
            on_epoch_end: Likewise.

        Returns:
            `Score`.

        Raises:
            RunError: If the loss is no longer finite.
        """
        started = time.monotonic()
        _copy_values(
            _build(self._config, self._dataset, seed), self.trainer.model
        )
        self._source.reset(seed)
        epochs = self._config.eval_epochs

        def checked_progress(done, loss):
            if not math.isfinite(loss):
                raise RunError(
                    f"{self.fields['method']}, network with seed {seed}: the "
                    f"loss is {loss} after {done} of {epochs} epochs. Lower "
                    "`--eval-learning-rate`."
                )
            if progress is not None:
                progress(done, loss)

        self.trainer.train(seed, checked_progress, on_epoch_end)
        return Score(
            **self.fields,
            seed=seed,
            accuracy=self.trainer.score(self._split),
            distinct_images=self._source.num_distinct(epochs),
            seconds=round(time.monotonic() - started, 3),
        )


def evaluate_source(
    source,
    dataset,
    config,
    seed=0,
    split="test",
    verbose=1,
    method="source",
    earlier=(),
    on_score=None,
):
    """Trains `config.num_seeds` networks on any source and scores them.

    Args:
        source: See `gdd_keras.evaluation.sources`.
        dataset: As in `evaluate_generator`, as are the rest and the result.
        config: `EvaluationConfig`; its protocol and `eval_schedule` set the
            schedule.
        seed: The first network's.
        split: Split to score on.
        verbose: 1 shows progress, 0 nothing.
        method: Name for the scores.
        earlier: As in `evaluate_generator`.
        on_score: Likewise.
    """
    scorer = SourceScorer(source, dataset, config, split, method)
    earlier = {
        score.seed: score
        for score in earlier
        if scorer.fields.items() <= dataclasses.asdict(score).items()
    }
    scores = []
    for index in range(config.num_seeds):
        network_seed = (seed + index) % 2**31
        title = (
            f"{method}, {config.protocol}, IPC {config.ipc}, "
            f"{config.network} {index + 1} of {config.num_seeds}"
        )
        if network_seed in earlier:
            scores.append(earlier[network_seed])
            if verbose:
                print(f"{title}: {scores[-1].accuracy:.2%}, from before")
            continue
        bar = None
        if verbose:
            print(title, flush=True)
            bar = progress_bar(config.eval_epochs, "epoch")

        def progress(epochs, loss, bar=bar):
            bar.update(epochs, [("loss", loss)])

        score = scorer.score(network_seed, None if bar is None else progress)
        if verbose:
            print(f"accuracy on {split}: {score.accuracy:.2%}", flush=True)
        scores.append(score)
        if on_score is not None:
            on_score(scores)
    return scores


def score_fields(
    dataset,
    config,
    split,
    method,
    selection="random",
    protocol=None,
    set_seed=0,
):
    """Returns what a `Score` says before any network is trained.

    The augmentation `auto` is the data's own under `stream`, and the siamese
    one that fits the data elsewhere, as in the literature.

    Args:
        dataset: `Dataset`.
        config: `EvaluationConfig`.
        split: As in `SourceScorer`, as are the rest.
        method: Name for the scores.
        selection: How the images were chosen.
        protocol: Instead of the config's.
        set_seed: As in `SourceScorer`.

    Returns:
        Dict of the fields of `Score` that do not depend on the seed.
    """
    protocol = protocol or config.protocol
    augmentation = config.eval_augmentation
    if augmentation == "auto":
        augmentation = dataset.augmentation
        if protocol != "stream":
            augmentation = siamese_strategy(augmentation)
    # Elsewhere both are the same.
    schedule = config.eval_schedule if protocol == "stream" else "protocol"
    needs_real = method in BASELINES or selection in REAL_SELECTIONS
    held_out = dataset.held_out or None
    return {
        "method": method,
        "selection": selection,
        "protocol": protocol,
        "ipc": None if protocol == "full_size" else config.ipc,
        "network": config.network,
        "epochs": config.eval_epochs,
        "learning_rate": config.eval_learning_rate,
        "augmentation": augmentation,
        "precision": config.eval_precision,
        "labels": config.eval_labels,
        "schedule": schedule,
        "split": split,
        "preparation": _preparation(config, method, selection, set_seed),
        "held_out": held_out if needs_real or split == "validation" else None,
    }


def _preparation(config, method, selection, set_seed):
    """Returns what else the images of a row depend on, or `None`."""
    reference = f"reference of {config.reference_epochs} epochs"
    if method == "dm":
        parts = [f"{config.dm_steps} steps"]
    elif method in ("herding", "k_center", "forgetting"):
        parts = [reference]
    elif selection in REAL_SELECTIONS:
        parts = [f"{num_candidates(config)} candidates", reference]
    elif selection == "condensed":
        parts = []
    else:
        return None
    if set_seed:
        parts.append(f"made by seed {set_seed}")
    return ", ".join(parts) or None


def check_classes(image_shape, num_classes, class_names, dataset):
    """Checks that a generator makes images of a data set.

    Args:
        image_shape: `(height, width, channels)` of the generator.
        num_classes: Its number of classes.
        class_names: Its class names in order, or `None` if unknown.
        dataset: `Dataset`.

    Raises:
        InputError: Saying what differs.
    """
    if tuple(image_shape) != tuple(dataset.image_shape):
        raise InputError(
            f"The generator must make images of {dataset.source}, "
            f"{tuple(dataset.image_shape)}. Received: a generator of "
            f"{tuple(image_shape)}. Set `--image-size`, or choose the data "
            "set that it was distilled from."
        )
    if num_classes != dataset.num_classes:
        raise InputError(
            f"The generator must have the {dataset.num_classes} classes of "
            f"{dataset.source}. Received: a generator of {num_classes}. "
            "Choose the data set that it was distilled from."
        )
    if class_names is not None and list(class_names) != list(
        dataset.class_names
    ):
        label, own, other = next(
            (i, *names)
            for i, names in enumerate(
                zip(class_names, dataset.class_names, strict=True)
            )
            if names[0] != names[1]
        )
        raise InputError(
            f"The generator must have the class names of {dataset.source}, in "
            f"order. Received: label {label} is {own!r} in the generator and "
            f"{other!r} in the data. Choose the data set that it was "
            "distilled from."
        )


def check_origin(directory, metadata, dataset):
    """Checks that an exported generator was distilled from a data set.

    Args:
        directory: What to call the generator.
        metadata: Its metadata.
        dataset: `Dataset`.

    Raises:
        InputError: Saying what differs.
    """
    check_classes(
        metadata["image_shape"],
        metadata["num_classes"],
        metadata["class_names"],
        dataset,
    )
    expected = metadata.get("fingerprint", dataset.fingerprint)
    if dataset.fingerprint != expected:
        raise InputError(
            f"The data must be those that {directory} was distilled from, "
            f"fingerprint {expected}. Received: {dataset.source}, fingerprint "
            f"{dataset.fingerprint}: same shape and classes, but other images "
            "or labels. Choose that data set, or distil this one."
        )


def summarize(scores):
    """Returns mean and sample standard deviation over networks.

    Args:
        scores: Scores that differ in nothing but the seed and what follows
            from it.

    Returns:
        Dict ready for JSON: the common fields of the scores, `seeds`,
        `num_seeds`, `accuracies`, `accuracy_mean`, `accuracy_std` (divisor
        n - 1; `None` for one network, which has no spread),
        `distinct_images` (shown to each network; the mean if they differ)
        and `seconds` (of all).

    Raises:
        ValueError: If there are no scores, or they do not belong together.
    """
    own = ("seed", "accuracy", "distinct_images", "seconds")
    groups = [
        {k: v for k, v in dataclasses.asdict(s).items() if k not in own}
        for s in scores
    ]
    if not groups or any(group != groups[0] for group in groups):
        raise ValueError(
            "`scores` must hold one or more scores of the same method, "
            f"protocol and network. Received: {len(groups)} scores"
            f"{' that differ' if groups else ''}. Summarise each group alone."
        )
    accuracies = [score.accuracy for score in scores]
    return {
        **groups[0],
        "num_seeds": len(scores),
        "seeds": [score.seed for score in scores],
        "accuracies": accuracies,
        "accuracy_mean": statistics.fmean(accuracies),
        "accuracy_std": (
            statistics.stdev(accuracies) if len(accuracies) > 1 else None
        ),
        "distinct_images": round(
            statistics.fmean(score.distinct_images for score in scores)
        ),
        "seconds": round(sum(score.seconds for score in scores), 3),
    }


def format_accuracy(summary):
    """Returns mean and deviation of a summary as text."""
    mean = f"{summary['accuracy_mean']:.2%}"
    if summary["accuracy_std"] is None:
        return f"{mean} (one network, no deviation)"
    return (
        f"{mean} ± {summary['accuracy_std']:.2%} "
        f"(mean and sample deviation of {summary['num_seeds']} networks)"
    )


def _check_generator(generator, dataset):
    """Raises `InputError` if shapes or classes differ."""
    if isinstance(generator, keras.Model):
        output_shape = generator.output_shape[1:]
        num_classes = generator.inputs[1].shape[-1]
        check_classes(output_shape, num_classes, None, dataset)
    else:
        check_classes(
            generator.image_shape,
            generator.num_classes,
            generator.class_names,
            dataset,
        )


def pick_split(dataset, name):
    """Returns the split to score on, or raises `InputError`."""
    if name not in ("test", "validation"):
        raise InputError(
            f"`split` must be test or validation. Received: split={name}."
        )
    split = dataset.splits.get(name)
    if split is None or not len(split):
        raise InputError(
            f"{dataset.source} must have images in the split `{name}` to "
            "score on. Received: none. Score on another with "
            f"`--split {'validation' if name == 'test' else 'test'}`."
        )
    return split


def _build(config, dataset, seed):
    return build_classifier(
        config.network,
        dataset.image_shape,
        dataset.num_classes,
        dataset.mean,
        dataset.std,
        seed=seed,
        precision=config.eval_precision,
    )


def _copy_values(source, target):
    """Copies all variables, those of normalisation and dropout too."""
    for new, variable in zip(source.variables, target.variables, strict=True):
        variable.assign(new)
