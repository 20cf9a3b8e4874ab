import json
import pathlib
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from gdd_keras import difficulty
from gdd_keras import distill
from gdd_keras import job
from gdd_keras import refit
from gdd_keras.config import DataConfig
from gdd_keras.conversion import convert_model
from gdd_keras.data import load_dataset
from gdd_keras.data.pipeline import scale_images
from gdd_keras.difficulty import Judges
from gdd_keras.difficulty import choose_noise
from gdd_keras.difficulty import time_hard_draws
from gdd_keras.difficulty import train_judges
from gdd_keras.generator_api import load_generator
from gdd_keras.inference import exported_network
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.networks.chosen_noise import NUM_CANDIDATES
from gdd_keras.networks.chosen_noise import ChosenNoise
from gdd_keras.networks.chosen_noise import with_chosen_noise
from gdd_keras.reweight import main
from gdd_keras.saved_model import write_version

PRETRAINED = pathlib.Path(__file__).parents[1] / "saved_models" / "digits" / "1"
NOISE_DIM = 3
NUM_CLASSES = 2
PIXEL = (1, 1, 1)


class FirstPixel:
    """Judges to whom what is above grey is hard, and white wrong."""

    def __init__(self):
        self.labels = set()

    def judge(self, images, labels):
        self.labels.update(np.unique(labels))
        values = np.asarray(images)[:, 0, 0, 0]
        return (values <= 127).astype(float), values < 255


def one_pixel(shift=(0.0, 0.0)):
    """Returns a generator of images of one pixel, the first entry over five.

    Args:
        shift: What is added for each class.
    """

    def generate(noise, label_vectors):
        values = noise[:, 0] / 5.0 + tf.linalg.matvec(label_vectors, shift)
        return tf.reshape(values, (-1, 1, 1, 1))

    return generate


def choose(judges, share, generate=None):
    generate = generate or one_pixel()
    return choose_noise(generate, NOISE_DIM, NUM_CLASSES, PIXEL, judges, share)


def draws(layer, label, count=20_000):
    noise = np.random.default_rng(1).standard_normal(
        (count, NOISE_DIM), np.float32
    )
    label_vectors = tf.one_hot(np.full(count, label), NUM_CLASSES)
    return layer([noise, label_vectors]).numpy()


@pytest.mark.parametrize("hard_share", [0.0, 0.5, 0.9])
def test_a_share_of_the_draws_is_hard_and_of_the_others_some(hard_share):
    judges = FirstPixel()
    layer, wrong = choose(judges, hard_share)
    # Nothing is five deviations out.
    assert wrong == 0.0
    assert judges.labels == {0, 1}
    candidates = layer.candidates(np.arange(NUM_CANDIDATES)).numpy()
    hard = np.mean(candidates[:, 0] > 0.0)
    for label in (0, 1):
        # The others are as they were.
        expected = hard_share + (1.0 - hard_share) * hard
        share = np.mean(draws(layer, label)[:, 0] > 0.0)
        assert share == pytest.approx(expected, abs=0.01)


def test_wrong_draws_are_left_out():
    # White from a deviation on, in the one class.
    generate = one_pixel((0.0, 0.8))
    layer, wrong = choose(FirstPixel(), 0.0, generate)
    assert wrong == pytest.approx(0.1587 / 2, abs=0.01)
    assert draws(layer, 1)[:, 0].max() < 1.0
    assert np.mean(draws(layer, 0)[:, 0] > 1.0) == pytest.approx(
        0.1587, abs=0.02
    )


@pytest.mark.parametrize("num_right", [0, 100])
def test_a_class_that_the_expert_does_not_know_keeps_its_draws(num_right):
    judges = FirstPixel()
    # White but for those; a few are no class.
    candidates = ChosenNoise(NUM_CLASSES, 1, NOISE_DIM).candidates(
        np.arange(NUM_CANDIDATES)
    )
    least = np.sort(candidates.numpy()[:, 0])[num_right]
    generate = one_pixel((0.0, 1.0 - least / 5.0))
    layer, wrong = choose(judges, 0.5, generate)
    assert wrong == pytest.approx(0.5, abs=0.01)
    assert draws(layer, 1)[:, 0].mean() == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize(
    ("size", "largest"), [(8, 500), (32, 500), (64, 125), (1024, 1)]
)
def test_of_large_images_fewer_are_judged_at_once(size, largest, monkeypatch):
    monkeypatch.setattr(difficulty, "NUM_CANDIDATES", 600)
    sizes = []

    class Sizes(FirstPixel):
        def judge(self, images, labels):
            sizes.append(len(images))
            return super().judge(images, labels)

    shape = (size, size, 3)
    choose_noise(one_pixel(), NOISE_DIM, NUM_CLASSES, shape, Sizes(), 0.5)
    assert max(sizes) == largest
    assert sum(sizes) == 600 * NUM_CLASSES


def test_weights_are_relative_to_the_mean_of_what_counts():
    hardness = np.array([[0.1, 0.3, 0.9], [0.0, 0.2, 0.4]])
    counts = np.array([[True, True, False], [True, True, True]])
    weights = difficulty._draw_weights(hardness, counts, 0.25)
    # The mean of the five that count is 0.2.
    np.testing.assert_allclose(
        weights, [[0.875, 1.125, 0.0], [0.75, 1.0, 1.25]]
    )
    # So the scale of what is hard does not matter,
    np.testing.assert_allclose(
        difficulty._draw_weights(hardness / 7, counts, 0.25), weights
    )
    # and their mean is 1 again. Where nothing is hard, all count alike.
    assert weights[counts].mean() == pytest.approx(1.0)
    np.testing.assert_array_equal(
        difficulty._draw_weights(0.0 * hardness, counts, 0.25), counts
    )


def test_weights_are_resampled_as_their_shares_say():
    weights = np.array([0.0, 3.0, 0.0, 1.0, 4.0, 0.0])
    places = difficulty._resampled(weights, 80, np.random.default_rng(2))
    np.testing.assert_array_equal(
        np.bincount(places, minlength=6), [0, 30, 0, 10, 40, 0]
    )


class TestChosenNoise:
    def test_candidates_are_normal_noise(self):
        layer = ChosenNoise(NUM_CLASSES, 1, 65)
        noise = layer.candidates(np.arange(NUM_CANDIDATES)).numpy()
        assert noise.shape == (NUM_CANDIDATES, 65)
        np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.05)
        np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.05)
        correlations = np.corrcoef(noise.T) - np.eye(65)
        assert np.abs(correlations).max() < 0.06
        # The tails: 0.3 % of normal numbers are above three.
        share = np.mean(np.abs(noise) > 3.0)
        assert share == pytest.approx(0.0027, abs=0.0008)
        assert len(np.unique(noise, axis=0)) == NUM_CANDIDATES
        # Half precision, in which LiteRT may store them, changes none.
        np.testing.assert_array_equal(noise.astype(np.float16), noise)

    def test_draws_are_near_the_chosen(self):
        layer = ChosenNoise(NUM_CLASSES, 4, 65)
        numbers = np.array([[5, 700, 5, 16383], [0, 1, 2, 3]])
        layer.assign(numbers)
        for label, own in enumerate(numbers):
            rng = np.random.default_rng(label)
            latents = rng.standard_normal((4000, 65), np.float32)
            label_vectors = tf.one_hot(np.full(4000, label), NUM_CLASSES)
            noise = layer([latents, label_vectors]).numpy()
            # A twin in NumPy: digits behind 1 / 64 choose.
            places = np.floor(latents[:, 0] * 64.0 % 1.0 * 4).astype(int)
            centres = layer.candidates(own[places]).numpy()
            expected = 0.99**0.5 * centres + 0.1 * latents
            expected[:, 0] = centres[:, 0]
            np.testing.assert_allclose(noise, expected, atol=1e-6)
            # All are as probable.
            np.testing.assert_allclose(
                np.bincount(places) / 4000, 0.25, atol=0.03
            )

    def test_the_last_place_is_the_last(self):
        layer = ChosenNoise(1, 3, 2)
        layer.assign([[7, 8, 9]])
        # So little below zero that one less of it is 1.
        noise = layer([tf.constant([[-1e-12, 0.0]]), tf.ones((1, 1))])
        expected = layer.candidates([9]).numpy()[0]
        np.testing.assert_allclose(noise[0, 0], expected[0])

    def test_a_policy_of_half_precision_changes_nothing(self):
        numbers = np.arange(2 * 900).reshape(2, 900)
        latents = np.random.default_rng(4).standard_normal((50, 7), np.float32)
        inputs = [tf.constant(latents), tf.one_hot(np.arange(50) % 2, 2)]
        noise = []
        policy = keras.config.dtype_policy()
        for name in ("float32", "mixed_bfloat16"):
            keras.config.set_dtype_policy(name)
            try:
                layer = ChosenNoise(2, 900, 7)
                layer.assign(numbers)
                noise.append(layer(inputs).numpy())
            finally:
                keras.config.set_dtype_policy(policy)
        np.testing.assert_array_equal(*noise)

    def test_noise_of_nan_is_nan(self):
        layer = ChosenNoise(1, 3, 2)
        latents = tf.constant([[np.nan, np.nan], [0.0, np.nan]])
        noise = layer([latents, tf.ones((2, 1))]).numpy()
        assert np.isnan(noise[:, 1]).all()

    def test_stands_before_a_generator(self, tiny_generator):
        (_, noise_dim), (_, num_classes) = tiny_generator.input_shape
        layer = ChosenNoise(num_classes, 5, noise_dim)
        layer.assign(np.arange(5 * num_classes).reshape(num_classes, 5))
        model = with_chosen_noise(tiny_generator, layer)
        assert model.input_shape == list(tiny_generator.input_shape)
        restored = ChosenNoise.from_config(layer.get_config())
        restored.set_weights(layer.get_weights())
        latents = np.random.default_rng(0).standard_normal((6, noise_dim))
        inputs = [
            tf.constant(latents, tf.float32),
            tf.one_hot(np.arange(6) % num_classes, num_classes),
        ]
        np.testing.assert_array_equal(restored(inputs), layer(inputs))
        np.testing.assert_array_equal(
            model(inputs), tiny_generator([layer(inputs), inputs[1]])
        )


@np.errstate(divide="ignore")
def test_verdicts_are_of_the_own_class():
    def network(*logits):
        return types.SimpleNamespace(
            predict_on_batch=lambda images: np.tile(
                np.log(logits), (len(images), 1)
            )
        )

    beginners = [network(0.5, 0.4, 0.1), network(0.9, 0.0, 0.1)]
    # However unsure the expert is.
    judges = Judges(beginners, network(0.33, 0.34, 0.33))
    images = np.zeros((4, 2, 2, 1), np.uint8)
    easy, right = judges.judge(images, np.array([0, 1, 1, 2]))
    np.testing.assert_allclose(easy, [0.7, 0.2, 0.2, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(right, [False, True, True, False])


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
    monkeypatch.setattr(difficulty, "_NUM_BEGINNERS", 1)
    (again,) = train_judges(dataset, expert).beginners
    np.testing.assert_array_equal(again.predict_on_batch(images), logits[0])


def test_an_export_makes_the_images_of_the_chosen_noise(tmp_path):
    metadata = read_metadata(PRETRAINED)
    network = exported_network(PRETRAINED, metadata)
    layer = ChosenNoise(network.num_classes, 200, network.latent_dim)
    numbers = np.random.default_rng(3).integers(
        0, NUM_CANDIDATES, (network.num_classes, 200)
    )
    layer.assign(numbers)
    changed = difficulty._with_chosen_noise(network, layer)
    version = write_version(changed, tmp_path / "1", metadata, "float32")
    latents = np.random.default_rng(0).standard_normal(
        (40, network.latent_dim), np.float32
    )
    labels = np.arange(40, dtype=np.int32) % 10

    def images(path, latents):
        signature = load_generator(path)._loaded.signatures["from_latents"]
        inputs = {"latents": tf.constant(latents), "labels": labels}
        return signature(**inputs)["images"].numpy()

    noise = layer([latents, tf.one_hot(labels, 10)]).numpy()
    np.testing.assert_allclose(
        images(version, latents), images(PRETRAINED, noise), atol=1e-5
    )
    for to in ("litert", "onnx"):
        # Which compares images: half weights choose the same noise.
        convert_model(version, to, tmp_path / to, "float16")


def test_the_time_is_that_of_all_steps_and_batches(monkeypatch):
    monkeypatch.setattr(difficulty, "NUM_CANDIDATES", 600)
    monkeypatch.setattr(
        difficulty.EvalTrainer, "time_epoch", lambda self: 0.002
    )
    sizes = []

    def judged(draw, judges, numbers, label):
        assert len(judges.beginners) == 3
        sizes.append(len(numbers))
        now.append(now[-1] + 0.1)

    now = [0.0]
    monkeypatch.setattr(difficulty.time, "monotonic", lambda: now[-1])
    monkeypatch.setattr(difficulty, "_judged", judged)
    dataset = load_dataset(DataConfig())
    seconds = time_hard_draws(dataset, one_pixel(), NOISE_DIM)
    # Three beginners of 1000 epochs, two batches of each of ten classes, and
    # to build each beginner as long as all of this took.
    assert seconds == pytest.approx(3 * 1000 * 0.002 + 20 * 0.1 + 3 * 0.2)
    assert sizes == [500, 500]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(difficulty, "_NUM_BEGINNERS", 1)
    monkeypatch.setattr(difficulty, "_BEGINNER_EPOCHS", 10)
    monkeypatch.setattr(difficulty, "NUM_CANDIDATES", 500)


@pytest.fixture
def model(tmp_path):
    """A copy of the pretrained digits."""
    shutil.copytree(PRETRAINED, tmp_path / "digits" / "1")
    return tmp_path / "digits"


def reweight(model, *flags):
    return main(["--model", str(model), *map(str, flags)])


@pytest.mark.usefixtures("quick")
class TestReweight:
    flags = ("--labeller-steps", 10)

    def test_writes_the_next_version(self, model, capfd):
        assert reweight(model, *self.flags) == 0
        printed = capfd.readouterr()
        assert printed.err == ""
        assert f"Wrote {model / '2'}" in printed.out
        assert "hard draws: a share of 0.5, by " in printed.out
        before, after = map(read_metadata, (model / "1", model / "2"))
        assert after["config"]["generation"]["hard_share"] == 0.5
        assert after["scores"] == []
        assert "labelled_from" not in after
        assert after["weights"] == before["weights"]
        assert after["latent_dim"] == before["latent_dim"]
        added = after["num_parameters"] - before["num_parameters"]
        assert added == 10 * after["num_chosen"] * 2
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
        message = "are not favoured yet. Received: hard_share=0.5, and"
        assert message in capfd.readouterr().err

    @pytest.mark.parametrize("value", ["0", "1", "nan"])
    def test_share_must_be_above_0_and_below_1(self, value, model, capsys):
        assert reweight(model, "--hard-share", value) == 2
        assert "hard_share" in capsys.readouterr().err
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
        assert reweight(model, "--hard-share", 0) == 2
        assert "must be above 0" in capsys.readouterr().err


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

    def test_distil_and_refit(self, flags, tmp_path, monkeypatch):
        flags = [*flags, "--hard-share", "0.5"]

        def interrupt(*_, **__):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(job, "choose_noise", interrupt)
            assert distill.main(flags) == 130
        assert distill.main(flags) == 0
        assert refit.main(["--run", "run", "--hard-share", "0"]) == 0
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
        assert training["trained_with"] == {"hard_share": 0.5}

    def test_refit_needs_a_labeller(self, flags, capsys):
        assert distill.main([*flags, "--distill-steps", "0"]) == 0
        assert refit.main(["--run", "run", "--hard-share", "0.5"]) == 2
        message = "`--hard-share` needs the labeller of the run"
        assert message in capsys.readouterr().err

    def test_a_short_budget_leaves_hard_draws_out(
        self, flags, monkeypatch, capsys
    ):
        flags = [*flags, "--hard-share", "0.5", "--time-budget", "0.2"]
        flags.remove("--quiet")
        # Twelve seconds in all, and three steps of a labeller.
        monkeypatch.setattr(job, "time_hard_draws", lambda *_: 3.0)
        monkeypatch.setattr(job, "time_labeller", lambda *_: 0.5)
        message = (
            "hard draws: left out, since about 0.1 minutes would be more than "
            "33% of the time budget"
        )
        # A labeller that is trained anyway does not count.
        assert distill.main([*flags, "--dry-run", "--soft-labels"]) == 0
        printed = capsys.readouterr().out
        assert "left out" not in printed
        assert "hard draws: a share of 0.5" in printed
        assert distill.main(flags) == 0
        printed = capsys.readouterr().out
        assert message in printed
        assert "labeller:" not in printed
        metadata = read_metadata("saved_models/digits/1")
        assert metadata["config"]["generation"]["hard_share"] == 0.0
        assert "num_chosen" not in metadata
        # So the run has none either, whatever its config asks for.
        assert refit.main(["--run", "run"]) == 0

    def test_a_budget_keeps_the_time_of_hard_draws(
        self, flags, monkeypatch, capsys
    ):
        left = []

        def plan_training(stages, config, dataset, seconds_left, **_):
            left.append(seconds_left())
            return plan(stages, config, dataset, seconds_left, num_timed=1)

        def interrupt(*_, **__):
            raise KeyboardInterrupt

        plan = job.plan_training
        monkeypatch.setattr(job, "plan_training", plan_training)
        flags = [*flags, "--time-budget", "20", "--hard-share", "0.5"]
        monkeypatch.setattr(job, "time_hard_draws", lambda *_: 300.6)
        assert distill.main([*flags, "--dry-run"]) == 0
        lines = capsys.readouterr().out.splitlines()
        (own,) = (line for line in lines if line.startswith("hard draws"))
        assert own.endswith(", about 5.0 minutes")
        monkeypatch.setattr(job, "train_stage", interrupt)
        assert distill.main(flags) == 130
        # Of twenty minutes, and what has gone by is no minute.
        assert all(0.0 < 899.4 - seconds < 60.0 for seconds in left)
        assert len(left) == 2
        # Timed once, as long as the run goes on.
        monkeypatch.setattr(job, "time_hard_draws", pytest.fail)
        assert distill.main(flags) == 130
        state = json.loads(pathlib.Path("run/state.json").read_text())
        assert state["extras"]["hard_draws"] == 300.6
