"""Command: measure the speed of every part against the machine's ceilings."""

import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

from benchmarks.flags import positive_number
from gdd_keras.cli import run_command
from gdd_keras.files import write_json
from gdd_keras.quiet import quiet_import

_DESCRIPTION = """\
Measure the speed of training, evaluation, generation and input, on random
images, in one run: beside each figure its multiply-adds (counted in the graph
that TensorFlow traces), the GFLOP/s that follow, and their share of what a
large float32 convolution reaches here, forward and backward.

  python -m benchmarks.throughput
  python -m benchmarks.throughput --only "stage 1" generation
"""

_FIRST_STEP = "first training step, digits"


def main(argv=None):
    """Runs the command; returns its exit code."""
    words = sys.argv[1:] if argv is None else argv
    return run_command(
        "throughput",
        _DESCRIPTION,
        _add_arguments,
        lambda arguments: _run(arguments, words),
        argv,
        package="benchmarks",
    )


def _add_arguments(parser):
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="TEXT",
        help="Measure only the parts whose names contain one of these texts.",
    )
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=("float32", "mixed_bfloat16"),
        help="Arithmetic of training. Default: float32, and what `auto` is "
        "here.",
    )
    parser.add_argument(
        "--seconds",
        type=positive_number("seconds", 3600),
        default=3.0,
        metavar="X",
        help="Seconds for each part. Default: %(default)s.",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="Where to write the figures as JSON.",
    )


def _run(arguments, words):
    with quiet_import():
        from benchmarks.cases import make_cases
        from benchmarks.ceilings import measure_ceilings
        from benchmarks.timing import OtherLoad
        from gdd_keras.machine import describe_environment
        from gdd_keras.networks import fast_precision
    precisions = arguments.precision or sorted({"float32", fast_precision()})
    load = OtherLoad()
    ceilings = measure_ceilings(min(2.0, arguments.seconds))
    report = {
        "environment": describe_environment(),
        "command": shlex.join(
            ["python", "-m", "benchmarks.throughput", *words]
        ),
        "ceilings_gflops": _rounded(ceilings),
        "parts": [],
    }
    print(
        f"ceilings: matrix product {ceilings['matmul']:.0f} GFLOP/s, "
        f"convolution {ceilings['convolution']:.0f} GFLOP/s\n"
    )
    print(
        _row("part", "precision", "images/s", "range", "MMAC", "GFLOP/s", "%")
    )

    def wanted(name):
        only = arguments.only
        return only is None or any(text in name for text in only)

    for name, precision, make in make_cases(precisions):
        if wanted(name):
            part = _measure(make(), precision, arguments.seconds, ceilings)
            report["parts"].append(part)
    if wanted(_FIRST_STEP):
        seconds = sorted(_first_step() for _ in range(3))
        report["first_step_seconds"] = [round(s, 2) for s in seconds]
        print(
            f"\n{_FIRST_STEP}: {seconds[1]:.1f} s after the command (three "
            f"times: {seconds[0]:.1f} to {seconds[2]:.1f})"
        )
    report["other_load_cores"] = round(load.cores(), 2)
    print(
        f"\nother processes kept {report['other_load_cores']:.2f} cores busy "
        "meanwhile"
    )
    if arguments.output:
        write_json(pathlib.Path(arguments.output), report)
        print(f"wrote {arguments.output}")


def _measure(case, precision, seconds, ceilings):
    """Measures a part, prints its row, and returns it for the report."""
    timing = case.run(seconds)
    rate = case.images / timing.median
    slowest, fastest = (
        case.images / timing.slowest,
        case.images / timing.fastest,
    )
    part = {
        "name": case.name,
        "precision": precision,
        "images_per_call": case.images,
        "calls": len(timing.seconds),
        "images_per_second": round(rate, 2),
        "slowest": round(slowest, 2),
        "fastest": round(fastest, 2),
    }
    cells = ["", "", ""]
    if case.multiply_adds is not None:
        gflops = 2.0 * case.multiply_adds * rate / 1e9
        share = gflops / ceilings["convolution"]
        part["multiply_adds_per_image"] = round(case.multiply_adds)
        part["gflops"] = round(gflops, 1)
        part["share_of_convolution_ceiling"] = round(share, 3)
        cells = [
            f"{case.multiply_adds / 1e6:,.1f}",
            f"{gflops:.0f}",
            f"{100 * share:.0f}",
        ]
    print(
        _row(
            case.name,
            precision or "",
            _short(rate),
            f"{_short(slowest)} - {_short(fastest)}",
            *cells,
        ),
        flush=True,
    )
    return part


def _first_step():
    """Returns the seconds from a command to the end of its first step."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        command = subprocess.Popen(
            [sys.executable, "-m", "gdd_keras.distill", "--dataset", "digits"]
            # The labeller of hard draws would come first, and its steps.
            + ["--hard-share", "0"]
            + ["--run-dir", f"{folder}/run", "--saved-models", f"{folder}/out"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            shown = b""
            # Keras's progress bar counts the steps that are done, in bold.
            while not re.search(rb"\d/\d+\x1b", shown):
                more = command.stdout.read1(4096)
                if not more:
                    raise RuntimeError(shown.decode())
                shown += more
            return time.monotonic() - start
        finally:
            command.kill()
            command.wait()
            command.stdout.close()


def _short(rate):
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _row(name, precision, rate, spread, work, gflops, share):
    return (
        f"{name:<46}{precision:<16}{rate:>10}{spread:>20}{work:>10}"
        f"{gflops:>9}{share:>5}"
    )


def _rounded(values):
    return {name: round(value, 3) for name, value in values.items()}


if __name__ == "__main__":
    sys.exit(main())
