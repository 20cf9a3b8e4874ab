"""What is said above and below every table of accuracies."""

from gdd_keras.reporting.text import count
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import listed
from gdd_keras.reporting.text import number

__all__ = ["caption", "heading", "provenance", "seeds_text"]

_PROTOCOLS = {
    "stream": "fresh images in every epoch, constant learning rate {}",
    "stream, step": "fresh images in every epoch, learning rate {}, a tenth "
    "after half time",
    "fixed": "one stored set, learning rate {}, a tenth after half time",
    "full_size": "one stored set as large as the training split, learning "
    "rate {}, a tenth after half time",
}


def heading(setting, *parts):
    """Returns what tells a table's setting from others, escaped.

    Args:
        setting: `Setting`.
        *parts: What to say after the protocol, not escaped; default: the
            network.
    """
    parts = [
        setting.protocol,
        *(parts or [setting.network]),
        f"{setting.split} split",
        f"{count(setting.epochs)} epochs",
        setting.conditions,
    ]
    return escape(", ".join(parts))


def caption(setting, cells, network=None):
    """Returns a sentence that states how a table's figures came about.

    Args:
        setting: `Setting` of the table.
        cells: The table's `Cell`s.
        network: Markdown for the network, if it is not the setting's.
    """
    name = setting.protocol
    if setting.schedule != "protocol":
        name += f", {setting.schedule}"
    schedule = _PROTOCOLS.get(name, "learning rate {}")
    schedule = schedule.format(number(setting.learning_rate))
    network = network or escape(setting.network)
    return (
        f"Accuracy in % on the {escape(setting.split)} split, mean ± sample "
        f"standard deviation over n networks. {escape(setting.protocol)}: "
        f"{schedule}; {network}, trained from scratch, last of "
        f"{count(setting.epochs)} epochs; augmentation "
        f"{escape(setting.augmentation)}; {escape(setting.numbers)}; "
        f"{seeds_text(cells)}. Distinct images are those that each network was "
        "shown."
    )


def seeds_text(cells):
    """Says which seeds the networks of cells had."""
    found = {cell.seeds for cell in cells}
    union = sorted({seed for seeds in found for seed in seeds})
    runs = []
    for seed in union:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    text = listed([f"{a}–{b}" if b > a else f"{a}" for a, b in runs])
    word = "seed" if len(union) == 1 else "seeds"
    return f"{word} {text}" + (
        "" if len(found) == 1 else ", not all in every cell"
    )


def provenance(records, material):
    """Names commands and, if there are several, machines; may be empty.

    Args:
        records: Objects or dicts with `command` and `environment`.
        material: `Material`.
    """
    results = material.results
    commands = sorted({r.command for r in records if r.command is not None})
    return linked(commands) + _machines(records, results)


def linked(commands):
    """Returns links to commands, by index."""
    if not commands:
        return ""
    links = [f"[{index + 1}](#command-{index + 1})" for index in commands]
    word = "Command" if len(links) == 1 else "Commands"
    return f"{word} {listed(links)}. "


def _machines(records, results):
    found = sorted(
        {r.environment for r in records if r.environment is not None}
    )
    if not found or len(results.environments) < 2:
        return ""
    word = "Machine" if len(found) == 1 else "Machines"
    return f"{word} {listed([str(index + 1) for index in found])}."
