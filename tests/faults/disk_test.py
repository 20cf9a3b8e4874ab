"""Disks that are full, read-only, or small, and limits on files."""

import contextlib
import os
import pathlib
import re
import resource
import shutil
import subprocess

import numpy as np
import pytest

from gdd_keras import convert
from gdd_keras import evaluate
from gdd_keras import generate
from gdd_keras import job
from gdd_keras import report
from gdd_keras import run_directory
from gdd_keras import saved_model

pytestmark = pytest.mark.slow

FULL = r"No space left on device\. Free some space, or choose another place; "
CONTINUES = r"the same command continues from the last checkpoint\.\n"


class Disk:
    """A file system in memory.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, path):
        self.path = path
        self._mount("-t", "tmpfs", "-o", "size=64m", "tmpfs")

    def remount(self, options):
        self._mount("-o", f"remount,{options}")

    def fill(self, leave):
        """Fills it but for some bytes; returns the file that does."""
        ballast = self.path / "ballast"
        with contextlib.suppress(OSError), open(ballast, "wb", 0) as file:
            while True:
                file.write(bytes(4096))
        with open(ballast, "ab") as file:
            file.truncate(file.tell() - leave)
        return ballast

    def _mount(self, *arguments):
        command = ["mount", *arguments, str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted: {done.stderr}")


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A `Disk` as the working directory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = Disk(folder)
    except FileNotFoundError:
        pytest.skip("no file system can be mounted: there is no `mount`")
    monkeypatch.chdir(folder)
    yield mounted
    monkeypatch.undo()
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def run(capsys):
    """Function that runs a command here."""

    def call(command, *arguments):
        capsys.readouterr()
        code = command.main([str(argument) for argument in arguments])
        return code, capsys.readouterr().err

    return call


@pytest.fixture
def distill(disk, run, flags):
    """Function that runs `distill` on the disk."""
    from gdd_keras import distill

    return lambda *more: run(distill, *flags, *more)


def test_full_while_a_checkpoint_is_written(
    disk, distill, unbroken, assert_same, monkeypatch
):
    plain, saves = run_directory.RunDirectory.save, []

    def save(self, **changes):
        plain(self, **changes)
        saves.append(changes)
        # Fingerprint, plan, and the first epoch. The next image will fit.
        if len(saves) == 3:
            disk.fill(leave=2**16)

    with monkeypatch.context() as patch:
        patch.setattr(run_directory.RunDirectory, "save", save)
        code, err = distill()
    assert code == 1
    place = r"runs/digits/checkpoints/cgan/ckpt-8\S*: "
    assert re.fullmatch(rf"\nfailed: {place}{FULL}{CONTINUES}", err)
    folder = disk.path / "runs" / "digits" / "checkpoints" / "cgan"
    assert [path.name for path in folder.glob("*.index")] == ["ckpt-4.index"]
    (disk.path / "ballast").unlink()
    assert distill() == (0, "")
    assert_same(disk.path, unbroken)
    # Nothing of the failed one takes up space.
    assert sorted(path.stem for path in folder.glob("ckpt*")) == [
        *("ckpt-4", "ckpt-4", "ckpt-8", "ckpt-8")
    ]


def test_full_while_the_export_is_written(
    disk, distill, unbroken, entries, monkeypatch
):
    plain = saved_model.save_network

    def save(*arguments):
        disk.fill(leave=2**15)
        plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(saved_model, "save_network", save)
        code, err = distill()
    assert code == 1
    place = r"saved_models/digits/\.writing-1-\w{8}/\S*: "
    assert re.fullmatch(rf"\nfailed: {place}{FULL}{CONTINUES}", err)
    assert list((disk.path / "saved_models" / "digits").iterdir()) == []
    (disk.path / "ballast").unlink()
    with monkeypatch.context() as patch:
        # Both stages are there.
        patch.setattr(job, "plan_training", pytest.fail)
        assert distill() == (0, "")
    assert entries("saved_models") == entries(unbroken / "saved_models")


@pytest.mark.parametrize("set_format", ["tfrecord", "tfds", "npz", "png"])
def test_full_while_a_set_is_written(
    set_format, disk, run, unbroken, tmp_path, entries
):
    arguments = ["--model", unbroken / "saved_models" / "digits"]
    arguments += ["--ipc", 300, "--quiet", "--format", set_format]
    sharded = set_format in ("tfrecord", "tfds")
    if sharded:
        arguments += ["--shards", 16]
    # A few shards, but not all of them.
    disk.remount("size=128k")
    code, err = run(generate, *arguments, "--output", "set")
    assert code == 1
    assert re.fullmatch(
        r"\nfailed: set could not be written \(.*No space left on device.*\)\. "
        r"Nothing is left half written; free space or choose another "
        r"`--output`\.\n",
        err,
    )
    left = [path.name for path in disk.path.iterdir()]
    assert left == ([".partial-set"] if sharded else [])
    disk.remount("size=16m")
    assert run(generate, *arguments, "--output", "set") == (0, "")
    assert [path.name for path in disk.path.iterdir()] == ["set"]
    # The same set, also where shards of the first attempt were kept.
    assert run(generate, *arguments, "--output", tmp_path / "other")[0] == 0
    assert entries("set") == entries(tmp_path / "other")
    for name in entries("set"):
        ours, theirs = disk.path / "set" / name, tmp_path / "other" / name
        if ours.is_file() and ours.suffix != ".npz":
            assert ours.read_bytes() == theirs.read_bytes()
    if set_format == "npz":
        (name,) = (n for n in entries("set") if n.endswith(".npz"))
        with np.load(disk.path / "set" / name) as ours:
            with np.load(tmp_path / "other" / name) as theirs:
                np.testing.assert_array_equal(ours["images"], theirs["images"])


def test_read_only_disk(disk, distill, run, unbroken):
    model = ["--model", unbroken / "saved_models" / "digits"]
    disk.remount("ro")
    code, err = distill()
    assert code == 2
    assert re.fullmatch(
        r"error: `--saved-models` must be a folder, or one that can be made\. "
        r".* is read-only\. .*\n",
        err,
    )
    other = ["--saved-models", unbroken / "saved_models"]
    code, err = distill(*other)
    assert code == 2
    assert re.fullmatch(
        r"error: The run's folder must be .* \(Read-only file system\)\..*\n",
        err,
    )
    code, err = run(generate, *model, "--output", "set")
    assert code == 2
    refused = r"error: The output directory must be .* is read-only\. .*\n"
    assert re.fullmatch(refused, err)
    code, err = run(convert, *model, "--to", "litert", "--output", "converted")
    assert code == 2
    assert re.fullmatch(refused, err)
    code, err = run(report, unbroken / "runs" / "digits", "--output", "report")
    assert code == 2
    assert re.fullmatch(r"error: The folder around `--output` must .*\n", err)
    code, err = run(evaluate, *model, "--results", "results", "--num-seeds", 1)
    assert code == 2
    assert re.fullmatch(r"error: `--results` must be .*Read-only.*\n", err)


def test_folder_of_another_user(disk, run, unbroken):
    if os.geteuid():
        pytest.skip("only root can become another user")
    # Looked up from here: others may not enter the folders above.
    shutil.copytree(unbroken / "saved_models" / "digits", "digits")
    (disk.path / "closed").mkdir(mode=0o755)
    arguments = ["--model", "digits", "--output", "closed/set"]
    os.seteuid(65534)
    try:
        npz = run(generate, *arguments)
        records = run(generate, *arguments, "--format", "tfrecord")
        converted = run(convert, *arguments, "--to", "saved_model")
    finally:
        os.seteuid(0)
    assert [code for code, _ in (npz, records, converted)] == [1, 1, 1]
    for _, err in (npz, records, converted):
        assert re.fullmatch(r"\nfailed: .*Permission denied.*\n", err)
    assert list((disk.path / "closed").iterdir()) == []


def test_disk_that_becomes_read_only(
    disk, distill, unbroken, assert_same, monkeypatch
):
    plain, saves = run_directory.RunDirectory.save, []
    folder = pathlib.Path("runs") / "digits" / "checkpoints" / "cgan"

    def save(self, **changes):
        plain(self, **changes)
        saves.append(changes)
        if len(saves) == 3:
            # Not the whole disk, where files are open for writing.
            for arguments in (
                ("--bind", folder, folder),
                ("-o", "remount,bind,ro", folder),
            ):
                subprocess.run(["mount", *arguments], check=True)

    with monkeypatch.context() as patch:
        patch.setattr(run_directory.RunDirectory, "save", save)
        code, err = distill()
    subprocess.run(["umount", folder], check=True)
    assert code == 1
    assert re.fullmatch(
        r"\nfailed: \S+: Read-only file system\. Make it writable, or choose "
        rf"another place; {CONTINUES}",
        err,
    )
    assert distill() == (0, "")
    assert_same(disk.path, unbroken)


def test_limit_on_the_size_of_files(
    command, flags, unbroken, assert_same, tmp_path
):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Everything but checkpoints is smaller; Python ignores SIGXFSZ.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        code, _, err = command(*flags)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert re.fullmatch(
        r"\nfailed: runs/digits/\S+: File too large\. Allow larger files, or "
        rf"choose another place; {CONTINUES}",
        err,
    )
    assert command(*flags)[::2] == (0, "")
    assert_same(tmp_path, unbroken)
