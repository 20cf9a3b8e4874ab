"""Distilled sets as files: npz, png, tfrecord and tfds.

TensorFlow is imported by the functions that need it, so that a command line
can list the formats within a second.
"""

import dataclasses
import pathlib
import re

import numpy as np

from gdd_keras import files
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import checked_integer
from gdd_keras.metadata import model_digest
from gdd_keras.partial_sets import PartialSet
from gdd_keras.shards import SHARDED_FORMATS
from gdd_keras.shards import image_chunks
from gdd_keras.shards import make_plan
from gdd_keras.shards import write_index
from gdd_keras.shards import write_shard

__all__ = [
    "FORMATS",
    "DistilledSet",
    "ShardedSet",
    "check_set",
    "write_distilled_set",
    "write_stored_shard",
]

DESCRIPTION_NAME = "distilled_set.json"
NPZ_NAME = "distilled.npz"

_PNG_CHANNELS = (1, 3, 4)
_MAX_NAME_LENGTH = 60


@dataclasses.dataclass(frozen=True)
class DistilledSet:
    """What was written.

    Attributes:
        path: Output directory, a `pathlib.Path`, or a URL.
        set_format: One of `FORMATS`.
        num_images: Number of images, `ipc x num_classes`.
        ipc: Images per class.
        num_bytes: Bytes of all files together.
        snippet: Python code that opens the set.
    """

    path: pathlib.Path
    set_format: str
    num_images: int
    ipc: int
    num_bytes: int
    snippet: str


def write_distilled_set(
    generator,
    directory,
    ipc,
    set_format="npz",
    seed=0,
    progress=None,
    num_shards=None,
):
    """Generates `ipc` images of every class and writes them as files.

    Images, labels and their order are those of
    `generator.as_dataset(ipc, seed)` in every format; `tfds.ImageFolder` alone
    shuffles what it reads. Beside the data lies `distilled_set.json` with the
    class names, the seed and where the images came from. The directory appears
    only when it is complete; of an interrupted `tfrecord` or `tfds`, complete
    shards stay in `.partial-<name>` beside it, and the same call goes on from
    them. Memory stays flat except for `npz`.

    Args:
        generator: `DistilledGenerator`.
        directory: New or empty directory.
        ipc: Images per class.
        set_format: `npz`: arrays `images`, `labels`, `class_names` in one
            compressed file; `png`: `train/<class>/<number>.png`, where class
            folders get a number in front if their names would not sort in
            label order; `tfrecord`: `tf.train.Example` with `image` (PNG),
            `label`, `height`, `width`, `channels`; `tfds`: a prepared TFDS
            data set with class names.
        seed: Integer >= 0.
        progress: `None`, or a function of `(images done, images in all)`.
        num_shards: Number of files of `tfrecord` and `tfds`; `None` is one
            for every 10,000 images.

    Returns:
        A `DistilledSet`.

    Raises:
        InputError: If an argument is out of range, the directory holds
            something, or the format cannot hold the images.
    """
    check_set(set_format, generator.image_shape[-1], num_shards)
    ipc = checked_integer("ipc", ipc, 1, 2**40)
    seed = checked_integer("seed", seed, 0, 2**63 - 1)
    if set_format in SHARDED_FORMATS:
        sharded = ShardedSet(
            generator.path,
            generator.metadata,
            lambda identity: PartialSet(directory, identity),
            ipc,
            set_format,
            seed,
            num_shards,
        )
        with sharded:
            sharded.write_missing(generator, progress)
            return sharded.finish()
    directory = pathlib.Path(directory)
    source = _Source(generator, ipc * generator.num_classes, seed, progress)
    with files.new_directory(directory) as temporary:
        _WRITERS[set_format](source, temporary)
        files.write_json(
            temporary / DESCRIPTION_NAME,
            _description(
                generator.path, generator.metadata, ipc, set_format, seed
            ),
        )
        num_bytes = sum(
            path.stat().st_size
            for path in temporary.rglob("*")
            if path.is_file()
        )
    return DistilledSet(
        path=directory,
        set_format=set_format,
        num_images=source.num_images,
        ipc=ipc,
        num_bytes=num_bytes,
        snippet=_snippet(set_format, directory),
    )


def check_set(set_format, channels, num_shards=None):
    """Checks that a format can hold a set.

    Args:
        set_format: One of `FORMATS`.
        channels: Channels of the images.
        num_shards: Number of files asked for, or `None`.

    Raises:
        InputError: If it cannot.
    """
    if set_format not in FORMATS:
        raise InputError(
            f"`set_format` must be one of {', '.join(FORMATS)}. Received: "
            f"set_format={set_format}."
        )
    if num_shards is not None and set_format not in SHARDED_FORMATS:
        raise InputError(
            f"Only {' and '.join(SHARDED_FORMATS)} are written in shards. "
            f"Received: {num_shards} shards of `{set_format}`. Choose one of "
            "them, or leave the number of shards out."
        )
    if set_format != "npz" and channels not in _PNG_CHANNELS:
        raise InputError(
            f"`{set_format}` holds images of 1, 3 or 4 channels. Received: "
            f"images of {channels} channels. Write `npz` instead."
        )


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
            snippet=_snippet(self.plan.set_format, self.storage.directory),
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
            _description(
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


def _description(generator_path, metadata, ipc, set_format, seed):
    """Returns the content of `distilled_set.json`."""
    return {
        "format": set_format,
        "class_names": metadata["class_names"],
        "image_shape": metadata["image_shape"],
        "ipc": ipc,
        "num_images": ipc * metadata["num_classes"],
        "seed": seed,
        "generator": str(generator_path),
        "fingerprint": metadata.get("fingerprint"),
        "versions": metadata["versions"],
    }


class _Source:
    """The images of a set in chunks, with progress."""

    def __init__(self, generator, num_images, seed, progress):
        self.class_names = generator.class_names
        self.image_shape = generator.image_shape
        self.num_images = num_images
        self._generator = generator
        self._seed = seed
        self._progress = progress

    def chunks(self):
        """Yields `(number of the first image, images, labels)`."""
        start = 0
        for images, labels in image_chunks(
            self._generator, range(self.num_images), self._seed
        ):
            yield start, images, labels
            start += len(labels)
            if self._progress is not None:
                self._progress(start, self.num_images)

    def png_images(self):
        """Yields `(number, PNG bytes, label)`."""
        import tensorflow as tf

        for start, images, labels in self.chunks():
            contents = tf.io.encode_png(images).numpy()
            for offset, (content, label) in enumerate(
                zip(contents, labels, strict=True)
            ):
                yield start + offset, content, int(label)


def _write_npz(source, directory):
    """Writes one compressed file of arrays without pickles."""
    images = np.empty((source.num_images, *source.image_shape), np.uint8)
    labels = np.empty(source.num_images, np.int32)
    for start, chunk, chunk_labels in source.chunks():
        images[start : start + len(chunk)] = chunk
        labels[start : start + len(chunk)] = chunk_labels
    np.savez_compressed(
        directory / NPZ_NAME,
        images=images,
        labels=labels,
        class_names=np.array(source.class_names),
    )


def _write_png(source, directory):
    """Writes `train/<class>/<number>.png`."""
    folders = [
        directory / "train" / name for name in _folder_names(source.class_names)
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    width = max(5, len(str(source.num_images - 1)))
    for number, content, label in source.png_images():
        (folders[label] / f"{number:0{width}d}.png").write_bytes(content)


_WRITERS = {"npz": _write_npz, "png": _write_png}
FORMATS = (*_WRITERS, *SHARDED_FORMATS)


def _folder_names(class_names):
    """Returns one safe folder name per class, sorting in label order.

    Readers of image folders number the classes in the order of their sorted
    names. Where that is not the order of the labels, or two names become one,
    the label goes in front.
    """
    names = [
        re.sub(r"[^\w.-]+", "_", name)[:_MAX_NAME_LENGTH].strip("._")
        for name in class_names
    ]
    # Some file systems do not tell upper from lower case.
    distinct = len({name.casefold() for name in names}) == len(names)
    if distinct and all(names) and names == sorted(names):
        return names
    width = len(str(len(names) - 1))
    return [
        f"{label:0{width}d}_{name}".rstrip("_")
        for label, name in enumerate(names)
    ]


def _snippet(set_format, directory):
    """Returns Python code that opens the set."""
    path = str(directory)
    if set_format == "npz":
        return f"numpy.load({str(directory / NPZ_NAME)!r})['images']"
    if set_format == "png":
        return f"tfds.ImageFolder({path!r}).as_dataset(split='train')"
    if set_format == "tfds":
        return (
            f"tfds.builder_from_directory({path!r}).as_dataset(split='train')"
        )
    pattern = f"{path}/distilled-*.tfrecord"
    # Unlike Python's glob, this one knows URLs.
    return f"tf.data.TFRecordDataset(sorted(tf.io.gfile.glob({pattern!r})))"
