"""Command: the whole job as a TFX pipeline on this machine."""

import pathlib
import sys

from gdd_keras import cli
from gdd_keras.config import InputError
from gdd_keras.files import check_can_be_made
from gdd_keras.files import next_version
from gdd_keras.files import take_lock
from gdd_keras.quiet import quiet_logs
from gdd_keras.quiet import quiet_warnings
from gdd_keras.tuning.chiefs import role
from pipelines.arguments import add_arguments
from pipelines.arguments import check_in_use
from pipelines.arguments import import_tfx
from pipelines.arguments import open_data
from pipelines.arguments import read_settings
from pipelines.paths import shown

__all__ = ["main"]

_DESCRIPTION = """\
Run the whole job as a TFX pipeline: data, stage 1, search, stage 2,
evaluation, and a push of the generator if it is better than the one in use.

  python -m pipelines.local_runner --dataset digits --threshold 0.7
  python -m pipelines.local_runner --dataset fashion_mnist --no-search

Steps whose data, settings and code did not change are not run again; an
interrupted step continues from its last checkpoint. The evaluation scores on
held-out images, as `--num-seeds`, `--ipc`, `--protocol` and `--eval-epochs`
say. Flags of searched settings take several values, see `python -m
gdd_keras.tune --help`."""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return cli.run_command(
        "local_runner",
        _DESCRIPTION,
        _add_arguments,
        _run,
        argv,
        after_interrupt="the same command goes on with the pipeline",
        package="pipelines",
        opens="runner",
    )


def _add_arguments(parser):
    parser.add_argument(
        "--pipeline-root",
        metavar="DIR",
        default="pipeline_output",
        help="Folder of artifacts, metadata and unfinished work, one below it "
        "for each data set. Default: %(default)s.",
    )
    parser.add_argument(
        "--saved-models",
        metavar="DIR",
        default="saved_models",
        help="Where <dataset>/<version>/ is pushed. Default: %(default)s.",
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="Apache Beam's runner for `--distilled-ipc`, DirectRunner for "
        "one; any option of Beam may follow it.",
    )
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="Run every step again. Training that is finished is not repeated.",
    )
    add_arguments(parser)


def _run(arguments):
    if role() != "alone":
        raise InputError(
            "A pipeline on this machine must search alone. Received: "
            "KerasTuner's variables of a search over several machines. Unset "
            "KERASTUNER_ORACLE_IP, KERASTUNER_ORACLE_PORT and "
            "KERASTUNER_TUNER_ID."
        )
    settings, name = open_data(read_settings(arguments))
    root = pathlib.Path(arguments.pipeline_root).absolute() / name
    serving = pathlib.Path(arguments.saved_models).absolute() / name
    # Refuses a folder that holds something else before hours of training.
    next_version(serving)
    check_can_be_made(serving, "`--saved-models`")
    check_in_use(serving, settings.config)
    if arguments.runner is not None and not arguments.distilled_ipc:
        raise InputError(
            "`--runner` needs a set to write. Received: no `--distilled-ipc`. "
            "Pass one, or leave `--runner` out."
        )
    beam_options = _beam_options(arguments.runner, arguments.other_flags)
    orchestration = import_tfx()
    taken = InputError(
        f"The pipeline in {shown(root)} must not be running already. "
        "Received: it is. Wait for it, stop it, or choose another folder with "
        "`--pipeline-root`."
    )
    with take_lock(root / ".lock", taken):
        print(f"pipeline: {shown(root)}", flush=True)
        steps = orchestration.run_pipeline(
            settings, root, serving, beam_options, cache=not arguments.no_cache
        )
    print("\ndone")
    for step in steps:
        state = "cached" if step.cached else f"{step.seconds:.0f} s"
        print(f"  {step.name:20} {state}")
    if next_version(serving) > 1:
        print(f"  models in use        {shown(serving)}")
    elif all(step.cached for step in steps):
        print(
            f"  models in use        none: {shown(serving)} is empty; "
            "`--no-cache` judges and pushes again"
        )
    logs = shown(root / "work")
    print(f"  training curves      tensorboard --logdir {logs}")


def _beam_options(runner, flags):
    """Returns the options of Beam that TFX passes on, checked."""
    if runner is None:
        return []
    from gdd_keras.beam import make_pipeline

    with quiet_logs(), quiet_warnings():
        make_pipeline(runner, flags)
    # As there: else Beam starts another runner in place of its own.
    return [f"--runner={runner}", *flags, "--allow_unsafe_triggers"]


if __name__ == "__main__":
    sys.exit(main())
