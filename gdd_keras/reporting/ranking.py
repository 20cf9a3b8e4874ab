"""DD-Ranking's scores of the figures."""

from gdd_keras.quiet import quiet_import
from gdd_keras.reporting import captions
from gdd_keras.reporting.accuracy import find_full
from gdd_keras.reporting.records import CEILING
from gdd_keras.reporting.text import count
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import table

__all__ = ["ranking_tables"]

_EXPLANATION = """\
Scores of [DD-Ranking](https://arxiv.org/abs/2505.13300), accuracies as
fractions. HLR, hard label recovery: what is lost against the full real data
(smaller is better). IOR, improvement over random: what is gained over as many
random real images (larger is better). LRS, label-robust score: both together,
(exp a − exp −1) / (exp 1 − exp −1) with a = IOR / 2 − HLR / 2 (larger is
better). A fresh set in every epoch has no stored random subset to be compared
with, so under `stream` there is HLR only."""


def ranking_tables(material):
    """Returns tables of HLR, IOR and LRS where their references exist.

    Args:
        material: `Material`.

    Returns:
        List of Markdown blocks.
    """
    blocks = []
    for setting, rows in material.groups.items():
        full = find_full(material, setting)
        # The scores are defined on hard labels.
        hard = setting.labels == "hard"
        if setting.protocol == "full_size" or full is None or not hard:
            continue
        blocks += _table(material, setting, rows, *full)
    return [_EXPLANATION, *blocks] if blocks else []


def _table(material, setting, rows, full_setting, full):
    """Returns heading, caption and table for one setting, or nothing."""
    # The package of the formulas may bring TensorFlow along.
    with quiet_import():
        from gdd_keras.evaluation import ranking

    fixed = setting.protocol == "fixed"
    lines, records = [], list(full.records)
    for ipc, row, cell, random in _distilled(rows):
        if fixed and random is None:
            continue
        recovery = ranking.hard_label_recovery(full.mean, cell.mean)
        scores = [recovery]
        records += cell.records
        if fixed:
            improvement = ranking.improvement_over_random(
                cell.mean, random.mean
            )
            scores += [
                improvement,
                ranking.label_robust_score(recovery, improvement),
            ]
            records += random.records
        accuracy = f"{cell.mean:.4f}"
        lines.append(
            [
                escape(row.name),
                count(ipc),
                accuracy,
                *(f"{score:.4f}" for score in scores),
            ]
        )
    if not lines:
        return []
    names = ["HLR", "IOR", "LRS"] if fixed else ["HLR"]
    return [
        f"### {captions.heading(setting)}",
        f"Full real data: {full.mean:.4f} ({captions.heading(full_setting)}). "
        f"{captions.provenance(records, material)}".strip(),
        table(["trained on", "IPC", "accuracy", *names], lines),
    ]


def _distilled(rows):
    """Yields IPC, row, its cell and that of random images, by IPC."""
    random = next(
        (cells for row, cells in rows.items() if row.method == "random"), {}
    )
    for ipc in sorted({ipc for cells in rows.values() for ipc in cells}):
        for row, cells in rows.items():
            if row.method not in ("random", CEILING) and ipc in cells:
                yield ipc, row, cells[ipc], random.get(ipc)
