"""KerasTuner's strategies, made to survive `kill -9`."""

import functools
import itertools
import pathlib
import threading

import keras_tuner
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.src.engine import oracle as keras_tuner_oracle

from gdd_keras.files import write_json
from gdd_keras.tuning.space import HYPERBAND_EPOCHS
from gdd_keras.tuning.space import HYPERBAND_FACTOR
from gdd_keras.tuning.space import num_trials

__all__ = ["OBJECTIVE", "make_oracle"]

OBJECTIVE = keras_tuner.Objective("accuracy", "max")


def _synchronized(method):
    """Is KerasTuner's, but lets go of its lock when the method fails.

    Every later request would wait for it, and the end of the search with
    them.
    """
    inner = keras_tuner.synchronized(method)

    @functools.wraps(method)
    def call(self, *arguments, **keywords):
        locks, threads = keras_tuner_oracle.LOCKS, keras_tuner_oracle.THREADS
        try:
            return inner(self, *arguments, **keywords)
        except BaseException as error:
            self.failures.append(error)
            if threads[self] == threading.current_thread().name:
                threads[self] = None
                locks[self].release()
            raise

    return call


class _Durable:
    """Keeps trials whole, none lost and none repeated.

    KerasTuner 1.4.8 writes its files in place, so that a kill can leave half
    a file, and a trial that was begun between two of its writes would never
    be taken up again. A proposal that was tried before is replaced: scoring
    is deterministic, a second trial would show nothing new.

    Attributes:
        failures: List of what requests failed with.
    """

    def __init__(self, **settings):
        super().__init__(**settings)
        self.failures = []

    @_synchronized
    def create_trial(self, tuner_id):
        """Returns a trial; a worker waits while others still have theirs.

        One of them may be lost, and its trial needs another worker.
        """
        trial = super().create_trial(tuner_id)
        if trial.status == TrialStatus.STOPPED and self.ongoing_trials:
            self.tuner_ids.add(tuner_id)
            trial.status = TrialStatus.IDLE
        return trial

    @_synchronized
    def update_trial(self, trial_id, metrics, step=0):
        return super().update_trial(trial_id, metrics, step)

    @_synchronized
    def end_trial(self, trial):
        """Ends a trial, which two workers may have had.

        A chief that was started anew does not know that a worker is still at
        it, nor does one that took it back from a worker that seemed gone.
        """
        name = trial.trial_id
        if name not in self.end_order:
            super().end_trial(trial)
        self._retry_queue = [n for n in self._retry_queue if n != name]
        for worker, ongoing in list(self.ongoing_trials.items()):
            if ongoing.trial_id == name:
                del self.ongoing_trials[worker]

    @_synchronized
    def take_back(self, tuner_id):
        """Forgets a worker that is gone; another one gets its trial.

        Args:
            tuner_id: Its name.

        Returns:
            ID of the trial, or `None` if it had none.
        """
        self.tuner_ids.discard(tuner_id)
        trial = self.ongoing_trials.pop(tuner_id, None)
        if trial is None:
            return None
        self._retry_queue.append(trial.trial_id)
        self.save()
        return trial.trial_id

    def save(self):
        write_json(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial):
        folder = pathlib.Path(self._get_trial_dir(trial.trial_id))
        write_json(folder / "trial.json", trial.get_state())

    def reload(self):
        super().reload()
        # A trial that the oracle had not noted is proposed again, with the
        # same name and values.
        begun = {*self.start_order}
        for trial_id in [name for name in self.trials if name not in begun]:
            del self.trials[trial_id]
        # The last trial that ended is still among the ongoing ones, which
        # KerasTuner has put into the queue. The queue is taken from the end;
        # the oldest comes first.
        unfinished = begun.difference(self.end_order)
        self._retry_queue = sorted(unfinished, key=int, reverse=True)

    def populate_space(self, trial_id):
        proposal = super().populate_space(trial_id)
        values = proposal.get("values")
        if values and self._duplicate(values):
            values = self._random_values()
            status = TrialStatus.RUNNING if values else TrialStatus.STOPPED
            return {"status": status, "values": values}
        return proposal

    def _random_values(self):
        values = super()._random_values()
        # It gives up after some that were tried; of a small space some are
        # left then.
        return self._untried() if values is None else values

    def _untried(self):
        """Returns the first combination that was not tried, or `None`."""
        names = [hp.name for hp in self.hyperparameters.space]
        axes = [list(hp.values) for hp in self.hyperparameters.space]
        for point in itertools.product(*axes):
            values = dict(zip(names, point, strict=True))
            if not self._duplicate(values):
                return values
        return None


class RandomOracle(_Durable, keras_tuner.oracles.RandomSearchOracle):
    """Values at random, each combination once."""


class BayesianOracle(_Durable, keras_tuner.oracles.BayesianOptimizationOracle):
    """Values where a Gaussian process expects most."""


class HyperbandOracle(_Durable, keras_tuner.oracles.HyperbandOracle):
    """Many short trials, of which the best go on."""


class GridOracle(_Durable, keras_tuner.Oracle):
    """Every combination, in order.

    KerasTuner's own grid search forgets its place when it is reloaded.
    """

    def populate_space(self, trial_id):
        values = self._untried()
        status = TrialStatus.RUNNING if values else TrialStatus.STOPPED
        return {"status": status, "values": values}


_ORACLES = {
    "random": RandomOracle,
    "bayesian": BayesianOracle,
    "hyperband": HyperbandOracle,
    "grid": GridOracle,
}


def make_oracle(tuning, space, seed):
    """Builds the strategy of a search.

    Args:
        tuning: `TuningConfig`.
        space: As from `gdd_keras.tuning.space.search_space`.
        seed: Integer >= 0.

    Returns:
        A `keras_tuner.Oracle` that knows its search space.
    """
    hyperparameters = keras_tuner.HyperParameters()
    for name, values in space.items():
        hyperparameters.Choice(name, list(values))
    if tuning.tuner == "hyperband":
        extent = {"max_epochs": HYPERBAND_EPOCHS, "factor": HYPERBAND_FACTOR}
    else:
        extent = {"max_trials": num_trials(tuning, space)}
    return _ORACLES[tuning.tuner](
        objective=OBJECTIVE,
        hyperparameters=hyperparameters,
        # KerasTuner takes 0 for "any seed".
        seed=seed + 1,
        # A failed trial must not end the search; beyond this number KerasTuner
        # raises while it holds a lock, and all workers would hang.
        max_consecutive_failed_trials=10**9,
        **extent,
    )
