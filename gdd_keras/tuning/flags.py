"""Flags of a search, for every command that has one; no TensorFlow."""

from gdd_keras import cli
from gdd_keras.config import TuningConfig
from gdd_keras.tuning.space import DEFAULT_VALUES
from gdd_keras.tuning.space import LISTS

__all__ = ["add_search_flags", "given_search"]

_CLASSES = {"tuning": TuningConfig}


def add_search_flags(parser):
    """Adds the flags of a run and of a search.

    Args:
        parser: `argparse.ArgumentParser` to extend.
    """
    parser.add_argument(
        "--search",
        nargs="+",
        default=[],
        choices=tuple(DEFAULT_VALUES),
        metavar="NAME",
        help="More settings to search, beside omega_g and omega_l: "
        f"{', '.join(n for n in DEFAULT_VALUES if 'omega' not in n)}.",
    )
    cli.add_config_flags(parser, classes=_CLASSES)
    cli.add_config_flags(parser, lists=LISTS)


def given_search(arguments):
    """Returns what the command line says of a search.

    Args:
        arguments: Parsed arguments.

    Returns:
        `TuningConfig`; dict of the run's settings, those that one value fixes
        included; dict from field to the values to search.
    """
    tuning = TuningConfig(**cli.given_settings(arguments, _CLASSES))
    settings = cli.given_settings(arguments)
    lists = {name: settings.pop(name) for name in LISTS if name in settings}
    settings |= {
        n: values[0] for n, values in lists.items() if len(values) == 1
    }
    return tuning, settings, lists
