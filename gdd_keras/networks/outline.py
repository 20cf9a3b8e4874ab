"""Networks without their weights, to be looked at before they are built."""

import concurrent.futures

import keras

__all__ = ["outline"]


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


def _without_values(build):
    with keras.StatelessScope(initialize_variables=False):
        return build()
