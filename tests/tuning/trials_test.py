import dataclasses
import json
import shutil

import pytest
import tensorflow as tf

from gdd_keras import training
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import TuningConfig
from gdd_keras.config import make_config
from gdd_keras.evaluation import sources
from gdd_keras.run_directory import RunDirectory
from gdd_keras.tuning import trials
from gdd_keras.tuning.directory import open_search
from gdd_keras.tuning.outcome import read_trials
from gdd_keras.tuning.search import make_tuner
from gdd_keras.tuning.search import run_trials
from gdd_keras.tuning.trials import DistillationHyperModel
from gdd_keras.tuning.trials import train_stage_1


@pytest.fixture(scope="module")
def config(own_networks):
    return make_config(
        "tiny",
        seed=3,
        pool=(f"{own_networks}:narrow",),
        local_layer="inner",
        network=f"{own_networks}:wide",
        cgan_steps=4,
        distill_steps=9,
        steps_per_epoch=3,
    )


@pytest.fixture(scope="module")
def dataset(toy_dataset):
    """Has no test split: nothing of a search may touch one."""
    return dataclasses.replace(toy_dataset, test=None)


def open_in(folder, config, space=None, **tuning):
    tuning = {
        "tuner": "grid",
        "trial_networks": 2,
        "trial_ipc": 2,
        "trial_epochs": 4,
        **tuning,
    }
    space = space or {"omega_l": (0.0, 0.1)}
    return open_search(config, TuningConfig(**tuning), space, "toy", folder)


@pytest.fixture(scope="module")
def stage_1(config, dataset, tmp_path_factory):
    """Folder of a stage 1 that is trained, to copy."""
    search = open_in(tmp_path_factory.mktemp("trained") / "search", config)
    train_stage_1(search, dataset, verbose=0)
    return search.stage_1


@pytest.fixture
def search(config, stage_1, tmp_path):
    """Function that opens a search whose stage 1 is done."""

    def open_with(space=None, **tuning):
        search = open_in(tmp_path / "search", config, space, **tuning)
        shutil.copytree(stage_1, search.stage_1)
        return search

    return open_with


def run(search, dataset, monkeypatch):
    monkeypatch.setattr(trials, "load_dataset", lambda *_: dataset)
    run_trials(search, verbose=0)
    return read_trials(search)


def test_stage_1_is_trained_once(search, dataset, monkeypatch):
    monkeypatch.setattr(trials, "train_stage", None)
    train_stage_1(search(), dataset, verbose=0)


def test_trials_share_stage_1(search, dataset, monkeypatch, capfd):
    search = search(trial_repeats=2)
    done = run(search, dataset, monkeypatch)
    assert capfd.readouterr() == ("", "")
    assert [t.values["omega_l"] for t in done] == [0.0, 0.1]
    for trial in done:
        assert trial.status == "COMPLETED"
        # Two repeats of two networks, on six held-out images.
        assert len(trial.accuracies) == 4
        assert all(round(6 * a, 6).is_integer() for a in trial.accuracies)
        assert trial.seconds > 0 and trial.memory_mb > 100
        # Its row of the HParams tab.
        assert list(search.trial(trial.trial_id).glob("events.*"))
        for repeat in (0, 1):
            folder = search.trial(trial.trial_id) / f"repeat_{repeat}"
            state = json.loads((folder / "state.json").read_text())
            assert state["stage_1_from"] == str(search.stage_1)
            assert state["stages"]["distill"]["steps"] == 9
            config = json.loads((folder / "config.json").read_text())
            assert config["matching"]["distill_seed"] == 3 + repeat
            assert config["matching"]["omega_l"] == trial.values["omega_l"]
            # Finished trials take no room.
            assert not (folder / "checkpoints").exists()


def test_trials_mix_labels_as_the_export_does(
    config, stage_1, dataset, tmp_path, monkeypatch
):
    mixed = make_config(base=config, label_mixing=0.25)
    search = open_in(tmp_path / "search", mixed, {"omega_l": (0.0,)})
    shutil.copytree(stage_1, search.stage_1)
    draw, seen = sources.image_drawer, []

    def image_drawer(generator, label_mixing):
        seen.append(label_mixing)
        return draw(generator, label_mixing)

    monkeypatch.setattr(sources, "image_drawer", image_drawer)
    (trial,) = run(search, dataset, monkeypatch)
    assert trial.status == "COMPLETED" and seen == [0.25]


def test_hyperband_continues_from_its_checkpoint(search, dataset, monkeypatch):
    space = {"omega_l": (0.0, 0.1)}
    search = search(space, trial_networks=1)
    model = DistillationHyperModel(search, dataset)
    trained = []
    train = training.ConditionalGAN.fit

    def fit(self, *args, **kwargs):
        trained.append((kwargs["initial_epoch"], kwargs["epochs"]))
        return train(self, *args, **kwargs)

    monkeypatch.setattr(training.ConditionalGAN, "fit", fit)
    for epochs in (1, 3, 9):
        model.fit(None, search.config, "0", epochs)
    assert trained == [(0, 1), (1, 3), (3, 9)]
    run = RunDirectory(search.trial("0") / "repeat_0", None)
    assert list(run.state["accuracies"]) == ["1", "3", "9"]
    assert run.state["stages"]["distill"]["done"]
    # A rung that is done is read.
    monkeypatch.setattr(model, "_train", None)
    for epochs in (1, 3, 9):
        assert (
            model.fit(None, search.config, "0", epochs)
            == (run.state["accuracies"][str(epochs)])
        )


def test_trial_goes_on_where_it_was_killed(search, dataset, monkeypatch):
    search = search()
    model = DistillationHyperModel(search, dataset)
    whole = model.fit(None, search.config, "whole")
    save = RunDirectory.save

    def save_and_die(self, **changes):
        save(self, **changes)
        stages = self.state["stages"]
        if "distill" in stages and changes.get("seconds"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            model.fit(None, search.config, "0")
    epochs = []
    train = training.ConditionalGAN.fit

    def fit(self, *args, **kwargs):
        epochs.append(kwargs["initial_epoch"])
        return train(self, *args, **kwargs)

    monkeypatch.setattr(training.ConditionalGAN, "fit", fit)
    assert model.fit(None, search.config, "0") == whole
    assert epochs == [1]


def test_diverged_trial_fails_alone(search, dataset, monkeypatch, capfd):
    space = {"distill_learning_rate": (1e30, 1e-4)}
    failed, done = run(search(space), dataset, monkeypatch)
    assert (failed.status, done.status) == ("FAILED", "COMPLETED")
    assert "became" in failed.failure and failed.accuracies == []
    assert capfd.readouterr() == ("", "")


FULL_DISK = tf.errors.ResourceExhaustedError(
    None, None, "a/ckpt-1_temp; No space left on device"
)


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (InputError("`x` must be y"), InputError, "^`x` must be y$"),
        (
            ZeroDivisionError("oh"),
            trials.FatalRuntimeError,
            r"trial 1 of 2: ZeroDivisionError\('oh'\)",
        ),
        # The next trial would fare no better.
        (FULL_DISK, trials.FatalRuntimeError, "No space left on device"),
        (OSError(28, "Full"), trials.FatalRuntimeError, "Full"),
    ],
)
def test_what_ends_a_search(
    error, raised, message, search, dataset, monkeypatch
):
    def fail(*_):
        raise error

    monkeypatch.setattr(DistillationHyperModel, "fit", fail)
    with pytest.raises(raised, match=message):
        run(search(), dataset, monkeypatch)


@pytest.mark.parametrize(
    "error",
    [
        RunError("loss became nan"),
        tf.errors.ResourceExhaustedError(None, None, "out of memory"),
    ],
)
def test_what_fails_a_trial(error, search, dataset, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(DistillationHyperModel, "fit", fail)
    done = run(search(), dataset, monkeypatch)
    assert [trial.status for trial in done] == ["FAILED"] * 2
    assert done[0].failure == str(error)


def test_wrong_layer_is_refused_before_stage_1(config, dataset, tmp_path):
    config = make_config(base=config, local_layer="block_9")
    search = open_in(tmp_path / "search", config)
    with pytest.raises(InputError, match="block_9"):
        train_stage_1(search, dataset, verbose=0)


def test_other_data_is_refused(search, dataset):
    search = search()
    other = dataclasses.replace(dataset, fingerprint="9")
    model = DistillationHyperModel(search, other)
    with pytest.raises(InputError, match="fingerprint"):
        model.fit(None, search.config, "0")


def test_worker_ends_when_its_memory_has_grown(search, dataset, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-0")
    tuner = make_tuner(search(), dataset, verbose=0)
    memory = iter([900, 1400, 1401])
    monkeypatch.setattr(trials, "_memory_mb", lambda: next(memory))
    monkeypatch.setattr(tuner.oracle, "end_trial", lambda trial: None)
    tuner.pre_create_trial()
    tuner.on_trial_begin(None)
    tuner.on_trial_end(None)
    tuner.pre_create_trial()
    tuner.on_trial_begin(None)
    with pytest.raises(SystemExit) as ended:
        tuner.pre_create_trial()
    assert ended.value.code == trials.EXIT_FULL
