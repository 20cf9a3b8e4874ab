"""What is special about known data sets; the only place that knows it."""

import dataclasses

__all__ = ["Preparation", "preparation_for"]


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How the images of a data set become training images.

    Attributes:
        image_size: Training `(height, width)` unless the config names one;
            `None` keeps the size of the images.
        resize: `resize`, or `pad` with zeros where the training size is not
            below the image size.
        augmentation: `none`, `crop` or `color_crop`.
    """

    image_size: tuple[int, int] | None = None
    resize: str = "resize"
    augmentation: str = "color_crop"


_PREPARATIONS = {
    "digits": Preparation(augmentation="crop"),
    # The paper trains both at 32x32; padding keeps the pixels as they are.
    "mnist": Preparation((32, 32), "pad", "crop"),
    "fashion_mnist": Preparation((32, 32), "pad", "color_crop"),
    "emnist": Preparation(resize="pad", augmentation="crop"),
    "kmnist": Preparation(resize="pad", augmentation="crop"),
    "mnist_corrupted": Preparation(resize="pad", augmentation="crop"),
}


def preparation_for(name):
    """Returns the `Preparation` of `digits` or of a TFDS builder's name."""
    return _PREPARATIONS.get(name, Preparation())
