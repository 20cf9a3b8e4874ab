"""What a search leaves: best config, table of trials, curves."""

import csv
import dataclasses
import io
import json
import pathlib
import statistics

from gdd_keras.config import config_to_json
from gdd_keras.config import make_config
from gdd_keras.files import write_bytes
from gdd_keras.files import write_json
from gdd_keras.files import write_text

__all__ = [
    "TrialResult",
    "describe_values",
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


def describe_values(values):
    """Returns the values of a trial as text."""
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def read_trials(search):
    """Reads all trials that have ended.

    Args:
        search: `Search`.

    Returns:
        List of `TrialResult`, in order.
    """
    trials = []
    for file in sorted(search.path.glob("trial_*/trial.json")):
        state = json.loads(file.read_text())
        result = file.with_name(_RESULT)
        if state["status"] not in ("COMPLETED", "FAILED"):
            continue
        if result.exists():
            trial = TrialResult(**json.loads(result.read_text()))
        else:
            # Its process died before it could write.
            values = state["hyperparameters"]["values"]
            trial = TrialResult({name: values[name] for name in search.space})
        trial.trial_id, trial.status = state["trial_id"], state["status"]
        if trial.status == "FAILED" and trial.failure is None:
            trial.failure = state["message"] or "unknown"
        trials.append(trial)
    return trials


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
    done = [trial for trial in trials if trial.status == "COMPLETED"]
    if not done:
        return None
    # Hyperband's shorter trials were stopped early: only equals compare.
    longest = max(trial.epochs or 0 for trial in done)
    done = [trial for trial in done if (trial.epochs or 0) == longest]
    best = max(done, key=lambda trial: trial.mean)
    config = make_config(base=search.config, **best.values)
    write_text(search.path / "best_config.json", config_to_json(config))
    for name in ("omega_g", "omega_l"):
        if name in search.space:
            write_bytes(search.path / f"{name}.png", _curve(search, done, name))
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


def _curve(search, trials, name):
    """Draws accuracy against one weight; returns PNG bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    others = [other for other in search.space if other != name]
    values = sorted({trial.values[name] for trial in trials})
    positive = [value for value in values if value > 0]
    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    groups = {}
    for trial in trials:
        rest = describe_values({o: trial.values[o] for o in others})
        groups.setdefault(rest, []).append(trial)
    lines = len(groups) <= 6
    for rest, group in groups.items():
        group.sort(key=lambda trial: trial.values[name])
        axes.errorbar(
            [trial.values[name] for trial in group],
            [100 * trial.mean for trial in group],
            yerr=[100 * (trial.std or 0.0) for trial in group],
            marker="o",
            capsize=3,
            # Of many short lines none could be followed.
            linestyle="-" if lines else "none",
            color=None if lines else "C0",
            alpha=1.0 if lines else 0.6,
            label=rest or None,
        )
    if positive:
        axes.set_xscale("symlog", linthresh=min(positive))
    axes.set_xticks(values, [f"{value:g}" for value in values], rotation=45)
    axes.minorticks_off()
    axes.set_xlabel(name)
    axes.set_ylabel("accuracy on held-out images, %")
    axes.set_title(
        f"stream, IPC {search.tuning.trial_ipc}, "
        f"{search.config.evaluation.network}, {search.tuning.trial_epochs} "
        "epochs; bars: sample deviation over networks",
        fontsize=9,
    )
    axes.grid(alpha=0.3)
    if lines and others:
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
