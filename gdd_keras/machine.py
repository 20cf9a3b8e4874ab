"""The machine: what TensorFlow is to make of it, and what figures depend on."""

import logging
import os
import pathlib
import platform

__all__ = [
    "cpu_flags",
    "describe_environment",
    "prepare_tensorflow",
    "usable_cores",
]

_CPU_INFO = pathlib.Path("/proc/cpuinfo")


def prepare_tensorflow():
    """Sets up how TensorFlow starts; must run before its import.

    In every process: what is spawned has the environment, not the loggers.
    What the user set counts.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if platform.machine() in ("x86_64", "AMD64"):
        # By itself TensorFlow turns oneDNN on only where the processor has
        # instructions for neural networks, such as AVX-512 VNNI. On an AMD
        # EPYC with AVX2 both stages train 1.8 times as fast with it.
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Python-side notes, such as that a second stage traces a second graph.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def describe_environment():
    """Describes machine, device and versions; loads TensorFlow.

    Returns:
        Dict ready for JSON: `machine`, `device`, `python` and `versions`.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    import gdd_keras

    gpus = tf.config.list_physical_devices("GPU")
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "device": f"{len(gpus)} GPU" if gpus else "cpu",
        "python": platform.python_version(),
        "versions": {
            "gdd_keras": gdd_keras.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "tensorflow": tf.__version__,
        },
    }


def usable_cores():
    """Returns how many cores this process may use, an integer >= 1."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        # Neither macOS nor Windows says.
        return os.cpu_count() or 1


def cpu_flags():
    """Returns the processor's features by Linux's names, a set of strings.

    Empty where they are not known.
    """
    return set(_cpu_info("flags").split())


def _processor():
    """Returns the processor's name, as well as it is known."""
    return _cpu_info("model name") or platform.processor() or platform.machine()


def _cpu_info(key):
    """Returns the first core's value of a key in /proc/cpuinfo, or ""."""
    try:
        lines = _CPU_INFO.read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
