"""Seeds for initializers, so that a network is a function of its seed."""

import contextlib
import random

import keras

__all__ = ["seeded_initializers", "small_uniform"]


@contextlib.contextmanager
def seeded_initializers(seed):
    """Makes every network built inside a function of the seed.

    Keras initializers without a seed of their own draw one from Python's
    generator when they are made. Seeding that generator works for a user's
    own networks too; its state is put back at the end.

    Args:
        seed: Non-negative integer.
    """
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


def small_uniform():
    """Returns the initializer of the literature's classifiers.

    U(-1/sqrt(fan_in), 1/sqrt(fan_in)), the default of the framework in which
    they were published. Before a normalisation only the ratio of the learning
    rate to the squared norm counts, so it acts like a larger learning rate
    than Glorot's.
    """
    return keras.initializers.VarianceScaling(
        scale=1.0 / 3.0, mode="fan_in", distribution="uniform"
    )
