"""`results.json`: every figure with what it takes to repeat it."""

import contextlib
import pathlib

from gdd_keras.config import InputError
from gdd_keras.files import take_lock
from gdd_keras.files import write_bytes
from gdd_keras.files import write_json
from gdd_keras.metadata import AUDIT_KEY
from gdd_keras.metadata import QUALITY_KEY
from gdd_keras.metadata import SCORE_DEFAULTS
from gdd_keras.metadata import SCORE_KEY
from gdd_keras.schema import read_object

__all__ = ["FORMAT", "KIND", "RESULTS_NAME", "Results"]

KIND = "gdd_keras results"
FORMAT = 1
RESULTS_NAME = "results.json"

_SECTIONS = {
    "dataset": dict,
    "methods": dict,
    "records": list,
    "quality": list,
    "audit": list,
    "commands": list,
    "environments": list,
    "images": dict,
}

# What makes two records figures of the same thing.
RECORD_KEY = (*SCORE_KEY, "seed")


class Results:
    """A folder with `results.json`, written anew after every figure.

    Several processes may add to one folder at the same time.

    Args:
        directory: Folder; made when the first figure is written.
        dataset: `Dataset.describe()` of the data.

    Raises:
        InputError: If the folder holds something else, results that cannot
            be read, or results of other data.
    """

    def __init__(self, directory, dataset):
        self.directory = pathlib.Path(directory)
        self.file = self.directory / RESULTS_NAME
        self._dataset = dataset
        self._session = {}
        check_directory(directory)
        found = self.read()["dataset"].get("fingerprint")
        if found != dataset["fingerprint"]:
            raise InputError(
                f"`--results` must hold figures of {dataset['source']}, "
                f"fingerprint {dataset['fingerprint']}. Received: "
                f"{self.file}, fingerprint {found}. Choose another folder."
            )

    def read(self):
        """Returns the content of `results.json`, or an empty one."""
        if not self.file.exists():
            return {
                "kind": KIND,
                "format": FORMAT,
                **{name: kind() for name, kind in _SECTIONS.items()},
                "dataset": self._dataset,
            }
        return _parsed(self.file)

    def begin(self, command, environment):
        """Notes the command and machine of the figures that follow.

        Args:
            command: The command line as text.
            environment: Dict ready for JSON.
        """
        self._session = {"command": command, "environment": environment}

    def set_method(self, name, **description):
        """Describes a method.

        Args:
            name: Its name in the records.
            **description: Values ready for JSON.

        Raises:
            InputError: If the name stands for another generator there.
        """
        with self._changed() as content:
            known = content["methods"].get(name, description)
            if known.get("digest") != description.get("digest"):
                raise InputError(
                    f"`{name}` in {self.file} is another generator, "
                    f"{known.get('model')}. Received: "
                    f"{description.get('model')}. Give it a name of its own, "
                    f"`--model NAME={description.get('model')}`, or choose "
                    "another `--results`."
                )
            content["methods"][name] = description

    def find(self, record):
        """Returns the stored record of the same thing, or `None`."""
        return _find(self.read()["records"], record, RECORD_KEY)

    def add_record(self, record):
        """Adds a figure, unless it is there already."""
        self._add("records", record, RECORD_KEY)

    def add_quality(self, entry):
        """Adds or replaces the quality scores of a method."""
        self._add("quality", entry, QUALITY_KEY)

    def add_audit(self, entry):
        """Adds or replaces the audit of a method."""
        self._add("audit", entry, AUDIT_KEY)

    def has_quality(self, entry):
        """Says whether a method was compared under these settings."""
        return _find(self.read()["quality"], entry, QUALITY_KEY) is not None

    def has_audit(self, entry):
        """Says whether a method was audited under these settings."""
        return _find(self.read()["audit"], entry, AUDIT_KEY) is not None

    def add_image(self, method, png):
        """Stores a grid of images of a method.

        Args:
            method: Its name.
            png: `bytes` of a PNG file.
        """
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in method)
        path = f"images/{name}.png"
        write_bytes(self.directory / path, png)
        with self._changed() as content:
            content["images"][method] = path

    def _add(self, section, entry, key):
        with self._changed() as content:
            entries = content[section]
            known = _find(entries, entry, key)
            if known is not None and section == "records":
                return
            if known is not None:
                entries.remove(known)
            for name, value in self._session.items():
                values = content[f"{name}s"]
                if value not in values:
                    values.append(value)
                entry = {**entry, name: values.index(value)}
            entries.append(entry)

    @contextlib.contextmanager
    def _changed(self):
        """Gives the content to change, alone among all processes."""
        with self._lock():
            content = self.read()
            yield content
            write_json(self.file, content)

    def _lock(self):
        """Waits for the folder's lock, or raises `InputError`."""
        try:
            return take_lock(self.directory / ".lock")
        except OSError as error:
            raise InputError(
                "`--results` must be a folder that can be written. Received: "
                f"{self.directory}: {error.strerror}. Choose another."
            ) from error


def check_directory(directory):
    """Refuses a results folder that holds something else.

    Args:
        directory: Folder, which may be absent.

    Raises:
        InputError: Saying what is there.
    """
    directory = pathlib.Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(
            f"`--results` must be a folder. Received: {directory}, a file. "
            "Choose another."
        )
    # Listed once: another process may write the file at any time, and a look
    # at the file followed by one at the folder could fall on both sides of it.
    names = (
        {item.name for item in directory.iterdir()}
        if directory.is_dir()
        else set()
    )
    if RESULTS_NAME in names:
        _parsed(directory / RESULTS_NAME)
    elif any(not name.startswith(".") for name in names):
        raise InputError(
            f"`--results` must be new, empty, or a folder of results. "
            f"Received: {directory}, which holds something else. Choose "
            "another."
        )


def _parsed(file):
    """Reads a results file, or raises `InputError`."""
    content = read_object(file, "Move it away.").value
    if content.get("kind") != KIND:
        raise InputError(
            f"{file} must be a results file of gdd_keras. Received: something "
            "else. Choose another folder."
        )
    if content.get("format") != FORMAT:
        raise InputError(
            f"{file} must have the format {FORMAT}. Received: "
            f"{content.get('format')}. Use the version of gdd_keras that "
            "wrote it."
        )
    for name, kind in _SECTIONS.items():
        if not isinstance(content.get(name), kind):
            raise InputError(
                f"{file} must be whole. Received: no `{name}`. Move it away."
            )
    return content


def _find(entries, entry, key):
    # Earlier versions did not say what was held out; it is taken to be the
    # same.
    defaults = {**SCORE_DEFAULTS, "held_out": entry.get("held_out")}

    def identity(entry):
        return [entry.get(name, defaults.get(name)) for name in key]

    wanted = identity(entry)
    for known in entries:
        if identity(known) == wanted:
            return known
    return None
