"""The folder of a search: its settings, and one folder for each trial."""

import contextlib
import dataclasses
import json
import pathlib

from gdd_keras.config import Config
from gdd_keras.config import InputError
from gdd_keras.config import TuningConfig
from gdd_keras.config import config_from_json
from gdd_keras.config import config_to_json
from gdd_keras.config import make_config
from gdd_keras.files import take_lock
from gdd_keras.files import write_json
from gdd_keras.run_directory import check_origin_of_stage_1
from gdd_keras.run_directory import check_stage_1
from gdd_keras.run_directory import has_stage_1_of
from gdd_keras.run_directory import numbered_folders
from gdd_keras.schema import read_object

__all__ = ["Search", "is_search", "open_search", "read_search"]

_SETTINGS = "search.json"
_KIND = "gdd_keras.search"
_FORMAT = 1
_STAGE_1 = "stage_1"
# How far a search goes does not make it another one, nor what its trials do not
# depend on: they are scored on draws as they are.
_MAY_CHANGE = ("max_trials", "hard_share")


@dataclasses.dataclass(frozen=True)
class Search:
    """A search and where it lies.

    Attributes:
        path: Its folder.
        config: `Config` of all that is not searched.
        tuning: `TuningConfig`.
        space: Dict from field to the values to choose from.
    """

    path: pathlib.Path
    config: Config
    tuning: TuningConfig
    space: dict

    @property
    def stage_1(self):
        """Folder of the run whose stage 1 all trials share."""
        return self.path / _STAGE_1

    def trial(self, trial_id):
        """Returns the folder of a trial, which KerasTuner names."""
        return self.path / f"trial_{trial_id}"

    def save(self):
        """Writes the settings."""
        write_json(
            self.path / _SETTINGS,
            {
                "kind": _KIND,
                "format": _FORMAT,
                "config": json.loads(config_to_json(self.config)),
                "tuning": dataclasses.asdict(self.tuning),
                "space": self.space,
            },
        )

    @contextlib.contextmanager
    def locked(self):
        """Keeps a second process from running the same search.

        Raises:
            InputError: If one does.
        """
        with take_lock(
            self.path / ".lock",
            InputError(
                f"The search in {self.path} must not be running already. "
                "Received: it is. Wait for it, stop it, or choose another "
                "folder with `--search-dir`."
            ),
        ):
            yield


def is_search(path):
    """Says whether a folder holds a search."""
    return (pathlib.Path(path) / _SETTINGS).is_file()


def read_search(path):
    """Reads the settings of a search.

    Args:
        path: Its folder.

    Returns:
        `Search`.

    Raises:
        InputError: If they cannot be read.
    """
    path = pathlib.Path(path)
    file = path / _SETTINGS
    try:
        content = read_object(file, "").value
        if (content["kind"], content["format"]) != (_KIND, _FORMAT):
            raise ValueError("another kind or format")
        return Search(
            path=path,
            config=config_from_json(json.dumps(content["config"]), str(file)),
            tuning=TuningConfig(**content["tuning"]),
            space=_checked_space(content["space"]),
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{file} must be the settings of a search, as this version writes "
            f"them. Received: {error}. Choose another folder with "
            "`--search-dir`."
        ) from error


def _checked_space(values):
    """Returns the values to search, each one that a config takes."""
    for name, choices in values.items():
        for choice in choices:
            make_config(**{name: choice})
    return {name: tuple(choices) for name, choices in values.items()}


def open_search(
    config,
    tuning,
    space,
    name,
    search_dir=None,
    fresh=False,
    parent="runs",
    stage_1_from=None,
    any_stage_1=False,
):
    """Finds the search that these settings belong to, or makes a new one.

    Without `search_dir`, searches of a data set are `runs/<name>-search`,
    `runs/<name>-search-2` and so on; the latest with equal settings, and whose
    stage 1 is from the same place, goes on.

    Args:
        config: `Config`.
        tuning: `TuningConfig`; `max_trials` may differ from before.
        space: As from `search_space`.
        name: Data set's name.
        search_dir: Folder to use, or `None`.
        fresh: Start over in a new folder.
        parent: Where numbered searches lie.
        stage_1_from: Folder of the run that stage 1 will be taken from, to
            be refused before there is a folder; or `None`.
        any_stage_1: Whether a search goes on wherever its stage 1 is from.

    Returns:
        `Search`, its settings written.

    Raises:
        InputError: If `search_dir` holds something else, or a search with
            other settings.
    """
    wanted = Search(pathlib.Path(), config, tuning, space)
    if search_dir is not None:
        path = pathlib.Path(search_dir)
        _check_folder(path, wanted, fresh)
        if stage_1_from is not None:
            check_origin_of_stage_1(path / _STAGE_1, stage_1_from)
    else:
        existing, path = numbered_folders(
            pathlib.Path(parent), f"{name}-search"
        )
        if not fresh:
            fitting = (
                found
                for found in existing
                if _fits(found, wanted)
                and (
                    any_stage_1
                    or has_stage_1_of(found / _STAGE_1, stage_1_from)
                )
            )
            path = next(fitting, path)
    search = dataclasses.replace(wanted, path=path)
    if stage_1_from is not None:
        check_stage_1(stage_1_from, config, search.stage_1)
    try:
        search.save()
    except OSError as error:
        raise InputError(
            "The search's folder must be one that can be made. Received: "
            f"{path} ({error.strerror}). Choose another with `--search-dir`."
        ) from error
    return search


def _check_folder(path, wanted, fresh):
    """Raises `InputError` unless the search may use the folder."""
    if not path.is_dir() or _is_empty(path):
        return
    if not is_search(path):
        raise InputError(
            "`--search-dir` must be new, empty, or the folder of a search. "
            f"Received: {path}, which holds something else. Choose another."
        )
    if fresh:
        raise InputError(
            f"`--fresh` needs a new folder. Received: --search-dir {path}, "
            "which holds a search. Choose another, or leave `--fresh` out."
        )
    different = _differences(read_search(path), wanted)
    if different:
        raise InputError(
            f"`--search-dir` must hold the same search. Received: {path}, "
            f"which differs in {', '.join(different)}. Choose another folder, "
            "or go on with the settings of "
            f"{path / _SETTINGS}."
        )


def _is_empty(path):
    """Says whether a folder holds nothing, or is being set up elsewhere."""
    return all(entry.name.startswith(".") for entry in path.iterdir())


def _fits(path, wanted):
    """Says whether a folder is, or may become, this search's."""
    if not path.is_dir():
        return False
    try:
        return _is_empty(path) or not _differences(read_search(path), wanted)
    except InputError:
        # Of another version, or damaged: no reason to refuse a new search.
        return False


def _differences(earlier, wanted):
    """Returns the names of settings that differ."""
    names = [*earlier.tuning.differences(wanted.tuning, _MAY_CHANGE)]
    for name, there in vars(earlier.config).items():
        here = getattr(wanted.config, name)
        names += there.differences(here, _MAY_CHANGE)
    # In order: the order decides which trials come first.
    if list(earlier.space.items()) != list(wanted.space.items()):
        names.append("the values to search")
    return names
