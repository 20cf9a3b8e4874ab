"""The parts of the product whose speed is measured, on random images."""

import dataclasses
import functools
import tempfile
import typing

import numpy as np
import tensorflow as tf

from benchmarks.timing import Timing
from benchmarks.timing import time_calls
from benchmarks.work import multiply_adds
from gdd_keras.callbacks import LearningRateDecay
from gdd_keras.callbacks import StopOnNaN
from gdd_keras.config import POOL_NETWORKS
from gdd_keras.config import InputError
from gdd_keras.config import make_config
from gdd_keras.data import Dataset
from gdd_keras.data import Split
from gdd_keras.evaluation import FixedSet
from gdd_keras.evaluation.sources import first_real_images
from gdd_keras.evaluation.training import EvalTrainer
from gdd_keras.export import export_generator
from gdd_keras.generator_api import load_generator
from gdd_keras.losses import classification_loss
from gdd_keras.networks import build_classifier
from gdd_keras.networks import classifier_names
from gdd_keras.training import StepTimer
from gdd_keras.training import build_stages

__all__ = ["Case", "find_case", "make_cases", "random_dataset"]

_NUM_CLASSES = 10
_EVALUATION_BATCH = 100
_LAZY_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Case:
    """One part to measure.

    Attributes:
        name: What it is, for the table.
        images: Images of one timed call.
        run: Function of the seconds to measure for; returns `Timing`.
        call: What is timed, once; `None` where `Model.fit` calls it.
        multiply_adds: Per image, or `None` where hardly any are done.
        model: What is trained, or `None`.
    """

    name: str
    images: int
    run: typing.Callable
    call: typing.Callable | None
    multiply_adds: float | None
    model: typing.Any = None


def random_dataset(image_shape=(32, 32, 1), size=5000):
    """Returns a `Dataset` of noise: the speed does not depend on pixels."""
    generator = np.random.default_rng(0)

    def split(count):
        images = generator.integers(0, 256, (count, *image_shape), np.uint8)
        labels = np.arange(count, dtype=np.int32) % _NUM_CLASSES
        return Split(images, labels)

    channels = image_shape[-1]
    return Dataset(
        name="noise",
        image_shape=image_shape,
        class_names=tuple(map(str, range(_NUM_CLASSES))),
        train=split(size),
        validation=split(1000),
        test=None,
        mean=(0.0,) * channels,
        std=(0.5,) * channels,
        fingerprint="",
        augmentation="color_crop",
        source="benchmarks",
    )


def make_cases(precisions):
    """Returns all parts but the start of a command.

    Args:
        precisions: Keras dtype policies to train under.

    Returns:
        List of (name, precision or `None`, function that builds the `Case`).
    """
    dataset = random_dataset()
    dim_dataset = random_dataset((32, 32, 3))
    parts = []
    for precision in precisions:
        for stage in ("stage 1", *(f"stage 2, {n}" for n in POOL_NETWORKS)):
            parts.append((stage, _training_case, dataset, precision))
        for stage in ("stage 1", "stage 2, convnet3"):
            parts.append((f"{stage}, in a run", _run_case, dataset, precision))
    for precision in precisions:
        for every in ("", ", lazy penalty"):
            for stage in ("stage 1", "stage 2, convnet3"):
                name = f"DiM's widths{every}, {stage}"
                parts.append((name, _dim_case, dim_dataset, precision))
    for network in classifier_names():
        for precision in precisions:
            name = f"evaluation, {network}"
            parts.append((name, _evaluation_case, dataset, precision))
    for count in (1000, 2000, 4000):
        name = f"generation, {count:,} images"
        parts.append((name, _generation_case, dataset, "float32"))
    parts.append(("input pipeline", _input_case, dataset, None))
    return [
        (name, precision, functools.partial(make, name, data, precision))
        for name, make, data, precision in parts
    ]


def find_case(name, precision):
    """Builds the case of a name and precision that can be called alone.

    Raises:
        InputError: If there is none.
    """
    parts = {
        part: make
        for part, _, make in make_cases([precision])
        if not part.endswith("in a run")
    }
    if name not in parts:
        raise InputError(
            f"The part must be one of {'; '.join(parts)}. Received: {name}."
        )
    return parts[name]()


def _training_case(name, dataset, precision):
    """A step of `compact`, compiled, on one batch."""
    return _step_case(name, _stage(name, dataset, precision=precision))


def _run_case(name, dataset, precision):
    """The same as in a run: with its batches and callbacks."""
    return _fit_case(name, _stage(name, dataset, precision=precision))


def _dim_case(name, dataset, precision):
    """DiM's widths and loss at 32 x 32 x 3, pool training off."""
    stage = _stage(
        name,
        dataset,
        preset="paper",
        batch_size=64,
        pool_train_steps=0,
        precision=precision,
        gradient_penalty_every=_LAZY_STEPS if "lazy" in name else 1,
    )
    return _step_case(name, stage)


def _stage(name, dataset, **settings):
    """Builds the stage that a part's name says."""
    pool = [network for network in POOL_NETWORKS if network in name]
    config = make_config(pool=tuple(pool) or POOL_NETWORKS[:1], **settings)
    return build_stages(config, dataset)[1 if pool else 0]


def _step_case(name, stage):
    """A compiled step on one batch: arithmetic alone."""
    trainer = stage.trainer
    batch = next(iter(stage.batches(0)))
    period = trainer.gradient_penalty_every
    step = tf.function(trainer.train_step, autograph=False)

    def steps():
        # Whole periods, so that the dear steps count as often as in a run.
        for _ in range(period):
            logs = step(batch)
        return logs["discriminator_loss"].numpy()

    return Case(
        name,
        period * stage.batch_size,
        lambda seconds: time_calls(steps, seconds, warmup=1, repeats=3),
        steps,
        _step_work(trainer, batch) / stage.batch_size,
        trainer,
    )


def _step_work(trainer, batch):
    """Returns the multiply-adds of the mean step."""
    period = trainer.gradient_penalty_every
    if trainer.adversarial_loss != "wgan_gp" or period == 1:
        return multiply_adds(trainer.train_step, batch)
    # The choice in the graph would count the penalty in every step.
    trainer.gradient_penalty_every = 1
    with_penalty = multiply_adds(trainer.train_step, batch)
    trainer.adversarial_loss = "hinge"
    without = multiply_adds(trainer.train_step, batch)
    trainer.adversarial_loss = "wgan_gp"
    trainer.gradient_penalty_every = period
    return without + (with_penalty - without) / period


def _fit_case(name, stage):
    """`Model.fit` with its batches and the callbacks of every step."""
    trainer = stage.trainer
    execution = trainer.steps_per_execution

    def run(seconds):
        timer = StepTimer(seconds)
        trainer.fit(
            stage.batches(0),
            steps_per_epoch=1000 * execution,
            callbacks=[
                StopOnNaN(stage.name),
                LearningRateDecay(0, 10**6, 0.5),
                timer,
            ],
            shuffle=False,
            verbose=0,
        )
        return Timing(tuple(np.diff(timer.times).tolist()))

    batch = next(iter(stage.batches(0)))
    return Case(
        name,
        execution * stage.batch_size,
        run,
        None,
        multiply_adds(trainer.train_step, batch) / stage.batch_size,
    )


def _evaluation_case(name, dataset, precision):
    """Training of a test network on stored images, without augmentation."""
    network = name.split()[-1]
    ipc = _EVALUATION_BATCH // _NUM_CLASSES
    model = build_classifier(
        network,
        dataset.image_shape,
        _NUM_CLASSES,
        dataset.mean,
        dataset.std,
        precision=precision,
    )
    source = FixedSet(
        first_real_images(dataset.train, ipc, _NUM_CLASSES), _EVALUATION_BATCH
    )
    source.reset(0)
    trainer = EvalTrainer(model, source, epochs=5)

    def gradients(images, labels):
        with tf.GradientTape() as tape:
            logits = tf.cast(model(images, training=True), tf.float32)
            loss = classification_loss(labels, logits)
        return tape.gradient(
            loss, [weight.value for weight in model.trainable_variables]
        )

    work = multiply_adds(
        gradients,
        tf.zeros((_EVALUATION_BATCH, *dataset.image_shape)),
        tf.zeros(_EVALUATION_BATCH, tf.int32),
    )

    def train():
        trainer.train(0)

    return Case(
        name,
        5 * _EVALUATION_BATCH,
        lambda seconds: time_calls(train, seconds, warmup=1, repeats=3),
        train,
        work / _EVALUATION_BATCH,
        model,
    )


def _generation_case(name, dataset, precision):
    """Generation from the SavedModel of `compact`."""
    count = int(name.split()[1].replace(",", ""))
    stage = _stage("stage 1", dataset, precision=precision)
    generator = stage.trainer.deployed_generator
    with tempfile.TemporaryDirectory() as folder:
        version = export_generator(
            generator, folder, {"class_names": list(dataset.class_names)}
        )
        loaded = load_generator(version)
    inputs = [tf.zeros((1, *tensor.shape[1:])) for tensor in generator.inputs]
    labels = np.arange(count) % _NUM_CLASSES

    def generate():
        loaded.generate(labels)

    return Case(
        name,
        count,
        lambda seconds: time_calls(generate, seconds),
        generate,
        multiply_adds(lambda *x: generator(x, training=False), *inputs),
    )


def _input_case(name, dataset, precision):
    """Batches of stage 2 alone."""
    stage = _stage("stage 2, convnet3", dataset)
    batches = iter(stage.batches(0))

    def read():
        for _ in range(100):
            batch = next(batches)
        return batch

    return Case(
        name,
        100 * stage.batch_size,
        lambda seconds: time_calls(read, seconds),
        read,
        None,
    )
