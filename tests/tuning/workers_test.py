import collections
import multiprocessing
import os
import signal
import types

import pytest

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.tuning.workers import EXIT_FULL
from gdd_keras.tuning.workers import Workers
from gdd_keras.tuning.workers import local_address

# What processes of these tests run instead of training.
MODULE = """
import logging, os, signal, time
from gdd_keras.config import InputError, RunError


def log(search, text):
    with open(search.path / "log", "a") as file:
        file.write(text + "\\n")


def lines(search):
    path = search.path / "log"
    return path.read_text().splitlines() if path.exists() else []


def train_stage_1(search, verbose):
    name = search.path.name
    log(search, f"stage 1 {verbose}")
    if "note" in name:
        # As TensorFlow does of a function that every network traces anew.
        logging.getLogger("tensorflow").warning("5 out of the last 9 calls")
    if "bad" in name:
        raise InputError("`pool` must be another")
    if "nan" in name:
        raise RunError("a loss became nan")
    if "disk" in name:
        raise OSError(28, "No space left on device", "/a/b")
    if "dies" in name:
        (search.path / ".writing-abcdefgh").touch()
        os.kill(os.getpid(), signal.SIGKILL)


def run_trials(search, verbose):
    name = search.path.name
    worker = os.environ["KERASTUNER_TUNER_ID"]
    threads = os.environ["TF_NUM_INTRAOP_THREADS"]
    earlier = lines(search)
    log(search, f"{worker} {threads} {os.environ.get('ADDRESS')}")
    if "full" in name and len(earlier) < 2:
        raise SystemExit(75)
    if "crash" in name and len(earlier) < 2 or "always" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "bad" in name:
        raise InputError("`omega_l` must be another")
    if "waits" in name:
        time.sleep(600)
"""


class Chief:
    """Hands out no trials, or those of some workers, and is always there."""

    def __init__(self, trials=()):
        self.trials = dict(trials)
        self.failed = []
        self.is_gone = lambda: False
        self.trial_of = self.trials.get

    def fail(self, name, reason):
        self.failed.append((name, reason))


@pytest.fixture
def workers(tmp_path, monkeypatch):
    (tmp_path / "module_of_processes.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def make(name, verbose=1):
        search = types.SimpleNamespace(path=tmp_path / name)
        search.path.mkdir()
        pool = Workers(
            "module_of_processes", search, {"ADDRESS": "here"}, verbose
        )

        def log():
            # Nothing else is left, not even of a process that was killed.
            (path,) = search.path.iterdir()
            return sorted(path.read_text().splitlines())

        return pool, log

    return make


def test_stage_1(workers):
    pool, log = workers("good")
    pool.train_stage_1()
    assert log() == ["stage 1 1"]


def test_notes_of_tensorflow_stay_off_the_terminal(workers, capfd):
    pool, _ = workers("note")
    pool.train_stage_1()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("bad", InputError, "^`pool` must be another$"),
        ("nan", RunError, "^a loss became nan$"),
        ("disk", RunError, "^/a/b: No space left .* goes on with the search.$"),
        ("dies", RunError, "stage 1 ended with exit code -9.*goes on"),
    ],
)
def test_stage_1_fails(name, error, message, workers):
    pool, log = workers(name)
    with pytest.raises(error, match=message):
        pool.train_stage_1()
    assert log() == ["stage 1 1"]


def test_cores_are_shared(workers, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6))
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    pool, log = workers("good")
    pool.run_trials(2, Chief(), name="w")
    assert log() == ["w-0 3 here", "w-1 3 here"]
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    pool, log = workers("set by the user")
    pool.run_trials(2, Chief(), name="w")
    assert log() == ["w-0 1 here", "w-1 1 here"]


def test_full_worker_is_replaced(workers, capfd):
    assert EXIT_FULL == 75
    pool, log = workers("full")
    pool.run_trials(1, Chief(), name="w")
    assert len(log()) == 3
    assert capfd.readouterr() == ("", "")


def test_crashed_worker_is_replaced(workers, capfd):
    pool, log = workers("crash")
    pool.run_trials(1, Chief(), name="w")
    assert len(log()) == 3
    told = capfd.readouterr().out.splitlines()
    assert (
        told
        == ["w-0: its process ended with exit code -9; starting it anew"] * 2
    )


def test_worker_that_never_runs(workers):
    pool, log = workers("always", verbose=0)
    with pytest.raises(RunError, match="w-0 does not run: its process ended"):
        pool.run_trials(1, Chief(), name="w")
    assert len(log()) == 3


def test_trial_that_kills_its_processes_fails(workers):
    """The third crash in one trial ends the trial, not the search."""
    pool, log = workers("crash", verbose=0)
    chief = Chief({"w-0": "07"})
    crashes = collections.Counter()
    process = types.SimpleNamespace(exitcode=-signal.SIGKILL)
    reason = "its process ended with exit code -9, 3 times"
    for expected in ([], [], [("w-0", reason)]):
        pool._note_crash("w-0", process, chief, crashes)
        assert chief.failed == expected
    # Another trial has its own.
    chief.trials["w-0"] = "08"
    pool._note_crash("w-0", process, chief, crashes)
    assert len(chief.failed) == 1


def test_what_a_worker_finds_wrong(workers):
    with pytest.raises(InputError, match="^`omega_l` must be another$"):
        workers("bad")[0].run_trials(2, Chief())


def test_chief_that_ended(workers):
    """Its workers wait in vain, and are ended."""
    pool, log = workers("waits")
    chief = Chief()
    chief.is_gone = lambda: any(pool._search.path.iterdir())
    pool.run_trials(2, chief, name="w")
    assert log()
    assert multiprocessing.active_children() == []


def test_worker_that_cannot_start(workers, monkeypatch):
    """Those that could are ended with it."""
    pool, _ = workers("waits")
    start = pool._start_worker
    started = []

    def first_only(name, threads):
        if started:
            raise OSError("no more processes")
        started.append(start(name, threads))
        return started[0]

    monkeypatch.setattr(pool, "_start_worker", first_only)
    with pytest.raises(OSError, match="no more"):
        pool.run_trials(2, Chief())
    assert started[0].exitcode == -signal.SIGKILL
    # Nor would one hold up the end of this process.
    assert started[0].daemon


def test_address_is_local():
    address = local_address()
    assert address["KERASTUNER_ORACLE_IP"] == "127.0.0.1"
    assert 1024 < int(address["KERASTUNER_ORACLE_PORT"]) < 65536
