"""Keeps what native code and libraries print by themselves off the terminal."""

import contextlib
import logging
import os
import sys
import warnings

__all__ = ["quiet_import", "quiet_libraries", "quiet_warnings"]


@contextlib.contextmanager
def quiet_import():
    """Drops the process's standard error while a library is imported.

    TensorFlow 2.21 logs six lines before it reads `TF_CPP_MIN_LOG_LEVEL`. A
    Python exception passes through and is shown as usual.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


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
    logging.disable(logging.ERROR)
    try:
        with quiet_import(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
