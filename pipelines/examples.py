"""Data sets as TFX's `Examples`, in the layout of TFDS."""

import os
import pathlib

from gdd_keras.data import fit_images
from gdd_keras.data import open_raw
from gdd_keras.data import training_size
from gdd_keras.distilled_sets import tfds_info
from gdd_keras.quiet import quiet_warnings

__all__ = ["link_splits", "write_examples"]


def write_examples(config, folder):
    """Makes a data set an `Examples` artifact, in the layout of TFDS.

    The records of TFDS are linked, not copied. Data of another kind has no
    records yet; these are written, images in the size of training.

    Args:
        config: `DataConfig`.
        folder: `pathlib.Path` of the artifact.

    Returns:
        List of names of its splits.
    """
    raw = open_raw(config)
    folder.mkdir(parents=True, exist_ok=True)
    if raw.tfds_directory is None:
        _write_records(raw, training_size(raw, config.image_size), folder)
    else:
        for file in sorted(pathlib.Path(raw.tfds_directory).iterdir()):
            if file.is_file():
                os.symlink(file, folder / file.name)
    return link_splits(folder)


def link_splits(folder):
    """Gives a folder of TFDS the folders `Split-<name>` that TFX reads.

    TFX takes every file of such a folder for data, so that the descriptions
    of TFDS cannot lie there.

    Args:
        folder: `pathlib.Path` with `dataset_info.json` and records.

    Returns:
        List of names of splits.
    """
    with quiet_warnings():
        import tensorflow_datasets as tfds

        splits = tfds.builder_from_directory(str(folder)).info.splits
    for name, split in splits.items():
        links = folder / f"Split-{name}"
        links.mkdir(exist_ok=True)
        for path in split.filepaths:
            os.symlink(
                os.path.join("..", path.name), links / f"{path.name}.tfrecord"
            )
    return list(splits)


def _write_records(raw, size, folder):
    """Writes all splits of a data set, in their order."""

    def fit(images):
        return fit_images(images, size, raw.preparation.resize)

    with quiet_warnings():
        import tensorflow_datasets as tfds

        info = tfds_info(
            raw.name,
            (*size, raw.channels),
            raw.class_names,
            folder,
            metadata=tfds.core.MetadataDict(cut_test=raw.cut_test),
        )
        writer = tfds.core.SequentialWriter(info, max_examples_per_shard=10_000)
        writer.initialize_splits(list(raw.splits))
        try:
            for name, split in raw.splits.items():
                for images, labels in split.read(fit):
                    examples = [
                        {"image": image, "label": int(label)}
                        for image, label in zip(images, labels, strict=True)
                    ]
                    writer.add_examples({name: examples})
        finally:
            writer.close_all()
