"""Command: `python -m gdd_keras.tune` searches the weights of the losses."""

import sys

from gdd_keras import cli
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import checked_integer
from gdd_keras.config import make_config
from gdd_keras.quiet import quiet_import
from gdd_keras.run_directory import RunDirectory
from gdd_keras.tuning.chiefs import role
from gdd_keras.tuning.chiefs import worker_name
from gdd_keras.tuning.curves import describe_values
from gdd_keras.tuning.curves import value_text
from gdd_keras.tuning.directory import open_search
from gdd_keras.tuning.flags import add_search_flags
from gdd_keras.tuning.flags import given_search
from gdd_keras.tuning.outcome import completed
from gdd_keras.tuning.outcome import read_trials
from gdd_keras.tuning.outcome import write_outcome
from gdd_keras.tuning.space import num_trials
from gdd_keras.tuning.space import search_space

__all__ = ["main"]

_DESCRIPTION = """\
Search the weights of the matching losses with KerasTuner.

All trials share one stage 1; each trains stage 2 with values of its own and
is scored by networks trained on its images, on the held-out part of the
training split. The test split is never used. The same command goes on with an
interrupted search.

  python -m gdd_keras.tune --dataset digits --workers 2
  python -m gdd_keras.tune --dataset fashion_mnist --tuner grid \\
      --omega-g 0.3 --omega-l 0 10 30 100 --trial-repeats 3
  python -m gdd_keras.distill --config runs/digits-search/best_config.json

The flags of omega_g, omega_l, pool_redraw_steps, pool_train_steps,
distill_learning_rate and distill_discriminator_learning_rate take several
values to choose from; one value fixes the setting. omega_g and omega_l are
searched over half decades and zero if not given; --search adds others.

Over several machines with a shared folder: the same command on each, with
KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT set to the chief's address and
KERASTUNER_TUNER_ID to `chief` on one, which hands out the trials, and to a
name of their own on the others, which run them."""

_BEST = 5
_MOST_WORKERS = 256


def main(argv=None):
    """Runs the command; returns its exit code."""
    return cli.run_command(
        "tune",
        _DESCRIPTION,
        _add_arguments,
        _run,
        argv,
        after_interrupt="the same command goes on with the search",
    )


def _add_arguments(parser):
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="Settings of a run to start from; flags given beside it change "
        "them.",
    )
    parser.add_argument(
        "--search-dir",
        metavar="DIR",
        help="Folder of the search. Default: runs/<dataset>-search, or the "
        "next number where that holds another search.",
    )
    parser.add_argument(
        "--stage-1-from",
        metavar="RUN",
        help="Take the finished stage 1 of a run with the same data and "
        "networks instead of training one.",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="Processes that run trials, each with its share of the cores. "
        "Default: 1.",
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="Start over in a new folder, even if this search exists.",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="Print only the last screen."
    )
    add_search_flags(parser)


def _run(arguments):
    part = role()
    checked_integer("--workers", arguments.workers, 1, _MOST_WORKERS)
    tuning, settings, lists = given_search(arguments)
    base = cli.read_config(arguments.config, settings)
    # Everything that needs no TensorFlow is refused before it loads.
    config = cli.resolve_config(base, settings, gpu=False)
    _check_config(config)
    space = search_space(config, lists, arguments.search)
    trials = num_trials(tuning, space)
    with quiet_import():
        import tensorflow as tf

        from gdd_keras.data import load_dataset
        from gdd_keras.feasibility import check_training
        from gdd_keras.tuning.search import join
        from gdd_keras.tuning.search import run_search
        from gdd_keras.tuning.search import serve
    gpu = bool(tf.config.list_physical_devices("GPU"))
    # Only the workers need it.
    tf.config.set_visible_devices([], "GPU")
    config = cli.resolve_config(base, settings, gpu)
    dataset = load_dataset(config.data, config.run.seed)
    for layer in space.get("local_layer", [config.matching.local_layer]):
        check_training(
            make_config(base=config, local_layer=layer),
            dataset.image_shape,
            dataset.num_classes,
        )
    search = open_search(
        config,
        tuning,
        space,
        dataset.name,
        arguments.search_dir,
        arguments.fresh,
        stage_1_from=arguments.stage_1_from,
    )
    verbose = 0 if arguments.quiet else 1
    if verbose:
        _print_plan(search, trials)
    if part == "worker":
        join(search, worker_name(), arguments.workers, verbose)
        return
    with search.locked():
        if arguments.stage_1_from is not None:
            run = RunDirectory(search.stage_1, config)
            run.adopt_stage_1(arguments.stage_1_from)
        try:
            if part == "chief":
                serve(search, verbose)
            else:
                run_search(search, arguments.workers, verbose)
        finally:
            # What there is after an interruption is worth looking at too.
            best = write_outcome(search)
    _print_last_screen(search, best)


def _check_config(config):
    """Raises `InputError` for settings without meaning in a search."""
    if config.run.time_budget is not None:
        raise InputError(
            "`--time-budget` has no meaning in a search, whose trials must "
            f"train equally long. Received: {config.run.time_budget:g}. Set "
            "`--cgan-steps` and `--distill-steps`, and, where a config file "
            "sets it, `--time-budget none`."
        )
    if config.matching.distill_steps < 1:
        raise InputError(
            "`distill_steps` must be an integer >= 1 to search the settings "
            "of stage 2. Received: distill_steps=0."
        )


def _print_plan(search, trials):
    """Prints what is searched, and how it is judged."""
    tuning, config = search.tuning, search.config
    print(f"search: {search.path} ({tuning.tuner}, {trials} trials)")
    for name, values in search.space.items():
        print(f"  {name}: {', '.join(map(value_text, values))}")
    repeats = tuning.trial_repeats
    print(
        f"each trial: {'' if repeats == 1 else f'{repeats} x '}"
        f"{config.matching.distill_steps:,} steps of stage 2, then "
        f"{tuning.trial_networks} x {config.evaluation.network}, "
        f"{tuning.trial_epochs:,} epochs, stream protocol, IPC "
        f"{tuning.trial_ipc}, on held-out images",
        flush=True,
    )


def _print_last_screen(search, best):
    """Prints the best trials, paths, and what to type next."""
    trials = read_trials(search)
    if best is None:
        raise RunError(
            f"no trial was completed; {search.path / 'trials.csv'} says why."
        )
    failed = sum(trial.status == "FAILED" for trial in trials)
    print(f"\ndone: {len(trials)} trials, {failed} of them failed; the best")
    ranked = sorted(completed(trials), key=lambda trial: -trial.mean)
    for trial in ranked[:_BEST]:
        print(f"  {trial.accuracy_text:18} {describe_values(trial.values)}")
    print(f"  best    {search.path / 'best_config.json'}")
    print(f"  table   {search.path / 'trials.csv'}")
    for file in sorted(search.path.glob("*.png")):
        print(f"  curve   {file}")
    print(
        "next\n"
        f"  python -m gdd_keras.distill --config "
        f"{search.path / 'best_config.json'} --stage-1-from {search.stage_1}"
    )


if __name__ == "__main__":
    sys.exit(main())
