"""Command: held-out accuracy against minutes of training."""

import pathlib
import shutil
import sys
import time

import gdd_keras.evaluate
from benchmarks.flags import positive_number
from gdd_keras.cli import run_command
from gdd_keras.config import PRESETS
from gdd_keras.config import InputError
from gdd_keras.config import make_config
from gdd_keras.files import new_directory
from gdd_keras.quiet import quiet_import
from gdd_keras.run_directory import RunDirectory

_DESCRIPTION = """\
Measure what minutes of training buy: one run for each recipe, with learning
rates that fall until its last minute, an export of the moving average of each
of the given minutes, and for each export the accuracy of networks trained on
its stream, on the held-out part of the training split.

  python -m benchmarks.time_to_accuracy --dataset fashion_mnist

The same command goes on where it stopped: with the next recipe, or network.
"""

# The plain GAN is the preset `compact` without matching.
_RECIPES = {
    **{name: {"preset": name} for name in PRESETS},
    "gan": {"preset": "compact", "omega_g": 0.0, "omega_l": 0.0},
}


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command(
        "time_to_accuracy",
        _DESCRIPTION,
        _add_arguments,
        _run,
        argv,
        after_interrupt="the same command continues",
        package="benchmarks",
    )


def _add_arguments(parser):
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument(
        "--recipes",
        nargs="+",
        choices=sorted(_RECIPES),
        default=["compact", "gan"],
        help="Presets, or `gan`: `compact` without matching. Default: compact "
        "gan.",
    )
    parser.add_argument(
        "--minutes",
        nargs="+",
        type=positive_number("minutes", 10_000),
        default=[5.0, 10.0, 20.0, 40.0],
        metavar="X",
        help="Minutes of training at which to export. Default: 5 10 20 40.",
    )
    parser.add_argument("--num-seeds", default="2", metavar="N")
    parser.add_argument("--eval-epochs", default="300", metavar="N")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="Of the training."
    )
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "mixed_bfloat16"),
        help="Arithmetic of training. Default: auto.",
    )
    parser.add_argument(
        "--eval-precision",
        default="float32",
        choices=("float32", "mixed_bfloat16"),
        help="Arithmetic of the networks that score. Default: float32.",
    )
    parser.add_argument(
        "--output",
        default="time_to_accuracy",
        metavar="DIR",
        help="Folder of exports and results. Default: %(default)s.",
    )


def _run(arguments):
    configs = {
        name: make_config(
            dataset=arguments.dataset,
            seed=arguments.seed,
            precision=arguments.precision,
            time_budget=max(arguments.minutes),
            # Neither trained nor timed here.
            hard_share=0.0,
            **_RECIPES[name],
        )
        for name in arguments.recipes
    }
    output = pathlib.Path(arguments.output)
    if output.is_file():
        raise InputError(
            f"`--output` must be a folder. Received: {output}, a file."
        )
    minutes = sorted(set(arguments.minutes))
    with quiet_import():
        from gdd_keras.data import load_dataset
    models = []
    for name, config in configs.items():
        folder = output / name
        if not folder.exists():
            dataset = load_dataset(config.data, config.run.seed)
            print(f"{name}: training for {minutes[-1]:g} minutes")
            with new_directory(folder) as temporary:
                train_with_exports(config, dataset, minutes, temporary)
        for minute in minutes:
            version = folder / f"{minute:g}"
            if not version.is_dir():
                raise InputError(
                    f"{folder} must hold an export for each of `--minutes`. "
                    f"Received: {minute:g}, which it was not made with. "
                    "Choose another `--output`."
                )
            models.append(f"{name}-{minute:g}-minutes={version}")
    code = gdd_keras.evaluate.main(
        ["--model", *models, "--split", "validation", "--protocol", "stream"]
        + ["--ipc", "10", "--network", "convnet3"]
        + ["--num-seeds", arguments.num_seeds]
        + ["--eval-epochs", arguments.eval_epochs]
        + ["--eval-precision", arguments.eval_precision]
        + ["--results", str(output / "results")]
    )
    if code:
        sys.exit(code)


def train_with_exports(config, dataset, minutes, folder):
    """Trains both stages in the config's time budget; exports what was there.

    Time is that of training: data, building and exports do not count.

    Args:
        config: `Config` with a time budget.
        dataset: `Dataset`.
        minutes: Increasing minutes whose weights to export; the last one is
            the end of training.
        folder: `pathlib.Path` that gets one folder of versions per minute.
    """
    with quiet_import():
        from gdd_keras.export import export_generator
        from gdd_keras.job import export_metadata
        from gdd_keras.latents import fitted_generator
        from gdd_keras.training import build_stages
        from gdd_keras.training import plan_training
        from gdd_keras.training import train_stage
    stages = build_stages(config, dataset)
    seconds = 60.0 * config.run.time_budget
    plans = plan_training(
        stages, config, dataset, lambda: seconds, reserve=False
    )
    run = RunDirectory(folder / "run", config)
    pending, snapshots = list(minutes), {}
    trained = 0.0
    trainer = None
    for stage, plan in zip(stages, plans, strict=True):
        if trainer is not None:
            stage.trainer.continue_from(trainer)
        clock = _clock(trained, pending, snapshots)
        train_stage(stage, plan, run, config, callbacks=[clock])
        trained, trainer = clock.trained, stage.trainer
    for minute in pending:
        snapshots[minute] = _snapshot(trainer)
    for minute, (step, weights) in snapshots.items():
        for network, values in zip(_exported(trainer), weights, strict=True):
            network.set_weights(values)
        export_generator(
            fitted_generator(trainer, dataset.train, config),
            folder / f"{minute:g}",
            export_metadata(config, dataset, {"all": step}, 60.0 * minute),
        )
    shutil.rmtree(folder / "run")


def _exported(trainer):
    """Returns the networks that an export depends on."""
    networks = [trainer.averaged_generator, trainer.discriminator]
    if trainer.encoder is not None:
        networks.append(trainer.averaged_encoder)
    return networks


def _snapshot(trainer):
    """Returns the step and the weights that an export of it would have."""
    from gdd_keras.strategy import scalar

    weights = [network.get_weights() for network in _exported(trainer)]
    return scalar(trainer.step), weights


def _clock(trained, pending, snapshots):
    """Returns a callback that keeps the weights when their minutes come.

    An export takes a minute, which the stage's time budget would lose.
    """
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self._start = time.monotonic() - trained

        def on_train_batch_end(self, batch, logs=None):
            self.trained = time.monotonic() - self._start
            while pending and self.trained >= 60.0 * pending[0]:
                snapshots[pending.pop(0)] = _snapshot(self.model)

    return Clock()


if __name__ == "__main__":
    sys.exit(main())
