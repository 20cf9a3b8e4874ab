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
_LEARNING_RATE = config.EvaluationConfig().eval_learning_rate
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
    held_out: str | None = None

    @property
    def numbers(self):
        """Precision, and what else is not as usual: labels, schedule, rate."""
        parts = [self.precision]
        if self.labels != "hard":
            parts.append(f"{self.labels} labels")
        if self.schedule != "protocol":
            parts.append(f"{self.schedule} schedule")
        if self.learning_rate != _LEARNING_RATE:
            parts.append(f"rate {self.learning_rate:g}")
        if self.held_out is not None:
            parts.append(_held_out(self.held_out))
        return ", ".join(parts)

    @property
    def conditions(self):
        """Augmentation, and `numbers`."""
        # The word alone would not say what there is none of.
        none = self.augmentation == "none"
        augmentation = "no augmentation" if none else self.augmentation
        return f"{augmentation}, {self.numbers}"

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
            self.held_out or "",
        )


@dataclasses.dataclass(frozen=True)
class Row:
    """What a network was trained on."""

    method: str
    selection: str = "random"
    preparation: str | None = None
    held_out: str | None = None

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
        if self.held_out is not None:
            name += f" ({_held_out(self.held_out)})"
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
        held_out: Digest of the training images that were held out, or `None`
            where nothing depends on it, or it is not known.
    """

    row: Row
    setting: Setting
    ipc: int | None
    seed: int
    distinct_images: int
    accuracy: float
    command: int | None = None
    environment: int | None = None
    held_out: str | None = None

    @property
    def identity(self):
        """Equal for two measurements of the same thing."""
        return self.row, self.setting, self.ipc, self.seed, self.held_out


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
    for record in _told_apart(records):
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


def _told_apart(records):
    """Yields the records, with what is held out where that tells them apart.

    On other held-out images any figure is another one, and has a table of
    its own. On the test split it is a row's name that must say which images
    it was trained on.
    """
    parts = {}

    def place(record):
        on_test = record.setting.split == "test"
        return record.setting, record.row if on_test else None

    for record in records:
        if record.held_out is not None:
            parts.setdefault(place(record), set()).add(record.held_out)
    for record in records:
        if record.held_out is None or len(parts[place(record)]) < 2:
            yield record
        elif record.setting.split == "test":
            row = dataclasses.replace(record.row, held_out=record.held_out)
            yield dataclasses.replace(record, row=row)
        else:
            setting = dataclasses.replace(
                record.setting, held_out=record.held_out
            )
            yield dataclasses.replace(record, setting=setting)


def _held_out(digest):
    return f"held out: {digest[:8]}"


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
        row.held_out or "",
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
