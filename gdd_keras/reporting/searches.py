"""Sections of searches: what was tried, and accuracy against each weight."""

from gdd_keras.reporting.plots import draw
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import table
from gdd_keras.tuning.curves import draw_weight
from gdd_keras.tuning.curves import evaluation_text
from gdd_keras.tuning.curves import value_text
from gdd_keras.tuning.outcome import completed
from gdd_keras.tuning.outcome import read_trials

__all__ = ["search_figures", "search_lines", "trial_table"]

_PANEL = (3.4, 2.9)


def search_lines(search):
    """Returns what a search judged by, in words.

    Args:
        search: `Search`.
    """
    tuning, config = search.tuning, search.config
    return (
        f"{escape(str(search.path))}: {tuning.tuner} search, "
        f"{config.matching.distill_steps:,} steps of stage 2 from one stage "
        f"1, {tuning.trial_repeats} x {tuning.trial_networks} networks "
        f"({escape(config.evaluation.network)}) for each trial, stream "
        f"protocol, IPC {tuning.trial_ipc}, {tuning.trial_epochs:,} epochs, "
        f"{evaluation_text(config.evaluation)}. Accuracies are on the "
        "held-out part of the training split, which chose the best: the test "
        "split will be a little below."
    )


def trial_table(search):
    """Returns all ended trials, the best first, failed ones last.

    Args:
        search: `Search`.
    """
    trials = read_trials(search)
    if not trials:
        return None
    trials.sort(key=lambda t: (-(t.epochs or 0), -(t.mean or -1.0)))
    lines = [
        [
            escape(trial.trial_id),
            *(escape(value_text(trial.values[name])) for name in search.space),
            _accuracy(trial),
            "–" if trial.epochs is None else str(trial.epochs),
            f"{trial.seconds / 60:.1f}",
        ]
        for trial in trials
    ]
    header = ["trial", *map(escape, search.space), "accuracy, %", "rung", "min"]
    return table(header, lines)


def search_figures(search):
    """Draws accuracy against each searched weight.

    Args:
        search: `Search`.

    Returns:
        Dict from weight to SVG text.
    """
    trials = completed(read_trials(search))
    figures = {}
    for name in ("omega_g", "omega_l"):
        if name in search.space and trials:
            with draw(*_PANEL) as (figure, result):
                draw_weight(figure.add_subplot(), search, trials, name)
            figures[name] = result[0]
    return figures


def _accuracy(trial):
    if trial.mean is None:
        return f"failed: {escape(trial.failure)}"
    if trial.std is None:
        return f"{100 * trial.mean:.2f}"
    return f"{100 * trial.mean:.2f} ± {100 * trial.std:.2f}"
