"""Which arithmetic layers use, and what this machine is fast at."""

import contextlib

import keras
import tensorflow as tf

from gdd_keras.machine import cpu_flags

__all__ = ["fast_precision", "float32_copy", "layer_precision"]


@contextlib.contextmanager
def layer_precision(name):
    """Makes the layers built inside use a Keras dtype policy.

    Args:
        name: Name of the policy, such as `mixed_bfloat16`; `None` keeps the
            current one.
    """
    before = keras.config.dtype_policy()
    if name is not None:
        keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def fast_precision():
    """Returns the policy that is fastest here: what `auto` stands for.

    bfloat16 needs a GPU of compute capability 8.0 or more, or a CPU with
    instructions for it. Elsewhere it is emulated, and slower than float32.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        fast = details.get("compute_capability", (0, 0)) >= (8, 0)
    else:
        fast = bool({"avx512_bf16", "amx_bf16"} & cpu_flags())
    return "mixed_bfloat16" if fast else "float32"


def float32_copy(model):
    """Returns a model with the same weights that computes in float32.

    Args:
        model: Functional `keras.Model`, of any dtype policy whose variables
            are float32.
    """

    def copy_layer(layer):
        config = layer.get_config()
        # Operations such as `keras.ops.clip` have no policy.
        if isinstance(layer, keras.layers.Layer):
            config["dtype"] = "float32"
        # What a wrapper holds has a policy of its own.
        if isinstance(layer, keras.layers.Wrapper):
            config["layer"]["config"]["dtype"] = "float32"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=copy_layer)
    copy.set_weights(model.get_weights())
    return copy
