import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.data.augmentation import augment

SEED = tf.constant([3, 4])
STRATEGIES = ("crop", "color_crop")


def pictures(batch=40, shape=(16, 9, 3), seed=0):
    values = np.random.default_rng(seed).uniform(-1, 1, (batch, *shape))
    return values.astype("float32")


def shifted(image, rows, columns):
    """Moves an image by whole pixels, repeating the edge."""
    height, width = image.shape[:2]
    row_sources = np.clip(np.arange(height) + rows, 0, height - 1)
    column_sources = np.clip(np.arange(width) + columns, 0, width - 1)
    return image[row_sources][:, column_sources]


def all_shifts(shape):
    limits = [round(side * 0.125) for side in shape[:2]]
    return [
        (rows, columns)
        for rows in range(-limits[0], limits[0] + 1)
        for columns in range(-limits[1], limits[1] + 1)
    ]


@pytest.mark.parametrize("shape", [(16, 9, 3), (8, 32, 1)])
def test_crop_equals_a_numpy_shift(shape):
    images = pictures(200, shape)
    augmented = augment(images, "crop", SEED).numpy()
    seen = set()
    for before, after in zip(images, augmented, strict=True):
        matching = [
            shift
            for shift in all_shifts(shape)
            if np.array_equal(shifted(before, *shift), after)
        ]
        assert len(matching) == 1
        seen.update(matching)
    # 200 draws of at most 27 shifts, with a fixed seed, see each of them.
    assert seen == set(all_shifts(shape))


def test_edges_repeat():
    # Half black, half white: a shift can show nothing else.
    images = np.ones((50, 8, 8, 1), "float32")
    images[:, :, :4] = -1.0
    augmented = augment(images, "crop", SEED).numpy()
    assert set(np.unique(augmented)) == {-1.0, 1.0}
    assert (augmented[:, :, 0] == -1.0).all()
    assert (augmented[:, :, -1] == 1.0).all()
    assert (augmented != images).any()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_seed_same_draw_for_another_batch(strategy):
    first, second = pictures(seed=0), pictures(seed=1)
    # Both transformations are affine maps of each image, so that equal draws
    # commute with the mean of two batches.
    middle = augment((first + second) / 2, strategy, SEED)
    np.testing.assert_allclose(
        (augment(first, strategy, SEED) + augment(second, strategy, SEED)) / 2,
        middle,
        atol=1e-6,
    )
    other = augment((first + second) / 2, strategy, SEED + [1, 0])
    assert np.abs(other - middle).max() > 0.1


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_graph_equals_eager_and_shape_is_static(strategy):
    images = pictures(4)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 16, 9, 3)),
            tf.TensorSpec(2, "int32"),
        ]
    )
    def in_graph(images, seed):
        augmented = augment(images, strategy, seed)
        assert augmented.shape.as_list() == [None, 16, 9, 3]
        return augmented

    np.testing.assert_allclose(
        in_graph(images, SEED), augment(images, strategy, SEED), atol=1e-6
    )


@pytest.mark.parametrize("shape", [(8, 8, 1), (8, 8, 3)])
def test_color_is_brightness_saturation_and_contrast(shape):
    # Constant over the image, so that shifts cannot be seen.
    colors = pictures(100, (1, 1, shape[-1]))
    images = np.broadcast_to(colors, (100, *shape)).copy()
    augmented = augment(images, "color_crop", SEED).numpy()
    np.testing.assert_allclose(
        augmented,
        np.broadcast_to(augmented[:, :1, :1], images.shape),
        atol=1e-6,
    )
    before, after = colors[:, 0, 0], augmented[:, 0, 0]
    # On one colour, contrast keeps the mean of the channels, as saturation
    # does; what is left is brightness.
    moved = after.mean(-1) - before.mean(-1)
    assert np.abs(moved).max() <= 0.25 + 1e-6
    assert np.abs(moved).max() > 0.2
    assert np.std(moved) == pytest.approx(0.5 / np.sqrt(12), rel=0.2)
    if shape[-1] == 3:
        grey = before - before.mean(-1, keepdims=True)
        scaled = after - after.mean(-1, keepdims=True)
        factors = (grey * scaled).sum(-1) / (grey**2).sum(-1)
        np.testing.assert_allclose(scaled, factors[:, None] * grey, atol=1e-5)
        # Saturation in [0, 2] times contrast in [0.5, 1.5].
        assert factors.min() >= 0.0
        assert factors.max() <= 3.0


def test_contrast_scales_around_the_mean():
    # Columns repeat, so that horizontal shifts change nothing; grey, so that
    # saturation does not either.
    rows = pictures(100, (8, 1, 1))
    images = np.broadcast_to(rows, (100, 8, 8, 1)).copy()
    augmented = augment(images, "color_crop", SEED).numpy()
    ratios = []
    for before, after in zip(images, augmented, strict=True):
        fits = []
        for shift in (-1, 0, 1):
            moved = shifted(before, shift, 0)
            scale = np.ptp(after) / np.ptp(moved)
            offset = (after - scale * moved).reshape(-1)
            if np.ptp(offset) < 1e-5:
                fits.append(scale)
        assert fits
        ratios.append(fits[0])
    assert min(ratios) >= 0.5 - 1e-4
    assert max(ratios) <= 1.5 + 1e-4
    assert np.std(ratios) == pytest.approx(1 / np.sqrt(12), rel=0.2)


@pytest.mark.parametrize("strategy", ["none", *STRATEGIES])
def test_gradient_reaches_every_image(strategy):
    images = tf.constant(pictures(5))
    weights = pictures(5, seed=1)

    def weighted(images):
        return tf.reduce_sum(weights * augment(images, strategy, SEED))

    with tf.GradientTape() as tape:
        tape.watch(images)
        value = weighted(images)
    gradient = tape.gradient(value, images)
    assert (np.abs(gradient).max(axis=(1, 2, 3)) > 0.01).all()
    # Affine in the images: a finite difference is exact but for rounding.
    direction = pictures(5, seed=2)
    np.testing.assert_allclose(
        weighted(images + direction) - value,
        tf.reduce_sum(gradient * direction),
        rtol=1e-3,
    )


def test_none_changes_nothing():
    images = tf.constant(pictures(3))
    assert augment(images, "none", SEED) is images


def test_unknown_strategy():
    with pytest.raises(
        ValueError,
        match="`strategy` must be none, crop or color_crop. Received: "
        "strategy=flip.",
    ):
        augment(pictures(2), "flip", SEED)
