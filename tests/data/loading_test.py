import numpy as np
import pytest

from gdd_keras.config import InputError


def test_training_part_keeps_the_order_and_the_labels(make_npz, load):
    images = np.zeros((40, 8, 8), np.uint8)
    images += np.arange(40, dtype=np.uint8)[:, None, None]
    path = make_npz(images=images, labels=np.arange(40) % 3)
    dataset = load(path, validation_fraction=0.2)
    numbers = dataset.train.images[:, 0, 0, 0]
    assert (np.diff(numbers.astype(int)) > 0).all()
    for split in (dataset.train, dataset.validation):
        np.testing.assert_array_equal(
            split.images[:, 0, 0, 0] % 3, split.labels
        )
    together = {*numbers, *dataset.validation.images[:, 0, 0, 0]}
    assert together == set(range(40))
    assert dataset.class_counts["validation"] == (3, 3, 3)


def test_statistics_see_the_training_part_only(make_npz, load):
    path = make_npz(
        counts=(9, 5),
        test_images=np.full((3, 8, 9, 3), 255, np.uint8),
        test_labels=np.array([1, 0, 1]),
    )
    dataset = load(path)
    scaled = dataset.train.images / 127.5 - 1
    np.testing.assert_allclose(dataset.mean, scaled.mean((0, 1, 2)))
    np.testing.assert_allclose(dataset.std, scaled.std((0, 1, 2)))
    assert len(dataset.mean) == len(dataset.std) == 3


def test_class_of_one_image_stays_in_training(make_npz, load):
    dataset = load(make_npz(counts=(6, 1)))
    assert dataset.class_counts == {"train": (5, 1), "validation": (1, 0)}


def test_image_size_resizes(make_npz, load):
    dataset = load(make_npz(), image_size=(12, 10))
    assert dataset.image_shape == (12, 10, 3)
    assert dataset.train.images.shape[1:] == (12, 10, 3)


@pytest.mark.parametrize("name", ["./nope", "a/b/c", "nope.npz", "~/nope/"])
def test_missing_path_is_named(load, name):
    with pytest.raises(InputError, match="existing path.*does not exist"):
        load(name)


def test_other_files_are_refused(load, tmp_path):
    path = tmp_path / "images.csv"
    path.write_text("1,2")
    with pytest.raises(InputError, match=r"folder of images or an \.npz file"):
        load(path)


def test_size_beyond_training_is_refused(make_npz, load):
    path = make_npz(counts=(2, 2), shape=(8, 1025))
    with pytest.raises(InputError, match="8 to 1024 pixels.*8x1025"):
        load(path)
    assert load(path, image_size=32).image_shape == (32, 32, 1)
