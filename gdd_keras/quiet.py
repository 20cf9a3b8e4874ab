"""Keeps what native code and libraries print by themselves off the terminal."""

import contextlib
import functools
import gc
import importlib.abc
import importlib.util
import logging
import os
import sys
import warnings

__all__ = [
    "printer",
    "quiet_import",
    "quiet_libraries",
    "quiet_logs",
    "quiet_warnings",
]


def printer(verbose):
    """Returns `print`, or for a verbosity of 0 what takes the same and is mute.

    Args:
        verbose: 1 or 0.
    """
    return print if verbose else _mute


def _mute(*_, **__):
    pass


@contextlib.contextmanager
def quiet_import():
    """Drops the process's standard error while a library is imported.

    TensorFlow 2.21 logs six lines before it reads `TF_CPP_MIN_LOG_LEVEL`. A
    Python exception passes through and is shown as usual.

    Python's garbage collector rests meanwhile. TensorFlow and Keras make half
    a million objects that all last; to walk through them again and again took
    0.6 to 1.2 of the six seconds until a command began.

    Keras comes without what it would import besides.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    collects = gc.isenabled()
    finder = _KerasAlone()
    gc.disable()
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        sys.meta_path.insert(0, finder)
        yield
    finally:
        # It goes by itself once it has found Keras.
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
        if collects:
            gc.enable()
        os.dup2(saved, 2)
        os.close(saved)


class _KerasAlone(importlib.abc.MetaPathFinder):
    """Imports Keras as if these were not installed, which it then does without.

    It wants them for `keras.visualization` and `keras.wrappers`, which no
    command uses: 1 to 2 seconds. Commands that draw or compare import them
    later, as ever.
    """

    _UNUSED = ("matplotlib", "sklearn")

    def find_spec(self, name, path, target=None):
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None:
            spec.loader.exec_module = functools.partial(
                self._load, spec.loader.exec_module
            )
        return spec

    def _load(self, load, module):
        hidden = [n for n in self._UNUSED if n not in sys.modules]
        # How Python marks a module that must not be imported.
        sys.modules.update(dict.fromkeys(hidden))
        try:
            load(module)
        finally:
            for name in hidden:
                sys.modules.pop(name, None)


@contextlib.contextmanager
def quiet_logs():
    """Drops what Python's loggers say, of whatever level.

    For a library that reports every failure as an exception besides.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def quiet_warnings():
    """Ignores deprecations inside a library that its caller cannot mend."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield


@contextlib.contextmanager
def quiet_libraries():
    """Drops all that libraries say while they work; exceptions pass through.

    For converters, which print pages on standard error, warn, and log.
    """
    with quiet_logs(), quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
