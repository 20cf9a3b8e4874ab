"""Command: `python -m gdd_keras.refit` exports a run with other latents."""

import pathlib
import sys

from gdd_keras.cli import add_config_flags
from gdd_keras.cli import given_settings
from gdd_keras.cli import run_command
from gdd_keras.files import check_can_be_made
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import
from gdd_keras.run_directory import finished_run

__all__ = ["main"]

_DESCRIPTION = """\
Export a finished run once more, with other settings of generation.

Fits the mixture of latents anew to what the run's encoder makes of the
training images, chooses hard draws anew (minutes; `--hard-share 0` leaves them
out), and writes the next version; trains no generator. More centres
teach a classifier more, fewer keep less of single images: `evaluate --audit`
tells how much. Settings that are not given are those of the run, whatever
the defaults below; a labeller is the run's, or there is none.

  python -m gdd_keras.refit --run runs/digits --mixture-components 5
  python -m gdd_keras.refit --run runs/digits --weights float16
"""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command("refit", _DESCRIPTION, _add_arguments, _run, argv)


def _add_arguments(parser):
    parser.add_argument(
        "--run", required=True, metavar="DIR", help="Folder of the run."
    )
    parser.add_argument(
        "--saved-models",
        metavar="DIR",
        default="saved_models",
        help="Where <dataset>/<version>/ is written. Default: saved_models.",
    )
    add_config_flags(parser, ["generation"])


def _run(arguments):
    run = finished_run(arguments.run)
    saved_models = pathlib.Path(arguments.saved_models)
    check_can_be_made(saved_models, "`--saved-models`")
    with quiet_import():
        from gdd_keras.job import refit_run
    version = refit_run(run, given_settings(arguments), saved_models, verbose=1)
    print(
        f"Wrote {version}, {read_metadata(version)['num_bytes']:,} bytes\n"
        f"next\n  python -m gdd_keras.evaluate --model v{version.name}="
        f"{version} --split validation --num-seeds 5 --audit"
    )


if __name__ == "__main__":
    sys.exit(main())
