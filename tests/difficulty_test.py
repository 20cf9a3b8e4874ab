import json
import pathlib
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras import difficulty
from gdd_keras import distill
from gdd_keras import refit
from gdd_keras.config import DataConfig
from gdd_keras.config import InputError
from gdd_keras.data import load_dataset
from gdd_keras.data.pipeline import scale_images
from gdd_keras.difficulty import Judges
from gdd_keras.difficulty import favour_hard_draws
from gdd_keras.difficulty import favour_hard_draws_of_network
from gdd_keras.difficulty import train_judges
from gdd_keras.generator_api import load_generator
from gdd_keras.inference import exported_network
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.networks.latent_mixture import LatentMixture
from gdd_keras.reweight import main

PRETRAINED = pathlib.Path(__file__).parents[1] / "saved_models" / "digits" / "1"
LATENT_DIM = 2
PIXEL = (1, 1, 1)


class FirstPixel:
    """Judges to whom what is above grey is hard, and white wrong."""

    def __init__(self, expert_knows=True):
        self.expert_knows = expert_knows
        self.labels = set()

    def probabilities(self, images, labels):
        self.labels.update(np.unique(labels))
        values = np.asarray(images)[:, 0, 0, 0]
        right = (values < 255) & self.expert_knows
        return (values <= 127).astype(float), right.astype(float)


def decode(latents, labels):
    """An image of one pixel, the first entry over three."""
    del labels
    return tf.reshape(latents[:, 0] / 3.0, (-1, 1, 1, 1))


@pytest.fixture
def mixture():
    """Two classes, in each of which half of the first entries are above 0."""
    mixture = LatentMixture(2, 4, LATENT_DIM)
    centres = np.array([-1.4, -0.8, 0.8, 1.4])
    means = np.zeros((2, 4, LATENT_DIM))
    means[:, :, 0] = centres
    factors = np.tile(0.2 * np.eye(LATENT_DIM), (2, 4, 1, 1))
    bounds = np.tile([-0.67, 0.0, 0.67, np.inf], (2, 1))
    mixture.assign(bounds, means, factors)
    return mixture


def draws(mixture, label, count=20_000):
    noise = np.random.default_rng(1).standard_normal(
        (count, LATENT_DIM + 1), np.float32
    )
    label_vectors = tf.one_hot(np.full(count, label), mixture.num_classes)
    return mixture([noise, label_vectors]).numpy()


@pytest.mark.parametrize("hard_times", [1.0, 4.0, 20.0])
def test_hard_draws_become_so_much_more_frequent(mixture, hard_times):
    judges = FirstPixel()
    before = [np.mean(draws(mixture, label)[:, 0] > 0.0) for label in (0, 1)]
    np.testing.assert_allclose(before, 0.5, atol=0.02)
    wrong = favour_hard_draws(mixture, decode, PIXEL, judges, hard_times - 1.0)
    # Nothing is as far out as three in the first place.
    assert wrong == 0.0
    assert judges.labels == {0, 1}
    for label in (0, 1):
        # Half of the draws count `hard_times`: so much of all weight.
        expected = hard_times / (1.0 + hard_times)
        share = np.mean(draws(mixture, label)[:, 0] > 0.0)
        assert share == pytest.approx(expected, abs=0.03)


def test_wrong_draws_are_left_out(mixture):
    means = mixture.means.numpy()
    means[1, 3, 0] = 4.0
    mixture.means.assign(means)
    wrong = favour_hard_draws(mixture, decode, PIXEL, FirstPixel(), 0.0)
    # A quarter of one of two classes.
    assert wrong == pytest.approx(1 / 8, abs=0.01)
    assert np.mean(draws(mixture, 1)[:, 0] > 3.0) < 0.001
    assert np.mean(draws(mixture, 0)[:, 0] > 0.0) == pytest.approx(
        0.5, abs=0.03
    )


def test_a_class_that_the_expert_does_not_know_keeps_its_draws(mixture):
    judges = FirstPixel(expert_knows=False)
    assert favour_hard_draws(mixture, decode, PIXEL, judges, 3.0) == 1.0
    share = np.mean(draws(mixture, 0)[:, 0] > 0.0)
    assert share == pytest.approx(4 / 5, abs=0.03)


def test_a_few_right_draws_are_no_class(mixture):
    means = mixture.means.numpy()
    # White in nearly all draws of the one class.
    means[1, :3, 0] = 4.0
    mixture.means.assign(means)
    bounds = np.tile([1.9, 1.9, 1.9, np.inf], (2, 1))
    mixture.upper_bounds.assign(np.minimum(bounds, 1e6))
    before = draws(mixture, 1).std(axis=0)
    favour_hard_draws(mixture, decode, PIXEL, FirstPixel(), 3.0)
    after = draws(mixture, 1)
    assert np.mean(after[:, 0] > 3.0) > 0.9
    assert after.std(axis=0)[1] > 0.5 * before[1]


@pytest.mark.parametrize(
    ("size", "largest"), [(8, 500), (32, 500), (64, 125), (1024, 1)]
)
def test_of_large_images_fewer_are_judged_at_once(
    size, largest, mixture, monkeypatch
):
    monkeypatch.setattr(difficulty, "_DRAWN_PER_CLASS", 20)
    sizes = []

    def decode_some(latents, labels):
        assert len(latents) == len(labels)
        sizes.append(len(labels))
        return decode(latents, labels)

    shape = (size, size, 3)
    favour_hard_draws(mixture, decode_some, shape, FirstPixel(), 1.0)
    assert max(sizes) == min(20, largest)
    assert sum(sizes) == 40


def test_probabilities_are_of_the_own_class():
    def network(*logits):
        return types.SimpleNamespace(
            predict_on_batch=lambda images: np.tile(
                np.log(logits), (len(images), 1)
            )
        )

    judges = Judges([network(0.5, 0.5), network(0.9, 0.1)], network(0.2, 0.8))
    images = np.zeros((3, 2, 2, 1), np.uint8)
    easy, expert = judges.probabilities(images, np.array([0, 1, 1]))
    np.testing.assert_allclose(easy, [0.7, 0.3, 0.3], rtol=1e-6)
    np.testing.assert_allclose(expert, [0.2, 0.8, 0.8], rtol=1e-6)


def test_beginners_know_a_little(monkeypatch):
    monkeypatch.setattr(difficulty, "_BEGINNER_EPOCHS", 300)
    dataset = load_dataset(DataConfig())
    expert = object()
    judges = train_judges(dataset, expert)
    assert judges.expert is expert
    images = scale_images(dataset.train.images[:200])
    labels = dataset.train.labels[:200]
    logits = [n.predict_on_batch(images) for n in judges.beginners]
    # By guessing it would be a tenth.
    assert min((own.argmax(1) == labels).mean() for own in logits) > 0.7
    # No two are alike, and the seed says which they are.
    assert len({own.tobytes() for own in logits}) == 3
    again = train_judges(dataset, expert).beginners[0]
    np.testing.assert_array_equal(again.predict_on_batch(images), logits[0])


class Recorder(FirstPixel):
    """Judges that keep what they see, and find all alike."""

    def __init__(self):
        super().__init__()
        self.images = []

    def probabilities(self, images, labels):
        self.images.append(np.asarray(images))
        return np.ones(len(labels)), np.ones(len(labels))


def test_an_export_is_taken_apart_and_put_together(monkeypatch):
    monkeypatch.setattr(difficulty, "_DRAWN_PER_CLASS", 500)
    metadata = read_metadata(PRETRAINED)
    network = exported_network(PRETRAINED, metadata)
    judges = Recorder()
    changed, _ = favour_hard_draws_of_network(network, judges, 1.0)
    # What judges see are the export's images of the same normal numbers.
    noise = np.random.default_rng(0).standard_normal(
        (500, network.latent_dim), np.float32
    )
    images = load_generator(PRETRAINED)._loaded.signatures["from_latents"](
        latents=tf.constant(noise), labels=tf.zeros(500, tf.int32)
    )["images"]
    expected = np.round((images.numpy() + 1.0) * 127.5)
    difference = np.abs(judges.images[0].astype(float) - expected)
    assert difference.max() <= 1.0 and difference.mean() < 0.01
    same = [
        np.array_equal(before, after)
        for before, after in zip(network.weights, changed.weights, strict=True)
    ]
    # Bounds, means and triangles are others, and nothing else.
    assert same.count(False) == 3
    assert [np.shape(w) for w in network.weights] == [
        np.shape(w) for w in changed.weights
    ]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(difficulty, "_NUM_BEGINNERS", 1)
    monkeypatch.setattr(difficulty, "_BEGINNER_EPOCHS", 10)
    monkeypatch.setattr(difficulty, "_DRAWN_PER_CLASS", 500)


@pytest.fixture
def model(tmp_path):
    """A copy of the pretrained digits."""
    shutil.copytree(PRETRAINED, tmp_path / "digits" / "1")
    return tmp_path / "digits"


def reweight(model, *flags):
    return main(["--model", str(model), *map(str, flags)])


@pytest.mark.usefixtures("quick")
class TestReweight:
    flags = ("--difficulty", 5, "--labeller-steps", 10)

    def test_writes_the_next_version(self, model, capfd):
        assert reweight(model, *self.flags) == 0
        printed = capfd.readouterr()
        assert printed.err == ""
        assert f"Wrote {model / '2'}" in printed.out
        assert "hard draws: difficulty 5, by " in printed.out
        before, after = map(read_metadata, (model / "1", model / "2"))
        assert after["config"]["generation"]["difficulty"] == 5.0
        assert after["scores"] == []
        assert "labelled_from" not in after
        assert after["weights"] == before["weights"]
        assert after["labeller"] == before["labeller"]
        assert after["reweighted_from"] == {
            "model": str(model / "1"),
            "digest": model_digest(model / "1"),
            "labeller_steps": 10,
        }
        # The labeller of the export is another, and stays.
        assert after["config"]["labeller"] == before["config"]["labeller"]
        old, new = map(load_generator, (model / "1", model / "2"))
        labels = old.balanced_labels(3)
        images = new.generate(labels, seed=1)
        assert (images != old.generate(labels, seed=1)).any()
        np.testing.assert_allclose(
            new.soft_labels(images), old.soft_labels(images), atol=1e-6
        )
        # Once is enough: the draws would get harder each time.
        assert reweight(model, *self.flags) == 2
        message = "are not favoured yet. Received: difficulty=5, and"
        assert message in capfd.readouterr().err

    @pytest.mark.parametrize("value", ["0", "nan"])
    def test_difficulty_must_be_above_0(self, value, model, capsys):
        assert reweight(model, "--difficulty", value) == 2
        assert "difficulty" in capsys.readouterr().err
        assert not (model / "2").exists()

    def test_other_data_are_refused(self, model, capsys):
        path = model / "1" / METADATA_NAME
        metadata = {**json.loads(path.read_text()), "fingerprint": "other"}
        path.write_text(json.dumps(metadata))
        assert reweight(model, *self.flags) == 2
        assert "was distilled from" in capsys.readouterr().err

    def test_what_is_wrong_is_said_before_the_data_are_read(
        self, model, monkeypatch, capsys
    ):
        monkeypatch.setattr("gdd_keras.data.load_dataset", None)
        assert reweight(model, "--difficulty", 0) == 2
        assert "must be above 0" in capsys.readouterr().err

    def test_a_mixture_is_needed(self, model):
        network = exported_network(model / "1", read_metadata(model / "1"))
        few = [w for w in network.weights if np.ndim(w) != 3]
        network = types.SimpleNamespace(**{**vars(network), "weights": few})
        with pytest.raises(InputError, match="Received: one without"):
            favour_hard_draws_of_network(network, FirstPixel(), 1.0)


@pytest.mark.slow
@pytest.mark.usefixtures("quick", "quick_timing")
@pytest.mark.filterwarnings("ignore:__array__ implementation")
class TestRun:
    @pytest.fixture
    def flags(self, own_networks, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        return [
            *("--preset", "tiny", "--num-seeds", "0", "--quiet"),
            *("--pool", f"{own_networks}:narrow", "--local-layer", "inner"),
            *("--run-dir", "run", "--labeller-steps", "3"),
        ]

    def test_distil_and_refit(self, flags, tmp_path):
        assert distill.main([*flags, "--difficulty", "5"]) == 0
        assert refit.main(["--run", "run", "--difficulty", "0"]) == 0
        assert refit.main(["--run", "run"]) == 0
        models = [tmp_path / "saved_models" / "digits" / n for n in "123"]
        first, plain, again = map(load_generator, models)
        labels = first.balanced_labels(3)
        images = first.generate(labels)
        # The labeller judged, and is no part of the export.
        assert not first.has_soft_labels
        np.testing.assert_array_equal(again.generate(labels), images)
        assert (plain.generate(labels) != images).any()
        training = read_metadata(models[1])["training"]
        assert training["trained_with"] == {"difficulty": 5.0}

    def test_refit_needs_a_labeller(self, flags, capsys):
        assert distill.main(flags) == 0
        assert refit.main(["--run", "run", "--difficulty", "5"]) == 2
        message = "`--difficulty` needs the labeller of the run"
        assert message in capsys.readouterr().err
