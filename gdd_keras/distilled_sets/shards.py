"""One shard of a large set: its images, its name, its bytes.

Whoever writes a shard, this process or a worker elsewhere, writes the same
file. TensorFlow is imported by the functions that need it.
"""

import dataclasses

import numpy as np

from gdd_keras.config import InputError
from gdd_keras.quiet import quiet_warnings

__all__ = [
    "MAX_SHARDS",
    "SHARDED_FORMATS",
    "ShardPlan",
    "image_chunks",
    "make_plan",
    "tfds_info",
    "write_index",
    "write_shard",
]

# Format to the names of its shards.
SHARDED_FORMATS = {
    "tfrecord": "distilled-{:05d}-of-{:05d}.tfrecord",
    "tfds": "distilled-train.tfrecord-{:05d}-of-{:05d}",
}

_CHUNK_SIZE = 1024
_IMAGES_PER_SHARD = 10_000
MAX_SHARDS = 100_000


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """Which images of a set each shard holds; made by `make_plan`.

    Attributes:
        set_format: One of `SHARDED_FORMATS`.
        num_images: Number of images in all.
        num_shards: Number of shards, at most one for each image.
        seed: Seed of the images.
    """

    set_format: str
    num_images: int
    num_shards: int
    seed: int

    @property
    def names(self):
        """File names of the shards, in order."""
        pattern = SHARDED_FORMATS[self.set_format]
        return [
            pattern.format(shard, self.num_shards)
            for shard in range(self.num_shards)
        ]

    def numbers(self, shard):
        """Returns the `range` of image numbers of a shard."""
        start, stop = (
            index * self.num_images // self.num_shards
            for index in (shard, shard + 1)
        )
        return range(start, stop)


def make_plan(set_format, num_images, seed=0, num_shards=None):
    """Divides a set into shards of sizes that differ by one at most.

    Args:
        set_format: One of `SHARDED_FORMATS`.
        num_images: Number of images, positive.
        seed: Seed of the images.
        num_shards: Number of shards, or `None` for one for every 10,000
            images.

    Returns:
        A `ShardPlan`.

    Raises:
        InputError: If a shard would be empty, or the format has no shards.
    """
    if set_format not in SHARDED_FORMATS:
        raise InputError(
            f"`set_format` must be one of {', '.join(SHARDED_FORMATS)} to "
            f"have shards. Received: set_format={set_format}."
        )
    if num_shards is None:
        num_shards = min(-(-num_images // _IMAGES_PER_SHARD), MAX_SHARDS)
    if not 1 <= num_shards <= min(num_images, MAX_SHARDS):
        raise InputError(
            "The number of shards must be from 1 to the number of images "
            f"({num_images:,}) and at most {MAX_SHARDS:,}. Received: "
            f"{num_shards} shards."
        )
    return ShardPlan(set_format, num_images, num_shards, seed)


def image_chunks(generator, numbers, seed):
    """Generates a range of images piece by piece.

    Args:
        generator: `DistilledGenerator`.
        numbers: `range` of image numbers.
        seed: Integer.

    Yields:
        `(images, labels)`: uint8 `(n, height, width, channels)` and int32
        `(n,)`.
    """
    start = numbers.start
    while start < numbers.stop:
        # Aligned, as the exported graph works in aligned blocks.
        stop = min(start + _CHUNK_SIZE - start % _CHUNK_SIZE, numbers.stop)
        labels = np.arange(start, stop) % generator.num_classes
        images = generator.generate(labels, seed, start)
        yield images, labels.astype(np.int32)
        start = stop


def write_shard(generator, plan, shard, path, progress=None):
    """Writes one shard as a file.

    Args:
        generator: `DistilledGenerator`.
        plan: `ShardPlan`.
        shard: Number of the shard.
        path: The file; not whole before this returns.
        progress: `None`, or a function that gets the number of images after
            each piece of them.

    Raises:
        OSError: If it cannot be written.
    """
    import tensorflow as tf

    with quiet_warnings():
        example = _example(generator, plan)
        feature = example.features.feature
        # One message for all images: to make one takes longer than to fill it.
        image_value = feature["image"].bytes_list.value
        label_value = feature["label"].int64_list.value
        try:
            with tf.io.TFRecordWriter(str(path)) as writer:
                for images, labels in image_chunks(
                    generator, plan.numbers(shard), plan.seed
                ):
                    contents = tf.io.encode_png(images).numpy()
                    for content, label in zip(contents, labels, strict=True):
                        image_value[0], label_value[0] = content, label
                        # A map has no order of its own.
                        writer.write(
                            example.SerializeToString(deterministic=True)
                        )
                    if progress is not None:
                        progress(len(labels))
        except tf.errors.OpError as error:
            raise OSError(error.message) from error


def write_index(plan, class_names, image_shape, num_bytes, directory):
    """Writes what a format needs beside its shards.

    Args:
        plan: `ShardPlan`.
        class_names: List of names.
        image_shape: `(height, width, channels)`.
        num_bytes: Bytes of all shards together.
        directory: Folder to write into.
    """
    if plan.set_format != "tfds":
        return
    with quiet_warnings():
        import tensorflow_datasets as tfds

        info = tfds_info(
            "distilled",
            image_shape,
            class_names,
            directory,
            description="Images distilled into a generator by gdd_keras.",
        )
        split = tfds.core.SplitInfo(
            name="train",
            shard_lengths=[
                len(plan.numbers(shard)) for shard in range(plan.num_shards)
            ],
            num_bytes=num_bytes,
            filename_template=tfds.core.ShardedFileTemplate(
                dataset_name="distilled",
                split="train",
                filetype_suffix="tfrecord",
                data_dir=directory,
            ),
        )
        info.set_splits(tfds.core.splits.SplitDict([split]))
        info.write_to_directory(directory)


def tfds_info(name, image_shape, class_names, directory, **fields):
    """Describes labelled images for TFDS; imports it.

    Args:
        name: Data set's name.
        image_shape: `(height, width, channels)`.
        class_names: Sequence of names.
        directory: Folder of the files.
        **fields: More of `tfds.core.DatasetInfo`.

    Returns:
        `tfds.core.DatasetInfo` of `image` and `label`, version 1.0.0.
    """
    import tensorflow_datasets as tfds

    return tfds.core.DatasetInfo(
        builder=tfds.core.DatasetIdentity(
            name=name,
            version=tfds.core.Version("1.0.0"),
            data_dir=str(directory),
            module_name="",
        ),
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=tuple(image_shape)),
                "label": tfds.features.ClassLabel(names=class_names),
            }
        ),
        supervised_keys=("image", "label"),
        **fields,
    )


def _example(generator, plan):
    """Returns a `tf.train.Example` with the features of a format."""
    import tensorflow as tf

    example = tf.train.Example()
    feature = example.features.feature
    feature["image"].bytes_list.value.append(b"")
    feature["label"].int64_list.value.append(0)
    if plan.set_format == "tfrecord":
        for name, size in zip(
            ("height", "width", "channels"), generator.image_shape, strict=True
        ):
            feature[name].int64_list.value.append(size)
    return example
