"""The reference network: trained on the real training split, once.

It chooses images (herding, k-center, forgetting), compares them (quality,
audit), and is itself the row `full`. It never sees held-out or test images
before it is scored.
"""

import dataclasses
import hashlib
import itertools
import json
import pathlib

import numpy as np

from gdd_keras.config import InputError
from gdd_keras.evaluation.protocols import Score
from gdd_keras.evaluation.protocols import SourceScorer
from gdd_keras.evaluation.protocols import pick_split
from gdd_keras.evaluation.protocols import score_fields
from gdd_keras.evaluation.sources import FixedSet
from gdd_keras.files import new_directory
from gdd_keras.files import write_json
from gdd_keras.metadata import SCORE_DEFAULTS
from gdd_keras.networks import image_features

__all__ = [
    "REFERENCE_NETWORK",
    "Reference",
    "all_real_images",
    "count_forgetting",
    "load_reference",
    "reference_config",
    "reference_identity",
]

REFERENCE_NETWORK = "convnet3"


class Reference:
    """A network trained on the training split, and what it says of images.

    Args:
        model: Trained `keras.Model` from images in [-1, 1] to logits.
        forgetting: int32 `(n,)`, see `count_forgetting`.
        score: Its `Score` on the split it was last scored on.
    """

    def __init__(self, model, forgetting, score):
        self.model = model
        self.forgetting = forgetting
        self.score = score
        self._features = image_features(model)

    @property
    def digest(self):
        """Hex digest of its weights.

        Two machines make other weights, and so other features, of one
        identity.
        """
        digest = hashlib.sha256()
        for weights in self.model.get_weights():
            digest.update(weights.tobytes())
        return digest.hexdigest()[:16]

    def features(self, images):
        """Returns what enters the last layer.

        Args:
            images: uint8 `(n, height, width, channels)`.

        Returns:
            float32 `(n, d)`.
        """
        return self._features(images)


def load_reference(dataset, config, cache, seed=0, split="test", progress=None):
    """Loads the reference network of a data set, or trains it.

    Args:
        dataset: `Dataset`.
        config: `EvaluationConfig`: epochs, rate, augmentation, precision.
        cache: Folder to keep it in.
        seed: Integer >= 0.
        split: Split to score it on.
        progress: Function of (epochs done, loss), or `None`.

    Returns:
        `Reference`.
    """
    config = reference_config(config)
    scorer = SourceScorer(
        all_real_images(dataset.train),
        dataset,
        config,
        split,
        "full",
        protocol="full_size",
    )
    identity = reference_identity(dataset, config, seed)
    model = scorer.trainer.model
    for folder in sorted(pathlib.Path(cache).glob("reference-*")):
        known = json.loads((folder / "reference.json").read_text())
        if {**SCORE_DEFAULTS, **known["identity"]} == identity:
            model.load_weights(folder / "model.weights.h5")
            score = dataclasses.replace(
                Score(**known["score"]),
                split=split,
                accuracy=scorer.trainer.score(pick_split(dataset, split)),
            )
            return Reference(model, np.load(folder / "forgetting.npy"), score)
    history = []
    score = scorer.score(
        seed,
        progress,
        lambda: history.append(scorer.trainer.correct(dataset.train)),
    )
    forgetting = count_forgetting(np.array(history))
    taken = {folder.name for folder in pathlib.Path(cache).glob("reference-*")}
    number = next(
        n for n in itertools.count(1) if f"reference-{n}" not in taken
    )
    with new_directory(pathlib.Path(cache) / f"reference-{number}") as folder:
        model.save_weights(folder / "model.weights.h5")
        np.save(folder / "forgetting.npy", forgetting)
        write_json(
            folder / "reference.json",
            {"identity": identity, "score": dataclasses.asdict(score)},
        )
    return Reference(model, forgetting, score)


def reference_identity(dataset, config, seed):
    """Returns what the training of a reference network depends on.

    Args:
        dataset: `Dataset`.
        config: `EvaluationConfig`.
        seed: Integer >= 0.

    Returns:
        Dict ready for JSON.
    """
    return {
        "fingerprint": dataset.fingerprint,
        "num_images": len(dataset.train),
        "seed": seed,
        **score_fields(
            dataset,
            reference_config(config),
            None,
            "full",
            protocol="full_size",
        ),
    }


def reference_config(config):
    """Returns the config under which full-size sets are trained on."""
    return dataclasses.replace(
        config,
        network=REFERENCE_NETWORK,
        eval_epochs=config.reference_epochs,
        # Of real images there are no others.
        eval_labels="hard",
    )


def count_forgetting(history):
    """Counts how often each image went from right to wrong.

    Readings are taken after every epoch on images as they are, where the
    literature reads the augmented image whenever it is trained on.

    Reference:
        - [Toneva et al., 2019](https://arxiv.org/abs/1812.05159)

    Args:
        history: bool `(epochs, n)`, right or wrong after each epoch.

    Returns:
        int32 `(n,)`; an image that was never right counts as forgotten once
        more than any other can be.
    """
    history = np.asarray(history, bool)
    if history.ndim != 2:
        raise InputError(
            "`history` must be (epochs, images). Received: shape "
            f"{history.shape}."
        )
    events = (history[:-1] & ~history[1:]).sum(0)
    return np.where(history.any(0), events, len(history)).astype(np.int32)


def all_real_images(split):
    """Returns the source of a split whole, as `fixed` shows it."""
    return FixedSet(lambda seed: (split.images[:], split.labels), len(split))
