import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from gdd_keras.callbacks import image_grid
from gdd_keras.config import RunError
from gdd_keras.data import Split
from gdd_keras.monitoring import ImageGrid
from gdd_keras.monitoring import first_images
from gdd_keras.monitoring.images import _font
from gdd_keras.monitoring.images import compare_images


def pictures(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def split_of(labels, shape):
    labels = np.array(labels, np.int32)
    return Split(pictures(len(labels), *shape), labels)


def test_png_and_event(
    tmp_path, tiny_generator, make_trainer, fit, read_events
):
    trainer = make_trainer()
    trainer.deployed_generator = tiny_generator
    writer = tf.summary.create_file_writer(str(tmp_path / "events"))
    split = split_of([0, 1, 2, 2, 0], (6, 10, 3))
    names, real = ("cat", "dog", "bird"), first_images(split, 3)
    grids = ImageGrid(tmp_path / "images", "cgan", writer, names, real, seed=4)
    fit(trainer, [grids], steps=2, epochs=2)
    writer.close()
    grid = image_grid(tiny_generator, 4)
    files = sorted((tmp_path / "images").iterdir())
    assert [file.name for file in files] == ["cgan_001.png", "cgan_002.png"]
    for file in files:
        with Image.open(file) as image:
            np.testing.assert_array_equal(np.asarray(image), grid)
    events = read_events(tmp_path / "events")
    tensors = events.Tensors("images/real_and_generated")
    # The same latents, the same weights: the same picture.
    assert [event.step for event in tensors] == [2, 4]
    shown = []
    for event in tensors:
        *_, png = tf.make_ndarray(event.tensor_proto)
        with Image.open(io.BytesIO(png)) as image:
            shown.append(np.asarray(image))
    np.testing.assert_array_equal(*shown)
    generated = grid.reshape(3, 6, 10, 10, 3).swapaxes(1, 2)
    expected = compare_images(names, real, generated)
    np.testing.assert_array_equal(shown[0], expected)


def test_images_that_are_not_finite(
    tmp_path, tiny_generator, make_trainer, fit
):
    import keras

    trainer = make_trainer()
    trainer.deployed_generator = keras.models.clone_model(tiny_generator)
    trainer.deployed_generator.set_weights(
        [w * np.nan for w in tiny_generator.get_weights()]
    )
    with pytest.raises(RunError, match="Generated images became NaN"):
        real = [pictures(1, 6, 10, 3)] * 3
        fit(trainer, [ImageGrid(tmp_path, "cgan", None, "abc", real)], steps=1)
    assert list(tmp_path.iterdir()) == []


def test_first_images_of_each_class():
    split = split_of([1, 0, 1, 1, 3, 1, 1], (8, 8, 1))
    rows = first_images(split, 4, columns=3)
    for row, indices in zip(rows, ([1], [0, 2, 3], [], [4]), strict=True):
        np.testing.assert_array_equal(row, split.images[indices])
    assert len(first_images(split, 4, max_rows=2)) == 2


@pytest.mark.parametrize(
    ("shape", "tile"),
    [
        # Small images are enlarged by whole factors, large ones shrunk.
        ((8, 8, 1), (48, 48)),
        ((32, 32, 3), (64, 64)),
        ((28, 28, 1), (56, 56)),
        ((100, 60, 3), (100, 60)),
        ((256, 128, 3), (128, 64)),
        ((1024, 8, 1), (128, 1)),
    ],
)
def test_size_of_the_picture(shape, tile):
    height, width = tile
    picture = compare_images(
        ["a", "b", "not shown"],
        [pictures(3, *shape), pictures(2, *shape)],
        [pictures(5, *shape)] * 2,
    )
    assert picture.dtype == np.uint8
    left = name_width("a", "b")
    assert picture.shape == (
        32 + 2 * (height + 2) + 12,
        left + 3 * (width + 2) + 12 + 5 * (width + 2) + 12,
        3,
    )


def name_width(*names):
    """Column of the names with its borders."""
    return 24 + int(max(map(_font().getlength, names)))


def test_pixels_are_where_they_belong():
    real, generated = pictures(3, 2, 8, 8, 3), pictures(3, 4, 8, 8, 3, seed=1)
    picture = compare_images(["a", "b", "c"], real, generated)
    left = name_width("a", "b", "c")
    for start, images in ((left, real), (left + 2 * 50 + 12, generated)):
        columns = images.shape[1]
        part = picture[32 : 32 + 3 * 50, start : start + 50 * columns]
        tiles = part.reshape(3, 50, columns, 50, 3).swapaxes(1, 2)
        # Each pixel is a square of 6 x 6; two white pixels between images.
        enlarged = images.repeat(6, axis=2).repeat(6, axis=3)
        np.testing.assert_array_equal(tiles[:, :, :48, :48], enlarged)
        assert (tiles[:, :, 48:] == 255).all()
        assert (tiles[:, :, :, 48:] == 255).all()
    # Names stand on white before their rows.
    assert (picture[32:, 12 : left - 12] < 128).any()
    assert (picture[32:, left - 11 : left] == 255).all()


def test_names_of_any_length_and_script():
    real = [pictures(1, 8, 8, 1)] * 4
    names = ["a" * 500, "Größe\nund Form", "кошка", ""]
    picture = compare_images(names, real, real)
    width = picture.shape[1] - 2 * 50 - 2 * 12
    assert 24 + 100 < width <= 24 + 140
    assert (picture[32 + 3 * 50 :, :width] == 255).all()
    without = compare_images(["", ""], real[:2], real[:2])
    assert without.shape[1] == 24 + 2 * 50 + 2 * 12


def test_classes_without_images_leave_a_gap():
    real = [np.zeros((0, 8, 8, 1), np.uint8), pictures(2, 8, 8, 1)]
    picture = compare_images("ab", real, [pictures(2, 8, 8, 1)] * 2)
    left = name_width("a", "b")
    assert (picture[32:80, left : left + 96] == 255).all()
    assert not (picture[82:130, left : left + 96] == 255).all()
