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
from gdd_keras.quiet import quiet_warnings

__all__ = ["FORMATS", "DistilledSet", "write_distilled_set"]

DESCRIPTION_NAME = "distilled_set.json"
NPZ_NAME = "distilled.npz"

_CHUNK_SIZE = 1024
_IMAGES_PER_SHARD = 10_000
_PNG_CHANNELS = (1, 3, 4)
_MAX_NAME_LENGTH = 60


@dataclasses.dataclass(frozen=True)
class DistilledSet:
    """What was written.

    Attributes:
        path: Output directory.
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
    generator, directory, ipc, set_format="npz", seed=0, progress=None
):
    """Generates `ipc` images of every class and writes them as files.

    Images, labels and their order are those of
    `generator.as_dataset(ipc, seed)` in every format; `tfds.ImageFolder` alone
    shuffles what it reads. Beside the data lies `distilled_set.json` with the
    class names, the seed and where the images came from. The directory appears
    only when it is complete. Memory stays flat except for `npz`.

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

    Returns:
        A `DistilledSet`.

    Raises:
        InputError: If an argument is out of range, the directory holds
            something, or the format cannot hold the images.
    """
    directory = pathlib.Path(directory)
    if set_format not in FORMATS:
        raise InputError(
            f"`set_format` must be one of {', '.join(FORMATS)}. Received: "
            f"set_format={set_format}."
        )
    channels = generator.image_shape[-1]
    if set_format != "npz" and channels not in _PNG_CHANNELS:
        raise InputError(
            f"`{set_format}` holds images of 1, 3 or 4 channels. Received: "
            f"images of {channels} channels. Write `npz` instead."
        )
    from gdd_keras.generator_api import checked_integer

    ipc = checked_integer("ipc", ipc, 1, 2**40)
    seed = checked_integer("seed", seed, 0, 2**63 - 1)
    num_images = ipc * generator.num_classes
    source = _Source(generator, num_images, seed, progress)
    with files.new_directory(directory) as temporary:
        FORMATS[set_format](source, temporary)
        files.write_json(
            temporary / DESCRIPTION_NAME,
            {
                "format": set_format,
                "class_names": generator.class_names,
                "image_shape": list(generator.image_shape),
                "ipc": ipc,
                "num_images": num_images,
                "seed": seed,
                "generator": str(generator.path),
                "fingerprint": generator.metadata.get("fingerprint"),
                "versions": generator.metadata["versions"],
            },
        )
        num_bytes = sum(
            path.stat().st_size
            for path in temporary.rglob("*")
            if path.is_file()
        )
    return DistilledSet(
        path=directory,
        set_format=set_format,
        num_images=num_images,
        ipc=ipc,
        num_bytes=num_bytes,
        snippet=_snippet(set_format, directory),
    )


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
        for start in range(0, self.num_images, _CHUNK_SIZE):
            stop = min(start + _CHUNK_SIZE, self.num_images)
            labels = np.arange(start, stop) % len(self.class_names)
            images = self._generator.generate(labels, self._seed, start)
            yield start, images, labels.astype(np.int32)
            if self._progress is not None:
                self._progress(stop, self.num_images)

    def png_images(self):
        """Yields `(number, PNG bytes, label)`."""
        import tensorflow as tf

        for start, images, labels in self.chunks():
            for offset, (image, label) in enumerate(
                zip(images, labels, strict=True)
            ):
                content = tf.io.encode_png(image).numpy()
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


def _write_tfrecord(source, directory):
    """Writes shards of `tf.train.Example`."""
    import tensorflow as tf

    def int64(value):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    height, width, channels = source.image_shape
    num_shards = -(-source.num_images // _IMAGES_PER_SHARD)
    writer = None
    try:
        for number, content, label in source.png_images():
            if number % _IMAGES_PER_SHARD == 0:
                if writer is not None:
                    writer.close()
                shard = number // _IMAGES_PER_SHARD
                name = f"distilled-{shard:05d}-of-{num_shards:05d}.tfrecord"
                writer = tf.io.TFRecordWriter(str(directory / name))
            features = {
                "image": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[content])
                ),
                "label": int64(label),
                "height": int64(height),
                "width": int64(width),
                "channels": int64(channels),
            }
            example = tf.train.Example(
                features=tf.train.Features(feature=features)
            )
            writer.write(example.SerializeToString())
    finally:
        if writer is not None:
            writer.close()


def _write_tfds(source, directory):
    """Writes a prepared TFDS data set with the one split `train`."""
    with quiet_warnings():
        import tensorflow_datasets as tfds

        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=source.image_shape),
                "label": tfds.features.ClassLabel(names=source.class_names),
            }
        )
        info = tfds.core.DatasetInfo(
            builder=tfds.core.DatasetIdentity(
                name="distilled",
                version=tfds.core.Version("1.0.0"),
                data_dir=str(directory),
                module_name="",
            ),
            description="Images distilled into a generator by gdd_keras.",
            features=features,
            supervised_keys=("image", "label"),
        )
        writer = tfds.core.SequentialWriter(
            info, max_examples_per_shard=_IMAGES_PER_SHARD
        )
        writer.initialize_splits(["train"])
        try:
            for _, images, labels in source.chunks():
                examples = [
                    {"image": image, "label": int(label)}
                    for image, label in zip(images, labels, strict=True)
                ]
                writer.add_examples({"train": examples})
        finally:
            writer.close_all()


FORMATS = {
    "npz": _write_npz,
    "png": _write_png,
    "tfrecord": _write_tfrecord,
    "tfds": _write_tfds,
}


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
    pattern = str(directory / "distilled-*.tfrecord")
    return f"tf.data.TFRecordDataset(sorted(glob.glob({pattern!r})))"
