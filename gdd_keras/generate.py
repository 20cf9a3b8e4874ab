"""Command: exported generator -> distilled set on disk."""

import pathlib
import sys

from gdd_keras.cli import run_command
from gdd_keras.config import EvaluationConfig
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.distilled_sets import FORMATS
from gdd_keras.distilled_sets import write_distilled_set
from gdd_keras.metadata import find_version
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import

__all__ = ["main"]

DESCRIPTION = """\
Write distilled images, the same number for every class, from a generator that
`python -m gdd_keras.distill` exported.

Example:
  python -m gdd_keras.generate --model saved_models/digits --ipc 10 \\
      --format png --output digits_10

The same model and seed give the same images; the images of a smaller --ipc
are the first ones of a larger."""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command("generate", DESCRIPTION, _add_arguments, _run, argv)


def _add_arguments(parser):
    """Adds the flags."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="Version directory of an exported generator, or its parent "
        "(then the highest version).",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="New or empty directory for the images.",
    )
    parser.add_argument(
        "--ipc",
        type=int,
        default=EvaluationConfig.ipc,
        metavar="N",
        help="Images per class. Default: %(default)s.",
    )
    parser.add_argument(
        "--format",
        choices=tuple(FORMATS),
        default="npz",
        help="npz: one NumPy file; png: folders that tfds.ImageFolder opens; "
        "tfrecord: tf.train.Example; tfds: a prepared TFDS data set. "
        "Default: %(default)s.",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="Another seed gives other images. Default: %(default)s.",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="Print nothing unless it fails."
    )


def _run(arguments):
    """Checks everything that is cheap to check, then generates."""
    for name, minimum in (("ipc", 1), ("seed", 0)):
        value = getattr(arguments, name)
        if value < minimum:
            raise InputError(
                f"`--{name}` must be an integer >= {minimum}. Received: "
                f"{name}={value}."
            )
    version = find_version(arguments.model)
    num_classes = read_metadata(version)["num_classes"]
    output = pathlib.Path(arguments.output)
    if not arguments.quiet:
        print(
            f"Generating {arguments.ipc * num_classes:,} images "
            f"({arguments.ipc:,} for each of {num_classes} classes) with "
            f"{version} ...",
            flush=True,
        )
    with quiet_import():
        import tensorflow  # noqa: F401

        from gdd_keras.generator_api import load_generator
    generator = load_generator(version)
    try:
        written = write_distilled_set(
            generator,
            output,
            arguments.ipc,
            arguments.format,
            arguments.seed,
            progress=_progress(arguments.quiet),
        )
    except OSError as error:
        raise RunError(
            f"{output} could not be written ({error}). Nothing is left of it; "
            "free space or choose another `--output`."
        ) from error
    if not arguments.quiet:
        print(
            f"Wrote {written.num_images:,} images ({written.ipc:,} per class, "
            f"{written.set_format}, {written.num_bytes:,} bytes) to "
            f"{written.path}\nOpen them with: {written.snippet}"
        )


def _progress(quiet):
    """Returns a function that redraws one line, or None off a terminal."""
    if quiet or not sys.stdout.isatty():
        return None

    def show(done, total):
        end = "\n" if done == total else ""
        print(f"\r{done:,} of {total:,} images", end=end, flush=True)

    return show


if __name__ == "__main__":
    sys.exit(main())
