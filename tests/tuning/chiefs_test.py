import os
import socket
import types

import pytest

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import TuningConfig
from gdd_keras.files import write_json
from gdd_keras.tuning import chiefs
from gdd_keras.tuning.chiefs import Absences
from gdd_keras.tuning.chiefs import ChiefElsewhere
from gdd_keras.tuning.chiefs import OwnChief
from gdd_keras.tuning.chiefs import check_address
from gdd_keras.tuning.chiefs import is_over
from gdd_keras.tuning.chiefs import role
from gdd_keras.tuning.chiefs import worker_name


@pytest.fixture
def variables(monkeypatch):
    """Sets KerasTuner's variables."""

    def set_all(ip="127.0.0.1", port="8000", name="chief"):
        for variable, value in (
            ("ORACLE_IP", ip),
            ("ORACLE_PORT", str(port)),
            ("TUNER_ID", name),
        ):
            monkeypatch.setenv(f"KERASTUNER_{variable}", value)

    return set_all


@pytest.fixture
def search(tmp_path):
    """A search of three trials."""
    return types.SimpleNamespace(
        path=tmp_path,
        tuning=TuningConfig(max_trials=3),
        space={"omega_l": (0.0, 0.1, 0.2, 0.3)},
    )


@pytest.fixture
def clock(monkeypatch):
    """What `time.monotonic` returns."""
    now = types.SimpleNamespace(value=100.0)
    monkeypatch.setattr(chiefs.time, "monotonic", lambda: now.value)
    return now


def write_state(search, ended=(), ongoing=None):
    write_json(
        search.path / "oracle.json",
        {"end_order": list(ended), "ongoing_trials": ongoing or {}},
    )


def test_roles(variables):
    assert role() == "alone"
    variables(name="the-chief")
    assert role() == "chief"
    variables(name="gpu-2.lab")
    assert (role(), worker_name()) == ("worker", "gpu-2.lab")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"port": "http"}, "ORACLE_PORT must be an integer from 1 .* http"),
        ({"port": "0"}, "ORACLE_PORT must be an integer from 1 to 65535"),
        ({"port": "65536"}, "ORACLE_PORT must be an integer from 1 to 65535"),
        ({"name": "a/b"}, "TUNER_ID must be a name of letters.*a/b"),
        ({"name": ""}, "TUNER_ID must be a name of letters"),
        ({"name": "a" * 101}, "TUNER_ID must be a name .*100 at most"),
    ],
)
def test_variables_that_cannot_be_used(given, message, variables):
    variables(**given)
    with pytest.raises(InputError, match=message):
        role()


def test_a_port_has_one_chief(variables):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        variables(port=port)
        # Nobody listens yet, but somebody is about to.
        with pytest.raises(InputError, match="nothing listens yet.*in use"):
            check_address()
        other.listen()
        with pytest.raises(InputError, match=f"127.0.0.1:{port}.*in use"):
            check_address()
    check_address()
    variables("localhost", port)
    check_address()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_address_of_the_newer_kind(variables):
    with socket.socket(socket.AF_INET6) as other:
        try:
            other.bind(("::1", 0))
        except OSError:
            pytest.skip("no address of it")
        other.listen()
        variables("[::1]", other.getsockname()[1])
        with pytest.raises(InputError, match=r"\[::1\]:[0-9]+.*in use"):
            check_address()
    check_address()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_address_of_another_machine(host, variables):
    variables(host)
    with pytest.raises(InputError, match=f"of this machine.*{host}:8000"):
        check_address()


def test_when_a_search_is_over(search):
    assert not is_over(search)
    write_state(search, ["0", "1"])
    assert not is_over(search)
    # Two workers ended the same one.
    write_state(search, ["0", "1", "1"])
    assert not is_over(search)
    write_state(search, ["0", "2", "1"])
    assert is_over(search)
    (search.path / "oracle.json").write_text("{")
    assert not is_over(search)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (ValueError("odd"), r"^the chief ended: ValueError\('odd'\); the same"),
        (OSError(28, "full", "/a"), "^/a: No space left on device. Free some"),
    ],
)
def test_own_chief_that_failed(failure, message):
    oracle = types.SimpleNamespace(failures=[])
    chief = OwnChief(oracle)
    assert not chief.is_gone()
    oracle.failures.append(failure)
    with pytest.raises(RunError, match=message):
        chief.is_gone()


def test_own_chief_ends_a_trial():
    trial = types.SimpleNamespace(trial_id="07", status="RUNNING", message=None)
    ended = []
    chief = OwnChief(
        types.SimpleNamespace(
            ongoing_trials={"w-0": trial}, end_trial=ended.append
        )
    )
    assert (chief.trial_of("w-0"), chief.trial_of("w-1")) == ("07", None)
    chief.fail("w-0", "its process ended")
    assert ended == [trial]
    assert (trial.status, trial.message) == ("FAILED", "its process ended")


def test_a_machine_gives_its_trial_up(search):
    with ChiefElsewhere(search, "a") as chief:
        assert chief.trial_of("a-0") is None
        write_state(search, ongoing={"a-0": "07"})
        assert chief.trial_of("a-0") == "07"
        with pytest.raises(RunError, match="^trial 07 of a-0: it ended.$"):
            chief.fail("a-0", "it ended")


def test_names_of_machines_differ(search):
    with ChiefElsewhere(search, "a"), ChiefElsewhere(search, "b"):
        with pytest.raises(InputError, match="another on each machine.*: a,"):
            ChiefElsewhere(search, "a")
    # Until it has ended.
    with ChiefElsewhere(search, "a"):
        pass


@pytest.fixture
def chief(search, clock):
    with ChiefElsewhere(search, "a") as elsewhere:
        yield elsewhere


def test_a_machine_leaves_a_search_that_is_over(search, chief, clock):
    file = search.path / ".worker-a"
    for _ in range(5):
        os.utime(file, (0, 0))
        assert not chief.is_gone()
        assert file.stat().st_mtime > 0
        # Not at each call.
        os.utime(file, (0, 0))
        assert not chief.is_gone()
        assert file.stat().st_mtime == 0
        clock.value += 11.0
    write_state(search, "012")
    # Its workers ask once more, and end by themselves.
    assert not chief.is_gone()
    clock.value += 29.0
    assert not chief.is_gone()
    clock.value += 11.0
    assert chief.is_gone()


def test_a_machine_whose_folder_is_away(chief, monkeypatch):
    def fail(*_):
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(chiefs.os, "utime", fail)
    assert not chief.is_gone()


def test_who_is_gone(search, clock):
    """By the chief's clock: that of the other machine may be wrong."""
    absences = Absences(search)
    file = search.path / ".worker-lab-1"
    file.touch()
    names = ["lab-1-0", "lab-1-1", "no-file-0"]
    os.utime(file, (5, 5))
    assert absences.gone(names) == []
    clock.value += 299.0
    assert absences.gone(names) == []
    os.utime(file, (4, 4))
    clock.value += 2.0
    assert absences.gone(names) == ["no-file-0"]
    clock.value += 299.0
    assert absences.gone(names[:2]) == []
    clock.value += 2.0
    assert absences.gone(names[:2]) == names[:2]
    # Back again.
    os.utime(file, (6, 6))
    assert absences.gone(names[:2]) == []
