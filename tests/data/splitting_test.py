import numpy as np

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
