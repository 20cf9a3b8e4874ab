"""Which selections there are, and how many images each may give."""

from gdd_keras.config import InputError
from gdd_keras.memory import check_memory

__all__ = [
    "CLASSES_AT_ONCE",
    "IMAGES_PER_CLASS",
    "MAX_CONDENSED",
    "MAX_TYPICAL",
    "REAL_SELECTIONS",
    "SELECTIONS",
    "check_condensing",
    "check_distribution_matching",
    "check_size",
]

# What any export gives, and what needs real images, too.
SELECTIONS = ("random", "typical", "condensed")
REAL_SELECTIONS = ("herding", "k_center")
# Images per class that `typical_images` chooses at most: of more, choosing
# takes long.
MAX_TYPICAL = 500
# And that `condensed_images` makes: of more, a step takes much memory.
MAX_CONDENSED = 100
# Images that a step of distribution matching stands for. The publication takes
# 256; the cost of a step is theirs, and a CPU has few steps.
IMAGES_PER_CLASS = 64
# Of `condensed_images`. Classes touch each other by what cutouts are filled
# with alone: more at once would only take memory.
CLASSES_AT_ONCE = 10

# Maps of ConvNet3's first block, float32, that are in memory at once: of
# images that are only looked at, and of those that get a gradient.
_LOOKED_AT_MAPS = 3
_MOVED_MAPS = 8
_MAP_WIDTH = 128


def check_size(selection, ipc):
    """Refuses more images than a selection is of use for.

    Args:
        selection: `typical`, `condensed`, or any other, which has no limit.
        ipc: Images per class.

    Raises:
        InputError: If they are more than `MAX_TYPICAL` or `MAX_CONDENSED`.
    """
    most = {"typical": MAX_TYPICAL, "condensed": MAX_CONDENSED}.get(selection)
    if most is not None and ipc > most:
        raise InputError(
            f"`--selection {selection}` gives up to {most} images per class. "
            f"Received: ipc={ipc}. Lower it, or choose random ones."
        )


def check_condensing(ipc, image_shape, num_classes):
    """Refuses condensed images that a step has no memory for.

    Args:
        ipc: Images per class.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes.

    Raises:
        InputError: If this machine has less memory.
    """
    _check_matching(
        ipc,
        image_shape,
        min(num_classes, CLASSES_AT_ONCE),
        "condensed images",
        "choose `--selection typical`",
    )


def check_distribution_matching(ipc, image_shape, num_classes):
    """Refuses the baseline `dm`, as `check_condensing` does.

    It moves images of all classes at once.
    """
    _check_matching(
        ipc,
        image_shape,
        num_classes,
        f"the baseline `dm` of {num_classes} classes",
        "leave `dm` out",
    )


def _check_matching(ipc, image_shape, num_classes, what, other):
    """Refuses steps of distribution matching that there is no memory for."""
    height, width, _ = image_shape
    maps = _LOOKED_AT_MAPS * IMAGES_PER_CLASS + _MOVED_MAPS * ipc
    check_memory(
        4 * num_classes * maps * height * width * _MAP_WIDTH,
        f"A step of {what} (ipc={ipc} of {height} x {width} pixels)",
        f"Lower `--ipc`, or {other}.",
    )
