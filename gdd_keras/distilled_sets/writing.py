"""Writing a distilled set, as any of its formats, by one process."""

import pathlib
import re

import numpy as np

from gdd_keras import files
from gdd_keras.config import checked_integer
from gdd_keras.distilled_sets.formats import DESCRIPTION_NAME
from gdd_keras.distilled_sets.formats import NPZ_NAME
from gdd_keras.distilled_sets.formats import DistilledSet
from gdd_keras.distilled_sets.formats import check_selection
from gdd_keras.distilled_sets.formats import check_set
from gdd_keras.distilled_sets.formats import check_soft_labels
from gdd_keras.distilled_sets.formats import description
from gdd_keras.distilled_sets.formats import snippet
from gdd_keras.distilled_sets.partial import PartialSet
from gdd_keras.distilled_sets.sharded import ShardedSet
from gdd_keras.distilled_sets.shards import SHARDED_FORMATS
from gdd_keras.distilled_sets.shards import image_chunks

__all__ = ["write_distilled_set"]

_MAX_NAME_LENGTH = 60


def write_distilled_set(
    generator,
    directory,
    ipc,
    set_format="npz",
    seed=0,
    progress=None,
    num_shards=None,
    soft_labels=False,
    selection="random",
):
    """Generates `ipc` images of every class and writes them as files.

    Images, labels and their order are those of
    `generator.as_dataset(ipc, seed)` in every format, or those of
    `gdd_keras.typical_images` or `gdd_keras.condensed_images`;
    `tfds.ImageFolder` alone shuffles what it reads. Beside the data lies
    `distilled_set.json` with the class names, the seed and where the images
    came from. The directory appears only when it is complete; of an
    interrupted `tfrecord` or `tfds`, complete shards stay in `.partial-<name>`
    beside it, and the same call goes on from them. Memory stays flat except
    for `npz`.

    Args:
        generator: `DistilledGenerator`.
        directory: New or empty directory.
        ipc: Images per class.
        set_format: `npz`: arrays `images`, `labels`, `class_names` (and
            `soft_labels`) in one compressed file; `png`:
            `train/<class>/<number>.png`, where class folders get a number in
            front if their names would not sort in label order; `tfrecord`:
            `tf.train.Example` with `image` (PNG), `label`, `height`, `width`,
            `channels`; `tfds`: a prepared TFDS data set with class names.
        seed: Integer >= 0.
        progress: `None`, or a function of `(images done, images in all)`.
        num_shards: Number of files of `tfrecord` and `tfds`; `None` is one
            for every 10,000 images.
        soft_labels: Whether `npz` also gets `soft_labels`, float32 `(n,
            num_classes)`, see `DistilledGenerator.soft_labels`.
        selection: `random`, or for `npz` and `png` `typical` or `condensed`.

    Returns:
        A `DistilledSet`.

    Raises:
        InputError: If an argument is out of range, the directory holds
            something, or the format cannot hold the images.
    """
    check_set(set_format, generator.image_shape[-1], num_shards)
    check_soft_labels(soft_labels, set_format, generator.metadata)
    ipc = checked_integer("ipc", ipc, 1, 2**40)
    check_selection(selection, set_format, ipc)
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
    source = _Source(generator, ipc, seed, progress, soft_labels, selection)
    with files.new_directory(directory) as temporary:
        _WRITERS[set_format](source, temporary)
        files.write_json(
            temporary / DESCRIPTION_NAME,
            description(
                generator.path,
                generator.metadata,
                ipc,
                set_format,
                seed,
                soft_labels,
                selection,
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
        snippet=snippet(set_format, directory),
    )


class _Source:
    """The images of a set in chunks, with progress."""

    def __init__(self, generator, ipc, seed, progress, soft_labels, selection):
        self.class_names = generator.class_names
        self.image_shape = generator.image_shape
        self.num_images = ipc * generator.num_classes
        self._ipc = ipc
        self._selection = selection
        # Function from images to soft labels, or `None`.
        self.classify = generator.soft_labels if soft_labels else None
        self._generator = generator
        self._seed = seed
        self._progress = progress

    def chunks(self):
        """Yields `(number of the first image, images, labels)`."""
        if self._selection != "random":
            labels = self._generator.balanced_labels(self._ipc)
            yield 0, self._few_images(), labels
            return
        start = 0
        for images, labels in image_chunks(
            self._generator, range(self.num_images), self._seed
        ):
            yield start, images, labels
            start += len(labels)
            if self._progress is not None:
                self._progress(start, self.num_images)

    def _few_images(self):
        """Returns typical or condensed images."""
        if self._selection == "typical":
            from gdd_keras import typical_images as make
        else:
            from gdd_keras import condensed_images as make

        def progress(done, total):
            if self._progress is not None:
                self._progress(self.num_images * done // total, self.num_images)

        return make(self._generator, self._ipc, self._seed, progress=progress)

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
    arrays = {"images": images, "labels": labels}
    if source.classify is not None:
        arrays["soft_labels"] = source.classify(images)
    np.savez_compressed(
        directory / NPZ_NAME,
        **arrays,
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
