"""Results files of the benchmark: read and checked."""

import dataclasses
import pathlib

from gdd_keras.config import InputError
from gdd_keras.reporting.records import BASELINES
from gdd_keras.reporting.records import CEILING
from gdd_keras.reporting.records import FULL
from gdd_keras.reporting.records import Record
from gdd_keras.reporting.records import Row
from gdd_keras.reporting.records import Setting
from gdd_keras.schema import read_object

__all__ = ["Results", "read_record", "read_results", "results_file"]

RESULTS_NAME = "results.json"
RESULTS_KIND = "gdd_keras results"
_FORMAT = 1
_REFERENCES = (*BASELINES, CEILING, FULL)


@dataclasses.dataclass
class Results:
    """What was measured on one data set.

    Attributes:
        dataset: Its description; has `name` and `fingerprint`.
        methods: Name to entry, each with `kind`.
        records: List of `Record`, each measurement once.
        quality: List of dicts, one per method and split.
        audit: List of dicts, one per method.
        commands: Command lines.
        environments: Dicts of machine and versions.
        images: Method to path of its grid.
        notes: What the reader must be told, not escaped.
    """

    dataset: dict
    methods: dict = dataclasses.field(default_factory=dict)
    records: list = dataclasses.field(default_factory=list)
    quality: list = dataclasses.field(default_factory=list)
    audit: list = dataclasses.field(default_factory=list)
    commands: list = dataclasses.field(default_factory=list)
    environments: list = dataclasses.field(default_factory=list)
    images: dict = dataclasses.field(default_factory=dict)
    notes: list = dataclasses.field(default_factory=list)


def read_results(path):
    """Reads one results file.

    Args:
        path: `pathlib.Path` of a `results.json`.

    Returns:
        `Results`.

    Raises:
        InputError: Naming file and place, if it is damaged, of another kind,
            or of a format that is unknown here.
    """
    top = read_object(path)
    if top.value.get("kind") != RESULTS_KIND:
        raise InputError(
            f"{path} must be results of the benchmark (kind {RESULTS_KIND!r})."
            f" Received: kind {top.value.get('kind')!r}. Pass a results.json, "
            "or a run's folder."
        )
    if top.value.get("format") != _FORMAT:
        raise InputError(
            f"{path} must have the format {_FORMAT}. Received: "
            f"format={top.value.get('format')!r}. Report it with the version "
            "of gdd_keras that wrote it."
        )
    commands = top.strings("commands")
    environments = [place.value for place in top.objects("environments")]
    results = Results(
        dataset=_dataset(top),
        methods=_methods(top),
        quality=_entries(top, "quality", len(commands)),
        audit=_entries(top, "audit", len(commands)),
        commands=commands,
        environments=environments,
        images={
            str(name): path.parent / str(image)
            for name, image in top.get("images", dict, {}).items()
        },
    )
    for place in top.objects("records"):
        record = read_record(place, len(commands), len(environments))
        results.records.append(record)
        results.methods.setdefault(
            record.row.method, {"kind": _kind(record.row.method)}
        )
    return results


def read_record(place, num_commands=0, num_environments=0):
    """Returns the `Record` of one entry; see `read_results`."""
    protocol = place.get("protocol", str)
    whole = protocol == "full_size"
    return Record(
        row=Row(
            place.get("method", str),
            place.get("selection", str, "random"),
            place.get("preparation", str, None),
        ),
        setting=Setting(
            protocol=protocol,
            network=place.get("network", str),
            split=place.get("split", str),
            epochs=place.get("epochs", int, minimum=1),
            learning_rate=place.get("learning_rate", float, minimum=0),
            precision=place.get("precision", str),
            augmentation=place.get("augmentation", str),
            labels=place.get("labels", str, "hard"),
            schedule=place.get("schedule", str, "protocol"),
        ),
        ipc=None if whole else place.get("ipc", int, minimum=1),
        seed=place.get("seed", int, minimum=0),
        distinct_images=place.get("distinct_images", int, minimum=1),
        accuracy=place.get("accuracy", float, minimum=0, maximum=1),
        command=place.index("command", num_commands),
        environment=place.index("environment", num_environments),
        held_out=place.get("held_out", str, None),
    )


def _dataset(top):
    """Returns the data set's description, checked where it is computed on."""
    place = top.object("dataset")
    place.get("name", str)
    place.get("fingerprint", str)
    place.get("num_classes", int, minimum=1)
    shape = place.get("image_shape", list)
    if len(shape) != 3 or any(type(n) is not int or n < 1 for n in shape):
        raise InputError(
            f"{top.file}: `dataset.image_shape` must be [height, width, "
            f"channels]. Received: {shape}. Mend the file, or write it again."
        )
    return place.value


def _methods(top):
    """Returns the methods' entries."""
    methods = {}
    for name, place in top.named("methods").items():
        kind = place.get("kind", str, _kind(name))
        place.get("num_bytes", int, None, minimum=1)
        place.named("config")
        training = place.object("training", {})
        training.get("seconds", float, None, minimum=0)
        training.get("steps", dict, {})
        methods[name] = {**place.value, "kind": kind}
    return methods


def _entries(top, name, num_commands):
    """Returns the entries of `quality` or `audit`."""
    entries = []
    for place in top.objects(name):
        place.get("method", str)
        place.index("command", num_commands)
        if name == "audit":
            place.named("spaces")
        entries.append(place.value)
    return entries


def _kind(name):
    return "baseline" if name in _REFERENCES else "generator"


def results_file(path):
    """Returns the results file that a path means, or `None`."""
    path = pathlib.Path(path)
    if path.is_file():
        return path
    file = path / RESULTS_NAME
    return file if file.is_file() else None
