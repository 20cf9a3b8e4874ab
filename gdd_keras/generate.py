"""Command: exported generator -> distilled set on disk."""

import contextlib
import pathlib
import sys

from gdd_keras.cli import run_command
from gdd_keras.config import EvaluationConfig
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import checked_integer
from gdd_keras.distilled_sets import FORMATS
from gdd_keras.distilled_sets import MAX_SHARDS
from gdd_keras.distilled_sets import SHARDED_FORMATS
from gdd_keras.distilled_sets import check_selection
from gdd_keras.distilled_sets import check_set
from gdd_keras.distilled_sets import check_soft_labels
from gdd_keras.distilled_sets import make_plan
from gdd_keras.distilled_sets import write_distilled_set
from gdd_keras.files import check_new_directory
from gdd_keras.memory import check_stored_set
from gdd_keras.metadata import find_version
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import
from gdd_keras.quiet import quiet_logs
from gdd_keras.quiet import quiet_warnings
from gdd_keras.selection import MAX_CONDENSED
from gdd_keras.selection import MAX_TYPICAL
from gdd_keras.selection import SELECTIONS
from gdd_keras.selection import check_condensing

__all__ = ["main"]

DESCRIPTION = """\
Write distilled images, the same number for every class, from a generator that
`python -m gdd_keras.distill` exported.

Example:
  python -m gdd_keras.generate --model saved_models/digits --ipc 10 \\
      --format png --output digits_10

The same model and seed give the same images; the images of a smaller --ipc
are the first ones of a larger, but for condensed ones, and typical ones of
more than 100 per class.

Of few images, typical ones teach a classifier more, and condensed ones most:
  python -m gdd_keras.generate --model saved_models/digits --ipc 1 \\
      --selection condensed --output digits_1

Very large sets are written by several processes or machines with Apache Beam
(pip install .[beam]). With --runner, every option of Beam is taken:
  python -m gdd_keras.generate --model saved_models/digits --ipc 100000 \\
      --format tfds --output big --runner DirectRunner \\
      --direct_num_workers 2 --direct_running_mode multi_processing"""


_RANGES = (
    ("ipc", 1, 10**9),
    ("seed", 0, 2**63 - 1),
    ("shards", 1, MAX_SHARDS),
)


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command(
        "generate",
        DESCRIPTION,
        _add_arguments,
        _run,
        argv,
        after_interrupt="nothing is left half written; complete shards stay "
        "for the same command",
        opens="runner",
    )


def _add_arguments(parser):
    """Adds the flags."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="Version directory of an exported generator, or its parent "
        "(then the highest version). With --runner also a URL such as "
        "gs://bucket/saved_models/digits.",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="DIR",
        help="New or empty directory for the images. With --runner also a URL.",
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
        choices=FORMATS,
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
        "--selection",
        choices=SELECTIONS,
        default="random",
        help="npz and png: random draws; or what teaches more where images "
        f"are few: typical draws, up to {MAX_TYPICAL} out of 2,000 for each "
        f"class, or condensed ones, up to {MAX_CONDENSED}, whose pixels are "
        "moved until they stand for a thousand, in minutes. Default: "
        "%(default)s.",
    )
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help="Files of tfrecord and tfds. An interrupted command goes on from "
        "those that are complete. Default: one for every 10,000 images.",
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="Write tfrecord or tfds with this runner of Apache Beam, for "
        "instance DirectRunner; other flags are then Beam options "
        "(https://beam.apache.org).",
    )
    parser.add_argument(
        "--soft-labels",
        action="store_true",
        help="npz alone: also write how probable each class is for each "
        "image, by a generator that was distilled with --soft-labels.",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="Print nothing unless it fails."
    )


def _run(arguments):
    """Checks everything that is cheap to check, then generates."""
    for name, minimum, maximum in _RANGES:
        value = getattr(arguments, name)
        if value is not None:
            checked_integer(f"--{name}", value, minimum, maximum)
    if arguments.format not in SHARDED_FORMATS:
        for name in ("runner", "shards"):
            value = getattr(arguments, name)
            if value is not None:
                raise InputError(
                    f"`--{name}` needs `--format` "
                    f"{' or '.join(SHARDED_FORMATS)}. Received: "
                    f"{name}={value} with format={arguments.format}."
                )
    if arguments.runner is None:
        written = _write_here(arguments)
    else:
        written = _write_with_beam(arguments)
    if not arguments.quiet:
        print(
            f"Wrote {written.num_images:,} images ({written.ipc:,} per class, "
            f"{written.set_format}, {written.num_bytes:,} bytes) to "
            f"{written.path}\nOpen them with: {written.snippet}"
        )


def _write_here(arguments):
    """Generates in this process."""
    for name in ("model", "output"):
        value = getattr(arguments, name)
        if "://" in value:
            raise InputError(
                f"`--{name}` may be a URL only with `--runner`. Received: "
                f"{name}={value}. Add `--runner DirectRunner`."
            )
    check_new_directory(pathlib.Path(arguments.output))
    version = find_version(arguments.model, "--model")
    metadata = read_metadata(version)
    _check_set(arguments, metadata)
    _announce(arguments, version, metadata)
    with quiet_import():
        import tensorflow  # noqa: F401

        from gdd_keras.generator_api import load_generator
    generator = load_generator(version)
    with _clear_errors(arguments):
        return write_distilled_set(
            generator,
            arguments.output,
            arguments.ipc,
            arguments.format,
            arguments.seed,
            progress=_progress(arguments.quiet),
            num_shards=arguments.shards,
            soft_labels=arguments.soft_labels,
            selection=arguments.selection,
        )


def _write_with_beam(arguments):
    """Generates with a runner of Beam."""
    from gdd_keras import beam

    # Beam logs pages, and its worker processes print on their own.
    with quiet_logs(), quiet_warnings():
        pipeline = beam.make_pipeline(arguments.runner, arguments.other_flags)
        version, metadata = beam.read_model(arguments.model)
        _check_set(arguments, metadata)
        _announce(arguments, version, metadata)
        with quiet_import(), _clear_errors(arguments):
            return beam.write_with_beam(
                pipeline,
                version,
                arguments.output,
                arguments.ipc,
                arguments.format,
                arguments.seed,
                arguments.shards,
                _progress(arguments.quiet),
            )


def _check_set(arguments, metadata):
    """Refuses what the format cannot hold, before TensorFlow is loaded."""
    shape, num_classes = metadata["image_shape"], metadata["num_classes"]
    check_set(arguments.format, shape[-1])
    check_soft_labels(arguments.soft_labels, arguments.format, metadata)
    check_selection(arguments.selection, arguments.format, arguments.ipc)
    if arguments.format in SHARDED_FORMATS:
        num_images = arguments.ipc * num_classes
        make_plan(arguments.format, num_images, num_shards=arguments.shards)
    elif arguments.format == "npz":
        check_stored_set(arguments.ipc, shape, num_classes)
    if arguments.selection == "condensed":
        check_condensing(arguments.ipc, shape, num_classes)


def _announce(arguments, version, metadata):
    """Says what comes."""
    if arguments.quiet:
        return
    num_classes = metadata["num_classes"]
    print(
        f"Generating {arguments.ipc * num_classes:,} images "
        f"({arguments.ipc:,} for each of {num_classes} classes) with "
        f"{version} ...",
        flush=True,
    )


@contextlib.contextmanager
def _clear_errors(arguments):
    """Turns an error of the file system into one clear line."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{arguments.output} could not be written ({error}). Nothing is "
            "left half written; free space or choose another `--output`."
        ) from error


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
