"""What happens around the training steps of both stages."""

import io
import math
import time

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from gdd_keras.config import RunError
from gdd_keras.memory import release_free_memory
from gdd_keras.strategy import scalar

__all__ = [
    "Checkpoint",
    "Deadline",
    "LearningRateDecay",
    "NAN_ADVICE",
    "PoolRedraw",
    "StopOnNaN",
    "image_grid",
    "png_bytes",
]

NAN_ADVICE = (
    "The last good checkpoint is kept. Lower `--generator-learning-rate` and "
    "`--discriminator-learning-rate` (stage 2: the `--distill-...` ones, "
    "`--omega-g` and `--omega-l`) and start again."
)


class PoolRedraw(keras.callbacks.Callback):
    """Puts a fresh pool network in use every `redraw_steps` steps.

    The draw's number follows from the step counter, so that a resumed run
    draws the same networks.

    Args:
        redraw_steps: Steps between draws.
        writer: `tf.summary` writer that notes each draw as `pool/network`
            and `pool/index`, or `None`.
        first_step: Step counter at the stage's start.
    """

    def __init__(self, redraw_steps, writer=None, first_step=0):
        super().__init__()
        self.redraw_steps = redraw_steps
        self.first_step = first_step
        self.writer = writer

    def on_train_batch_begin(self, batch, logs=None):
        step, pool = scalar(self.model.step), self.model.pool
        number = (step - self.first_step) // self.redraw_steps
        if scalar(pool.draw_count) == number:
            return
        pool.draw(number)
        release_free_memory()
        if self.writer is not None:
            with self.writer.as_default(step=step):
                tf.summary.text("pool/network", pool.current_name)
                tf.summary.scalar("pool/index", scalar(pool.index))


class LearningRateDecay(keras.callbacks.Callback):
    """Holds both learning rates, then lets them fall linearly to zero.

    Args:
        first_step: Step counter at the stage's start.
        total_steps: Steps of the stage.
        decay_fraction: Last part of the stage over which the rates fall.
        seconds: With a time budget, the seconds left to the stage: progress
            is then whichever is further, steps or time. `None` otherwise.
        rates: Rates of generator and discriminator to start from; `None`
            takes those of the optimizers when training begins, which a
            checkpoint may have put back to decayed ones.
        used: Seconds that the stage took before an interruption, without
            which its rates would rise again.
    """

    def __init__(
        self,
        first_step,
        total_steps,
        decay_fraction,
        seconds=None,
        rates=None,
        used=0.0,
    ):
        super().__init__()
        self.first_step = first_step
        self.total_steps = total_steps
        self.decay_fraction = decay_fraction
        self.seconds = seconds
        self.used = used
        self._rates = rates
        self._start = None

    def on_train_begin(self, logs=None):
        # A stage may take several calls of `fit`.
        if self._start is None:
            self._start = time.monotonic()
        self._optimizers = (
            self.model.generator_optimizer,
            self.model.discriminator_optimizer,
        )
        if self._rates is None:
            self._rates = [scalar(o.learning_rate) for o in self._optimizers]

    def factor(self, progress):
        """Returns the multiplier of the rates at a progress in [0, 1]."""
        if self.decay_fraction == 0.0:
            return 1.0
        return min(1.0, max(0.0, (1.0 - progress) / self.decay_fraction))

    def on_train_batch_begin(self, batch, logs=None):
        steps = scalar(self.model.step) - self.first_step
        progress = steps / self.total_steps
        if self.seconds is not None:
            elapsed = self.used + time.monotonic() - self._start
            progress = max(progress, elapsed / (self.used + self.seconds))
        factor = self.factor(progress)
        for optimizer, rate in zip(self._optimizers, self._rates, strict=True):
            optimizer.learning_rate.assign(rate * factor)


class Deadline(keras.callbacks.Callback):
    """Ends a stage when its share of the time budget is used up.

    Args:
        seconds: From the stage's start.
    """

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self._end = None

    def on_train_begin(self, logs=None):
        # A stage may take several calls of `fit`.
        if self._end is None:
            self._end = time.monotonic() + self.seconds

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() >= self._end:
            self.model.stop_training = True


class StopOnNaN(keras.callbacks.Callback):
    """Stops the run at the first loss that is not finite.

    Runs before `Checkpoint`, so that the last checkpoint is a good one.

    Args:
        stage: Name for the message.
    """

    def __init__(self, stage):
        super().__init__()
        self.stage = stage

    def on_train_batch_end(self, batch, logs=None):
        for name, value in (logs or {}).items():
            if not math.isfinite(float(value)):
                step = scalar(self.model.step)
                raise RunError(
                    f"`{name}` became {float(value)} at step {step} of stage "
                    f"{self.stage}. {NAN_ADVICE}"
                )


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of training after every epoch.

    Also before a signal ends training: the first one waits until the step is
    over and saved. Runs after the callbacks that look for NaN.

    Args:
        manager: `tf.train.CheckpointManager` over the trainer's `state()`.
        on_saved: Called without arguments after each save.
        signals: `PostponedSignals` in force.
        execution: Steps after whose multiples training can go on.
    """

    def __init__(self, manager, on_saved, signals, execution=1):
        super().__init__()
        self.manager = manager
        self.on_saved = on_saved
        self.signals = signals
        self.execution = execution
        self._saved = None

    def on_train_batch_end(self, batch, logs=None):
        if not self.signals.pending or (batch + 1) % self.execution:
            return
        # The end of an epoch has work of its own, some of which is saved, and
        # would not be made up for.
        if batch + 1 >= self.params["steps"]:
            return
        # Otherwise only the end of an epoch looks at the weights.
        image_grid(self.model.averaged_generator)
        self._save()
        self.signals.deliver()

    def on_epoch_end(self, epoch, logs=None):
        self._save()
        self.signals.deliver()

    def _save(self):
        step = scalar(self.model.step)
        if step != self._saved:
            self.manager.save(checkpoint_number=step)
            self.on_saved()
            self._saved = step


def image_grid(generator, seed=0, columns=10, max_rows=20):
    """Draws a grid of generated images, one row per class.

    Args:
        generator: `keras.Model` as from `build_generator`.
        seed: Integer seed of the latents.
        columns: Images per class.
        max_rows: Classes shown at most.

    Returns:
        uint8 `(rows * height, columns * width, channels)`.

    Raises:
        RunError: If an image is not finite. The step that spoils the weights
            can show finite losses, so this is the last guard before a
            checkpoint or an export.
    """
    latent_dim = generator.input_shape[0][-1]
    num_classes = generator.input_shape[1][-1]
    rows = min(num_classes, max_rows)
    labels = np.repeat(np.arange(rows), columns)
    latents = tf.random.stateless_normal((len(labels), latent_dim), [seed, 0])
    images = generator(
        [latents, tf.one_hot(labels, num_classes)], training=False
    )
    height, width, channels = images.shape[1:]
    grid = np.asarray(images).reshape(rows, columns, height, width, channels)
    if not np.isfinite(grid).all():
        raise RunError(f"Generated images became NaN. {NAN_ADVICE}")
    grid = grid.transpose(0, 2, 1, 3, 4)
    grid = grid.reshape(rows * height, columns * width, channels)
    return np.clip(np.round((grid + 1.0) * 127.5), 0, 255).astype(np.uint8)


def png_bytes(image):
    """Encodes a uint8 image `(height, width, 1 or 3)` as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
        buffer, "PNG"
    )
    return buffer.getvalue()
