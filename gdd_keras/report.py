"""Command: `python -m gdd_keras.report` makes a report of runs and results."""

import sys

from gdd_keras import cli
from gdd_keras.config import InputError

__all__ = ["main"]

_DESCRIPTION = """\
Makes one report, as Markdown and as a self-contained HTML page, of runs and
results of one data set: accuracies with their protocols, figures, sizes,
quality, image grids, trials of searches, loss curves, settings, and the
commands behind them.

  python -m gdd_keras.report results/digits
  python -m gdd_keras.report results/digits runs/digits --output report

With --card it writes the model card of one generator instead, `README.md` in
its version directory: data, recipe, scores, use and limits.

  python -m gdd_keras.report results/digits --card saved_models/digits"""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return cli.run_command("report", _DESCRIPTION, _add_arguments, _run, argv)


def _add_arguments(parser):
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="RUN_OR_RESULTS",
        help="Folder of a run, of a search, or of results, or a results file; "
        "any number, of one data set.",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="Folder for the report; an earlier report in it is replaced. "
        "Default: `report` in the folder of the first input.",
    )
    parser.add_argument(
        "--card",
        metavar="MODEL",
        help="Write the model card of this generator, and no report.",
    )


def _run(arguments):
    """Writes report or card and prints where it is."""
    if arguments.card is not None and arguments.output is not None:
        raise InputError(
            "`--card` is written beside its model. Received: "
            f"--output={arguments.output}, too. Leave one out."
        )
    from gdd_keras import reporting

    material = reporting.read_inputs(arguments.inputs)
    if arguments.card is not None:
        card = reporting.write_card(arguments.card, material)
        _print_notes(material)
        print(f"model card   {card}")
        return
    output = arguments.output
    if output is None:
        output = reporting.default_output(arguments.inputs[0])
    reporting.check_output(output)
    document = reporting.build_document(material)
    page, text, figures = reporting.write_report(
        output,
        document.markdown,
        reporting.build_page(document),
        document.files,
    )
    _print_notes(material)
    print(f"report       {page}")
    print(f"markdown     {text}")
    print(f"figures      {figures}")


def _print_notes(material):
    for note in material.results.notes:
        print(f"note: {note}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
