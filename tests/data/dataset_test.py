import json

import numpy as np
import pytest

from gdd_keras.data import ImageRows


def rows_of_six():
    images = np.arange(6 * 2 * 3 * 1, dtype=np.uint8).reshape(6, 2, 3, 1)
    rows = np.array([1, 2, 5])
    return ImageRows(images, rows), images[rows]


@pytest.mark.parametrize(
    "index",
    [
        0,
        -1,
        slice(1, 3),
        slice(None),
        np.array([2, 0, 2]),
        [1, 1],
        np.array([True, False, True]),
        (slice(None), 0),
        (1, 0),
        (np.array([0, 2]), slice(0, 1), 1),
    ],
)
def test_rows_index_like_an_array(index):
    rows, expected = rows_of_six()
    np.testing.assert_array_equal(rows[index], expected[index])


def test_rows_look_like_an_array():
    rows, expected = rows_of_six()
    assert len(rows) == 3
    assert rows.shape == expected.shape
    assert rows.dtype == np.uint8
    assert rows.ndim == 4
    assert rows.nbytes == expected.nbytes
    np.testing.assert_array_equal(np.asarray(rows), expected)
    assert np.asarray(rows, dtype=np.float32).dtype == np.float32


def test_rows_cannot_be_an_array_without_a_copy():
    with pytest.raises(ValueError, match="must not be False"):
        np.array(rows_of_six()[0], copy=False)


def test_describe_is_json_without_pixels(make_npz, load):
    dataset = load(make_npz(counts=(6, 4), name="a b"))
    described = json.loads(json.dumps(dataset.describe()))
    assert described["name"] == dataset.name == "a_b"
    assert described["num_images"] == {"train": 8, "validation": 2}
    assert described["class_counts"]["train"] == [5, 3]
    assert described["image_shape"] == [8, 9, 3]
    assert described["num_classes"] == dataset.num_classes == 2
    assert described["class_names"] == ["0", "1"]
    assert described["mean"] == list(dataset.mean)
    assert set(described) == {
        "augmentation",
        "class_counts",
        "class_names",
        "fingerprint",
        "image_shape",
        "mean",
        "name",
        "num_classes",
        "num_images",
        "source",
        "std",
    }
