"""One row of TensorBoard's HParams tab for each run or trial."""

import math

import tensorflow as tf
from tensorboard.plugins.hparams import api

from gdd_keras.config import section_fields

__all__ = ["hyperparameters", "write_hparams"]

# What is compared between runs; the rest is in the run's config.json.
_SECTIONS = ("networks", "cgan", "matching", "generation")
_FIELDS = ("dataset", "image_size", "preset", "seed", "time_budget")


def write_hparams(folder, values, metrics, step=0):
    """Writes a row of the HParams tab: what was set, and what came of it.

    Each folder below TensorBoard's `--logdir` is a row of its own, named
    after its path, also where all values are equal. A row can be written when
    training begins and again, with the same values, when metrics are known:
    the first values and the last metrics count. Scalars that anything else
    writes into the same folder are columns too.

    Args:
        folder: Path of the event files; created if absent.
        values: Dict from name to `bool`, `int`, `str` or finite `float`.
        metrics: Dict from tag, for instance `accuracy/held_out`, to a number;
            may be empty.
        step: Training step of the metrics.

    Raises:
        TypeError: If a value or a metric is of another type.
        ValueError: If a value is not finite, or there is none.

    Example:
        ```python
        write_hparams(
            "runs/search/trial_03",
            {"omega_g": 0.01, "pool": "convnet3"},
            {"accuracy/held_out": 0.81},
        )
        ```
    """
    _check(values, metrics)
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=step):
        # Without an identity, runs with equal values would share a row; with
        # an empty one the folder is the identity.
        api.hparams(dict(values), trial_id="")
        for tag, value in metrics.items():
            tf.summary.scalar(tag, float(value))
    writer.close()


def hyperparameters(config):
    """Returns the settings of a run that runs are compared by.

    Args:
        config: `Config`.

    Returns:
        Dict from field name to `bool`, `int`, `float` or `str`, as
        `write_hparams` takes it; several values are joined, fields that are
        not set are left out.
    """
    found = {}
    for section, _, field, _ in section_fields():
        if section in _SECTIONS or field.name in _FIELDS:
            value = getattr(getattr(config, section), field.name)
            if isinstance(value, tuple):
                value = " ".join(map(str, value))
            if value is not None:
                found[field.name] = value
    return found


def _check(values, metrics):
    """Raises where TensorBoard would show nothing, or stop later."""
    if not values:
        raise ValueError(
            "`values` must hold at least one hyper-parameter. Received: none."
        )
    for name, value in values.items():
        if not isinstance(value, (bool, int, float, str)):
            raise TypeError(
                "`values` must be bool, int, float or str. Received: "
                f"{name}={value!r} of type {type(value).__name__}. Join "
                "several values to one string."
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(
                f"`values` must be finite. Received: {name}={value}."
            )
    for tag, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(
                "`metrics` must be numbers. Received: "
                f"{tag}={value!r} of type {type(value).__name__}."
            )
