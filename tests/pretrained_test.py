"""The generators that the repository ships, and what is said about them."""

import functools
import pathlib
import re

import numpy as np
import pytest

from gdd_keras.config import DataConfig
from gdd_keras.data import load_dataset
from gdd_keras.generator_api import load_generator

ROOT = pathlib.Path(__file__).parents[1]
NAMES = [
    "digits",
    "fashion_mnist",
    "fashion_mnist_hard",
    "mnist",
    "mnist_hard",
]


@pytest.fixture(scope="module")
def dataset(shared_dir):
    """Function from a name to the real data."""
    folder = str(shared_dir / "tensorflow_datasets")

    @functools.cache
    def load(name):
        data_dir = None if name == "digits" else folder
        return load_dataset(DataConfig(dataset=name, data_dir=data_dir), 0)

    return lambda name: load(name.removesuffix("_hard"))


@pytest.mark.parametrize("name", NAMES)
def test_generator_is_small_and_of_this_data(name, dataset):
    version = ROOT / "saved_models" / name / "1"
    files = [path for path in version.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 5_000_000
    generator, real = load_generator(version), dataset(name)
    assert generator.metadata["fingerprint"] == real.fingerprint
    assert generator.class_names == list(real.class_names)
    assert generator.image_shape == real.image_shape


@pytest.mark.parametrize("name", NAMES)
def test_a_server_without_xla_can_run_it(name):
    graph = ROOT / "saved_models" / name / "1" / "saved_model.pb"
    assert b"_XlaMustCompile" not in graph.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_card_tells_the_scores(name):
    version = ROOT / "saved_models" / name / "1"
    card = (version / "README.md").read_text()
    scores = load_generator(version).metadata["scores"]
    assert {score["split"] for score in scores} == {"test"}
    for score in scores:
        assert f"{100 * score['accuracy_mean']:.2f} " in card
    for title in ("Data", "Recipe", "Scores", "Intended use", "Limits"):
        assert f"\n## {title}\n" in card


@pytest.mark.parametrize("name", NAMES)
def test_images_are_near_those_of_their_class(name, dataset):
    """Of class means of real images, most generated ones find their own."""
    generator = load_generator(ROOT / "saved_models" / name / "1")
    real = dataset(name)
    labels = np.arange(500) % generator.num_classes
    images = generator.generate(labels).reshape(500, -1).astype(np.float32)
    held_out = real.validation
    pixels = held_out.images[:].reshape(len(held_out.labels), -1)
    means = np.stack(
        [
            pixels[held_out.labels == label].mean(0)
            for label in range(generator.num_classes)
        ]
    )
    distances = np.square(images[:, None] - means[None]).sum(-1)
    agreement = np.mean(distances.argmin(1) == labels)
    # Real images: 0.88, 0.83 and 0.69. Hard draws are further from the means.
    assert agreement > {"digits": 0.8, "mnist": 0.75}.get(name, 0.6)


@pytest.mark.parametrize("name", NAMES)
def test_soft_labels_are_right_as_often_as_is_said(name, dataset):
    generator = load_generator(ROOT / "saved_models" / name / "1")
    held_out = dataset(name).validation
    images = held_out.images[:1000]
    found = generator.soft_labels(images).argmax(1)
    said = generator.metadata["labeller"]["held_out_accuracy"]
    assert said > 0.9
    right = np.mean(found == held_out.labels[:1000])
    # Three deviations of a thousand right answers.
    assert abs(right - said) < 3 * np.sqrt(said * (1 - said) / len(images))


def test_example_of_the_readme(dataset, monkeypatch, capsys):
    section = (ROOT / "README.md").read_text().split("\n## Pretrained\n")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    monkeypatch.chdir(ROOT)
    # A tenth of its steps: the same code, and enough to see that it learns.
    steps = "steps_per_epoch=500"
    assert code.count(steps) == 1
    found = {}
    exec(code.replace(steps, "steps_per_epoch=50"), found)
    real = dataset("fashion_mnist").validation
    predicted = found["classifier"].predict(real.images[:], verbose=0)
    assert np.mean(predicted.argmax(-1) == real.labels) > 0.75
