import pickle

import pytest

from gdd_keras.config import InputError
from gdd_keras.distilled_sets.partial import PartialSet


def entries(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def add(partial, name, text="text"):
    with partial.new_shard(name) as path:
        path.write_text(text)


def nothing(directory):
    pass


def test_output_appears_when_finished(tmp_path):
    partial = PartialSet(tmp_path / "a" / "set", "id")
    partial.open()
    add(partial, "0", "four")
    add(partial, "1", "five!")
    assert partial.sizes() == {"0": 4, "1": 5}
    assert not (tmp_path / "a" / "set").exists()
    num_bytes = partial.finish(
        lambda directory: (directory / "index").write_text("i")
    )
    partial.close()
    assert num_bytes == 10
    assert entries(tmp_path / "a") == ["set", "set/0", "set/1", "set/index"]
    assert (tmp_path / "a/set/0").stat().st_mode & 0o777 == 0o644


def test_worker_in_another_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    partial = PartialSet("set", "id")
    partial.open()
    pickled = pickle.dumps(partial)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    add(pickle.loads(pickled), "0")
    monkeypatch.chdir(tmp_path)
    partial.finish(nothing)
    partial.close()
    assert str(partial.directory) == "set"
    assert entries(tmp_path) == ["elsewhere", "set", "set/0"]


def test_empty_output_directory_is_used(tmp_path):
    (tmp_path / "set").mkdir()
    partial = PartialSet(tmp_path / "set", "id")
    partial.open()
    add(partial, "0")
    partial.finish(nothing)
    partial.close()
    assert entries(tmp_path) == ["set", "set/0"]


def test_next_attempt_finds_complete_shards_alone(tmp_path):
    first = PartialSet(tmp_path / "set", "id")
    first.open()
    add(first, "0")
    (first._writing / "half").write_text("ha")
    first.close()
    second = PartialSet(tmp_path / "set", "id")
    second.open()
    assert list(second.sizes()) == ["0"]
    assert list(second._writing.iterdir()) == []
    second.close()


def test_another_identity_starts_over(tmp_path):
    first = PartialSet(tmp_path / "set", "first")
    first.open()
    add(first, "0")
    first.close()
    second = PartialSet(tmp_path / "set", "second")
    second.open()
    assert second.sizes() == {}
    # A worker of the first command that still runs can do no harm.
    with pytest.raises(FileNotFoundError):
        add(first, "1")
    add(second, "0", "second")
    second.finish(nothing)
    second.close()
    assert (tmp_path / "set/0").read_text() == "second"
    assert entries(tmp_path) == ["set", "set/0"]


def test_worker_that_outlives_its_command_adds_nothing(tmp_path):
    partial = PartialSet(tmp_path / "set", "id")
    partial.open()
    add(partial, "0")
    with pytest.raises(FileNotFoundError):
        with partial.new_shard("0") as path:
            path.write_text("late")
            partial.finish(nothing)
    partial.close()
    assert entries(tmp_path) == ["set", "set/0"]
    assert (tmp_path / "set/0").read_text() == "text"


def test_two_workers_may_write_one_shard(tmp_path):
    partial = PartialSet(tmp_path / "set", "id")
    partial.open()
    worker = pickle.loads(pickle.dumps(partial))
    with partial.new_shard("0") as one, worker.new_shard("0") as other:
        assert one != other
        one.write_text("same")
        other.write_text("same")
    assert partial.sizes() == {"0": 4}
    assert list(partial._writing.iterdir()) == []
    partial.close()


def test_shard_that_fails_leaves_nothing(tmp_path):
    partial = PartialSet(tmp_path / "set", "id")
    partial.open()
    with pytest.raises(OSError, match="disk full"):
        with partial.new_shard("0") as path:
            path.write_text("ha")
            raise OSError("disk full")
    partial.close()
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(tmp_path):
    first = PartialSet(tmp_path / "set", "id")
    first.open()
    second = PartialSet(tmp_path / "set", "id")
    with pytest.raises(InputError, match="which another process is writing"):
        second.open()
    second.close()
    first.close()
    second.open()
    second.close()


@pytest.mark.parametrize("name", ["file", "folder"])
def test_full_output_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    with pytest.raises(InputError, match="must be new or empty"):
        PartialSet(tmp_path / name, "id").open()
    assert entries(tmp_path) == ["file", "folder", "folder/mine"]
