"""Generated images, as files and beside real ones in TensorBoard."""

import pathlib

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont

from gdd_keras.callbacks import image_grid
from gdd_keras.callbacks import png_bytes
from gdd_keras.files import write_bytes
from gdd_keras.strategy import scalar

__all__ = ["ImageGrid", "compare_images", "first_images"]

# Sides of a shown image in pixels: small ones are enlarged, large ones shrunk.
_SMALLEST = 48
_LARGEST = 128
_SPACE = 2
_BORDER = 12
_HEADER = 32
_FONT_SIZE = 18
_NAME_WIDTH = 140


class ImageGrid(keras.callbacks.Callback):
    """Shows the moving-average generator after every epoch.

    One row per class, the same latents each time, as a PNG and, beside real
    images, in TensorBoard. Runs before `Checkpoint`; see `image_grid` for
    NaN.

    Args:
        directory: `pathlib.Path` for the PNGs.
        prefix: Start of the file names.
        writer: `tf.summary` writer.
        class_names: Names in the order of the labels.
        real_images: As from `first_images`.
        seed: Integer seed of the latents.
        columns: Generated images per class in the PNG.
    """

    def __init__(
        self,
        directory,
        prefix,
        writer,
        class_names,
        real_images,
        seed=0,
        columns=10,
    ):
        super().__init__()
        self.directory = directory
        self.prefix = prefix
        self.writer = writer
        self.class_names = class_names
        self.real_images = real_images
        self.seed = seed
        self.columns = columns

    def on_epoch_end(self, epoch, logs=None):
        grid = image_grid(
            self.model.deployed_generator,
            self.seed,
            self.columns,
            len(self.real_images),
        )
        name = f"{self.prefix}_{epoch + 1:03d}.png"
        write_bytes(self.directory / name, png_bytes(grid))
        height, width, channels = self.real_images[0].shape[1:]
        rows = grid.reshape(-1, height, self.columns, width, channels)
        rows = rows.swapaxes(1, 2)
        picture = compare_images(self.class_names, self.real_images, rows)
        with self.writer.as_default(step=scalar(self.model.step)):
            tf.summary.image("images/real_and_generated", picture[None])
        self.writer.flush()


def first_images(split, num_classes, columns=4, max_rows=20):
    """Returns the first real images of each class.

    Args:
        split: `Split`.
        num_classes: Number of classes.
        columns: Images per class; fewer where there are no more.
        max_rows: Classes at most.

    Returns:
        List of uint8 arrays `(n, height, width, channels)`, `n <= columns`.
    """
    rows = []
    for label in range(min(num_classes, max_rows)):
        indices = np.flatnonzero(split.labels == label)[:columns]
        rows.append(np.asarray(split.images[indices]))
    return rows


def compare_images(class_names, real_images, generated_images):
    """Draws a row per class: its name, real images, generated images.

    Args:
        class_names: Names in the order of the labels; those beyond the rows
            are left out.
        real_images: Sequence of uint8 arrays `(n, height, width, channels)`,
            one per row, with 1 or 3 channels.
        generated_images: Likewise, as many rows.

    Returns:
        uint8 `(rows, columns, 3)`.
    """
    font = _font()
    names = [_fitted(name, font) for name in class_names[: len(real_images)]]
    left = _BORDER + int(max(map(font.getlength, names))) + _BORDER
    size = _tile_size(*real_images[0].shape[2:0:-1])
    across, down = size[0] + _SPACE, size[1] + _SPACE
    # Where both blocks begin, and the right edge.
    middle = left + max(map(len, real_images)) * across + _BORDER
    right = middle + max(map(len, generated_images)) * across + _BORDER
    bottom = _HEADER + len(names) * down + _BORDER
    picture = Image.new("RGB", (right, bottom), "white")
    draw = ImageDraw.Draw(picture)
    for x, title in ((left, "real"), (middle, "generated")):
        draw.text((x, _HEADER / 2), title, "black", font, anchor="lm")
    for row, name in enumerate(names):
        y = _HEADER + row * down
        position = (left - _BORDER, y + size[1] / 2)
        draw.text(position, name, "black", font, anchor="rm")
        for x, images in ((left, real_images), (middle, generated_images)):
            for column, pixels in enumerate(images[row]):
                picture.paste(_tile(pixels, size), (x + column * across, y))
    return np.asarray(picture)


def _tile_size(width, height):
    """Returns width and height at which an image is shown."""
    scale = max(1, round(_SMALLEST / max(width, height)))
    scale = min(scale, _LARGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _tile(pixels, size):
    """Returns one image at its size; enlarged pixels keep their edges."""
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    image = Image.fromarray(pixels).convert("RGB")
    enlarged = size[0] >= image.width
    method = Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX
    return image.resize(size, method)


def _font():
    # Not above: it takes half a second, and only its folder is wanted.
    import matplotlib

    # It has the letters of more languages than Pillow's own.
    folder = pathlib.Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / "DejaVuSans.ttf", _FONT_SIZE)


def _fitted(name, font):
    """Shortens a name to its column; one line."""
    name = shown = " ".join(str(name).split())
    while font.getlength(shown) > _NAME_WIDTH:
        name = name[:-1]
        shown = name + "…"
    return shown
