import os
import pathlib

import pytest

from gdd_keras import files
from gdd_keras.config import InputError
from gdd_keras.files import new_directory
from gdd_keras.files import next_version
from gdd_keras.files import write_bytes
from gdd_keras.files import write_json
from gdd_keras.files import write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_write_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "first")
    write_text(path, "sécond")
    assert path.read_bytes() == "sécond".encode()
    assert names(path.parent) == ["b.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_write_json(tmp_path):
    write_json(tmp_path / "a.json", {"b": [1], "a": None})
    assert (tmp_path / "a.json").read_text() == (
        '{\n  "b": [\n    1\n  ],\n  "a": null\n}\n'
    )
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("exists", [False, True])
def test_new_directory_appears_at_the_end(tmp_path, exists):
    target = tmp_path / "parent" / "new"
    if exists:
        target.mkdir(parents=True)
    with new_directory(target) as folder:
        (folder / "file").write_text("content")
        assert not target.exists() or names(target) == []
    assert (target / "file").read_text() == "content"
    assert names(target.parent) == ["new"]
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_new_directory_leaves_nothing_after_an_error(tmp_path, error):
    with pytest.raises(error):
        with new_directory(tmp_path / "new") as folder:
            (folder / "file").touch()
            raise error
    assert names(tmp_path) == []


def test_new_directory_refuses_what_holds_something(tmp_path):
    (tmp_path / "file").touch()
    for target in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="must be new or empty. Received"):
            with new_directory(target):
                pytest.fail("must not start")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [([], 1), (["1"], 2), (["2", "10", ".writing-11"], 11), (["0007"], 8)],
)
def test_next_version(tmp_path, versions, expected):
    for version in versions:
        (tmp_path / version).mkdir()
    assert next_version(tmp_path) == expected


def test_next_version_of_an_absent_folder(tmp_path):
    assert next_version(tmp_path / "absent") == 1
    assert os.listdir(tmp_path) == []


def test_next_version_refuses_other_content(tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="only numbered versions.*'notes'"):
        next_version(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="must be a folder. Received.*a file"):
        next_version(tmp_path / "file")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/below", "but .*file is no folder"),
        ("dangling/below", "but .*dangling is no folder"),
        ("new/../other", "with `..` after a folder that does not exist"),
        ("x" * 201, "a name of more than 200 bytes"),
        ("", "must end in a name"),
        ("empty/..", "must be new or empty"),
    ],
)
def test_directories_that_cannot_be_made(tmp_path, monkeypatch, path, message):
    (tmp_path / "here" / "empty").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "empty" if not path else tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    path = "here/" + path if path.startswith("empty") else path
    with pytest.raises(InputError, match=f"The output directory .*{message}"):
        files.check_new_directory(pathlib.Path(path))


@pytest.mark.parametrize("path", ["new", "new/below", "empty/../other"])
def test_directories_that_can_be_made(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    files.check_new_directory(pathlib.Path(path))
    assert not (tmp_path / "new").exists()
