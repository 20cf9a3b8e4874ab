"""Accuracy against a searched weight, as in Figure 3 of the paper."""

import io

__all__ = [
    "describe_values",
    "draw_weight",
    "evaluation_text",
    "scale_weights",
    "value_text",
    "weight_png",
]

# Of more short lines none could be followed.
_MOST_LINES = 6


def value_text(value):
    """Returns the value of a setting as text, numbers without trailing 0."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def evaluation_text(evaluation):
    """Returns how the networks of trials compute and learn, in words.

    Args:
        evaluation: `EvaluationConfig`.
    """
    schedule = evaluation.eval_schedule
    if schedule == "protocol":
        return evaluation.eval_precision
    return f"{evaluation.eval_precision}, {schedule} schedule"


def describe_values(values):
    """Returns the values of a trial as text."""
    return ", ".join(f"{n} {value_text(v)}" for n, v in values.items())


def scale_weights(axes, name, values):
    """Gives a weight its x axis: zero at the left, then logarithmic.

    Args:
        axes: `matplotlib.axes.Axes`.
        name: Label of the axis.
        values: The weights shown, in order; each gets a tick.
    """
    positive = [value for value in values if value > 0]
    if positive:
        axes.set_xscale("symlog", linthresh=positive[0])
    axes.set_xticks(values, [value_text(value) for value in values])
    axes.minorticks_off()
    axes.tick_params(axis="x", labelrotation=45)
    axes.set_xlabel(name)


def draw_weight(axes, search, trials, name):
    """Draws accuracy against one weight, one line for each other setting.

    Args:
        axes: `matplotlib.axes.Axes`.
        search: `Search`.
        trials: List of completed `TrialResult`.
        name: The weight, `"omega_g"` or `"omega_l"`.
    """
    values = sorted({trial.values[name] for trial in trials})
    groups = {}
    for trial in trials:
        rest = {n: v for n, v in trial.values.items() if n != name}
        groups.setdefault(describe_values(rest), []).append(trial)
    lines = len(groups) <= _MOST_LINES
    for rest, group in groups.items():
        group = sorted(group, key=lambda trial: trial.values[name])
        axes.errorbar(
            [trial.values[name] for trial in group],
            [100 * trial.mean for trial in group],
            yerr=[100 * (trial.std or 0.0) for trial in group],
            marker="o",
            markersize=4.5,
            capsize=2.5,
            elinewidth=1.0,
            linestyle="-" if lines else "none",
            color=None if lines else "C0",
            alpha=1.0 if lines else 0.6,
            label=rest,
        )
    scale_weights(axes, name, values)
    axes.set_ylabel("accuracy on held-out images, %")
    tuning, evaluation = search.tuning, search.config.evaluation
    axes.set_title(
        f"stream, IPC {tuning.trial_ipc}, {evaluation.network}\n"
        f"held-out images, {tuning.trial_epochs} epochs, "
        + evaluation_text(evaluation),
        fontsize=9,
        loc="left",
    )
    if lines and len(search.space) > 1:
        axes.legend(fontsize=8)


def weight_png(search, trials, name):
    """Returns the figure of `draw_weight` as PNG bytes; arguments as there."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.3)
    draw_weight(axes, search, trials, name)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
