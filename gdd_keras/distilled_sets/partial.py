"""Shards of a set that is not complete yet, in a folder beside its output.

A shard is whole or absent: it is written elsewhere and then renamed. What an
interrupted command leaves is found again by the same command; the output
directory appears when all is there.
"""

import contextlib
import os
import pathlib
import shutil
import tempfile

from gdd_keras import files
from gdd_keras.config import InputError

__all__ = ["PartialSet"]

_PREFIX = ".partial-"


class PartialSet:
    """The folder `.partial-<name>/<identity>` beside an output directory.

    Can be pickled: workers call `new_shard`, everything else is for the one
    process that opened the set.

    Args:
        directory: Output directory, new or empty.
        identity: Text for a file name that tells what the shards depend on.
            Leftovers of another identity are another command's; they go.
    """

    def __init__(self, directory, identity):
        self.directory = pathlib.Path(directory)
        self._identity = identity
        # Workers may run in another directory.
        absolute = self.directory.absolute()
        self._folder = absolute.parent / (_PREFIX + absolute.name)
        self._shards = self._folder / identity / "shards"
        # Not among the shards: a worker that outlived its command must not
        # add to what is renamed to the output.
        self._writing = self._folder / identity / "writing"
        self._lock = None

    def __reduce__(self):
        # The lock stays with the process that holds it.
        return type(self), (self.directory.absolute(), self._identity)

    def open(self):
        """Takes the folder for this process and clears dead attempts away.

        Raises:
            InputError: If the output holds something, or another process
                writes it.
            OSError: If the folder cannot be written.
        """
        files.check_new_directory(self.directory)
        self._lock = files.take_lock(
            self._folder / "lock",
            InputError(
                "The output directory must be no other process's. Received: "
                f"{self.directory}, which another process is writing. Wait "
                "for it, or choose another."
            ),
        )
        for entry in self._folder.iterdir():
            if entry.name not in (self._identity, "lock"):
                shutil.rmtree(entry)
        shutil.rmtree(self._writing, ignore_errors=True)
        for folder in (self._shards, self._writing):
            folder.mkdir(parents=True, exist_ok=True)

    def sizes(self):
        """Returns a dict from the names of complete shards to their bytes."""
        return {
            entry.name: entry.stat().st_size for entry in self._shards.iterdir()
        }

    @contextlib.contextmanager
    def new_shard(self, name):
        """Makes a shard of the file that the body writes.

        Two processes may write the same shard: it is the same file.

        Args:
            name: Name of the shard.

        Yields:
            `pathlib.Path` to write to.
        """
        handle, temporary = tempfile.mkstemp(dir=self._writing, prefix=name)
        os.close(handle)
        temporary = pathlib.Path(temporary)
        try:
            yield temporary
            files.publish(temporary, self._shards / name)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def finish(self, fill):
        """Adds the files beside the shards and makes it the output.

        Args:
            fill: Function of a directory that writes small files into it.

        Returns:
            Bytes of all files together.
        """
        fill(self._shards)
        num_bytes = sum(self.sizes().values())
        # rename(2) replaces an empty directory in one step.
        os.replace(self._shards, self.directory)
        shutil.rmtree(self._folder, ignore_errors=True)
        return num_bytes

    def close(self):
        """Lets go of the folder; removes it if it holds no shard."""
        if self._lock is None:
            return
        if self._shards.is_dir() and not any(self._shards.iterdir()):
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()
        self._lock = None
