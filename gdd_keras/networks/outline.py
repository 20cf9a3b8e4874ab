"""Networks without their weights, to be looked at before they are built."""

import concurrent.futures

import keras

__all__ = ["initial_weights", "outline"]


def outline(build):
    """Builds networks whose variables have shapes but no values.

    Takes milliseconds and next to no memory, whatever their size.

    Args:
        build: Function without arguments that builds networks of this
            package. A user's own network may read its weights, which have no
            values here.

    Returns:
        What the function returned; models in it are good for their layers
        and for `count_params()` alone.
    """
    # Keras notes for each thread which variables still need a value, and
    # would give them one when the next model is built there.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(_without_values, build).result()


def initial_weights(build):
    """Returns the weights that a network begins with, and makes no variable.

    TensorFlow keeps some of the memory of every variable that was ever made:
    networks built again and again fill it.

    Args:
        build: Function without arguments that builds one network of this
            package.

    Returns:
        List of arrays, as `get_weights` of the network gives.
    """
    # Within an outline, Keras computes a value whenever it is read.
    return outline(lambda: build().get_weights())


def _without_values(build):
    with keras.StatelessScope(initialize_variables=False):
        return build()
