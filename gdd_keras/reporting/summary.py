"""The first paragraph: what the figures say, no more."""

import math
import re

from gdd_keras.reporting import captions
from gdd_keras.reporting.accuracy import find_full
from gdd_keras.reporting.records import CEILING
from gdd_keras.reporting.text import count
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import number

__all__ = ["dataset_line", "summary"]


def dataset_line(dataset):
    """Describes the data in one paragraph.

    Args:
        dataset: Its description in the results.

    Returns:
        Markdown.
    """
    source = dataset.get("source") or dataset["name"]
    # A data set of TFDS is the same one in any folder.
    source = re.sub(r"^(TFDS \S+) in .*", r"\1", source)
    parts = [f"Data: {escape(source)}"]
    if "image_shape" in dataset:
        shape = " x ".join(map(str, dataset["image_shape"]))
        parts.append(f"images of {shape}")
        parts.append(f"{count(dataset.get('num_classes'))} classes")
    sizes = [
        f"{number(size)} {escape(name)}"
        for name, size in (dataset.get("num_images") or {}).items()
    ]
    if sizes:
        parts.append(f"{' / '.join(sizes)} images")
    if dataset.get("fingerprint"):
        parts.append(f"fingerprint {escape(dataset['fingerprint'])}")
    return ", ".join(parts) + "."


def summary(material):
    """Says which generator is best, what stands beside it, and how sure.

    Args:
        material: `Material`.

    Returns:
        One paragraph of Markdown.
    """
    sentences, most, full = [], 0, None
    for setting, rows in _main_groups(material):
        full = full or find_full(material, setting)
        parts = []
        for ipc in sorted({ipc for cells in rows.values() for ipc in cells}):
            found = {row: c[ipc] for row, c in rows.items() if ipc in c}
            generators, others = _split(found, material)
            most = max(most, len(generators))
            if generators:
                parts.append(
                    f"IPC {count(ipc)} {_best(generators)}, "
                    f"{_beside(setting, others)}"
                )
        sentences.append(
            f"**{captions.heading(setting)}:** best generator at "
            f"{'; at '.join(parts)}."
        )
    if not sentences:
        return "No accuracy of a generator was measured."
    if full is not None:
        sentences.append(
            f"The full real data give {full[1].text} "
            f"({captions.heading(full[0])})."
        )
    if most > 1:
        sentences.append(
            "The best of several was found by these very figures, which "
            "favours it a little."
        )
    return (
        "Accuracies in %, mean ± sample standard deviation over n networks; "
        "the ceiling is that of fresh real images under the same schedule. "
        + " ".join(sentences)
    )


def _main_groups(material):
    """Yields one setting of each protocol: test split first, most records."""
    chosen = {}
    for setting, rows in material.groups.items():
        size = sum(
            len(cell.records)
            for row, cells in rows.items()
            if _is_generator(row, material)
            for cell in cells.values()
        )
        rank = (
            setting.split == "test",
            setting.labels == "hard",
            setting.schedule == "protocol",
            size,
        )
        known = chosen.get(setting.protocol)
        if size and (known is None or rank > known[0]):
            chosen[setting.protocol] = rank, setting, rows
    for protocol in ("stream", "fixed"):
        if protocol in chosen:
            yield chosen[protocol][1:]


def _is_generator(row, material):
    return material.results.methods[row.method]["kind"] == "generator"


def _split(found, material):
    """Returns the cells of generators, and all others."""
    generators = {
        row: cell for row, cell in found.items() if _is_generator(row, material)
    }
    others = {row: c for row, c in found.items() if row not in generators}
    return generators, others


def _best(generators):
    """Names the best generator and says if another is as good."""
    best, *others = sorted(
        generators, key=lambda row: generators[row].mean, reverse=True
    )
    cell = generators[best]
    text = f"{escape(best.name)} {cell.text}"
    if not others:
        return f"{text} (the only one measured)"
    second = generators[others[0]]
    name = escape(others[0].name)
    if cell.std is None or second.std is None:
        return f"{text} (too few networks to tell it from {name})"
    if cell.mean - second.mean < math.hypot(cell.std, second.std):
        return f"{text} (not told apart from {name})"
    return text


def _beside(setting, others):
    """Says what the other rows of the same column give."""
    by_method = {row.method: cell for row, cell in others.items()}
    if setting.labels != "hard":
        return f"{escape(setting.labels)} labels, which real images have not"
    if setting.protocol == "stream":
        if CEILING not in by_method:
            return "ceiling not measured"
        return f"ceiling {by_method[CEILING].text}"
    if "random" not in by_method:
        return "random real images not measured"
    text = f"random real images {by_method['random'].text}"
    # One method may have several rows, of more and of less effort.
    best = max(others, key=lambda row: others[row].mean)
    if best.method == "random":
        return text
    return f"{text}, best baseline {escape(best.name)} {others[best].text}"
