import collections
import gc
import pathlib
import signal
import sys

import pytest

from gdd_keras.machine import prepare_tensorflow

prepare_tensorflow()

# A shell that starts the tests in the background has them ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Puts files of slow tests first where processes share the tests out.

    A long file that comes last has one process wait for the other.
    """
    if not hasattr(config, "workerinput"):
        return
    slow = collections.Counter(
        item.path for item in items if item.get_closest_marker("slow")
    )
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="module", autouse=True)
def lasting_objects():
    """Spares the garbage collector what lasts anyway.

    TensorFlow and Keras make a million objects, and keep those of every test;
    to walk through them again and again took a fifth of the time of all tests.
    """
    gc.set_threshold(50_000, 20, 20)
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_dir():
    """The folder of real data beside the repository."""
    folder = pathlib.Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.fail(f"The tests need the real data of {folder}.")
    return folder


@pytest.fixture(scope="module")
def quick_timing():
    """Makes the timing of steps before training as short as it can be."""
    from gdd_keras import training

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_TIMED_SECONDS", 0.0)
        yield


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


@pytest.fixture(scope="session")
def tiny_classifier():
    """Untrained classifier of the tiny generator's images, 0 to 255."""
    import keras
    import numpy as np

    images = keras.Input((6, 10, 3))
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(images)
    x = keras.layers.Flatten()(x)
    model = keras.Model(images, keras.layers.Dense(3, "softmax")(x))
    rng = np.random.default_rng(1)
    # Exact in half, as which they are stored.
    model.set_weights(
        [
            rng.normal(0.0, 0.1, w.shape).astype(np.float16)
            for w in model.get_weights()
        ]
    )
    return model


@pytest.fixture(scope="session")
def soft_saved_model(tiny_generator, tiny_classifier, tmp_path_factory):
    """Export of the tiny generator with soft labels; do not change it."""
    from gdd_keras.export import export_generator

    return export_generator(
        tiny_generator,
        tmp_path_factory.mktemp("saved_models") / "soft",
        {"class_names": ["cat", "dog/wolf", "bird"], "fingerprint": "abc"},
        classifier=tiny_classifier,
    )


@pytest.fixture(scope="session")
def compact_generator():
    """Untrained generator of `--generator compact`, 32 x 32, ten classes.

    Its images have contrast, as those of a trained one.
    """
    import numpy as np

    from gdd_keras.networks import build_generator
    from gdd_keras.networks import with_latent_mixture

    model = build_generator((32, 32, 1), 10, latent_dim=64)
    model.set_weights(
        [
            4.0 * weight if weight.ndim > 1 else weight
            for weight in model.get_weights()
        ]
    )
    whole = with_latent_mixture(model, 20, num_centres=500)
    rng = np.random.default_rng(0)
    whole.get_layer("latent_mixture").assign(
        np.sort(rng.normal(size=(10, 500)), axis=1),
        rng.normal(size=(10, 500, 64)),
        rng.uniform(-0.1, 0.1, (10, 20, 64, 64)) + 0.5 * np.eye(64),
        np.sort(rng.integers(0, 20, (10, 500)), axis=1),
    )
    return whole


@pytest.fixture(scope="session")
def compact_saved_model(compact_generator, tmp_path_factory):
    """Version directory of its export; do not change it."""
    from gdd_keras.export import export_generator

    return export_generator(
        compact_generator,
        tmp_path_factory.mktemp("saved_models") / "compact",
        {
            "class_names": [f"class {i}" for i in range(10)],
            "scores": [{"accuracy_mean": 0.5}],
        },
        label_mixing=0.4,
    )


@pytest.fixture(scope="session")
def own_networks(tmp_path_factory):
    """Name of an importable module: `narrow` and `wide`, a user's networks.

    Both have a layer `inner`, and cost next to nothing.
    """
    folder = tmp_path_factory.mktemp("own_networks")
    (folder / "networks_of_a_user.py").write_text(
        "import keras\n\n\n"
        "def build(image_shape, num_classes, width):\n"
        "    return keras.Sequential([\n"
        "        keras.Input(image_shape),\n"
        "        keras.layers.Conv2D(width, 3, 2, name='inner'),\n"
        "        keras.layers.Flatten(),\n"
        "        keras.layers.Dense(num_classes),\n"
        "    ])\n\n\n"
        "def narrow(image_shape, num_classes):\n"
        "    return build(image_shape, num_classes, 3)\n\n\n"
        "def wide(image_shape, num_classes):\n"
        "    return build(image_shape, num_classes, 5)\n"
    )
    sys.path.insert(0, str(folder))
    yield "networks_of_a_user"
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def toy_dataset():
    """Random 8 x 8 grey images of three classes; training is all it is for."""
    import numpy as np

    from gdd_keras.data import Dataset
    from gdd_keras.data import Split

    rng = np.random.default_rng(0)

    def split(count):
        images = rng.integers(0, 256, (count, 8, 8, 1), np.uint8)
        return Split(images, np.arange(count, dtype=np.int32) % 3)

    return Dataset(
        name="toy",
        image_shape=(8, 8, 1),
        class_names=("a", "b", "c"),
        train=split(30),
        validation=split(6),
        test=split(9),
        mean=(0.1,),
        std=(0.5,),
        fingerprint="0123",
        augmentation="crop",
        source="a test",
    )


@pytest.fixture
def pretend_scores(monkeypatch):
    """Function that replaces training networks, and lists what was scored.

    Accuracies follow from what is scored alone. The keyword `interrupt_at`
    stops like Ctrl-C before the network of that number, from 0.
    """
    import zlib

    from gdd_keras.evaluation import Score
    from gdd_keras.evaluation.protocols import SourceScorer

    def replace(interrupt_at=None):
        scored = []

        def score(self, seed, progress=None, on_epoch_end=None):
            if len(scored) == interrupt_at:
                raise KeyboardInterrupt
            fields = self.fields
            names = ("method", "selection", "protocol", "ipc", "network")
            scored.append((*(fields[name] for name in names), seed))
            return Score(
                **fields,
                seed=seed,
                distinct_images=7,
                accuracy=zlib.crc32(repr(scored[-1]).encode()) % 1000 / 1000,
                seconds=0.5,
            )

        monkeypatch.setattr(SourceScorer, "score", score)
        return scored

    return replace


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Function that runs `distill` in an empty folder: code and output."""
    from gdd_keras import distill

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = distill.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
