"""Command: show which operations the time of a part goes to."""

import argparse
import collections
import pathlib
import sys
import tempfile
import time

from gdd_keras.cli import run_command
from gdd_keras.quiet import quiet_import

_DESCRIPTION = """\
Profile some steps of a part of `benchmarks.throughput`, and print the time by
kind of operation. Operations that run at the same time on two cores count
twice, so that the sum is up to that many times the wall-clock time.

  python -m benchmarks.operations "stage 2, convnet3" --precision float32
"""


def main(argv=None):
    """Runs the command; returns its exit code."""
    return run_command(
        "operations",
        _DESCRIPTION,
        _add_arguments,
        _run,
        argv,
        package="benchmarks",
    )


def _add_arguments(parser):
    parser.add_argument("part", help="Name of a part of throughput.")
    parser.add_argument(
        "--precision",
        default="float32",
        choices=("float32", "mixed_bfloat16"),
        help="Arithmetic of training. Default: %(default)s.",
    )
    parser.add_argument(
        "--calls", type=_calls, default=5, metavar="N", help="Default: 5."
    )
    parser.add_argument(
        "--top", type=int, default=15, metavar="N", help="Rows. Default: 15."
    )


def _calls(text):
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError(
            f"must be 1 to 1000. Received: {text}."
        )
    return value


def _run(arguments):
    with quiet_import():
        from benchmarks.cases import find_case
    case = find_case(arguments.part, arguments.precision)
    case.call()
    wall, milliseconds, counts = profile_operations(case.call, arguments.calls)
    total = sum(milliseconds.values())
    print(
        f"{arguments.part}, {arguments.precision}: {wall:.1f} ms of wall-clock "
        f"time, {total:.1f} ms of operations\n"
    )
    print(f"{'operation':<44}{'ms':>10}{'%':>6}{'times':>8}")
    for name, value in milliseconds.most_common(arguments.top):
        share = 100.0 * value / total
        print(f"{name:<44}{value:>10.2f}{share:>6.1f}{counts[name]:>8.0f}")


def profile_operations(call, calls):
    """Profiles a function with TensorFlow's profiler.

    Args:
        call: Function of no arguments that returns when its work is done.
        calls: How often to call it.

    Returns:
        Milliseconds of wall-clock time per call, and two
        `collections.Counter`s from kind of operation: milliseconds and
        number of operations per call.
    """
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    milliseconds, counts = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wall = 1000.0 * (time.perf_counter() - start) / calls
        tf.profiler.experimental.stop()
        (file,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                name, _, kind = plane.event_metadata[
                    event.metadata_id
                ].name.rpartition(":")
                # `name:Kind` is an operation; functions call others.
                if not name or name.endswith(":") or kind.startswith("__"):
                    continue
                milliseconds[kind] += event.duration_ps / 1e9 / calls
                counts[kind] += 1.0 / calls
    return wall, milliseconds, counts


if __name__ == "__main__":
    sys.exit(main())
