import io
import itertools
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from gdd_keras import callbacks
from gdd_keras.callbacks import Checkpoint
from gdd_keras.callbacks import Deadline
from gdd_keras.callbacks import LearningRateDecay
from gdd_keras.callbacks import PoolRedraw
from gdd_keras.callbacks import StopOnNaN
from gdd_keras.callbacks import image_grid
from gdd_keras.callbacks import png_bytes
from gdd_keras.config import RunError


class Pool:
    def __init__(self):
        self.draw_count = tf.Variable(-1, dtype=tf.int64)
        self.index = tf.Variable(0)
        self.drawn = []

    def draw(self, number):
        self.draw_count.assign(number)
        self.index.assign(number % 2)
        self.drawn.append(number)

    @property
    def current_name(self):
        return "ab"[int(self.index)]


class Trainer(keras.Model):
    """Counts steps as the trainers of both stages do; learns nothing."""

    def __init__(self, losses=()):
        super().__init__()
        self.step = self.add_weight(shape=(), dtype="int64", name="step")
        self.losses_by_step = tf.constant([*losses, 0.0], tf.float32)
        self.num_losses = len(losses)
        self.pool = Pool()
        self.generator_optimizer = keras.optimizers.SGD(0.5)
        self.discriminator_optimizer = keras.optimizers.SGD(0.25)
        self.built = True
        self.compile(self.generator_optimizer)

    def train_step(self, data):
        loss = tf.gather(
            self.losses_by_step,
            tf.minimum(tf.convert_to_tensor(self.step), self.num_losses),
        )
        self.step.assign_add(1)
        return {"first_loss": loss, "second_loss": 2.0 * loss}


class Rates(keras.callbacks.Callback):
    """Notes both learning rates as each step uses them."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(
            (
                float(self.model.generator_optimizer.learning_rate),
                float(self.model.discriminator_optimizer.learning_rate),
            )
        )


@pytest.fixture
def ticking_clock(monkeypatch):
    """Lets every look at the clock take one second, from 0."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr(callbacks, "time", clock)


def fit(trainer, callbacks, steps=10, epochs=1):
    trainer.fit(
        tf.data.Dataset.from_tensors(tf.zeros(1)).repeat(),
        steps_per_epoch=steps,
        epochs=epochs,
        callbacks=callbacks,
        shuffle=False,
        verbose=0,
    )


def test_learning_rates_hold_then_fall():
    trainer, rates = Trainer(), Rates()
    trainer.step.assign(100)
    fit(trainer, [LearningRateDecay(100, 10, 0.4), rates])
    # Progress is 0.0, 0.1 .. 0.9; the fall begins at 0.6.
    factors = np.minimum(1.0, (1.0 - np.arange(10) / 10) / 0.4)
    np.testing.assert_allclose(
        rates.seen, factors[:, None] * [0.5, 0.25], rtol=1e-5
    )


@pytest.mark.parametrize(
    ("fraction", "progress", "factor"),
    [
        (0.0, 0.99, 1.0),
        (0.0, 2.0, 1.0),
        (1.0, 0.0, 1.0),
        (1.0, 0.25, 0.75),
        (0.5, 0.5, 1.0),
        (0.5, 0.75, 0.5),
        (0.5, 1.0, 0.0),
        (0.5, 1.5, 0.0),
    ],
)
def test_decay_factor(fraction, progress, factor):
    decay = LearningRateDecay(0, 10, fraction)
    assert decay.factor(progress) == pytest.approx(factor)


def test_decay_goes_on_in_the_middle_of_a_stage():
    whole, rates, resumed = Trainer(), Rates(), Rates()
    fit(whole, [LearningRateDecay(0, 10, 0.5), rates])
    continued = Trainer()
    continued.step.assign(6)
    fit(continued, [LearningRateDecay(0, 10, 0.5), resumed], steps=4)
    np.testing.assert_allclose(resumed.seen, rates.seen[6:])


def test_decay_follows_the_clock_of_a_budget(ticking_clock):
    trainer, rates = Trainer(), Rates()
    # One second per step, ten seconds: time is further than 1,000 steps.
    fit(trainer, [LearningRateDecay(0, 1000, 1.0, seconds=10.0), rates], 9)
    np.testing.assert_allclose(
        [rate for rate, _ in rates.seen], 0.5 * (1 - np.arange(1, 10) / 10)
    )


def test_decay_goes_on_by_the_clock_after_an_interruption(ticking_clock):
    trainer, rates = Trainer(), Rates()
    decay = LearningRateDecay(0, 1000, 1.0, seconds=10.0, used=30.0)
    fit(trainer, [decay, rates], 9)
    np.testing.assert_allclose(
        [rate for rate, _ in rates.seen], 0.5 * (1 - np.arange(31, 40) / 40)
    )


def test_deadline_stops_inside_an_epoch(ticking_clock):
    trainer = Trainer()
    fit(trainer, [Deadline(4.0)], steps=10, epochs=3)
    # The start reads 0, the fourth step 4.
    assert int(trainer.step) == 4


def test_deadline_counts_from_the_first_call(ticking_clock):
    trainer, deadline = Trainer(), Deadline(4.0)
    fit(trainer, [deadline], steps=2)
    fit(trainer, [deadline], steps=10)
    assert int(trainer.step) == 4


def test_deadline_in_the_future_stops_nothing():
    trainer = Trainer()
    fit(trainer, [Deadline(1e6)], steps=3, epochs=2)
    assert int(trainer.step) == 6


@pytest.mark.parametrize(
    ("execution", "step", "saved", "last"),
    [
        (1, 2, [3], 3),
        # Another device, which takes two steps at a time, must be able to
        # go on.
        (2, 2, [4], 4),
        (1, 4, [5], 5),
        # The end of the epoch has more to do, which is saved with it.
        (1, 5, [6], 6),
        (4, 5, [6], 6),
    ],
)
def test_signal_ends_training_after_a_checkpoint(
    execution, step, saved, last, tiny_generator
):
    class Signals:
        pending = False

        def deliver(self):
            if self.pending:
                raise KeyboardInterrupt

    class Manager:
        def save(self, checkpoint_number):
            self.numbers.append(checkpoint_number)

    class Send(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            signals.pending = batch >= step

    class Work(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            assert 6 * (epoch + 1) not in manager.numbers

    trainer, manager, signals = Trainer(), Manager(), Signals()
    trainer.averaged_generator = tiny_generator
    manager.numbers = []
    notes = []
    checkpoint = Checkpoint(
        manager, lambda: notes.append(1), signals, execution
    )
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, [Send(), Work(), checkpoint], steps=6, epochs=2)
    assert manager.numbers == saved
    assert len(notes) == len(saved)
    assert int(trainer.step) == last


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_stop_on_nan_says_where(bad):
    trainer = Trainer([1.0, 1.0, bad])
    with pytest.raises(
        RunError,
        match=f"`first_loss` became {bad} at step 3 of stage cgan. .*Lower "
        "`--generator-learning-rate`",
    ):
        fit(trainer, [StopOnNaN("cgan")])
    assert int(trainer.step) == 3


def test_stop_on_nan_lets_finite_losses_pass():
    trainer = Trainer([1e30, -1e30, 0.0])
    fit(trainer, [StopOnNaN("cgan")], steps=3)
    assert int(trainer.step) == 3


def test_pool_redraw_follows_the_step_counter():
    trainer = Trainer()
    fit(trainer, [PoolRedraw(3)], steps=5, epochs=2)
    assert trainer.pool.drawn == [0, 1, 2, 3]
    # A restored run: the draw in use is not drawn again.
    resumed = Trainer()
    resumed.step.assign(7)
    resumed.pool.draw_count.assign(2)
    fit(resumed, [PoolRedraw(3)], steps=3)
    assert resumed.pool.drawn == [3]
    # A stage that starts in the middle of a stretch has its own first draw.
    late = Trainer()
    late.step.assign(7)
    fit(late, [PoolRedraw(3)], steps=1)
    assert late.pool.drawn == [2]
    # Counted from the stage's own start, the first network stays that long.
    own = Trainer()
    own.step.assign(7)
    fit(own, [PoolRedraw(3, first_step=7)], steps=4)
    assert own.pool.drawn == [0, 1]


def test_what_a_draw_leaves_goes_back_to_the_system(monkeypatch):
    trainer, released = Trainer(), []
    monkeypatch.setattr(
        callbacks,
        "release_free_memory",
        lambda: released.append(list(trainer.pool.drawn)),
    )
    fit(trainer, [PoolRedraw(3)], steps=7)
    assert released == [[0], [0, 1], [0, 1, 2]]


def test_draws_are_noted(tmp_path):
    trainer = Trainer()
    writer = tf.summary.create_file_writer(str(tmp_path))
    fit(trainer, [PoolRedraw(3, writer)], steps=5)
    # A restored run: the draw in use is not noted again.
    resumed = Trainer()
    resumed.step.assign(5)
    resumed.pool.draw_count.assign(1)
    fit(resumed, [PoolRedraw(3, writer)], steps=3)
    writer.close()
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    indices = events.Tensors("pool/index")
    names = events.Tensors("pool/network")
    assert [event.step for event in indices] == [0, 3, 6]
    assert [event.step for event in names] == [0, 3, 6]
    for values, expected in ((indices, [0, 1, 0]), (names, [b"a", b"b", b"a"])):
        got = [tf.make_ndarray(event.tensor_proto).item() for event in values]
        assert got == expected


def test_grid_has_a_row_per_class(tiny_generator):
    grid = image_grid(tiny_generator, seed=2, columns=4)
    assert grid.shape == (3 * 6, 4 * 10, 3)
    assert grid.dtype == np.uint8
    latents = tf.random.stateless_normal((12, 6), [2, 0])
    for row, column in ((0, 0), (1, 3), (2, 1)):
        image = tiny_generator(
            [latents[4 * row + column][None], tf.one_hot([row], 3)],
            training=False,
        )[0]
        expected = np.round((np.asarray(image) + 1) * 127.5)
        part = grid[6 * row : 6 * row + 6, 10 * column : 10 * column + 10]
        assert np.abs(part - expected).max() <= 1


def test_images_that_are_not_finite(tiny_generator):
    broken = keras.models.clone_model(tiny_generator)
    broken.set_weights([w * np.nan for w in tiny_generator.get_weights()])
    with pytest.raises(
        RunError, match="Generated images became NaN. The last good checkp"
    ):
        image_grid(broken)


def test_grid_limits_its_rows(tiny_generator):
    assert image_grid(tiny_generator, max_rows=2).shape == (12, 100, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(channels):
    pixels = np.random.default_rng(0).integers(
        0, 256, (5, 7, channels), np.uint8
    )
    with Image.open(io.BytesIO(png_bytes(pixels))) as image:
        read = np.asarray(image).reshape(pixels.shape)
    np.testing.assert_array_equal(read, pixels)
