"""Generative dataset distillation in Keras 3 on TensorFlow.

`import gdd_keras` loads neither TensorFlow nor Keras; the names below do when
they are first used.
"""

import importlib

__version__ = "0.1.0"

__all__ = [
    "DistilledGenerator",
    "__version__",
    "condensed_images",
    "load_generator",
    "typical_images",
]

_HOMES = {
    "DistilledGenerator": "gdd_keras.generator_api",
    "condensed_images": "gdd_keras.selection.distribution_matching",
    "load_generator": "gdd_keras.generator_api",
    "typical_images": "gdd_keras.selection.typical",
}


def __getattr__(name):
    """Imports a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'gdd_keras' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(set(globals()) | set(__all__))
