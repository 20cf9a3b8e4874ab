"""One function from a config to a data set that is ready to train on."""

import hashlib
import os
import pathlib

import numpy as np

from gdd_keras.config import InputError
from gdd_keras.config import about
from gdd_keras.data.dataset import Dataset
from gdd_keras.data.dataset import ImageRows
from gdd_keras.data.dataset import Split
from gdd_keras.data.digits import open_digits
from gdd_keras.data.image_folder import open_image_folder
from gdd_keras.data.npz import open_npz
from gdd_keras.data.raw import CHUNK_BYTES
from gdd_keras.data.splitting import hold_out
from gdd_keras.data.statistics import channel_statistics
from gdd_keras.data.store import store_images
from gdd_keras.data.tfds import is_tfds_folder
from gdd_keras.data.tfds import open_tfds
from gdd_keras.data.tfds import open_tfds_folder
from gdd_keras.metadata import check_class_names

__all__ = ["load_dataset", "open_raw", "training_size"]

_CACHE_DIR = "~/.cache/gdd_keras"
# Test parts that no one published are cut alike in every run.
_TEST_FRACTION = 0.2
_TEST_SEED = 20230304
_MIN_SIZE = 8
_MAX_SIZE = 1024


def load_dataset(config, seed=0):
    """Loads the data set that a config names.

    Args:
        config: `DataConfig`.
        seed: Integer >= 0; decides which images are held out for validation,
            and nothing else.

    Returns:
        `Dataset`.

    Raises:
        InputError: If there is no such data, or if it cannot be used.
    """
    raw = open_raw(config)
    size = training_size(raw, config.image_size)
    with about("dataset"):
        stored = store_images(
            raw, size, config.memory_limit_mb, config.cache_dir or _CACHE_DIR
        )
        class_names, labels = _used_classes(raw, stored.labels)
        # Else the export, after all the training, would be first to refuse.
        check_class_names(class_names, raw.source)
    rows = np.arange(len(labels["train"]))
    test_rows = None
    if raw.test is None and raw.cut_test:
        rows, test_rows = hold_out(labels["train"], _TEST_FRACTION, _TEST_SEED)
    kept, held = hold_out(
        labels["train"][rows], config.validation_fraction, seed
    )
    if not len(held):
        raise InputError(
            "A data set must have a class with two or more training images, "
            "so that one can be held out for validation. Received: "
            f"{raw.source} with one image per class. Add images."
        )
    # The large part comes last: `_take` may move its rows in place.
    validation = _take(stored, labels, rows[held])
    test = None
    if raw.test is not None:
        test = Split(stored.images["test"], labels["test"])
    elif test_rows is not None:
        test = _take(stored, labels, test_rows)
    train = _take(stored, labels, rows[kept], in_place=True)
    mean, std = channel_statistics(train.images)
    return Dataset(
        name=raw.name,
        image_shape=(*size, raw.channels),
        class_names=class_names,
        train=train,
        validation=validation,
        test=test,
        mean=mean,
        std=std,
        fingerprint=stored.fingerprint,
        augmentation=raw.preparation.augmentation,
        source=raw.source,
        held_out=hashlib.sha256(rows[held].tobytes()).hexdigest()[:16],
    )


def open_raw(config):
    """Opens the data that a config names, as it is; decodes next to nothing.

    Args:
        config: `DataConfig`.

    Returns:
        `RawData`.

    Raises:
        InputError: If there is no such data, or if it cannot be used.
    """
    with about("dataset"):
        return _open(config)


def _open(config):
    """Returns the `RawData` of whatever kind of data a config names."""
    name = config.dataset
    # `pathlib` raises where there is no such home.
    path = pathlib.Path(os.path.expanduser(name))
    if name == "digits":
        return open_digits()
    if path.is_dir():
        if is_tfds_folder(path):
            return open_tfds_folder(path)
        return open_image_folder(path)
    if path.is_file():
        if path.suffix.lower() != ".npz":
            raise InputError(
                "`dataset` must be a folder of images or an .npz file where "
                f"it is a path. Received: dataset={name}, another kind of "
                "file. Convert it to .npz with `images` and `labels`."
            )
        return open_npz(path)
    # One slash may also separate a TFDS name from its config.
    is_path = name.startswith((".", "~", "/")) or name.count("/") > 1
    is_path = is_path or name.endswith(("/", ".npz"))
    if is_path or (os.sep != "/" and os.sep in name):
        raise InputError(
            "`dataset` must be an existing path where it is written as one. "
            f"Received: dataset={name}, but {path.absolute()} does not "
            "exist. Correct the path."
        )
    return open_tfds(name, config.data_dir, config.download_timeout)


def training_size(raw, wanted):
    """Returns the size to train at.

    Args:
        raw: `RawData`.
        wanted: `(height, width)` of the config, or `None`.

    Returns:
        `(height, width)`.

    Raises:
        InputError: If it is out of range, or unknown.
    """
    size = wanted or raw.preparation.image_size or raw.image_size
    if size is None:
        raise InputError(
            "`image_size` must be given for images of different sizes. "
            f"Received: image_size=None for {raw.source}. Pass "
            "`--image-size`, for instance 32 or 64."
        )
    if min(size) < _MIN_SIZE or max(size) > _MAX_SIZE:
        raise InputError(
            f"Images must be {_MIN_SIZE} to {_MAX_SIZE} pixels high and "
            f"wide. Received: {size[0]}x{size[1]} in {raw.source}. Have "
            "them resized with `--image-size`."
        )
    return tuple(int(side) for side in size)


def _used_classes(raw, labels):
    """Drops the names of classes that no training image has.

    Some TFDS sets declare more classes than they fill; a generator cannot
    learn those.

    Returns:
        Tuple of class names, and dict from split name to int32 labels.
    """
    used = np.unique(labels["train"])
    if len(used) < 2:
        raise InputError(
            "A data set must have images of two or more classes. Received: "
            f"{raw.source} with only {raw.class_names[used[0]]!r}. Add "
            "images of another class."
        )
    for name, values in labels.items():
        unknown = values[~np.isin(values, used)]
        if len(unknown):
            raise InputError(
                "Classes of the test images must also occur in training. "
                f"Received: {raw.class_names[unknown[0]]!r} in split "
                f"`{name}` of {raw.source}. Remove such images."
            )
    names = tuple(raw.class_names[index] for index in used)
    mapped = {
        name: np.searchsorted(used, values).astype(np.int32)
        for name, values in labels.items()
    }
    return names, mapped


def _take(stored, labels, rows, in_place=False):
    """Returns the `Split` of some rows of the stored training images.

    Args:
        stored: `StoredImages`.
        labels: Dict from split name to labels.
        rows: Sorted row numbers.
        in_place: Whether the stored array may be overwritten, which saves a
            second copy of the largest part.
    """
    images = stored.images["train"]
    picked_labels = labels["train"][rows]
    if stored.on_disk:
        return Split(ImageRows(images, rows), picked_labels)
    if not in_place:
        return Split(images[rows], picked_labels)
    step = max(1, CHUNK_BYTES // int(np.prod(images.shape[1:])))
    for start in range(0, len(rows), step):
        # Sorted rows only ever move towards the front.
        chunk = images[rows[start : start + step]]
        images[start : start + len(chunk)] = chunk
    return Split(images[: len(rows)], picked_labels)
