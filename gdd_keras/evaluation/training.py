"""The training loop of `eval_model`s: compiled, many steps per call."""

import sys
import time

import keras
import numpy as np
import tensorflow as tf

from gdd_keras.data.augmentation import augment
from gdd_keras.data.pipeline import evaluation_batches
from gdd_keras.data.pipeline import scale_images
from gdd_keras.losses.adversarial import classification_loss

__all__ = ["EvalTrainer", "progress_bar"]

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

# More steps per call would gain nothing and only delay Ctrl-C.
_STEPS_PER_CALL = 20
_CALL_BYTES = 64 * 2**20


def progress_bar(total, unit_name):
    """Returns Keras's progress bar of a loss.

    Args:
        total: Units of the whole.
        unit_name: What one of them is called.
    """
    return keras.utils.Progbar(
        total,
        # In a log file one line at the end is enough.
        verbose=1 if sys.stdout.isatty() else 2,
        unit_name=unit_name,
        stateful_metrics=["loss"],
    )


class EvalTrainer:
    """Trains a classifier on a source with the SGD of the literature.

    On the labels that the source gives, hard or soft.

    `v = 0.9 v + (g + 5e-4 w); w = w - rate v` for all trainable weights. The
    weight decay is part of the gradient, unlike the `weight_decay` of Keras
    optimizers, and the rate is no part of the velocity.

    Reference:
        - [Wang et al., 2023](https://arxiv.org/abs/2303.04707)
        - [Zhao & Bilen, 2021](https://arxiv.org/abs/2102.08259)

    Args:
        model: `keras.Model` from images in [-1, 1] to logits.
        source: See `gdd_keras.evaluation.sources`.
        epochs: Epochs of `source.images_per_epoch` images.
        learning_rate: Rate of SGD.
        augmentation: Strategy of `augment`.
        decay_at_half: Whether the rate falls to a tenth for the second half.
        jit_compile: Whether XLA compiles the step; `None` means on a GPU,
            since on a CPU it halves the speed of convolutions.

    Example:
        ```python
        source = GeneratorStream(generator, ipc=10)
        trainer = EvalTrainer(model, source, epochs=1000)
        source.reset(seed=0)
        trainer.train(seed=0)
        accuracy = trainer.score(dataset.test)
        ```
    """

    def __init__(
        self,
        model,
        source,
        epochs,
        learning_rate=0.01,
        augmentation="none",
        decay_at_half=False,
        jit_compile=None,
    ):
        self.model = model
        self.source = source
        self.epochs = epochs
        self.steps_per_epoch = -(-source.images_per_epoch // source.batch_size)
        self._learning_rate = learning_rate
        self._augmentation = augmentation
        self._decay_at_half = decay_at_half
        self._velocities = [
            tf.Variable(tf.zeros(weight.shape), trainable=False)
            for weight in model.trainable_variables
        ]
        if jit_compile is None:
            jit_compile = bool(tf.config.list_physical_devices("GPU"))
        self._step = tf.function(
            self._train_step, autograph=False, jit_compile=jit_compile
        )
        self._run = tf.function(
            self._train_steps,
            autograph=False,
            input_signature=[
                tf.TensorSpec((), tf.int64),
                tf.TensorSpec((), tf.int64),
                tf.TensorSpec((), tf.int64),
            ],
        )
        self._predicts_label = tf.function(
            self._is_correct, autograph=False, reduce_retracing=True
        )

    def train(self, seed, progress=None, on_epoch_end=None):
        """Trains all epochs, from the model's weights as they are.

        Args:
            seed: Integer seed of the augmentation; `source.reset` sets that
                of the images.
            progress: Function of (epochs done, mean loss since the last
                call), or `None`.
            on_epoch_end: Function of no arguments, or `None`. It costs a
                call into TensorFlow per epoch, which short epochs feel.

        Returns:
            Mean loss of the last steps, a float.
        """
        for velocity in self._velocities:
            velocity.assign(tf.zeros_like(velocity))
        num_steps = self.epochs * self.steps_per_epoch
        per_call = self._steps_per_call()
        loss = None
        last = 0
        while last < num_steps:
            first, last = last, min(last + per_call, num_steps)
            if on_epoch_end is not None:
                epoch = first // self.steps_per_epoch
                last = min(last, (epoch + 1) * self.steps_per_epoch)
            loss = float(
                self._run(
                    tf.constant(first, tf.int64),
                    tf.constant(last, tf.int64),
                    tf.constant(seed, tf.int64),
                )
            )
            if progress is not None:
                progress(last // self.steps_per_epoch, loss)
            if on_epoch_end is not None and last % self.steps_per_epoch == 0:
                on_epoch_end()
        return loss

    def time_epoch(self):
        """Returns the seconds of an epoch here, by training all of them twice.

        Afterwards the model is no use any more.
        """
        self.source.reset(0)
        # The first time it is compiled.
        self.train(0)
        started = time.monotonic()
        self.train(0)
        return (time.monotonic() - started) / self.epochs

    def score(self, split):
        """Returns the model's accuracy on a split, in [0, 1].

        Args:
            split: `Split` of at least one image.
        """
        return float(np.mean(self.correct(split)))

    def correct(self, split):
        """Returns which images the model gets right, bool `(n,)`.

        Args:
            split: As in `score`.
        """
        height, width = split.images.shape[1:3]
        batch_size = max(1, min(1000, 250 * 32 * 32 // (height * width)))
        return np.concatenate(
            [
                self._predicts_label(images, labels).numpy()
                for images, labels in evaluation_batches(split, batch_size)
            ]
        )

    def _steps_per_call(self):
        """Returns how many steps' images are made, and held, at once."""
        shape = self.model.input_shape[1:]
        batch_bytes = (
            self.source.batch_size * tf.TensorShape(shape).num_elements()
        )
        return max(1, min(_STEPS_PER_CALL, _CALL_BYTES // batch_bytes))

    def _position(self, step):
        """Returns the number of the first example of a step."""
        size = tf.constant(self.source.images_per_epoch, tf.int64)
        epoch, batch = step // self.steps_per_epoch, step % self.steps_per_epoch
        return epoch * size + tf.minimum(batch * self.source.batch_size, size)

    def _train_steps(self, first, last, seed):
        """Trains the steps `first` to `last - 1`; returns their mean loss."""
        start = self._position(first)
        images, labels = self.source.examples(
            start, self._position(last) - start
        )

        def one_step(step, total):
            begin = self._position(step) - start
            end = self._position(step + 1) - start
            # Outside the compiled step: XLA has no projective transform.
            batch = augment(
                scale_images(images[begin:end]),
                self._augmentation,
                tf.cast(tf.stack([seed, step]), tf.int32),
            )
            return step + 1, total + self._step(batch, labels[begin:end], step)

        _, total = tf.while_loop(
            lambda step, total: step < last,
            one_step,
            (first, tf.constant(0.0)),
            parallel_iterations=1,
        )
        return total / tf.cast(last - first, tf.float32)

    def _train_step(self, images, labels, step):
        """Updates the weights by one batch; returns its loss."""
        weights = [weight.value for weight in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            loss = classification_loss(labels, tf.cast(logits, tf.float32))
        gradients = tape.gradient(loss, weights)
        rate = self._rate(step)
        for weight, velocity, gradient in zip(
            weights, self._velocities, gradients, strict=True
        ):
            gradient += WEIGHT_DECAY * weight
            velocity.assign(MOMENTUM * velocity + gradient)
            weight.assign_sub(rate * velocity)
        return loss

    def _rate(self, step):
        """Returns the learning rate of a step."""
        rate = tf.constant(self._learning_rate)
        if not self._decay_at_half:
            return rate
        in_second_half = 2 * (step // self.steps_per_epoch) >= self.epochs
        return tf.where(in_second_half, 0.1 * rate, rate)

    def _is_correct(self, images, labels):
        logits = self.model(scale_images(images), training=False)
        predicted = keras.ops.argmax(logits, axis=-1)
        return tf.equal(tf.cast(predicted, tf.int32), labels)
