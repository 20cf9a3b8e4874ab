import sys

import numpy as np
from sklearn.datasets import load_digits


def test_digits_are_the_real_ones(load):
    dataset = load("digits")
    assert dataset.name == "digits"
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.class_names == tuple("0123456789")
    assert dataset.augmentation == "crop"
    parts = list(dataset.splits.values())
    assert sum(len(part) for part in parts) == 1797
    total = sum(part.images.astype(int).sum() for part in parts)
    expected = np.rint(load_digits().images * 255 / 16).astype(int).sum()
    assert total == expected
    assert max(part.images.max() for part in parts) == 255


def test_test_part_does_not_depend_on_the_seed(load):
    first, other = load("digits", seed=1), load("digits", seed=2)
    np.testing.assert_array_equal(first.test.images, other.test.images)
    assert len(first.test) == 359
    assert (first.validation.images != other.validation.images).any()
    assert first.fingerprint == other.fingerprint


def test_digits_do_not_import_tfds(load, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert load("digits").num_classes == 10
