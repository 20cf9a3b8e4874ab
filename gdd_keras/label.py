"""Command: `python -m gdd_keras.label` adds soft labels to a generator."""

import sys

from gdd_keras.cli import add_config_flags
from gdd_keras.cli import add_model_flag
from gdd_keras.cli import add_version_flag
from gdd_keras.cli import given_settings
from gdd_keras.cli import run_command
from gdd_keras.config import make_config
from gdd_keras.metadata import check_same_held_out
from gdd_keras.metadata import distillation_config
from gdd_keras.metadata import find_version
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import

__all__ = ["main"]

_DESCRIPTION = """\
Add soft labels to a generator that was exported without them.

Trains a small network on the real images and writes the generator, whose
images stay as they are, with that network: it says how probable each class of
an image is. Settings that are not given are those with which the generator
was distilled.

  python -m gdd_keras.label --model saved_models/digits
  python -m gdd_keras.evaluate --model saved_models/digits --eval-labels soft
"""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command("label", _DESCRIPTION, _add_arguments, _run, argv)


def _add_arguments(parser):
    add_model_flag(parser)
    add_version_flag(parser)
    add_config_flags(parser, ["data", "labeller"])


def _run(arguments):
    directory = find_version(arguments.model, "--model")
    metadata = read_metadata(directory)
    given = given_settings(arguments)
    base = distillation_config(directory, metadata, "dataset" in given)
    config = make_config(base=base, **given)
    check_same_held_out(directory, metadata, config)
    with quiet_import():
        from gdd_keras.data import load_dataset
        from gdd_keras.labeller import describe_labeller
        from gdd_keras.labeller import label_model
    dataset = load_dataset(config.data, config.run.seed)
    print(describe_labeller(dataset, config.labeller.labeller_steps))
    version, accuracy = label_model(
        directory, dataset, config, arguments.output
    )
    num_bytes = read_metadata(version)["num_bytes"]
    print(
        f"Wrote {version}\n"
        f"  soft labels: the labeller is right on {accuracy:.2%} of held-out "
        f"images\n"
        f"  {num_bytes:,} bytes ({directory}: {metadata['num_bytes']:,})"
    )


if __name__ == "__main__":
    sys.exit(main())
