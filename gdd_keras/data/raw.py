"""What a source of images hands over, before anything is decoded."""

import collections.abc
import dataclasses
import hashlib
import json
import re

from gdd_keras.data.registry import Preparation

__all__ = [
    "CHUNK_BYTES",
    "MAX_PIXELS",
    "RawData",
    "RawSplit",
    "files_identity",
    "safe_name",
]

# Pixels read at once: large enough to be fast, small beside TensorFlow.
CHUNK_BYTES = 8 * 2**20
# Larger images are slips, or made to fill the memory of whoever opens them.
MAX_PIXELS = 64 * 10**6


@dataclasses.dataclass(frozen=True)
class RawSplit:
    """Images and labels of one split, readable in chunks, in a fixed order.

    Attributes:
        num_images: Number of images, 1 or more.
        read: Function of `fit`, which turns uint8 `(n, any height, any width,
            channels)` into the training size; yields pairs of fitted images
            and integer labels `(n,)`, which index the class names.
    """

    num_images: int
    read: collections.abc.Callable


@dataclasses.dataclass(frozen=True)
class RawData:
    """A data set as its source describes it.

    Attributes:
        name: Short name, safe as the name of a folder.
        source: Where the data lies, for messages.
        identity: Text that changes when the data does; keys the cache.
        image_size: `(height, width)` of the images; `None` if it varies.
        channels: 1 or 3.
        class_names: One name per label.
        train: `RawSplit`.
        test: `RawSplit` or `None`.
        cut_test: Whether a test part is cut from `train` if `test` is `None`.
        preparation: `Preparation` of this data.
        tfds_directory: Folder of the TFRecords that TFDS prepared, or `None`
            for data of another kind.
    """

    name: str
    source: str
    identity: str
    image_size: tuple[int, int] | None
    channels: int
    class_names: tuple[str, ...]
    train: RawSplit
    test: RawSplit | None
    cut_test: bool = False
    preparation: Preparation = Preparation()
    tfds_directory: str | None = None

    @property
    def splits(self):
        """Dict from `train` and, if there is one, `test`."""
        splits = {"train": self.train}
        if self.test is not None:
            splits["test"] = self.test
        return splits


def safe_name(text):
    """Returns text as a name that any file system takes."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("._-")
    return name[:64] or "dataset"


def files_identity(path, files):
    """Returns text that changes when a file is added, removed or changed.

    Args:
        path: `pathlib.Path` of the folder that holds them.
        files: `pathlib.Path` of each, in a stable order.
    """
    digest = hashlib.sha256()
    for file in files:
        status = file.stat()
        entry = [
            str(file.relative_to(path)),
            status.st_size,
            status.st_mtime_ns,
        ]
        digest.update(json.dumps(entry).encode())
    return f"{path} {digest.hexdigest()}"
