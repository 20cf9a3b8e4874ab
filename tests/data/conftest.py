import numpy as np
import pytest
from PIL import Image

from gdd_keras.config import DataConfig
from gdd_keras.data import load_dataset


@pytest.fixture
def make_npz(tmp_path):
    """Function that writes an .npz of random images and returns its path."""

    def make(counts=(6, 4), shape=(8, 9, 3), name="toy", **arrays):
        labels = np.repeat(np.arange(len(counts)), counts)
        images = np.random.default_rng(0).integers(
            0, 256, (len(labels), *shape), np.uint8
        )
        arrays = {"images": images, "labels": labels, **arrays}
        arrays = {k: v for k, v in arrays.items() if v is not None}
        path = tmp_path / f"{name}.npz"
        np.savez(path, **arrays)
        return path

    return make


@pytest.fixture
def make_folder(tmp_path):
    """Function that writes images, `{"train/cat/1.png": array}`."""

    def make(files, name="pictures"):
        for key, pixels in files.items():
            path = tmp_path / name / key
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(pixels, bytes):
                path.write_bytes(pixels)
            else:
                Image.fromarray(pixels).save(path)
        return tmp_path / name

    return make


@pytest.fixture
def load():
    """Function that loads a path or name with some settings."""

    def run(dataset, seed=0, **settings):
        return load_dataset(DataConfig(dataset=str(dataset), **settings), seed)

    return run
