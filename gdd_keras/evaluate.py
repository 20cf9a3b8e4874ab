"""Command: `python -m gdd_keras.evaluate` scores an exported generator."""

import json
import math
import os
import pathlib
import sys

from gdd_keras import cli
from gdd_keras import files
from gdd_keras.config import Config
from gdd_keras.config import InputError
from gdd_keras.config import config_from_json
from gdd_keras.config import make_config
from gdd_keras.metadata import find_version
from gdd_keras.metadata import read_metadata
from gdd_keras.metadata import update_metadata
from gdd_keras.quiet import quiet_import

__all__ = ["main"]

_DESCRIPTION = """\
Scores an exported generator: networks are trained from scratch on its images
and tested on real ones. Settings that are not given are those with which the
generator was distilled.

  python -m gdd_keras.evaluate --model saved_models/digits
  python -m gdd_keras.evaluate --model saved_models/digits --protocol fixed \\
      --ipc 50 --network resnet18 --real --output scores.json

On the test split, the figure is also written to the generator's metadata.
Defaults below hold where the generator's metadata names nothing else."""

# Marks our own result files, which may be written again.
_KIND = "gdd_keras evaluation"

# What tells one entry of `scores` in the metadata from another.
_ENTRY_KEY = (
    "method",
    "protocol",
    "ipc",
    "network",
    "epochs",
    "learning_rate",
    "augmentation",
    "split",
)


def main(argv=None):
    """Runs the command; returns its exit code."""
    return cli.run_command("evaluate", _DESCRIPTION, _add_arguments, _run, argv)


def _add_arguments(parser):
    parser.add_argument(
        "--model",
        required=True,
        metavar="DIRECTORY",
        help="Exported generator: a version directory, or its parent (then "
        "the highest version).",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="Split to score on; choose by `validation`, report `test`. "
        "Default: test.",
    )
    parser.add_argument(
        "--real",
        action="store_true",
        help="Also score real images in the generator's place: fresh ones "
        "under `stream`, a random subset under `fixed`.",
    )
    parser.add_argument(
        "--eval-seed",
        type=int,
        metavar="N",
        help="Seed of the first network; the next ones count up. Default: "
        "the seed with which the generator was distilled.",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="JSON file for the results (default: none).",
    )
    cli.add_config_flags(parser, ["data", "evaluation"])


def _run(arguments):
    """Scores the generator and prints the result."""
    _check_eval_seed(arguments.eval_seed)
    output = _checked_output(arguments.output)
    directory = find_version(arguments.model)
    metadata = read_metadata(directory)
    config = _config(metadata, directory, cli.given_settings(arguments))
    with quiet_import():
        from gdd_keras.data import load_dataset
        from gdd_keras.evaluation import evaluate_generator
        from gdd_keras.evaluation import evaluate_real
        from gdd_keras.evaluation import summarize
        from gdd_keras.generator_api import load_generator
        from gdd_keras.networks.classifiers import build_classifier

    settings = config.evaluation
    # A wrong network should not show only after the data was decoded.
    build_classifier(
        settings.network, metadata["image_shape"], metadata["num_classes"]
    )
    dataset = load_dataset(config.data, config.run.seed)
    _check_fingerprint(metadata, dataset)
    generator = load_generator(directory)

    seed = arguments.eval_seed
    if seed is None:
        seed = config.run.seed
    common = (dataset, settings, seed, arguments.split)
    scores = evaluate_generator(generator, *common)
    summaries = [summarize(scores)]
    if arguments.real:
        real_scores = evaluate_real(*common)
        summaries.append(summarize(real_scores))

    recorded = None
    if arguments.split == "test":
        recorded = _record(directory, summaries[0])
    if output is not None:
        _write_results(output, directory, metadata, dataset, summaries)
    _print_results(directory, metadata, dataset, summaries, recorded, output)


def _check_eval_seed(seed):
    if seed is not None and not 0 <= seed < 2**31:
        raise InputError(
            "`eval_seed` must be an integer >= 0 and <= 2147483647. Received: "
            f"eval_seed={seed}."
        )


def _checked_output(path):
    """Returns the path of `--output` if the results can be written there."""
    if path is None:
        return None
    path = pathlib.Path(path)
    if path.is_dir():
        raise InputError(
            f"`output` must be a file. Received: {path}, a folder. Add a file "
            "name such as scores.json."
        )
    if path.exists() and not _is_own_file(path):
        raise InputError(
            "`output` must be a new file or an earlier result of this "
            f"command. Received: {path}, which holds something else. Choose "
            "another name, or remove it."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(path.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise InputError(
            f"`output` must be in a folder that can be written. Received: "
            f"{path}. Choose another."
        )
    return path


def _is_own_file(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("kind") == _KIND


def _config(metadata, directory, given):
    """Returns the stored config under the given settings, checked."""
    stored = metadata.get("config")
    if stored is not None:
        base = config_from_json(
            json.dumps(stored), f"`config` in the metadata of {directory}"
        )
    elif "dataset" in given:
        base = Config()
    else:
        raise InputError(
            f"The metadata of {directory} must name its data set. Received: "
            "no `config`. Pass `--dataset`."
        )
    config = make_config(base=base, **given)
    if config.evaluation.num_seeds < 1:
        raise InputError(
            "`num_seeds` must be an integer >= 1 to score. Received: "
            f"num_seeds={config.evaluation.num_seeds}. Pass `--num-seeds 5`."
        )
    return config


def _check_fingerprint(metadata, dataset):
    """Raises `InputError` if the generator stems from other data."""
    from gdd_keras.evaluation.protocols import check_classes

    check_classes(
        metadata["image_shape"],
        metadata["num_classes"],
        metadata["class_names"],
        dataset,
    )
    expected = metadata.get("fingerprint", dataset.fingerprint)
    if dataset.fingerprint != expected:
        raise InputError(
            f"The data must be those that the generator was distilled from, "
            f"fingerprint {expected}. Received: {dataset.source}, fingerprint "
            f"{dataset.fingerprint}: same shape and classes, but other images "
            "or labels. Choose that data set, or distil this one."
        )


def _record(directory, summary):
    """Writes a summary to the metadata; returns whether that was possible."""
    # Read again: another evaluation may have ended meanwhile.
    entries = read_metadata(directory).get("scores", [])
    if isinstance(entries, dict):
        entries = [entries] if entries else []
    key = [summary[name] for name in _ENTRY_KEY]
    # A repeated evaluation replaces its entry.
    entries = [
        entry
        for entry in entries
        if not isinstance(entry, dict)
        or [entry.get(name) for name in _ENTRY_KEY] != key
    ]
    try:
        update_metadata(directory, scores=[*entries, summary])
    except OSError as error:
        print(
            f"note: the score is not recorded in {directory}: "
            f"{error.strerror}.",
            file=sys.stderr,
        )
        return False
    return True


def _write_results(output, directory, metadata, dataset, summaries):
    """Writes the JSON file of `--output`."""
    files.write_json(
        output,
        {
            "kind": _KIND,
            "model": str(directory),
            "generator_bytes": metadata["num_bytes"],
            "dataset": dataset.describe(),
            "results": summaries,
            "versions": metadata["versions"],
        },
    )


def _print_results(directory, metadata, dataset, summaries, recorded, output):
    """Prints the last screen."""
    from gdd_keras.evaluation import format_accuracy

    first = summaries[0]
    pixels = math.prod(metadata["image_shape"]) * metadata["num_classes"]
    stored_ipc = metadata["num_bytes"] / pixels
    streams = first["protocol"] == "stream"
    per = "per class and epoch" if streams else "per class in all"
    split = dataset.splits[first["split"]]
    lines = [
        ("model", str(directory)),
        (
            "size",
            f"{metadata['num_bytes'] / 1e6:.2f} MB, as much as "
            f"{stored_ipc:,.0f} stored images per class",
        ),
        (
            "data",
            f"{dataset.source}, split {first['split']}, {len(split):,} images",
        ),
        (
            "protocol",
            f"{first['protocol']}, IPC {first['ipc']} ({per}), "
            f"{first['epochs']} epochs, augmentation {first['augmentation']}",
        ),
        (
            "network",
            f"{first['network']}, {first['num_seeds']} from scratch, "
            "last epoch",
        ),
    ]
    for summary in summaries:
        lines.append(
            (
                summary["method"],
                f"{format_accuracy(summary)}; "
                f"{summary['distinct_images']:,} distinct images each",
            )
        )
    if recorded:
        lines.append(("recorded in", str(directory / "metadata.json")))
    if output is not None:
        lines.append(("results in", str(output)))
    print()
    for name, text in lines:
        print(f"{name:12} {text}")


if __name__ == "__main__":
    sys.exit(main())
