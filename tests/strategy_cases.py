"""Runs on two CPU devices for strategy_test.py; a process of its own."""

import functools
import json
import pathlib
import sys
import time
from unittest import mock

import keras
import numpy as np
import tensorflow as tf

from gdd_keras import training
from gdd_keras.callbacks import PoolRedraw
from gdd_keras.config import InputError
from gdd_keras.config import make_config
from gdd_keras.data import Dataset
from gdd_keras.data import Split
from gdd_keras.data.pipeline import BatchSampler
from gdd_keras.data.pipeline import training_batches
from gdd_keras.export import export_generator
from gdd_keras.run_directory import RunDirectory
from gdd_keras.strategy import describe_devices
from gdd_keras.strategy import distribute
from gdd_keras.strategy import open_strategy
from gdd_keras.strategy import scalar

SETTINGS = {
    # Else what is compared would be rounding.
    "precision": "float32",
    "latent_dim": 5,
    "generator_width": 4,
    "discriminator_width": 4,
    # Four images of three classes: no two halves alike.
    "batch_size": 4,
    "cgan_steps": 4,
    "distill_steps": 4,
    "steps_per_epoch": 2,
    "pool_redraw_steps": 2,
    "pool_train_steps": 2,
    "pool_learning_rate": 0.05,
    "local_layer": "inner",
    "omega_g": 0.5,
    "omega_l": 0.3,
    "generator_learning_rate": 0.02,
    "discriminator_learning_rate": 0.03,
    "distill_learning_rate": 0.02,
    "distill_discriminator_learning_rate": 0.03,
    # Learning rates that change with every step.
    "decay_fraction": 1.0,
}
CASES = {
    "hinge": {
        "cgan_loss": "hinge",
        "conditioning": "auxiliary",
        "matching_reduction": "mean",
        "gan_augmentation": "color_crop",
        "matching_augmentation": "crop",
        "drawn_share": 0.25,
        # Images of so short a training are flat if it learns on.
        "distill_encoder": False,
    },
    "wgan_gp": {
        "latents": "normal",
        "cgan_loss": "wgan_gp",
        "conditioning": "projection",
        "matching_reduction": "sum",
        "omega_g": 0.05,
        "omega_l": 0.005,
        "gan_augmentation": "crop",
        "matching_augmentation": "color_crop",
    },
}


def toy_dataset():
    """8 x 8 images whose classes differ much in brightness."""
    rng = np.random.default_rng(0)

    def split(count):
        labels = np.arange(count, dtype=np.int32) % 3
        images = rng.integers(0, 80, (count, 8, 8, 1))
        images += 80 * labels[:, None, None, None]
        return Split(images.astype(np.uint8), labels)

    return Dataset(
        name="toy",
        image_shape=(8, 8, 1),
        class_names=("a", "b", "c"),
        train=split(30),
        validation=split(6),
        test=split(9),
        mean=(0.1,),
        std=(0.5,),
        fingerprint="0123",
        augmentation="crop",
        source="a test",
    )


class Record(keras.callbacks.Callback):
    """Keeps what every step reports."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        norms = self.model.gradient_norms()
        self.steps.append(
            {name: float(value) for name, value in logs.items()}
            | {f"{name}_norm": value for name, value in norms.items()}
        )


def state_values(trainer):
    """Returns name to value, and the names of which replicas differ."""
    values, differ = {}, []
    for name, value in trainer.state().items():
        for index, variable in enumerate(training._variables({name: value})):
            key = f"{name}/{index}"
            values[key] = tf.convert_to_tensor(variable).numpy()
            container = getattr(variable, "value", variable)
            copies = getattr(container, "values", [])
            if any((c.numpy() != values[key]).any() for c in copies):
                differ.append(key)
    return values, differ


def steps_of(config, dataset):
    """Trains both stages; returns logs of all steps, and the end state."""
    stages = training.build_stages(config, dataset)
    logs = {}
    for stage in stages:
        record = Record()
        callbacks = [record]
        if stage.trainer.matches:
            stage.trainer.continue_from(stages[0].trainer)
            callbacks.append(PoolRedraw(config.matching.pool_redraw_steps))
        stage.trainer.fit(
            stage.batches(scalar(stage.trainer.step)),
            steps_per_epoch=stage.steps,
            callbacks=callbacks,
            shuffle=False,
            verbose=0,
        )
        logs[stage.name] = record.steps
    trainer = stages[-1].trainer
    replicas = trainer.distribute_strategy.num_replicas_in_sync
    return logs, *state_values(trainer), replicas, trainer.averaged_generator


def compare(config, dataset, folder, export):
    """Trains with and without the strategy; keeps both for the tests."""
    report = {}
    for strategy in ("none", "mirrored"):
        settings = make_config(base=config, strategy=strategy)
        logs, values, differ, replicas, generator = steps_of(settings, dataset)
        report[strategy] = {"logs": logs, "differ": differ, "n": replicas}
        np.savez(folder / f"{strategy}.npz", **values)
        if export:
            export_generator(
                generator,
                folder / "models" / strategy,
                {"class_names": ["a", "b", "c"], "fingerprint": "0123"},
            )
    (folder / "report.json").write_text(json.dumps(report))


def train(config, dataset, path, strategies):
    """Trains both stages, each epoch under a strategy of its own."""
    plan = training.Plan(epochs=2, steps_per_epoch=2, step_seconds=0.01)
    for index, strategy in enumerate(strategies):
        number, epoch = index // 2, index % 2 + 1
        if epoch == 1 and strategies[index + 1] == strategy:
            # Both epochs at once.
            continue
        settings = make_config(base=config, strategy=strategy)
        run = RunDirectory(path, settings)
        stages = training.build_stages(settings, dataset)
        for stage in stages[: number + 1]:
            if stage is stages[1]:
                stage.trainer.continue_from(stages[0].trainer)
            training.train_stage(
                stage, plan, run, settings, verbose=0, last_epoch=epoch
            )
    return state_values(stages[1].trainer)[0]


def read_batches(dataset):
    """Reads two batches as two replicas do.

    Returns:
        How many batches were asked for after each read, and whether the
        shares, put together, are the batches of one device.
    """
    numbers, equal = [], []
    indices = BatchSampler.indices

    def noted(sampler, number):
        numbers.append(number)
        return indices(sampler, number)

    batches = functools.partial(
        training_batches, dataset.train, 4, 0, extra_batches=3
    )
    whole = list(batches().take(2))
    counts = []
    strategy = open_strategy("mirrored", 4)
    with mock.patch.object(BatchSampler, "indices", noted):
        iterator = iter(distribute(strategy, batches))
        for expected in whole:
            batch = next(iterator)
            # What reads ahead would have done so by then.
            time.sleep(0.3)
            counts.append(len(numbers))
            for name, values in batch.items():
                shares = strategy.experimental_local_results(values)
                axis = 1 if name.startswith("pool") else 0
                got = np.concatenate([s.numpy() for s in shares], axis)
                equal.append(bool((got == expected[name].numpy()).all()))
    return counts, equal


def refusal():
    try:
        open_strategy("mirrored", 7)
    except InputError as error:
        return str(error)


def main(folder, module):
    # GPUs would take the place of the CPU devices.
    tf.config.set_visible_devices([], "GPU")
    devices = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        devices[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    folder = pathlib.Path(folder)
    (folder / "devices.json").write_text(
        json.dumps([describe_devices("mirrored", 6), refusal()])
    )
    dataset = toy_dataset()
    (folder / "batches.json").write_text(json.dumps(read_batches(dataset)))
    pool = (f"{module}:narrow", f"{module}:wide")
    # Adam divides a gradient by its size, so that it hides a wrong factor and
    # makes steps of one that is zero but for rounding.
    sgd = mock.patch.object(
        keras.optimizers,
        "Adam",
        lambda rate, *_: keras.optimizers.SGD(rate, momentum=0.5),
    )
    with sgd:
        for name, case in CASES.items():
            (folder / name).mkdir()
            case = {**SETTINGS, **case}
            # One case with a choice of networks is enough, and half as slow.
            drawn = pool if name == "hinge" else pool[1:]
            config = make_config("tiny", pool=drawn, **case)
            compare(config, dataset, folder / name, name == "hinge")
        config = make_config(
            "tiny",
            pool=pool[:1],
            **{**SETTINGS, **CASES["hinge"], "distill_encoder": True},
        )
        for name, strategies in {
            "whole": ["none"] * 4,
            "moved": ["mirrored", "none", "none", "mirrored"],
        }.items():
            values = train(config, dataset, folder / name, strategies)
            np.savez(folder / f"{name}.npz", **values)


if __name__ == "__main__":
    main(*sys.argv[1:])
