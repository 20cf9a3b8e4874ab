import numpy as np

from gdd_keras.data import statistics
from gdd_keras.data.statistics import channel_statistics


def test_statistics_equal_numpy_in_any_chunks(monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 9, 3), np.uint8)
    images[..., 1] //= 2
    scaled = images / 127.5 - 1
    for chunk_bytes in (1, 500, 2**20):
        monkeypatch.setattr(statistics, "CHUNK_BYTES", chunk_bytes)
        mean, std = channel_statistics(images)
        np.testing.assert_allclose(mean, scaled.mean((0, 1, 2)), rtol=1e-12)
        np.testing.assert_allclose(std, scaled.std((0, 1, 2)), rtol=1e-12)


def test_constant_channel_has_a_deviation_of_one_level():
    mean, std = channel_statistics(np.zeros((2, 8, 8, 1), np.uint8))
    assert mean == (-1.0,)
    assert std == (1 / 127.5,)
