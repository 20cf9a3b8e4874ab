"""What a search leaves: best config, table of trials, curves."""

import csv
import dataclasses
import io
import json
import pathlib
import statistics

from gdd_keras.config import InputError
from gdd_keras.config import config_to_json
from gdd_keras.config import make_config
from gdd_keras.files import write_bytes
from gdd_keras.files import write_json
from gdd_keras.files import write_text
from gdd_keras.tuning.curves import weight_png

__all__ = [
    "TrialResult",
    "completed",
    "read_trials",
    "write_outcome",
]

_RESULT = "result.json"


@dataclasses.dataclass
class TrialResult:
    """What became of a trial.

    Attributes:
        values: Dict from searched field to value.
        accuracies: On held-out images, in [0, 1], one for each network.
        epochs: Of Hyperband's, or `None`.
        seconds: Time that the last attempt took.
        memory_mb: Resident memory of its process at the end.
        failure: Why it failed, or `None`.
        trial_id: KerasTuner's.
        status: KerasTuner's, `"COMPLETED"` or `"FAILED"` at the end.
    """

    values: dict
    accuracies: list = dataclasses.field(default_factory=list)
    epochs: int | None = None
    seconds: float = 0.0
    memory_mb: int = 0
    failure: str | None = None
    trial_id: str | None = None
    status: str | None = None

    @property
    def mean(self):
        """Mean accuracy, or `None`."""
        return statistics.fmean(self.accuracies) if self.accuracies else None

    @property
    def std(self):
        """Sample deviation, `None` for fewer than two networks."""
        if len(self.accuracies) < 2:
            return None
        return statistics.stdev(self.accuracies)

    @property
    def accuracy_text(self):
        """Mean and deviation as text."""
        if self.std is None:
            return f"{self.mean:.2%} (one network)"
        return f"{self.mean:.2%} ± {self.std:.2%}"

    def write(self, folder):
        """Writes the result into the trial's folder."""
        values = dataclasses.asdict(self)
        del values["trial_id"], values["status"]
        write_json(pathlib.Path(folder) / _RESULT, values)


def read_trials(search):
    """Reads all trials that have ended.

    Args:
        search: `Search`.

    Returns:
        List of `TrialResult`, in order.

    Raises:
        InputError: If a file is damaged.
    """
    trials = []
    for file in search.path.glob("trial_*/trial.json"):
        try:
            trial = _read_trial(search, file)
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"{file.parent} must hold a trial of a search, whole. "
                f"Received: {error!r}. Move it away."
            ) from error
        if trial.status in ("COMPLETED", "FAILED"):
            trials.append(trial)
    # A search that was given more trials has names of two lengths.
    return sorted(trials, key=lambda trial: int(trial.trial_id))


def _read_trial(search, file):
    """Reads KerasTuner's file and ours."""
    state = json.loads(file.read_text())
    result = file.with_name(_RESULT)
    if result.exists():
        trial = TrialResult(**json.loads(result.read_text()))
    else:
        # Its process died before it could write, or is at work.
        values = state["hyperparameters"]["values"]
        trial = TrialResult({name: values[name] for name in search.space})
    trial.trial_id, trial.status = state["trial_id"], state["status"]
    if trial.status == "FAILED" and trial.failure is None:
        trial.failure = state["message"] or "unknown"
    return trial


def completed(trials):
    """Returns the trials that can be compared.

    Those of Hyperband that were stopped early are left out.
    """
    done = [trial for trial in trials if trial.status == "COMPLETED"]
    longest = max((trial.epochs or 0 for trial in done), default=0)
    return [trial for trial in done if (trial.epochs or 0) == longest]


def write_outcome(search):
    """Writes what a search leaves, as far as it has come.

    `trials.csv`; `best_config.json`, which `distill --config` runs; one PNG
    for each searched weight, accuracy against it.

    Args:
        search: `Search`.

    Returns:
        The best `TrialResult`, or `None` if no trial was completed.
    """
    trials = read_trials(search)
    write_text(search.path / "trials.csv", _table(search, trials))
    done = completed(trials)
    if not done:
        return None
    best = max(done, key=lambda trial: trial.mean)
    config = make_config(base=search.config, **best.values)
    write_text(search.path / "best_config.json", config_to_json(config))
    for name in ("omega_g", "omega_l"):
        if name in search.space:
            content = weight_png(search, done, name)
            write_bytes(search.path / f"{name}.png", content)
    return best


def _table(search, trials):
    """Returns the trials as CSV."""
    text = io.StringIO()
    columns = [
        "trial",
        "status",
        *search.space,
        "accuracy_mean",
        "accuracy_std",
        "accuracies",
        "epochs",
        "seconds",
        "memory_mb",
        "failure",
    ]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        writer.writerow(
            {
                "trial": trial.trial_id,
                "status": trial.status,
                **trial.values,
                "accuracy_mean": trial.mean,
                "accuracy_std": trial.std,
                "accuracies": " ".join(map(str, trial.accuracies)),
                "epochs": trial.epochs,
                "seconds": trial.seconds,
                "memory_mb": trial.memory_mb,
                "failure": trial.failure,
            }
        )
    return text.getvalue()
