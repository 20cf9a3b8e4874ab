"""Folders of runs, as the report needs them."""

import dataclasses
import json
import pathlib

from gdd_keras.config import Config
from gdd_keras.config import InputError
from gdd_keras.config import config_from_json
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import read_metadata
from gdd_keras.metadata import recorded_scores
from gdd_keras.reporting.curves import read_curves
from gdd_keras.reporting.results import read_record
from gdd_keras.schema import Place
from gdd_keras.schema import read_object

__all__ = ["Run", "is_run", "read_run"]

_CONFIG = "config.json"
_STATE = "state.json"


@dataclasses.dataclass
class Run:
    """What a run left.

    Attributes:
        name: Name of its generator in the report, first that of the folder.
        path: The folder.
        config: Parsed `config.json`.
        state: Parsed `state.json`, empty for a run that has just begun.
        export: Version directory of its generator, if it is still there.
        metadata: The generator's metadata, or `None`.
        records: List of `Record`, from the scores in the metadata.
        curves: List of `Curve`.
        notes: What the reader must be told, not escaped.
    """

    name: str
    path: pathlib.Path
    config: dict
    state: dict
    export: pathlib.Path | None = None
    metadata: dict | None = None
    records: list = dataclasses.field(default_factory=list)
    curves: list = dataclasses.field(default_factory=list)
    notes: list = dataclasses.field(default_factory=list)

    @property
    def samples(self):
        """Path of the grid of images, or `None`."""
        file = self.path / "samples.png"
        return file if file.is_file() else None


def is_run(path):
    """Says whether a folder holds a run's config."""
    return (pathlib.Path(path) / _CONFIG).is_file()


def read_run(path):
    """Reads the folder of a run.

    Args:
        path: The folder.

    Returns:
        `Run`.

    Raises:
        InputError: If its JSON files are damaged, naming file and place.
    """
    path = pathlib.Path(path)
    sections = vars(Config())
    config = read_object(path / _CONFIG)
    if not any(name in config.value for name in sections):
        raise InputError(
            f"{path / _CONFIG} must have a run's sections "
            f"({', '.join(sections)}). Received: "
            f"{', '.join(list(config.value)[:8]) or 'none of them'}. Pass the "
            "folder of a run."
        )
    for name in config.value:
        config.object(name)
    run = Run(
        name=path.resolve().name,
        path=path,
        config=config.value,
        state=_read_state(path / _STATE),
        curves=read_curves(path / "tensorboard"),
    )
    _read_export(run)
    return run


def _read_state(file):
    """Returns the state, checked where it is computed on."""
    if not file.exists():
        return {}
    state = read_object(file)
    state.get("seconds", float, None, minimum=0)
    state.get("fingerprint", str, None)
    state.get("export", str, None)
    if "stages" in state.value:
        for stage in state.named("stages").values():
            stage.get("steps", int, None, minimum=0)
    return state.value


def _read_export(run):
    """Adds metadata and scores, or a note that says why there are none."""
    export = run.state.get("export")
    if export is None:
        run.notes.append(f"The run {run.name} has exported no generator yet.")
        return
    # The path is relative to where the command ran: mostly here, or above
    # `runs/<name>`.
    for folder in (pathlib.Path(), *run.path.resolve().parents[1:2]):
        file = folder / export / METADATA_NAME
        if not file.is_file():
            continue
        try:
            metadata = read_metadata(file)
            records = _records(metadata, file)
        except InputError as error:
            run.notes.append(f"The export of the run {run.name}: {error}")
            return
        # Elsewhere the same path can hold another generator.
        if _with_defaults(metadata.get("config")) == _with_defaults(run.config):
            run.export = file.parent
            run.metadata = metadata
            run.records = records
            return
    run.notes.append(
        f"The generator of the run {run.name}, {export}, is not there any "
        "more: its size and scores are not shown."
    )


def _with_defaults(config):
    """Returns a config as a `Config`, whichever version wrote it.

    As it is if it cannot be read.
    """
    try:
        return config_from_json(json.dumps(config))
    except InputError:
        return config


def _records(metadata, file):
    """Returns the recorded scores, one `Record` per network."""
    records = []
    for index, entry in enumerate(recorded_scores(metadata)):
        place = Place(entry, file, f"scores[{index}]")
        # Indices belong to other files; early metadata name no precision.
        common = {
            "precision": "unstated precision",
            **place.value,
            # Only the generator's own scores are recorded there.
            "method": "generator",
            "command": None,
            "environment": None,
        }
        for seed, accuracy in zip(
            place.get("seeds", list),
            place.get("accuracies", list),
            strict=False,
        ):
            values = {**common, "seed": seed, "accuracy": accuracy}
            records.append(read_record(Place(values, file, place.where)))
    return records
