"""Keeps the process within the memory that there is.

What would fill it is refused before anything is allocated: Linux grants memory
that it does not have and kills the process that uses it, so that there is no
error to wait for.
"""

import contextlib
import ctypes
import math
import pathlib

import psutil

from gdd_keras.config import InputError

__all__ = [
    "check_memory",
    "check_stored_set",
    "release_free_memory",
    "total_memory",
]

# What a container may use; absent outside of one, `max` without a limit.
_CONTAINER_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)


def total_memory():
    """Returns the bytes of memory that this process can have at most."""
    limits = [psutil.virtual_memory().total]
    for name in _CONTAINER_LIMITS:
        try:
            limits.append(int(pathlib.Path(name).read_text()))
        except (OSError, ValueError):
            pass
    return min(limits)


def release_free_memory():
    """Gives the system back what the C library keeps although it is free.

    glibc keeps pages that lie between blocks in use, and every network that
    is put in the place of another leaves more of them. Under other C
    libraries nothing happens.
    """
    # Windows has no library without a name, macOS no such function.
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def check_memory(num_bytes, what, advice):
    """Refuses what cannot fit, whatever else runs here.

    Args:
        num_bytes: Bytes that are needed at least.
        what: What needs them, in the plural, with the settings that count.
        advice: Sentence that says what to change.

    Raises:
        InputError: If this machine has less memory.
    """
    total = total_memory()
    if num_bytes > total:
        raise InputError(
            f"{what} must fit into the memory, {total / 2**30:,.1f} GB here. "
            f"Received: {num_bytes / 2**30:,.1f} GB or more. {advice}"
        )


def check_stored_set(ipc, image_shape, num_classes):
    """Refuses a distilled set that cannot fit into the memory.

    Args:
        ipc: Images per class.
        image_shape: `(height, width, channels)`, of bytes.
        num_classes: Number of classes.

    Raises:
        InputError: If it cannot.
    """
    check_memory(
        ipc * num_classes * math.prod(image_shape),
        f"The images of a stored set (ipc={ipc} of {num_classes} classes)",
        "Lower `--ipc`.",
    )
