"""Folders of images, one folder per class."""

import collections
import concurrent.futures
import contextlib
import functools
import os
import pathlib
import stat
import warnings

import numpy as np
from PIL import Image
from PIL import ImageOps

from gdd_keras.config import InputError
from gdd_keras.data.raw import MAX_PIXELS
from gdd_keras.data.raw import RawData
from gdd_keras.data.raw import RawSplit
from gdd_keras.data.raw import files_identity
from gdd_keras.data.raw import safe_name
from gdd_keras.machine import usable_cores

__all__ = ["open_image_folder"]

_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp")
# Images that are not read, but must not be missed either.
_OTHER_SUFFIXES = (
    *(".avif", ".heic", ".heif", ".jp2", ".jxl", ".npy", ".pbm", ".pgm"),
    *(".ppm", ".svg", ".tga", ".tif", ".tiff"),
)
# The part to score on, the first that is there, as in sets of TFDS.
_TEST_FOLDERS = ("test", "validation", "valid", "val")
# What Pillow decodes by itself: for some others it starts a program.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
_FILES_PER_CHUNK = 256
# Each has a photograph of full size in memory.
_MOST_THREADS = 8
# EXIF's tag; above 4 the sides are swapped.
_ORIENTATION = 0x0112


def open_image_folder(path):
    """Opens `train/<class>/*` with an optional `test/`, or `<class>/*`.

    Without `test/`, `validation/`, `valid/` or `val/` is the test part.

    Classes are the folder names in sorted order. Reads the header of every
    file, decodes none. Transparent pixels become white, and photographs stand
    as their camera was held.

    Args:
        path: The folder.

    Returns:
        `RawData`; its image size is that of most training images, or `None`.

    Raises:
        InputError: If the folder does not hold images of two or more classes,
            all with the same number of channels.
    """
    path = pathlib.Path(path).expanduser().resolve()
    train_folder = path / "train"
    tests = [name for name in _TEST_FOLDERS if (path / name).is_dir()]
    if not train_folder.is_dir():
        if "test" in tests:
            raise InputError(
                "An image folder must hold train/<class>/ beside its test/. "
                f"Received: {path}, without train/. Add the training images."
            )
        train_folder = path
    _check_inside(train_folder, path)
    files = _files_by_class(train_folder, path)
    if len(files) < 2:
        raise InputError(
            "An image folder must hold one folder of images per class, two "
            f"or more. Received: {train_folder} with "
            f"{len(files) or 'no'} such folder. Sort the images into "
            "train/<class>/."
        )
    class_names = tuple(files)
    splits = {"train": files}
    if train_folder != path and tests:
        folder = path / tests[0]
        _check_inside(folder, path)
        splits["test"] = _test_files(folder, class_names, path)
    listed = {
        name: [
            (file, class_names.index(label))
            for label, members in by_class.items()
            for file in members
        ]
        for name, by_class in splits.items()
    }
    every_file = [file for rows in listed.values() for file, _ in rows]
    sizes, channels = _headers(every_file)
    train_sizes = sizes[: len(listed["train"])]
    size, count = collections.Counter(train_sizes).most_common(1)[0]
    raw_splits = {
        name: RawSplit(len(rows), functools.partial(_read, rows, channels))
        for name, rows in listed.items()
    }
    return RawData(
        name=safe_name(path.name),
        source=f"folder {path}",
        identity=files_identity(path, every_file),
        # Of photographs of many sizes none is the one to squash all to.
        image_size=size if 2 * count > len(train_sizes) else None,
        channels=channels,
        class_names=class_names,
        train=raw_splits["train"],
        test=raw_splits.get("test"),
    )


def _files_by_class(folder, root):
    """Returns a dict from class name to its image files, both sorted."""
    files = {}
    for entry in _entries(folder):
        if not entry.is_dir():
            continue
        _check_inside(entry, root)
        files[entry.name] = []
        for file in _entries(entry):
            suffix = file.suffix.lower()
            if file.is_dir() and _holds_images(file):
                raise InputError(
                    "Images must lie in the folder of their class itself. "
                    f"Received: {file}, a folder of images in it. Move them "
                    "up, or the folder away."
                )
            if suffix in _OTHER_SUFFIXES:
                raise InputError(
                    f"Images must be files of {', '.join(_SUFFIXES)}. "
                    f"Received: {file}. Convert or remove it."
                )
            if suffix in _SUFFIXES:
                _check_file(file, root)
                files[entry.name].append(file)
        if not files[entry.name]:
            raise InputError(
                "A class folder must hold images "
                f"({', '.join(_SUFFIXES)}). Received: {entry}, without any. "
                "Add images or remove the folder."
            )
    return files


def _holds_images(folder):
    return any(file.suffix.lower() in _SUFFIXES for file in _entries(folder))


def _entries(folder):
    """Returns what is in a folder and not hidden, sorted."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error.strerror) from error
    return [entry for entry in entries if not entry.name.startswith(".")]


def _check_inside(path, root):
    """Refuses a link that leaves the folder.

    A folder from elsewhere must not decide what else of this machine is read
    and shows in the generated images.
    """
    target = os.path.realpath(path)
    if not pathlib.Path(target).is_relative_to(root):
        raise InputError(
            f"Links of an image folder must stay inside it. Received: {path}, "
            f"a link to {target}. Copy the images, or remove the link."
        )


def _check_file(file, root):
    """Refuses an image that is no plain file, which could block for ever."""
    _check_inside(file, root)
    try:
        mode = os.stat(file).st_mode
    except OSError as error:
        raise _unreadable(file, error.strerror) from error
    if not stat.S_ISREG(mode):
        raise _unreadable(file, "no plain file")


def _test_files(folder, class_names, root):
    """Returns the files of the test part, whose classes must be known."""
    files = _files_by_class(folder, root)
    unknown = [name for name in files if name not in class_names]
    if unknown:
        raise InputError(
            f"Classes of {folder.name}/ must also be in train/ "
            f"({', '.join(class_names[:10])}). Received: "
            f"{folder.name}/{unknown[0]}. Rename or remove it."
        )
    if not files:
        raise InputError(
            f"{folder.name}/ must hold {folder.name}/<class>/ folders. "
            f"Received: {folder}, without any. Add them or remove it."
        )
    return files


def _headers(files):
    """Returns the `(height, width)` of each and the one channel count."""
    sizes = []
    first_with = {}
    with _quiet_pillow():
        for file in files:
            with _opened(file) as image:
                sizes.append(_upright_size(image))
                channels = 1 if image.mode in _GREY_MODES else 3
            first_with.setdefault(channels, file)
    if len(first_with) > 1:
        raise InputError(
            "All images must have the same number of channels. Received: "
            f"grey {first_with[1]} and colour {first_with[3]}. Convert one "
            "kind to the other."
        )
    return sizes, next(iter(first_with))


def _upright_size(image):
    """Returns `(height, width)` as `_decode` gives them."""
    width, height = image.size
    # To ask a PNG would decode it; a camera writes JPEG.
    if image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) > 4:
        return width, height
    return height, width


@contextlib.contextmanager
def _quiet_pillow():
    """Silences warnings of odd metadata and of sizes; not for threads.

    The pixels are what counts, and our own limit of size is stricter.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _opened(file):
    """Opens an image, its header only, and refuses absurd sizes."""
    try:
        image = Image.open(file, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(file, str(error)) from error
    # Damaged files make Pillow raise whatever its parsers run into.
    except Exception as error:
        raise _unreadable(file, error) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise _too_large(file, f"{height}x{width} pixels")
    return image


def _too_large(file, what):
    return InputError(
        f"Images must have at most {MAX_PIXELS // 10**6} megapixels. "
        f"Received: {file}: {what}. Shrink or remove it."
    )


def _unreadable(file, error):
    return InputError(
        f"Images must be readable. Received: {file}: {error}. Replace or "
        "remove it."
    )


def _read(rows, channels, fit):
    """Yields fitted images and labels; decodes in as many threads as cores."""

    def decode(row):
        # Fitted here, so that only small images wait in memory.
        return fit(_decode(row[0], channels)[None])[0]

    workers = min(usable_cores(), _MOST_THREADS)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(rows), _FILES_PER_CHUNK):
            chunk = rows[start : start + _FILES_PER_CHUNK]
            with _quiet_pillow():
                images = np.stack(list(pool.map(decode, chunk)))
            yield images, np.array([label for _, label in chunk], np.int32)


def _decode(file, channels):
    """Returns uint8 `(height, width, channels)`, upright, on white."""
    with _opened(file) as image:
        try:
            if image.format == "JPEG":
                image = ImageOps.exif_transpose(image)
            if image.has_transparency_data and image.mode[0] != "I":
                # A drawing may be all black, and its shape in alpha alone.
                image = image.convert("RGBA")
                white = Image.new("RGBA", image.size, "white")
                image = Image.alpha_composite(white, image)
            if image.mode.startswith("I"):
                # Sixteen bits: Pillow's own conversion would clip them.
                levels = np.asarray(image).astype(np.float64) / 257
                pixels = np.rint(levels.clip(0, 255)).astype(np.uint8)
            else:
                mode = "L" if channels == 1 else "RGB"
                pixels = np.asarray(image.convert(mode))
        except Exception as error:
            raise _unreadable(file, error) from error
    return pixels.reshape(*pixels.shape[:2], channels)
