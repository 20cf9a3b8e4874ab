"""Distilled sets in shards: what is missing, and the end."""

import pathlib

from gdd_keras import files
from gdd_keras.config import RunError
from gdd_keras.distilled_sets.formats import DESCRIPTION_NAME
from gdd_keras.distilled_sets.formats import DistilledSet
from gdd_keras.distilled_sets.formats import check_set
from gdd_keras.distilled_sets.formats import description
from gdd_keras.distilled_sets.formats import snippet
from gdd_keras.distilled_sets.shards import make_plan
from gdd_keras.distilled_sets.shards import write_index
from gdd_keras.distilled_sets.shards import write_shard
from gdd_keras.metadata import model_digest

__all__ = ["ShardedSet", "write_stored_shard"]


class ShardedSet:
    """A set in shards in the making; a context manager.

    Complete shards of an earlier attempt at the same set are kept. Entering
    takes the output for this process; leaving lets go of it, whether the set
    is finished or not.

    Args:
        generator_path: Where the generator came from, for the description.
        metadata: The generator's, as from `read_metadata`.
        make_storage: Function of the set's identity that returns where the
            shards go, such as a `PartialSet`.
        ipc: Images per class.
        set_format: One of `SHARDED_FORMATS`.
        seed: Integer >= 0.
        num_shards: Number of shards, or `None`.
        digest: `model_digest` of the generator, or `None` to take it from
            the path.

    Attributes:
        plan: `ShardPlan`.
        storage: Where the shards go.
    """

    def __init__(
        self,
        generator_path,
        metadata,
        make_storage,
        ipc,
        set_format,
        seed,
        num_shards=None,
        digest=None,
    ):
        check_set(set_format, metadata["image_shape"][-1])
        self.plan = make_plan(
            set_format, ipc * metadata["num_classes"], seed, num_shards
        )
        if digest is None:
            digest = model_digest(pathlib.Path(generator_path))
        self.storage = make_storage(
            f"{set_format}-ipc{ipc}-seed{seed}-shards{self.plan.num_shards}"
            f"-model{digest}"
        )
        self._generator_path = generator_path
        self._metadata = metadata
        self._ipc = ipc

    def __enter__(self):
        self.storage.open()
        return self

    def __exit__(self, *_):
        self.storage.close()

    def missing(self):
        """Returns the numbers of the shards that are still to be written."""
        complete = self.storage.sizes()
        return [
            shard
            for shard, name in enumerate(self.plan.names)
            if name not in complete
        ]

    def num_complete(self):
        """Returns the number of images in complete shards."""
        return self.plan.num_images - sum(
            len(self.plan.numbers(shard)) for shard in self.missing()
        )

    def write_missing(self, generator, progress=None):
        """Writes the missing shards, one after the other.

        Args:
            generator: `DistilledGenerator`.
            progress: `None`, or a function of `(images done, in all)`.
        """
        done = self.num_complete()

        def advance(count):
            nonlocal done
            done += count
            if progress is not None:
                progress(done, self.plan.num_images)

        for shard in self.missing():
            write_stored_shard(
                generator, self.plan, self.storage, shard, advance
            )

    def finish(self):
        """Makes the complete shards the output.

        Returns:
            A `DistilledSet`.

        Raises:
            RunError: If shards are missing.
        """
        missing = self.missing()
        if missing:
            raise RunError(
                f"{len(missing)} of {self.plan.num_shards} shards are missing. "
                "The others stay; the same command makes the missing ones."
            )
        sizes = self.storage.sizes()
        num_bytes = self.storage.finish(
            lambda directory: self._write_index(
                directory, sum(sizes[name] for name in self.plan.names)
            )
        )
        return DistilledSet(
            path=self.storage.directory,
            set_format=self.plan.set_format,
            num_images=self.plan.num_images,
            ipc=self._ipc,
            num_bytes=num_bytes,
            snippet=snippet(self.plan.set_format, self.storage.directory),
        )

    def _write_index(self, directory, num_bytes):
        """Writes the files beside the shards."""
        write_index(
            self.plan,
            self._metadata["class_names"],
            self._metadata["image_shape"],
            num_bytes,
            directory,
        )
        files.write_json(
            directory / DESCRIPTION_NAME,
            description(
                self._generator_path,
                self._metadata,
                self._ipc,
                self.plan.set_format,
                self.plan.seed,
            ),
        )


def write_stored_shard(generator, plan, storage, shard, progress=None):
    """Writes one shard to where it belongs, here or in a worker.

    Args:
        generator: `DistilledGenerator`.
        plan: `ShardPlan`.
        storage: Such as a `PartialSet`.
        shard: Number of the shard.
        progress: As in `write_shard`.
    """
    with storage.new_shard(plan.names[shard]) as path:
        write_shard(generator, plan, shard, path, progress)
