import dataclasses
import statistics

import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import DataConfig
from gdd_keras.config import EvaluationConfig
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.data import Dataset
from gdd_keras.data import Split
from gdd_keras.data import load_dataset
from gdd_keras.evaluation import EvalTrainer
from gdd_keras.evaluation import FixedSet
from gdd_keras.evaluation import GeneratorStream
from gdd_keras.evaluation import RealStream
from gdd_keras.evaluation import Score
from gdd_keras.evaluation import evaluate_generator
from gdd_keras.evaluation import evaluate_real
from gdd_keras.evaluation import evaluate_source
from gdd_keras.evaluation import format_accuracy
from gdd_keras.evaluation import sources
from gdd_keras.evaluation import summarize
from gdd_keras.evaluation.protocols import SourceScorer
from gdd_keras.evaluation.protocols import score_fields
from gdd_keras.evaluation.sources import SoftLabelled
from gdd_keras.evaluation.sources import balanced_batch_size
from gdd_keras.evaluation.sources import first_real_images
from gdd_keras.evaluation.sources import generated_set
from gdd_keras.networks.generator import build_generator

SHAPE = (8, 8, 1)
CLASSES = 3
LINEAR = f"{__name__}:linear"


def linear(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


def random_split(count, seed=0):
    generator = np.random.default_rng(seed)
    return Split(
        generator.integers(0, 256, (count, *SHAPE), dtype=np.uint8),
        np.arange(count, dtype=np.int32) % CLASSES,
    )


@pytest.fixture
def dataset():
    return Dataset(
        name="random",
        image_shape=SHAPE,
        class_names=("a", "b", "c"),
        train=random_split(30),
        validation=random_split(12, 1),
        test=random_split(12, 2),
        mean=(0.0,),
        std=(0.5,),
        fingerprint="f",
        augmentation="crop",
        source="random images",
    )


@pytest.fixture(scope="module")
def generator():
    return build_generator(SHAPE, CLASSES, latent_dim=6, width=2, seed=3)


@pytest.fixture(scope="module")
def digits():
    return load_dataset(DataConfig(), 0)


def config(**settings):
    defaults = {
        "network": LINEAR,
        "ipc": 2,
        "num_seeds": 2,
        "eval_epochs": 4,
    }
    return EvaluationConfig(**{**defaults, **settings})


def examples(source, start, count):
    """Calls the source in a graph, as the trainer does."""

    @tf.function(
        input_signature=[tf.TensorSpec((), tf.int64)] * 2,
    )
    def call(start, count):
        return source.examples(start, count)

    images, labels = call(start, count)
    assert images.dtype == tf.uint8 and labels.dtype == tf.int32
    return images.numpy(), labels.numpy()


def distinct(images):
    return len({image.tobytes() for image in images})


class TestBatchSize:
    @pytest.mark.parametrize(
        ("ipc", "num_classes", "expected"),
        [
            (1, 10, 10),
            (10, 10, 100),
            (25, 10, 250),
            (26, 10, 130),
            (50, 10, 250),
            (53, 10, 180),
            (1, 2, 2),
            (128, 2, 256),
            (10, 100, 200),
            (1, 256, 256),
            (1, 300, 150),
        ],
    )
    def test_shrinks_and_cuts_evenly(self, ipc, num_classes, expected):
        size = balanced_batch_size(ipc, num_classes)
        assert size == expected <= 256

    @pytest.mark.parametrize("ipc", [1, 3, 60, 101])
    def test_every_batch_is_balanced(self, generator, ipc):
        source = GeneratorStream(generator, ipc)
        trainer = EvalTrainer(linear(SHAPE, CLASSES), source, epochs=2)
        source.reset(0)
        steps = 2 * trainer.steps_per_epoch
        bounds = [
            int(trainer._position(tf.constant(step, tf.int64)))
            for step in range(steps + 1)
        ]
        assert bounds[-1] == 2 * ipc * CLASSES
        assert bounds[trainer.steps_per_epoch] == ipc * CLASSES
        numbers = np.arange(bounds[-1])
        for begin, end in zip(bounds, bounds[1:], strict=False):
            assert 0 < end - begin <= 256
            counts = np.bincount(numbers[begin:end] % CLASSES)
            assert len(set(counts)) == 1


class TestGeneratorStream:
    def test_never_repeats_over_epochs(self, generator):
        source = GeneratorStream(generator, 4)
        source.reset(7)
        images, labels = examples(source, 0, 5 * source.images_per_epoch)
        assert distinct(images) == 60 == source.num_distinct(5)
        np.testing.assert_array_equal(labels, np.arange(60) % CLASSES)

    def test_examples_do_not_depend_on_the_cut(self, generator):
        source = GeneratorStream(generator, 4)
        source.reset(7)
        whole, _ = examples(source, 0, 24)
        part, labels = examples(source, 10, 14)
        np.testing.assert_array_equal(labels, np.arange(10, 24) % CLASSES)
        np.testing.assert_array_equal(part, whole[10:])

    def test_seeds_differ(self, generator):
        source = GeneratorStream(generator, 4)
        drawn = []
        for seed in (0, 1, 0):
            source.reset(seed)
            drawn.append(examples(source, 0, 12)[0])
        np.testing.assert_array_equal(drawn[0], drawn[2])
        assert distinct(np.concatenate(drawn[:2])) == 24


class TestFixedSet:
    def test_every_epoch_shows_the_set_in_a_new_order(self, generator):
        source = FixedSet(generated_set(generator, 5), 15)
        source.reset(1)
        images, labels = examples(source, 0, 45)
        assert distinct(images) == 15 == source.num_distinct(3)
        epochs = labels.reshape(3, 15)
        for order in epochs:
            np.testing.assert_array_equal(np.bincount(order), [5, 5, 5])
        assert len({order.tobytes() for order in epochs}) == 3

    def test_a_range_across_epochs_is_part_of_the_whole(self, generator):
        source = FixedSet(generated_set(generator, 5), 15)
        source.reset(1)
        images, _ = examples(source, 0, 45)
        part, _ = examples(source, 13, 20)
        np.testing.assert_array_equal(part, images[13:33])

    def test_is_the_beginning_of_the_stream(self, generator):
        images, labels = generated_set(generator, 4)(9)
        stream = GeneratorStream(generator, 4)
        stream.reset(9)
        streamed, streamed_labels = examples(stream, 0, 12)
        np.testing.assert_array_equal(images, streamed)
        np.testing.assert_array_equal(labels, streamed_labels)

    def test_counts_equal_images_once(self):
        images = np.zeros((6, *SHAPE), np.uint8)
        labels = np.array([0, 0, 1, 1, 2, 2], np.int32)
        source = FixedSet(lambda seed: (images, labels), 6)
        source.reset(0)
        assert source.num_distinct(10) == 3

    def test_batch_shrinks_and_is_bounded(self):
        assert FixedSet(None, 10).batch_size == 10
        assert FixedSet(None, 500).batch_size == 256


class TestRealStream:
    def test_no_image_twice_before_all_were_shown(self):
        split = random_split(30)
        source = RealStream(split, 2, CLASSES)
        source.reset(0)
        images, labels = examples(source, 0, 60)
        assert distinct(images[:30]) == 30 == source.num_distinct(5)
        assert distinct(images) == 30 == source.num_distinct(10)
        assert source.num_distinct(4) == 24 == distinct(images[:24])
        np.testing.assert_array_equal(labels, np.arange(60) % CLASSES)

    def test_examples_do_not_depend_on_the_cut(self):
        source = RealStream(random_split(30), 100, CLASSES)
        source.reset(0)
        size = source.batch_size
        whole, _ = examples(source, 0, 300)
        part, _ = examples(source, size, 300 - size)
        np.testing.assert_array_equal(part, whole[size:])

    def test_random_set_is_balanced_and_real(self):
        split = random_split(30)
        images, labels = first_real_images(split, 4, CLASSES)(0)
        np.testing.assert_array_equal(np.bincount(labels), [4, 4, 4])
        assert distinct(images) == 12
        real = {image.tobytes() for image in split.images}
        assert all(image.tobytes() in real for image in images)


class TestEvaluate:
    @pytest.mark.parametrize("protocol", ["stream", "fixed"])
    def test_is_a_pure_function_of_the_seed(self, dataset, generator, protocol):
        settings = config(
            protocol=protocol, eval_epochs=30, eval_learning_rate=0.1
        )

        def run(seed):
            scores = evaluate_generator(
                generator, dataset, settings, seed, verbose=0
            )
            return [(score.seed, score.accuracy) for score in scores]

        first = run(0)
        assert [seed for seed, _ in first] == [0, 1]
        assert run(0) == first
        # Network n of seed s is network n - 1 of seed s + 1.
        assert run(1)[0] == first[1]

    def test_seeds_give_other_networks(self, dataset, generator):
        scores = evaluate_generator(
            generator, dataset, config(num_seeds=6), verbose=0
        )
        assert len({score.accuracy for score in scores}) > 1

    @pytest.mark.parametrize("protocol", ["stream", "fixed"])
    def test_records_say_what_was_done(self, dataset, generator, protocol):
        settings = config(protocol=protocol)
        score = evaluate_generator(
            generator, dataset, settings, 5, "validation", 0, "gdd"
        )[1]
        assert 0 <= score.accuracy <= 1 and score.seconds > 0
        assert dataclasses.replace(score, accuracy=0.0, seconds=0.0) == Score(
            method="gdd",
            selection="random",
            protocol=protocol,
            ipc=2,
            network=LINEAR,
            seed=6,
            epochs=4,
            learning_rate=0.01,
            augmentation="crop" if protocol == "stream" else "dsa_digits",
            precision="float32",
            distinct_images=24 if protocol == "stream" else 6,
            split="validation",
            accuracy=0.0,
            seconds=0.0,
        )

    @pytest.mark.parametrize(
        ("protocol", "schedule", "expected"),
        [
            ("stream", "protocol", [0.01, 0.01, 0.01, 0.01]),
            ("stream", "step", [0.01, 0.01, 0.001, 0.001]),
            ("fixed", "protocol", [0.01, 0.01, 0.001, 0.001]),
            ("fixed", "step", [0.01, 0.01, 0.001, 0.001]),
        ],
    )
    def test_learning_rates(self, dataset, protocol, schedule, expected):
        settings = config(protocol=protocol, eval_schedule=schedule)
        # Four epochs of one step each.
        trainer = SourceScorer(
            RealStream(dataset.train, 2, CLASSES), dataset, settings
        ).trainer
        rates = [trainer._rate(tf.constant(s, tf.int64)) for s in range(4)]
        np.testing.assert_allclose(rates, expected, rtol=1e-6)

    def test_real_images_take_the_protocols_names(self, dataset):
        names = {
            protocol: evaluate_real(
                dataset,
                config(protocol=protocol, eval_augmentation="none"),
                verbose=0,
            )[0]
            for protocol in ("stream", "fixed")
        }
        assert names["stream"].method == "real_stream"
        assert names["stream"].distinct_images == 24
        assert names["fixed"].method == "random"
        assert names["fixed"].distinct_images == 6
        assert names["fixed"].augmentation == "none"

    def test_real_stream_learns_digits(self, digits):
        settings = EvaluationConfig(
            network=f"{__name__}:small_convnet",
            ipc=5,
            num_seeds=1,
            eval_epochs=300,
            eval_learning_rate=0.05,
            eval_augmentation="none",
        )
        score = evaluate_real(digits, settings, verbose=0)[0]
        # Chance is 0.1.
        assert score.accuracy > 0.8

    def test_pool_network_trains(self, dataset):
        settings = config(network="convnet3", num_seeds=1, eval_epochs=2)
        scores = evaluate_real(dataset, settings, verbose=0)
        assert scores[0].network == "convnet3"

    def test_low_precision_learns_as_well(self, dataset):
        # Brightness tells the classes apart.
        images = np.repeat(np.uint8([10, 120, 240]), 10).reshape(-1, 1, 1, 1)
        split = Split(
            np.broadcast_to(images, (30, *SHAPE)).copy(),
            np.repeat(np.arange(3, dtype=np.int32), 10),
        )
        dataset = dataclasses.replace(dataset, train=split, test=split)
        settings = config(
            network="mlp",
            num_seeds=1,
            eval_epochs=60,
            eval_learning_rate=0.05,
            eval_precision="mixed_bfloat16",
        )
        score = evaluate_real(dataset, settings, verbose=0)[0]
        assert score.precision == "mixed_bfloat16"
        assert score.accuracy == 1.0
        assert keras.config.dtype_policy().name == "float32"

    def test_progress_is_shown_only_when_asked(
        self, dataset, generator, capsys
    ):
        evaluate_generator(generator, dataset, config(), verbose=0)
        assert capsys.readouterr().out == ""
        evaluate_generator(generator, dataset, config(), verbose=1)
        shown = capsys.readouterr().out
        assert "generator, stream, IPC 2" in shown
        assert "2 of 2" in shown and "loss:" in shown
        assert "accuracy on test:" in shown

    def test_goes_on_after_the_networks_of_an_earlier_call(
        self, dataset, generator, capsys
    ):
        settings = config(num_seeds=3)
        whole, calls = evaluate_generator(generator, dataset, settings), []

        def stop(scores):
            calls.append(list(scores))
            if len(scores) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            evaluate_generator(generator, dataset, settings, on_score=stop)
        assert [len(scores) for scores in calls] == [1, 2]
        capsys.readouterr()
        scores = evaluate_generator(
            generator,
            dataset,
            settings,
            earlier=calls[-1],
            on_score=lambda scores: calls.append(list(scores)),
        )
        # Even their times: the first two were not trained again.
        assert scores[:2] == calls[1] and calls[2:] == [scores]
        assert [s.accuracy for s in scores] == [s.accuracy for s in whole]
        printed = capsys.readouterr().out
        assert (
            f"generator, stream, IPC 2, {LINEAR} 2 of 3: "
            f"{scores[1].accuracy:.2%}, from before\n"
        ) in printed
        assert printed.count("accuracy on test") == 1

    def test_scores_of_other_settings_are_not_taken_over(
        self, dataset, generator
    ):
        earlier = evaluate_generator(
            generator, dataset, config(ipc=1), verbose=0
        )
        trained = []
        evaluate_generator(
            generator,
            dataset,
            config(),
            verbose=0,
            earlier=earlier,
            on_score=trained.append,
        )
        assert len(trained) == 2

    def test_no_seeds_gives_no_scores(self, dataset, generator):
        settings = config(num_seeds=0)
        assert evaluate_generator(generator, dataset, settings) == []


class TestSourceScorer:
    def test_networks_come_one_at_a_time_and_in_any_order(self, dataset):
        source = RealStream(dataset.train, 2, CLASSES)
        settings = config(num_seeds=3, eval_learning_rate=0.1)
        scores = evaluate_source(source, dataset, settings, 4, verbose=0)
        scorer = SourceScorer(source, dataset, settings)
        for index in (2, 0):
            again = scorer.score(4 + index)
            assert (
                dataclasses.replace(again, seconds=scores[index].seconds)
                == scores[index]
            )

    def test_every_epoch_can_be_watched(self, dataset):
        source = RealStream(dataset.train, 2, CLASSES)
        scorer = SourceScorer(source, dataset, config(), "validation")
        seen = []
        score = scorer.score(
            0,
            on_epoch_end=lambda: seen.append(
                scorer.trainer.score(dataset.validation)
            ),
        )
        assert len(seen) == 4 and seen[-1] == score.accuracy

    @pytest.mark.parametrize(
        ("protocol", "decays"),
        [("stream", False), ("fixed", True), ("full_size", True)],
    )
    def test_schedule_follows_the_protocol(self, dataset, protocol, decays):
        scorer = SourceScorer(
            RealStream(dataset.train, 2, CLASSES),
            dataset,
            config(),
            protocol=protocol,
        )
        last = tf.constant(4 * scorer.trainer.steps_per_epoch - 1, tf.int64)
        assert float(scorer.trainer._rate(last)) == pytest.approx(
            0.001 if decays else 0.01
        )


class TestScoreFields:
    @pytest.mark.parametrize(
        ("data", "protocol", "expected"),
        [
            ("crop", "stream", "crop"),
            ("crop", "fixed", "dsa_digits"),
            ("color_crop", "stream", "color_crop"),
            ("color_crop", "fixed", "dsa"),
            ("color_crop", "full_size", "dsa"),
            ("none", "fixed", "none"),
        ],
    )
    def test_auto_augmentation(self, dataset, data, protocol, expected):
        dataset = dataclasses.replace(dataset, augmentation=data)
        calls = [(config(), protocol)]
        if protocol != "full_size":
            calls.append((config(protocol=protocol), None))
        for settings, own in calls:
            fields = score_fields(dataset, settings, "test", "m", protocol=own)
            assert fields["protocol"] == protocol
            assert fields["augmentation"] == expected

    def test_given_augmentation_holds_everywhere(self, dataset):
        for protocol in ("stream", "fixed", "full_size"):
            fields = score_fields(
                dataset,
                config(eval_augmentation="color_crop"),
                "test",
                "m",
                protocol=protocol,
            )
            assert fields["augmentation"] == "color_crop"

    def test_schedule_is_said_where_it_is_not_the_protocols(self, dataset):
        for protocol, expected in (
            ("stream", "step"),
            ("fixed", "protocol"),
            ("full_size", "protocol"),
        ):
            fields = score_fields(
                dataset,
                config(eval_schedule="step"),
                "test",
                "m",
                protocol=protocol,
            )
            assert fields["schedule"] == expected

    def test_all_but_what_a_network_adds(self, dataset):
        fields = score_fields(
            dataset,
            config(ipc=7, eval_precision="mixed_bfloat16"),
            "validation",
            "gdd",
            "herding",
            "fixed",
        )
        assert fields == {
            "method": "gdd",
            "selection": "herding",
            "protocol": "fixed",
            "ipc": 7,
            "network": LINEAR,
            "epochs": 4,
            "learning_rate": 0.01,
            "augmentation": "dsa_digits",
            "precision": "mixed_bfloat16",
            "labels": "hard",
            "schedule": "protocol",
            "split": "validation",
            "preparation": "200 candidates, reference of 10 epochs",
            "held_out": None,
        }
        own = {"seed", "distinct_images", "accuracy", "seconds"}
        assert set(fields) | own == set(Score.__dataclass_fields__)
        assert not set(fields) & own

    def test_full_size_has_no_ipc(self, dataset):
        fields = score_fields(
            dataset, config(), "test", "full", protocol="full_size"
        )
        assert fields["ipc"] is None


def small_convnet(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


class TestErrors:
    def test_other_shape(self, dataset):
        wrong = build_generator((16, 16, 1), CLASSES, latent_dim=2, width=2)
        with pytest.raises(InputError, match=r"random images, \(8, 8, 1\)"):
            evaluate_generator(wrong, dataset, config())

    def test_other_number_of_classes(self, dataset):
        wrong = build_generator(SHAPE, 4, latent_dim=2, width=2)
        with pytest.raises(InputError, match="the 3 classes .* of 4"):
            evaluate_generator(wrong, dataset, config())

    def test_other_class_names(self, dataset):
        class Other:
            image_shape = SHAPE
            num_classes = 3
            class_names = ["a", "c", "b"]

        with pytest.raises(InputError, match="label 1 is 'c' .* 'b' in the"):
            evaluate_generator(Other(), dataset, config())

    def test_unknown_split(self, dataset):
        with pytest.raises(InputError, match="test or validation.*train"):
            evaluate_real(dataset, config(), split="train")

    @pytest.mark.parametrize("empty", [None, "no images"])
    def test_no_test_split(self, dataset, empty):
        test = None if empty is None else random_split(0)
        dataset = dataclasses.replace(dataset, test=test)
        with pytest.raises(InputError, match="`test`.*`--split validation`"):
            evaluate_real(dataset, config())

    def test_unknown_network(self, dataset):
        with pytest.raises(InputError, match="one of convnet3"):
            evaluate_real(dataset, config(network="convnet99"))

    def test_diverged(self, dataset):
        settings = config(eval_learning_rate=1e30)
        with pytest.raises(RunError, match="Lower `--eval-learning-rate`"):
            evaluate_real(dataset, settings, verbose=0)


def make_score(accuracy, **settings):
    return Score(
        **{
            "method": "m",
            "selection": "random",
            "protocol": "stream",
            "ipc": 1,
            "network": "n",
            "seed": 0,
            "epochs": 2,
            "learning_rate": 0.01,
            "augmentation": "none",
            "precision": "float32",
            "distinct_images": 20,
            "split": "test",
            "accuracy": accuracy,
            "seconds": 1.5,
            **settings,
        }
    )


class TestSummarize:
    def test_mean_and_sample_deviation(self):
        summary = summarize(
            [make_score(0.5), make_score(0.7, seed=1), make_score(0.9, seed=2)]
        )
        assert summary["accuracy_mean"] == pytest.approx(0.7)
        # Divisor n - 1: sqrt((0.04 + 0 + 0.04) / 2).
        assert summary["accuracy_std"] == pytest.approx(0.2)
        assert summary["seeds"] == [0, 1, 2] and summary["num_seeds"] == 3
        assert summary["distinct_images"] == 20 and summary["seconds"] == 4.5
        assert summary["accuracies"] == [0.5, 0.7, 0.9]
        assert summary["accuracy_std"] == statistics.stdev([0.5, 0.7, 0.9])

    def test_one_network_has_no_deviation(self):
        summary = summarize([make_score(0.5)])
        assert summary["accuracy_mean"] == 0.5
        assert summary["accuracy_std"] is None
        assert format_accuracy(summary) == "50.00% (one network, no deviation)"

    def test_text(self):
        summary = summarize([make_score(0.5), make_score(0.7, seed=1)])
        assert format_accuracy(summary) == (
            "60.00% ± 14.14% (mean and sample deviation of 2 networks)"
        )

    def test_refuses_nothing_and_mixtures(self):
        with pytest.raises(ValueError, match="Received: 0 scores. Summarise"):
            summarize([])
        for field, value in (
            ("protocol", "fixed"),
            ("selection", "herding"),
            ("precision", "mixed_bfloat16"),
        ):
            other = make_score(0.5, **{field: value})
            with pytest.raises(ValueError, match="2 scores that differ"):
                summarize([make_score(0.5), other])


class Labeller:
    """Gives images labels by a function, as an export would."""

    has_soft_labels = True
    num_classes = CLASSES

    def __init__(self, classify):
        self.classify = classify


def source_of(protocol, generator):
    if protocol == "stream":
        return GeneratorStream(generator, 2)
    return FixedSet(generated_set(generator, 2), 2 * CLASSES)


@pytest.mark.parametrize("protocol", ["stream", "fixed"])
def test_soft_labels_are_those_of_the_images(generator, protocol, monkeypatch):
    def classify(images):
        brightness = tf.reduce_mean(tf.cast(images, tf.float32), (1, 2, 3))
        return tf.stack([brightness, 0.0 * brightness, -brightness], axis=1)

    hard = source_of(protocol, generator)
    source = SoftLabelled(source_of(protocol, generator), Labeller(classify))
    assert source.images_per_epoch == hard.images_per_epoch
    assert source.batch_size == hard.batch_size
    for either in (hard, source):
        either.reset(5)
    # More than are labelled at once.
    monkeypatch.setattr(sources, "_LABELLED_AT_ONCE", 5)
    place = tf.constant(6, tf.int64), tf.constant(12, tf.int64)
    images, labels = source.examples(*place)
    np.testing.assert_array_equal(images, hard.examples(*place)[0])
    np.testing.assert_array_equal(labels, classify(images))
    assert source.num_distinct(4) == hard.num_distinct(4)


def test_certain_soft_labels_teach_as_hard_ones(generator):
    hard = GeneratorStream(generator, 2)

    class Certain(SoftLabelled):
        def examples(self, start, count):
            images, labels = hard.examples(start, count)
            return images, tf.one_hot(labels, CLASSES)

    trained = []
    for source in (hard, Certain(hard, Labeller(None))):
        keras.utils.set_random_seed(0)
        model = linear(SHAPE, CLASSES)
        before = model.get_weights()
        source.reset(1)
        trainer = EvalTrainer(model, source, 5, 0.1, "crop")
        loss = trainer.train(1)
        trained.append([loss, *model.get_weights()])
        assert (model.get_weights()[0] != before[0]).any()
    for first, second in zip(*trained, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-6, atol=1e-6)


def test_soft_labels_need_an_export(dataset, generator):
    config = EvaluationConfig(ipc=2, eval_labels="soft", network=LINEAR)
    message = "`eval_labels` may be soft for an export that gives soft labels"
    with pytest.raises(InputError, match=message):
        evaluate_generator(generator, dataset, config)


def test_real_images_have_hard_labels(dataset):
    config = EvaluationConfig(
        ipc=2, eval_labels="soft", network=LINEAR, eval_epochs=1, num_seeds=1
    )
    (score,) = evaluate_real(dataset, config, verbose=0)
    assert score.labels == "hard"
