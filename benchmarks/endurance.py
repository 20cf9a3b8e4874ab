"""Command: train stage 2 for long, and see whether anything grows."""

import collections
import dataclasses
import pathlib
import statistics
import sys
import tempfile
import time

import psutil

from benchmarks.flags import positive_number
from gdd_keras.cli import run_command
from gdd_keras.config import RunError
from gdd_keras.config import make_config
from gdd_keras.files import write_json
from gdd_keras.quiet import quiet_import
from gdd_keras.run_directory import RunDirectory

_DESCRIPTION = """\
Train stage 2, checkpoints, grids and TensorBoard included, and note resident
memory, open files and speed. After a warm-up memory must not grow by more than
2 %, speed under each network of the pool must stay within 10 % of its median,
and no file more may be open at the end.

  python -m benchmarks.endurance --dataset fashion_mnist --minutes 60

Speed depends on what else runs: keep the machine free.
"""

# Tracing, first draws of every network, first checkpoints.
_WARMUP_SHARE = 0.2
_NUM_SAMPLES = 60
# Growth alone counts: the system may take memory back that is not in use.
_MEMORY_TOLERANCE = 0.02
_SPEED_TOLERANCE = 0.1


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command(
        "endurance",
        _DESCRIPTION,
        _add_arguments,
        _run,
        argv,
        package="benchmarks",
    )


def _add_arguments(parser):
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--preset", default="compact")
    parser.add_argument(
        "--minutes",
        type=positive_number("minutes", 10_000),
        default=60.0,
        metavar="X",
        help="Default: %(default)s.",
    )
    parser.add_argument(
        "--output", metavar="FILE", help="Where to write the figures as JSON."
    )


def _run(arguments):
    config = make_config(
        arguments.preset,
        dataset=arguments.dataset,
        time_budget=arguments.minutes,
    )
    with quiet_import():
        from gdd_keras.data import load_dataset
        from gdd_keras.training import build_stages
        from gdd_keras.training import plan_training
        from gdd_keras.training import train_stage
    dataset = load_dataset(config.data, config.run.seed)
    stage = build_stages(config, dataset)[-1]
    seconds = 60.0 * arguments.minutes
    (plan,) = plan_training(
        [stage], config, dataset, lambda: seconds, reserve=False
    )
    # Time ends it, not the steps that a slower start had planned.
    plan = dataclasses.replace(plan, epochs=1000 * plan.epochs)
    recorder = _recorder(stage.batch_size, plan.seconds / _NUM_SAMPLES)
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(pathlib.Path(folder) / "run", config)
        train_stage(stage, plan, run, config, callbacks=[recorder])
    samples = recorder.samples[int(_WARMUP_SHARE * len(recorder.samples)) :]
    figures = summarize(samples)
    if arguments.output:
        write_json(
            pathlib.Path(arguments.output),
            {**figures, "samples": recorder.samples},
        )
    print(
        f"\nafter warm-up, {len(samples)} samples over "
        f"{(samples[-1]['seconds'] - samples[0]['seconds']) / 60:.1f} minutes:"
    )
    for name, value in figures.items():
        print(f"  {name:<26}{value:,.4g}")
    problems = find_problems(figures)
    if problems:
        raise RunError("; ".join(problems) + ".")


def summarize(samples):
    """Returns what the samples say, a dict of floats.

    Args:
        samples: List of dicts with `seconds`, `memory_mb`, `open_files`,
            `images_per_second` and `network`, the pool's network in use all
            the while, or `None` where it changed; at least one.
    """
    memory = [sample["memory_mb"] for sample in samples]
    speed = [sample["images_per_second"] for sample in samples]
    files = [sample["open_files"] for sample in samples]
    return {
        "memory_mb": statistics.median(memory),
        "memory_growth": max(memory) / memory[0] - 1.0,
        "images_per_second": statistics.median(speed),
        "speed_deviation": max(
            map(_deviation, _speeds_by_network(samples)), default=0.0
        ),
        "open_files": float(files[-1]),
        "open_files_growth": float(files[-1] - files[0]),
    }


def find_problems(figures):
    """Returns what is out of tolerance, a list of texts.

    Args:
        figures: As from `summarize`.
    """
    problems = []
    growth, deviation = figures["memory_growth"], figures["speed_deviation"]
    if growth > _MEMORY_TOLERANCE:
        problems.append(
            f"memory grew by {growth:.1%}, more than {_MEMORY_TOLERANCE:.0%}"
        )
    if deviation > _SPEED_TOLERANCE:
        problems.append(
            f"speed was {deviation:.1%} off its median, more than "
            f"{_SPEED_TOLERANCE:.0%}"
        )
    if figures["open_files_growth"] > 0:
        problems.append(
            f"{figures['open_files_growth']:.0f} more files are open at the end"
        )
    return problems


def _speeds_by_network(samples):
    """Returns lists of speeds, one for each network: a step's work is its."""
    speeds = collections.defaultdict(list)
    for sample in samples:
        if sample["network"] is not None:
            speeds[sample["network"]].append(sample["images_per_second"])
    return list(speeds.values())


def _deviation(values):
    """Returns the largest distance from the median, relative to it."""
    median = statistics.median(values)
    return max(abs(value - median) for value in values) / median


def _recorder(batch_size, seconds):
    """Returns a callback that takes a sample every so many seconds."""
    import keras

    from gdd_keras.strategy import scalar

    process = psutil.Process()

    class Recorder(keras.callbacks.Callback):
        samples = []

        def on_train_begin(self, logs=None):
            self._start = self._last = time.monotonic()
            self._step = scalar(self.model.step)
            self._networks = set()

        def on_train_batch_end(self, batch, logs=None):
            now = time.monotonic()
            self._networks.add(self.model.pool.current_name)
            if now - self._last < seconds:
                return
            step = scalar(self.model.step)
            network = self._networks.pop() if len(self._networks) == 1 else None
            rate = batch_size * (step - self._step) / (now - self._last)
            self.samples.append(
                {
                    "seconds": now - self._start,
                    "memory_mb": process.memory_info().rss / 2**20,
                    "open_files": process.num_fds(),
                    "images_per_second": rate,
                    "network": network,
                }
            )
            self._last, self._step = now, step
            self._networks = set()

    return Recorder()


if __name__ == "__main__":
    sys.exit(main())
