import dataclasses
import time

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import softmax

from gdd_keras import labeller
from gdd_keras.config import RunError
from gdd_keras.labeller import build_labeller
from gdd_keras.labeller import describe_labeller
from gdd_keras.labeller import soft_labeller
from gdd_keras.labeller import time_labeller
from gdd_keras.labeller import train_labeller


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_labels_are_the_softmax_of_cooled_logits(toy_dataset, temperature):
    network = build_labeller(toy_dataset, seed=3)
    images = toy_dataset.test.images
    logits = np.asarray(network(images / np.float32(127.5) - 1.0), "float64")
    found = soft_labeller(network, temperature)(images.astype("float32"))
    assert found.dtype == "float32"
    np.testing.assert_allclose(
        found, softmax(logits / temperature, axis=1), rtol=1e-4, atol=1e-6
    )


def test_labels_are_a_copys_and_computed_in_float32(toy_dataset):
    network = build_labeller(toy_dataset, precision="mixed_bfloat16")
    images = toy_dataset.test.images.astype("float32")
    whole = build_labeller(toy_dataset, seed=1)
    whole.set_weights(network.get_weights())
    labels = soft_labeller(network)
    expected = np.asarray(soft_labeller(whole)(images))
    np.testing.assert_array_equal(labels(images), expected)
    network.set_weights([0 * w for w in network.get_weights()])
    np.testing.assert_array_equal(labels(images), expected)


def test_labels_need_no_xla(toy_dataset):
    """Which a model server does not have by default."""
    labels = soft_labeller(build_labeller(toy_dataset))

    @tf.function
    def run(images):
        return labels(images)

    images = tf.constant(toy_dataset.test.images, tf.float32)
    graph = run.get_concrete_function(images).graph.as_graph_def()
    assert "_XlaMustCompile" not in str(graph)


def test_seconds_of_a_step(toy_dataset, monkeypatch):
    calls = []

    def train(trainer, seed):
        calls.append(trainer)
        now.append(now[-1] + (100.0 if len(calls) == 1 else 5.0))

    now = [0.0]
    monkeypatch.setattr(labeller.EvalTrainer, "train", train)
    monkeypatch.setattr(time, "monotonic", lambda: now[-1])
    seconds = time_labeller(toy_dataset)
    monkeypatch.undo()
    # The first call compiles and does not count.
    assert seconds == 5.0 / 10
    assert len(calls) == 2
    assert time_labeller(toy_dataset) > 0


def test_training_learns_and_repeats_itself(toy_dataset):
    def brighter(split):
        images = split.images // 4 + 80 * split.labels[:, None, None, None]
        return dataclasses.replace(split, images=images.astype("uint8"))

    dataset = dataclasses.replace(
        toy_dataset,
        train=brighter(toy_dataset.train),
        validation=brighter(toy_dataset.validation),
    )
    network, accuracy = train_labeller(dataset, 30, verbose=0)
    assert accuracy == 1.0
    images = dataset.validation.images / np.float32(127.5) - 1.0
    right = np.argmax(network(images), 1) == dataset.validation.labels
    assert right.all()
    again, _ = train_labeller(dataset, 30, verbose=0)
    for first, second in zip(
        network.get_weights(), again.get_weights(), strict=True
    ):
        np.testing.assert_allclose(first, second, atol=1e-5)
    other, _ = train_labeller(dataset, 30, seed=1, verbose=0)
    assert any(
        np.abs(first - second).max() > 1e-3
        for first, second in zip(
            network.get_weights(), other.get_weights(), strict=True
        )
    )


def test_loss_that_is_not_finite_ends_it(toy_dataset, monkeypatch):
    monkeypatch.setattr(labeller, "_LEARNING_RATE", 1e20)
    message = "labeller's loss is .* after .* of 40 epochs. Look at the data"
    with pytest.raises(RunError, match=message):
        train_labeller(toy_dataset, 40, verbose=0)


def test_line_says_steps_and_images(toy_dataset):
    assert describe_labeller(toy_dataset, 1234) == (
        "labeller: 1,234 steps of 255 real images"
    )
