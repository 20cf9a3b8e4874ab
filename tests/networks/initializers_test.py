import random

import keras
import numpy as np

from gdd_keras.networks.initializers import seeded_initializers
from gdd_keras.networks.initializers import small_uniform


def kernels(seed):
    with seeded_initializers(seed):
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(4)]
        )
    return [weights for weights in model.get_weights() if weights.ndim == 2]


def test_same_seed_same_weights():
    for first, second in zip(kernels(3), kernels(3), strict=True):
        np.testing.assert_array_equal(first, second)


def test_other_seed_other_weights():
    assert (kernels(3)[0] != kernels(4)[0]).all()


def test_equal_layers_differ():
    with seeded_initializers(0):
        model = keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(4), keras.layers.Dense(4)]
        )
    first, _, second, _ = model.get_weights()
    assert (first != second).all()


def test_state_is_put_back():
    random.seed(11)
    expected = random.random()
    random.seed(11)
    kernels(5)
    assert random.random() == expected
    try:
        with seeded_initializers(0):
            raise KeyError
    except KeyError:
        pass
    random.seed(11)
    with seeded_initializers(0):
        random.random()
    assert random.random() == expected


def test_small_uniform_bounds():
    # Fan-in 3 x 3 x 40: uniform up to 1 / sqrt(360).
    values = keras.ops.convert_to_numpy(small_uniform()((3, 3, 40, 50)))
    bound = 1 / np.sqrt(360)
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.999 * bound
    # Five standard errors of 18,000 values.
    np.testing.assert_allclose(values.mean(), 0.0, atol=0.0012)
    np.testing.assert_allclose(values.std(), bound / np.sqrt(3), rtol=0.02)
