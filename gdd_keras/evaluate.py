"""Command: `python -m gdd_keras.evaluate` scores generators and baselines."""

import dataclasses
import math
import pathlib
import re
import shlex
import sys

from gdd_keras import cli
from gdd_keras.config import BASELINES
from gdd_keras.config import Config
from gdd_keras.config import InputError
from gdd_keras.config import checked_integer
from gdd_keras.config import make_config
from gdd_keras.machine import describe_environment
from gdd_keras.memory import check_memory
from gdd_keras.memory import check_stored_set
from gdd_keras.metadata import SCORE_DEFAULTS
from gdd_keras.metadata import SCORE_KEY
from gdd_keras.metadata import different_settings
from gdd_keras.metadata import distillation_config
from gdd_keras.metadata import find_version
from gdd_keras.metadata import gives_soft_labels
from gdd_keras.metadata import method_name
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.metadata import record_scores
from gdd_keras.metadata import soft_labels_error
from gdd_keras.quiet import quiet_import
from gdd_keras.selection import REAL_SELECTIONS
from gdd_keras.selection import SELECTIONS
from gdd_keras.selection import check_condensing
from gdd_keras.selection import check_distribution_matching

__all__ = ["main"]

_DESCRIPTION = """\
Scores generators and baselines: networks are trained from scratch on their
images and tested on real ones. Settings that are not given are those with
which the first generator was distilled.

  python -m gdd_keras.evaluate --model saved_models/digits
  python -m gdd_keras.evaluate --model saved_models/digits \\
      --protocol stream fixed --ipc 1 10 --network convnet3 vgg11 \\
      --selection random herding --baselines all --quality --audit
  python -m gdd_keras.report results/digits

Every figure goes to results.json as soon as it is there; the same command
continues an interrupted one and never scores a network twice. A figure on the
test split is also written to the generator's metadata. Defaults below hold
where the generator's metadata names nothing else."""

# `unseen` are the real images that the audit is checked with.
_TAKEN_NAMES = (*BASELINES, "unseen")
_LISTS = ("protocol", "ipc", "network")


def main(argv=None):
    """Runs the command; returns its exit code."""
    return cli.run_command(
        "evaluate",
        _DESCRIPTION,
        _add_arguments,
        lambda arguments: _run(arguments, argv),
        argv,
        after_interrupt="the same command goes on with the next network",
    )


def _add_arguments(parser):
    parser.add_argument(
        "--model",
        action="extend",
        nargs="+",
        default=[],
        metavar="[NAME=]DIRECTORY",
        help="Exported generators: version directories, or their parents "
        "(then the highest version). Their names in the results are gan, dim "
        "or gdd, after the losses they were trained with, unless one is "
        "given.",
    )
    parser.add_argument(
        "--baselines",
        action="extend",
        nargs="+",
        default=[],
        choices=(*BASELINES, "all"),
        metavar="NAME",
        help="Rows beside the generators: real images at random, by herding, "
        "by k_center, by forgetting; distribution matching (dm); under "
        "`stream`, fresh real images (real_stream), the ceiling; full, the "
        "whole training split; or all that fit the protocols.",
    )
    parser.add_argument(
        "--selection",
        nargs="+",
        default=["random"],
        choices=(*SELECTIONS, *REAL_SELECTIONS),
        metavar="NAME",
        help="Which of many generated candidates the protocol `fixed` keeps: "
        "random; typical and condensed, what `generate --selection` makes; "
        "herding and k_center, which need real images. Default: random.",
    )
    parser.add_argument(
        "--full-size",
        action="store_true",
        help="Also score generated sets as large as the training split "
        "(classification accuracy score).",
    )
    parser.add_argument(
        "--quality",
        action="store_true",
        help="Also compute precision, recall, density, coverage and a "
        "Frechet distance on features of a network trained on the training "
        "split.",
    )
    parser.add_argument(
        "--audit",
        action="store_true",
        help="Also compare generated images with the nearest training and "
        "held-out ones.",
    )
    parser.add_argument(
        "--split",
        choices=("test", "validation"),
        default="test",
        help="Split to score on; choose by `validation`, report `test`. "
        "Default: test.",
    )
    parser.add_argument(
        "--eval-seed",
        type=int,
        metavar="N",
        help="Seed of the first network; the next ones count up. Default: "
        "the seed with which the generator was distilled.",
    )
    parser.add_argument(
        "--results",
        metavar="DIR",
        help="Folder of results.json. Default: results/<dataset>.",
    )
    cli.add_config_flags(parser, ["data", "evaluation"], lists=_LISTS)


def _run(arguments, argv):
    """Scores everything that is asked for and prints the result."""
    if arguments.eval_seed is not None:
        checked_integer("--eval-seed", arguments.eval_seed, 0, 2**31 - 1)
    models = _models(arguments.model)
    given = cli.given_settings(arguments)
    lists = {
        name: tuple(dict.fromkeys(given.pop(name)))
        for name in _LISTS
        if name in given
    }
    config = _config(models, given, lists)
    settings = config.evaluation
    protocols, ipcs, networks = (
        lists.get(name, (getattr(settings, name),)) for name in _LISTS
    )
    baselines = arguments.baselines
    if not models and not baselines:
        raise InputError(
            "There must be something to score. Received: neither `--model` "
            "nor `--baselines`. Pass one, for instance `--baselines random`."
        )
    _check_labels(settings, models, baselines)
    if arguments.audit or arguments.split == "validation":
        _check_held_out(models, config)
    with quiet_import():
        from gdd_keras.data import describe_overlaps
        from gdd_keras.data import load_dataset
        from gdd_keras.evaluation.benchmark import Benchmark
        from gdd_keras.evaluation.benchmark import check_quality
        from gdd_keras.evaluation.benchmark import plan_rows
        from gdd_keras.evaluation.protocols import check_origin
        from gdd_keras.evaluation.results import Results
        from gdd_keras.generator_api import load_generator

    if "all" in baselines:
        fitting = (*protocols, "full_size")
        baselines = [n for n in BASELINES if BASELINES[n] in fitting]
    rows = plan_rows(
        list(models),
        list(dict.fromkeys(baselines)),
        list(dict.fromkeys(arguments.selection)),
        protocols,
        sorted(ipcs),
        networks,
        arguments.full_size,
    )
    # A wrong network should not show only after the data was decoded.
    for _, metadata in models.values():
        _check_networks(
            networks, ipcs, metadata["image_shape"], metadata["num_classes"]
        )
    dataset = load_dataset(config.data, config.run.seed)
    if not models:
        _check_networks(
            networks, ipcs, dataset.image_shape, dataset.num_classes
        )
    for directory, metadata in models.values():
        check_origin(directory, metadata, dataset)
    if arguments.quality:
        check_quality(dataset, arguments.split)
    _check_memory(arguments, baselines, protocols, ipcs, settings, dataset)
    for line in describe_overlaps(dataset):
        print(line, flush=True)
    generators = {
        name: load_generator(path) for name, (path, _) in models.items()
    }
    seed = arguments.eval_seed
    if seed is None:
        seed = config.run.seed
    folder = arguments.results or pathlib.Path("results") / dataset.name
    results = Results(folder, dataset.describe())
    results.begin(_command(argv), describe_environment())
    for name, (directory, metadata) in models.items():
        results.set_method(name, **_description(directory, metadata))
    for name in baselines:
        results.set_method(name, kind="baseline")
    benchmark = Benchmark(
        dataset,
        settings,
        results,
        generators,
        seed,
        arguments.split,
    )
    records = benchmark.run(rows)
    if arguments.quality:
        benchmark.compare([*models, "random"])
    if arguments.audit:
        benchmark.audit(list(models))
    recorded = _record(models, records) if arguments.split == "test" else []
    _print_results(models, dataset, records, recorded, results)


def _models(arguments):
    """Returns a dict from name to (version directory, metadata)."""
    models = {}
    for argument in arguments:
        name, separator, path = argument.partition("=")
        # A path may hold `=` itself.
        if not separator or pathlib.Path(argument).exists():
            name, path = None, argument
        directory = find_version(path, "--model")
        metadata = read_metadata(directory)
        name = name or method_name(metadata.get("config"))
        if not re.fullmatch(r"[\w.+-]+", name):
            raise InputError(
                "A generator's name must be of letters, digits and `_.+-`. "
                f"Received: {name!r}. Choose another: `--model NAME={path}`."
            )
        if name in models or name in _TAKEN_NAMES:
            raise InputError(
                f"Every row must have a name of its own. Received: `{name}` "
                f"for {directory}, which is the name of "
                f"{models[name][0] if name in models else 'a baseline'}. "
                f"Choose one: `--model NAME={path}`."
            )
        models[name] = directory, metadata
    return models


def _config(models, given, lists):
    """Returns the first generator's config under the given settings."""
    base = None
    for directory, metadata in models.values():
        base = distillation_config(directory, metadata, "dataset" in given)
        if base is not None:
            break
    base = base or Config()
    config = make_config(base=base, **given)
    for name, values in lists.items():
        for value in values:
            make_config(base=base, **{name: value})
    if config.evaluation.num_seeds < 1:
        raise InputError(
            "`num_seeds` must be an integer >= 1 to score. Received: "
            f"num_seeds={config.evaluation.num_seeds}. Pass `--num-seeds 5`."
        )
    return config


def _check_labels(settings, models, baselines):
    """Raises `InputError` for a row that has no such labels."""
    if settings.eval_labels == "hard":
        return
    real = [name for name in baselines if name != "full"]
    if real:
        raise InputError(
            "`eval_labels` may be soft for generators alone; real images have "
            f"hard labels. Received: eval_labels={settings.eval_labels}, "
            f"--baselines {' '.join(real)}. Pass `--eval-labels hard`, or "
            "score them by a command of their own."
        )
    for directory, metadata in models.values():
        if not gives_soft_labels(metadata):
            raise soft_labels_error(
                directory, f"eval_labels={settings.eval_labels}, "
            )


def _check_held_out(models, config):
    """Refuses a generator that was trained on what others hold out.

    Raises:
        InputError: If the images held out now are not those that a generator
            held out while it was trained.
    """
    for directory, metadata in models.values():
        difference = different_settings(directory, metadata, config)
        if difference is not None:
            raise InputError(
                "`--split validation` and `--audit` need images that no "
                "generator was trained on, which follow from its seed. "
                f"Received: {difference}. Score it by a command of its own, "
                "without `--validation-fraction`, or by the test split."
            )


def _check_memory(arguments, baselines, protocols, ipcs, settings, dataset):
    """Raises `InputError` for rows that there is no memory for."""
    from gdd_keras.evaluation.baselines import num_candidates
    from gdd_keras.evaluation.benchmark import AUDIT_ROWS

    shape, num_classes = dataset.image_shape, dataset.num_classes
    selections = set(arguments.selection)
    if "fixed" in protocols:
        kept = max(ipcs)
        if selections & set(REAL_SELECTIONS):
            kept = num_candidates(dataclasses.replace(settings, ipc=kept))
        check_stored_set(kept, shape, num_classes)
        if "condensed" in selections:
            check_condensing(max(ipcs), shape, num_classes)
        if "dm" in baselines:
            check_distribution_matching(max(ipcs), shape, num_classes)
    reference = (
        arguments.quality
        or arguments.audit
        or selections & set(REAL_SELECTIONS)
        or {"full", "forgetting", *REAL_SELECTIONS} & set(baselines)
    )
    if reference or arguments.full_size:
        # Read, and then as a variable; a large set is a file until then.
        check_memory(
            2 * len(dataset.train) * math.prod(shape),
            "As many images as the training split has, twice,",
            "Leave `--quality`, `--audit`, `--full-size`, and baselines and "
            "selections that look at real images out.",
        )
    if arguments.audit:
        rows = min(len(dataset.train), AUDIT_ROWS)
        # Bytes, float32, and what says whether all of them are finite.
        check_memory(
            6 * rows * math.prod(shape),
            f"The pixels of {rows:,} training images, to be compared with,",
            "Leave `--audit` out.",
        )


def _check_networks(networks, ipcs, image_shape, num_classes):
    """Raises `InputError` for a network that cannot be built or trained."""
    from gdd_keras.feasibility import check_scoring

    for network in networks:
        check_scoring(network, max(ipcs), image_shape, num_classes)


def _command(argv):
    """Returns the command line as text."""
    words = sys.argv[1:] if argv is None else argv
    return shlex.join(["python", "-m", "gdd_keras.evaluate", *words])


def _description(directory, metadata):
    """Returns what the results say of a generator."""
    return {
        "kind": "generator",
        "model": str(directory),
        "digest": model_digest(directory),
        "num_bytes": metadata["num_bytes"],
        "config": metadata.get("config"),
        "training": metadata.get("training"),
    }


def _groups(records):
    """Returns the summaries of records that differ in nothing but the seed."""
    from gdd_keras.evaluation.protocols import Score
    from gdd_keras.evaluation.protocols import summarize

    groups = {}
    for record in records:
        record = {**SCORE_DEFAULTS, **record}
        score = Score(
            **{name: record[name] for name in Score.__dataclass_fields__}
        )
        key = tuple(record[name] for name in SCORE_KEY)
        groups.setdefault(key, []).append(score)
    return [summarize(scores) for scores in groups.values()]


def _record(models, records):
    """Writes summaries to the metadata; returns the files."""
    written = []
    for name, (directory, _) in models.items():
        own = [record for record in records if record["method"] == name]
        try:
            record_scores(directory, _groups(own))
        except OSError as error:
            print(
                f"note: the scores are not recorded in {directory}: "
                f"{error.strerror}.",
                file=sys.stderr,
            )
        else:
            written.append(directory / "metadata.json")
    return written


def _print_results(models, dataset, records, recorded, results):
    """Prints the last screen: one block for each way of scoring."""
    from gdd_keras.evaluation.protocols import format_accuracy

    print(f"\ndata         {dataset.source}")
    pixels = len(dataset.train.images[0].ravel()) * dataset.num_classes
    for name, (directory, metadata) in models.items():
        stored_ipc = metadata["num_bytes"] / pixels
        print(
            f"{name:12} {directory}, {metadata['num_bytes'] / 1e6:.2f} MB, "
            f"as much as {stored_ipc:,.0f} stored images per class"
        )
    heading = None
    for summary in _groups(records):
        split = dataset.splits[summary["split"]]
        now = (
            f"{_protocol_text(summary)}; {summary['epochs']} epochs, "
            f"{_labels_text(summary)}augmentation {summary['augmentation']}, "
            f"{summary['precision']}{_schedule_text(summary)}; "
            f"{summary['network']}, last epoch, on {len(split):,} images of "
            f"the split {summary['split']}"
        )
        if now != heading:
            print(f"\n{now}")
            heading = now
        name = summary["method"]
        if summary["selection"] != "random":
            name += f", {summary['selection']} selection"
        print(
            f"  {name:28} {format_accuracy(summary)}; "
            f"{summary['distinct_images']:,} distinct images each"
        )
    print()
    for file in recorded:
        print(f"recorded in  {file}")
    print(f"results in   {results.file}")
    print(f"next         python -m gdd_keras.report {results.directory}")


def _labels_text(summary):
    """Returns what goes into the heading of anything but hard labels."""
    labels = summary["labels"]
    return "" if labels == "hard" else f"{labels} labels, "


def _schedule_text(summary):
    """Returns what goes behind all but the protocol's own learning rate."""
    schedule = summary["schedule"]
    return "" if schedule == "protocol" else f", {schedule} schedule"


def _protocol_text(summary):
    """Returns protocol and IPC as text."""
    ipc = summary["ipc"]
    return {
        "stream": f"stream, IPC {ipc} (fresh per class and epoch)",
        "fixed": f"fixed, IPC {ipc} (stored per class)",
        "full_size": "full size (as many images as the training split)",
    }[summary["protocol"]]


if __name__ == "__main__":
    sys.exit(main())
