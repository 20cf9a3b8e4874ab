"""Command: exported generator -> half-size SavedModel, LiteRT or ONNX."""

import sys

from gdd_keras.cli import add_model_flag
from gdd_keras.cli import run_command
from gdd_keras.config import WEIGHT_TYPES
from gdd_keras.config import RunError
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import find_version
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import

__all__ = ["main"]

DESCRIPTION = """\
Write a generator that `python -m gdd_keras.distill` exported in another form.

  saved_model   the same signatures, with --weights float16 in half the bytes
  litert        model.tflite: latents, labels -> images in [-1, 1]
  onnx          model.onnx: the same

Example:
  python -m gdd_keras.convert --model saved_models/digits --to litert \\
      --output digits_litert

metadata.json goes with each, without scores: they belong to the original."""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command("convert", DESCRIPTION, _add_arguments, _run, argv)


def _add_arguments(parser):
    """Adds the flags."""
    add_model_flag(parser)
    parser.add_argument(
        "--to",
        required=True,
        choices=("saved_model", "litert", "onnx"),
        help="What to write.",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="New or empty directory. Default for saved_model: the next "
        "version beside the model.",
    )
    parser.add_argument(
        "--weights",
        choices=WEIGHT_TYPES,
        help="Type in which weights are stored; computed with in float32. "
        "Default: as in the model.",
    )


def _run(arguments):
    """Finds the model before TensorFlow is loaded, then converts."""
    version = find_version(arguments.model, "--model")
    before = read_metadata(version)["num_bytes"]
    with quiet_import():
        from gdd_keras.conversion import convert_model
    try:
        written = convert_model(
            version, arguments.to, arguments.output, arguments.weights
        )
    except OSError as error:
        raise RunError(
            f"The output could not be written ({error}). Nothing is left of "
            "it; free space or choose another `--output`."
        ) from error
    metadata = read_metadata(written)
    print(
        f"Wrote {written}\n"
        f"  {arguments.to}, weights {metadata['weights']}, "
        f"{metadata['num_bytes']:,} bytes ({version}: {before:,})\n"
        f"  {METADATA_NAME}: names of the labels, sizes, settings; no scores"
    )


if __name__ == "__main__":
    sys.exit(main())
