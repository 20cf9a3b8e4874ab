"""Records of a loaded data set: what every other module may know about it."""

import dataclasses

import numpy as np

__all__ = ["Dataset", "ImageRows", "Split"]


class ImageRows:
    """Rows of a memory-mapped image array, read only when they are indexed.

    A training part is every row of the cache file but the held-out ones;
    copying it would either fill the memory or write the file once per seed.

    Args:
        images: uint8 `(rows, height, width, channels)`, usually `np.memmap`.
        rows: Integer `(n,)`, which rows of `images` count, in order.
    """

    def __init__(self, images, rows):
        self._images = images
        self._rows = np.asarray(rows)

    @property
    def shape(self):
        return (len(self._rows), *self._images.shape[1:])

    @property
    def dtype(self):
        return self._images.dtype

    @property
    def ndim(self):
        return self._images.ndim

    @property
    def nbytes(self):
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, index):
        first, *rest = index if isinstance(index, tuple) else (index,)
        picked = self._images[self._rows[first]]
        if not rest:
            return picked
        kept = (slice(None),) if np.ndim(self._rows[first]) else ()
        return picked[(*kept, *rest)]

    def __array__(self, dtype=None, copy=None):
        if copy is False:
            raise ValueError(
                "`copy` must not be False: the images lie on disk. "
                "Received: copy=False. Index the rows that are needed."
            )
        return np.asarray(self[:], dtype=dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Images of one part of a data set and their labels.

    Attributes:
        images: uint8 `(n, height, width, channels)`: an array, or `ImageRows`
            over an `np.memmap` where the set exceeds the memory limit.
        labels: int32 `(n,)`, `0 <= label < num_classes`.
    """

    images: np.ndarray | ImageRows
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """One data set: its splits and everything that depends on the data.

    Attributes:
        name: Short name, safe as the name of a folder.
        image_shape: `(height, width, channels)` of the training size.
        class_names: One name per class, in label order.
        train: `Split` to train on.
        validation: `Split` held out of the training data.
        test: `Split` for the final score, or `None`.
        mean: Mean of the training part per channel, in `[-1, 1]`.
        std: Standard deviation of the training part per channel, in the same
            range; at least one grey level.
        fingerprint: Hex digest of pixels, labels and class names; equal for
            equal data, wherever it lies and whichever part is held out.
        augmentation: `none`, `crop` or `color_crop`: what fits this data.
        source: Where the data came from, for messages.
        held_out: Hex digest of which training images are held out.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    augmentation: str
    source: str
    held_out: str = ""

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def splits(self):
        """Dict from `train`, `validation` and, if there is one, `test`."""
        splits = {"train": self.train, "validation": self.validation}
        if self.test is not None:
            splits["test"] = self.test
        return splits

    @property
    def class_counts(self):
        """Dict from the name of a split to its images per class."""
        return {
            name: tuple(
                np.bincount(split.labels, minlength=self.num_classes).tolist()
            )
            for name, split in self.splits.items()
        }

    def describe(self):
        """Returns all metadata, without pixels, ready for JSON."""
        return {
            "name": self.name,
            "source": self.source,
            "image_shape": list(self.image_shape),
            "num_classes": self.num_classes,
            "class_names": list(self.class_names),
            "num_images": {k: len(split) for k, split in self.splits.items()},
            "class_counts": {k: list(c) for k, c in self.class_counts.items()},
            "mean": list(self.mean),
            "std": list(self.std),
            "augmentation": self.augmentation,
            "fingerprint": self.fingerprint,
        }
