"""Exported generators on disk: found, and described by `metadata.json`.

Nothing here imports TensorFlow, so that a wrong path is refused at once.
"""

import hashlib
import json
import math
import pathlib

from gdd_keras import files
from gdd_keras.config import WEIGHT_TYPES
from gdd_keras.config import InputError
from gdd_keras.config import config_from_json
from gdd_keras.config import describe_differences
from gdd_keras.config import shown
from gdd_keras.schema import Place
from gdd_keras.schema import read_object

__all__ = [
    "AUDIT_KEY",
    "METADATA_NAME",
    "QUALITY_KEY",
    "SCORE_DEFAULTS",
    "SCORE_KEY",
    "SOFT_LABELS_ADVICE",
    "check_class_names",
    "check_metadata",
    "check_same_held_out",
    "different_settings",
    "distillation_config",
    "find_version",
    "gives_soft_labels",
    "hard_share_of",
    "method_name",
    "model_digest",
    "read_metadata",
    "record_scores",
    "recorded_scores",
    "soft_labels_error",
    "update_metadata",
]

METADATA_NAME = "metadata.json"
# What makes two accuracies figures of the same thing, but for the seed.
SCORE_KEY = (
    "method",
    "selection",
    "protocol",
    "ipc",
    "network",
    "epochs",
    "learning_rate",
    "augmentation",
    "precision",
    "labels",
    "schedule",
    "split",
    "preparation",
    "held_out",
)
# Likewise of two comparisons with real images, by the same `reference`: a
# digest of what its training depends on, its epochs and seed among that.
QUALITY_KEY = (
    "method",
    "split",
    "num_images",
    "neighbours",
    "reference_epochs",
    "seed",
    "reference",
)
AUDIT_KEY = (
    "method",
    "num_generated",
    "reference_epochs",
    "seed",
    "reference",
)
# What figures of earlier versions do not say.
SCORE_DEFAULTS = {
    "labels": "hard",
    "schedule": "protocol",
    "preparation": None,
    "held_out": None,
}
# How an export comes to give them.
SOFT_LABELS_ADVICE = (
    "Distil with `--soft-labels`, or add them by `python -m gdd_keras.label`."
)

_ADVICE = "Export again."
# What `convert` writes for other runtimes.
_OTHER_MODELS = {".tflite": "LiteRT", ".onnx": "ONNX"}


def find_version(path, name="path"):
    """Returns the version directory that a path means; loads nothing.

    Args:
        path: Version directory, or its parent.
        name: What to call it in an error.

    Returns:
        `pathlib.Path` of the version directory.

    Raises:
        InputError: If there is none.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(
            f"`{name}` must be an exported generator. Received: {path}, which "
            "does not exist. Make one with `python -m gdd_keras.distill`."
        )
    _check_no_other_model(path, name)
    if not path.is_dir():
        raise InputError(
            f"`{name}` must be the directory of an exported generator. "
            f"Received: {path}, a file. Pass its folder."
        )
    if _is_saved_model(path):
        return path
    if (path / METADATA_NAME).exists():
        raise InputError(
            f"`{name}` must hold a SavedModel. Received: {path}, which has a "
            f"{METADATA_NAME} but no saved_model.pb. Export again."
        )
    versions = [
        entry
        for entry in path.iterdir()
        if files.is_version(entry.name) and _is_saved_model(entry)
    ]
    if versions:
        return max(versions, key=lambda entry: int(entry.name))
    below = sorted({found.parent.parent for found in _saved_models(path)})
    hint = "Make one with `python -m gdd_keras.distill`."
    if below:
        hint = f"Did you mean {' or '.join(map(str, below))}?"
    raise InputError(
        f"`{name}` must be a version directory of an exported generator, or "
        f"its parent. Received: {path}, which holds no SavedModel. {hint}"
    )


def _check_no_other_model(path, name):
    """Refuses what `convert` wrote for other runtimes."""
    candidates = [path]
    if path.is_dir() and not _is_saved_model(path):
        candidates = sorted(path.iterdir())
    for file in candidates:
        kind = _OTHER_MODELS.get(file.suffix)
        if kind is not None and file.is_file():
            raise InputError(
                f"`{name}` must be a SavedModel. Received: {file}, a {kind} "
                "file, which other programs run. Pass the model that it was "
                "converted from."
            )


def method_name(config):
    """Returns the field's name for how a generator was trained.

    Args:
        config: Dict as in `config` of the metadata, or `None`.

    Returns:
        `gan` without matching, `dim` with the global loss alone, `gdd` with
        the local one, or `generator` if that is not known.
    """
    matching = (config or {}).get("matching")
    if matching is None:
        return "generator"
    steps, omega_g, omega_l = (
        matching.get(name) for name in ("distill_steps", "omega_g", "omega_l")
    )
    if not steps or not (omega_g or omega_l):
        return "gan"
    return "gdd" if omega_l else "dim"


def hard_share_of(metadata):
    """Returns the share of hard draws of an export, 0 if they are not favoured.

    Args:
        metadata: As from `read_metadata`; the config may be absent.
    """
    generation = (metadata.get("config") or {}).get("generation") or {}
    return generation.get("hard_share") or 0.0


def gives_soft_labels(metadata):
    """Returns whether an exported generator also gives soft labels.

    Args:
        metadata: As from `read_metadata`.
    """
    return "soft_labels" in metadata["signatures"]


def soft_labels_error(model, received=""):
    """Returns the `InputError` of scoring with soft labels that are not there.

    Args:
        model: What was to be scored, as shown.
        received: Settings to show before it.
    """
    return InputError(
        "`eval_labels` may be soft for an export that gives soft labels. "
        f"Received: {received}{model}. Pass `--eval-labels hard`, or give it "
        f"a labeller. {SOFT_LABELS_ADVICE}"
    )


def distillation_config(directory, metadata, has_dataset):
    """Returns the settings with which a generator was distilled.

    Args:
        directory: Version directory, for errors.
        metadata: As from `read_metadata`.
        has_dataset: Whether the data set is known without them.

    Returns:
        `Config`, or `None` if the metadata have none.

    Raises:
        InputError: If they are broken, or needed and not there.
    """
    config = metadata.get("config")
    if config is not None:
        return config_from_json(
            json.dumps(config), f"`config` in the metadata of {directory}"
        )
    if not has_dataset:
        raise InputError(
            f"The metadata of {directory} must name its data set. Received: "
            "no `config`. Pass `--dataset`."
        )
    return None


def different_settings(
    directory, metadata, config, names=("seed", "validation_fraction")
):
    """Says which settings a generator was distilled with otherwise.

    Args:
        directory: Version directory.
        metadata: As from `read_metadata`.
        config: `Config` to compare with.
        names: Of `seed`, `validation_fraction`, which decide what is held
            out, and `image_size`.

    Returns:
        Text for an error, or `None` if none differs or the metadata have no
        config.

    Raises:
        InputError: If the metadata's config is broken.
    """
    own = distillation_config(directory, metadata, True)
    if own is None:
        return None
    found = own.run.differences(config.run) | own.data.differences(config.data)
    counted = {name: found[name] for name in names if name in found}
    if not counted:
        return None
    return f"{directory} with {describe_differences(counted)}"


def check_same_held_out(directory, metadata, config):
    """Refuses to add to a generator what saw other images than it did.

    Args:
        directory: Version directory.
        metadata: As from `read_metadata`.
        config: `Config` of the data.

    Raises:
        InputError: If `--validation-fraction` is another one.
    """
    difference = different_settings(directory, metadata, config)
    if difference is not None:
        raise InputError(
            "What is held out must be what it was for the generator, whose "
            f"held-out images none of its networks may see. Received: "
            f"{difference}. Leave `--validation-fraction` out."
        )


def model_digest(directory):
    """Returns a hex digest of a generator's graph and weights.

    Args:
        directory: Version directory.
    """
    digest = hashlib.sha256()
    files_of_model = sorted((directory / "variables").glob("variables.data-*"))
    for file in [directory / "saved_model.pb", *files_of_model]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def read_metadata(path):
    """Reads and checks the metadata of an exported generator.

    Args:
        path: Version directory, or its `metadata.json`.

    Returns:
        Dict; keys unknown here are kept.

    Raises:
        InputError: If the file is missing or no JSON object, or if a field is
            missing or has the wrong type; the message names it.
    """
    path = _file(path)
    if not path.exists():
        raise InputError(
            f"An exported generator needs its {METADATA_NAME}. Received: "
            f"{path}, which does not exist. {_ADVICE}"
        )
    metadata = read_object(path, _ADVICE).value
    check_metadata(metadata, path)
    return metadata


def recorded_scores(metadata):
    """Returns the list of scores, of exports of all versions.

    Args:
        metadata: Dict; the first version held one score, or an empty dict.
    """
    entries = metadata.get("scores", [])
    if isinstance(entries, dict):
        return [entries] if entries else []
    return entries


def record_scores(directory, summaries):
    """Adds scores to an export's metadata, beside those that are there.

    A repeated score replaces its entry, unless it has fewer networks to say
    it by.

    Args:
        directory: Version directory.
        summaries: List of dicts, see
            `gdd_keras.evaluation.protocols.summarize`.

    Raises:
        InputError: If the metadata are broken.
        OSError: If they cannot be written.
    """
    # Read now: another evaluation may have ended meanwhile.
    entries = recorded_scores(read_metadata(directory))
    for summary in summaries:
        same = [entry for entry in entries if _is_same(entry, summary)]
        if all(_num_seeds(e) <= summary["num_seeds"] for e in same):
            entries = [entry for entry in entries if entry not in same]
            entries.append(summary)
    update_metadata(directory, scores=entries)


def _is_same(entry, summary):
    """Says whether an entry of the metadata is of the same row."""
    return isinstance(entry, dict) and all(
        entry.get(field, SCORE_DEFAULTS.get(field)) == summary[field]
        for field in SCORE_KEY
    )


def _num_seeds(entry):
    """Returns the networks of an entry, which anyone may have written."""
    number = entry.get("num_seeds")
    return number if isinstance(number, int) else 0


def update_metadata(version_directory, **changes):
    """Changes fields of `metadata.json` in one step; others stay.

    Args:
        version_directory: Directory that `export_generator` wrote.
        **changes: Field name to new value.

    Returns:
        The whole new metadata.

    Raises:
        InputError: If the metadata is broken, or would be afterwards; the file
            then stays as it was.
    """
    path = _file(version_directory)
    metadata = {**read_metadata(path), **changes}
    check_metadata(metadata, path)
    files.write_json(path, metadata)
    return metadata


def check_metadata(metadata, source):
    """Checks metadata against the schema.

    Args:
        metadata: Parsed JSON, or the dict to be written.
        source: What to call it in an error, for instance the file's path.

    Raises:
        InputError: Naming the first field that is missing or wrong.
    """
    place = Place(metadata, source, "", _ADVICE)
    for field in ("class_names", "signatures"):
        place.get(field, list)
    for field in ("latent_dim", "num_classes"):
        place.get(field, int, minimum=1)
    for field in ("num_parameters", "num_bytes"):
        place.get(field, int, minimum=0)
    place.get("seed", int, None, minimum=0)
    place.get("label_mixing", float, None, minimum=0, maximum=1)
    place.get("created", str)
    place.get("fingerprint", str, None)
    place.object("versions")
    place.strings("signatures")
    training = place.object("training", {})
    training.get("steps", dict, {})
    training.get("trained_with", dict, {})
    _check_config(place)
    shape = place.get("image_shape", list)
    if len(shape) != 3 or any(type(n) is not int or n < 1 for n in shape):
        raise InputError(
            f"{source}: `image_shape` must be [height, width, channels] of "
            f"positive integers. Received: image_shape={shown(shape)}. "
            f"{_ADVICE}"
        )
    _check_numbers(place, "value_range", 2)
    statistics = place.object("statistics", {})
    for field in ("mean", "std"):
        _check_numbers(statistics, field, shape[2])
    weights = place.get("weights", str, "float32")
    if weights not in WEIGHT_TYPES:
        raise InputError(
            f"{source}: `weights` must be one of {', '.join(WEIGHT_TYPES)}. "
            f"Received: weights={shown(weights)}. {_ADVICE}"
        )
    # An object in exports of the first version.
    if not isinstance(metadata.get("scores"), dict):
        place.get("scores", list, [])
    names = place.strings("class_names")
    check_class_names(names, source)
    if len(names) != metadata["num_classes"]:
        raise InputError(
            f"{source}: `class_names` must hold one name per class, all "
            f"different. Received: {len(names)} names for "
            f"num_classes={metadata['num_classes']}. {_ADVICE}"
        )


def check_class_names(names, source):
    """Refuses names that a screen, a file or TensorFlow could not hold.

    Args:
        names: Sequence of strings.
        source: Where they come from, for an error.

    Raises:
        InputError: Naming the first one.
    """
    for name in names:
        try:
            name.encode()
            valid = bool(name.strip()) and len(name.splitlines()) == 1
        except UnicodeEncodeError:
            valid = False
        if not valid or "\0" in name:
            raise InputError(
                f"{source}: `class_names` must hold non-empty strings of one "
                f"line, in Unicode. Received: {name!a}. Rename the class."
            )
    if len(set(names)) != len(names):
        raise InputError(
            f"{source}: `class_names` must hold one name per class, all "
            f"different. Received: {len(set(names))} different names of "
            f"{len(names)}. Rename the others."
        )


def _check_config(place):
    """Checks the settings as far as their fields are known here."""
    sections = place.named("config") if "config" in place.value else {}
    matching = sections.get("matching")
    if matching is not None:
        matching.get("distill_steps", int, None, minimum=0)
        for field in ("omega_g", "omega_l"):
            matching.get(field, float, None, minimum=0)


def _check_numbers(place, field, length):
    """Checks an optional list of finite numbers."""
    values = place.get(field, list, None)
    if values is not None and not (
        len(values) == length
        and all(type(v) in (int, float) and math.isfinite(v) for v in values)
    ):
        raise InputError(
            f"{place.file}: `{field}` must be a list of {length} finite "
            f"numbers. Received: {field}={shown(values)}. {_ADVICE}"
        )


def _file(path):
    """Returns the metadata file of a version directory, or the file itself."""
    path = pathlib.Path(path)
    return path if path.name == METADATA_NAME else path / METADATA_NAME


def _is_saved_model(path):
    """Returns whether a directory holds a SavedModel."""
    return (path / "saved_model.pb").is_file()


def _saved_models(path):
    """Returns the SavedModels one folder too deep, as in `saved_models/`."""
    return [
        found
        for found in path.glob("*/*/saved_model.pb")
        if files.is_version(found.parent.name)
        and not found.parts[-3].startswith(".")
    ]
