"""KerasTuner's strategies, made to survive `kill -9`."""

import itertools
import pathlib

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from gdd_keras.files import write_json
from gdd_keras.tuning.space import HYPERBAND_EPOCHS
from gdd_keras.tuning.space import HYPERBAND_FACTOR
from gdd_keras.tuning.space import num_trials

__all__ = ["OBJECTIVE", "make_oracle"]

OBJECTIVE = keras_tuner.Objective("accuracy", "max")


class _Durable:
    """Keeps trials whole, none lost and none repeated.

    KerasTuner 1.4.8 writes its files in place, so that a kill can leave half
    a file, and a trial that was begun between two of its writes would never
    be taken up again. A proposal that was tried before is replaced: scoring
    is deterministic, a second trial would show nothing new.
    """

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
