import errno
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import types

import pytest

from gdd_keras import files
from gdd_keras.config import InputError
from gdd_keras.files import new_directory
from gdd_keras.files import next_version
from gdd_keras.files import remove_leftovers
from gdd_keras.files import storage_problem
from gdd_keras.files import take_lock
from gdd_keras.files import write_bytes
from gdd_keras.files import write_json
from gdd_keras.files import write_text

CONSTANTS = {"LOCK_EX": fcntl.LOCK_EX, "LOCK_NB": fcntl.LOCK_NB}


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


def test_replaced_directory(tmp_path):
    target = tmp_path / "new"
    for content in ("one", "two"):
        with new_directory(target, replace=True) as folder:
            (folder / content).touch()
    assert names(target) == ["two"]
    with pytest.raises(ValueError, match="broken"):
        with new_directory(target, replace=True):
            raise ValueError("broken")
    assert names(target) == ["two"]
    assert names(tmp_path) == ["new"]


def hold(kind, folder):
    """Starts a process that stops in the middle of writing."""
    writing = {
        "file": "files.os.replace = stop\nfiles.write_text('a.txt', 'a')",
        "folder": "with files.new_directory('a') as folder:\n    stop()",
    }
    code = (
        "import time\nfrom gdd_keras import files\n\n"
        "def stop(*_):\n    print('here', flush=True)\n    time.sleep(60)\n\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code + writing[kind]],
        cwd=folder,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"here\n"
    return process


def end(process):
    process.kill()
    process.communicate()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_leftovers_of_dead_processes_go(tmp_path, kind):
    (tmp_path / ".writing-mine").touch()
    process = hold(kind, tmp_path)
    try:
        (left,) = set(names(tmp_path)) - {".writing-mine"}
        assert left.startswith(".writing-")
        # A living process's stays.
        write_text(tmp_path / "b.txt", "b")
        with new_directory(tmp_path / "c"):
            pass
        assert left in names(tmp_path)
    finally:
        end(process)
    assert left in names(tmp_path)
    write_text(tmp_path / "b.txt", "b")
    # What only looks alike is the user's.
    assert names(tmp_path) == [".writing-mine", "b.txt", "c"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_leftovers_go_below_a_folder(tmp_path, kind):
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    process = hold(kind, folder)
    try:
        remove_leftovers(tmp_path)
        assert len(names(folder)) == 1
    finally:
        end(process)
    remove_leftovers(tmp_path)
    assert names(folder) == []
    remove_leftovers(tmp_path / "absent")


def test_lock_ends_with_its_process(tmp_path):
    path = tmp_path / "deep" / "lock"
    taken = InputError("taken")
    with take_lock(path, taken):
        with pytest.raises(InputError, match="taken"):
            take_lock(path, taken)
        shutil.copytree(path.parent, tmp_path / "copy")
        take_lock(tmp_path / "copy" / "lock", taken).close()
    take_lock(path, taken).close()
    code = (
        "import time\nfrom gdd_keras.files import take_lock\n"
        f"lock = take_lock({str(path)!r})\n"
        "print('here', flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"here\n"
        with pytest.raises(InputError, match="taken"):
            take_lock(path, taken)
    finally:
        end(process)
    take_lock(path, taken).close()


def test_waiting_for_a_lock(tmp_path):
    order = []

    def wait():
        with take_lock(tmp_path / "lock"):
            order.append("second")

    with take_lock(tmp_path / "lock"):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_system_without_locks(tmp_path, monkeypatch):
    leftover = tmp_path / ".writing-abcdefgh"
    leftover.touch()

    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    for module in (types.SimpleNamespace(**CONSTANTS, flock=unsupported), None):
        monkeypatch.setattr(files, "fcntl", module)
        with take_lock(tmp_path / "lock", InputError("taken")):
            take_lock(tmp_path / "lock", InputError("taken")).close()
        write_text(tmp_path / "a", "a")
        # Nobody can tell whether its process lives.
        assert leftover.exists()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            OSError(errno.ENOSPC, "", "/a/b"),
            "/a/b: No space left on device. Free some space, or choose",
        ),
        (PermissionError(errno.EACCES, ""), "A file: Permission denied. Ch"),
        (FileNotFoundError(errno.ENOENT, "", "/a/b"), None),
        (ValueError("No space left on device"), None),
    ],
)
def test_storage_problems(error, expected):
    for found in (error, RuntimeError("wrapped")):
        if found is not error:
            found.__cause__ = error
        problem = storage_problem(found)
        assert problem == expected or problem.startswith(expected)


def test_storage_problems_of_tensorflow():
    import tensorflow as tf

    full = "No space left on device"
    for place in ("/a/b c/ckpt-2_temp", "runs/digits/ckpt-2_temp/part"):
        error = tf.errors.ResourceExhaustedError(
            None,
            None,
            "{{function_node __wrapped__SaveV2_device_/job:localhost/task:0}} "
            f"{place}; {full} [Op:SaveV2]",
        )
        assert storage_problem(error) == (
            f"{place}: {full}. Free some space, or choose another place"
        )
    memory = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
    assert storage_problem(memory) is None


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


def test_directories_that_cannot_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    for target in ("empty", "nowhere"):
        link = tmp_path / f"link_to_{target}"
        link.symlink_to(target)
        with pytest.raises(InputError, match="be a plain one.* a link. Choose"):
            files.check_new_directory(link)
    monkeypatch.setattr(pathlib.Path, "is_mount", lambda self: True)
    with pytest.raises(InputError, match="where something is mounted. Choose"):
        files.check_new_directory(tmp_path / "empty")


@pytest.mark.parametrize("path", ["new", "new/below", "empty/../other"])
def test_directories_that_can_be_made(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    files.check_new_directory(pathlib.Path(path))
    assert not (tmp_path / "new").exists()
