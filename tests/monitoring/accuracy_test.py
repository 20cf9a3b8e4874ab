import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import EvaluationConfig
from gdd_keras.config import RunError
from gdd_keras.evaluation import evaluate_generator
from gdd_keras.evaluation.protocols import SourceScorer
from gdd_keras.monitoring import HeldOutAccuracy
from gdd_keras.networks import build_generator


@pytest.fixture
def config(own_networks):
    return EvaluationConfig(
        network=f"{own_networks}:narrow", ipc=2, num_seeds=1
    )


@pytest.fixture
def trainer(make_trainer):
    trainer = make_trainer()
    trainer.deployed_generator = build_generator((8, 8, 1), 3, "compact", 5, 4)
    trainer.num_classes = 3
    return trainer


def monitor(folder, trainer, fit, dataset, config, every, **settings):
    writer = tf.summary.create_file_writer(str(folder))
    callback = HeldOutAccuracy(dataset, config, writer, every, **settings)
    fit(trainer, [callback], steps=2, epochs=5)
    writer.close()


def test_accuracy_is_that_of_an_evaluation(
    tmp_path, trainer, fit, toy_dataset, config, read_events, scalars
):
    monitor(tmp_path, trainer, fit, toy_dataset, config, 2, seed=3, updates=7)
    points = scalars(read_events(tmp_path), "accuracy/held_out")
    (score,) = evaluate_generator(
        trainer.deployed_generator,
        toy_dataset,
        dataclasses.replace(config, eval_epochs=7),
        seed=3,
        split="validation",
        verbose=0,
    )
    # The generator stands still.
    assert points == pytest.approx({4: score.accuracy, 8: score.accuracy})


def test_what_is_trained_and_scored(
    tmp_path, trainer, fit, toy_dataset, config, monkeypatch
):
    seen = []

    def score(self, seed):
        epochs = self.trainer.epochs
        seen.append((seed, epochs, self.fields["split"]))
        return self.__class__.score_of

    class Result:
        accuracy = 0.5

    monkeypatch.setattr(SourceScorer, "score_of", Result, raising=False)
    monkeypatch.setattr(SourceScorer, "score", score)
    monitor(tmp_path, trainer, fit, toy_dataset, config, 5, seed=3)
    # An epoch of three classes by two images is one step.
    assert seen == [(3, 300, "validation")]
    seen.clear()
    few = dataclasses.replace(config, eval_epochs=20, protocol="fixed")
    monitor(tmp_path, trainer, fit, toy_dataset, few, 5)
    assert seen == [(0, 20, "validation")]


def test_labels_are_mixed(tmp_path, trainer, fit, toy_dataset, config):
    images = []
    for mixing in (0.0, 0.9):
        callback = HeldOutAccuracy(
            toy_dataset, config, None, 9, label_mixing=mixing
        )
        fit(trainer, [callback], steps=1)
        source = callback._scorer._source
        images.append(source.examples(tf.constant(0, tf.int64), 6)[0].numpy())
    assert (np.asarray(images[0]) != images[1]).any()


def test_network_that_diverges_gives_no_point(
    tmp_path, trainer, fit, toy_dataset, config, monkeypatch, read_events
):
    def diverge(self, seed):
        raise RunError("the loss is nan")

    monkeypatch.setattr(SourceScorer, "score", diverge)
    monitor(tmp_path, trainer, fit, toy_dataset, config, 1)
    assert int(trainer.step) == 10
    assert read_events(tmp_path).Tags()["tensors"] == []
