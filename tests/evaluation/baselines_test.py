import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import BASELINES
from gdd_keras.config import EvaluationConfig
from gdd_keras.data import Split
from gdd_keras.evaluation import FixedSet
from gdd_keras.evaluation import GeneratorStream
from gdd_keras.evaluation import RealStream
from gdd_keras.evaluation import baselines
from gdd_keras.evaluation.baselines import baseline_source
from gdd_keras.evaluation.baselines import generator_source
from gdd_keras.evaluation.sources import generated_set
from gdd_keras.selection import herding
from gdd_keras.selection import k_center

CONFIG = EvaluationConfig(ipc=2, candidates=30)


class PixelReference:
    """Stands for a reference network whose features are the pixels."""

    forgetting = np.random.default_rng(5).integers(0, 4, 30, np.int32)

    @staticmethod
    def features(images):
        return images.reshape(len(images), -1).astype("float32") / 255.0


class StripedGenerator:
    """Image number i of a seed and label: stripes, all different."""

    num_classes = 3
    image_shape = (8, 8, 1)

    @staticmethod
    def balanced_labels(ipc):
        return np.tile(np.arange(3, dtype=np.int32), ipc)

    @staticmethod
    def draw(labels, seed, first_index):
        numbers = first_index + tf.range(tf.size(labels, tf.int64))
        values = 37 * numbers + 91 * seed + 55 * tf.cast(labels, tf.int64)
        pixels = tf.range(64, dtype=tf.int64)
        images = (values[:, None] * (1 + pixels % 5) + 3 * pixels) % 256
        return tf.cast(tf.reshape(images, (-1, 8, 8, 1)), tf.uint8)


def needless():
    """Stands for a reference that nothing may ask for."""
    raise AssertionError("the reference network is not needed")


def source_of(name, dataset, config=CONFIG, reference=PixelReference, seed=0):
    return baseline_source(
        name, dataset, config, reference, "/nowhere", seed, None
    )


def train_rows(split, images, labels):
    """Returns which training images these are, checking their labels."""
    rows = []
    for image, label in zip(images, labels, strict=True):
        same = (split.images == image).all(axis=(1, 2, 3))
        (row,) = np.flatnonzero(same)
        assert split.labels[row] == label
        rows.append(int(row))
    return rows


@pytest.mark.parametrize(
    "name", ["random", "herding", "k_center", "forgetting"]
)
def test_images_are_training_images(name, toy_dataset):
    source = source_of(name, toy_dataset)
    assert isinstance(source, FixedSet) and BASELINES[name] == "fixed"
    assert source.images_per_epoch == 6
    images, labels = source.stored(0)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(np.bincount(labels), [2, 2, 2])
    rows = train_rows(toy_dataset.train, images, labels)
    assert len(set(rows)) == 6
    # All but `random` show one set to every network.
    others = [source.stored(seed)[0] for seed in (1, 2, 3)]
    assert all((images == o).all() for o in others) == (name != "random")


def test_real_stream_shows_training_images(toy_dataset):
    source = source_of("real_stream", toy_dataset, reference=needless)
    assert isinstance(source, RealStream)
    assert source.images_per_epoch == 6
    source.reset(0)
    images, labels = source.examples(
        tf.constant(0, tf.int64), tf.constant(30, tf.int64)
    )
    rows = train_rows(toy_dataset.train, images.numpy(), labels.numpy())
    assert sorted(rows) == list(range(30))


def test_random_needs_no_network(toy_dataset):
    source = source_of("random", toy_dataset, reference=needless)
    assert len(source.stored(0)[0]) == 6


@pytest.mark.parametrize(
    ("name", "choose"), [("herding", herding), ("k_center", k_center)]
)
def test_choices_are_made_class_by_class_on_features(name, choose, toy_dataset):
    images, labels = source_of(name, toy_dataset).stored(0)
    split = toy_dataset.train
    expected = []
    for label in range(3):
        rows = np.flatnonzero(split.labels == label)
        features = PixelReference.features(split.images[rows])
        expected += rows[choose(features, 2)].tolist()
    assert train_rows(split, images, labels) == expected


def test_herding_of_brightness(toy_dataset):
    levels = np.uint8([0, 90, 100, 250, 240, 10, 20, 130, 120])
    labels = np.int32([0, 0, 0, 0, 1, 1, 1, 1, 2])
    images = np.broadcast_to(levels[:, None, None, None], (9, 8, 8, 1))
    dataset = dataclasses.replace(
        toy_dataset, train=Split(images.copy(), labels)
    )
    chosen, chosen_labels = source_of("herding", dataset).stored(0)
    # Means 110, 100 and 120: the nearest, then what keeps the mean there; a
    # class of one image repeats it.
    assert chosen[:, 0, 0, 0].tolist() == [100, 90, 130, 20, 120, 120]
    np.testing.assert_array_equal(chosen_labels, [0, 0, 1, 1, 2, 2])


def test_forgetting_takes_the_most_forgotten(toy_dataset):
    split = toy_dataset.train
    sets = set()
    for seed in range(6):
        source = source_of("forgetting", toy_dataset, seed=seed)
        rows = train_rows(split, *source.stored(0))
        sets.add(tuple(rows))
        for label in range(3):
            events = PixelReference.forgetting[split.labels == label]
            assert (
                PixelReference.forgetting[
                    rows[2 * label : 2 * label + 2]
                ].tolist()
                == sorted(events, reverse=True)[:2]
            )
    # Ties follow the seed.
    assert len(sets) > 1


def test_large_classes_are_thinned(toy_dataset, monkeypatch):
    monkeypatch.setattr(baselines, "_MAX_PER_CLASS", 3)
    split = toy_dataset.train
    for ipc, kept in ((2, 2), (4, 3)):
        config = dataclasses.replace(CONFIG, ipc=ipc)
        images, labels = source_of("herding", toy_dataset, config).stored(0)
        assert labels.tolist() == np.repeat([0, 1, 2], ipc).tolist()
        rows = train_rows(split, images, labels)
        for label in range(3):
            # Ten rows, every fourth: three, of which none is lost.
            own = rows[ipc * label : ipc * label + ipc]
            thinned = np.flatnonzero(split.labels == label)[::4]
            assert len(thinned) == 3 and set(own) <= set(thinned.tolist())
            assert len(set(own)) == kept


class TestDistributionMatching:
    @pytest.fixture
    def calls(self, monkeypatch):
        calls = []

        def made(dataset, ipc, steps, seed, progress):
            calls.append((dataset.fingerprint, ipc, steps, seed, progress))
            images = np.full((3 * ipc, 8, 8, 1), len(calls), np.uint8)
            return images, np.tile(np.arange(3, dtype=np.int32), ipc)

        monkeypatch.setattr(baselines, "distribution_matching", made)
        return calls

    def test_is_made_once(self, toy_dataset, tmp_path, calls):
        def stored(dataset=toy_dataset, seed=0, **settings):
            config = dataclasses.replace(CONFIG, dm_steps=4, **settings)
            source = baseline_source(
                "dm", dataset, config, needless, tmp_path / "new", seed, print
            )
            assert source.images_per_epoch == 3 * config.ipc
            images, labels = source.stored(9)
            np.testing.assert_array_equal(source.stored(0)[0], images)
            assert labels.tolist() == [0, 1, 2] * config.ipc
            assert images.shape == (len(labels), 8, 8, 1)
            assert images.dtype == np.uint8 and labels.dtype == np.int32
            return int(images[0, 0, 0, 0])

        assert stored() == 1
        assert calls == [("0123", 2, 4, 0, print)]
        assert stored() == 1 and len(calls) == 1
        other = dataclasses.replace(toy_dataset, fingerprint="4567")
        smaller = dataclasses.replace(toy_dataset, train=toy_dataset.test)
        for number, settings in enumerate(
            (
                {"ipc": 1},
                {"seed": 1},
                {"dataset": other},
                {"dataset": smaller},
            ),
            2,
        ):
            assert stored(**settings) == number
            assert stored(**settings) == number
        assert len(calls) == 5 and stored() == 1

    def test_other_steps_are_another_set(self, toy_dataset, tmp_path, calls):
        for steps in (4, 5):
            config = dataclasses.replace(CONFIG, dm_steps=steps)
            baseline_source("dm", toy_dataset, config, needless, tmp_path)
        assert [steps for _, _, steps, _, _ in calls] == [4, 5]

    def test_interrupted(self, toy_dataset, tmp_path, calls, monkeypatch):
        def interrupted(*arguments):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(baselines, "distribution_matching", interrupted)
            with pytest.raises(KeyboardInterrupt):
                baseline_source("dm", toy_dataset, CONFIG, needless, tmp_path)
        assert list(tmp_path.iterdir()) == []
        baseline_source("dm", toy_dataset, CONFIG, needless, tmp_path)
        assert len(calls) == 1


class TestGenerator:
    def source(self, dataset, protocol, selection="random", **settings):
        reference = needless if selection == "random" else PixelReference
        return generator_source(
            StripedGenerator(),
            dataset,
            dataclasses.replace(CONFIG, **settings),
            protocol,
            selection,
            reference,
        )

    def test_stream(self, toy_dataset):
        source = self.source(toy_dataset, "stream")
        assert isinstance(source, GeneratorStream)
        assert source.images_per_epoch == 6

    @pytest.mark.parametrize(
        ("protocol", "count"), [("fixed", 6), ("full_size", 30)]
    )
    def test_random_sets_are_the_first_images(
        self, toy_dataset, protocol, count
    ):
        source = self.source(toy_dataset, protocol)
        assert source.images_per_epoch == count
        for seed in (0, 3):
            images, labels = source.stored(seed)
            expected = generated_set(StripedGenerator(), count // 3)(seed)
            np.testing.assert_array_equal(images, expected[0])
            np.testing.assert_array_equal(labels, expected[1])

    def test_typical_set_is_the_one_that_generate_writes(
        self, toy_dataset, monkeypatch
    ):
        asked = []

        def typical_images(generator, ipc, seed):
            asked.append((type(generator), ipc, seed))
            return np.full((6, 8, 8, 1), seed, np.uint8)

        monkeypatch.setattr(baselines, "typical_images", typical_images)
        source = self.source(toy_dataset, "fixed", "typical")
        assert source.images_per_epoch == 6
        images, labels = source.stored(4)
        assert asked == [(StripedGenerator, 2, 4)]
        assert images.min() == images.max() == 4
        np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1, 2])

    def test_condensed_set_is_made_once(self, toy_dataset, monkeypatch):
        asked = []

        def condensed_images(generator, ipc, seed, progress):
            asked.append((type(generator), ipc, seed))
            return np.full((6, 8, 8, 1), 9, np.uint8)

        monkeypatch.setattr(baselines, "condensed_images", condensed_images)
        source = self.source(toy_dataset, "fixed", "condensed")
        assert source.images_per_epoch == 6
        for seed in (3, 4):
            images, labels = source.stored(seed)
            assert images.min() == images.max() == 9
            np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1, 2])
        assert asked == [(StripedGenerator, 2, 0)]

    def test_full_size_is_never_empty(self, toy_dataset):
        few = Split(toy_dataset.train.images[:2], np.int32([0, 1]))
        dataset = dataclasses.replace(toy_dataset, train=few)
        assert self.source(dataset, "full_size").images_per_epoch == 3

    @pytest.mark.parametrize(
        ("selection", "choose"), [("herding", herding), ("k_center", k_center)]
    )
    @pytest.mark.parametrize(
        # At least ten candidates for each image kept.
        ("candidates", "available"),
        [(30, 30), (1, 20)],
    )
    def test_selected_sets(
        self, toy_dataset, selection, choose, candidates, available
    ):
        source = self.source(
            toy_dataset, "fixed", selection, candidates=candidates
        )
        split = toy_dataset.train
        kept = []
        for seed in (0, 4):
            images, labels = source.stored(seed)
            np.testing.assert_array_equal(labels, [0, 0, 1, 1, 2, 2])
            offered, _ = generated_set(StripedGenerator(), available)(seed)
            assert len(offered) == 3 * available
            for label in range(3):
                real = split.images[split.labels == label]
                own = offered[label::3]
                rows = choose(
                    PixelReference.features(own),
                    2,
                    PixelReference.features(real).mean(0),
                )
                np.testing.assert_array_equal(
                    images[2 * label : 2 * label + 2], own[rows]
                )
            kept.append(images)
        # Each network has a set of its own.
        assert (kept[0] != kept[1]).any()
