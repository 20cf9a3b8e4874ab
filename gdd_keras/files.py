"""Files that are whole or absent: written aside, then renamed.

And locks that end with their process, and what a full disk means.
"""

import contextlib
import errno
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

from gdd_keras.config import InputError
from gdd_keras.config import shown

try:
    import fcntl
except ImportError:
    # Windows: nothing is locked there.
    fcntl = None

__all__ = [
    "check_can_be_made",
    "check_new_directory",
    "new_directory",
    "is_version",
    "nearest_existing",
    "next_version",
    "publish",
    "remove_leftovers",
    "remove_path",
    "storage_problem",
    "take_lock",
    "write_bytes",
    "write_json",
    "write_text",
]

_PREFIX = ".writing-"
# What `tempfile` makes of the prefix; other names are not ours to remove.
_TEMPORARY = re.compile(re.escape(_PREFIX) + r"(.+-)?[a-z0-9_]{8}", re.DOTALL)
# How file systems say that they have no locks.
_NO_LOCKS = (
    errno.EBADF,
    errno.EINVAL,
    errno.ENOLCK,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
)
_ADVICE = {
    errno.EACCES: "Change its permissions, or choose another place",
    errno.EDQUOT: "Free some space, or choose another place",
    errno.EFBIG: "Allow larger files, or choose another place",
    errno.EIO: "Check the disk",
    errno.ENOSPC: "Free some space, or choose another place",
    errno.EPERM: "Change its permissions, or choose another place",
    errno.EROFS: "Make it writable, or choose another place",
}


def write_bytes(path, content):
    """Writes a file through a temporary one beside it, then renames.

    Args:
        path: Target file; its folder is created.
        content: `bytes` to write.
    """
    path = pathlib.Path(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path.parent, _new_file) as temporary:
            temporary.write_bytes(content)
            publish(temporary, path)


def publish(temporary, path):
    """Renames a written file to its name, once its bytes are on the disk.

    Args:
        temporary: File that `tempfile.mkstemp` made, closed.
        path: Target file, in the same file system.
    """
    # Windows takes it for a file alone that may be written.
    with open(temporary, "rb+") as file:
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
    # It gets its name when it is whole, and cannot take the place of these.
    if path.is_symlink() or path.is_mount():
        kind = "a link" if path.is_symlink() else "where something is mounted"
        raise InputError(
            "The output directory must be a plain one. Received: "
            f"{shown(str(path))}, {kind}. Choose a new one below it."
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
def new_directory(path, replace=False):
    """Fills a directory under a temporary name, then renames it to `path`.

    If the body raises, nothing is left behind. What a process that was killed
    left goes with the next directory of the same parent.

    Args:
        path: Target directory; must not exist, or be empty.
        replace: Whether it may hold something, which then goes.

    Yields:
        `pathlib.Path` of the temporary directory to fill.

    Raises:
        InputError: If the target holds something already.
    """
    path = pathlib.Path(path)
    if not replace:
        _check_empty(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{_PREFIX}{path.name}-"

        def new_folder(parent):
            return tempfile.mkdtemp(dir=parent, prefix=prefix)

        with _temporary(path.parent, new_folder) as temporary:
            temporary.chmod(0o755)
            yield temporary
            if not replace or not path.exists():
                # rename(2) replaces an empty directory in one step.
                os.replace(temporary, path)
                return
            with _temporary(path.parent, new_folder) as aside:
                os.replace(path, aside)
                try:
                    os.replace(temporary, path)
                except BaseException:
                    os.replace(aside, path)
                    raise
                remove_path(aside)


def remove_path(path):
    """Removes a file or a folder with all that is in it, if it is there."""
    path = pathlib.Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def take_lock(path, taken=None):
    """Locks a file for this process.

    The system lets go of it when the process ends, however it ends. A copy is
    another file, which nobody has locked. On systems without such locks
    (Windows, some network file systems) nothing is locked.

    Args:
        path: File of the lock; it and its folder are made.
        taken: `InputError` to raise if another process has it; `None` waits.

    Returns:
        Open file; closing it lets go.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a")
    try:
        _lock(file, wait=taken is None)
    except BlockingIOError:
        file.close()
        raise taken from None
    return file


def storage_problem(error):
    """Says what to do about a disk that is full, read-only or forbidden.

    Args:
        error: Exception, of Python or of TensorFlow, or one caused by such.

    Returns:
        Text without a full stop at its end, or `None` for another error.
    """
    while error is not None:
        for number, advice in _ADVICE.items():
            reason = os.strerror(number)
            if isinstance(error, OSError) and error.errno == number:
                place = error.filename or "A file"
                return f"{place}: {reason}. {advice}"
            if _is_tensorflow_error(error) and reason in str(error):
                # TensorFlow says `{{<operation>}} <path>; <reason>`.
                text = re.sub(r"\{\{.*?\}\} *", "", str(error))
                found = re.search(rf"([^;\n]+); {reason}", text)
                place = found[1] if found else "A file"
                return f"{place}: {reason}. {advice}"
        error = error.__cause__
    return None


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


def _new_file(folder):
    handle, path = tempfile.mkstemp(dir=folder, prefix=_PREFIX)
    os.close(handle)
    return path


@contextlib.contextmanager
def _temporary(folder, make):
    """Makes something temporary, gone afterwards unless it was renamed.

    It is locked, so that other processes tell it from what a killed one left.

    Args:
        folder: `pathlib.Path`; what killed processes left in it goes.
        make: Function of the folder that returns a new path.

    Yields:
        `pathlib.Path`.
    """
    _remove_leftovers(folder)
    with contextlib.ExitStack() as locks:
        while True:
            path = pathlib.Path(make(folder))
            if _lock_new(path, locks):
                break
        try:
            yield path
        except BaseException:
            remove_path(path)
            raise


def remove_leftovers(folder):
    """Removes what killed processes left half written below a folder.

    Args:
        folder: `pathlib.Path`, which may be absent.
    """
    for name, _, _ in os.walk(folder):
        _remove_leftovers(pathlib.Path(name))


def _remove_leftovers(folder):
    """Removes what killed processes left half written in a folder."""
    for path in folder.iterdir():
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.ExitStack() as locks:
                # Where there are no locks, its process may be alive.
                if fcntl is not None and _lock_new(path, locks, wanted=True):
                    remove_path(path)


def _lock_new(path, locks, wanted=False):
    """Locks a file or folder until the end of a block.

    Args:
        path: `pathlib.Path`.
        locks: `contextlib.ExitStack`.
        wanted: Whether to report no success where there are no locks.

    Returns:
        Whether it is this process's now, and still there.
    """
    if fcntl is None:
        return True
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        locks.callback(os.close, handle)
        locked = _lock(handle)
        same = os.path.samestat(os.fstat(handle), os.stat(path))
    except (BlockingIOError, FileNotFoundError, PermissionError):
        return False
    return same and (locked or not wanted)


def _lock(file, wait=False):
    """Locks an open file.

    Returns:
        Whether the file system has locks.

    Raises:
        BlockingIOError: If another process has it.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


@contextlib.contextmanager
def _named(path):
    """Names the path in an error of writing, which does not know it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _is_tensorflow_error(error):
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(
        error, tensorflow.errors.OpError
    )
