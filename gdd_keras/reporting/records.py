"""Accuracies of single networks, and the columns they may share."""

import dataclasses
import statistics

from gdd_keras import config
from gdd_keras.config import TEST_NETWORKS
from gdd_keras.selection import REAL_SELECTIONS
from gdd_keras.selection import SELECTIONS

__all__ = [
    "BASELINES",
    "CEILING",
    "FULL",
    "Cell",
    "Record",
    "Row",
    "Setting",
    "group",
    "network_key",
    "row_key",
]

BASELINES = tuple(
    name for name, protocol in config.BASELINES.items() if protocol == "fixed"
)
CEILING = "real_stream"
FULL = "full"
_GENERATORS = ("gan", "dim", "gdd")
_SELECTIONS = (*SELECTIONS, *REAL_SELECTIONS)
_PROTOCOLS = ("stream", "fixed", "full_size")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What two accuracies of one column have in common, IPC aside."""

    protocol: str
    network: str
    split: str
    epochs: int
    learning_rate: float
    precision: str
    augmentation: str
    labels: str = "hard"
    schedule: str = "protocol"

    @property
    def numbers(self):
        """Precision, and what else is not as usual: labels, schedule."""
        parts = [self.precision]
        if self.labels != "hard":
            parts.append(f"{self.labels} labels")
        if self.schedule != "protocol":
            parts.append(f"{self.schedule} schedule")
        return ", ".join(parts)

    @property
    def key(self):
        """Sorts `stream` first, then what is as usual, then the test split."""
        return (
            _place(self.protocol, _PROTOCOLS),
            self.labels != "hard",
            self.schedule != "protocol",
            self.split != "test",
            network_key(self.network),
            -self.epochs,
            self.precision,
            self.augmentation,
            self.learning_rate,
        )


@dataclasses.dataclass(frozen=True)
class Row:
    """What a network was trained on."""

    method: str
    selection: str = "random"
    preparation: str | None = None

    @property
    def name(self):
        """Plain text for tables and legends, not escaped."""
        name = self.method
        if self.selection != "random":
            name += f", {self.selection} selection"
        if self.method == CEILING:
            name += " (ceiling)"
        if self.preparation is not None:
            name += f" ({self.preparation})"
        return name


@dataclasses.dataclass(frozen=True)
class Record:
    """Accuracy of one network.

    Attributes:
        row: `Row`.
        setting: `Setting`.
        ipc: Images per class; `None` under `full_size`.
        seed: The network's.
        distinct_images: Different images it was shown.
        accuracy: In [0, 1].
        command: Index into the commands, or `None`.
        environment: Index into the environments, or `None`.
    """

    row: Row
    setting: Setting
    ipc: int | None
    seed: int
    distinct_images: int
    accuracy: float
    command: int | None = None
    environment: int | None = None

    @property
    def identity(self):
        """Equal for two measurements of the same thing."""
        return self.row, self.setting, self.ipc, self.seed


@dataclasses.dataclass(frozen=True)
class Cell:
    """Accuracies of networks that differ in nothing but the seed."""

    records: tuple

    @property
    def mean(self):
        return statistics.fmean(r.accuracy for r in self.records)

    @property
    def std(self):
        """Sample standard deviation; `None` for one network."""
        if len(self.records) < 2:
            return None
        return statistics.stdev(r.accuracy for r in self.records)

    @property
    def seeds(self):
        return tuple(sorted(r.seed for r in self.records))

    @property
    def distinct(self):
        """Fewest and most distinct images shown to a network."""
        numbers = [r.distinct_images for r in self.records]
        return min(numbers), max(numbers)

    @property
    def text(self):
        """Percent, as in `80.10 ± 0.09 (n=3)`."""
        if self.std is None:
            return f"{100 * self.mean:.2f} (one network)"
        return (
            f"{100 * self.mean:.2f} ± {100 * self.std:.2f} "
            f"(n={len(self.records)})"
        )


def group(records, methods):
    """Sorts records into tables.

    Args:
        records: `Record`s, each measurement once.
        methods: Dict from name to its entry in the results, in order.

    Returns:
        Dict from `Setting` to dict from `Row` to dict from IPC to `Cell`,
        all in the order in which they are shown.
    """
    found = {}
    for record in records:
        rows = found.setdefault(record.setting, {})
        columns = rows.setdefault(record.row, {})
        columns.setdefault(record.ipc, []).append(record)
    return {
        setting: {
            row: {
                ipc: Cell(tuple(cells[ipc]))
                for ipc in sorted(cells, key=lambda ipc: ipc or 0)
            }
            for row, cells in sorted(
                rows.items(), key=lambda item: row_key(item[0], methods)
            )
        }
        for setting, rows in sorted(found.items(), key=lambda item: item[0].key)
    }


def row_key(row, methods):
    """Sorts selections of real images, then generators, then references."""
    if row.method in (CEILING, FULL):
        block = 3
    elif row.method in BASELINES:
        block = 0
    elif methods.get(row.method, {}).get("kind") == "baseline":
        block = 1
    else:
        block = 2
    return (
        block,
        _place(row.method, BASELINES + _GENERATORS, list(methods)),
        _place(row.selection, _SELECTIONS),
        row.preparation or "",
    )


def network_key(name):
    """Sorts the built-in networks first."""
    return _place(name, TEST_NETWORKS)


def _place(name, known, others=()):
    """Returns a sort key: known names first, then others, then the rest."""
    if name in known:
        return 0, known.index(name), ""
    if name in others:
        return 1, others.index(name), ""
    return 2, 0, name
