"""Sources of images for every row of a table, whatever it is trained on."""

import pathlib

import numpy as np

from gdd_keras.data.pipeline import BatchSampler
from gdd_keras.evaluation.sources import FixedSet
from gdd_keras.evaluation.sources import GeneratorStream
from gdd_keras.evaluation.sources import RealStream
from gdd_keras.evaluation.sources import SoftLabelled
from gdd_keras.evaluation.sources import first_real_images
from gdd_keras.evaluation.sources import generated_set
from gdd_keras.files import write_bytes
from gdd_keras.selection import IMAGES_PER_CLASS
from gdd_keras.selection import herding
from gdd_keras.selection import k_center
from gdd_keras.selection import most_forgotten
from gdd_keras.selection import select_per_class
from gdd_keras.selection.distribution_matching import ClassMeanMatcher
from gdd_keras.selection.distribution_matching import condensed_images
from gdd_keras.selection.typical import typical_images

__all__ = ["baseline_source", "distribution_matching", "generator_source"]

_CHOICES = {"herding": herding, "k_center": k_center}

# Of `BatchSampler`; real images for distribution matching.
_STREAM = 3

# Few enough to keep the features of one class in memory.
_MAX_PER_CLASS = 20_000


def baseline_source(
    name, dataset, config, reference=None, cache=None, seed=0, progress=None
):
    """Returns the source of a baseline.

    Args:
        name: One of `gdd_keras.config.BASELINES` but `full`, which
            `load_reference` scores.
        dataset: `Dataset`.
        config: `EvaluationConfig`.
        reference: Function giving the `Reference`, called if it is needed:
            for herding, k-center and forgetting.
        cache: Folder for what takes long to make; DM needs it.
        seed: Integer >= 0 of everything that is made once for all networks:
            which forgotten images of equal rank count, and DM.
        progress: Function of (steps done, loss) for DM, or `None`.

    Returns:
        A source; see `gdd_keras.evaluation.sources`.
    """
    split, num_classes, ipc = dataset.train, dataset.num_classes, config.ipc
    if name == "real_stream":
        return RealStream(split, ipc, num_classes)
    if name == "random":
        return FixedSet(
            first_real_images(split, ipc, num_classes), ipc * num_classes
        )
    if name == "dm":
        images, labels = _cached_dm(dataset, config, cache, seed, progress)
    else:
        rows = select_per_class(
            split.labels,
            ipc,
            num_classes,
            _real_choice(name, split, reference(), seed),
        )
        images, labels = split.images[rows], split.labels[rows]
    # The same images for every network, as in the literature.
    return FixedSet(lambda seed: (images, labels), len(labels))


def num_candidates(config):
    """Returns how many images of each class a selection chooses from."""
    return max(config.candidates, 10 * config.ipc)


def generator_source(
    generator,
    dataset,
    config,
    protocol,
    selection="random",
    reference=None,
    seed=0,
    progress=None,
):
    """Returns the source of a generator.

    Args:
        generator: `DistilledGenerator`, or a Keras generator where images are
            neither typical nor condensed.
        dataset: `Dataset`.
        config: `EvaluationConfig`.
        protocol: `stream`, `fixed` or `full_size`.
        selection: Under `fixed`, which of many candidates are kept:
            `random`; `typical` or `condensed` (what `generate --selection`
            writes; the latter once for all networks); `herding` (towards the
            mean of the real class) or `k_center` (to cover the candidates).
        reference: As in `baseline_source`.
        seed: Integer >= 0 of condensed images.
        progress: As in `condensed_images`.

    Returns:
        A source; see `gdd_keras.evaluation.sources`.

    Raises:
        InputError: If soft labels are asked for and the generator gives none.
    """
    num_classes, ipc = dataset.num_classes, config.ipc
    if protocol == "full_size":
        ipc = max(1, len(dataset.train) // num_classes)
    if protocol == "stream":
        source = GeneratorStream(generator, ipc)
    elif selection == "random":
        source = FixedSet(generated_set(generator, ipc), ipc * num_classes)
    elif selection == "typical":
        labels = generator.balanced_labels(ipc)
        source = FixedSet(
            lambda seed: (typical_images(generator, ipc, seed), labels),
            ipc * num_classes,
        )
    elif selection == "condensed":
        images = condensed_images(generator, ipc, seed, progress)
        labels = generator.balanced_labels(ipc)
        source = FixedSet(lambda seed: (images, labels), len(labels))
    else:
        source = FixedSet(
            _selected_set(
                generator, dataset, config, _CHOICES[selection], reference()
            ),
            ipc * num_classes,
        )
    if config.eval_labels == "hard":
        return source
    return SoftLabelled(source, generator)


def _real_choice(name, split, reference, seed):
    """Returns `choose` of `select_per_class` for real images."""
    if name == "forgetting":
        return lambda label, rows, count: most_forgotten(
            reference.forgetting[rows], count, seed
        )

    def choose(label, rows, count):
        # A class of millions is thinned; its mean and cover hardly move.
        thinned = rows[:: -(-len(rows) // _MAX_PER_CLASS)]
        features = reference.features(split.images[thinned])
        positions = _CHOICES[name](features, min(count, len(thinned)))
        return np.searchsorted(rows, thinned[positions])

    return choose


def _selected_set(generator, dataset, config, choice, reference):
    """Returns `make` of `FixedSet`: the chosen ones of many candidates."""
    num_classes = dataset.num_classes
    make_candidates = generated_set(generator, num_candidates(config))
    targets = [
        reference.features(
            dataset.train.images[
                np.flatnonzero(dataset.train.labels == label)[:_MAX_PER_CLASS]
            ]
        ).mean(0)
        for label in range(num_classes)
    ]

    def make(seed):
        images, labels = make_candidates(seed)
        rows = select_per_class(
            labels,
            config.ipc,
            num_classes,
            lambda label, rows, count: choice(
                reference.features(images[rows]), count, targets[label]
            ),
        )
        return images[rows], labels[rows]

    return make


def _cached_dm(dataset, config, cache, seed, progress):
    """Makes a set by distribution matching, or loads it."""
    file = pathlib.Path(cache) / (
        f"dm-{dataset.fingerprint}-{len(dataset.train)}-{dataset.held_out}-"
        f"ipc{config.ipc}-{config.dm_steps}steps-seed{seed}.npz"
    )
    if not file.exists():
        images, labels = distribution_matching(
            dataset, config.ipc, config.dm_steps, seed, progress
        )
        write_bytes(file, _npz_bytes(images=images, labels=labels))
    with np.load(file) as stored:
        return stored["images"], stored["labels"]


def distribution_matching(dataset, ipc, steps, seed=0, progress=None):
    """Makes images that start as real ones and stand for real ones.

    Args:
        dataset: `Dataset`; only its training split is read.
        ipc: Images per class.
        steps: As in `ClassMeanMatcher.match`.
        seed: Integer >= 0.
        progress: Function of (steps done, loss), or `None`.

    Returns:
        uint8 images `(ipc * num_classes, height, width, channels)` and int32
        labels, `i % num_classes`.
    """
    train, num_classes = dataset.train, dataset.num_classes

    def in_label_order(images, labels):
        order = np.argsort(labels, kind="stable")
        order = order.reshape(num_classes, -1).T.ravel()
        return images[order], labels[order]

    sampler = BatchSampler(
        train.labels, num_classes * IMAGES_PER_CLASS, seed, stream=_STREAM
    )

    def batch(step):
        rows = sampler.indices(step)
        return in_label_order(train.images[rows], train.labels[rows])[0]

    start, labels = in_label_order(
        *first_real_images(train, ipc, num_classes)(seed)
    )
    matcher = ClassMeanMatcher(
        dataset.image_shape,
        ipc,
        num_classes,
        (dataset.mean, dataset.std),
        dataset.augmentation,
        seed=seed,
    )
    return matcher.match(start, batch, steps, progress), labels


def _npz_bytes(**arrays):
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
