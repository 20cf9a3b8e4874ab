"""One trial of a search: stage 2 from the shared stage 1, then its score."""

import dataclasses
import gc
import shutil
import statistics
import sys
import time

import grpc
import keras
import keras_tuner
import psutil
import tensorflow as tf
from keras_tuner.engine import base_tuner
from keras_tuner.errors import FailedTrialError
from keras_tuner.errors import FatalRuntimeError
from keras_tuner.errors import FatalValueError
from keras_tuner.src import config as keras_tuner_config

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import make_config
from gdd_keras.data import load_dataset
from gdd_keras.evaluation.protocols import evaluate_source
from gdd_keras.evaluation.sources import GeneratorStream
from gdd_keras.evaluation.sources import UnexportedGenerator
from gdd_keras.files import storage_problem
from gdd_keras.files import take_lock
from gdd_keras.latents import fitted_generator
from gdd_keras.monitoring import hyperparameters
from gdd_keras.monitoring import write_hparams
from gdd_keras.quiet import printer
from gdd_keras.run_directory import RunDirectory
from gdd_keras.run_directory import stage_1_is_done
from gdd_keras.training import build_stages
from gdd_keras.training import check_same_data
from gdd_keras.training import plan_training
from gdd_keras.training import train_stage
from gdd_keras.tuning.curves import describe_values
from gdd_keras.tuning.outcome import TrialResult
from gdd_keras.tuning.space import HYPERBAND_EPOCHS
from gdd_keras.tuning.space import num_trials
from gdd_keras.tuning.workers import EXIT_FULL

__all__ = ["DistillationHyperModel", "SearchTuner", "train_stage_1"]

# Else a failed trial, which is told in one line, prints its traceback too.
keras_tuner_config.DEBUG = False

_GROWTH_MB = 500


def train_stage_1(search, dataset=None, verbose=1):
    """Trains what all trials share; returns at once if that is done.

    Args:
        search: `Search`.
        dataset: `Dataset`, or `None` to load it.
        verbose: 1 for progress bars, 0 for silence.

    Raises:
        InputError: If the data changed since.
        RunError: If a loss becomes NaN.
    """
    if stage_1_is_done(search.stage_1):
        return
    run = RunDirectory(search.stage_1, search.config)
    if dataset is None:
        dataset = load_dataset(search.config.data, search.config.run.seed)
    check_same_data(run, dataset)
    # Built whole, so that a wrong pool is refused before hours of stage 1.
    stages = build_stages(search.config, dataset)
    plans = plan_training(stages, search.config, dataset, num_timed=0)
    if verbose:
        print("\nstage 1, conditional GAN, shared by all trials", flush=True)
    train_stage(stages[0], plans[0], run, search.config, verbose)


class DistillationHyperModel(keras_tuner.HyperModel):
    """The search space, and how a point of it is trained and scored.

    Args:
        search: `Search`, its stage 1 trained.
        dataset: `Dataset`, or `None` to load it when a trial needs it.
    """

    def __init__(self, search, dataset=None):
        super().__init__(name="distillation")
        self.search = search
        self._dataset = dataset

    @property
    def dataset(self):
        """The data, loaded once."""
        if self._dataset is None:
            config = self.search.config
            self._dataset = load_dataset(config.data, config.run.seed)
        return self._dataset

    def build(self, hp):
        """Returns the `Config` of a trial.

        Not a Keras model: a trial trains three networks of its own and is
        resumable, so that it is built from its settings in `fit`.

        Args:
            hp: `keras_tuner.HyperParameters`.
        """
        values = {
            name: hp.Choice(name, list(values))
            for name, values in self.search.space.items()
        }
        return make_config(base=self.search.config, **values)

    def fit(self, hp, config, trial_id, epochs=None):
        """Trains stage 2 and the networks that score it.

        What was finished before an interruption is not done again.

        Args:
            hp: `keras_tuner.HyperParameters`.
            config: As from `build`.
            trial_id: Trial in whose folder the runs lie.
            epochs: Of `HYPERBAND_EPOCHS`, the part of stage 2 to train;
                `None` trains all of it.

        Returns:
            List of accuracies on the held-out part, in [0, 1], one for each
            network.

        Raises:
            InputError: If a setting cannot be used.
            RunError: If a loss becomes NaN.
        """
        accuracies = []
        # A chief that was started anew may hand a trial to a second worker:
        # that waits here, then finds it done.
        with take_lock(self.search.trial(trial_id) / ".lock"):
            for repeat in range(self.search.tuning.trial_repeats):
                accuracies += self._fit_once(config, trial_id, repeat, epochs)
        return accuracies

    def _fit_once(self, config, trial_id, repeat, epochs):
        """Trains and scores one repeat, or reads its score."""
        settings = {"distill_seed": _stage_2_seed(config, repeat)}
        if epochs is not None:
            steps = config.matching.distill_steps // HYPERBAND_EPOCHS
            settings["steps_per_epoch"] = max(1, steps)
        config = make_config(base=config, **settings)
        run = RunDirectory(
            self.search.trial(trial_id) / f"repeat_{repeat}", config
        )
        key = "whole" if epochs is None else str(epochs)
        scores = run.state.setdefault("accuracies", {})
        if key not in scores:
            whole = epochs in (None, HYPERBAND_EPOCHS)
            trainer = self._train(config, run, None if whole else epochs)
            first_seed = repeat * self.search.tuning.trial_networks
            scores[key] = self._score(
                fitted_generator(trainer, self.dataset.train, config),
                config,
                first_seed,
            )
            run.save(accuracies=scores)
            if whole:
                shutil.rmtree(run.path / "checkpoints")
            # Each trial builds networks anew; Keras keeps the old ones.
            del trainer
            keras.backend.clear_session()
            gc.collect()
        return scores[key]

    def _train(self, config, run, last_epoch):
        """Returns the trainer of stage 2, trained."""
        run.adopt_stage_1(self.search.stage_1)
        check_same_data(run, self.dataset)
        gan, distiller = build_stages(config, self.dataset)
        plans = plan_training(
            [gan, distiller], config, self.dataset, num_timed=0
        )
        train_stage(gan, plans[0], run, config, verbose=0)
        distiller.trainer.continue_from(gan.trainer)
        train_stage(
            distiller, plans[1], run, config, verbose=0, last_epoch=last_epoch
        )
        return distiller.trainer

    def _score(self, generator, config, first_seed):
        """Returns accuracies on the held-out part of the training split."""
        tuning = self.search.tuning
        settings = dataclasses.replace(
            config.evaluation,
            protocol="stream",
            ipc=tuning.trial_ipc,
            num_seeds=tuning.trial_networks,
            eval_epochs=tuning.trial_epochs,
            # A trial has no export that could give others.
            eval_labels="hard",
        )
        drawn = UnexportedGenerator(generator, config.generation.label_mixing)
        scores = evaluate_source(
            GeneratorStream(drawn, settings.ipc),
            self.dataset,
            settings,
            seed=config.run.seed + first_seed,
            split="validation",
            verbose=0,
        )
        return [score.accuracy for score in scores]


class SearchTuner(base_tuner.BaseTuner):
    """Runs trials, says what it tries, and keeps a record of each.

    Continues the search that lies in the folder.

    Args:
        oracle: As from `make_oracle`.
        hypermodel: `DistillationHyperModel`.
        verbose: 1 prints two lines for each trial, 0 nothing.
    """

    def __init__(self, oracle, hypermodel, verbose=1):
        self.search_settings = hypermodel.search
        path = self.search_settings.path
        super().__init__(
            oracle, hypermodel, directory=path.parent, project_name=path.name
        )
        self._say = printer(verbose)
        self._waits = False
        self._first_memory = None
        self.oracle.verbose = 0
        # `BaseTuner` looks for a file of its own, which holds nothing.
        if not self._is_worker() and (path / "oracle.json").exists():
            self.oracle.reload()

    def save(self):
        """Writes nothing but the oracle, which only the chief has."""
        if not self._is_worker():
            self.oracle.save()

    def pre_create_trial(self):
        if self._is_worker() and self._is_full():
            sys.exit(EXIT_FULL)
        # A strategy that waits for other workers is asked once a second.
        if self._waits:
            time.sleep(1.0)
        self._waits = True

    def on_trial_begin(self, trial):
        self._waits = False

    def on_trial_end(self, trial):
        super().on_trial_end(trial)
        if self._first_memory is None:
            self._first_memory = _memory_mb()

    def run_trial(self, trial):
        """Runs a trial.

        Args:
            trial: `keras_tuner.engine.trial.Trial`.

        Returns:
            Dict with the objective, `accuracy`.

        Raises:
            FailedTrialError: If training diverges or memory does not suffice.
            FatalValueError: If a setting cannot be used.
            FatalRuntimeError: On anything unexpected, which must not look
                like many trials that failed.
        """
        try:
            return self._run_trial(trial)
        except (OSError, tf.errors.OpError) as error:
            raise FatalRuntimeError(str(error)) from error

    def _run_and_update_trial(self, trial, *arguments, **keywords):
        try:
            super()._run_and_update_trial(trial, *arguments, **keywords)
        except grpc.RpcError as error:
            # KerasTuner would call the trial failed, whose chief is.
            raise FatalRuntimeError(str(error)) from error

    def _run_trial(self, trial):
        started = time.monotonic()
        config = self.hypermodel.build(trial.hyperparameters)
        values = {
            name: trial.hyperparameters.get(name)
            for name in self.search_settings.space
        }
        name = self._name(trial)
        self._say(f"{name}: {describe_values(values)}", flush=True)
        epochs = trial.hyperparameters.values.get("tuner/epochs")
        result = TrialResult(values, epochs=epochs)
        try:
            result.accuracies = self.hypermodel.fit(
                trial.hyperparameters, config, self._first(trial), epochs
            )
        except InputError as error:
            raise FatalValueError(str(error)) from error
        except (RunError, tf.errors.OpError) as error:
            # A full disk is not the trial's fault.
            if storage_problem(error) is not None:
                raise
            result.failure = str(error).strip()
            self._say(f"{name} failed: {result.failure}", flush=True)
            raise FailedTrialError(result.failure) from error
        except Exception as error:
            raise FatalRuntimeError(f"{name}: {error!r}") from error
        finally:
            result.seconds = round(time.monotonic() - started, 1)
            result.memory_mb = _memory_mb()
            result.write(self.search_settings.trial(trial.trial_id))
        mean = statistics.fmean(result.accuracies)
        write_hparams(
            self.search_settings.trial(trial.trial_id),
            hyperparameters(config),
            {"accuracy/held_out": mean},
        )
        self._say(
            f"{name}: {result.accuracy_text} on held-out images "
            f"({result.seconds:.0f} s)",
            flush=True,
        )
        return {"accuracy": mean}

    def _is_full(self):
        """Says whether memory has grown much since the first trial.

        TensorFlow keeps functions that no model uses any more, tens of MB a
        trial; only the end of the process gives them back.
        """
        if self._first_memory is None:
            return False
        return _memory_mb() > self._first_memory + _GROWTH_MB

    def _name(self, trial):
        total = num_trials(
            self.search_settings.tuning, self.search_settings.space
        )
        return f"trial {int(trial.trial_id) + 1} of {total}"

    def _first(self, trial):
        """Returns the trial whose runs Hyperband continues, or the trial."""
        while "tuner/trial_id" in trial.hyperparameters.values:
            earlier = trial.hyperparameters.values["tuner/trial_id"]
            trial = self.oracle.get_trial(earlier)
        return trial.trial_id


def _stage_2_seed(config, repeat):
    first = config.matching.distill_seed
    if first is None:
        first = config.run.seed
    return (first + repeat) % 2**31


def _memory_mb():
    return round(psutil.Process().memory_info().rss / 2**20)
