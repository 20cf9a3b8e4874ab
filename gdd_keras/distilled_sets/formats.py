"""What every distilled set on disk has: a format, a description, a way in."""

import dataclasses
import pathlib

from gdd_keras.config import InputError
from gdd_keras.distilled_sets.shards import SHARDED_FORMATS
from gdd_keras.metadata import SOFT_LABELS_ADVICE
from gdd_keras.metadata import gives_soft_labels
from gdd_keras.selection import SELECTIONS
from gdd_keras.selection import check_size

__all__ = [
    "DESCRIPTION_NAME",
    "FORMATS",
    "NPZ_NAME",
    "DistilledSet",
    "check_selection",
    "check_set",
    "check_soft_labels",
    "description",
    "snippet",
]

FORMATS = ("npz", "png", *SHARDED_FORMATS)
DESCRIPTION_NAME = "distilled_set.json"
NPZ_NAME = "distilled.npz"

_PNG_CHANNELS = (1, 3, 4)


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


def check_soft_labels(soft_labels, set_format, metadata):
    """Checks that soft labels are to be had, and that a format holds them.

    Args:
        soft_labels: Whether they are asked for.
        set_format: One of `FORMATS`.
        metadata: The generator's, as from `read_metadata`.

    Raises:
        InputError: If they are asked for in vain.
    """
    if not soft_labels:
        return
    if set_format != "npz":
        raise InputError(
            "Soft labels are written to `npz` alone. Received: format="
            f"{set_format}. Choose `npz`, or leave soft labels out."
        )
    if not gives_soft_labels(metadata):
        raise InputError(
            "Soft labels need a generator that was exported with them. "
            "Received: one with the signatures "
            f"{', '.join(metadata['signatures'])}. {SOFT_LABELS_ADVICE}"
        )


def check_selection(selection, set_format, ipc):
    """Checks that a selection is known, and that a format holds it.

    Args:
        selection: One of `SELECTIONS`.
        set_format: One of `FORMATS`.
        ipc: Images per class.

    Raises:
        InputError: If it cannot be had.
    """
    if selection not in SELECTIONS:
        raise InputError(
            f"`selection` must be one of {', '.join(SELECTIONS)}. Received: "
            f"selection={selection}."
        )
    if selection == "random":
        return
    if set_format in SHARDED_FORMATS:
        raise InputError(
            f"`--selection {selection}` is written to `npz` or `png` alone. "
            f"Received: format={set_format}. Choose one of them, or random "
            "images."
        )
    check_size(selection, ipc)


def description(
    generator_path,
    metadata,
    ipc,
    set_format,
    seed,
    soft_labels=False,
    selection="random",
):
    """Returns the content of `distilled_set.json`.

    Args:
        generator_path: Where the generator came from.
        metadata: The generator's, as from `read_metadata`.
        ipc: Images per class.
        set_format: One of `FORMATS`.
        seed: Seed of the images.
        soft_labels: Whether the set also holds them.
        selection: One of `SELECTIONS`.
    """
    return {
        "format": set_format,
        "class_names": metadata["class_names"],
        "image_shape": metadata["image_shape"],
        "ipc": ipc,
        "num_images": ipc * metadata["num_classes"],
        "seed": seed,
        "soft_labels": soft_labels,
        "selection": selection,
        "generator": str(generator_path),
        "fingerprint": metadata.get("fingerprint"),
        "versions": metadata["versions"],
    }


def snippet(set_format, directory):
    """Returns Python code that opens a set.

    Args:
        set_format: One of `FORMATS`.
        directory: Where it is, a `pathlib.Path` or a URL.
    """
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
