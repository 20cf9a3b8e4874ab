"""Tables of accuracies; a column never mixes settings."""

import dataclasses

from gdd_keras.reporting import captions
from gdd_keras.reporting.records import FULL
from gdd_keras.reporting.records import network_key
from gdd_keras.reporting.records import row_key
from gdd_keras.reporting.text import count
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import table

__all__ = [
    "accuracy_tables",
    "architecture_tables",
    "find_full",
    "full_size_tables",
]

_NONE = "–"


def accuracy_tables(material):
    """Returns one table of methods by IPC for each setting.

    Args:
        material: `Material`.

    Returns:
        List of Markdown blocks.
    """
    blocks = []
    for setting, rows in material.groups.items():
        if setting.protocol == "full_size":
            continue
        columns = sorted({ipc for cells in rows.values() for ipc in cells})
        header = [
            "trained on",
            *(f"IPC {count(ipc)}" for ipc in columns),
            "distinct images",
        ]
        lines = [
            [
                escape(row.name),
                *(_text(cells.get(ipc)) for ipc in columns),
                " / ".join(_distinct(cells.get(ipc)) for ipc in columns),
            ]
            for row, cells in rows.items()
        ]
        blocks += [
            f"### {captions.heading(setting)}",
            _caption(material, setting, rows),
            table(header, lines),
        ]
        reference = find_full(material, setting)
        if reference is not None:
            other, cell = reference
            blocks.append(
                f"For reference, under another schedule "
                f"({captions.heading(other)}): the full real training data, "
                f"{cell.text}."
            )
    return blocks


def architecture_tables(material):
    """Returns tables of methods by network where there are two or more."""
    blocks = []
    for (setting, ipc), rows, networks in _by_network(material):
        rows = {row: cells for row, cells in rows.items() if len(cells) > 1}
        if setting.protocol == "full_size" or not rows:
            continue
        title = captions.heading(setting, f"IPC {ipc}")
        blocks += _network_table(material, setting, title, rows, networks)
    return blocks


def full_size_tables(material):
    """Returns tables of sets as large as the training split, by network."""
    blocks = []
    for (setting, _), rows, networks in _by_network(material):
        if setting.protocol == "full_size":
            title = captions.heading(setting, "all networks")
            blocks += _network_table(material, setting, title, rows, networks)
    if blocks:
        blocks.insert(
            0,
            "Networks trained on as many images as the training split has. "
            "`full` are the real ones; for a generator, the accuracy is its "
            "classification accuracy score (CAS).",
        )
    return blocks


def find_full(material, setting):
    """Returns setting and cell of the full data, nearest to a setting.

    Args:
        material: `Material`.
        setting: `Setting` whose network and split must be the same.

    Returns:
        `(Setting, Cell)`, or `None`.
    """
    found = []
    for other, rows in material.groups.items():
        same = (other.network, other.split) == (setting.network, setting.split)
        if other.protocol != "full_size" or not same:
            continue
        for row, cells in rows.items():
            if row.method == FULL:
                found += [(other, cell) for cell in cells.values()]
    return max(
        found,
        key=lambda item: (
            item[0].augmentation == setting.augmentation,
            item[0].precision == setting.precision,
            item[0].learning_rate == setting.learning_rate,
            item[0].epochs,
        ),
        default=None,
    )


def _by_network(material):
    """Yields `(setting, ipc)`, rows of cells by network, and the networks."""
    found = {}
    for setting, rows in material.groups.items():
        common = dataclasses.replace(setting, network="")
        for row, cells in rows.items():
            for ipc, cell in cells.items():
                by_row = found.setdefault((common, ipc), {})
                by_row.setdefault(row, {})[setting.network] = cell
    methods = material.results.methods
    for setting, ipc in sorted(found, key=lambda k: (k[0].key, k[1] or 0)):
        rows = found[setting, ipc]
        networks = {name for cells in rows.values() for name in cells}
        yield (
            (setting, ipc),
            {
                r: rows[r]
                for r in sorted(rows, key=lambda r: row_key(r, methods))
            },
            sorted(networks, key=network_key),
        )


def _network_table(material, setting, title, rows, networks):
    """Returns heading, caption and table of methods by network."""
    header = ["trained on", *map(escape, networks), "distinct images"]
    lines = [
        [
            escape(row.name),
            *(_text(cells.get(network)) for network in networks),
            " / ".join(_distinct(cells.get(network)) for network in networks),
        ]
        for row, cells in rows.items()
    ]
    for line, cells in zip(lines, rows.values(), strict=True):
        # Mostly equal for all networks.
        if len({cell.distinct for cell in cells.values()}) == 1:
            line[-1] = _distinct(next(iter(cells.values())))
    return [
        f"### {title}",
        _caption(material, setting, rows, "networks as named"),
        table(header, lines),
    ]


def _caption(material, setting, rows, network=None):
    cells = [cell for found in rows.values() for cell in found.values()]
    records = [record for cell in cells for record in cell.records]
    return (
        f"{captions.caption(setting, cells, network)} "
        f"{captions.provenance(records, material)}"
    ).strip()


def _text(cell):
    return _NONE if cell is None else cell.text


def _distinct(cell):
    """Returns the number of distinct images, or their range."""
    if cell is None:
        return _NONE
    low, high = cell.distinct
    return count(low) if low == high else f"{count(low)}–{count(high)}"
