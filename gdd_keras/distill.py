"""Command: distil a data set into a generator."""

import pathlib
import sys
import time

from gdd_keras.cli import add_config_flags
from gdd_keras.cli import given_settings
from gdd_keras.cli import read_config
from gdd_keras.cli import resolve_config
from gdd_keras.cli import run_command
from gdd_keras.config import InputError
from gdd_keras.config import config_to_json
from gdd_keras.files import check_can_be_made
from gdd_keras.files import next_version
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import
from gdd_keras.run_directory import adopted_progress
from gdd_keras.run_directory import open_run

_DESCRIPTION = """\
Distil an image data set into a small generator.

Trains a conditional GAN (stage 1), goes on with global and local matching
under randomly drawn networks (stage 2), exports the generator as a
SavedModel, and scores it: test accuracy of networks trained on generated
images only. The same command continues an interrupted run.

  python -m gdd_keras.distill                       # digits, no download
  python -m gdd_keras.distill --dataset fashion_mnist --time-budget 30
  python -m gdd_keras.distill --dataset path/to/folder --image-size 32
"""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command(
        "distill",
        _DESCRIPTION,
        _add_arguments,
        _run,
        argv,
        after_interrupt="the same command continues from the last checkpoint",
    )


def _add_arguments(parser):
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="Replay a config.json; flags given beside it change it.",
    )
    parser.add_argument(
        "--run-dir",
        metavar="DIR",
        help="Folder of the run. Default: runs/<dataset>, or the next number "
        "where that holds a run with other settings.",
    )
    parser.add_argument(
        "--saved-models",
        metavar="DIR",
        default="saved_models",
        help="Where <dataset>/<version>/ is written. Default: %(default)s.",
    )
    parser.add_argument(
        "--stage-1-from",
        metavar="RUN",
        help="Start from the finished stage 1 of another run with the same "
        "data and networks, to compare settings of stage 2; and from its "
        "labeller, where this run would train the same.",
    )
    parser.add_argument(
        "--extend-stage-1",
        action="store_true",
        help="Train the stage 1 of `--stage-1-from` on first, up to "
        "`--cgan-steps` steps in all.",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="Start over in a new folder, even if this run exists.",
    )
    parser.add_argument(
        "--allow-changed-data",
        action="store_true",
        help="Continue a run although its data changed since it was started.",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="Print the resolved config and the estimated cost; train "
        "nothing, write nothing.",
    )
    parser.add_argument(
        "--profile",
        action="store_true",
        help="Profile a few steps of each stage for TensorBoard.",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="Print only the last screen."
    )
    add_config_flags(parser)


def _run(arguments):
    started = time.monotonic()
    settings = given_settings(arguments)
    base = read_config(arguments.config, settings)
    # Everything that needs no TensorFlow is refused before it loads.
    config = resolve_config(base, settings, gpu=False)
    if arguments.extend_stage_1 and arguments.stage_1_from is None:
        raise InputError(
            "`--extend-stage-1` needs a stage 1. Received: no "
            "`--stage-1-from`. Name the run that has it."
        )
    check_can_be_made(pathlib.Path(arguments.saved_models), "`--saved-models`")
    with quiet_import():
        import tensorflow as tf

        from gdd_keras.data import load_dataset
        from gdd_keras.feasibility import check_training
        from gdd_keras.job import distill_dataset
        from gdd_keras.job import estimate_cost
    config = resolve_config(
        base, settings, gpu=bool(tf.config.list_physical_devices("GPU"))
    )
    dataset = load_dataset(config.data, config.run.seed)
    check_training(config, dataset.image_shape, dataset.num_classes)
    if arguments.dry_run:
        begun = None
        if arguments.stage_1_from is not None:
            begun = adopted_progress(
                arguments.stage_1_from, config, arguments.extend_stage_1
            )
        print(config_to_json(config), end="")
        print("\n".join(estimate_cost(config, dataset, started, begun)))
        return
    folder = pathlib.Path(arguments.saved_models) / dataset.name
    # Refuses a folder that holds something else before hours of training.
    highest = next_version(folder) - 1
    _check_classes(folder / str(highest), dataset)
    run = open_run(
        config,
        dataset.name,
        arguments.run_dir,
        arguments.fresh,
        stage_1_from=arguments.stage_1_from,
        extend_stage_1=arguments.extend_stage_1,
    )
    with run.locked():
        _check_export(run, folder)
        if arguments.stage_1_from is not None:
            run.adopt_stage_1(arguments.stage_1_from, arguments.extend_stage_1)
        if not arguments.quiet:
            print(f"run: {run.path} (preset {config.run.preset})")
        result = distill_dataset(
            config,
            run,
            arguments.saved_models,
            dataset,
            verbose=0 if arguments.quiet else 1,
            started=started,
            profile=arguments.profile,
            allow_changed_data=arguments.allow_changed_data,
        )
    _print_last_screen(result)


def _check_classes(version, dataset):
    """Refuses to add a version of other classes than the highest one has.

    Of a folder's versions a server takes the highest, as `load_generator`
    does, whoever asks.

    Args:
        version: The highest version directory, which may be absent.
        dataset: `Dataset`.

    Raises:
        InputError: Saying what is there.
    """
    try:
        names = read_metadata(version)["class_names"]
    except InputError:
        # None, or nothing that could be compared with.
        return
    if names == list(dataset.class_names):
        return

    def listed(names):
        return ", ".join(map(str, names[:3])) + (", ..." if names[3:] else "")

    raise InputError(
        "Versions of a model must be of the same classes. Received: "
        f"{version} of {len(names)} ({listed(names)}), {dataset.source} of "
        f"{dataset.num_classes} ({listed(dataset.class_names)}). Choose "
        "another `--saved-models`."
    )


def _check_export(run, folder):
    """Refuses to name an export that is gone, or not where it is wanted.

    Args:
        run: `RunDirectory`.
        folder: Parent of the versions, by `--saved-models`.

    Raises:
        InputError: Saying where the run's export was written.
    """
    if "export" not in run.state:
        return
    export = pathlib.Path(run.state["export"])
    if not export.is_dir():
        problem = "which is not there any more"
    elif not folder.exists() or not export.parent.samefile(folder):
        problem = f"which is not in {folder}"
    else:
        return
    raise InputError(
        f"{run.path} has exported its generator, and does so once. Received: "
        f"{export}, {problem}. `python -m gdd_keras.refit --run {run.path} "
        f"--saved-models {folder.parent}` exports it there."
    )


def _print_last_screen(result):
    """Prints scores, paths, and what to type next."""
    model = result.export.parent
    print("\ndone")
    if result.summary is not None:
        from gdd_keras.evaluation import format_accuracy

        summary = result.summary
        # Summaries of before soft labels do not say it.
        soft = summary.get("labels", "hard") != "hard"
        print(
            f"  accuracy {format_accuracy(summary)} on the "
            f"{summary['split']} split; {summary['protocol']} protocol, IPC "
            f"{summary['ipc']}, {summary['network']}, "
            f"{'soft labels, ' if soft else ''}"
            f"{summary['distinct_images']:,} distinct images each"
        )
    print(f"  model   {result.export}")
    print(f"  samples {result.grid}")
    print(f"  run     {result.run} (tensorboard --logdir {result.run})")
    print(
        "next\n"
        f"  python -m gdd_keras.generate --model {model} --ipc 10 "
        "--format npz --output distilled\n"
        f"  python -m gdd_keras.evaluate --model {model} --protocol fixed "
        "--ipc 10"
    )


if __name__ == "__main__":
    sys.exit(main())
