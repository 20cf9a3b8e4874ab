import time

import pytest

from benchmarks.timing import OtherLoad
from benchmarks.timing import Timing
from benchmarks.timing import time_calls


def test_warmup_does_not_count():
    calls = []

    def call():
        calls.append(None)
        if len(calls) <= 2:
            time.sleep(0.2)

    timing = time_calls(call, seconds=0.0, warmup=2, repeats=3)
    assert len(calls) == 5
    assert len(timing.seconds) == 3
    assert timing.slowest < 0.2


def test_goes_on_for_the_seconds():
    timing = time_calls(lambda: time.sleep(0.01), 0.2, 0, 1)
    assert len(timing.seconds) > 3
    assert timing.fastest >= 0.01


def test_median_is_no_mean():
    timing = Timing((1.0, 9.0, 2.0))
    assert (timing.median, timing.fastest, timing.slowest) == (2.0, 1.0, 9.0)


def test_own_work_is_no_other_load(monkeypatch):
    # Wall-clock, busy seconds of all processes, and of this one.
    readings = iter([(10.0, 100.0, 50.0), (14.0, 107.0, 54.0)])
    monkeypatch.setattr(OtherLoad, "_read", lambda: next(readings))
    assert OtherLoad().cores() == pytest.approx(3.0 / 4.0)
