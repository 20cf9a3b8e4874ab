import itertools

import keras
import numpy as np
import pytest

from gdd_keras.data import BatchSampler
from gdd_keras.data import Split
from gdd_keras.data import evaluation_batches
from gdd_keras.data import scale_images
from gdd_keras.data import training_batches

LABELS = np.repeat([0, 1, 2], [5, 3, 2]).astype(np.int32)


def toy_split():
    # Each image is filled with its own number.
    images = np.arange(10, dtype=np.uint8)[:, None, None, None]
    return Split(np.broadcast_to(images, (10, 8, 9, 1)).copy(), LABELS)


def drawn(sampler, batches):
    return np.concatenate([sampler.indices(s) for s in range(batches)])


@pytest.mark.parametrize("class_balance", [True, False])
def test_a_batch_depends_on_seed_and_number_alone(class_balance):
    sampler = BatchSampler(LABELS, 4, 0, class_balance)
    forward = [sampler.indices(step) for step in range(30)]
    for step in (29, 3, 17):
        fresh = BatchSampler(LABELS, 4, 0, class_balance)
        np.testing.assert_array_equal(fresh.indices(step), forward[step])
        np.testing.assert_array_equal(sampler.indices(step), forward[step])
    other = BatchSampler(LABELS, 4, 1, class_balance)
    assert (drawn(other, 30) != np.concatenate(forward)).any()


def test_balanced_classes_occur_equally_often():
    labels = LABELS[drawn(BatchSampler(LABELS, 4, 0), 9)]
    assert np.bincount(labels).tolist() == [12, 12, 12]
    # Within one example at every moment, too.
    np.testing.assert_array_equal(labels, np.arange(36) % 3)


def test_balanced_classes_show_every_image_once_per_pass():
    indices = drawn(BatchSampler(LABELS, 7, 0), 30)
    for label, size in enumerate([5, 3, 2]):
        walk = indices[LABELS[indices] == label]
        passes = walk[: len(walk) // size * size].reshape(-1, size)
        members = np.flatnonzero(LABELS == label)
        np.testing.assert_array_equal(
            np.sort(passes), np.tile(members, (len(passes), 1))
        )
        assert len(np.unique(passes, axis=0)) > 1


def test_unbalanced_draws_show_every_image_once_per_pass():
    indices = drawn(BatchSampler(LABELS, 4, 0, class_balance=False), 25)
    passes = indices.reshape(10, 10)
    np.testing.assert_array_equal(
        np.sort(passes), np.tile(np.arange(10), (10, 1))
    )
    assert len(np.unique(passes, axis=0)) > 1


@pytest.mark.parametrize("class_balance", [True, False])
def test_batches_may_exceed_the_set(class_balance):
    indices = BatchSampler(LABELS, 64, 0, class_balance).indices(2)
    assert indices.shape == (64,)
    assert set(indices) == set(range(10))


def test_streams_differ():
    first = drawn(BatchSampler(LABELS, 8, 0, stream=0), 5)
    second = drawn(BatchSampler(LABELS, 8, 0, stream=1), 5)
    assert (first != second).any()


def test_training_batches_resume_exactly():
    split = toy_split()
    whole = list(
        itertools.islice(
            training_batches(
                split, 4, seed=3, extra_batches=2
            ).as_numpy_iterator(),
            6,
        )
    )
    resumed = list(
        itertools.islice(
            training_batches(
                split, 4, seed=3, start_step=4, extra_batches=2
            ).as_numpy_iterator(),
            2,
        )
    )
    for expected, batch in zip(whole[4:], resumed, strict=True):
        assert set(batch) == {
            "images",
            "labels",
            "pool_images",
            "pool_labels",
        }
        for key, value in batch.items():
            np.testing.assert_array_equal(value, expected[key])
    for batch in whole:
        # Pixels are the image's number, so labels can be checked against it.
        numbers = batch["images"][:, 0, 0, 0]
        np.testing.assert_array_equal(LABELS[numbers], batch["labels"])
        numbers = batch["pool_images"][:, :, 0, 0, 0]
        np.testing.assert_array_equal(LABELS[numbers], batch["pool_labels"])
    assert any(
        (batch["images"] != batch["pool_images"][0]).any() for batch in whole
    )


def test_shares_of_replicas_make_the_batch():
    split = toy_split()
    (whole,) = training_batches(split, 6, 3, extra_batches=2).take(1)
    shares = [
        next(
            iter(
                training_batches(
                    split, 6, 3, extra_batches=2, replica=i, num_replicas=3
                )
            )
        )
        for i in range(3)
    ]
    for name, expected in whole.items():
        parts = [share[name] for share in shares]
        axis = 1 if name.startswith("pool") else 0
        assert parts[0].shape[axis] == 2
        np.testing.assert_array_equal(np.concatenate(parts, axis), expected)


def test_shapes_are_static():
    spec = training_batches(
        toy_split(), 4, seed=0, extra_batches=3
    ).element_spec
    shapes = {key: tuple(value.shape) for key, value in spec.items()}
    assert shapes == {
        "images": (4, 8, 9, 1),
        "labels": (4,),
        "pool_images": (3, 4, 8, 9, 1),
        "pool_labels": (3, 4),
    }
    assert spec["images"].dtype == "uint8"
    assert spec["labels"].dtype == "int32"
    assert set(training_batches(toy_split(), 4, 0).element_spec) == {
        "images",
        "labels",
    }


def test_batches_train_under_fit():
    class Counter(keras.Model):
        def __init__(self):
            super().__init__()
            self.built = True

        def train_step(self, data):
            images = scale_images(data["images"])
            return {"mean": keras.ops.mean(images)}

    model = Counter()
    model.compile()
    history = model.fit(
        training_batches(toy_split(), 4, seed=0),
        steps_per_epoch=3,
        epochs=2,
        shuffle=False,
        verbose=0,
    )
    assert len(history.history["mean"]) == 2


def test_evaluation_batches_show_all_once_in_order():
    split = toy_split()
    batches = evaluation_batches(split, 4)
    assert int(batches.cardinality()) == 3
    assert tuple(batches.element_spec[0].shape) == (None, 8, 9, 1)
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    assert [len(part) for part in labels] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(images), split.images)
    np.testing.assert_array_equal(np.concatenate(labels), split.labels)


def test_scale_images_maps_bytes_to_plus_minus_one():
    scaled = keras.ops.convert_to_numpy(
        scale_images(np.array([0, 51, 255], np.uint8))
    )
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [-1, -0.6, 1], rtol=1e-6)


def test_batches_leave_no_thread_that_could_wait_for_python():
    # The interpreter can delete an iterator at any time; see the module.
    split = toy_split()
    for batches in (
        training_batches(split, 2, seed=0),
        evaluation_batches(split, 2),
    ):
        options = batches.options()
        assert options.autotune.enabled is False
        assert options.experimental_optimization.inject_prefetch is False
        assert "Prefetch" not in type(batches).__name__
