import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import DataConfig
from gdd_keras.config import InputError
from gdd_keras.data import load_dataset
from gdd_keras.data import scale_images
from gdd_keras.evaluation import baselines
from gdd_keras.evaluation.baselines import distribution_matching
from gdd_keras.generator_api import load_generator
from gdd_keras.networks import build_classifier
from gdd_keras.networks import feature_extractor
from gdd_keras.networks import image_features
from gdd_keras.selection import MAX_CONDENSED
from gdd_keras.selection import distribution_matching as module
from gdd_keras.selection import typical
from gdd_keras.selection.distribution_matching import class_mean_loss
from gdd_keras.selection.distribution_matching import condensed_images
from gdd_keras.selection.typical import typical_images


def features(shape, seed):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


class TestClassMeanLoss:
    def test_closed_form(self):
        # Rows of the classes 0, 1, 0, 1: means (2, 0) and (0, 3).
        real = np.float32([[1, 0], [0, 2], [3, 0], [0, 4]])
        zeros = np.zeros((2, 2), "float32")
        assert float(class_mean_loss(real, zeros, 2)) == 13.0
        # Rows 0, 2, 1, 3 of these: means (0.5, 1) and (1.5, 2).
        assert float(class_mean_loss(real[[0, 2, 1, 3]], zeros, 2)) == 7.5

    @pytest.mark.parametrize("shape", [(7,), (2, 3, 4)])
    def test_equals_numpy(self, shape):
        real, generated = features((15, *shape), 0), features((6, *shape), 1)
        expected = sum(
            np.square(
                real[label::3].astype("float64").mean(0)
                - generated[label::3].mean(0)
            ).sum()
            for label in range(3)
        )
        got = class_mean_loss(real, generated, 3)
        assert got.shape == () and got.dtype == tf.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5)

    def test_equal_sets_give_zero(self):
        real = features((12, 2, 2, 3), 0)
        assert float(class_mean_loss(real, real, 3)) == 0.0
        # Twice the same set has the same means.
        np.testing.assert_allclose(
            class_mean_loss(np.concatenate([real, real]), real, 3),
            0.0,
            atol=1e-6,
        )
        assert float(class_mean_loss(real[::-1], real, 3)) > 0.1


@pytest.fixture(scope="module")
def train_only(toy_dataset):
    """Nothing but the training split is there to be read."""
    return dataclasses.replace(toy_dataset, validation=None, test=None)


@pytest.fixture(scope="module")
def made(train_only):
    """Images and labels of three steps, and what was told meanwhile."""
    told = []
    images, labels = distribution_matching(
        train_only, 2, 3, 0, lambda *step: told.append(step)
    )
    return images, labels, told


def test_images_and_labels(made):
    images, labels, told = made
    assert images.shape == (6, 8, 8, 1) and images.dtype == np.uint8
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1, 2])
    assert [step for step, _ in told] == [1, 2, 3]
    assert all(type(loss) is float and loss >= 0 for _, loss in told)
    # Every step has another network and another augmentation.
    assert len({loss for _, loss in told}) == 3


def test_starts_from_real_images(made, train_only):
    images, labels = distribution_matching(train_only, 2, 0, 0)
    split = train_only.train
    for image, label in zip(images, labels, strict=True):
        members = split.images[split.labels == label]
        assert (members == image).all(axis=(1, 2, 3)).any()
    assert (made[0] != images).mean() > 0.5


def test_is_a_pure_function_of_the_seed(made, train_only):
    again, _ = distribution_matching(train_only, 2, 3, 0)
    np.testing.assert_array_equal(again, made[0])
    other, _ = distribution_matching(train_only, 2, 1, 1)
    assert (other != made[0]).any()


def mean_losses(dataset, images):
    """Returns the loss under three networks, without augmentation."""
    labels = dataset.train.labels
    losses = []
    for seed in (100, 101, 102):
        network = build_classifier(
            "convnet3", (8, 8, 1), 10, dataset.mean, dataset.std, seed
        )
        extractor = feature_extractor(network, ["block_3"])
        real, generated = (
            extractor(scale_images(pixels))["block_3"].numpy()
            for pixels in (dataset.train.images, images)
        )
        losses.append(
            sum(
                np.square(
                    real[labels == label].mean(0) - generated[label::10].mean(0)
                ).sum()
                for label in range(10)
            )
        )
    return np.array(losses)


def test_steps_bring_the_means_together(monkeypatch):
    # Real images are the cost of a step.
    monkeypatch.setattr(baselines, "IMAGES_PER_CLASS", 8)
    digits = load_dataset(DataConfig(), 0)
    start, end = (
        mean_losses(digits, distribution_matching(digits, 1, steps, 0)[0])
        for steps in (0, 8)
    )
    # Measured: 7.5 per cent; by network, 3 to 10.
    assert end.mean() < 0.96 * start.mean()
    assert (end < start).all()


@pytest.fixture
def cheap(monkeypatch):
    monkeypatch.setattr(typical, "_CANDIDATES", 8)
    monkeypatch.setattr(typical, "_CANDIDATES_PER_IMAGE", 8)
    monkeypatch.setattr(module, "IMAGES_PER_CLASS", 4)
    monkeypatch.setattr(module, "_DRAWS_PER_CLASS", 8)


@pytest.fixture(scope="module")
def generator(compact_saved_model):
    return load_generator(compact_saved_model)


class TestCondensedImages:
    def test_start_from_typical_ones(self, generator, cheap):
        np.testing.assert_array_equal(
            condensed_images(generator, 2, seed=3, steps=0),
            typical_images(generator, 2, seed=3),
        )

    def test_are_a_pure_function_of_the_seed(self, generator, cheap):
        images = condensed_images(generator, 1, steps=1)
        assert images.shape == (10, 32, 32, 1) and images.dtype == np.uint8
        assert (images != typical_images(generator, 1)).mean() > 0.2
        np.testing.assert_array_equal(
            condensed_images(generator, 1, steps=1), images
        )
        other = condensed_images(generator, 1, seed=2**63 - 1, steps=1)
        assert (other != images).any()

    def test_classes_do_not_touch_each_other(
        self, generator, cheap, monkeypatch
    ):
        # A cutout is filled with the mean of all images.
        plain = {"dataset": {"augmentation": "none"}}
        monkeypatch.setattr(generator, "metadata", plain)
        together = condensed_images(generator, 1, steps=1)
        monkeypatch.setattr(module, "CLASSES_AT_ONCE", 4)
        apart = condensed_images(generator, 1, steps=1)
        # Rounding differs with the size of a batch.
        difference = np.abs(together.astype(int) - apart)
        assert difference.max() <= 1
        assert difference.mean() < 0.01

    def test_means_come_nearer_to_those_of_draws(self, generator, cheap):
        draws = generator.generate(np.tile(np.arange(10), 16), 9)
        # Not the network that typical images are chosen by.
        network = build_classifier(
            "convnet3", (32, 32, 1), 10, [0.0], [1.0], seed=100
        )
        extract = image_features(network)
        wanted = extract(draws).reshape(16, 10, -1).mean(0)
        start, end = (
            np.square(
                extract(condensed_images(generator, 1, steps=steps)) - wanted
            ).sum()
            for steps in (0, 8)
        )
        # Measured: 0.85; of draws of a trained generator 0.85 too.
        assert end < 0.9 * start

    def test_progress(self, generator, cheap, monkeypatch):
        monkeypatch.setattr(module, "CLASSES_AT_ONCE", 5)
        told = []
        condensed_images(
            generator, 1, progress=lambda *done: told.append(done), steps=2
        )
        # Ten classes, and two steps for each half of them.
        assert told == [(number, 14) for number in range(1, 15)]

    @pytest.mark.parametrize(
        ("metadata", "augmentation"),
        [
            ({}, "crop"),
            ({"dataset": {"augmentation": "color_crop"}}, "color_crop"),
            ({"dataset": {"augmentation": "none"}}, "none"),
        ],
    )
    def test_augmentation_is_that_of_the_data(
        self, metadata, augmentation, generator, cheap, monkeypatch
    ):
        asked = []

        class Matcher:
            def __init__(self, shape, ipc, classes, statistics, kind, **rate):
                asked.append((shape, ipc, classes, statistics, kind, rate))

            def match(self, start, batch, steps, progress):
                asked.append((batch(0).shape, steps))
                return start

        monkeypatch.setattr(module, "ClassMeanMatcher", Matcher)
        monkeypatch.setattr(generator, "metadata", metadata)
        condensed_images(generator, 2, seed=7)
        rate = {"learning_rate": 0.2, "seed": 7}
        assert asked == [
            ((32, 32, 1), 2, 10, ([0.0], [1.0]), augmentation, rate),
            ((40, 32, 32, 1), 200),
        ]

    @pytest.mark.parametrize("ipc", [0, MAX_CONDENSED + 1, 1.5])
    def test_ipc_out_of_range(self, ipc, generator):
        with pytest.raises(InputError, match="`ipc` must be "):
            condensed_images(generator, ipc)
