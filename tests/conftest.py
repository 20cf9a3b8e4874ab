import os
import pathlib

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@pytest.fixture(scope="session")
def shared_dir():
    """The folder of real data beside the repository."""
    folder = pathlib.Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.fail(f"The tests need the real data of {folder}.")
    return folder


@pytest.fixture(scope="session")
def tiny_generator():
    """Untrained generator: 6 latents, 3 classes -> 6 x 10 x 3 images."""
    import keras
    import numpy as np

    rng = np.random.default_rng(0)
    latents = keras.Input((6,), name="latents")
    one_hot_labels = keras.Input((3,), name="one_hot_labels")
    x = keras.layers.Concatenate()([latents, one_hot_labels])
    x = keras.layers.Dense(3 * 5 * 8)(x)
    x = keras.layers.Reshape((3, 5, 8))(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2DTranspose(4, 4, strides=2, padding="same")(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(3, 3, padding="same", activation="tanh")(x)
    model = keras.Model([latents, one_hot_labels], x)
    # Wide enough to reach both ends of the range; variances stay positive.
    model.set_weights(
        [
            rng.normal(0.0, 0.5, weight.shape)
            if weight.ndim > 1
            else rng.uniform(0.5, 1.5, weight.shape)
            for weight in model.get_weights()
        ]
    )
    return model


@pytest.fixture(scope="session")
def tiny_saved_model(tiny_generator, tmp_path_factory):
    """Version directory of the exported tiny generator; do not change it."""
    from gdd_keras.export import export_generator

    return export_generator(
        tiny_generator,
        tmp_path_factory.mktemp("saved_models") / "tiny",
        {"class_names": ["cat", "dog/wolf", "bird"], "fingerprint": "abc"},
    )
