"""Command: `python -m gdd_keras.reweight` makes hard draws more frequent."""

import argparse
import sys

from gdd_keras.cli import add_config_flags
from gdd_keras.cli import add_model_flag
from gdd_keras.cli import add_version_flag
from gdd_keras.cli import given_settings
from gdd_keras.cli import run_command
from gdd_keras.config import GenerationConfig
from gdd_keras.config import make_config
from gdd_keras.metadata import check_same_held_out
from gdd_keras.metadata import distillation_config
from gdd_keras.metadata import find_version
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import

__all__ = ["main"]

_DESCRIPTION = """\
Make hard images more frequent among the draws of an exported generator.

Trains small networks on the real images, some for a short time and one for
long, and chooses draws by them: what the first do not recognise yet is drawn
more often, what the last takes for another class is left out. Trains no
generator. Settings that are not given are those with which the generator was
distilled.

  python -m gdd_keras.reweight --model saved_models/mnist
"""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command("reweight", _DESCRIPTION, _add_arguments, _run, argv)


def _add_arguments(parser):
    add_model_flag(parser)
    add_version_flag(parser)
    # Of the section `generation` nothing else can be changed.
    parser.add_argument(
        "--hard-share",
        type=float,
        default=GenerationConfig().hard_share,
        metavar="FLOAT",
        help="Share of the draws that are chosen by how hard they are for "
        "networks that have seen little; the others are chosen evenly. Above "
        "0 and below 1. Default: %(default)s.",
    )
    parser.add_argument(
        "--labeller-steps",
        type=int,
        default=argparse.SUPPRESS,
        metavar="INT",
        help="Training steps of the network that says what is wrong, of about "
        "256 real images. Default: those of the generator's labeller.",
    )
    add_config_flags(parser, ["data"])


def _run(arguments):
    directory = find_version(arguments.model, "--model")
    metadata = read_metadata(directory)
    given = given_settings(arguments)
    base = distillation_config(directory, metadata, "dataset" in given)
    config = make_config(base=base, **given)
    check_same_held_out(directory, metadata, config)
    with quiet_import():
        from gdd_keras.data import load_dataset
        from gdd_keras.difficulty import check_reweighting
        from gdd_keras.difficulty import describe_reweighting
        from gdd_keras.difficulty import reweight_model
        from gdd_keras.labeller import describe_labeller
    check_reweighting(directory, metadata, config.generation.hard_share)
    dataset = load_dataset(config.data, config.run.seed)
    print(describe_labeller(dataset, config.labeller.labeller_steps))
    print(describe_reweighting(config.generation.hard_share))
    version, wrong = reweight_model(
        directory, dataset, config, arguments.output
    )
    print(
        f"Wrote {version}\n"
        f"  of the draws before, {wrong:.2%} were of another class"
    )


if __name__ == "__main__":
    sys.exit(main())
