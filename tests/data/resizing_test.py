import numpy as np
import pytest

from gdd_keras.data.resizing import fit_images


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_same_size_is_untouched():
    images = random_images(2, 8, 9, 3)
    assert fit_images(images, (8, 9)) is images


def test_padding_centres_in_zeros():
    images = random_images(2, 28, 27, 1)
    padded = fit_images(images, (32, 32), "pad")
    np.testing.assert_array_equal(padded[:, 2:30, 2:29], images)
    assert padded.sum() == images.sum()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(8, 12), (40, 33)])
def test_resizing_keeps_constants_and_channels(size, channels):
    images = np.full((2, 16, 20, channels), 7, np.uint8)
    images[1] = np.arange(channels) * 50
    resized = fit_images(images, size)
    assert resized.shape == (2, *size, channels)
    assert resized.dtype == np.uint8
    np.testing.assert_array_equal(resized[:, 0, 0], images[:, 0, 0])
    np.testing.assert_array_equal(resized[:, -1, -1], images[:, 0, 0])


def test_shrinking_is_antialiased():
    # One-pixel stripes average to grey; plain sampling would keep stripes.
    stripes = np.zeros((1, 32, 32, 1), np.uint8)
    stripes[:, :, ::2] = 254
    inner = fit_images(stripes, (8, 8))[0, 1:-1, 1:-1]
    assert abs(inner.astype(int) - 127).max() <= 8


def test_padding_to_a_much_larger_size_enlarges():
    white = np.full((1, 28, 28, 1), 255, np.uint8)
    assert fit_images(white, (41, 41), "pad").mean() < 255
    assert fit_images(white, (64, 64), "pad").min() == 255


def test_padding_to_a_smaller_size_shrinks():
    assert fit_images(random_images(1, 28, 28, 1), (16, 32), "pad").shape == (
        1,
        16,
        32,
        1,
    )
