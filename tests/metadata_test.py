import shutil

import pytest

from gdd_keras.config import InputError
from gdd_keras.metadata import check_class_names
from gdd_keras.metadata import find_version
from gdd_keras.metadata import method_name
from gdd_keras.metadata import model_digest


@pytest.fixture
def version(tmp_path):
    """What a SavedModel's folder holds, as far as the digest is concerned."""
    folder = tmp_path / "1"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables/variables.index").write_bytes(b"index")
    for part in ("00000-of-00002", "00001-of-00002"):
        (folder / f"variables/variables.data-{part}").write_bytes(part.encode())
    (folder / "metadata.json").write_text("{}")
    return folder


def test_digest_is_of_graph_and_weights(version, tmp_path):
    digest = model_digest(version)
    assert len(digest) == 16 and int(digest, 16) >= 0
    copy = tmp_path / "elsewhere" / "7"
    shutil.copytree(version, copy)
    assert model_digest(copy) == digest
    # Scores are written there after every evaluation.
    (copy / "metadata.json").write_text('{"scores": []}')
    assert model_digest(copy) == digest
    changed = set()
    for name in (
        "saved_model.pb",
        "variables/variables.data-00000-of-00002",
        "variables/variables.data-00001-of-00002",
    ):
        before = (copy / name).read_bytes()
        (copy / name).write_bytes(before[:-1] + b"!")
        changed.add(model_digest(copy))
        (copy / name).write_bytes(before)
    assert len(changed | {digest}) == 4
    assert model_digest(copy) == digest


def test_digest_of_an_export(tiny_saved_model):
    assert model_digest(tiny_saved_model) == model_digest(tiny_saved_model)
    (file,) = (tiny_saved_model / "variables").glob("variables.data-*")
    assert file.stat().st_size > 1000


@pytest.mark.parametrize(
    ("steps", "omega_g", "omega_l", "name"),
    [
        (1, 0.01, 0.001, "gdd"),
        (1, 0.0, 0.001, "gdd"),
        (1, 0.01, 0.0, "dim"),
        (1, 0.0, 0.0, "gan"),
        (0, 0.01, 0.001, "gan"),
    ],
)
def test_method_name_says_which_losses_were_used(steps, omega_g, omega_l, name):
    matching = {"distill_steps": steps, "omega_g": omega_g, "omega_l": omega_l}
    assert method_name({"matching": matching}) == name


@pytest.mark.parametrize("config", [None, {}, {"cgan": {}}])
def test_method_name_without_settings(config):
    assert method_name(config) == "generator"


@pytest.mark.parametrize(
    ("file", "kind"), [("model.tflite", "LiteRT"), ("model.onnx", "ONNX")]
)
def test_models_of_other_runtimes_are_told_so(tmp_path, file, kind):
    (tmp_path / "metadata.json").write_text("{}")
    (tmp_path / file).touch()
    for path in (tmp_path, tmp_path / file):
        with pytest.raises(
            InputError,
            match=f"^`--model` must be a Sav.*{file}, a {kind}",
        ):
            find_version(path, "--model")


def test_versions_are_ascii_numbers(version, tmp_path):
    (tmp_path / "²").mkdir()
    (tmp_path / "²" / "saved_model.pb").touch()
    assert find_version(tmp_path) == version


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b\nc"], "of one line, in Unicode. Received: 'b.nc'"),
        (["a", " "], "non-empty strings"),
        (["a", "\ud800"], "in Unicode"),
        (["a\0"], "non-empty strings"),
        (["a", "b", "a"], "2 different names of 3"),
    ],
)
def test_class_names(names, message):
    with pytest.raises(InputError, match=f"toy: `class_names` .*{message}"):
        check_class_names(names, "toy")
