import dataclasses
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from gdd_keras import evaluate
from gdd_keras.config import DataConfig
from gdd_keras.config import make_config

NETWORK = f"{__name__}:linear"


def linear(image_shape, num_classes):
    import keras

    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


@pytest.fixture(scope="module")
def digits():
    from gdd_keras.data import load_dataset

    return load_dataset(DataConfig(), 0)


@pytest.fixture(scope="module")
def generator(digits):
    from gdd_keras.networks.generator import build_generator

    return build_generator(digits.image_shape, 10, latent_dim=4, width=2)


@pytest.fixture(scope="module")
def exported(generator, digits, tmp_path_factory):
    """An untrained generator of the digits; tests put its metadata back."""
    from gdd_keras.export import export_generator

    config = make_config("tiny", network=NETWORK, num_seeds=2)
    return export_generator(
        generator,
        tmp_path_factory.mktemp("saved_models") / "digits",
        {
            "class_names": list(digits.class_names),
            "fingerprint": digits.fingerprint,
            "config": dataclasses.asdict(config),
        },
    )


@pytest.fixture
def model(exported):
    path = exported / "metadata.json"
    text = path.read_text()
    yield exported
    path.write_text(text)


def change(model, **changes):
    path = model / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata.update(changes)
    path.write_text(
        json.dumps({k: v for k, v in metadata.items() if v is not None})
    )


def scores_of(model):
    return json.loads((model / "metadata.json").read_text()).get("scores", [])


def test_help_is_quick_and_needs_no_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None;"
        "from gdd_keras import evaluate; sys.exit(evaluate.main(['--help']))"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    # 0.15 s on an idle machine; loads of other tests may slow it.
    assert time.monotonic() - started < 5
    for flag in ("--model", "--protocol", "--ipc", "--split", "--real"):
        assert flag in done.stdout


def test_last_screen_results_and_metadata(model, tmp_path, capsys):
    output = tmp_path / "new" / "scores.json"
    arguments = ["--model", str(model.parent), "--real", "--ipc", "3"]
    assert evaluate.main([*arguments, "--output", str(output)]) == 0
    shown = capsys.readouterr().out.split("\n\n")[-1]
    for text in (
        str(model),
        "stored images per class",
        "split test, 359 images",
        "stream, IPC 3 (per class and epoch), 10 epochs, augmentation crop",
        f"{NETWORK}, 2 from scratch",
        "2 networks); 300 distinct images each",
        "real_stream",
        str(output),
        "recorded in",
    ):
        assert text in shown

    content = json.loads(output.read_text())
    generated, real = content["results"]
    assert content["kind"] == "gdd_keras evaluation"
    assert content["dataset"]["num_images"]["test"] == 359
    assert content["generator_bytes"] > 0
    assert (generated["method"], real["method"]) == ("generator", "real_stream")
    assert generated["seeds"] == [0, 1] and generated["ipc"] == 3
    assert generated["accuracy_mean"] == pytest.approx(
        np.mean(generated["accuracies"])
    )
    assert generated["accuracy_std"] == pytest.approx(
        np.std(generated["accuracies"], ddof=1)
    )
    # Only the generator's own score belongs beside the generator.
    assert scores_of(model) == [generated]

    # Again: its own file is written anew, its entry replaced, not doubled.
    assert evaluate.main([*arguments, "--output", str(output)]) == 0
    again = json.loads(output.read_text())["results"]
    assert [r["accuracies"] for r in again] == [
        r["accuracies"] for r in content["results"]
    ]
    assert scores_of(model) == [again[0]]
    # Another protocol is another entry.
    arguments = ["--model", str(model), "--protocol", "fixed"]
    assert evaluate.main([*arguments, "--num-seeds", "1"]) == 0
    assert [s["protocol"] for s in scores_of(model)] == ["stream", "fixed"]
    assert "one network, no deviation" in capsys.readouterr().out


def test_validation_is_not_recorded(model, capsys):
    code = evaluate.main(["--model", str(model), "--split", "validation"])
    assert code == 0
    assert "split validation, 143 images" in capsys.readouterr().out
    assert scores_of(model) == []


def test_eval_seed_is_the_first_networks(model):
    assert evaluate.main(["--model", str(model), "--eval-seed", "7"]) == 0
    assert scores_of(model)[0]["seeds"] == [7, 8]


def test_metadata_that_cannot_be_written_is_a_note(model, capsys, monkeypatch):
    def refuse(*arguments, **changes):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(evaluate, "update_metadata", refuse)
    assert evaluate.main(["--model", str(model)]) == 0
    shown = capsys.readouterr()
    assert "is not recorded" in shown.err and "Permission" in shown.err
    assert "recorded in" not in shown.out


def refused(capsys, *arguments):
    """Returns the error of a command that must end before any training."""
    assert evaluate.main(list(map(str, arguments))) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ipc", "0"), "`ipc` must be an integer >= 1. Received: ipc=0."),
        (("--num-seeds", "0"), "`num_seeds` must be an integer >= 1 to score"),
        (("--eval-epochs", "0"), "`eval_epochs` must be"),
        (("--protocol", "fixed", "--eval-seed", "-1"), "`eval_seed` must be"),
        (("--network", "convnet99"), "one of convnet3"),
        (("--network", "no.module:f"), "cannot be imported"),
        (("--dataset", "/nowhere"), "/nowhere"),
    ],
)
def test_bad_settings(model, capsys, arguments, message):
    assert message in refused(capsys, "--model", model, *arguments)


def test_no_model(tmp_path, capsys):
    error = refused(capsys, "--model", tmp_path / "absent")
    assert "absent, which does not exist" in error


def test_output_is_never_another_kind_of_file(model, tmp_path, capsys):
    for content in ("precious", '{"kind": "other"}', "[1]"):
        taken = tmp_path / "notes.json"
        taken.write_text(content)
        error = refused(capsys, "--model", model, "--output", taken)
        assert "which holds something else" in error
        assert taken.read_text() == content
    error = refused(capsys, "--model", model, "--output", tmp_path)
    assert "must be a file" in error
    error = refused(capsys, "--model", model, "--output", taken / "x.json")
    assert "a folder that can be written" in error


def test_other_fingerprint(model, capsys):
    change(model, fingerprint="0123")
    error = refused(capsys, "--model", model)
    assert "fingerprint 0123. Received: digits of scikit-learn" in error


def test_other_class_names(model, capsys):
    change(model, class_names=[*"0123456798"])
    error = refused(capsys, "--model", model)
    assert "label 8 is '9' in the generator and '8' in the data" in error


def test_other_image_size(model, capsys):
    error = refused(capsys, "--model", model, "--image-size", "16")
    assert "(16, 16, 1). Received: a generator of (8, 8, 1)" in error


def test_metadata_without_config_needs_a_dataset(model, capsys):
    change(model, config=None)
    assert "Pass `--dataset`" in refused(capsys, "--model", model)
    code = evaluate.main(
        ["--model", str(model), "--dataset", "digits", "--network", NETWORK]
        + ["--num-seeds", "1", "--ipc", "1", "--eval-epochs", "2"]
    )
    assert code == 0


def test_broken_config_in_metadata(model, capsys):
    change(model, config={"evaluation": {"icp": 3}})
    error = refused(capsys, "--model", model)
    assert "`config` in the metadata" in error and "did you mean ipc" in error


def test_default_seed_is_that_of_the_distillation(model):
    config = make_config("tiny", network=NETWORK, num_seeds=1, seed=11)
    change(model, config=dataclasses.asdict(config))
    assert evaluate.main(["--model", str(model)]) == 0
    assert scores_of(model)[0]["seeds"] == [11]


@pytest.mark.slow
def test_command_in_a_process_of_its_own(model, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "gdd_keras.evaluate", "--model", str(model)]
        + ["--num-seeds", "1", "--network", "convnet3", "--eval-epochs", "2"],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    assert "convnet3, 1 from scratch" in done.stdout
