import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.data import augmentation
from gdd_keras.data.augmentation import augment
from gdd_keras.data.augmentation import siamese_strategy

SEED = tf.constant([3, 4])
STRATEGIES = ("crop", "color_crop")
SIAMESE = ("dsa", "dsa_digits")
OPERATIONS = ("_color", "_shift", "_cutout", "_flip", "_scale", "_rotate")


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


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_of_a_batch_get_its_draws(strategy):
    images = pictures(9)
    rows = [7, 2, 3]
    part = augment(images[rows], strategy, SEED, rows=(9, rows)).numpy()
    whole = augment(images, strategy, SEED).numpy()
    np.testing.assert_array_equal(part, whole[rows])
    assert (part != augment(images[rows], strategy, SEED).numpy()).any()


def test_edges_repeat():
    # Half black, half white: a shift can show nothing else.
    images = np.ones((50, 8, 8, 1), "float32")
    images[:, :, :4] = -1.0
    augmented = augment(images, "crop", SEED).numpy()
    assert set(np.unique(augmented)) == {-1.0, 1.0}
    assert (augmented[:, :, 0] == -1.0).all()
    assert (augmented[:, :, -1] == 1.0).all()
    assert (augmented != images).any()


@pytest.mark.parametrize("strategy", STRATEGIES + SIAMESE)
def test_same_seed_same_draw_for_another_batch(strategy):
    first, second = pictures(seed=0), pictures(seed=1)
    # All transformations are affine maps of the batch, so that equal draws
    # commute with the mean of two batches.
    middle = augment((first + second) / 2, strategy, SEED)
    np.testing.assert_allclose(
        (augment(first, strategy, SEED) + augment(second, strategy, SEED)) / 2,
        middle,
        atol=1e-6,
    )
    other = augment((first + second) / 2, strategy, SEED + [1, 0])
    assert np.abs(other - middle).max() > 0.1


@pytest.mark.parametrize("strategy", STRATEGIES + SIAMESE)
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
        match="`strategy` must be none, crop, color_crop, dsa or dsa_digits. "
        "Received: strategy=flip.",
    ):
        augment(pictures(2), "flip", SEED)


@pytest.mark.parametrize(
    ("data", "expected"),
    [("color_crop", "dsa"), ("crop", "dsa_digits"), ("none", "none")],
)
def test_siamese_strategy_of_the_data(data, expected):
    assert siamese_strategy(data) == expected


def operate(name, images, seed=SEED, draws=None):
    """Applies one operation, each image by its own draw."""
    operation = getattr(augmentation, name)
    draws = len(images) if draws is None else draws
    # As `augment` calls it.
    return operation(tf.constant(images), seed * [1, 16], draws).numpy()


def test_draws_of_neighbouring_seeds_are_independent():
    """Once the column shifts of a step were the row shifts of the next one."""
    ramp = np.linspace(-1, 1, 16, dtype="float32")
    rows = np.tile(ramp[:, None, None], (200, 1, 16, 1))
    columns = np.swapaxes(rows, 1, 2)

    def shifts(images, number):
        seed = tf.constant([3, number])
        return augment(images, "crop", seed).numpy()[:, 8, 8, 0]

    for number in (0, 1, 7):
        pair = shifts(columns, number), shifts(rows, number + 1)
        # The deviation of a correlation of 200 pairs is 0.07.
        assert abs(np.corrcoef(pair)[0, 1]) < 0.3


def halves(batch=30, side=16):
    """Left half black, right half white: neither symmetric nor constant."""
    images = np.ones((batch, side, side, 1), "float32")
    images[:, :, : side // 2] = -1.0
    return images


def sampled(image, matrix):
    """Samples bilinearly, repeating the edge; NumPy twin of `_transform`.

    `matrix` gives (row, column) of the source from those of the target, both
    from the centre.
    """
    height, width = image.shape[:2]
    center = np.array([height - 1, width - 1]) / 2
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            y, x = matrix @ ([row, column] - center) + center
            y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            result[row, column] = (
                (top + 1 - y) * (left + 1 - x) * image[top, left]
                + (top + 1 - y) * (x - left) * image[top, right]
                + (y - top) * (left + 1 - x) * image[bottom, left]
                + (y - top) * (x - left) * image[bottom, right]
            )
    return result


@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        ("dsa", OPERATIONS),
        ("dsa_digits", ("_shift", "_cutout", "_scale", "_rotate")),
    ],
)
def test_siamese_draws_one_operation_for_the_batch(strategy, names):
    images = pictures(6, (8, 8, 3))
    drawn = []
    for number in range(40):
        seed = tf.constant([number, 5])
        augmented = augment(images, strategy, seed).numpy()
        matching = [
            name
            for name in names
            if np.array_equal(operate(name, images, seed), augmented)
        ]
        # Each operation moves all six images; one of them explains them all.
        assert len(matching) == 1
        drawn += matching
    assert set(drawn) == set(names)


@pytest.mark.parametrize("strategy", SIAMESE)
def test_siamese_follows_the_seed(strategy):
    images = pictures(4, (8, 8, 1))
    results = [
        augment(images, strategy, tf.constant([number, 0])).numpy()
        for number in (1, 1, 2, 3)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    assert len({result.tobytes() for result in results}) == 3


def test_digits_keep_their_side_and_their_brightness():
    lopsided, flat = halves(4), np.full((4, 16, 16, 1), 0.3, "float32")
    found = {"dsa": set(), "dsa_digits": set()}
    for strategy, changes in found.items():
        for number in range(40):
            seed = tf.constant([number, 0])
            augmented = augment(lopsided, strategy, seed).numpy()
            # No shift, rotation or scale brings white to the left edge.
            if (augmented[:, 7:9, 0] > augmented[:, 7:9, -1]).any():
                changes.add("side")
            augmented = augment(flat, strategy, seed).numpy()
            if np.abs(augmented - flat).max() > 1e-5:
                changes.add("brightness")
    assert found == {"dsa": {"side", "brightness"}, "dsa_digits": set()}


@pytest.mark.parametrize("strategy", STRATEGIES + SIAMESE)
def test_shared_draws_treat_all_images_alike(strategy):
    images = np.repeat(pictures(1, (16, 16, 3)), 6, axis=0)
    alone = 0
    for number in range(20):
        seed = tf.constant([number, 0])
        shared = augment(images, strategy, seed, shared=True).numpy()
        assert shared.shape == images.shape
        np.testing.assert_array_equal(
            shared, np.broadcast_to(shared[:1], shared.shape)
        )
        own = augment(images, strategy, seed).numpy()
        alone += (own != own[:1]).any()
        # Siamese: a batch of another size gets the same draw.
        np.testing.assert_allclose(
            augment(images[:2], strategy, seed, shared=True),
            shared[:2],
            atol=1e-6,
        )
    assert alone >= 19


def test_shared_draw_is_that_of_another_batch():
    first, second = pictures(3, seed=0), pictures(8, seed=1)
    both = np.concatenate([first, second])
    # Cutout alone looks at the other images, for their mean.
    for name in set(OPERATIONS) - {"_cutout"}:
        together = operate(name, both, draws=1)
        np.testing.assert_allclose(
            together[:3], operate(name, first, draws=1), atol=1e-6
        )
        np.testing.assert_allclose(
            together[3:], operate(name, second, draws=1), atol=1e-6
        )


def test_flip_is_an_exact_mirror_or_nothing():
    images = pictures(200, (5, 6, 2))
    augmented = operate("_flip", images)
    kept = (augmented == images).all(axis=(1, 2, 3))
    mirrored = (augmented == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept != mirrored).all()
    # Four deviations of 200 fair coins.
    assert abs(mirrored.mean() - 0.5) < 0.15


@pytest.mark.parametrize("shape", [(8, 8, 1), (12, 20, 3)])
def test_cutout_fills_half_a_side_with_the_mean(shape):
    images = pictures(150, shape)
    augmented = operate("_cutout", images)
    mean = images.mean((0, 1, 2))
    whole = 0
    for before, after in zip(images, augmented, strict=True):
        filled = np.abs(after - mean).max(-1) < 1e-5
        np.testing.assert_allclose(after[~filled], before[~filled], atol=1e-6)
        sides = []
        for axis in (0, 1):
            places = np.flatnonzero(filled.any(1 - axis))
            first, last = places[0], places[-1] + 1
            assert len(places) == last - first
            side, most = shape[axis], shape[axis] // 2
            inside = first > 0 and last < side
            # Its centre lies in the image: at most half of it is outside.
            assert len(places) == most if inside else most >= len(places)
            assert len(places) >= most // 2
            sides.append(inside)
        # A rectangle, not only its two shadows.
        assert filled.sum() == filled.any(0).sum() * filled.any(1).sum()
        whole += all(sides)
    assert 0 < whole < 150


def test_transform_without_a_change():
    images = pictures(3, (7, 10, 2))
    ones, zeros = tf.ones(3), tf.zeros(3)
    np.testing.assert_allclose(
        augmentation._transform(tf.constant(images), ones, zeros, ones),
        images,
        atol=1e-6,
    )


@pytest.mark.parametrize("shape", [(6, 6, 1), (7, 7, 2)])
def test_quarter_turn_is_anticlockwise_about_the_centre(shape):
    images = pictures(2, shape)
    zeros, ones = tf.zeros(2), tf.ones(2)
    # Sine 1, cosine 0.
    turned = augmentation._transform(tf.constant(images), zeros, ones, zeros)
    np.testing.assert_allclose(turned, np.rot90(images, axes=(1, 2)), atol=1e-6)


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 10, 2)])
def test_transform_equals_its_numpy_twin(shape):
    images = pictures(4, shape)
    angles = np.array([-0.26, -0.1, 0.05, 0.26])
    cosines, sines = np.cos(angles), np.sin(angles)
    turned = augmentation._transform(
        tf.constant(images),
        *(tf.constant(v, tf.float32) for v in (cosines, sines, cosines)),
    )
    scales = np.array([[0.84, 1.2], [1.0, 0.9], [1.1, 1.1], [1.2, 0.84]])
    scaled = augmentation._transform(
        tf.constant(images),
        tf.constant(scales[:, 1], tf.float32),
        tf.zeros(4),
        tf.constant(scales[:, 0], tf.float32),
    )
    for index, image in enumerate(images):
        matrix = np.array(
            [[cosines[index], sines[index]], [-sines[index], cosines[index]]]
        )
        # float32 positions, of which values follow by up to two a pixel.
        np.testing.assert_allclose(
            turned[index], sampled(image, matrix), atol=1e-5
        )
        np.testing.assert_allclose(
            scaled[index], sampled(image, np.diag(scales[index])), atol=1e-5
        )


def slopes(name, batch=300):
    """Slopes of operated ramps at the centre, `(batch, 2, 2)`.

    Entry [n, i, j] is how far the source's coordinate i moves with the
    target's coordinate j: sampling of a ramp is linear, but at the edge.
    """
    ramp = np.arange(33, dtype="float32") - 16.0
    rows = np.broadcast_to(ramp[None, :, None, None], (batch, 33, 33, 1))
    columns = np.broadcast_to(ramp[None, None, :, None], (batch, 33, 33, 1))
    found = np.empty((batch, 2, 2))
    for index, images in enumerate((rows, columns)):
        augmented = operate(name, np.ascontiguousarray(images))[..., 0]
        # Both leave the centre where it is.
        np.testing.assert_allclose(augmented[:, 16, 16], 0.0, atol=1e-4)
        found[:, index, 0] = (augmented[:, 20, 16] - augmented[:, 12, 16]) / 8
        found[:, index, 1] = (augmented[:, 16, 20] - augmented[:, 16, 12]) / 8
    return found


def test_rotation_angles():
    found = slopes("_rotate")
    angles = np.degrees(np.arctan2(found[:, 0, 1], found[:, 0, 0]))
    cosines, sines = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    expected = np.stack([cosines, sines, -sines, cosines], -1)
    # float32 positions of up to 33.
    np.testing.assert_allclose(found, expected.reshape(-1, 2, 2), atol=1e-4)
    assert np.abs(angles).max() <= 15.01
    # Uniform: the deviation is 30 / sqrt(12).
    assert np.std(angles) == pytest.approx(30 / np.sqrt(12), rel=0.15)
    assert abs(angles.mean()) < 2.0


def test_scales_of_height_and_width():
    found = slopes("_scale")
    np.testing.assert_allclose(found[:, 0, 1], 0.0, atol=1e-4)
    np.testing.assert_allclose(found[:, 1, 0], 0.0, atol=1e-4)
    # A picture that grows by s is read s times more slowly.
    factors = 1 / found[:, [0, 1], [0, 1]]
    assert factors.min() >= 1 / 1.2 - 1e-3 and factors.max() <= 1.2 + 1e-3
    for factor in factors.T:
        assert np.std(factor) == pytest.approx(
            (1.2 - 1 / 1.2) / np.sqrt(12), rel=0.15
        )
    assert abs(np.corrcoef(factors.T)[0, 1]) < 0.2


@pytest.mark.parametrize("name", ["_shift", "_scale", "_rotate"])
def test_operations_repeat_the_edge(name):
    # Nothing from outside, such as zeros, comes into the picture.
    images = np.ones((50, 8, 8, 1), "float32")
    np.testing.assert_allclose(operate(name, images), images, atol=1e-5)
    augmented = operate(name, halves(50))
    assert augmented.min() >= -1.0 - 1e-5 and augmented.max() <= 1.0 + 1e-5
    assert (np.abs(augmented - halves(50)) > 0.1).any()


@pytest.mark.parametrize("name", OPERATIONS)
def test_gradient_of_every_operation(name):
    images = tf.constant(pictures(5, (8, 8, 1)))
    # Smooth, for warps: see below.
    rows, columns = np.mgrid[:8, :8] / 7.0
    weights = np.float32(rows + np.sin(3 * columns))[..., None]

    def weighted(images):
        operation = getattr(augmentation, name)
        return tf.reduce_sum(weights * operation(images, SEED, 5), (1, 2, 3))

    with tf.GradientTape() as tape:
        tape.watch(images)
        value = weighted(images)
    gradient = tape.gradient(value, images).numpy()
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient).max(axis=(1, 2, 3)) > 0.1).all()
    # Affine in the images: a finite difference is exact but for rounding.
    direction = tf.constant(np.float32(columns - rows**2 + 0.2)[..., None])
    difference = weighted(images + direction) - value
    expected = (gradient * direction.numpy()).sum((1, 2, 3))
    # TensorFlow's gradient of a warp is the inverse warp, not its adjoint.
    tolerance = 0.3 if name in ("_scale", "_rotate") else 1e-4
    if name == "_cutout":
        # The batch's mean belongs to all images.
        difference, expected = np.sum(difference), np.sum(expected)
    np.testing.assert_allclose(
        difference, expected, atol=tolerance * np.abs(expected).max()
    )
