"""What all commands share: flags from config fields, errors, quiet start."""

import argparse
import signal
import sys
import typing

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import about
from gdd_keras.config import checked_text
from gdd_keras.config import config_from_json
from gdd_keras.config import field_parser
from gdd_keras.config import make_config
from gdd_keras.config import section_fields
from gdd_keras.files import storage_problem
from gdd_keras.interruption import raised_signals
from gdd_keras.machine import prepare_tensorflow
from gdd_keras.schema import read_text

__all__ = [
    "add_config_flags",
    "add_model_flag",
    "add_version_flag",
    "given_settings",
    "read_config",
    "resolve_config",
    "run_command",
]

EXIT_BAD_INPUT = 2
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


class _Parser(argparse.ArgumentParser):
    """Shows defaults and keeps the paragraphs of descriptions."""

    def __init__(self, **kwargs):
        kwargs.setdefault(
            "formatter_class", argparse.RawDescriptionHelpFormatter
        )
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(**kwargs)


def add_config_flags(parser, sections=None, lists=(), classes=None):
    """Adds one flag per config field, grouped by section.

    A flag that is not given leaves no attribute, so that presets and config
    files below it stay visible; read the given ones with `given_settings`.

    Args:
        parser: `argparse.ArgumentParser` to extend.
        sections: Names of sections to add; `None` adds all.
        lists: Names of scalar fields whose flags take one or more values.
        classes: Dict from name to class of other sections than a run's, or
            `None`.
    """
    groups = {}
    for section, section_class, field, hint in section_fields(classes):
        if sections is not None and section not in sections:
            continue
        if section not in groups:
            title = section_class.__doc__.splitlines()[0].rstrip(".")
            groups[section] = parser.add_argument_group(title)
        flag = "--" + field.name.replace("_", "-")
        text = field.metadata["help"].replace("%", "%%")
        shown = field.default
        if isinstance(shown, tuple):
            shown = " ".join(map(str, shown))
        if shown is not None:
            text += f" Default: {shown}."
        options = {"default": argparse.SUPPRESS, "help": text}
        if hint is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options["type"] = _text_parser(hint)
            # The kind of value reads better than the name said twice.
            options["metavar"] = _metavar(field, hint)
            if typing.get_origin(hint) is tuple or field.name in lists:
                options["nargs"] = "+"
        groups[section].add_argument(flag, **options)


def _text_parser(hint):
    """Returns a function from a flag's text to the type of a field.

    `none` unsets a number or a size that a config file sets.
    """
    parse = field_parser(hint)
    if type(None) not in typing.get_args(hint) or parse is str:
        return parse

    def parse_or_none(text):
        return None if text.lower() == "none" else parse(text)

    # What argparse calls text that does not parse.
    parse_or_none.__name__ = parse.__name__
    return parse_or_none


def add_model_flag(parser):
    """Adds `--model`, one exported generator.

    Args:
        parser: `argparse.ArgumentParser` to extend.
    """
    parser.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="Version directory of an exported generator, or its parent "
        "(then the highest version).",
    )


def add_version_flag(parser):
    """Adds `--output`, where the next version of `--model` is written.

    Args:
        parser: `argparse.ArgumentParser` to extend.
    """
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="New or empty directory. Default: the next version beside the "
        "model.",
    )


def given_settings(arguments, classes=None):
    """Returns the fields that the command line set, by name.

    Args:
        arguments: Parsed arguments.
        classes: As in `add_config_flags`.
    """
    names = {field.name for _, _, field, _ in section_fields(classes)}
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(arguments).items()
        if name in names
    }


def read_config(path, settings):
    """Reads the file of `--config`.

    Args:
        path: The file, or `None`.
        settings: As from `given_settings`.

    Returns:
        `Config`, or `None` without a file.

    Raises:
        InputError: If it cannot be read, or a preset was given too.
    """
    if path is None:
        return None
    if "preset" in settings:
        raise InputError(
            "`--preset` and `--config` exclude each other. Received: both. "
            "Leave one out."
        )
    text = read_text(path, "`--config`", "Pass a run's config.json.")
    with about("--config"):
        return config_from_json(text, path)


def resolve_config(base, settings, gpu):
    """Resolves preset, config file and flags to one `Config`.

    Args:
        base: As from `read_config`.
        settings: As from `given_settings`.
        gpu: Whether there is one; decides the preset `auto`.
    """
    settings = dict(settings)
    if base is not None:
        return make_config(base=base, **settings)
    preset = settings.pop("preset", "auto")
    if preset == "auto":
        preset = "paper" if gpu else "compact"
    return make_config(preset, **settings)


def run_command(
    name,
    description,
    add_arguments,
    run,
    argv=None,
    after_interrupt="nothing is left half written",
    package="gdd_keras",
    opens=None,
):
    """Parses, runs, and turns every expected failure into one clear line.

    Args:
        name: Command name as in `python -m <package>.<name>`.
        description: Text above the flags in `--help`.
        add_arguments: Function of the parser that adds the flags.
        run: Function of the parsed arguments; imports TensorFlow itself.
        argv: Arguments, or `None` for the process's own.
        after_interrupt: What to tell after Ctrl-C or SIGTERM, and when the
            disk is full or read-only.
        package: Where the command lies.
        opens: Name of a flag with which other flags than the parser's are
            let through, as the list `arguments.other_flags`; `None` for none.

    Returns:
        Exit code: 0, 1 for a run that failed, 2 for bad input, 130 for
        Ctrl-C, 143 for SIGTERM.
    """
    parser = _Parser(
        prog=f"python -m {package}.{name}", description=description
    )
    add_arguments(parser)
    arguments, other_flags = parser.parse_known_args(argv)
    if other_flags and (opens is None or getattr(arguments, opens) is None):
        parser.error(f"unrecognized arguments: {' '.join(other_flags)}")
    arguments.other_flags = other_flags
    prepare_tensorflow()
    if hasattr(sys.stdout, "reconfigure"):
        # A path on Linux need not be Unicode, and may be printed.
        sys.stdout.reconfigure(errors="backslashreplace")
    with raised_signals() as signals:
        try:
            _check_texts(arguments)
            run(arguments)
        except (Exception, KeyboardInterrupt) as error:
            code = _tell(error, signals, after_interrupt)
            if code is None:
                raise
            return code
    return 0


def _tell(error, signals, after_interrupt):
    """Prints in one line what ended a command.

    Returns:
        The exit code, or `None` for a bug, of which nothing is printed.
    """
    # First, since libraries turn an interruption into errors of their own.
    if signals or isinstance(error, KeyboardInterrupt):
        terminated = signal.SIGTERM in signals
        what = "terminated" if terminated else "interrupted"
        print(f"\n{what}; {after_interrupt}.", file=sys.stderr)
        return EXIT_TERMINATED if terminated else EXIT_INTERRUPTED
    if isinstance(error, InputError):
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if isinstance(error, RunError):
        print(f"\nfailed: {error}", file=sys.stderr)
        return EXIT_FAILED
    problem = storage_problem(error)
    if problem is not None:
        print(f"\nfailed: {problem}; {after_interrupt}.", file=sys.stderr)
        return EXIT_FAILED
    return None


def _check_texts(arguments):
    """Raises `InputError` for text that can be neither name nor path."""
    for name, value in vars(arguments).items():
        # Flags of Beam are Beam's to judge.
        if name != "other_flags":
            for text in value if isinstance(value, list) else [value]:
                if isinstance(text, str):
                    checked_text("--" + name.replace("_", "-"), text)


def _metavar(field, hint):
    """Returns what stands for the value in `--help`."""
    if field.metadata["choices"] is not None:
        return "{" + ",".join(field.metadata["choices"]) + "}"
    if field_parser(hint) is int:
        return "N"
    if field_parser(hint) is float:
        return "X"
    return field.name.upper()
