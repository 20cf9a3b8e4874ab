"""Wall-clock times of repeated calls, and how busy the machine was else."""

import dataclasses
import os
import statistics
import time

import psutil

__all__ = ["OtherLoad", "Timing", "time_calls"]


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of each call.

    Attributes:
        seconds: Tuple of floats, in order.
    """

    seconds: tuple

    @property
    def median(self):
        return statistics.median(self.seconds)

    @property
    def fastest(self):
        return min(self.seconds)

    @property
    def slowest(self):
        return max(self.seconds)


def time_calls(call, seconds=3.0, warmup=2, repeats=5):
    """Times a function after some calls that do not count.

    Args:
        call: Function of no arguments; must return only when its work is
            done.
        seconds: How long to go on at least.
        warmup: Calls before, which trace and fill caches.
        repeats: Calls at least.

    Returns:
        `Timing`.
    """
    for _ in range(warmup):
        call()
    times = []
    end = time.perf_counter() + seconds
    while len(times) < repeats or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return Timing(tuple(times))


class OtherLoad:
    """Says how many cores other processes kept busy since it was made."""

    def __init__(self):
        self._start = OtherLoad._read()

    def cores(self):
        """Returns the mean number of cores, a float >= 0."""
        now = OtherLoad._read()
        wall, busy, own = (b - a for a, b in zip(self._start, now, strict=True))
        return max(0.0, (busy - own) / wall) if wall else 0.0

    @staticmethod
    def _read():
        machine = psutil.cpu_times()
        # Linux counts guests' time as the user's too.
        busy = machine.user + machine.system + getattr(machine, "nice", 0.0)
        own = os.times()
        return time.monotonic(), busy, sum(own[:4])
