"""Files that are whole or absent: written aside, then renamed."""

import contextlib
import json
import os
import pathlib
import shutil
import tempfile

from gdd_keras.config import InputError
from gdd_keras.config import shown

__all__ = [
    "check_can_be_made",
    "check_new_directory",
    "new_directory",
    "is_version",
    "nearest_existing",
    "next_version",
    "publish",
    "write_bytes",
    "write_json",
    "write_text",
]


def write_bytes(path, content):
    """Writes a file through a temporary one beside it, then renames.

    Args:
        path: Target file; its folder is created.
        content: `bytes` to write.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        publish(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def publish(temporary, path):
    """Renames a written file to its name, once its bytes are on the disk.

    Args:
        temporary: File that `tempfile.mkstemp` made, closed.
        path: Target file, in the same file system.
    """
    with open(temporary, "rb") as file:
        os.fsync(file.fileno())
    # mkstemp makes files private; a result is meant to be shared.
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def write_text(path, text):
    """Writes UTF-8 text; see `write_bytes`."""
    # A path on Linux need not be Unicode, and may be part of a text.
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path, value):
    """Writes a JSON file, indented, keys in their order; see `write_bytes`."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


# Longer ones leave no room for what a temporary name adds.
_MAX_NAME_BYTES = 200


def check_can_be_made(path, name):
    """Refuses a directory that is none, or cannot be made.

    Args:
        path: `pathlib.Path` of a directory to write into, new or not.
        name: What to call it in an error.

    Raises:
        InputError: If it or a path above it is a file or read-only, or if
            there is no name to make.
    """
    existing = nearest_existing(path)
    new = path.absolute().parts[len(existing.parts) :]
    problem = None
    if not existing.is_dir():
        problem = f"but {existing} is no folder"
    elif not os.access(existing, os.W_OK):
        problem = f"but {existing} is read-only"
    elif ".." in new:
        problem = "with `..` after a folder that does not exist"
    elif len(os.fsencode(path.name)) > _MAX_NAME_BYTES:
        problem = f"a name of more than {_MAX_NAME_BYTES} bytes"
    if problem:
        raise InputError(
            f"{name} must be a folder, or one that can be made. Received: "
            f"{shown(str(path))}, {problem}. Choose another."
        )


def nearest_existing(path):
    """Returns the path itself, or the first above it that exists.

    Args:
        path: `pathlib.Path`.
    """
    path = path.absolute()
    while not os.path.lexists(path):
        path = path.parent
    return path


def check_new_directory(path):
    """Refuses a path where something is, or nothing can be.

    Args:
        path: `pathlib.Path` of a directory to write.

    Raises:
        InputError: If it holds something, or cannot be made.
    """
    _check_empty(path)
    if path.name in ("", ".."):
        raise InputError(
            "The output directory must end in a name. Received: "
            f"{shown(str(path))}. Choose a new one below it."
        )
    check_can_be_made(path, "The output directory")


def _check_empty(path):
    """Refuses a path where something is."""
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise InputError(
            f"The output directory must be new or empty. Received: {path}, "
            "which holds something already. Choose another, or remove it."
        )


@contextlib.contextmanager
def new_directory(path):
    """Fills a directory under a temporary name, then renames it to `path`.

    If the body raises, nothing is left behind.

    Args:
        path: Target directory; must not exist, or be empty.

    Yields:
        `pathlib.Path` of the temporary directory to fill.

    Raises:
        InputError: If the target holds something already.
    """
    path = pathlib.Path(path)
    _check_empty(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(
        tempfile.mkdtemp(dir=path.parent, prefix=f".writing-{path.name}-")
    )
    temporary.chmod(0o755)
    try:
        yield temporary
        # rename(2) replaces an empty directory in one step.
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def is_version(name):
    """Says whether a folder's name is a version for TF Serving."""
    # Not all digits of Unicode are numbers to `int`.
    return name.isascii() and name.isdigit()


def next_version(directory):
    """Returns the integer after the highest version below a directory.

    Args:
        directory: Folder of integer-named versions, as TF Serving reads it;
            may be absent.

    Returns:
        1 for none, else the highest + 1.

    Raises:
        InputError: If the path is a file, or a folder with other content.
    """
    directory = pathlib.Path(directory)
    if not directory.exists():
        return 1
    if not directory.is_dir():
        raise InputError(
            f"The export directory must be a folder. Received: {directory}, "
            "a file. Choose another with `--saved-models`."
        )
    names = [
        entry.name
        for entry in directory.iterdir()
        if not entry.name.startswith(".")
    ]
    others = [name for name in names if not is_version(name)]
    if others:
        raise InputError(
            "The export directory must hold only numbered versions. "
            f"Received: {directory}, which holds {sorted(others)[0]!r}. "
            "Choose another folder."
        )
    return max((int(name) for name in names), default=0) + 1
