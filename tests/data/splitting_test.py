import dataclasses

import numpy as np
import pytest

from gdd_keras.data import ImageRows
from gdd_keras.data import Split
from gdd_keras.data.splitting import describe_overlaps
from gdd_keras.data.splitting import hold_out

LABELS = np.repeat([0, 1, 2, 3], [50, 20, 2, 1])


def test_parts_are_disjoint_sorted_and_complete():
    shuffled = np.random.default_rng(0).permutation(LABELS)
    kept, held = hold_out(shuffled, 0.1, 0)
    assert (np.diff(kept) > 0).all()
    assert (np.diff(held) > 0).all()
    np.testing.assert_array_equal(np.union1d(kept, held), np.arange(73))
    assert len(kept) + len(held) == 73


def test_every_class_gives_its_part_and_keeps_one():
    _, held = hold_out(LABELS, 0.1, 0)
    assert np.bincount(LABELS[held], minlength=4).tolist() == [5, 2, 1, 0]
    kept, _ = hold_out(LABELS, 0.99, 0)
    assert np.bincount(LABELS[kept], minlength=4).min() == 1


def test_parts_depend_on_the_seed_alone():
    first, again = (hold_out(LABELS, 0.2, 3)[1] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert (first != hold_out(LABELS, 0.2, 4)[1]).any()


@pytest.mark.parametrize("on_disk", [False, True])
def test_images_that_parts_share(toy_dataset, on_disk, monkeypatch):
    monkeypatch.setattr("gdd_keras.data.splitting._ROWS", 4)
    assert describe_overlaps(toy_dataset) == []
    images = {n: s.images.copy() for n, s in toy_dataset.splits.items()}
    # One of another label, one twice, and one that chooses.
    images["validation"][0] = images["train"][1]
    images["test"][3:5] = images["train"][29]
    images["test"][8] = images["validation"][5]
    splits = {
        name: Split(
            ImageRows(pixels, np.arange(len(pixels))) if on_disk else pixels,
            toy_dataset.splits[name].labels,
        )
        for name, pixels in images.items()
    }
    shared = dataclasses.replace(toy_dataset, **splits)
    assert describe_overlaps(shared) == [
        f"{name} images that are training images, too: {share}; scores on "
        "them flatter"
        for name, share in (("validation", "1 of 6"), ("test", "3 of 9"))
    ]
    without = dataclasses.replace(shared, test=None)
    assert len(describe_overlaps(without)) == 1
    # One value is another image.
    images["validation"][0, 0, 0, 0] ^= 1
    images["test"][[3, 4, 8]] ^= 1
    assert describe_overlaps(shared) == []
