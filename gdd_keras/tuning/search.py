"""Runs a search, as KerasTuner's chief, its workers, or both."""

import contextlib
import os
import threading

from keras_tuner.errors import FatalError

from gdd_keras.config import InputError
from gdd_keras.quiet import quiet_warnings
from gdd_keras.run_directory import stage_1_is_done
from gdd_keras.tuning.oracles import make_oracle
from gdd_keras.tuning.space import num_trials
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
    address = local_address()
    pool = Workers(__name__, search, address, verbose)
    if not stage_1_is_done(search.stage_1):
        pool.train_stage_1()
    with _environment({**address, "KERASTUNER_TUNER_ID": "chief"}):
        tuner = make_tuner(search, verbose=0)
        # A trial that two workers ended stands there twice.
        ended = len(set(tuner.oracle.end_order))
        if ended >= num_trials(search.tuning, search.space):
            return
        failures = []

        def chief():
            try:
                _search(tuner)
            except Exception as error:
                failures.append(error)

        # KerasTuner's server ends once every worker that it has heard of was
        # told to. One that starts later would wait an hour for it, so this
        # process counts as a worker until all others have ended. They know
        # when the last trial was; the server asks every twenty seconds only.
        tuner.oracle.tuner_ids.add(_THIS_PROCESS)
        threading.Thread(target=chief, daemon=True).start()
        try:
            pool.run_trials(workers, tuner.oracle, failures)
        finally:
            tuner.oracle.tuner_ids.discard(_THIS_PROCESS)


def serve(search, verbose=1):
    """Trains stage 1 if needed, then hands out trials to other machines.

    Args:
        search: `Search`.
        verbose: 1 prints progress, 0 nothing.
    """
    if not stage_1_is_done(search.stage_1):
        Workers(__name__, search, {}, verbose).train_stage_1()
    if verbose:
        print("waiting for workers", flush=True)
    _search(make_tuner(search, verbose=0))


def join(search, name, workers=1, verbose=1):
    """Runs the trials that a chief elsewhere hands out.

    Args:
        search: `Search`, in a folder that the chief shares.
        name: Of this machine's workers.
        workers: Number of worker processes.
        verbose: 1 prints progress, 0 nothing.
    """
    Workers(__name__, search, {}, verbose).run_trials(workers, name=name)


def run_trials(search, verbose=1):
    """Runs trials in this process until there are no more.

    Args:
        search: `Search`, its stage 1 trained.
        verbose: 1 prints two lines for each trial, 0 nothing.

    Raises:
        InputError: If a setting cannot be used.
    """
    try:
        _search(make_tuner(search, verbose=verbose))
    except FatalError as error:
        if isinstance(error.__cause__, InputError):
            raise InputError(str(error)) from error
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
