"""Images to the training size: once, when the data is read."""

import numpy as np
from PIL import Image

__all__ = ["fit_images"]


def fit_images(images, size, method="resize"):
    """Brings images to one size.

    Args:
        images: uint8 `(n, height, width, channels)` with 1 or 3 channels.
        size: Target `(height, width)`.
        method: `resize` (bilinear, antialiased when it shrinks, aspect ratio
            not kept), or `pad` (centred in zeros where both sides grow by
            less than half, as from 28 to 32; else like `resize`).

    Returns:
        uint8 `(n, *size, channels)`.
    """
    size = tuple(size)
    spare = [
        new - old for new, old in zip(size, images.shape[1:3], strict=True)
    ]
    if spare == [0, 0]:
        return images
    grows_little = all(
        0 <= 2 * extra < old
        for extra, old in zip(spare, images.shape[1:3], strict=True)
    )
    if method == "pad" and grows_little:
        margins = [(extra // 2, extra - extra // 2) for extra in spare]
        return np.pad(images, [(0, 0), *margins, (0, 0)])
    resized = np.empty((len(images), *size, images.shape[3]), np.uint8)
    for index, image in enumerate(images):
        # Pillow wants one-channel images without the channel axis.
        flat = image[..., 0] if image.shape[-1] == 1 else image
        picture = Image.fromarray(np.ascontiguousarray(flat))
        # Pillow's filter widens when it shrinks: this is the antialiasing.
        picture = picture.resize(size[::-1], Image.Resampling.BILINEAR)
        resized[index] = np.asarray(picture).reshape(resized.shape[1:])
    return resized
