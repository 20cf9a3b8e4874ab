"""Tables of what generators are: size, training, quality, audit."""

import math

from gdd_keras.metadata import QUALITY_KEY
from gdd_keras.reporting.captions import linked
from gdd_keras.reporting.records import Row
from gdd_keras.reporting.records import row_key
from gdd_keras.reporting.text import count
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import number
from gdd_keras.reporting.text import table

__all__ = [
    "REFERENCE_WEIGHTS",
    "audit_tables",
    "quality_tables",
    "size_table",
    "training_table",
]

# Digest of the network whose features two entries must share to be compared.
REFERENCE_WEIGHTS = "reference_weights"
_NOT_SCORES = (
    *QUALITY_KEY,
    REFERENCE_WEIGHTS,
    "command",
    "commands",
    "environment",
)


def size_table(material):
    """Returns bytes of each generator and how many images they would hold."""
    results = material.results
    shape = results.dataset.get("image_shape")
    if shape is None:
        return []
    pixels = math.prod(shape)
    num_classes = results.dataset["num_classes"]
    lines = []
    for name, entry in _generators(results):
        num_bytes = entry.get("num_bytes")
        if num_bytes is not None:
            lines.append(
                [
                    escape(name),
                    f"{num_bytes / 1e6:.2f}",
                    f"{num_bytes / pixels / num_classes:,.0f}",
                    f"{num_bytes / pixels:,.0f}",
                ]
            )
    if not lines:
        return []
    header = ["generator", "MB", "images per class", "images in all"]
    return [
        f"All files of the export, and how many {_shape_text(shape)} images "
        "stored as uint8, uncompressed, take the same room.",
        table(header, lines),
    ]


def training_table(material):
    """Returns steps and minutes of each generator's training."""
    lines = []
    for name, entry in _generators(material.results):
        training = entry.get("training") or {}
        steps, seconds = training.get("steps") or {}, training.get("seconds")
        if not steps and seconds is None:
            continue
        minutes = "–" if seconds is None else f"{seconds / 60:.1f}"
        if not training.get("finished", True):
            minutes += " (not finished)"
        lines.append(
            [
                escape(name),
                count(steps.get("cgan")),
                count(steps.get("distill")),
                minutes,
            ]
        )
    if not lines:
        return []
    header = ["generator", "stage 1 steps", "stage 2 steps", "minutes"]
    return [table(header, lines)]


def quality_tables(material):
    """Returns precision, recall, density, coverage and distance."""
    groups = {}
    for entry in material.results.quality:
        key = tuple(
            entry.get(k)
            for k in (*QUALITY_KEY, REFERENCE_WEIGHTS)
            if k != "method"
        )
        groups.setdefault(key, []).append(entry)
    blocks = []
    classifiers = _classifiers(material.results.quality)
    for key, entries in groups.items():
        split, num_images, neighbours, epochs, *_ = key
        entries = _in_order(entries, material)
        names = _keys(entries, _NOT_SCORES)
        header = ["images of", *(escape(n.replace("_", " ")) for n in names)]
        lines = [
            [escape(e["method"]), *(_decimal(e.get(n)) for n in names)]
            for e in entries
        ]
        blocks += [
            f"### {escape(split or 'unnamed')} split, "
            f"{number(num_images)} images{_which(entries[0], classifiers)}",
            f"{number(num_images)} generated and as many real images of the "
            f"split, {number(neighbours)} neighbours{_classifier(epochs)}. "
            f"{_commands(entries)}",
            table(header, lines),
        ]
    if blocks:
        blocks.insert(
            0,
            "Computed on features of our own classifier, trained on the "
            "training split: compare within a table only. The Fréchet "
            "distance is squared, smaller is better; it is not FID, which is "
            "for features of an Inception network.",
        )
    return blocks


def audit_tables(material):
    """Returns the memorisation audit, one table per space of distances."""
    spaces = {}
    for entry in _in_order(material.results.audit, material):
        # Another classifier has other features.
        by = tuple(
            entry.get(key)
            for key in ("reference_epochs", "seed", REFERENCE_WEIGHTS)
        )
        for name, values in entry.get("spaces", {}).items():
            spaces.setdefault((name, by), []).append((entry, values))
    blocks = []
    classifiers = _classifiers(material.results.audit)
    for (space, (epochs, *_)), columns in spaces.items():
        # An interval stands beside its figure.
        names = [
            name
            for name in _keys([values for _, values in columns])
            if not name.endswith(("_low", "_high"))
        ]
        header = [escape(space), *(escape(e["method"]) for e, _ in columns)]
        lines = [
            [
                escape(name.replace("_", " ")),
                *(_with_interval(values, name) for _, values in columns),
            ]
            for name in names
        ]
        blocks += [
            f"### Distances between {escape(space)}{_classifier(epochs)}"
            f"{_which(columns[0][0], classifiers)}",
            _commands([entry for entry, _ in columns]),
            table(header, lines),
        ]
    if blocks:
        blocks.insert(
            0,
            "Distances of generated images to training images, beside those "
            "to held-out images that training never saw; intervals of 95 %. "
            "This sees only what plain distances see: no privacy guarantee "
            "follows.",
        )
    return [block for block in blocks if block]


def _generators(results):
    """Returns name and entry of all generators, in the tables' order."""
    names = [
        name
        for name, entry in results.methods.items()
        if entry.get("kind") == "generator"
    ]
    names.sort(key=lambda name: row_key(Row(name), results.methods))
    return [(name, results.methods[name]) for name in names]


def _in_order(entries, material):
    methods = material.results.methods
    return sorted(entries, key=lambda e: row_key(Row(e["method"]), methods))


def _classifiers(entries):
    """Returns the classifiers of entries, each once, in order."""
    return list(
        dict.fromkeys(entry.get(REFERENCE_WEIGHTS) for entry in entries)
    )


def _which(entry, classifiers):
    """Returns which classifier an entry is by, where there are several."""
    if len(classifiers) < 2:
        return ""
    number = classifiers.index(entry.get(REFERENCE_WEIGHTS)) + 1
    return f", classifier {number}"


def _classifier(epochs):
    """Returns what is known of the classifier whose features count."""
    return "" if epochs is None else f", classifier of {number(epochs)} epochs"


def _keys(entries, without=()):
    """Returns the keys of all entries, each once."""
    keys = dict.fromkeys(key for entry in entries for key in entry)
    return [key for key in keys if key not in without]


def _commands(entries):
    indices = {i for entry in entries for i in entry.get("commands", ())}
    return linked(sorted(indices)).strip()


def _shape_text(shape):
    return " x ".join(map(str, shape))


def _decimal(value):
    """Returns three decimals, or what `number` makes of it."""
    if isinstance(value, float) and 1e-3 <= abs(value) < 10:
        return f"{value:.3f}"
    return number(value)


def _with_interval(values, name):
    """Returns the figure, with its interval if there is one."""
    text = number(values.get(name))
    low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
    if low is None or high is None:
        return text
    return f"{text} ({number(low)} to {number(high)})"
