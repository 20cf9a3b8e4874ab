"""The chief of a search, here or on another machine, and who works for it.

KerasTuner's chief hands out trials, but nobody tells it that a worker is gone,
nor a worker that the chief is: both would wait. Workers of other machines
change a file in the folder that all share, and read the chief's there.
"""

import json
import os
import re
import socket
import time

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import shown
from gdd_keras.files import storage_problem
from gdd_keras.files import take_lock
from gdd_keras.tuning.space import num_trials

__all__ = [
    "Absences",
    "ChiefElsewhere",
    "OwnChief",
    "check_address",
    "is_over",
    "role",
    "worker_name",
]

_IP = "KERASTUNER_ORACLE_IP"
_PORT = "KERASTUNER_ORACLE_PORT"
_NAME = "KERASTUNER_TUNER_ID"
_BEAT_SECONDS = 10.0
# Thirty beats: shared folders show changes late.
_ABSENT_SECONDS = 300.0
# Longer than a worker needs to ask once more, and be told to stop.
_FAREWELL_SECONDS = 30.0


def role():
    """Returns what KerasTuner's variables make of this process.

    Returns:
        `"alone"`, `"chief"` or `"worker"`.

    Raises:
        InputError: If some of them are missing, or cannot be used.
    """
    names = [_IP, _PORT, _NAME]
    missing = [name for name in names if name not in os.environ]
    if len(missing) == len(names):
        return "alone"
    if missing:
        raise InputError(
            "A search over several machines needs all of "
            f"{', '.join(names)}. Received: no {' and no '.join(missing)}. "
            "Set them, or unset all."
        )
    port = os.environ[_PORT]
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 2**16:
        raise InputError(
            f"{_PORT} must be an integer from 1 to 65535. Received: "
            f"{shown(port)}."
        )
    # Part of a file's name.
    if not re.fullmatch(r"[\w.-]{1,100}", worker_name()):
        raise InputError(
            f"{_NAME} must be a name of letters, digits, `-`, `_` and `.`, of "
            f"100 at most. Received: {shown(worker_name())}."
        )
    # KerasTuner's own rule.
    return "chief" if "chief" in worker_name() else "worker"


def worker_name():
    """Returns the name that KerasTuner's variables give this machine."""
    return os.environ[_NAME]


def check_address():
    """Refuses an address where no chief can listen.

    Two chiefs of one machine could: gRPC shares the port between them, and
    workers would reach either.

    Raises:
        InputError: If it is taken, or not of this machine.
    """
    host, port = os.environ[_IP], os.environ[_PORT]
    try:
        # gRPC writes the newer kind of address in brackets.
        family, kind, _, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM
        )[0]
        with socket.socket(family, kind) as listener:
            # Else what a chief that was killed leaves is in the way for a
            # minute.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except OSError as error:
        raise InputError(
            f"{_IP} and {_PORT} must be an address of this machine where "
            f"nothing listens yet. Received: {shown(f'{host}:{port}')} "
            f"({error.strerror}). Stop what listens there, or choose another "
            "port."
        ) from error


def is_over(search):
    """Says whether all trials of a search have ended.

    Args:
        search: `Search`.
    """
    ended = _state(search).get("end_order", ())
    # A trial that two workers ended stood there twice.
    return len(set(ended)) >= num_trials(search.tuning, search.space)


class OwnChief:
    """The chief that this process is, for its workers.

    Args:
        oracle: As from `gdd_keras.tuning.oracles.make_oracle`.
    """

    def __init__(self, oracle):
        self._oracle = oracle

    def is_gone(self):
        """Says whether workers wait in vain; raises what ended the chief.

        Raises:
            RunError: If a request failed, or the server.
        """
        if self._oracle.failures:
            failure = self._oracle.failures[0]
            reason = storage_problem(failure) or f"the chief ended: {failure!r}"
            raise RunError(f"{reason}; the same command goes on.")
        return False

    def trial_of(self, name):
        """Returns the ID of the trial that a worker has, or `None`."""
        trial = self._oracle.ongoing_trials.get(name)
        return None if trial is None else trial.trial_id

    def fail(self, name, reason):
        """Ends the trial that a worker has."""
        trial = self._oracle.ongoing_trials[name]
        trial.status = "FAILED"
        trial.message = reason
        self._oracle.end_trial(trial)


class ChiefElsewhere:
    """The chief on another machine, for the workers of this one.

    A context: this machine has its name until the block ends.

    Args:
        search: `Search`, in a folder that the chief shares.
        name: Of this machine; its workers are `<name>-0`, `<name>-1` and so
            on.

    Raises:
        InputError: If another machine has the name.
    """

    def __init__(self, search, name):
        self._search = search
        self._file = _file(search, name)
        self._lock = take_lock(
            self._file,
            InputError(
                f"{_NAME} must be another on each machine of a search. "
                f"Received: {shown(name)}, which has joined {search.path} "
                "already."
            ),
        )
        self._next_beat = time.monotonic()
        self._over_since = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._lock.close()

    def is_gone(self):
        """Tells the chief of this machine; says whether that has ended."""
        now = time.monotonic()
        if now < self._next_beat:
            return False
        self._next_beat = now + _BEAT_SECONDS
        # A shared folder may be away for a while.
        try:
            os.utime(self._file)
        except OSError:
            return False
        if not is_over(self._search):
            return False
        self._over_since = self._over_since or now
        return now > self._over_since + _FAREWELL_SECONDS

    def trial_of(self, name):
        """Returns the ID of the trial that a worker has, or `None`."""
        return _state(self._search).get("ongoing_trials", {}).get(name)

    def fail(self, name, reason):
        """Gives the trial up, which the chief hands to another machine.

        Raises:
            RunError: Always.
        """
        raise RunError(f"trial {self.trial_of(name)} of {name}: {reason}.")


class Absences:
    """Which workers of other machines have gone, without a word.

    Whether their files change is seen by the chief's clock alone, so that
    clocks need not agree.

    Args:
        search: `Search`.
    """

    def __init__(self, search):
        self._search = search
        self._seen = {}

    def gone(self, names):
        """Returns those of some names whose machine is silent since long.

        Args:
            names: Iterable of names of workers, as in `ChiefElsewhere`.
        """
        now = time.monotonic()
        return [name for name in names if now > self._heard(name, now)]

    def _heard(self, name, now):
        """Returns until when a worker is waited for."""
        try:
            file = _file(self._search, name.rpartition("-")[0])
            changed = file.stat().st_mtime_ns
        except OSError:
            changed = None
        before, until = self._seen.get(name, (None, now))
        if changed != before or name not in self._seen:
            until = now + _ABSENT_SECONDS
            self._seen[name] = (changed, until)
        return until


def _file(search, name):
    """Returns the file that a machine changes while it works."""
    return search.path / f".worker-{name}"


def _state(search):
    """Returns what the chief has written, empty for nothing."""
    try:
        return json.loads((search.path / "oracle.json").read_text())
    except (OSError, ValueError):
        # The chief itself says what is wrong with it.
        return {}
