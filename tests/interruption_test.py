import os
import signal
import subprocess
import sys
import threading

import pytest

from gdd_keras.interruption import PostponedSignals
from gdd_keras.interruption import Terminated
from gdd_keras.interruption import raised_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    # Ignored, where a shell started the tests in the background.
    at_start = signal.signal(signal.SIGINT, signal.default_int_handler)
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    after = [signal.getsignal(number) for number in SIGNALS]
    signal.signal(signal.SIGINT, at_start)
    assert after == before


@pytest.mark.parametrize(
    ("number", "expected"),
    [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)],
)
def test_signals_raise(number, expected):
    with pytest.raises(KeyboardInterrupt) as caught, raised_signals() as raised:
        send(number)
    assert caught.type is expected
    assert raised == [number]


def test_the_third_signal_is_the_systems():
    with raised_signals() as raised:
        for _ in range(2):
            with pytest.raises(Terminated):
                send()
        assert [signal.getsignal(number) for number in SIGNALS] == [
            signal.SIG_DFL
        ] * 2
    assert raised == [signal.SIGTERM] * 2


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with raised_signals() as raised, PostponedSignals() as signals:
            send()
            assert not signals.pending
        assert raised == []
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_handle_no_signals():
    seen = []

    def work():
        with raised_signals(), PostponedSignals():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(number) for number in SIGNALS]


def test_postponed_until_delivered():
    with raised_signals() as raised, pytest.raises(Terminated):
        with PostponedSignals() as signals:
            signals.deliver()
            send()
            assert signals.pending
            assert raised == []
            signals.deliver()
            pytest.fail("must not go on")
    assert raised == [signal.SIGTERM]


def test_postponed_to_the_end_of_the_block():
    done = []
    with raised_signals(), pytest.raises(KeyboardInterrupt):
        with PostponedSignals():
            send(signal.SIGINT)
            done.append(1)
    assert done == [1]


@pytest.mark.parametrize("second", SIGNALS)
def test_second_signal_is_not_postponed(second):
    with raised_signals() as raised, pytest.raises(KeyboardInterrupt):
        with PostponedSignals():
            send(signal.SIGINT)
            send(second)
            pytest.fail("must not go on")
    assert raised == [second]


def test_an_error_comes_before_a_postponed_signal():
    with raised_signals() as raised, pytest.raises(ValueError, match="worse"):
        with PostponedSignals():
            send()
            raise ValueError("worse")
    assert raised == []


def test_without_a_handler_the_system_ends_the_process():
    # As in a notebook, where nobody would hear of a SIGTERM held back.
    code = (
        "import os, signal, time\n"
        "from gdd_keras.interruption import PostponedSignals\n"
        "with PostponedSignals():\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(30)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -15
