"""Curves of TensorBoard: losses, gradients, rates and speed."""

import time

import keras
import tensorflow as tf

from gdd_keras.strategy import scalar

__all__ = ["TensorBoardScalars"]


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes what changes from step to step, at its training step.

    | tag | value |
    |---|---|
    | `losses/<name>` | every loss term, unweighted |
    | `weighted/<term>` | the generator's terms times their weights |
    | `weighted/total` | their sum, what the generator minimises |
    | `gradient_norm/<network>` | Euclidean norm of the gradient |
    | `learning_rate/<network>` | as the last step used it |
    | `speed/images_per_second` | real images trained on since the last point |

    Losses and norms are running means over the epoch. Time between epochs and
    that of the first execution, which compiles, does not count as training.

    Args:
        writer: `tf.summary` writer.
        images_per_step: Real images of one step.
        every_steps: Steps between points; an epoch's end is one too.
    """

    def __init__(self, writer, images_per_step, every_steps=50):
        super().__init__()
        self.writer = writer
        self.images_per_step = images_per_step
        self.every_steps = every_steps
        self._last = None
        self._mark = None

    def on_epoch_begin(self, epoch, logs=None):
        if self._mark is not None:
            self._mark = (scalar(self.model.step), time.perf_counter())

    def on_train_batch_end(self, batch, logs=None):
        step = scalar(self.model.step)
        if self._last is None or step - self._last >= self.every_steps:
            self._write(step, logs)
        if self._mark is None:
            self._mark = (step, time.perf_counter())

    def on_epoch_end(self, epoch, logs=None):
        step = scalar(self.model.step)
        if step != self._last:
            self._write(step, logs)
        self.writer.flush()

    def _write(self, step, logs):
        self._last = step
        with self.writer.as_default(step=step):
            for tag, value in self._values(step, logs or {}).items():
                tf.summary.scalar(tag, value)

    def _values(self, step, logs):
        """Returns tag to value."""
        values = {f"losses/{name}": value for name, value in logs.items()}
        weighted = {
            f"weighted/{name.removesuffix('_loss')}": weight * logs[name]
            for name, weight in self.model.loss_weights.items()
            if name in logs
        }
        values.update(weighted)
        values["weighted/total"] = sum(weighted.values())
        for network, norm in self.model.gradient_norms().items():
            values[f"gradient_norm/{network}"] = norm
            optimizer = getattr(self.model, f"{network}_optimizer")
            rate = scalar(optimizer.learning_rate)
            values[f"learning_rate/{network}"] = rate
        if self._mark is not None and step > self._mark[0]:
            now = time.perf_counter()
            steps, seconds = step - self._mark[0], now - self._mark[1]
            rate = steps * self.images_per_step / seconds
            values["speed/images_per_second"] = rate
            self._mark = (step, now)
        return values
