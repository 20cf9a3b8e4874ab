import json
import pathlib
import shutil

import numpy as np
import pytest

from gdd_keras import labeller
from gdd_keras.conversion import convert_model
from gdd_keras.evaluate import main as evaluate
from gdd_keras.generator_api import load_generator
from gdd_keras.inference import exported_network
from gdd_keras.label import main
from gdd_keras.metadata import METADATA_NAME
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.reweight import main as reweight
from gdd_keras.saved_model import write_version

PRETRAINED = pathlib.Path(__file__).parents[1] / "saved_models" / "digits" / "1"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The pretrained digits without their labeller; do not change it."""
    metadata = read_metadata(PRETRAINED)
    metadata["scores"] = [s for s in metadata["scores"] if "labels" not in s]
    for name in ("labeller", "labelled_from"):
        del metadata[name]
    return write_version(
        exported_network(PRETRAINED, metadata),
        tmp_path_factory.mktemp("models") / "digits" / "1",
        metadata,
        metadata["weights"],
    )


@pytest.fixture(scope="module")
def labelled(original):
    """The next version of it, with soft labels."""
    arguments = ["--model", str(original.parent), "--labeller-steps", "100"]
    assert main([*arguments, "--label-temperature", "1.2"]) == 0
    return original.parent / "2"


def files_of(folder):
    return [path.name for path in folder.iterdir()]


def changed(original, tmp_path, **changes):
    """Returns another copy with other metadata; `None` removes a field."""
    version = tmp_path / "1"
    shutil.copytree(original, version)
    metadata = {**json.loads((version / METADATA_NAME).read_text()), **changes}
    metadata = {k: v for k, v in metadata.items() if v is not None}
    (version / METADATA_NAME).write_text(json.dumps(metadata))
    return version


def test_images_stay_and_labels_come(original, labelled):
    before, after = load_generator(original), load_generator(labelled)
    labels = before.balanced_labels(30)
    images = before.generate(labels, seed=7)
    np.testing.assert_array_equal(after.generate(labels, seed=7), images)
    assert not before.has_soft_labels
    soft = after.soft_labels(images)
    np.testing.assert_allclose(soft.sum(1), 1.0, atol=1e-5)
    # By guessing it would be a tenth.
    assert (soft.argmax(1) == labels).mean() > 0.5


def test_metadata(original, labelled):
    before, after = read_metadata(original), read_metadata(labelled)
    # The images are the same, so what was measured on them still holds.
    assert after["scores"] == before["scores"] != []
    assert after["weights"] == before["weights"]
    assert after["num_bytes"] > before["num_bytes"]
    assert after["signatures"] == [*before["signatures"], "soft_labels"]
    assert after["config"]["generation"]["soft_labels"] is True
    assert after["config"]["labeller"] == {
        "labeller_steps": 100,
        "label_temperature": 1.2,
    }
    assert 0.3 < after["labeller"]["held_out_accuracy"] <= 1.0
    assert after["labelled_from"] == {
        "model": str(original),
        "digest": model_digest(original),
    }


def test_another_labeller(original, labelled, tmp_path):
    scores = [
        *read_metadata(labelled)["scores"],
        {"labels": "soft", "accuracy_mean": 0.5},
    ]
    version = changed(labelled, tmp_path, scores=scores)
    output = tmp_path / "again"
    arguments = ["--model", str(version), "--output", str(output)]
    assert main([*arguments, "--labeller-steps", "2"]) == 0
    metadata = read_metadata(output)
    # Its images are the first one's, and soft figures another labeller's.
    assert metadata["labelled_from"]["digest"] == model_digest(original)
    assert metadata["scores"] == read_metadata(original)["scores"]


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, []), ({"accuracy_mean": 0.5}, [{"accuracy_mean": 0.5}])],
)
def test_scores_of_an_old_export(original, tmp_path, before, after):
    version = changed(original, tmp_path, scores=before)
    output = tmp_path / "new"
    arguments = ["--model", str(version), "--output", str(output)]
    assert main([*arguments, "--labeller-steps", "2"]) == 0
    assert read_metadata(output)["scores"] == after


def test_version_that_is_taken_meanwhile(original, tmp_path, monkeypatch):
    # The first exports did not say how they mix labels: not at all.
    version = changed(original, tmp_path, label_mixing=None)
    train = labeller.train_labeller

    def train_beside_another(*arguments):
        (tmp_path / "2").mkdir()
        (tmp_path / "2" / "file").touch()
        return train(*arguments)

    monkeypatch.setattr(labeller, "train_labeller", train_beside_another)
    assert main(["--model", str(version), "--labeller-steps", "2"]) == 0
    assert read_metadata(tmp_path / "3")["label_mixing"] == 0.0
    assert files_of(tmp_path / "2") == ["file"]


def test_output_and_what_is_printed(original, tmp_path, capfd):
    output = tmp_path / "new"
    arguments = ["--model", str(original), "--labeller-steps", "2"]
    arguments += ["--output", str(output)]
    assert main(arguments) == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == "labeller: 2 steps of 250 real images"
    assert f"Wrote {output}" in lines
    accuracy = read_metadata(output)["labeller"]["held_out_accuracy"]
    assert f"right on {accuracy:.2%} of held-out images" in printed.out
    # The second time there is something in the way, before any training.
    assert main(arguments) == 2
    printed = capfd.readouterr()
    assert "must be new or empty" in printed.err
    assert "loss" not in printed.out


def test_labeller_goes_along_when_converted(labelled, tmp_path):
    before = load_generator(labelled)
    images = before.generate(before.balanced_labels(3))
    first = convert_model(labelled, "saved_model", tmp_path / "1", "float16")
    # Twice, since the second time the graph is one that was cut out.
    again = convert_model(first, "saved_model", tmp_path / "2", "float16")
    for path in (first, again):
        np.testing.assert_allclose(
            load_generator(path).soft_labels(images),
            before.soft_labels(images),
            rtol=1e-5,
            atol=1e-7,
        )


def test_soft_labels_can_be_scored(labelled, tmp_path, capfd):
    arguments = ["--model", str(labelled), "--eval-labels", "soft"]
    arguments += ["--protocol", "stream", "--ipc", "1", "--num-seeds", "1"]
    arguments += ["--eval-epochs", "2", "--results", str(tmp_path)]
    assert evaluate(arguments) == 0
    (record,) = json.loads((tmp_path / "results.json").read_text())["records"]
    assert record["labels"] == "soft"


def test_other_data_are_refused(original, tmp_path, capsys):
    version = changed(original, tmp_path, fingerprint="other")
    assert main(["--model", str(version)]) == 2
    message = f"must be those that {version} was distilled from, fingerprint"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [main, reweight])
def test_another_held_out_part_is_refused(command, original, capsys):
    arguments = ["--model", str(original), "--validation-fraction", "0.3"]
    assert command(arguments) == 2
    message = f"{original} with validation_fraction=0.1 there, 0.3 here. Leave"
    assert message in capsys.readouterr().err


def test_data_set_must_be_known(original, tmp_path, capsys):
    version = changed(original, tmp_path, config=None)
    assert main(["--model", str(version)]) == 2
    assert "must name its data set" in capsys.readouterr().err
    assert main(["--model", str(tmp_path / "absent")]) == 2
    assert "absent" in capsys.readouterr().err
