import itertools
import types

import pytest
import tensorflow as tf

from gdd_keras.monitoring import TensorBoardScalars
from gdd_keras.monitoring import scalars as scalars_module


@pytest.fixture
def ticking_clock(monkeypatch):
    """Lets every look at the clock take one second, from 0."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(scalars_module, "time", clock)


def write(folder, fit, trainer, steps, epochs, every_steps):
    writer = tf.summary.create_file_writer(str(folder))
    callback = TensorBoardScalars(writer, 6, every_steps)
    fit(trainer, [callback], steps, epochs)
    writer.close()


def test_tags_steps_and_values(
    tmp_path, make_trainer, fit, read_events, scalars, ticking_clock
):
    trainer = make_trainer([float(i) for i in range(10)])
    trainer.step.assign(2)
    write(tmp_path, fit, trainer, 4, 2, every_steps=3)
    events = read_events(tmp_path)
    assert set(events.Tags()["tensors"]) == {
        "losses/first_loss",
        "losses/second_loss",
        "weighted/first",
        "weighted/second",
        "weighted/total",
        "gradient_norm/generator",
        "gradient_norm/discriminator",
        "learning_rate/generator",
        "learning_rate/discriminator",
        "speed/images_per_second",
    }
    # Every third step from the first, and the end of the last epoch; the
    # first one's is a third step. Step n logs the loss of step n - 1.
    first = scalars(events, "losses/first_loss")
    assert first == {3: 2.0, 6: 5.0, 9: 8.0, 10: 9.0}

    def curve(tag, factor):
        expected = {step: factor * value for step, value in first.items()}
        assert scalars(events, tag) == pytest.approx(expected)

    curve("losses/second_loss", 2.0)
    curve("weighted/first", 0.5)
    curve("weighted/second", 6.0)
    curve("weighted/total", 6.5)
    norms = scalars(events, "gradient_norm/generator")
    assert norms == {step: 2.0 * step for step in first}
    norms = scalars(events, "gradient_norm/discriminator")
    assert norms == {step: 3.0 * step for step in first}
    for network, rate in (("generator", 0.5), ("discriminator", 0.25)):
        rates = scalars(events, f"learning_rate/{network}")
        assert rates == dict.fromkeys(first, rate)
    # The clock is looked at after the first execution, at each point, and as
    # the second epoch begins after step 6: three steps of 6 images a second,
    # then one.
    assert scalars(events, "speed/images_per_second") == {
        6: 18.0,
        9: 18.0,
        10: 6.0,
    }


def test_epoch_that_ends_between_points(
    tmp_path, make_trainer, fit, read_events, scalars
):
    write(tmp_path, fit, make_trainer(), 5, 2, every_steps=50)
    events = read_events(tmp_path)
    assert list(scalars(events, "losses/first_loss")) == [1, 5, 10]


def test_continued_training_goes_on_in_the_steps(
    tmp_path, make_trainer, fit, read_events, scalars
):
    for start in (0, 5):
        trainer = make_trainer()
        trainer.step.assign(start)
        write(tmp_path / str(start), fit, trainer, 5, 1, every_steps=2)
    events = [read_events(tmp_path / name) for name in ("0", "5")]
    first, second = (scalars(e, "losses/first_loss") for e in events)
    assert list(first) == [1, 3, 5]
    assert list(second) == [6, 8, 10]
