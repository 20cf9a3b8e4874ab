"""Runs a search, as KerasTuner's chief, its workers, or both."""

import contextlib
import os
import threading
import time

import grpc
from keras_tuner.errors import FatalError

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.quiet import printer
from gdd_keras.quiet import quiet_warnings
from gdd_keras.run_directory import stage_1_is_done
from gdd_keras.tuning.chiefs import Absences
from gdd_keras.tuning.chiefs import ChiefElsewhere
from gdd_keras.tuning.chiefs import OwnChief
from gdd_keras.tuning.chiefs import check_address
from gdd_keras.tuning.chiefs import is_over
from gdd_keras.tuning.oracles import make_oracle
from gdd_keras.tuning.trials import DistillationHyperModel
from gdd_keras.tuning.trials import SearchTuner
from gdd_keras.tuning.trials import train_stage_1
from gdd_keras.tuning.workers import Workers
from gdd_keras.tuning.workers import local_address

__all__ = [
    "join",
    "make_tuner",
    "run_search",
    "run_trials",
    "serve",
    "train_stage_1",
]

# Among the names of workers that a chief has heard of.
_THIS_PROCESS = "chief"
_POLL_SECONDS = 1.0
# Longer than `ChiefElsewhere` takes to end workers that do not ask any more.
_FAREWELL_SECONDS = 60.0


def run_search(search, workers=1, verbose=1):
    """Trains stage 1 if needed, then runs all trials that are left.

    Trials run in worker processes: one that crashes takes nothing along, and
    memory that TensorFlow does not give back ends with its process.

    Args:
        search: `Search`; only one process may run it, see `Search.locked`.
        workers: Number of worker processes.
        verbose: 1 prints progress, 0 nothing.

    Raises:
        InputError: If a setting cannot be used.
        RunError: If stage 1 diverges, or the workers do not run.
    """
    if is_over(search):
        return
    _need_stage_1(search, verbose)
    address = local_address()
    with _environment({**address, "KERASTUNER_TUNER_ID": "chief"}):
        with _serving(search) as oracle:
            Workers(__name__, search, address, verbose).run_trials(
                workers, OwnChief(oracle)
            )


def serve(search, verbose=1):
    """Trains stage 1 if needed, then hands out trials to other machines.

    A worker that is silent for minutes is taken for gone; its trial goes to
    another one.

    Args:
        search: `Search`; only one process may serve it, see `Search.locked`.
        verbose: 1 prints progress, 0 nothing.

    Raises:
        InputError: If no chief can listen at the address.
        RunError: If stage 1 diverges, or a request cannot be answered.
    """
    if is_over(search):
        return
    check_address()
    _need_stage_1(search, verbose)
    say = printer(verbose)
    with _serving(search) as oracle:
        say("waiting for workers", flush=True)
        chief, absences = OwnChief(oracle), Absences(search)
        while not (chief.is_gone() or is_over(search)):
            time.sleep(_POLL_SECONDS)
            for name in absences.gone(_others(oracle)):
                trial = oracle.take_back(name)
                say(f"{name} is silent{_trial_of(trial)}", flush=True)
        # Each asks once more, to be told that it is over. One that is gone
        # does not.
        end = time.monotonic() + _FAREWELL_SECONDS
        while _others(oracle) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)


def join(search, name, workers=1, verbose=1):
    """Runs the trials that a chief elsewhere hands out.

    Args:
        search: `Search`, in a folder that the chief shares.
        name: Of this machine's workers.
        workers: Number of worker processes.
        verbose: 1 prints progress, 0 nothing.

    Raises:
        InputError: If the name is taken, or a setting cannot be used.
        RunError: If the chief does not answer, or the workers do not run.
    """
    say = printer(verbose)
    with ChiefElsewhere(search, name) as chief:
        # A request to a chief that does not listen yet fails after an hour.
        if not stage_1_is_done(search.stage_1):
            say(f"waiting for stage 1 in {search.stage_1}", flush=True)
        while not stage_1_is_done(search.stage_1):
            time.sleep(_POLL_SECONDS)
        if is_over(search):
            say("all trials have ended", flush=True)
            return
        pool = Workers(__name__, search, {}, verbose)
        pool.run_trials(workers, chief, name)


def run_trials(search, verbose=1):
    """Runs trials in this process until there are no more.

    Args:
        search: `Search`, its stage 1 trained.
        verbose: 1 prints two lines for each trial, 0 nothing.

    Raises:
        InputError: If a setting cannot be used.
        RunError: If a request to the chief fails.
    """
    try:
        _search(make_tuner(search, verbose=verbose))
    except (FatalError, grpc.RpcError) as error:
        cause = error.__cause__ if isinstance(error, FatalError) else error
        if isinstance(cause, InputError):
            raise InputError(str(error)) from error
        if isinstance(cause, grpc.RpcError):
            raise RunError(
                f"a request to the chief failed: {cause.details()}. See what "
                "it says, then start this worker again."
            ) from error
        raise


def make_tuner(search, dataset=None, verbose=1):
    """Builds the tuner of a search, where it left off.

    KerasTuner's environment variables decide whether it is the chief, a
    worker, or alone.

    Args:
        search: `Search`.
        dataset: `Dataset`, or `None` to load it when a trial needs it.
        verbose: 1 prints two lines for each trial, 0 nothing.

    Returns:
        `SearchTuner`.
    """
    oracle = make_oracle(search.tuning, search.space, search.config.run.seed)
    with quiet_warnings():
        return SearchTuner(
            oracle, DistillationHyperModel(search, dataset), verbose
        )


def _need_stage_1(search, verbose):
    """Trains stage 1, in a process of its own, unless that is done."""
    if not stage_1_is_done(search.stage_1):
        Workers(__name__, search, {}, verbose).train_stage_1()


@contextlib.contextmanager
def _serving(search):
    """Hands out trials in a thread.

    KerasTuner's server ends once every worker that it has heard of was told
    to. One that starts later would wait an hour for it, so this process counts
    as a worker until the block ends. It knows when the last trial was; the
    server asks every twenty seconds only.

    Yields:
        The oracle; its `failures` say what ended the server.
    """
    tuner = make_tuner(search, verbose=0)
    oracle = tuner.oracle

    def chief():
        try:
            _search(tuner)
        except Exception as error:
            oracle.failures.append(error)

    oracle.tuner_ids.add(_THIS_PROCESS)
    threading.Thread(target=chief, daemon=True).start()
    try:
        yield oracle
    finally:
        oracle.tuner_ids.discard(_THIS_PROCESS)


def _others(oracle):
    """Returns the names of workers that were not told to stop."""
    return set(oracle.tuner_ids) - {_THIS_PROCESS}


def _trial_of(trial):
    if trial is None:
        return ""
    return f"; trial {int(trial) + 1} goes to another worker"


def _search(tuner):
    # KerasTuner calls threads by names that Python has given up.
    with quiet_warnings():
        tuner.search()


@contextlib.contextmanager
def _environment(values):
    """Sets environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
