"""Ctrl-C and SIGTERM: one way to end, and a moment to end at."""

import contextlib
import signal
import threading

__all__ = ["PostponedSignals", "Terminated", "raised_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM. A kind of Ctrl-C, so that all that heeds one heeds both."""


@contextlib.contextmanager
def raised_signals():
    """Lets SIGTERM raise an exception, as Ctrl-C does.

    Outside of the main thread, where Python handles no signals, it does
    nothing; nor for a signal that the parent process had ignored, as `nohup`
    and shells do for commands in the background.

    Yields:
        List of the signals that were raised so far. Libraries turn some of
        the exceptions into errors of their own.
    """
    raised = []

    def handle(number, frame):
        raised.append(number)
        if len(raised) > 1:
            # The next one must not depend on Python, which may be waiting.
            for other in _SIGNALS:
                signal.signal(other, signal.SIG_DFL)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    with _handlers(lambda number, earlier: handle):
        yield raised


class PostponedSignals:
    """Holds back the first Ctrl-C or SIGTERM until the caller is ready.

    A context manager: `deliver` lets the signal take effect, and so does the
    end of the block. A second signal takes effect at once.
    """

    def __init__(self):
        self._noted = None
        self._earlier = {}
        self._restore = contextlib.ExitStack()

    def __enter__(self):
        self._restore.enter_context(_handlers(self._handler))
        return self

    def __exit__(self, kind, *_):
        self._restore.close()
        if kind is None:
            self.deliver()

    @property
    def pending(self):
        """Whether a signal came and waits."""
        return self._noted is not None

    def deliver(self):
        """Handles the signal that waits, if there is one: mostly raises."""
        if self.pending:
            number, self._noted = self._noted, None
            self._earlier[number](number, None)

    def _handler(self, number, earlier):
        # Nothing would happen, or the process ends by the system's hand.
        if not callable(earlier):
            return earlier
        self._earlier[number] = earlier
        return self._handle

    def _handle(self, number, frame):
        if self.pending:
            self._earlier[number](number, frame)
        self._noted = number


@contextlib.contextmanager
def _handlers(choose):
    """Sets handlers and puts the earlier ones back.

    Args:
        choose: Function of the signal and its earlier handler.
    """
    earlier = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                earlier[number] = handler
                signal.signal(number, choose(number, handler))
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
