"""Exported generators on disk: found, and described by `metadata.json`.

Nothing here imports TensorFlow, so that a wrong path is refused at once.
"""

import hashlib
import json
import pathlib

from gdd_keras import files
from gdd_keras.config import InputError

__all__ = [
    "METADATA_NAME",
    "SCORE_KEY",
    "check_metadata",
    "find_version",
    "method_name",
    "model_digest",
    "read_metadata",
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
    "split",
)

# Field to (types, required). `bool` is refused where `int` is asked for.
_SCHEMA = {
    "class_names": (list, True),
    "image_shape": (list, True),
    "latent_dim": (int, True),
    "num_classes": (int, True),
    "num_parameters": (int, True),
    "num_bytes": (int, True),
    "signatures": (list, True),
    "versions": (dict, True),
    "created": (str, True),
    "weights": (str, False),
    "value_range": (list, False),
    "statistics": (dict, False),
    "config": (dict, False),
    "seed": (int, False),
    "fingerprint": (str, False),
    "scores": ((dict, list), False),
}


def find_version(path):
    """Returns the version directory that a path means; loads nothing.

    Args:
        path: Version directory, or its parent.

    Returns:
        `pathlib.Path` of the version directory.

    Raises:
        InputError: If there is none.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise InputError(
            f"`path` must be an exported generator. Received: {path}, which "
            "does not exist. Make one with `python -m gdd_keras.distill`."
        )
    if not path.is_dir():
        raise InputError(
            f"`path` must be the directory of an exported generator. "
            f"Received: {path}, a file. Pass its folder."
        )
    if _is_saved_model(path):
        return path
    if (path / METADATA_NAME).exists():
        raise InputError(
            f"`path` must hold a SavedModel. Received: {path}, which has a "
            f"{METADATA_NAME} but no saved_model.pb. Export again."
        )
    versions = [
        entry
        for entry in path.iterdir()
        if entry.name.isdigit() and _is_saved_model(entry)
    ]
    if versions:
        return max(versions, key=lambda entry: int(entry.name))
    below = sorted({found.parent.parent for found in _saved_models(path)})
    hint = "Make one with `python -m gdd_keras.distill`."
    if below:
        hint = f"Did you mean {' or '.join(map(str, below))}?"
    raise InputError(
        "`path` must be a version directory of an exported generator, or its "
        f"parent. Received: {path}, which holds no SavedModel. {hint}"
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
    if not matching["distill_steps"] or not (
        matching["omega_g"] or matching["omega_l"]
    ):
        return "gan"
    return "gdd" if matching["omega_l"] else "dim"


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
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"An exported generator needs its {METADATA_NAME}. Received: "
            f"{path}, which cannot be read ({error.strerror}). Export again."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} must be UTF-8 text: {error}.") from error
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"{path} must hold JSON. Received: {error}. Export again."
        ) from error
    check_metadata(metadata, path)
    return metadata


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
    if not isinstance(metadata, dict):
        raise InputError(
            f"{source} must hold a JSON object. Received: "
            f"{type(metadata).__name__}."
        )
    for field, (kinds, required) in _SCHEMA.items():
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        expected = " or ".join(_JSON_NAMES[kind] for kind in kinds)
        if field not in metadata:
            if required:
                raise InputError(
                    f"{source} must have the field `{field}` ({expected}). "
                    "Received: none. Export again."
                )
            continue
        if type(metadata[field]) not in kinds:
            raise InputError(
                f"{source}: `{field}` must be {expected}. Received: "
                f"{field}={metadata[field]!r}."
            )
    for field in ("latent_dim", "num_classes"):
        if metadata[field] < 1:
            raise InputError(
                f"{source}: `{field}` must be >= 1. Received: "
                f"{field}={metadata[field]}."
            )
    shape = metadata["image_shape"]
    if len(shape) != 3 or any(type(n) is not int or n < 1 for n in shape):
        raise InputError(
            f"{source}: `image_shape` must be [height, width, channels] of "
            f"positive integers. Received: image_shape={shape}."
        )
    names = metadata["class_names"]
    if not all(isinstance(name, str) and name.strip() for name in names) or any(
        len(name.splitlines()) > 1 for name in names
    ):
        raise InputError(
            f"{source}: `class_names` must hold non-empty strings of one line. "
            f"Received: class_names={names}."
        )
    if len(set(names)) != len(names) or len(names) != metadata["num_classes"]:
        raise InputError(
            f"{source}: `class_names` must hold one name per class, all "
            f"different. Received: {len(set(names))} different names for "
            f"num_classes={metadata['num_classes']}."
        )


_JSON_NAMES = {
    dict: "an object",
    int: "an integer",
    list: "a list",
    str: "a string",
}


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
        if found.parent.name.isdigit() and not found.parts[-3].startswith(".")
    ]
