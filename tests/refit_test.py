import contextlib
import json
import shutil
import warnings

import numpy as np
import pytest

from gdd_keras import distill
from gdd_keras.evaluate import main as evaluate
from gdd_keras.generator_api import load_generator
from gdd_keras.metadata import read_metadata
from gdd_keras.refit import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("quick_timing"),
    # Of Keras, which saves and loads the labeller's weights.
    pytest.mark.filterwarnings("ignore:__array__ implementation"),
]

FLAGS = ("--preset", "tiny", "--num-seeds", "0", "--quiet")


@pytest.fixture(scope="module")
def finished(own_networks, tmp_path_factory):
    """Folder of a finished run with a labeller, and its export."""
    folder = tmp_path_factory.mktemp("finished")
    with contextlib.chdir(folder), warnings.catch_warnings():
        # Marks do not reach fixtures of a module.
        warnings.simplefilter("ignore", DeprecationWarning)
        code = distill.main(
            [
                *(*FLAGS, "--pool", f"{own_networks}:narrow"),
                *("--local-layer", "inner", "--run-dir", "run"),
                *("--steps-per-epoch", "2"),
                *("--soft-labels", "--labeller-steps", "3"),
            ]
        )
    assert code == 0
    return folder


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    """A copy of it, in the folder that commands run in."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def files(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def inodes(folder):
    """Numbers of files; one that is written anew, even alike, gets another."""
    return {path: path.stat().st_ino for path in folder.rglob("*")}


def images_and_labels(version):
    generator = load_generator(version)
    images = generator.generate(generator.balanced_labels(3), seed=5)
    return images, generator.soft_labels(images)


def change_state(run, change):
    state = json.loads((run / "state.json").read_text())
    change(state)
    (run / "state.json").write_text(json.dumps(state))


def test_same_settings_make_the_same_export(run, tmp_path, capsys):
    before, written = files(tmp_path), inodes(run)
    assert main(["--run", "run"]) == 0
    first, second = (tmp_path / "saved_models/digits" / n for n in "12")
    for a, b in zip(
        images_and_labels(first), images_and_labels(second), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    # The run and the first version are as they were.
    assert before.items() <= files(tmp_path).items()
    assert inodes(run) == written
    metadata = [read_metadata(version) for version in (first, second)]
    assert metadata[1]["training"].pop("trained_with") == {}
    # That of the machine that trained.
    del metadata[0]["training"]["precision"]
    assert metadata[1]["training"] == metadata[0]["training"]
    assert metadata[1]["config"] == metadata[0]["config"]
    assert metadata[1]["labeller"] == metadata[0]["labeller"]
    out = capsys.readouterr().out
    assert f"Wrote {second.relative_to(tmp_path)}, " in out


def test_printed_command_runs(run, capsys):
    assert main(["--run", "run", "--label-mixing", "0.5"]) == 0
    metadata = read_metadata("saved_models/digits/2")
    assert metadata["label_mixing"] == 0.5
    command = capsys.readouterr().out.split("next\n  ")[1]
    words = command.split()
    assert words[:3] == ["python", "-m", "gdd_keras.evaluate"]
    assert evaluate(words[3:]) == 0
    out = capsys.readouterr().out
    assert "v2" in out
    assert "mean and sample deviation of 5 networks" in out


def test_other_settings(run, tmp_path):
    settings = ["--mixture-components", "1", "--mixture-centres", "3"]
    code = main(
        [
            *("--run", "run", "--saved-models", "other", *settings),
            *("--weights", "float16", "--no-soft-labels"),
        ]
    )
    assert code == 0
    old = tmp_path / "saved_models" / "digits" / "1"
    new = tmp_path / "other" / "digits" / "1"
    before, after = read_metadata(old), read_metadata(new)
    generation = after["config"]["generation"]
    assert generation["mixture_centres"] == 3
    assert generation["mixture_components"] == 1
    assert after["training"]["trained_with"] == {
        "mixture_components": 2,
        "mixture_centres": 4,
        "weights": "float32",
        "soft_labels": True,
    }
    assert after["weights"] == "float16"
    assert not load_generator(new).has_soft_labels
    # Of ten classes, one centre fewer, and one covariance of 16 latents.
    assert before["num_parameters"] - after["num_parameters"] >= 10 * (16 + 136)


def test_run_without_encoder_or_stage_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = [*FLAGS, "--distill-steps", "0", "--latents", "normal"]
    assert distill.main(flags) == 0
    before = files(tmp_path)
    for name, value in (("components", "1"), ("centres", "3")):
        flag = f"--mixture-{name}"
        message = refused(capsys, "--run", "runs/digits", flag, value)
        assert "needs the encoder of the run" in message
        assert f"mixture_{name}, and runs/digits with latents=norm" in message
    assert files(tmp_path) == before
    assert main(["--run", "runs/digits", "--weights", "float16"]) == 0
    first, second = (
        load_generator(tmp_path / "saved_models/digits" / n) for n in "12"
    )
    labels = first.balanced_labels(2)
    images = [g.generate(labels, seed=1).astype(int) for g in (first, second)]
    # Half weights move a few pixels by one grey level.
    assert np.abs(images[0] - images[1]).max() <= 1
    assert second.metadata["weights"] == "float16"


def test_files_of_before_keep_their_settings(run, tmp_path):
    """One centre per component, where a config.json does not say."""
    config = json.loads((run / "config.json").read_text())
    del config["generation"]["mixture_centres"]
    del config["generation"]["soft_labels"]
    (run / "config.json").write_text(json.dumps(config))
    assert main(["--run", "run"]) == 0
    metadata = read_metadata(tmp_path / "saved_models" / "digits" / "2")
    generation = metadata["config"]["generation"]
    assert generation["mixture_centres"] == 1
    assert generation["soft_labels"] is False
    assert metadata["training"]["trained_with"] == {}


def test_soft_scores_go_with_the_labeller(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["evaluation"]["eval_labels"] = "soft"
    (run / "config.json").write_text(json.dumps(config))
    models = tmp_path / "saved_models" / "digits"
    for flags, labels in (((), "soft"), (("--no-soft-labels",), "hard")):
        assert main(["--run", "run", *flags]) == 0
        newest = max(models.iterdir())
        evaluation = read_metadata(newest)["config"]["evaluation"]
        assert evaluation["eval_labels"] == labels


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_no_run(tmp_path, capsys):
    message = refused(capsys, "--run", str(tmp_path))
    assert "`--run` must be the folder of a run" in message
    assert "no config.json" in message


def test_unfinished_run(run, tmp_path, capsys):
    change_state(run, lambda state: state["stages"].pop("distill"))
    before = files(tmp_path)
    message = refused(capsys, "--run", "run", "--mixture-centres", "1")
    assert "must be a run that is finished" in message
    assert "distill --config run/config.json --run-dir run" in message
    assert files(tmp_path) == before


def test_a_trained_run_without_an_export(run, tmp_path):
    # As one whose hard draws failed.
    change_state(run, lambda state: state.update(done=False, export=None))
    assert main(["--run", "run", "--saved-models", "again"]) == 0
    assert (tmp_path / "again" / "digits" / "1" / "saved_model.pb").exists()


def test_labeller_that_the_run_does_not_have(run, tmp_path, capsys):
    shutil.rmtree(run / "labeller")
    before = files(tmp_path)
    message = refused(capsys, "--run", "run")
    assert "needs the labeller of the run" in message
    assert "Pass `--no-soft-labels`" in message
    assert files(tmp_path) == before


def test_other_data(run, tmp_path, capsys):
    change_state(run, lambda state: state.update(fingerprint="other"))
    before = files(tmp_path)
    message = refused(capsys, "--run", "run")
    assert "must be those that run was trained on, fingerprint other" in message
    assert files(tmp_path) == before


def test_unfinished_stage(run, tmp_path, capsys):
    change_state(run, lambda s: s["stages"]["distill"].update(done=False))
    before = files(tmp_path)
    message = refused(capsys, "--run", "run")
    assert "must be a run that is finished" in message
    assert files(tmp_path) == before


def test_lost_checkpoint(run, tmp_path, capsys):
    """The one before it is of another generator than the run exported."""
    folder = run / "checkpoints" / "distill"
    newest = max(folder.glob("*.index")).with_suffix("")
    assert len(list(folder.glob("*.index"))) > 1
    [data] = folder.glob(f"{newest.name}.data*")
    data.write_bytes(data.read_bytes()[:100])
    before = files(tmp_path)
    assert main(["--run", "run"]) == 1
    message = capsys.readouterr().err
    assert "the run's last checkpoint must be whole" in message
    assert str(newest.relative_to(tmp_path)) in message
    shutil.rmtree(folder)
    assert main(["--run", "run"]) == 1
    message = capsys.readouterr().err
    assert "Received: none in run/checkpoints/distill" in message
    assert not (tmp_path / "saved_models" / "digits" / "2").exists()
    assert files(tmp_path).items() <= before.items()


def test_other_networks_than_those_of_the_checkpoint(run, capsys):
    config = json.loads((run / "config.json").read_text())
    config["networks"]["generator"] = "residual"
    (run / "config.json").write_text(json.dumps(config))
    assert main(["--run", "run"]) == 1
    assert "of the networks in its config.json" in capsys.readouterr().err


def test_saved_models_that_is_a_file(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    message = refused(capsys, "--run", "run", "--saved-models", "file")
    assert "`--saved-models`" in message
