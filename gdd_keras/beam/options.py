"""From flags to a Beam pipeline, or to one clear line of error."""

import contextlib
import difflib
import io

import apache_beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options import TypeOptions

from gdd_keras.config import InputError

__all__ = ["make_pipeline"]

# Their job servers, which are no Python, know more flags.
_WITH_OWN_FLAGS = ("flinkrunner", "sparkrunner", "portablerunner")


def make_pipeline(runner, flags):
    """Makes a pipeline of a runner and Beam's own flags; runs nothing.

    Args:
        runner: Name of a Beam runner, such as `DirectRunner`.
        flags: List of the other arguments of the command line.

    Returns:
        An `apache_beam.Pipeline`.

    Raises:
        InputError: If Beam does not know the runner or a flag, or refuses a
            value.
    """
    flags = [f"--runner={runner}", *flags]
    options = PipelineOptions(flags)
    parsers = []
    refusal = io.StringIO()
    try:
        with contextlib.redirect_stderr(refusal):
            options.get_all_options(add_extra_args_fn=parsers.append)
            _, unknown = parsers[0].parse_known_args(flags)
    except SystemExit as error:
        reason = refusal.getvalue().strip().rpartition("error: ")[2]
        raise InputError(
            f"Every flag must have a value that Beam takes. Received: {reason}."
        ) from error
    if runner.lower() not in _WITH_OWN_FLAGS:
        _check_known(unknown, parsers[0])
    if runner.lower() in ("directrunner", "direct"):
        # The only way to keep Beam's Python runner, which has the flags
        # `--direct_*`: without it Beam prefers to download and start another
        # one, which ignores them. There is no trigger here to be unsafe.
        options.view_as(TypeOptions).allow_unsafe_triggers = True
    try:
        return apache_beam.Pipeline(options=options)
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(
            f"`--runner` must be a runner of Beam, such as DirectRunner, with "
            f"the flags it needs. Received: runner={runner} ({reason})."
        ) from error


def _check_known(unknown, parser):
    """Raises `InputError` for arguments that Beam left over."""
    if not unknown:
        return
    names = [text.split("=")[0] for text in unknown if text.startswith("-")]
    known = [
        name
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--")
    ]
    near = difflib.get_close_matches((names or unknown)[0], known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise InputError(
        "Every flag must be one of this command or of Beam. Received: "
        f"{', '.join(names or unknown)}.{hint}"
    )
