"""Reads a source once, into memory or into a cache file on disk."""

import dataclasses
import errno
import functools
import hashlib
import json
import math
import pathlib
import shutil

import numpy as np

from gdd_keras.config import InputError
from gdd_keras.data.resizing import fit_images
from gdd_keras.files import nearest_existing
from gdd_keras.files import new_directory
from gdd_keras.files import write_json

__all__ = ["StoredImages", "store_images"]

# Part of the cache's key: raise it when the pixels written would change.
_CACHE_FORMAT = 2
_METADATA = "metadata.json"


@dataclasses.dataclass(frozen=True, eq=False)
class StoredImages:
    """All images of a source at training size.

    Attributes:
        images: Dict from split name to uint8 `(n, height, width, channels)`,
            in memory or an `np.memmap`.
        labels: Dict from split name to int32 `(n,)`.
        fingerprint: Hex digest of pixels, labels and class names.
        on_disk: Whether `images` are memory-mapped.
    """

    images: dict
    labels: dict
    fingerprint: str
    on_disk: bool


def store_images(raw, size, memory_limit_mb, cache_dir):
    """Decodes every image to its training size, once.

    Args:
        raw: `RawData`.
        size: Training `(height, width)`.
        memory_limit_mb: Above this many MB (2**20 bytes) of pixels, the
            images go to a file, which later calls find again.
        cache_dir: Folder of such files.

    Returns:
        `StoredImages`.

    Raises:
        InputError: If an image or label cannot be used, or if the cache
            cannot be written or read.
    """
    shape = (*size, raw.channels)
    count = sum(split.num_images for split in raw.splits.values())
    if count * math.prod(shape) <= memory_limit_mb * 2**20:
        return _read_to_memory(raw, shape)
    key = json.dumps([_CACHE_FORMAT, raw.identity, raw.preparation.resize])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    folder = pathlib.Path(cache_dir).expanduser()
    folder /= f"{raw.name}-{size[0]}x{size[1]}-{digest}"
    if not folder.exists():
        _check_space(raw, count * math.prod(shape), folder)
        _write_cache(raw, shape, folder)
    return _open_cache(folder)


def _read_to_memory(raw, shape):
    """Returns `StoredImages` of plain arrays."""
    digest = hashlib.sha256()
    images, labels = {}, {}
    for name, split in raw.splits.items():
        images[name] = np.empty((split.num_images, *shape), np.uint8)
        filled = 0
        parts = []
        for chunk, chunk_labels in _chunks(raw, name, shape, digest):
            images[name][filled : filled + len(chunk)] = chunk
            filled += len(chunk)
            parts.append(chunk_labels)
        labels[name] = np.concatenate(parts)
    return StoredImages(
        images, labels, _fingerprint(digest, labels, raw.class_names), False
    )


def _check_space(raw, num_bytes, folder):
    """Refuses a cache that the disk cannot hold, before hours of writing.

    A small compressed file can hold more zeros than any disk.
    """
    free = shutil.disk_usage(nearest_existing(folder)).free
    if num_bytes > free:
        raise InputError(
            f"The cache of {raw.source} must fit on the disk of {folder}, "
            f"{free / 2**30:,.1f} GB free. Received: "
            f"{num_bytes / 2**30:,.1f} GB of pixels. Free some space, choose "
            "another folder with `--cache-dir`, or make the images smaller "
            "with `--image-size`."
        )


def _write_cache(raw, shape, folder):
    """Writes the images of all splits, then renames the folder in place."""
    digest = hashlib.sha256()
    labels = {}
    try:
        with new_directory(folder) as temporary:
            for name, split in raw.splits.items():
                # Plain writes: on a full disk a memory map kills the process.
                with open(temporary / f"{name}_images.npy", "wb") as file:
                    header = {
                        "descr": "|u1",
                        "fortran_order": False,
                        "shape": (split.num_images, *shape),
                    }
                    np.lib.format.write_array_header_1_0(file, header)
                    parts = []
                    for chunk, part in _chunks(raw, name, shape, digest):
                        file.write(np.ascontiguousarray(chunk).data)
                        parts.append(part)
                labels[name] = np.concatenate(parts)
                np.save(temporary / f"{name}_labels.npy", labels[name])
            metadata = {
                "source": raw.source,
                "splits": list(labels),
                "fingerprint": _fingerprint(digest, labels, raw.class_names),
            }
            write_json(temporary / _METADATA, metadata)
    except OSError as error:
        # Another process may have finished the same cache meanwhile.
        taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
        if not (taken and (folder / _METADATA).exists()):
            raise InputError(
                f"The cache of {raw.source} must be writable. Received: "
                f"{folder}: {error}. Free some space, choose another folder "
                "with `--cache-dir`, or raise `--memory-limit-mb`."
            ) from error


def _open_cache(folder):
    """Returns `StoredImages` that are read from disk as needed."""
    try:
        metadata = json.loads((folder / _METADATA).read_text())
        images = {
            name: np.load(folder / f"{name}_images.npy", mmap_mode="r")
            for name in metadata["splits"]
        }
        labels = {
            name: np.load(folder / f"{name}_labels.npy")
            for name in metadata["splits"]
        }
        return StoredImages(images, labels, metadata["fingerprint"], True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"The image cache must be complete. Received: {folder}: {error}. "
            "Remove this folder; it is written again."
        ) from error


def _chunks(raw, name, shape, digest):
    """Yields the chunks of a split, checked, and feeds them to the digest."""
    split = raw.splits[name]
    fit = functools.partial(
        fit_images, size=shape[:2], method=raw.preparation.resize
    )
    digest.update(f"{name} {(split.num_images, *shape)}".encode())
    count = 0
    for images, labels in split.read(fit):
        labels = np.asarray(labels)
        outside = (labels < 0) | (labels >= len(raw.class_names))
        if outside.any():
            raise InputError(
                f"Labels of {raw.source}, split `{name}`, must lie in 0.."
                f"{len(raw.class_names) - 1}. Received: "
                f"{labels[outside][0]}. Relabel or remove such images."
            )
        digest.update(np.ascontiguousarray(images).data)
        count += len(images)
        if count > split.num_images:
            break
        yield images, labels.astype(np.int32)
    if count != split.num_images:
        raise InputError(
            f"Split `{name}` of {raw.source} must hold {split.num_images} "
            f"images. Received: {'more' if count > split.num_images else count}"
            ". The data is damaged or was changed meanwhile: prepare it again."
        )


def _fingerprint(digest, labels, class_names):
    """Returns the digest of pixels, completed by labels and class names."""
    for name, values in labels.items():
        digest.update(name.encode() + values.astype("<i4").tobytes())
    digest.update(json.dumps(list(class_names)).encode())
    return digest.hexdigest()[:16]
