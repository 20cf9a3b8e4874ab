"""Generators that differ in the weight of the local loss alone."""

import copy
import dataclasses
import json

from gdd_keras.config import with_former_settings
from gdd_keras.reporting.records import Setting

__all__ = ["WeightColumn", "weight_columns"]

# Settings with no part in what a generator makes, and those that may differ.
_WITHOUT_PART = {
    "data": ("data_dir", "cache_dir", "memory_limit_mb", "download_timeout"),
    "generation": ("soft_labels",),
    "labeller": ("labeller_steps", "label_temperature"),
    "matching": ("omega_l", "distill_steps", "distill_seed"),
    "run": ("seed", "preset"),
}
_FEWEST = 3


@dataclasses.dataclass(frozen=True)
class WeightColumn:
    """Accuracies of one column by `omega_l`.

    Attributes:
        setting: `Setting`.
        ipc: Images per class.
        points: List of `(omega_l, Cell)`, by weight.
    """

    setting: Setting
    ipc: int
    points: list


def weight_columns(material):
    """Finds columns with three or more weights, all else being equal.

    Distillation steps and seeds may differ. Generators that were not
    distilled are left out: the weight was not used.

    Args:
        material: `Material`.

    Returns:
        List of `WeightColumn`.
    """
    methods = material.results.methods
    columns = {}
    for setting, rows in material.groups.items():
        for row, cells in rows.items():
            found = _weight_and_rest(methods.get(row.method, {}))
            if found is None or row.selection != "random":
                continue
            for ipc, cell in cells.items():
                key = setting, ipc, found[1]
                columns.setdefault(key, []).append((found[0], cell))
    return [
        WeightColumn(setting, ipc, sorted(points, key=lambda p: p[0]))
        for (setting, ipc, _), points in columns.items()
        if len({weight for weight, _ in points}) >= _FEWEST
    ]


def _weight_and_rest(entry):
    """Returns `omega_l` and all that must be equal, or `None`."""
    config = entry.get("config")
    if entry.get("kind") != "generator" or not isinstance(config, dict):
        return None
    matching = config.get("matching")
    if not isinstance(matching, dict):
        return None
    weight = matching.get("omega_l")
    steps = (entry.get("training") or {}).get("steps") or {}
    distilled = steps.get("distill", matching.get("distill_steps"))
    if not isinstance(weight, int | float) or not distilled:
        return None
    rest = copy.deepcopy(with_former_settings(config))
    rest.pop("evaluation", None)
    for section, names in _WITHOUT_PART.items():
        for name in names:
            rest.get(section, {}).pop(name, None)
    return float(weight), json.dumps(rest, sort_keys=True)
