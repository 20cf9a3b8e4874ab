"""Models and sets at URLs, such as `gs://bucket/name`, through Beam.

Object stores do not rename directories. So shards go to the output one by
one, and a set is complete when `distilled_set.json` and, for `tfds`,
`dataset_info.json` are there, which are written last. Until then a file in
`.partial-<name>` beside the output says which set it will be.
"""

import contextlib
import pathlib
import shutil
import tempfile
import uuid

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.files import is_version
from gdd_keras.metadata import find_version

__all__ = ["UrlSet", "is_url", "local_version", "version_at"]

_MODEL = "saved_model.pb"
# What lies beside the shards, in the order of writing.
_INDEX = (
    "label.labels.txt",
    "features.json",
    "distilled_set.json",
    "dataset_info.json",
)


def is_url(path):
    """Returns whether a path has a scheme."""
    return "://" in str(path)


def version_at(path):
    """Returns the version directory that a path or URL means.

    Args:
        path: Version directory of an exported generator, or its parent.

    Returns:
        `pathlib.Path`, or the URL as `str`.

    Raises:
        InputError: If there is none.
    """
    if not is_url(path):
        return find_version(path, "--model")
    url = str(path).rstrip("/")
    files = _list(url)
    if _MODEL in files:
        return url
    folders = [name.removesuffix(f"/{_MODEL}") for name in files]
    versions = [folder for folder in folders if is_version(folder)]
    if not versions:
        raise InputError(
            "`path` must be a version directory of an exported generator, or "
            f"its parent. Received: {url}, which holds no SavedModel."
        )
    return f"{url}/{max(versions, key=int)}"


@contextlib.contextmanager
def local_version(version):
    """Gives a version directory as a local one.

    Args:
        version: As from `version_at`.

    Yields:
        `pathlib.Path`; of a URL a copy, which lasts as long as the body.
    """
    if not is_url(version):
        yield version
        return
    with tempfile.TemporaryDirectory(prefix="gdd-keras-") as folder:
        for name in _list(version):
            target = pathlib.Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                FileSystems.open(f"{version}/{name}") as source,
                open(target, "wb") as file,
            ):
                shutil.copyfileobj(source, file)
        yield pathlib.Path(folder)


class UrlSet:
    """Shards of an unfinished set at a URL; see `PartialSet` for the methods.

    Nothing keeps two commands from one URL: of two that write different sets,
    the one that began first fails.

    Args:
        directory: URL of the output, where nothing is.
        identity: As in `PartialSet`.
    """

    def __init__(self, directory, identity):
        self.directory = str(directory).rstrip("/")
        self._identity = identity
        parent, _, name = self.directory.rpartition("/")
        self._folder = f"{parent}/.partial-{name}"
        self._record = f"{self._folder}/{identity}"

    def open(self):
        """Goes on with what is there if it is the same set, or starts over.

        Raises:
            InputError: If the output holds something that is no unfinished
                set, or Beam cannot use the URL.
        """
        records = _list(self._folder)
        existing = _list(self.directory)
        if existing and not records:
            raise InputError(
                "The output directory must be new or empty. Received: "
                f"{self.directory}, which holds something already. Choose "
                "another, or remove it."
            )
        # In this order, an interruption leaves no shard without its record.
        if self._identity not in records:
            _delete(
                f"{self.directory}/{name}"
                for name in existing
                if name.startswith("distilled-") or name in _INDEX
            )
        _delete(
            f"{self._folder}/{name}"
            for name in records
            if name != self._identity
        )
        with FileSystems.create(self._record):
            pass
        if self._has_directories and not FileSystems.exists(self.directory):
            FileSystems.mkdirs(self.directory)

    def sizes(self):
        """Returns a dict from the names of complete shards to their bytes."""
        return {
            name: size
            for name, size in _list(self.directory).items()
            if name not in _INDEX
        }

    @contextlib.contextmanager
    def new_shard(self, name):
        """Makes a shard of the local file that the body writes.

        Args:
            name: Name of the shard.

        Yields:
            `pathlib.Path` to write to.
        """
        with tempfile.TemporaryDirectory(prefix="gdd-keras-") as folder:
            local = pathlib.Path(folder, name)
            yield local
            self._put(local)

    def finish(self, fill):
        """Adds the files beside the shards, the decisive ones last.

        Args:
            fill: Function of a directory that writes small files into it.

        Returns:
            Bytes of all files together.
        """
        with tempfile.TemporaryDirectory(prefix="gdd-keras-") as folder:
            fill(pathlib.Path(folder))
            for name in _INDEX:
                local = pathlib.Path(folder, name)
                if local.exists():
                    self._put(local)
        _delete(f"{self._folder}/{name}" for name in _list(self._folder))
        if self._has_directories:
            FileSystems.delete([self._folder])
        return sum(_list(self.directory).values())

    def close(self):
        """Does nothing: complete shards stay for the next attempt."""

    @property
    def _has_directories(self):
        """Whether the URL is of a file system and not of an object store."""
        return FileSystems.get_filesystem(self.directory).has_dirs()

    def _put(self, local):
        """Copies a local file to the output, whole or not at all."""
        target = f"{self.directory}/{local.name}"
        temporary = f"{self._folder}/writing-{uuid.uuid4().hex}"
        with open(local, "rb") as source, FileSystems.create(temporary) as file:
            shutil.copyfileobj(source, file)
        if not FileSystems.exists(self._record):
            _delete([temporary])
            raise RunError(f"another command has begun {self.directory} anew.")
        # A retry of the same shard may have been faster, and not all file
        # systems replace a file.
        if FileSystems.exists(target):
            _delete([temporary])
        else:
            FileSystems.rename([temporary], [target])


def _list(url):
    """Returns a dict from the names of all files below a URL to their bytes."""
    try:
        found = FileSystems.match([f"{url}/**"])[0].metadata_list
    except (BeamIOError, ValueError) as error:
        raise InputError(
            f"A URL must be one that Apache Beam can list. Received: {url}: "
            f"{error}"
        ) from error
    return {
        entry.path.removeprefix(f"{url}/"): entry.size_in_bytes
        for entry in found
    }


def _delete(urls):
    """Deletes files."""
    urls = list(urls)
    if urls:
        FileSystems.delete(urls)
