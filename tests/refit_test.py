import contextlib
import json
import shutil
import warnings

import numpy as np
import pytest

from gdd_keras import distill
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


def images_and_labels(version):
    generator = load_generator(version)
    images = generator.generate(generator.balanced_labels(3), seed=5)
    return images, generator.soft_labels(images)


def change_state(run, change):
    state = json.loads((run / "state.json").read_text())
    change(state)
    (run / "state.json").write_text(json.dumps(state))


def test_same_settings_make_the_same_export(run, tmp_path, capsys):
    before = files(tmp_path)
    assert main(["--run", "run"]) == 0
    first, second = (tmp_path / "saved_models/digits" / n for n in "12")
    for a, b in zip(
        images_and_labels(first), images_and_labels(second), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    # The run and the first version are as they were.
    assert before.items() <= files(tmp_path).items()
    metadata = [read_metadata(version) for version in (first, second)]
    assert metadata[1]["training"].pop("refitted") == {}
    assert metadata[1]["training"] == metadata[0]["training"]
    assert metadata[1]["config"] == metadata[0]["config"]
    assert metadata[1]["labeller"] == metadata[0]["labeller"]
    out = capsys.readouterr().out
    assert f"Wrote {second.relative_to(tmp_path)}, " in out
    assert "gdd_keras.evaluate --model saved_models/digits/2 --audit" in out


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
    assert after["training"]["refitted"] == {
        "mixture_components": 2,
        "mixture_centres": 4,
        "weights": "float32",
        "soft_labels": True,
    }
    assert after["weights"] == "float16"
    assert not load_generator(new).has_soft_labels
    # Of ten classes, one centre fewer, and one covariance of 16 latents.
    assert before["num_parameters"] - after["num_parameters"] >= 10 * (16 + 136)


def test_without_stage_2(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert distill.main([*FLAGS, "--distill-steps", "0"]) == 0
    assert main(["--run", "runs/digits"]) == 0
    first, second = (
        load_generator(tmp_path / "saved_models/digits" / n) for n in "12"
    )
    labels = first.balanced_labels(2)
    np.testing.assert_array_equal(
        first.generate(labels, seed=1), second.generate(labels, seed=1)
    )


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    return capsys.readouterr().err


def test_no_run(tmp_path, capsys):
    message = refused(capsys, "--run", str(tmp_path))
    assert "`--run` must be the folder of a run" in message
    assert "no config.json" in message


def test_unfinished_run(run, tmp_path, capsys):
    change_state(run, lambda state: state.update(done=False, export=None))
    before = files(tmp_path)
    message = refused(capsys, "--run", "run", "--mixture-centres", "1")
    assert "must be a run that is finished" in message
    assert "distill --config run/config.json --run-dir run" in message
    assert files(tmp_path) == before


def test_labeller_that_the_run_does_not_have(run, tmp_path, capsys):
    change_state(run, lambda state: state.pop("labeller"))
    before = files(tmp_path)
    message = refused(capsys, "--run", "run")
    assert "needs the labeller of the run" in message
    assert "python -m gdd_keras.label" in message
    assert files(tmp_path) == before


def test_other_data(run, tmp_path, capsys):
    change_state(run, lambda state: state.update(fingerprint="other"))
    before = files(tmp_path)
    assert "was started on other data" in refused(capsys, "--run", "run")
    assert files(tmp_path) == before


def test_lost_checkpoints(run, tmp_path, capsys):
    shutil.rmtree(run / "checkpoints")
    assert main(["--run", "run"]) == 1
    assert "no checkpoint in" in capsys.readouterr().err
    assert not (tmp_path / "saved_models" / "digits" / "2").exists()


def test_saved_models_that_is_a_file(run, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    message = refused(capsys, "--run", "run", "--saved-models", "file")
    assert "`--saved-models`" in message
