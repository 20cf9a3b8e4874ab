"""Both training stages: built, planned, run, and continued after a stop."""

import contextlib
import dataclasses
import functools
import pathlib
import re
import statistics
import time

import keras
import tensorflow as tf

from gdd_keras.callbacks import Checkpoint
from gdd_keras.callbacks import Deadline
from gdd_keras.callbacks import LearningRateDecay
from gdd_keras.callbacks import PoolRedraw
from gdd_keras.callbacks import StopOnNaN
from gdd_keras.cgan import ConditionalGAN
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.data.dataset import Dataset
from gdd_keras.data.pipeline import training_batches
from gdd_keras.distiller import GenerativeDistiller
from gdd_keras.files import remove_path
from gdd_keras.interruption import PostponedSignals
from gdd_keras.latents import LatentFit
from gdd_keras.latents import useful_components
from gdd_keras.monitoring import HeldOutAccuracy
from gdd_keras.monitoring import ImageGrid
from gdd_keras.monitoring import Profile
from gdd_keras.monitoring import TensorBoardScalars
from gdd_keras.monitoring import first_images
from gdd_keras.monitoring import write_graph
from gdd_keras.networks import ModelPool
from gdd_keras.networks import build_discriminator
from gdd_keras.networks import build_encoder
from gdd_keras.networks import build_generator
from gdd_keras.networks import fast_precision
from gdd_keras.strategy import distribute
from gdd_keras.strategy import num_replicas
from gdd_keras.strategy import open_strategy
from gdd_keras.strategy import scalar

__all__ = [
    "Plan",
    "Stage",
    "StepTimer",
    "build_networks",
    "build_stages",
    "check_same_data",
    "plan_training",
    "restore_trained",
    "seconds_to_train",
    "time_plan",
    "train_stage",
    "training_precision",
]

# Kept back from a time budget for the export and the last image grid.
_RESERVE_SECONDS = 15.0
_RESERVE_SHARE = 0.03
_TIMED_SECONDS = 0.3
_CHECKPOINTS_KEPT = 2
# What TensorFlow writes for a checkpoint, first under temporary names.
_CHECKPOINT_FILE = re.compile(
    r"ckpt-\d+(_temp|\.(index|data-\d+-of-\d+)(\.tempstate\d+)?)"
    r"|checkpoint\.tmp[0-9a-f]*"
)


@dataclasses.dataclass
class Stage:
    """One of the two training stages.

    Attributes:
        name: `"cgan"` or `"distill"`.
        trainer: `ConditionalGAN` or `GenerativeDistiller`, compiled.
        steps: Steps that the config asks for.
        batches: Function of the first step, giving the `tf.data.Dataset`.
        batch_size: Real images per step.
        dataset: `Dataset` that it trains on.
    """

    name: str
    trainer: ConditionalGAN
    steps: int
    batches: object
    batch_size: int
    dataset: Dataset


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a stage trains.

    Attributes:
        epochs: Number of epochs.
        steps_per_epoch: Steps of each.
        step_seconds: Seconds per step, or `None` if not known.
        seconds: Limit from the time budget, or `None`.
        estimated: Whether `step_seconds` was estimated, not measured.
    """

    epochs: int
    steps_per_epoch: int
    step_seconds: float | None = None
    seconds: float | None = None
    estimated: bool = False

    @property
    def steps(self):
        return self.epochs * self.steps_per_epoch


def build_stages(config, dataset):
    """Builds the networks and trainers of both stages.

    Args:
        config: `Config`.
        dataset: `Dataset`.

    Returns:
        List of one or two `Stage`; they share generator and discriminator.

    Raises:
        InputError: If a pool network or a local layer does not exist, or the
            devices of `config.run.strategy` cannot share out a batch.
    """
    strategy = open_strategy(config.run.strategy, config.cgan.batch_size)
    with strategy.scope():
        return _build_stages(config, dataset)


def _build_stages(config, dataset):
    """Builds both stages on the devices of the current strategy."""
    seed = config.run.seed
    cgan, matching = config.cgan, config.matching
    precision = training_precision(config)
    generator, discriminator, encoder = build_networks(
        config, dataset.image_shape, dataset.num_classes
    )
    shared = {
        "adversarial_loss": cgan.cgan_loss,
        "auxiliary_weight": cgan.auxiliary_weight,
        "gradient_penalty_weight": cgan.gradient_penalty_weight,
        "gradient_penalty_every": cgan.gradient_penalty_every,
        "ema_decay": cgan.ema_decay,
        "augmentation": _resolved(cgan.gan_augmentation, dataset),
        "seed": seed,
        "encoder": encoder,
        "elbo_weight": cgan.elbo_weight,
        "pixel_variance": cgan.pixel_variance,
        # What no class has the images for would be dead weight in the export.
        "mixture_components": useful_components(
            config.generation.mixture_components,
            max(dataset.class_counts["train"]),
        ),
        "mixture_centres": useful_components(
            config.generation.mixture_centres,
            max(dataset.class_counts["train"]),
        ),
    }
    gan = ConditionalGAN(generator, discriminator, **shared)
    stages = [
        _stage(
            "cgan",
            gan,
            cgan.cgan_steps,
            config,
            dataset,
            seed,
            cgan.generator_learning_rate,
            cgan.discriminator_learning_rate,
        )
    ]
    if matching.distill_steps > 0:
        if matching.distill_seed is not None:
            seed = shared["seed"] = matching.distill_seed
        pool = ModelPool(
            matching.pool,
            matching.local_layer,
            dataset.image_shape,
            dataset.num_classes,
            dataset.mean,
            dataset.std,
            matching.pool_learning_rate,
            seed,
            precision,
        )
        distiller = GenerativeDistiller(
            generator,
            discriminator,
            pool,
            omega_g=matching.omega_g,
            omega_l=matching.omega_l,
            matching_reduction=matching.matching_reduction,
            matching_augmentation=_resolved(
                matching.matching_augmentation, dataset
            ),
            pool_batches=matching.pool_train_steps,
            drawn_share=matching.drawn_share,
            trains_encoder=matching.distill_encoder,
            **shared,
        )
        stages.append(
            _stage(
                "distill",
                distiller,
                matching.distill_steps,
                config,
                dataset,
                seed,
                matching.distill_learning_rate,
                matching.distill_discriminator_learning_rate,
                pool_batches=(
                    matching.pool_train_steps if distiller.matches else 0
                ),
            )
        )
    return stages


def build_networks(config, image_shape, num_classes):
    """Builds the networks that both stages share.

    Args:
        config: `Config`.
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes.

    Returns:
        Generator, discriminator, and the encoder or `None`.
    """
    networks, seed = config.networks, config.run.seed
    precision = training_precision(config)
    generator = build_generator(
        image_shape,
        num_classes,
        networks.generator,
        networks.latent_dim,
        networks.generator_width,
        seed=seed,
        # On a single device it would only round otherwise.
        synchronized=num_replicas() > 1,
        precision=precision,
    )
    discriminator = build_discriminator(
        image_shape,
        num_classes,
        networks.discriminator,
        networks.conditioning,
        networks.discriminator_width,
        seed=seed + 1,
        precision=precision,
        gain=networks.discriminator_gain,
        stem=networks.discriminator_stem,
    )
    if networks.latents == "normal":
        return generator, discriminator, None
    encoder = build_encoder(
        image_shape,
        num_classes,
        networks.latent_dim,
        networks.encoder_width,
        seed=seed + 2,
        synchronized=num_replicas() > 1,
        precision=precision,
    )
    return generator, discriminator, encoder


def training_precision(config):
    """Returns the Keras dtype policy of both stages, `auto` resolved.

    Variables are float32 under each, so that a run can go on under another.

    Args:
        config: `Config`.
    """
    if config.run.precision == "auto":
        return fast_precision()
    return config.run.precision


def plan_training(
    stages,
    config,
    dataset,
    seconds_left=None,
    num_timed=None,
    reserve=True,
):
    """Times a few steps and says how long each stage will train.

    Weights, optimizers and counters are put back afterwards, so that the
    timing leaves no trace in the result.

    Args:
        stages: As from `build_stages`.
        config: `Config`.
        dataset: `Dataset`.
        seconds_left: Function giving the seconds that a time budget leaves
            now, or `None` without a budget.
        num_timed: Stages to time, from the first; the steps of the others
            are estimated from their multiply-adds, which takes no time. 0
            for no times at all, `None` to time all stages.
        reserve: Whether to keep some of a time budget for the export.

    Returns:
        List of `Plan`, one per stage.
    """
    seconds_per_step = _seconds_per_step(stages, num_timed)
    limits = [None] * len(stages)
    if seconds_left is not None:
        left = seconds_left()
        seconds = max(1.0, seconds_to_train(left) if reserve else left)
        share = config.run.cgan_share if len(stages) > 1 else 1.0
        limits = [seconds * share, seconds * (1.0 - share)][: len(stages)]
    plans = [
        _plan(stage, step_seconds, config, dataset, limit)
        for stage, step_seconds, limit in zip(
            stages, seconds_per_step, limits, strict=True
        )
    ]
    if num_timed:
        plans[num_timed:] = [
            dataclasses.replace(plan, estimated=True)
            for plan in plans[num_timed:]
        ]
    return plans


def seconds_to_train(left):
    """Returns what of a time budget is not kept back for the export.

    Args:
        left: Seconds that are left of it.
    """
    return left - max(_RESERVE_SECONDS, _RESERVE_SHARE * left)


def _seconds_per_step(stages, num_timed):
    """Returns the timed or estimated seconds of each stage, or `None`s."""
    timed = [_time_steps(stage) for stage in stages[:num_timed]]
    others = stages[len(timed) :]
    if not timed:
        return [None] * len(others)
    if not others:
        return timed
    last = stages[len(timed) - 1].trainer
    per_multiply_add = timed[-1] / last.multiply_adds()
    return timed + [
        per_multiply_add * stage.trainer.multiply_adds() for stage in others
    ]


def time_plan(stage, plan, config, dataset):
    """Plans a stage anew from its timed steps.

    Args:
        stage: `Stage`.
        plan: Its `Plan`, which says how many seconds it has.
        config: `Config`.
        dataset: `Dataset`.

    Returns:
        `Plan` of the same seconds.
    """
    return _plan(stage, _time_steps(stage), config, dataset, plan.seconds)


def train_stage(
    stage,
    plan,
    run,
    config,
    verbose=1,
    last_epoch=None,
    profile=False,
    callbacks=(),
):
    """Trains one stage, continuing from its last checkpoint if there is one.

    Args:
        stage: `Stage`.
        plan: Its `Plan`.
        run: `RunDirectory`.
        config: `Config`.
        verbose: 1 for Keras's progress bar, 0 for silence.
        last_epoch: Epochs of the plan after which to pause; `None` trains
            all. Learning rates follow the whole plan, so that training in
            several calls equals training in one.
        profile: Whether to profile a few steps for TensorBoard.
        callbacks: Further `keras.callbacks.Callback`s.

    Raises:
        RunError: If a loss becomes NaN, or no checkpoint can be read.
    """
    trainer = stage.trainer
    progress = run.state["stages"].setdefault(
        stage.name, {"first_step": scalar(trainer.step), "done": False}
    )
    first_step = progress["first_step"]
    manager = _manager(trainer.state(), run, stage.name)
    rates = [
        scalar(optimizer.learning_rate)
        for optimizer in (
            trainer.generator_optimizer,
            trainer.discriminator_optimizer,
        )
    ]
    checkpoints = _checkpoints(manager)
    if checkpoints or progress["done"]:
        _restore(manager, checkpoints)
    if progress["done"]:
        return
    _remove_leftovers(manager, checkpoints)
    done = scalar(trainer.step) - first_step
    epochs = min(plan.epochs, last_epoch or plan.epochs)
    if epochs < plan.epochs and done >= epochs * plan.steps_per_epoch:
        return
    started, seconds_before = time.monotonic(), run.state["seconds"]
    own_seconds_before = progress.get("seconds", 0.0)

    def save_progress():
        seconds = time.monotonic() - started
        progress["seconds"] = own_seconds_before + seconds
        progress["steps"] = scalar(trainer.step) - first_step
        run.save(seconds=seconds_before + seconds)

    callbacks = [
        *callbacks,
        StopOnNaN(stage.name),
        LearningRateDecay(
            first_step,
            plan.steps,
            config.cgan.decay_fraction,
            plan.seconds,
            rates,
            own_seconds_before,
        ),
    ]
    with PostponedSignals() as signals, contextlib.ExitStack() as writers:
        callbacks += _monitors(stage, run, config, writers)
        execution = _execution(stage, config)
        callbacks.append(Checkpoint(manager, save_progress, signals, execution))
        if plan.seconds is not None:
            callbacks.append(Deadline(plan.seconds))
        if profile:
            callbacks.append(Profile(run.tensorboard(stage.name)))
        for part in _epochs_left(plan, done, epochs):
            trainer.fit(
                stage.batches(scalar(trainer.step)),
                **part,
                callbacks=callbacks,
                shuffle=False,
                verbose=verbose,
            )
            if trainer.stop_training:
                break
        progress["done"] = epochs == plan.epochs
        save_progress()


def _epochs_left(plan, done, epochs):
    """Returns what `fit` is to do, call by call.

    Args:
        plan: `Plan`.
        done: Steps of it that are done.
        epochs: Epochs of it to reach.

    Returns:
        List of arguments. An epoch that was interrupted gets a call of its
        own, since all epochs of a call are equally long.
    """
    whole, begun = divmod(done, plan.steps_per_epoch)
    parts = []
    if begun:
        parts.append((whole, whole + 1, plan.steps_per_epoch - begun))
        whole += 1
    if whole < epochs or not parts:
        parts.append((whole, epochs, plan.steps_per_epoch))
    names = ("initial_epoch", "epochs", "steps_per_epoch")
    return [dict(zip(names, part, strict=True)) for part in parts]


def _monitors(stage, run, config, writers):
    """Returns the callbacks that write for TensorBoard.

    Args:
        stage: `Stage`.
        run: `RunDirectory`.
        config: `Config`.
        writers: `contextlib.ExitStack` that closes their event files.
    """

    def open_writer(folder):
        writer = tf.summary.create_file_writer(str(folder))
        writers.callback(writer.close)
        return writer

    trainer, dataset, seed = stage.trainer, stage.dataset, config.run.seed
    # A stage that another run trained left no events here.
    first = not any(run.tensorboard(n).exists() for n in run.state["stages"])
    writer = open_writer(run.tensorboard(stage.name))
    if first:
        write_graph(writer, trainer.generator, trainer.discriminator)
    monitors = [
        # Before those that look at generated images.
        LatentFit(dataset.train, config.generation.latent_confidence, seed),
        TensorBoardScalars(writer, stage.batch_size),
        ImageGrid(
            run.images,
            stage.name,
            writer,
            dataset.class_names,
            first_images(dataset.train, dataset.num_classes),
            seed,
        ),
    ]
    if trainer.matches:
        first_step = run.state["stages"][stage.name]["first_step"]
        monitors.append(
            PoolRedraw(config.matching.pool_redraw_steps, writer, first_step)
        )
    if config.run.monitor_every:
        monitors.append(
            HeldOutAccuracy(
                dataset,
                config.evaluation,
                # One curve over both stages, in the run's row of the HParams
                # tab.
                open_writer(run.score_events),
                config.run.monitor_every,
                config.generation.label_mixing,
                seed,
            )
        )
    return monitors


def _stage(
    name,
    trainer,
    steps,
    config,
    dataset,
    seed,
    generator_rate,
    discriminator_rate,
    pool_batches=0,
):
    """Compiles a trainer and binds it to its data."""
    cgan = config.cgan
    strategy = tf.distribute.get_strategy()
    mirrored = strategy.num_replicas_in_sync > 1
    trainer.compile(
        *(
            keras.optimizers.Adam(rate, cgan.adam_beta_1, cgan.adam_beta_2)
            for rate in (generator_rate, discriminator_rate)
        ),
        # Keras's loop over the steps of one execution, and its XLA, fail
        # under a strategy.
        steps_per_execution=(
            1 if mirrored else _steps_per_execution(steps, config.run)
        ),
        jit_compile=_jit_compile(config.run.jit, mirrored),
    )

    def batches(first_step):
        return distribute(
            strategy,
            functools.partial(
                training_batches,
                dataset.train,
                cgan.batch_size,
                seed,
                first_step,
                config.data.class_balance,
                pool_batches,
            ),
        )

    return Stage(name, trainer, steps, batches, cgan.batch_size, dataset)


def _jit_compile(jit, mirrored):
    """Returns what `Model.compile` takes."""
    if mirrored:
        if jit == "on":
            raise InputError(
                "`jit` must be auto or off under `--strategy mirrored`, whose "
                "steps XLA cannot compile. Received: jit=on."
            )
        return False
    return {"auto": "auto", "on": True, "off": False}[jit]


def _steps_per_execution(steps, run):
    """Returns the steps of one execution on a single device."""
    epoch_steps = min(steps, run.steps_per_epoch or steps)
    # An epoch shorter than one execution would be overrun.
    return (
        run.steps_per_execution if epoch_steps >= run.steps_per_execution else 1
    )


def _resolved(augmentation, dataset):
    """Returns what `auto` means for a data set."""
    return dataset.augmentation if augmentation == "auto" else augmentation


def _execution(stage, config):
    """Returns the steps that epochs are multiples of."""
    if config.run.strategy == "none":
        return stage.trainer.steps_per_execution
    # On several devices an execution is one step, but a plan must not differ
    # from that of one device, which may continue it.
    return _steps_per_execution(stage.steps, config.run)


def _plan(stage, step_seconds, config, dataset, limit):
    """Returns the `Plan` of one stage."""
    pass_steps = max(200, len(dataset.train) // config.cgan.batch_size)
    epoch_steps = config.run.steps_per_epoch or pass_steps
    execution = _execution(stage, config)
    steps = stage.steps
    if limit is not None:
        steps = max(1, int(limit / step_seconds))
    # Epochs of equal length, close to the wanted one, in whole executions.
    epochs = max(1, round(steps / epoch_steps))
    per_epoch = max(1, steps // epochs // execution) * execution
    return Plan(epochs, per_epoch, step_seconds, limit)


class StepTimer(keras.callbacks.Callback):
    """Notes when each execution ended; ends training after enough of them.

    Args:
        seconds: How long to go on at least.

    Attributes:
        times: List of the moments, floats of `time.perf_counter`; the first
            execution traces and compiles, so that it began long before.
    """

    def __init__(self, seconds):
        super().__init__()
        self._seconds = seconds
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())
        # The first execution traces and compiles.
        if (
            len(self.times) >= 3
            and self.times[-1] - self.times[0] >= self._seconds
        ):
            self.model.stop_training = True

    def seconds(self):
        """Returns the median seconds of one execution."""
        return statistics.median(
            later - earlier
            for earlier, later in zip(self.times, self.times[1:], strict=False)
        )


def _time_steps(stage):
    """Returns the mean seconds of one training step; changes nothing."""
    trainer = stage.trainer
    variables = _variables(trainer.state())
    before = [tf.convert_to_tensor(value).numpy() for value in variables]
    # Pool networks differ in cost, and each is drawn as often as the others.
    draws = len(trainer.pool.names) if trainer.matches else 1
    seconds = []
    for index in range(draws):
        if trainer.matches:
            trainer.pool.index.assign(index)
        timer = StepTimer(_TIMED_SECONDS)
        trainer.fit(
            stage.batches(0),
            steps_per_epoch=100 * trainer.steps_per_execution,
            callbacks=[timer],
            shuffle=False,
            verbose=0,
        )
        seconds.append(timer.seconds())
    for variable, value in zip(variables, before, strict=True):
        variable.assign(value)
    return statistics.fmean(seconds) / trainer.steps_per_execution


def _variables(state):
    """Returns the variables of models, optimizers and variables."""
    variables = []
    for value in state.values():
        if isinstance(value, (keras.Model, keras.optimizers.Optimizer)):
            variables.extend(value.variables)
        else:
            variables.append(value)
    return variables


def _manager(state, run, stage_name):
    """Returns the `tf.train.CheckpointManager` of a stage's checkpoints."""
    return tf.train.CheckpointManager(
        tf.train.Checkpoint(**state),
        str(run.checkpoints(stage_name)),
        max_to_keep=_CHECKPOINTS_KEPT,
    )


def _checkpoints(manager):
    """Returns the paths of all checkpoints, oldest first."""
    if manager.checkpoints:
        return manager.checkpoints
    # Their list, a file of its own, may be lost or damaged.
    found = pathlib.Path(manager.directory).glob("ckpt-*.index")
    paths = [str(path.with_suffix("")) for path in found]
    return sorted(paths, key=lambda path: int(path.rpartition("-")[2]))


def _remove_leftovers(manager, checkpoints):
    """Removes files of checkpoints that a killed process did not finish."""
    known = [pathlib.Path(path).name for path in checkpoints]
    for path in pathlib.Path(manager.directory).glob("*"):
        if _CHECKPOINT_FILE.fullmatch(path.name) and path.stem not in known:
            remove_path(path)


def _restore(manager, checkpoints):
    """Restores the newest checkpoint that can be read."""
    for path in reversed(checkpoints):
        problem = _restore_problem(manager, path)
        if problem is None:
            return
        print(f"checkpoint {problem} cannot be read; trying the one before")
    raise RunError(
        f"no checkpoint in {manager.directory} can be read. Start over with "
        "`--fresh`."
    )


def _restore_problem(manager, path):
    """Restores a checkpoint; returns which failed and how, or `None`."""
    try:
        status = manager.checkpoint.restore(path)
        status.assert_existing_objects_matched()
    # TensorFlow's reader also raises plain Python errors, such as
    # IndexError for a file that ends too early.
    except (
        tf.errors.OpError,
        AssertionError,
        LookupError,
        RuntimeError,
        ValueError,
    ) as error:
        return f"{path} ({type(error).__name__})"
    return None


def restore_trained(trainer, run):
    """Gives a trainer what a run has trained, but for its latents' mixture.

    Args:
        trainer: `ConditionalGAN` of the run's networks.
        run: `RunDirectory` whose stages are all finished.

    Raises:
        RunError: If the last checkpoint cannot be read, or is of other
            networks; those before it are not what the run exported.
    """
    state = trainer.state()
    trained = ("discriminator", "averaged_generator", "averaged_encoder")
    manager = _manager(
        {name: state[name] for name in trained if name in state},
        run,
        list(run.state["stages"])[-1],
    )
    checkpoints = _checkpoints(manager)
    if checkpoints:
        problem = _restore_problem(manager, checkpoints[-1])
    else:
        problem = f"none in {manager.directory}"
    if problem is not None:
        raise RunError(
            "the run's last checkpoint must be whole, and of the networks in "
            f"its config.json. Received: {problem}. Without it the run cannot "
            "be exported again."
        )


def check_same_data(run, dataset, allowed=None):
    """Refuses to continue a run on data that changed since its start.

    Args:
        run: `RunDirectory`.
        dataset: `Dataset` as loaded now.
        allowed: Whether to continue all the same; `None` where the caller
            has no flag for it.

    Returns:
        Whether the data changed.

    Raises:
        InputError: If the fingerprint differs.
    """
    earlier = run.state.get("fingerprint", dataset.fingerprint)
    changed = earlier != dataset.fingerprint
    changes = {"fingerprint": dataset.fingerprint}
    if changed and not allowed:
        override = "" if allowed is None else "pass `--allow-changed-data`, "
        raise InputError(
            f"{run.path} was started on other data: fingerprint {earlier}, "
            f"now {dataset.fingerprint}. Put the data back, {override}or start "
            "over with `--fresh`."
        )
    if changed:
        # Goes with the export, which learned from both.
        known = run.state.get("earlier_fingerprints", [])
        changes["earlier_fingerprints"] = [*known, earlier]
        # Those were on other test images.
        changes["scores"] = []
    run.save(**changes)
    return changed
