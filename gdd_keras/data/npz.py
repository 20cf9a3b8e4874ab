"""NumPy archives with `images` and `labels`."""

import functools
import math
import pathlib
import warnings
import zipfile

import numpy as np

from gdd_keras.config import InputError
from gdd_keras.config import shown
from gdd_keras.data.raw import CHUNK_BYTES
from gdd_keras.data.raw import MAX_PIXELS
from gdd_keras.data.raw import RawData
from gdd_keras.data.raw import RawSplit
from gdd_keras.data.raw import safe_name
from gdd_keras.memory import check_memory

__all__ = ["open_npz"]

_KEYS = {"train": ("images", "labels"), "test": ("test_images", "test_labels")}
# Damaged files make zipfile and NumPy raise whatever they run into.
_DAMAGED = (Exception,)
_MAX_LABEL_BYTES = 2**30


def open_npz(path):
    """Opens an archive; its images are read later, in chunks.

    Images are uint8, or floats in `[0, 1]`, `(n, height, width)` or `(n,
    height, width, 1 or 3)`. Labels are integers or strings `(n,)`; classes are
    their sorted values, unless `class_names` gives the order.

    Args:
        path: The `.npz` file, with `images`, `labels` and, optionally,
            `test_images` with `test_labels`, and `class_names`.

    Returns:
        `RawData`.

    Raises:
        InputError: If the archive or an array in it cannot be used.
    """
    path = pathlib.Path(path).expanduser().resolve()
    try:
        with zipfile.ZipFile(path) as archive:
            keys = {name.removesuffix(".npy") for name in archive.namelist()}
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    has_test = bool(keys & set(_KEYS["test"]))
    wanted = [*_KEYS["train"], *(_KEYS["test"] if has_test else ())]
    missing = [key for key in wanted if key not in keys]
    if missing:
        raise InputError(
            "An .npz data set must hold `images` and `labels`, and both or "
            f"none of `test_images` and `test_labels`. Received: {path} with "
            f"{', '.join(sorted(keys)) or 'nothing'}; `{missing[0]}` is "
            "missing. Save it with `np.savez_compressed`."
        )
    names = ["train", "test"] if has_test else ["train"]
    shapes = {name: _image_shape(path, _KEYS[name][0]) for name in names}
    values = {name: _labels(path, _KEYS[name][1]) for name in names}
    for name in names:
        if len(values[name]) != shapes[name][0]:
            images_key, labels_key = _KEYS[name]
            raise InputError(
                f"`{images_key}` and `{labels_key}` must have equal lengths. "
                f"Received: {shapes[name][0]} and {len(values[name])} in "
                f"{path}. Save one label per image."
            )
    if len({shape[1:] for shape in shapes.values()}) > 1:
        raise InputError(
            "`images` and `test_images` must have the same image shape. "
            f"Received: {shapes['train'][1:]} and {shapes['test'][1:]} in "
            f"{path}. Resize or convert one of them."
        )
    class_values, class_names = _classes(path, keys, values["train"])
    splits = {}
    for name in names:
        labels = _class_indices(path, name, values[name], class_values)
        splits[name] = RawSplit(
            len(labels),
            functools.partial(_read, path, _KEYS[name][0], labels),
        )
    status = path.stat()
    _, height, width, channels = shapes["train"]
    return RawData(
        name=safe_name(path.stem),
        source=f"file {path}",
        identity=f"{path} {status.st_size} {status.st_mtime_ns}",
        image_size=(height, width),
        channels=channels,
        class_names=class_names,
        train=splits["train"],
        test=splits.get("test"),
    )


def _damaged(path, error):
    detail = f"{type(error).__name__}: {error}"
    return InputError(
        f"An .npz data set must be a readable archive. Received: {path}: "
        f"{detail}. Save it again with `np.savez_compressed`."
    )


def _read_header(path, key, file):
    """Returns shape, Fortran order and dtype at the start of an array."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"unknown array format {version} of `{key}`")
    if header[2].hasobject:
        raise InputError(
            f"`{key}` must be a plain array of numbers or strings. Received: "
            f"an array of Python objects in {path}, which needs pickle and "
            "is not read. Convert it with `.astype` before saving."
        )
    return header


def _header(path, key):
    """Returns the header of an array, whose values are not read."""
    try:
        with zipfile.ZipFile(path) as archive, warnings.catch_warnings():
            # NumPy's, on headers that it has to mend.
            warnings.simplefilter("ignore")
            with archive.open(f"{key}.npy") as file:
                header = _read_header(path, key, file)
                stored = archive.getinfo(f"{key}.npy").file_size - file.tell()
    except InputError:
        raise
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    shape, _, dtype = header
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed != stored:
        raise InputError(
            f"`{key}` must have as many values as its shape says. Received: "
            f"shape {shown(shape)} of {dtype}, {claimed:,} bytes, with "
            f"{stored:,} bytes in {path}. Save it again."
        )
    return header


def _whole_array(path, key):
    """Returns an array whose header was checked."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[key]
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _names_or_labels(path, key, kinds, expected):
    """Returns an array `(n,)` of some kinds of NumPy, whole."""
    shape, _, dtype = _header(path, key)
    if len(shape) == 2 and shape[1] == 1:
        # As Keras loads CIFAR-10.
        shape = shape[:1]
    if len(shape) != 1 or dtype.kind not in kinds:
        raise InputError(
            f"{expected} Received: shape {shown(shape)}, dtype {dtype} in "
            f"{path}."
        )
    num_bytes = shape[0] * dtype.itemsize
    if num_bytes > _MAX_LABEL_BYTES:
        raise InputError(
            f"`{key}` must have at most {_MAX_LABEL_BYTES:,} bytes. Received: "
            f"{num_bytes:,} in {path}. Save shorter names, or integers."
        )
    values = _whole_array(path, key).reshape(shape)
    if dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    return values


def _image_shape(path, key):
    """Returns `(n, height, width, channels)` after checking the header."""
    shape, fortran_order, dtype = _header(path, key)
    if dtype != np.uint8 and dtype.kind != "f":
        raise InputError(
            f"`{key}` must be uint8, or floats in [0, 1]. Received: dtype "
            f"{dtype} in {path}. Convert 0..255 with `.astype('uint8')`."
        )
    if len(shape) == 3:
        shape = (*shape, 1)
    if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape:
        raise InputError(
            f"`{key}` must have the shape (n, height, width) or (n, height, "
            f"width, 1 or 3). Received: {shape} in {path}. Put the channels "
            "last, and leave transparency out: `images[..., :3]`."
        )
    if shape[1] * shape[2] > MAX_PIXELS:
        raise InputError(
            f"`{key}` must have images of at most {MAX_PIXELS // 10**6} "
            f"megapixels. Received: {shape[1]}x{shape[2]} in {path}. Shrink "
            "them."
        )
    if fortran_order:
        check_memory(
            math.prod(shape) * dtype.itemsize,
            f"Arrays in Fortran order, such as `{key}` of {path},",
            "Save it with `np.ascontiguousarray`.",
        )
    return shape


def _labels(path, key):
    """Returns labels `(n,)`, integers or strings."""
    return _names_or_labels(
        path,
        key,
        "iuUS",
        f"`{key}` must be integers or strings of shape (n,); one-hot labels "
        "become integers with `.argmax(axis=1)`.",
    )


def _classes(path, keys, labels):
    """Returns the label values in class order, and the class names."""
    found = np.unique(labels)
    if "class_names" not in keys:
        return found, tuple(str(value) for value in found)
    names = _names_or_labels(
        path,
        "class_names",
        "US",
        "`class_names` must be strings of shape (num_classes,), as from "
        "`np.array([...])`.",
    )
    if found.dtype.kind == "U":
        values = names
    elif len(names) > found[-1] and found[0] >= 0:
        values = np.arange(len(names))
    else:
        values = found
    fits = len(values) == len(names) == len(np.unique(names))
    if not fits or not np.isin(found, values).all():
        raise InputError(
            "`class_names` must give each class one name of its own. "
            f"Received: {len(names)} names for the labels "
            f"{_shortened(found)} in {path}. Correct or leave out "
            "`class_names`."
        )
    return values, tuple(str(name) for name in names)


def _class_indices(path, split, labels, class_values):
    """Returns labels as int32 positions in `class_values`."""
    known = np.isin(labels, class_values)
    if not known.all():
        raise InputError(
            "Labels of the test images must also occur in training "
            f"({_shortened(class_values)}). Received: {labels[~known][0]!r} "
            f"in `{_KEYS[split][1]}` of {path}. Relabel or remove such images."
        )
    order = np.argsort(class_values)
    places = np.searchsorted(class_values, labels, sorter=order)
    return order[places].astype(np.int32)


def _shortened(values):
    shown = ", ".join(str(value) for value in values[:10])
    return shown + (", ..." if len(values) > 10 else "")


def _read(path, key, labels, fit):
    """Yields fitted images and labels without holding the whole array."""
    start = 0
    for images in _chunks(path, key):
        if images.dtype != np.uint8:
            images = _bytes_of_floats(path, key, images)
        if images.ndim == 3:
            images = images[..., None]
        yield fit(images), labels[start : start + len(images)]
        start += len(images)


def _chunks(path, key):
    """Yields the rows of an array, a few MB at a time."""
    shape, fortran_order, dtype = _header(path, key)
    if fortran_order:
        # Column-major rows are scattered over the file: read it whole.
        yield _whole_array(path, key)
        return
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    rows_at_once = max(1, CHUNK_BYTES // row_bytes)
    try:
        with zipfile.ZipFile(path) as archive:
            with archive.open(f"{key}.npy") as file:
                _read_header(path, key, file)
                for start in range(0, shape[0], rows_at_once):
                    rows = min(rows_at_once, shape[0] - start)
                    content = file.read(rows * row_bytes)
                    chunk = np.frombuffer(content, dtype)
                    yield chunk.reshape(rows, *shape[1:])
    except InputError:
        raise
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _bytes_of_floats(path, key, images):
    """Returns floats of `[0, 1]` as uint8, rounded."""
    # Also false for NaN.
    if not (images.min() >= 0 and images.max() <= 1):
        raise InputError(
            f"`{key}` of floats must lie in [0, 1] and hold no NaN. Received: "
            f"values from {images.min()} to {images.max()} in {path}. Scale "
            "them, or save uint8."
        )
    return np.rint(images.astype(np.float32) * 255).astype(np.uint8)
