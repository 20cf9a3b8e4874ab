import dataclasses
import json

import numpy as np
import pytest

from gdd_keras.config import EvaluationConfig
from gdd_keras.config import InputError
from gdd_keras.data import Split
from gdd_keras.data import scale_images
from gdd_keras.evaluation import EvalTrainer
from gdd_keras.evaluation import Score
from gdd_keras.evaluation.protocols import SourceScorer
from gdd_keras.evaluation.reference import all_real_images
from gdd_keras.evaluation.reference import count_forgetting
from gdd_keras.evaluation.reference import load_reference
from gdd_keras.evaluation.reference import reference_config
from gdd_keras.networks import classifiers

# Raised inside Keras 3.15 when it saves any layer.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

CONFIG = EvaluationConfig(reference_epochs=3, eval_learning_rate=0.02)


class Watched:
    """Images that write down when they are read."""

    def __init__(self, images, name, log):
        self._images = images
        self._name = name
        self._log = log
        self.shape = images.shape

    def __getitem__(self, rows):
        self._log.append(self._name)
        return self._images[rows]


@dataclasses.dataclass
class Trained:
    reference: object
    cache: object
    log: list


@pytest.fixture(scope="module")
def trained(toy_dataset, tmp_path_factory):
    """A reference network, and what was read while it was trained."""
    log = []
    splits = {
        name: Split(Watched(split.images, name, log), split.labels)
        for name, split in toy_dataset.splits.items()
    }
    train = EvalTrainer.train

    def logged_train(self, *arguments):
        log.append("training begins")
        loss = train(self, *arguments)
        log.append("training ends")
        return loss

    cache = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EvalTrainer, "train", logged_train)
        made = load_reference(
            dataclasses.replace(toy_dataset, **splits), CONFIG, cache
        )
    return Trained(made, cache, log)


@pytest.fixture
def quick(monkeypatch):
    """Replaces training; gives what is right after each epoch, and calls.

    `history` may be changed by the test, `calls` counts trainings.
    """

    class Quick:
        history = np.ones((2, 30), bool)
        calls = 0

    def score(self, seed, progress=None, on_epoch_end=None):
        Quick.calls += 1
        Quick.epoch = 0
        for _ in Quick.history:
            on_epoch_end()
        return Score(
            **self.fields,
            seed=seed,
            distinct_images=30,
            accuracy=Quick.calls / 10,
            seconds=1.0,
        )

    def correct(self, split):
        Quick.epoch += 1
        return Quick.history[(Quick.epoch - 1) % len(Quick.history)]

    monkeypatch.setattr(SourceScorer, "score", score)
    monkeypatch.setattr(EvalTrainer, "correct", correct)
    return Quick


def test_training_sees_the_training_split_alone(trained):
    begin = trained.log.index("training begins")
    end = trained.log.index("training ends")
    assert set(trained.log[:end]) == {"train", "training begins"}
    # Read after every epoch, to see what was forgotten.
    assert trained.log[begin:end].count("train") >= 3
    assert set(trained.log[end + 1 :]) == {"test"}


def test_score(trained):
    assert dataclasses.replace(
        trained.reference.score, accuracy=0.0, seconds=0.0
    ) == Score(
        method="full",
        selection="random",
        protocol="full_size",
        ipc=None,
        network="convnet3",
        seed=0,
        epochs=3,
        learning_rate=0.02,
        augmentation="dsa_digits",
        precision="float32",
        distinct_images=30,
        split="test",
        accuracy=0.0,
        seconds=0.0,
    )


def test_score_and_forgetting_are_those_of_the_network(trained, toy_dataset):
    model = trained.reference.model
    images = scale_images(toy_dataset.test.images)
    right = model(images).numpy().argmax(1) == toy_dataset.test.labels
    assert trained.reference.score.accuracy == pytest.approx(right.mean())
    forgetting = trained.reference.forgetting
    assert forgetting.dtype == np.int32 and forgetting.shape == (30,)
    # Three epochs: forgotten at most once, or never right.
    assert set(forgetting.tolist()) <= {0, 1, 3}
    images = scale_images(toy_dataset.train.images)
    right = model(images).numpy().argmax(1) == toy_dataset.train.labels
    assert (forgetting[right] < 3).all() and right.any()


def test_features_enter_the_last_layer(trained, toy_dataset, monkeypatch):
    images = toy_dataset.train.images
    features = trained.reference.features(images)
    assert features.shape == (30, 128) and features.dtype == np.float32
    assert features.std() > 0
    model = trained.reference.model
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_allclose(
        features @ kernel + bias,
        model(scale_images(images)),
        rtol=1e-4,
        atol=1e-5,
    )
    # In chunks, the last one smaller.
    monkeypatch.setattr(classifiers, "_CHUNK_SIZE", 7)
    np.testing.assert_allclose(
        trained.reference.features(images), features, rtol=1e-4, atol=1e-5
    )


def test_second_call_trains_nothing(trained, toy_dataset, monkeypatch):
    monkeypatch.setattr(SourceScorer, "score", pytest.fail)
    # What it is used for makes no other network.
    config = dataclasses.replace(
        CONFIG, ipc=50, protocol="fixed", num_seeds=1, network="resnet18"
    )
    images = toy_dataset.train.images
    for again in (CONFIG, config):
        loaded = load_reference(toy_dataset, again, trained.cache)
        np.testing.assert_array_equal(
            loaded.features(images), trained.reference.features(images)
        )
        np.testing.assert_array_equal(
            loaded.forgetting, trained.reference.forgetting
        )
        assert loaded.score == trained.reference.score
    assert [path.name for path in trained.cache.iterdir()] == ["reference-1"]


def test_other_settings_train_anew(toy_dataset, tmp_path, quick):
    def load(dataset=toy_dataset, seed=0, **settings):
        config = dataclasses.replace(CONFIG, **settings)
        return load_reference(dataset, config, tmp_path, seed).forgetting

    calls = [
        {},
        {"reference_epochs": 4},
        {"eval_learning_rate": 0.5},
        {"eval_augmentation": "none"},
        {"eval_precision": "mixed_bfloat16"},
        {"seed": 1},
        {"dataset": dataclasses.replace(toy_dataset, fingerprint="other")},
        {"dataset": dataclasses.replace(toy_dataset, train=toy_dataset.test)},
        # As many training images, but other ones.
        {"dataset": dataclasses.replace(toy_dataset, held_out="other")},
    ]
    for number, settings in enumerate(calls, 1):
        # As many forgetting events as there were trainings.
        quick.history = np.tile([[True], [False]], (number, 9))
        np.testing.assert_array_equal(load(**settings), [number] * 9)
        assert quick.calls == number
    # All of them are kept.
    for number, settings in enumerate(calls, 1):
        np.testing.assert_array_equal(load(**settings), [number] * 9)
    assert quick.calls == len(calls)
    assert len(list(tmp_path.glob("reference-*"))) == len(calls)


def test_other_split_is_scored_anew(trained, toy_dataset, monkeypatch):
    monkeypatch.setattr(SourceScorer, "score", pytest.fail)
    scores = [
        load_reference(toy_dataset, CONFIG, trained.cache, split=split).score
        for split in ("validation", "test")
    ]
    assert scores[1] == trained.reference.score
    images = scale_images(toy_dataset.validation.images)
    right = (
        trained.reference.model(images).numpy().argmax(1)
        == toy_dataset.validation.labels
    )
    assert scores[0] == dataclasses.replace(
        scores[1], split="validation", accuracy=pytest.approx(right.mean())
    )


def test_forgetting_is_counted_on_the_training_split(
    toy_dataset, tmp_path, quick
):
    quick.history = np.random.default_rng(0).integers(0, 2, (5, 30)) == 1
    made = load_reference(toy_dataset, CONFIG, tmp_path)
    expected = count_forgetting(quick.history)
    assert expected.max() > 0
    np.testing.assert_array_equal(made.forgetting, expected)
    loaded = load_reference(toy_dataset, CONFIG, tmp_path)
    assert quick.calls == 1
    np.testing.assert_array_equal(loaded.forgetting, expected)


def test_interrupted_training_leaves_nothing(
    toy_dataset, tmp_path, quick, monkeypatch
):
    def interrupt(self, split):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EvalTrainer, "correct", interrupt)
        with pytest.raises(KeyboardInterrupt):
            load_reference(toy_dataset, CONFIG, tmp_path)
    assert list(tmp_path.iterdir()) == []
    load_reference(toy_dataset, CONFIG, tmp_path)
    assert quick.calls == 2


def test_config_of_full_size_sets():
    config = reference_config(
        dataclasses.replace(CONFIG, network="vgg11", eval_epochs=7, ipc=50)
    )
    assert (config.network, config.eval_epochs) == ("convnet3", 3)
    assert config.eval_learning_rate == 0.02


def test_full_size_source_is_the_whole_split(toy_dataset):
    source = all_real_images(toy_dataset.train)
    images, labels = source.stored(5)
    np.testing.assert_array_equal(images, toy_dataset.train.images)
    np.testing.assert_array_equal(labels, toy_dataset.train.labels)
    assert source.images_per_epoch == 30


def test_count_forgetting_by_hand():
    history = [
        # One image a column.
        [1, 1, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 1, 1, 1],
        [1, 1, 0, 0, 1, 0, 0],
        [1, 0, 0, 1, 0, 0, 1],
        [1, 1, 0, 1, 0, 0, 0],
    ]
    events = count_forgetting(history)
    np.testing.assert_array_equal(events, [0, 2, 5, 0, 1, 1, 2])
    assert events.dtype == np.int32
    np.testing.assert_array_equal(count_forgetting([[1, 0]]), [0, 1])


def test_count_forgetting_needs_epochs_and_images():
    for history in ([], [True, False], np.ones((2, 3, 4))):
        with pytest.raises(
            InputError, match=r"must be \(epochs, images\). Received: shape \("
        ):
            count_forgetting(history)


def test_a_reference_of_before_soft_labels_is_found(
    toy_dataset, quick, tmp_path
):
    load_reference(toy_dataset, CONFIG, tmp_path)
    (file,) = tmp_path.glob("reference-*/reference.json")
    known = json.loads(file.read_text())
    for part in known.values():
        assert part.pop("labels") == "hard"
    file.write_text(json.dumps(known))
    found = load_reference(toy_dataset, CONFIG, tmp_path)
    assert quick.calls == 1
    assert found.score.labels == "hard"


def test_soft_labels_make_no_other_reference(toy_dataset, quick, tmp_path):
    load_reference(toy_dataset, CONFIG, tmp_path)
    soft = dataclasses.replace(CONFIG, eval_labels="soft")
    load_reference(toy_dataset, soft, tmp_path)
    assert quick.calls == 1
