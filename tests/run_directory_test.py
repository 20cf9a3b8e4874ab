import json
import shutil

import pytest

from gdd_keras.config import InputError
from gdd_keras.config import config_from_json
from gdd_keras.config import make_config
from gdd_keras.run_directory import RunDirectory
from gdd_keras.run_directory import open_run

CONFIG = make_config("tiny")
OTHER = make_config("tiny", seed=7, omega_l=0.5)
DONE = {"cgan": {"done": True, "steps": 8, "first_step": 0, "seconds": 1.0}}


def opened(config, tmp_path, **settings):
    run = open_run(config, "digits", parent=tmp_path, **settings)
    return run.path.name


def test_numbering_and_continuing(tmp_path):
    assert opened(CONFIG, tmp_path) == "digits"
    assert opened(CONFIG, tmp_path) == "digits"
    assert opened(OTHER, tmp_path) == "digits-2"
    assert opened(CONFIG, tmp_path) == "digits"
    assert opened(OTHER, tmp_path) == "digits-2"
    # Fresh runs are the latest ones from then on.
    assert opened(CONFIG, tmp_path, fresh=True) == "digits-3"
    assert opened(CONFIG, tmp_path) == "digits-3"
    assert opened(OTHER, tmp_path) == "digits-2"


def test_devices_do_not_make_another_run(tmp_path):
    several = make_config(
        base=CONFIG, strategy="mirrored", memory_limit_mb=7, data_dir="moved"
    )
    assert opened(several, tmp_path) == "digits"
    assert opened(CONFIG, tmp_path) == "digits"
    run = open_run(several, "digits", run_dir=tmp_path / "digits")
    assert run.config.run.strategy == "mirrored"
    assert opened(OTHER, tmp_path) == "digits-2"


def test_folders_of_other_names_do_not_count(tmp_path):
    for name in ("digits-old", "digits2", "mnist-7"):
        (tmp_path / name).mkdir()
    assert opened(CONFIG, tmp_path) == "digits"
    # A folder without a config is never continued, and never written into.
    (tmp_path / "digits-9").mkdir()
    assert opened(OTHER, tmp_path) == "digits-10"
    assert list((tmp_path / "digits-9").iterdir()) == []


def test_names_are_no_patterns(tmp_path):
    (tmp_path / "aXb").mkdir()
    run = open_run(CONFIG, "a.b", parent=tmp_path)
    assert run.path.name == "a.b"


def test_run_holds_its_config_and_state(tmp_path):
    run = open_run(CONFIG, "digits", parent=tmp_path)
    assert config_from_json(run.config_file.read_text()) == CONFIG
    assert run.state == {"stages": {}, "seconds": 0.0, "done": False}
    run.save(seconds=2.5, fingerprint="1")
    run.save(fingerprint="2")
    again = open_run(CONFIG, "digits", parent=tmp_path)
    assert again.state == {
        "stages": {},
        "seconds": 2.5,
        "done": False,
        "fingerprint": "2",
    }
    # Nothing half written stays behind.
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.json",
        "state.json",
    ]


def test_lock(tmp_path):
    first = open_run(CONFIG, "digits", parent=tmp_path)
    second = open_run(CONFIG, "digits", parent=tmp_path)
    with first.locked():
        with pytest.raises(
            InputError,
            match="digits must not be going on already. Received: another "
            "process trains it. Wait for it, stop it, or choose another folder "
            "with `--run-dir`.",
        ):
            with second.locked():
                pytest.fail("must not start")
        # A copy is a run of its own.
        shutil.copytree(tmp_path / "digits", tmp_path / "copy")
        with open_run(CONFIG, "digits", tmp_path / "copy").locked():
            pass
        first.save(seconds=4.0, done=True, export="1")
    with second.locked():
        assert second.state["seconds"] == 4.0
    # What is finished can be looked at by many.
    with second.locked(), RunDirectory(first.path, CONFIG).locked():
        pass


def test_paths(tmp_path):
    run = RunDirectory(tmp_path / "a" / "run", CONFIG)
    assert run.images == run.path / "images"
    assert run.tensorboard("cgan") == run.path / "tensorboard" / "cgan"
    assert run.checkpoints("cgan") == run.path / "checkpoints" / "cgan"


@pytest.mark.parametrize("exists", [False, True])
def test_given_folder(tmp_path, exists):
    path = tmp_path / "deep" / "mine"
    if exists:
        path.mkdir(parents=True)
    first = open_run(CONFIG, "digits", path)
    assert first.path == path
    first.save(seconds=3.0)
    assert open_run(CONFIG, "digits", path).state["seconds"] == 3.0
    # The name of the data set plays no part.
    assert open_run(CONFIG, "mnist", str(path)).path == path


def test_given_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match="must be a folder. Received: .*a file"
    ):
        open_run(CONFIG, "digits", tmp_path / "file")
    with pytest.raises(
        InputError, match="must be one that can be made. .*Not a directory"
    ):
        open_run(CONFIG, "digits", tmp_path / "file" / "run")


def test_given_folder_of_something_else(tmp_path):
    (tmp_path / "photo.png").touch()
    with pytest.raises(
        InputError,
        match="`--run-dir` must be new, empty, or a run's folder. Received: "
        ".*, which holds something else. Choose another.",
    ):
        open_run(CONFIG, "digits", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_given_run_with_other_settings(tmp_path):
    open_run(CONFIG, "digits", tmp_path)
    with pytest.raises(
        InputError,
        match="holds a run with other settings: omega_l=50.0 there, 0.5 "
        "here; seed=0 there, 7 here. Choose another folder, or continue that "
        "run with `--config .*config.json --run-dir ",
    ):
        open_run(OTHER, "digits", tmp_path)
    assert config_from_json((tmp_path / "config.json").read_text()) == CONFIG


def test_given_run_and_fresh(tmp_path):
    open_run(CONFIG, "digits", tmp_path)
    with pytest.raises(InputError, match="`--fresh` needs a new folder."):
        open_run(CONFIG, "digits", tmp_path, fresh=True)
    # A new folder is as fresh as can be.
    path = tmp_path / "new"
    assert open_run(CONFIG, "digits", path, fresh=True).path == path


def test_damaged_state(tmp_path):
    run = open_run(CONFIG, "digits", parent=tmp_path)
    (run.path / "state.json").write_text("{")
    with pytest.raises(
        InputError, match="state.json must hold JSON.*start over with `--fresh`"
    ):
        open_run(CONFIG, "digits", parent=tmp_path)
    assert opened(CONFIG, tmp_path, fresh=True) == "digits-2"


def test_run_of_another_version_does_not_block_new_ones(tmp_path):
    run = open_run(CONFIG, "digits", parent=tmp_path)
    content = json.loads(run.config_file.read_text())
    content["run"]["setting_of_a_later_version"] = 1
    run.config_file.write_text(json.dumps(content))
    assert opened(CONFIG, tmp_path) == "digits-2"
    # Named outright, it is an error.
    with pytest.raises(InputError, match="unknown key `setting_of_a_later"):
        open_run(CONFIG, "digits", run.path)


def with_stage_1(folder, config=CONFIG):
    """Makes a run whose stage 1 looks finished."""
    run = RunDirectory(folder, config)
    run.checkpoints("cgan").mkdir(parents=True)
    (run.checkpoints("cgan") / "ckpt-1").write_text(folder.name)
    run.save(stages=DONE, fingerprint="1")
    return folder


def test_runs_of_another_stage_1_are_other_runs(tmp_path):
    first, second = (with_stage_1(tmp_path / name) for name in ("a", "b"))
    config = make_config(base=CONFIG, omega_l=0.5, cgan_steps=99)
    opened_from = {}
    for origin, extend in (
        (None, False),
        (first, False),
        (second, False),
        (second, True),
    ):
        settings = {"stage_1_from": origin, "extend_stage_1": extend}
        run = open_run(config, "toy", parent=tmp_path, **settings)
        assert run.path.name not in opened_from.values()
        if origin is None:
            run.save(stages=DONE)
        else:
            run.adopt_stage_1(origin, extend)
        opened_from[origin, extend] = run.path.name
    for (origin, extend), name in opened_from.items():
        settings = {"stage_1_from": origin, "extend_stage_1": extend}
        assert opened_as(config, tmp_path, **settings) == name
    # The pipeline knows its own by their folder.
    latest = opened_from[second, True]
    assert opened_as(config, tmp_path, any_stage_1=True) == latest
    given = {"run_dir": tmp_path / opened_from[first, False]}
    for refused in ({"stage_1_from": second}, {"extend_stage_1": True}):
        settings = {"stage_1_from": first, **given, **refused}
        with pytest.raises(InputError, match="has its stage 1 from, .*a. Rece"):
            open_run(config, "toy", **settings)
    with pytest.raises(InputError, match="from, .*b, trained on. Received"):
        open_run(config, "toy", run_dir=tmp_path / latest, stage_1_from=second)
    # Whoever names the folder alone goes on with it.
    assert open_run(config, "toy", **given).path == given["run_dir"]


def opened_as(config, tmp_path, **settings):
    return open_run(config, "toy", parent=tmp_path, **settings).path.name


def test_adoption_that_was_killed_is_repeated(tmp_path, monkeypatch):
    first = with_stage_1(tmp_path / "a")
    run = RunDirectory(tmp_path / "b", CONFIG)

    def fail(self, **changes):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "save", fail)
        with pytest.raises(OSError, match="No space"):
            run.adopt_stage_1(first)
    assert (run.checkpoints("cgan") / "ckpt-1").exists()
    run = RunDirectory(tmp_path / "b", CONFIG)
    run.adopt_stage_1(first)
    assert run.state["stages"]["cgan"]["done"]


def test_stage_1_of_another_seed(tmp_path):
    first = with_stage_1(tmp_path / "a")
    other = make_config(base=CONFIG, seed=7, batch_size=3)
    with pytest.raises(InputError, match="batch_size=.*; seed=0 there, 7 here"):
        open_run(other, "toy", parent=tmp_path, stage_1_from=first)
    again = make_config(base=CONFIG, distill_seed=7)
    open_run(again, "toy", parent=tmp_path, stage_1_from=first)


def test_two_runs_that_begin_at_the_same_time(tmp_path, monkeypatch):
    first = RunDirectory(tmp_path / "a", CONFIG)
    # The other command looked for a config before this one wrote its own.
    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "exists", lambda self: False)
        second = RunDirectory(tmp_path / "a", OTHER)
    with pytest.raises(InputError, match="begun at the same time. Enter this"):
        with first.locked():
            pytest.fail("must not begin")
    with second.locked():
        assert config_from_json(second.config_file.read_text()) == OTHER
