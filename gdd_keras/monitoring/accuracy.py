"""Accuracy on held-out images while training goes on."""

import dataclasses

import keras
import tensorflow as tf

from gdd_keras.config import RunError
from gdd_keras.evaluation.protocols import SourceScorer
from gdd_keras.evaluation.sources import GeneratorStream
from gdd_keras.evaluation.sources import UnexportedGenerator
from gdd_keras.strategy import scalar

__all__ = ["HeldOutAccuracy", "MONITOR_UPDATES"]

# Enough to rank generators, a tenth of a score's minutes.
MONITOR_UPDATES = 300


class HeldOutAccuracy(keras.callbacks.Callback):
    """Trains a network on generated images now and then, and scores it.

    Images come from the moving-average generator, protocol `stream`; the
    accuracy is that on the validation split, tag `accuracy/held_out`. It is
    lower than a final score, since the network trains for a few hundred
    updates, and all points share weights, latents and augmentation: only the
    generator differs. Training is the same with and without it.

    A network that diverges gives no point.

    Args:
        dataset: `Dataset`.
        config: `EvaluationConfig`: its network, IPC, learning rate,
            schedule, augmentation and precision count, and its epochs where
            they are fewer than `updates` steps.
        writer: `tf.summary` writer.
        every_epochs: Epochs between points, counted from the stage's start.
        label_mixing: As in the export, see `GenerationConfig`.
        seed: Integer seed of network, latents and augmentation.
        updates: SGD steps of the network, rounded up to whole epochs.
    """

    def __init__(
        self,
        dataset,
        config,
        writer,
        every_epochs,
        label_mixing=0.0,
        seed=0,
        updates=MONITOR_UPDATES,
    ):
        super().__init__()
        self.dataset = dataset
        # A network in training has no export that could give soft labels.
        self.config = dataclasses.replace(
            config, protocol="stream", eval_labels="hard"
        )
        self.writer = writer
        self.every_epochs = every_epochs
        self.label_mixing = label_mixing
        self.seed = seed
        self.updates = updates

    def on_train_begin(self, logs=None):
        source = GeneratorStream(
            UnexportedGenerator(
                self.model.deployed_generator, self.label_mixing
            ),
            self.config.ipc,
        )
        steps_per_epoch = -(-source.images_per_epoch // source.batch_size)
        epochs = -(-self.updates // steps_per_epoch)
        self._scorer = SourceScorer(
            source,
            self.dataset,
            dataclasses.replace(
                self.config, eval_epochs=min(epochs, self.config.eval_epochs)
            ),
            split="validation",
            method="generator",
        )

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every_epochs:
            return
        try:
            accuracy = self._scorer.score(self.seed).accuracy
        except RunError:
            return
        with self.writer.as_default(step=scalar(self.model.step)):
            tf.summary.scalar("accuracy/held_out", accuracy)
        self.writer.flush()
