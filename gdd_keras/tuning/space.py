"""What a search varies, and over which values."""

import math

from gdd_keras.config import InputError
from gdd_keras.config import make_config

__all__ = [
    "DEFAULT_VALUES",
    "HYPERBAND_EPOCHS",
    "HYPERBAND_FACTOR",
    "LISTS",
    "num_trials",
    "search_space",
]

# Rungs of 1, 3 and 9 ninths of stage 2.
HYPERBAND_EPOCHS = 9
HYPERBAND_FACTOR = 3
# With these, Hyperband starts 9, 5 and 3 trials with values of their own.
_HYPERBAND_STARTS = 17
_HYPERBAND_TRIALS = 23

# Steps of about half a decade, with zero, the baseline, as one more choice.
# Between two neighbours the noise of a few networks is larger than the effect.
DEFAULT_VALUES = {
    "omega_g": (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "omega_l": (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
    "local_layer": ("block_1", "block_2", "block_3"),
    "pool_redraw_steps": (200, 800, 3200),
    "pool_train_steps": (0, 1, 4),
    "distill_learning_rate": (6e-5, 2e-4, 6e-4),
    "distill_discriminator_learning_rate": (6e-5, 2e-4, 6e-4),
}
# Without an encoder the losses are larger, see `matching_defaults`.
_UNPAIRED_VALUES = {
    "omega_g": (0.0, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0),
    "omega_l": (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1),
}
# Fields whose flags take several values; one value fixes the field. The flag
# of `local_layer` already means one layer for each network of the pool.
LISTS = tuple(name for name in DEFAULT_VALUES if name != "local_layer")
_ALWAYS = ("omega_g", "omega_l")


def search_space(base, lists, also=()):
    """Returns what a search varies.

    The weights of both losses are searched unless one value fixes them.

    Args:
        base: `Config` of everything else.
        lists: Dict from field to the values that the user gave for it.
        also: More fields to search, over `DEFAULT_VALUES`.

    Returns:
        Dict from field to a tuple of two or more values, in order.

    Raises:
        InputError: If a value is out of range, fixed and searched at once, or
            nothing is left to search.
    """
    defaults = DEFAULT_VALUES
    if base.networks.latents == "normal":
        defaults = {**DEFAULT_VALUES, **_UNPAIRED_VALUES}
    space = {}
    for name in (*_ALWAYS, *also, *lists):
        values = tuple(dict.fromkeys(lists.get(name, defaults[name])))
        for value in values:
            make_config(base=base, **{name: value})
        if name in also and len(values) == 1:
            raise InputError(
                f"`--search {name}` needs values to choose from. Received: "
                f"--{name.replace('_', '-')} {values[0]}. Give two or more, "
                "or none."
            )
        if len(values) > 1:
            space[name] = values
    if not space:
        raise InputError(
            "There must be something to search. Received: one value for "
            "`omega_g` and one for `omega_l`. Give several, for instance "
            "`--omega-l 0 1 10 100`."
        )
    return space


def num_trials(tuning, space):
    """Returns how many trials a search will have.

    Args:
        tuning: `TuningConfig`.
        space: As from `search_space`.

    Raises:
        InputError: If the space is too small for the strategy.
    """
    size = math.prod(len(values) for values in space.values())
    if tuning.tuner == "grid":
        return size
    if tuning.tuner == "hyperband":
        if size < _HYPERBAND_STARTS:
            raise InputError(
                f"`--tuner hyperband` needs {_HYPERBAND_STARTS} or more "
                f"combinations. Received: {size}. Give more values, or take "
                "`--tuner grid`."
            )
        return _HYPERBAND_TRIALS
    return min(size, tuning.max_trials)
