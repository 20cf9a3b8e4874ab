"""Files that rot, data that change, clocks that go back."""

import itertools
import json
import pathlib
import re
import shutil
import time

import numpy as np
import pytest

import gdd_keras
from gdd_keras import distill
from gdd_keras import generate
from gdd_keras import run_directory
from gdd_keras.metadata import read_metadata

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stage_1(flags):
    """Flags of a run of stage 1 alone."""
    return [flag for flag in flags if flag != "--quiet"] + [
        *("--distill-steps", "0")
    ]


@pytest.fixture(scope="module")
def unbroken_stage_1(stage_1, run_unbroken):
    return run_unbroken(stage_1)


@pytest.fixture(scope="module")
def ended_early(stage_1, brief_timing, tmp_path_factory):
    """Folder of a run that ended with its second and last checkpoint."""
    plain, saves = run_directory.RunDirectory.save, []

    def save(self, **changes):
        plain(self, **changes)
        saves.append(changes)
        # Fingerprint, plan, and two epochs.
        if len(saves) == 4:
            raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("ended")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_directory.RunDirectory, "save", save)
        patch.chdir(folder)
        assert distill.main(stage_1) == 130
    return folder


@pytest.fixture
def interrupted(ended_early, tmp_path):
    """Folder of the checkpoints of a copy of that run."""
    shutil.copytree(ended_early / "runs", tmp_path / "runs")
    folder = tmp_path / "runs" / "digits" / "checkpoints" / "cgan"
    assert sorted(path.stem for path in folder.glob("*.index")) == [
        *("ckpt-4", "ckpt-8")
    ]
    return folder


def flip_bit(path, place):
    """Flips the lowest bit of the byte at a part of a file."""
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda data, index, names: flip_bit(data, 0.5), True),
        (lambda data, index, names: flip_bit(index, 0.5), True),
        (lambda data, index, names: data.unlink(), True),
        # The list of checkpoints; they themselves are whole.
        (lambda data, index, names: names.unlink(), False),
    ],
    ids=["bit", "bit-of-index", "no-data", "no-list"],
)
def test_checkpoints_that_rot(
    harm,
    told,
    interrupted,
    command,
    stage_1,
    unbroken_stage_1,
    assert_same,
    tmp_path,
):
    harm(
        interrupted / "ckpt-8.data-00000-of-00001",
        interrupted / "ckpt-8.index",
        interrupted / "checkpoint",
    )
    (interrupted / "mine.txt").touch()
    (interrupted / "ckpt-7_temp").mkdir()
    code, out, err = command(*stage_1)
    assert (code, err) == (0, "")
    assert (interrupted / "mine.txt").exists()
    assert not (interrupted / "ckpt-7_temp").exists()
    assert ("cannot be read; trying the one before" in out) == told
    # The epoch that was lost, and no other.
    assert ("Epoch 2/2" in out) == told
    assert "Epoch 1/2" not in out
    assert_same(tmp_path, unbroken_stage_1, "cgan")


@pytest.fixture
def written_set(unbroken, tmp_path, capsys):
    """Function of format and flags: folder of a set from the generator."""

    def write(set_format, *more):
        folder = tmp_path / "sets" / set_format
        arguments = ["--model", unbroken / "saved_models" / "digits"]
        arguments += ["--output", folder, "--format", set_format, "--ipc", 20]
        assert generate.main(list(map(str, [*arguments, *more]))) == 0
        return folder

    return write


def test_shard_that_is_cut_short(written_set, command, flags, tmp_path):
    folder = written_set("tfds", "--shards", 3)
    shard = folder / "distilled-train.tfrecord-00001-of-00003"
    cut(shard)
    code, _, err = command("--dataset", folder, *flags)
    assert code == 2
    assert err.startswith("error: `dataset`: The TFDS data of ")
    assert f"Received: {shard}: " in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("harm", [cut, lambda path: flip_bit(path, 0.5)])
def test_archive_that_rots(harm, written_set, command, flags, tmp_path):
    (path,) = written_set("npz").glob("*.npz")
    harm(path)
    code, _, err = command("--dataset", path, *flags)
    assert code == 2
    assert err.startswith(
        "error: `dataset`: An .npz data set must be a readable archive."
    )
    assert str(path) in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_data_that_changed(written_set, command, stage_1, tmp_path):
    (path,) = written_set("npz").glob("*.npz")
    stage_1 = ["--dataset", path, *stage_1, "--run-dir", "run"]
    assert command(*stage_1)[::2] == (0, "")
    file = tmp_path / "run" / "state.json"
    state = json.loads(file.read_text())
    # As if it had been killed before the export.
    del state["export"]
    score = {"seed": 0, "distinct_images": 1, "accuracy": 0.5, "seconds": 1.0}
    file.write_text(json.dumps({**state, "done": False, "scores": [score]}))
    with np.load(path) as arrays:
        content = dict(arrays)
    content["images"][0] ^= 1
    np.savez_compressed(path, **content)
    code, _, err = command(*stage_1)
    assert code == 2
    assert "run was started on other data: fingerprint " in err
    assert "Put the data back, pass `--allow-changed-data`, or start" in err
    assert command(*stage_1, "--allow-changed-data")[::2] == (0, "")
    training = read_metadata(tmp_path / "saved_models/distilled/2")["training"]
    assert training["earlier_fingerprints"] == [state["fingerprint"]]
    # That was on other test images.
    assert json.loads(file.read_text())["scores"] == []
    # The decision holds from then on.
    assert command(*stage_1)[::2] == (0, "")


def test_clock_that_goes_back(
    command,
    stage_1,
    unbroken_stage_1,
    assert_same,
    interrupted,
    monkeypatch,
    tmp_path,
):
    seconds = itertools.count(time.time(), -3600.0)
    monkeypatch.setattr(time, "time", lambda: next(seconds))
    state = run_directory.RunDirectory(tmp_path / "runs" / "digits", None).state
    assert command(*stage_1)[::2] == (0, "")
    assert_same(tmp_path, unbroken_stage_1, "cgan")
    later = run_directory.RunDirectory(tmp_path / "runs" / "digits", None).state
    assert later["seconds"] >= state["seconds"] > 0
    assert command(*stage_1, "--fresh")[::2] == (0, "")
    versions = (tmp_path / "saved_models" / "digits").iterdir()
    assert sorted(path.name for path in versions) == ["1", "2"]


def test_only_a_date_is_asked_of_the_calendar():
    asks = re.compile(r"time\.time\(|datetime\.now\(|time_ns\(|perf_counter_")
    asking = [
        path.name
        for path in pathlib.Path(gdd_keras.__file__).parent.rglob("*.py")
        if asks.search(path.read_text())
    ]
    # `created` in the metadata of an export, which nothing sorts by.
    assert asking == ["saved_model.py"]
