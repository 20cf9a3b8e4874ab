"""Flags of the runners, and the `Settings` that they mean.

TFX is not imported, so that a command line is refused at once.
"""

import dataclasses
import hashlib
import importlib.metadata
import pathlib

import gdd_keras
from gdd_keras import cli
from gdd_keras.config import InputError
from gdd_keras.config import checked_integer
from gdd_keras.config import make_config
from gdd_keras.files import next_version
from gdd_keras.metadata import different_settings
from gdd_keras.metadata import read_metadata
from gdd_keras.quiet import quiet_import
from gdd_keras.quiet import quiet_warnings
from gdd_keras.tuning.flags import add_search_flags
from gdd_keras.tuning.flags import given_search
from gdd_keras.tuning.space import num_trials
from gdd_keras.tuning.space import search_space
from pipelines.configs import Settings

__all__ = ["add_arguments", "import_tfx", "open_data", "read_settings"]


def add_arguments(parser):
    """Adds the flags that decide what the components compute."""
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        metavar="X",
        help="Accuracy on held-out images, from 0 to 1, that a generator "
        "needs to be pushed. Default: %(default)s.",
    )
    parser.add_argument(
        "--no-search",
        action="store_true",
        help="Train stage 2 with the given weights, without a search.",
    )
    parser.add_argument(
        "--distilled-ipc",
        type=int,
        default=0,
        metavar="N",
        help="Also generate a distilled set of N images per class with each "
        "blessed generator, on Apache Beam. Default: %(default)s, none.",
    )
    add_search_flags(parser)


def read_settings(arguments):
    """Returns the `Settings` of the command line, as far as it decides them.

    Args:
        arguments: Parsed arguments.

    Raises:
        InputError: If a setting cannot be used in a pipeline.
    """
    if not 0.0 <= arguments.threshold <= 1.0:
        raise InputError(
            "`--threshold` must be an accuracy from 0 to 1. Received: "
            f"{arguments.threshold:g}."
        )
    tuning, given, lists = given_search(arguments)
    config = cli.resolve_config(None, given, gpu=False)
    if config.run.time_budget is not None:
        raise InputError(
            "`--time-budget` has no meaning in a pipeline, whose steps are "
            f"cached by their settings. Received: {config.run.time_budget:g}. "
            "Set `--cgan-steps` and `--distill-steps`."
        )
    if config.matching.distill_steps < 1:
        raise InputError(
            "`distill_steps` must be an integer >= 1 in a pipeline, which "
            "trains both stages. Received: distill_steps=0."
        )
    if config.evaluation.num_seeds < 1:
        raise InputError(
            "`num_seeds` must be an integer >= 1 in a pipeline, which judges "
            "each generator. Received: num_seeds=0."
        )
    if config.evaluation.eval_labels != "hard":
        raise InputError(
            "`eval_labels` must be hard in a pipeline: a generator is judged "
            "beside the one in use, which may give no others. Received: "
            f"eval_labels={config.evaluation.eval_labels}."
        )
    checked_integer("--distilled-ipc", arguments.distilled_ipc, 0, 10**9)
    space = {}
    if arguments.no_search:
        several = [name for name, values in lists.items() if len(values) > 1]
        if several or arguments.search:
            raise InputError(
                "`--no-search` takes one value of each setting. Received: "
                f"values to search for {', '.join(several + arguments.search)}"
                ". Leave `--no-search` out, or give one value."
            )
    else:
        space = search_space(config, lists, arguments.search)
        num_trials(tuning, space)
    return Settings(
        config,
        tuning,
        space,
        arguments.threshold,
        arguments.distilled_ipc,
        code=_code_digest(),
    )


def check_in_use(serving, config):
    """Refuses to judge beside a version that saw what judges it.

    Args:
        serving: Folder of the versions in use, which may be absent.
        config: `Config` of the pipeline.

    Raises:
        InputError: If the highest version was trained on images that the
            pipeline holds out, or its images are of another size.
    """
    version = next_version(serving) - 1
    if not version:
        return
    directory = serving / str(version)
    metadata = read_metadata(directory)
    difference = different_settings(
        directory,
        metadata,
        config,
        ("seed", "validation_fraction", "image_size"),
    )
    if difference is not None:
        raise InputError(
            "The version in use must hold out the same images as the new one, "
            f"which is judged by them. Received: {difference}. Change them, "
            "or push to another `--saved-models`."
        )


def open_data(settings):
    """Returns the `Settings` with the identity of the data, and its name.

    Args:
        settings: As from `read_settings`.

    Raises:
        InputError: If there is no such data.
    """
    with quiet_import():
        from gdd_keras.data import open_raw
        from gdd_keras.data import training_size
        from gdd_keras.feasibility import check_training
    config = settings.config
    raw = open_raw(config.data)
    shape = (*training_size(raw, config.data.image_size), raw.channels)
    for layer in settings.space.get(
        "local_layer", [config.matching.local_layer]
    ):
        check_training(
            make_config(base=config, local_layer=layer),
            shape,
            len(raw.class_names),
        )
    return dataclasses.replace(settings, data_identity=raw.identity), raw.name


def import_tfx():
    """Imports what runs pipelines, without its messages.

    Returns:
        The module `pipelines.orchestration`.

    Raises:
        InputError: If TFX is not installed.
    """
    try:
        with quiet_import(), quiet_warnings():
            from pipelines import orchestration
    except ImportError as error:
        raise InputError(
            "The pipeline needs the packages of pipelines/requirements.txt. "
            f"Received: {error}. `make pipeline` makes an environment of them."
        ) from error
    return orchestration


def _code_digest():
    """Returns a digest of the code that the steps run."""
    digest = hashlib.sha256()
    here = pathlib.Path(__file__).parent
    for folder in (pathlib.Path(gdd_keras.__file__).parent, here):
        for file in sorted(folder.rglob("*.py")):
            digest.update(str(file.relative_to(folder)).encode())
            digest.update(file.read_bytes())
    for package in ("tensorflow", "keras"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()[:16]
