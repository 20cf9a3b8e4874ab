"""The model card that goes with an exported generator."""

import dataclasses
import pathlib
import shlex

from gdd_keras.config import InputError
from gdd_keras.config import matching_defaults
from gdd_keras.config import with_former_settings
from gdd_keras.files import write_text
from gdd_keras.metadata import find_version
from gdd_keras.metadata import gives_soft_labels
from gdd_keras.metadata import hard_share_of
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.reporting import properties
from gdd_keras.reporting.accuracy import accuracy_tables
from gdd_keras.reporting.accuracy import full_size_tables
from gdd_keras.reporting.inputs import Material
from gdd_keras.reporting.records import CEILING
from gdd_keras.reporting.records import FULL
from gdd_keras.reporting.settings import command_blocks
from gdd_keras.reporting.settings import differences
from gdd_keras.reporting.settings import machine_table
from gdd_keras.reporting.summary import dataset_line
from gdd_keras.reporting.text import count
from gdd_keras.reporting.text import escape
from gdd_keras.reporting.text import fenced

__all__ = ["build_card", "write_card"]

_NAME = "README.md"
_STEPS = ("cgan.cgan_steps", "matching.distill_steps")

_USE = """\
import gdd_keras

generator = gdd_keras.load_generator("{path}")
images = generator.generate([0, 0, 0])  # of class 0, uint8 {shape}
dataset = generator.as_dataset(ipc=100, batch_size=100)"""

_INTENDED = """\
Training images for classifiers of this data set, as many as wanted, where the
real images cannot be stored or sent along. Also as a starting point for work on
dataset distillation: the figures above can be repeated with their commands,
whose paths are those of the machine that ran them."""

_HARD_DRAWS = """\
- Hard images are favoured, to teach more: draws are not distributed as real
  images are, and what a classifier learns from them of how probable a class is
  needs calibration on real ones."""

_CHOSEN = """\
- Draws are near {:,} chosen ones of each class, some of them alike: with many
  more there is little that is new."""

_LIMITS = """\
- Images are those of a model: they lack some of the variety of real ones, and
  carry their labels' mistakes. Keep real images to judge a classifier by.
- They stand for the training data alone, with its errors and its bias.
- The audit, where there is one, compares plain distances. It is no privacy
  guarantee: do not publish a generator of images that are secret."""


def write_card(path, material):
    """Writes the card of a generator as `README.md` into its version.

    Args:
        path: Version directory, or its parent.
        material: `Material` with figures of this generator.

    Returns:
        `pathlib.Path` of the card.

    Raises:
        InputError: If there is no generator, or no figure of it.
    """
    directory = find_version(path, "--card")
    card = build_card(directory, material)
    target = directory / _NAME
    write_text(target, card)
    return target


def build_card(directory, material):
    """Returns the card's Markdown.

    Args:
        directory: Version directory.
        material: `Material`.

    Raises:
        InputError: If none of the material is of this generator.
    """
    directory = pathlib.Path(directory)
    metadata = read_metadata(directory)
    names, before = _names(directory, metadata, material.results)
    own = _narrowed(directory, material, names, before)
    name = own.results.dataset["name"]
    shape = " x ".join(map(str, metadata["image_shape"]))
    use = _USE.format(path=directory, shape=(3, *metadata["image_shape"]))
    blocks = [
        f"# {escape(name)}, a distilled generator",
        f"Makes any number of labelled images of {shape}, of "
        f"{metadata['num_classes']} classes: "
        f"{', '.join(map(escape, metadata['class_names']))}. A TensorFlow "
        f"SavedModel of {count(metadata.get('num_parameters'))} weights, made "
        "by gdd_keras to be stored or sent in the place of the images."
        f"{_soft_labels(metadata)}",
        fenced(use, "python"),
        "## Data",
        dataset_line(own.results.dataset),
        "## Recipe",
        *properties.training_table(own),
        *_same_images(before),
        *_recipe(metadata),
        "## Scores",
        *accuracy_tables(own),
        *_full_size_tables(own),
        *properties.size_table(own),
    ]
    for title, tables in (
        ("Quality", properties.quality_tables(own)),
        ("Memorisation audit", properties.audit_tables(own)),
    ):
        blocks += [f"## {title}", *(tables or ["Not measured."])]
    blocks += ["## Intended use", _INTENDED, "## Limits", _limits(metadata)]
    blocks += ["## Machines", *machine_table(own)]
    blocks += ["## Commands", *_used_commands(own)]
    return "\n\n".join(blocks) + "\n"


def _limits(metadata):
    """Returns the limits, one more where draws are not like the data."""
    if not hard_share_of(metadata):
        return _LIMITS
    limits = [_LIMITS, _HARD_DRAWS]
    # Until 2026-11-30 nothing was chosen.
    if "num_chosen" in metadata:
        limits.append(_CHOSEN.format(metadata["num_chosen"]))
    return "\n".join(limits)


def _soft_labels(metadata):
    """Says that there are soft labels; their classifier is not counted."""
    if not gives_soft_labels(metadata):
        return ""
    return (
        " A classifier of real images beside it gives the images soft labels."
    )


def _recipe(metadata):
    """Returns the commands that make such a generator, if they are known."""
    if "config" not in metadata:
        return []
    config = with_former_settings(metadata["config"])
    training = metadata.get("training") or {}
    if training.get("adopted_stage_1"):
        # The run's own settings do not say how long that stage 1 was.
        steps = training["steps"]["cgan"]
        config = {**config, "cgan": {**config["cgan"], "cgan_steps": steps}}
    generation = config.get("generation") or {}
    trained_with = training.get("trained_with") or {}
    reweighted_from = metadata.get("reweighted_from")
    if reweighted_from:
        generation = {**generation, "hard_share": 0.0}
    config = {**config, "generation": {**generation, **trained_with}}
    words = ["python", "-m", "gdd_keras.distill"]
    changed = matching_defaults((config.get("networks") or {}).get("latents"))
    for name, _, (value,) in differences([config], changed):
        # A budget replaces the numbers of steps, but for a stage left out.
        if name in _STEPS and value and _has_budget(config):
            continue
        # Of the others' settings every one that is not the default is named.
        if name == "run.preset":
            value = "compact"
        words += _flag(name.partition(".")[2], value)
    commands = [words]
    if trained_with:
        words += ["--run-dir", "RUN"]
        refit = ["python", "-m", "gdd_keras.refit", "--run", "RUN"]
        for name in trained_with:
            refit += _flag(name, generation.get(name))
        commands.append(refit)
    if reweighted_from:
        reweight = ["python", "-m", "gdd_keras.reweight", "--model", "MODEL"]
        reweight += _flag("hard_share", hard_share_of(metadata))
        reweight += _flag(
            "labeller_steps", reweighted_from.get("labeller_steps")
        )
        commands.append(reweight)
    notes = ["`metadata.json` beside this card has all settings."]
    if reweighted_from:
        notes.append("The minutes are those of the first command.")
    if _has_budget(config):
        notes.append(
            "A time budget fits fewer or more steps on another machine."
        )
    return [fenced("\n".join(map(" ".join, commands)), "sh"), " ".join(notes)]


def _flag(name, value):
    """Returns the words that set a field on the command line."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if value is None:
        return []
    if name == "image_size":
        value = "x".join(map(str, value))
    values = value if isinstance(value, list) else [value]
    return [f"--{flag}", *(shlex.quote(str(v)) for v in values)]


def _has_budget(config):
    return (config.get("run") or {}).get("time_budget") is not None


def _full_size_tables(material):
    """Returns the classification accuracy score, if there is one."""
    if any(
        record.setting.protocol == "full_size" and record.row.method != FULL
        for record in material.results.records
    ):
        return full_size_tables(material)
    # All real images stand beside each table anyway.
    return []


def _names(directory, metadata, results):
    """Returns what results call a generator, with and before its labeller."""
    digest = model_digest(directory)
    own = [
        name
        for name, entry in results.methods.items()
        if entry.get("digest", digest) == digest
        and ("digest" in entry or _is_place(entry.get("model"), directory))
    ]
    # A labeller changes no image: what was measured with hard labels stays.
    unlabelled = metadata.get("labelled_from", {}).get("digest", digest)
    before = [
        name
        for name, entry in results.methods.items()
        if name not in own and entry.get("digest") == unlabelled
    ]
    return own, before


def _same_images(before):
    """Says which names are of the generator without its labeller."""
    if not before:
        return []
    return [
        f"{', '.join(map(escape, before))}: this generator before it had its "
        "labeller. The images are the same."
    ]


def _narrowed(directory, material, own, before):
    """Returns the material of one generator, with what it is compared to."""
    results = material.results
    results = dataclasses.replace(
        results,
        records=[
            record
            for record in results.records
            if record.row.method not in before
            or record.setting.labels == "hard"
        ],
    )
    own = [*own, *before]
    if not own or all(r.row.method not in own for r in results.records):
        raise InputError(
            "`--card` must be a generator that the results have figures of. "
            f"Received: {directory}, and results of "
            f"{', '.join(results.methods) or 'nothing'}. Score it with "
            f"`python -m gdd_keras.evaluate --model {directory}` first."
        )
    methods = {name: results.methods[name] for name in own}
    # What it is compared to stands beside it only.
    settings = {r.setting for r in results.records if r.row.method in own}

    def kept(entries):
        return [entry for entry in entries if entry["method"] in own]

    return Material(
        dataclasses.replace(
            results,
            methods=methods,
            records=[
                record
                for record in results.records
                if record.row.method in (*own, FULL)
                or record.row.method == CEILING
                and record.setting in settings
            ],
            quality=kept(results.quality),
            audit=kept(results.audit),
        ),
        runs=[],
    )


def _is_place(model, directory):
    return (
        model is not None
        and pathlib.Path(model).resolve() == directory.resolve()
    )


def _used_commands(material):
    """Returns the commands behind the card's figures."""
    results = material.results
    used = {record.command for record in results.records}
    for entry in (*results.quality, *results.audit):
        used |= {entry.get("command"), *entry.get("commands", ())}
    return [
        block
        for index, block in enumerate(command_blocks(material))
        if index in used
    ]
