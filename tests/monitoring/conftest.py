import keras
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)


class Trainer(keras.Model):
    """Counts steps as the trainers of both stages do; learns nothing."""

    loss_weights = {"first_loss": 0.5, "second_loss": 3.0, "absent": 7.0}

    def __init__(self, losses=()):
        super().__init__()
        self.step = self.add_weight(shape=(), dtype="int64", name="step")
        self.losses_by_step = tf.constant([*losses, 0.0], tf.float32)
        self.num_losses = len(losses)
        self.generator_optimizer = keras.optimizers.SGD(0.5)
        self.discriminator_optimizer = keras.optimizers.SGD(0.25)
        self.built = True
        self.compile(self.generator_optimizer)

    def gradient_norms(self):
        step = float(self.step)
        return {"generator": 2.0 * step, "discriminator": 3.0 * step}

    def train_step(self, data):
        loss = tf.gather(
            self.losses_by_step,
            tf.minimum(tf.convert_to_tensor(self.step), self.num_losses),
        )
        self.step.assign_add(1)
        return {"first_loss": loss, "second_loss": 2.0 * loss}


@pytest.fixture
def make_trainer():
    return Trainer


@pytest.fixture
def fit():
    """Function that trains for some steps with some callbacks."""

    def run(trainer, callbacks, steps=10, epochs=1, data=None):
        if data is None:
            data = tf.data.Dataset.from_tensors(tf.zeros(1)).repeat()
        trainer.fit(
            data,
            steps_per_epoch=steps,
            epochs=epochs,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )

    return run


@pytest.fixture
def read_events():
    """Function from a folder to its events."""

    def read(folder):
        events = EventAccumulator(
            str(folder), size_guidance={"tensors": 0, "images": 0}
        )
        return events.Reload()

    return read


@pytest.fixture
def scalars():
    """Function from events and a tag to step and value, none twice."""

    def values(events, tag):
        points = [
            (event.step, float(tf.make_ndarray(event.tensor_proto)))
            for event in events.Tensors(tag)
        ]
        assert len(dict(points)) == len(points), tag
        return dict(points)

    return values
