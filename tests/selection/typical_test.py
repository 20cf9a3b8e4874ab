import types

import numpy as np
import pytest
from PIL import Image

from gdd_keras.config import InputError
from gdd_keras.generator_api import load_generator
from gdd_keras.networks import build_classifier
from gdd_keras.selection import MAX_TYPICAL
from gdd_keras.selection import typical
from gdd_keras.selection.typical import typical_images


@pytest.fixture(scope="module")
def generator(compact_saved_model):
    return load_generator(compact_saved_model)


@pytest.fixture(autouse=True)
def few_candidates(monkeypatch):
    monkeypatch.setattr(typical, "_CANDIDATES", 40)


def candidates(generator, label, count=40, seed=0):
    return generator.generate(np.full(count, label), seed)


def test_are_chosen_from_draws_of_their_class(generator):
    images = typical_images(generator, 3, seed=5)
    assert (images.shape, images.dtype) == ((30, 32, 32, 1), np.uint8)
    for label in (0, 7):
        own = candidates(generator, label, 60, seed=5)
        found = [
            np.flatnonzero((own == image).all(axis=(1, 2, 3)))
            for image in images[label::10]
        ]
        # Each once.
        assert [len(rows) for rows in found] == [1, 1, 1]
        assert len(np.unique(found)) == 3


def test_smaller_sets_are_the_beginning_of_larger_ones(generator):
    larger = typical_images(generator, 2)
    np.testing.assert_array_equal(typical_images(generator, 1), larger[:10])
    assert (typical_images(generator, 2, seed=1) != larger).any()


def test_mean_features_are_those_of_all(generator):
    extract = typical._random_features(generator)
    images = typical_images(generator, 4)
    for label in (0, 7):
        features = extract(candidates(generator, label))
        mean = features.mean(0)

        def distance(rows, mean=mean):
            return np.linalg.norm(rows.mean(0) - mean)

        chosen = distance(extract(images[label::10]))
        rng = np.random.default_rng(0)
        others = [
            distance(features[rng.choice(40, 4, replace=False)])
            for _ in range(50)
        ]
        assert chosen < min(others)


def test_features_are_those_of_an_untrained_network(generator):
    network = build_classifier("convnet3", (32, 32, 1), 10, [0.0], [1.0])
    kernel, bias = network.layers[-1].get_weights()
    images = candidates(generator, 0, 5)
    features = typical._random_features(generator)(images)
    scaled = images.astype(np.float32) / 127.5 - 1.0
    expected = network.predict(scaled, verbose=0)
    np.testing.assert_allclose(features @ kernel + bias, expected, atol=1e-4)


class Photographs:
    """A generator of images that are larger than is looked at."""

    num_classes = 2
    image_shape = (64, 96, 3)
    metadata = types.MappingProxyType({})

    def generate(self, labels, seed):
        rng = np.random.default_rng([seed, labels[0]])
        shape = (len(labels), *self.image_shape)
        return rng.integers(0, 256, shape, np.uint8)


def test_large_images_are_looked_at_smaller():
    generator = Photographs()
    images = typical_images(generator, 1)
    assert images.shape == (2, 64, 96, 3)
    features = typical._random_features(generator)(images)
    # Three poolings of 32 x 32, with 128 channels.
    assert features.shape == (2, 4 * 4 * 128)
    halved = Photographs()
    halved.image_shape = (32, 32, 3)
    smaller = np.stack(
        [Image.fromarray(image).resize((32, 32), Image.BOX) for image in images]
    )
    np.testing.assert_allclose(
        features, typical._random_features(halved)(smaller), atol=0.05
    )


def test_more_candidates_for_more_images(generator, monkeypatch):
    counts = []
    generate = generator.generate

    def counted(labels, seed):
        counts.append(len(labels))
        return generate(labels, seed)

    monkeypatch.setattr(generator, "generate", counted)
    typical_images(generator, 3)
    assert counts == 10 * [60]


def test_progress(generator):
    shown = []
    typical_images(generator, 1, progress=lambda *done: shown.append(done))
    assert shown == [(number, 10) for number in range(1, 11)]


@pytest.mark.parametrize("ipc", [0, MAX_TYPICAL + 1, 1.5])
def test_ipc_out_of_range(ipc, generator):
    with pytest.raises(InputError, match="`ipc` must be "):
        typical_images(generator, ipc)
