import dataclasses
import json
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from gdd_keras import job
from gdd_keras import training
from gdd_keras.config import DataConfig
from gdd_keras.config import make_config
from gdd_keras.data import load_dataset
from gdd_keras.evaluation.protocols import SourceScorer
from gdd_keras.export import read_metadata
from gdd_keras.generator_api import load_generator
from gdd_keras.job import distill_dataset
from gdd_keras.job import estimate_cost
from gdd_keras.labeller import soft_labeller
from gdd_keras.labeller import train_labeller
from gdd_keras.latents import fitted_generator
from gdd_keras.metadata import record_scores
from gdd_keras.run_directory import RunDirectory
from gdd_keras.sampling import image_drawer
from gdd_keras.training import build_stages
from gdd_keras.training import restore_trained

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quick_timing"),
    # Keras's own, when it saves the labeller.
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
]


@pytest.fixture(scope="module")
def config(own_networks):
    return make_config(
        "tiny",
        pool=f"{own_networks}:narrow",
        local_layer="inner",
        latent_dim=5,
        generator_width=4,
        discriminator_width=4,
        batch_size=6,
        num_seeds=2,
        network=f"{own_networks}:wide",
        eval_epochs=2,
    )


@pytest.fixture(scope="module")
def finished(config, toy_dataset, tmp_path_factory):
    """A finished job without a test split: run, export folder, result."""
    folder = tmp_path_factory.mktemp("job")
    run = RunDirectory(folder / "run", config)
    dataset = dataclasses.replace(toy_dataset, test=None)
    result = distill_dataset(config, run, folder / "models", dataset, verbose=0)
    return run, result


def test_result(finished):
    run, result = finished
    assert result.run == run.path
    assert result.export == run.path.parent / "models" / "toy" / "1"
    assert result.grid == run.path / "samples.png"
    with Image.open(result.grid) as grid:
        assert grid.size == (80, 24)
    assert result.summary["num_seeds"] == 2
    # No test images: the held-out ones must do, and the score says so.
    assert result.summary["split"] == "validation"


def test_row_of_the_hparams_tab(finished, config):
    folder = finished[0].path / "tensorboard" / "score"
    # Settings when training began, the score when it was there.
    assert len(list(folder.iterdir())) == 2
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    tags = events.Reload().Tags()["tensors"]
    # Named after the split, since this set has no test images.
    assert set(tags) == {
        "_hparams_/session_start_info",
        "accuracy/validation",
    }
    (point,) = events.Tensors("accuracy/validation")
    assert point.step == 12
    accuracy = float(tf.make_ndarray(point.tensor_proto))
    expected = finished[1].summary["accuracy_mean"]
    assert accuracy == pytest.approx(expected)


def test_metadata(finished, toy_dataset, config):
    metadata = read_metadata(finished[1].export)
    assert metadata["class_names"] == ["a", "b", "c"]
    assert metadata["statistics"] == {"mean": [0.1], "std": [0.5]}
    assert metadata["fingerprint"] == "0123"
    assert metadata["seed"] == 0
    assert metadata["training"]["steps"] == {"cgan": 8, "distill": 4}
    assert metadata["training"]["seconds"] > 0
    assert metadata["config"]["run"]["preset"] == "tiny"
    assert metadata["config"]["networks"]["latent_dim"] == 5
    # One more number chooses the component of the mixture.
    assert metadata["latent_dim"] == 6
    assert metadata["dataset"]["num_images"] == {"train": 30, "validation": 6}
    (score,) = metadata["scores"]
    assert score == finished[1].summary


def test_export_is_the_averaged_generator(finished, config, toy_dataset):
    images = load_generator(finished[1].export).generate([0, 1, 2], seed=1)
    assert images.shape == (3, 8, 8, 1)
    assert images.dtype == np.uint8
    # The last checkpoint once more, with the average and without.
    stage, _ = build_stages(config, toy_dataset)
    trainer = stage.trainer
    restore_trained(trainer, finished[0])

    def drawn():
        fitted = fitted_generator(trainer, toy_dataset.train, config)
        draw = image_drawer(fitted, config.generation.label_mixing)
        numbers = tf.constant(1, tf.int64), tf.constant(0, tf.int64)
        return draw(tf.constant([0, 1, 2]), *numbers).numpy().astype(int)

    np.testing.assert_allclose(images, drawn(), atol=1)
    trainer.averaged_generator.set_weights(trainer.generator.get_weights())
    assert np.abs(images - drawn()).max() > 1


def test_finished_job_returns_at_once(finished, config, monkeypatch, capsys):
    run, result = finished
    monkeypatch.setattr(job, "build_stages", pytest.fail)
    again = distill_dataset(config, RunDirectory(run.path, config))
    assert again == result
    assert "is finished; `--fresh` starts over." in capsys.readouterr().out


def test_networks_are_scored_once(
    finished, config, toy_dataset, tmp_path, monkeypatch
):
    # As it was before the first network.
    shutil.copytree(finished[0].path.parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "run"
    export = tmp_path / "models" / "toy" / "1"
    state = json.loads((folder / "state.json").read_text())
    del state["scores"]
    state |= {"done": False, "export": str(export)}
    (folder / "state.json").write_text(json.dumps(state))
    metadata = {**read_metadata(export), "scores": []}
    (export / "metadata.json").write_text(json.dumps(metadata))
    dataset = dataclasses.replace(toy_dataset, test=None)
    score, trained = SourceScorer.score, []

    def interrupted_at_the_second(self, seed, *arguments):
        trained.append(seed)
        if trained == [0, 1]:
            raise KeyboardInterrupt
        return score(self, seed, *arguments)

    monkeypatch.setattr(SourceScorer, "score", interrupted_at_the_second)

    def go_on():
        run = RunDirectory(folder, config)
        return distill_dataset(
            config, run, tmp_path / "models", dataset, verbose=0
        )

    with pytest.raises(KeyboardInterrupt):
        go_on()
    state = RunDirectory(folder, config).state
    (first,) = state["scores"]
    # Meanwhile, somebody has it scored otherwise.
    other = {**first, "ipc": 50, "num_seeds": 1}
    record_scores(state["export"], [other])
    result = go_on()
    assert read_metadata(result.export)["scores"] == [other, result.summary]
    assert trained == [0, 1, 1]
    expected = finished[1].summary["accuracies"]
    assert result.summary["accuracies"] == expected
    assert first["accuracy"] == expected[0]
    assert result.export.name == "1"


def test_silence_and_no_scores(config, toy_dataset, tmp_path, capfd):
    config = make_config(base=config, num_seeds=0, distill_steps=0)
    run = RunDirectory(tmp_path / "run", config)
    result = distill_dataset(
        config, run, tmp_path / "models", toy_dataset, verbose=0
    )
    assert result.summary is None
    assert read_metadata(result.export)["scores"] == []
    assert read_metadata(result.export)["training"]["steps"] == {"cgan": 8}
    assert capfd.readouterr() == ("", "")


def test_export_without_a_score(config, toy_dataset, tmp_path):
    assert config.evaluation.num_seeds > 0
    config = make_config(base=config, distill_steps=0)
    result = distill_dataset(
        config,
        RunDirectory(tmp_path / "run", config),
        tmp_path / "saved_models",
        toy_dataset,
        verbose=0,
        score=False,
    )
    assert result.summary is None
    assert read_metadata(result.export)["scores"] == []


def test_estimate(config, monkeypatch):
    monkeypatch.setattr(training, "_time_steps", lambda stage: 0.5)
    config = dataclasses.replace(config, data=DataConfig(dataset="digits"))
    dataset = load_dataset(config.data, config.run.seed)
    lines = estimate_cost(config, dataset, started=0.0)
    assert lines[0] == (
        "data: digits, 8 x 8 x 1, 10 classes, 1,295 train, 143 validation, "
        "359 test images"
    )
    assert lines[1].startswith("generator: ")
    # 8 steps of half a second; 6 images in each.
    assert lines[2] == (
        "stage 1, conditional GAN: 8 steps of 6 images, 12 images/s, about "
        "0.1 minutes"
    )
    assert lines[3].startswith("stage 2, matching: 4 steps of 6 images, ")
    # What flatters the score later is told before hours of training.
    copied = dataclasses.replace(dataset, test=dataset.validation)
    lines = estimate_cost(config, copied, started=0.0)
    assert lines[1].startswith("test images that are training images, too: 143")


def test_stage_2_is_timed_when_it_begins(
    config, toy_dataset, tmp_path, monkeypatch, capsys
):
    config = make_config(base=config, time_budget=1.0, num_seeds=0)
    timed = []

    def time_steps(stage):
        timed.append(stage.name)
        return 6.0

    monkeypatch.setattr(training, "_time_steps", time_steps)
    run = RunDirectory(tmp_path / "run", config)
    distill_dataset(config, run, tmp_path / "models", toy_dataset)
    assert timed == ["cgan", "distill"]
    assert not any(plan["estimated"] for plan in run.state["plan"])
    shown = capsys.readouterr().out
    assert "images/s by estimate, about" in shown
    (_, second) = run.state["plan"]
    steps = second["epochs"] * second["steps_per_epoch"]
    assert f"{steps:,} steps, timed" in shown
    assert run.state["stages"]["distill"]["steps"] == steps


def stages(*names):
    return [types.SimpleNamespace(name=name) for name in names]


def plans_of(run, seconds_left):
    both = stages("cgan", "distill")
    return [
        plan.seconds
        for plan in job._plans(run, both, None, None, lambda: seconds_left)
    ]


def test_interrupted_budget_is_shared_anew(config, tmp_path):
    run = RunDirectory(tmp_path, config)
    plan = {"epochs": 1, "steps_per_epoch": 1, "step_seconds": 1.0}
    run.save(plan=[{**plan, "seconds": 60.0}, {**plan, "seconds": 40.0}])
    # Plenty left: as planned.
    assert plans_of(run, 500.0) == [60.0, 40.0]
    # Fifteen seconds are kept for the export.
    assert plans_of(run, 65.0) == [30.0, 20.0]
    # Nothing left: a second each, so that an export comes out.
    assert plans_of(run, -5.0) == [1.0, 1.0]
    # What stage 1 has used is not planned for again.
    run.state["stages"]["cgan"] = {"done": False, "seconds": 50.0}
    assert plans_of(run, 40.0) == [5.0, 20.0]
    assert plans_of(run, 115.0) == [20.0, 80.0]
    # Stage 1 is over: what is left belongs to stage 2.
    run.state["stages"]["cgan"] = {"done": True, "seconds": 50.0}
    assert plans_of(run, 65.0)[1] == 50.0
    assert plans_of(run, 25.0)[1] == 10.0


def test_plan_is_made_once(config, toy_dataset, tmp_path, monkeypatch):
    run = RunDirectory(tmp_path, config)
    monkeypatch.setattr(training, "_time_steps", lambda stage: 0.5)
    fakes = [
        types.SimpleNamespace(
            steps=8, trainer=types.SimpleNamespace(steps_per_execution=1)
        )
    ]
    first = job._plans(run, fakes, config, toy_dataset, None)
    monkeypatch.setattr(job, "plan_training", pytest.fail)
    again = RunDirectory(tmp_path, config)
    assert job._plans(again, fakes, config, toy_dataset, None) == first
    assert json.loads((tmp_path / "state.json").read_text())["plan"] == [
        dataclasses.asdict(first[0])
    ]


@pytest.fixture(scope="module")
def soft(config, toy_dataset, tmp_path_factory):
    """A job of stage 1 that exports soft labels and is scored with them."""
    folder = tmp_path_factory.mktemp("soft")
    config = make_config(
        base=config,
        soft_labels=True,
        labeller_steps=2,
        label_temperature=2.0,
        eval_labels="soft",
        distill_steps=0,
    )
    run = RunDirectory(folder / "run", config)
    return run, distill_dataset(
        config, run, folder / "models", toy_dataset, verbose=0
    )


def test_soft_labels_are_the_labellers(soft, toy_dataset):
    run, result = soft
    network, accuracy = train_labeller(
        toy_dataset, 2, 0, training.training_precision(run.config), verbose=0
    )
    assert run.state["labeller"] == accuracy
    images = toy_dataset.test.images
    found = load_generator(result.export).soft_labels(images)
    expected = soft_labeller(network, 2.0)(images)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_labeller_is_trained_once(config, toy_dataset, tmp_path, monkeypatch):
    config = make_config(
        base=config,
        soft_labels=True,
        labeller_steps=2,
        num_seeds=0,
        distill_steps=0,
    )
    run = RunDirectory(tmp_path / "run", config)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(job, "plan_training", interrupt)
        with pytest.raises(KeyboardInterrupt):
            distill_dataset(config, run, tmp_path, toy_dataset, verbose=0)
    assert 0 < run.state["seconds"] < 60
    monkeypatch.setattr(job, "train_labeller", interrupt)
    before = job._labeller(run, config, toy_dataset, print, 0).get_weights()
    run = RunDirectory(tmp_path / "run", config)
    result = distill_dataset(config, run, tmp_path, toy_dataset, verbose=0)
    network = job.build_labeller(toy_dataset)
    network.set_weights(before)
    images = toy_dataset.test.images
    np.testing.assert_allclose(
        load_generator(result.export).soft_labels(images),
        soft_labeller(network, 1.5)(images),
        # The export has half weights.
        rtol=1e-3,
    )


def test_estimate_times_the_labeller(config, toy_dataset, monkeypatch):
    monkeypatch.setattr(job, "time_labeller", lambda *_: 0.18)
    lines = estimate_cost(
        make_config(base=config, soft_labels=True), toy_dataset, 0.0
    )
    assert lines[0] == (
        "labeller: 2,000 steps of 255 real images, before all else, about 6.0 "
        "minutes"
    )


def test_scores_say_their_labels(soft, finished):
    for (_, result), labels in ((soft, "soft"), (finished, "hard")):
        (score,) = read_metadata(result.export)["scores"]
        assert score["labels"] == labels == result.summary["labels"]
