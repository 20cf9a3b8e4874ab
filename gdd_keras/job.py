"""The main job: data set in, SavedModel and its score out."""

import dataclasses
import json
import pathlib
import time

from gdd_keras.callbacks import image_grid
from gdd_keras.callbacks import png_bytes
from gdd_keras.config import InputError
from gdd_keras.config import config_to_json
from gdd_keras.config import make_config
from gdd_keras.data import describe_overlaps
from gdd_keras.data import load_dataset
from gdd_keras.difficulty import NUM_CHOSEN
from gdd_keras.difficulty import choose_noise
from gdd_keras.difficulty import describe_reweighting
from gdd_keras.difficulty import time_hard_draws
from gdd_keras.difficulty import train_judges
from gdd_keras.evaluation import Score
from gdd_keras.evaluation import evaluate_generator
from gdd_keras.evaluation import summarize
from gdd_keras.export import export_generator
from gdd_keras.files import new_directory
from gdd_keras.files import next_version
from gdd_keras.files import write_bytes
from gdd_keras.generator_api import load_generator
from gdd_keras.labeller import build_labeller
from gdd_keras.labeller import describe_labeller
from gdd_keras.labeller import soft_labeller
from gdd_keras.labeller import time_labeller
from gdd_keras.labeller import train_labeller
from gdd_keras.latents import fitted_generator
from gdd_keras.metadata import SCORE_DEFAULTS
from gdd_keras.metadata import method_name
from gdd_keras.metadata import record_scores
from gdd_keras.monitoring import hyperparameters
from gdd_keras.monitoring import write_hparams
from gdd_keras.networks import with_chosen_noise
from gdd_keras.quiet import printer
from gdd_keras.strategy import describe_devices
from gdd_keras.strategy import scalar
from gdd_keras.training import Plan
from gdd_keras.training import build_stages
from gdd_keras.training import check_same_data
from gdd_keras.training import plan_training
from gdd_keras.training import restore_trained
from gdd_keras.training import seconds_to_train
from gdd_keras.training import time_plan
from gdd_keras.training import train_stage
from gdd_keras.training import training_precision

__all__ = [
    "JobResult",
    "distill_dataset",
    "estimate_cost",
    "export_metadata",
    "refit_run",
]

_WEIGHTS = "model.weights.h5"
_STAGE_TITLES = {
    "cgan": "stage 1, conditional GAN",
    "distill": "stage 2, matching",
}
# Of a time budget, their labeller included: the last third of a training gains
# less than hard draws do (docs/results.md), but there has to be a training.
_MOST_OF_BUDGET = 1.0 / 3.0


@dataclasses.dataclass(frozen=True)
class JobResult:
    """What a finished job left.

    Attributes:
        run: Folder of the run.
        export: Version directory of the SavedModel.
        grid: PNG of generated images, one row per class.
        summary: As from `gdd_keras.evaluation.summarize`, or `None` if no
            network was to be trained.
    """

    run: pathlib.Path
    export: pathlib.Path
    grid: pathlib.Path
    summary: dict | None


def distill_dataset(
    config,
    run,
    saved_models="saved_models",
    dataset=None,
    verbose=1,
    started=None,
    profile=False,
    score=True,
    allow_changed_data=False,
):
    """Trains both stages, exports the generator, and scores it.

    A run that was interrupted goes on from its last checkpoint; a finished
    one returns at once.

    Args:
        config: `Config`.
        run: `RunDirectory`, see `open_run`.
        saved_models: Where `<dataset>/<version>/` is written.
        dataset: `Dataset`, or `None` to load what the config names.
        verbose: 1 for progress bars and one line per stage, 0 for silence.
        started: `time.monotonic()` at which the time budget began; default:
            now.
        profile: Whether to profile a few steps of each stage.
        score: Whether to score it on the test split, as the config says.
        allow_changed_data: Whether to continue a run on data that changed
            since its start.

    Returns:
        `JobResult`.

    Raises:
        InputError: Before any training, on anything that cannot be used.
        RunError: If a loss becomes NaN.

    Example:
        ```python
        config = make_config(dataset="digits", num_seeds=1)
        run = open_run(config, "digits")
        result = distill_dataset(config, run)
        ```
    """
    say = printer(verbose)
    if run.state["done"]:
        say(f"{run.path} is finished; `--fresh` starts over.")
        return _result(run)
    # Time used before an interruption counts against the budget too.
    started = time.monotonic() if started is None else started
    started -= run.state["seconds"]
    if dataset is None:
        dataset = load_dataset(config.data, config.run.seed)
    if check_same_data(run, dataset, allow_changed_data):
        say("the data changed since this run was started; going on")
    stages = build_stages(config, dataset)
    if config.trains_labeller and "extras" not in run.state:
        extras = _time_extras(stages, config, dataset, run.state)
        run.save(extras=dataclasses.asdict(extras))
    extras = _extras_of(run)
    asked, config = config, extras.within_budget(config)
    for line in _describe_labeller(extras, config, dataset, run.state):
        say(line)
    labeller = None
    if config.trains_labeller:
        # First, so that a time budget knows what is left for the rest.
        labeller = _labeller(run, config, dataset, say, verbose)
    left = _budget_left(config, started, extras.kept)
    plans = _plans(run, stages, config, dataset, left)
    begun = run.state["stages"]
    if verbose:
        # It looks at every image.
        print(
            *_describe(dataset, stages, plans, asked, begun, extras, score),
            sep="\n",
        )
    if not run.score_events.exists():
        write_hparams(run.score_events, hyperparameters(config), {})
    previous = None
    for index, (stage, plan) in enumerate(zip(stages, plans, strict=True)):
        say(f"\n{_STAGE_TITLES[stage.name]}")
        if plan.estimated and plan.seconds is not None:
            plan = time_plan(stage, plan, config, dataset)
            run.state["plan"][index] = dataclasses.asdict(plan)
            run.save()
            say(f"{plan.steps:,} steps, timed")
        if previous is not None:
            stage.trainer.continue_from(previous.trainer)
        train_stage(stage, plan, run, config, verbose, profile=profile)
        previous = stage
    if "export" not in run.state:
        trainer = stages[-1].trainer
        _export(run, trainer, labeller, config, dataset, saved_models, verbose)
    say(f"\nexported {run.state['export']}")
    if score and config.evaluation.num_seeds > 0:
        step = scalar(stages[-1].trainer.step)
        _score(run, dataset, config, step, verbose)
    run.save(done=True)
    return _result(run)


def refit_run(
    run, settings, saved_models="saved_models", dataset=None, verbose=0
):
    """Exports a finished run once more, with other settings of generation.

    Fits the mixture of latents anew to what the run's encoder makes of the
    training images, and chooses hard draws anew if there are to be any; trains
    no generator, and leaves the run as it is.

    Args:
        run: `RunDirectory`, see `finished_run`.
        settings: Dict of fields of `GenerationConfig`; the others are the
            run's.
        saved_models: As in `distill_dataset`.
        dataset: `Dataset`, or `None` to load what the run names.
        verbose: 1 shows the progress of hard draws, 0 nothing.

    Returns:
        Version directory of the SavedModel, a `pathlib.Path`.

    Raises:
        InputError: If the run has no labeller or encoder for the settings,
            or the data changed.
        RunError: If its last checkpoint cannot be read.
    """
    before = _extras_of(run).within_budget(run.config)
    trained = vars(before.generation)
    generation = dataclasses.replace(before.generation, **settings)
    trained_with = {
        name: trained[name]
        for name, value in vars(generation).items()
        if value != trained[name]
    }
    _check_refit(run, generation, trained_with)
    config = dataclasses.replace(before, generation=generation)
    if not generation.soft_labels:
        # What is exported without a labeller cannot be scored by soft labels.
        config = make_config(base=config, eval_labels="hard")
    if dataset is None:
        dataset = load_dataset(config.data, config.run.seed)
    earlier = run.state.get("fingerprint", dataset.fingerprint)
    if dataset.fingerprint != earlier:
        raise InputError(
            f"The data must be those that {run.path} was trained on, "
            f"fingerprint {earlier}. Received: {dataset.source}, fingerprint "
            f"{dataset.fingerprint}. Put the data back."
        )
    next_version(pathlib.Path(saved_models) / dataset.name)
    labeller = None
    if config.trains_labeller:
        labeller = _labeller(run, config, dataset, printer(0), verbose=0)
    # Of stage 2 only the weights are needed, and one device is enough.
    stage, *_ = build_stages(
        make_config(base=config, distill_steps=0, strategy="none"), dataset
    )
    restore_trained(stage.trainer, run)
    generator = _drawing_generator(
        stage.trainer, labeller, config, dataset, verbose
    )
    return _write_export(
        generator, run, labeller, config, dataset, saved_models, trained_with
    )


def _check_refit(run, generation, trained_with):
    """Refuses settings of an export that a run has not what it takes for."""
    _check_mixture(run, trained_with)
    has_labeller = "labeller" in run.state and run.labeller.is_dir()
    if generation.soft_labels and not has_labeller:
        raise InputError(
            "`--soft-labels` needs the labeller of the run. Received: "
            f"{run.path}, which has none. Pass `--no-soft-labels`, and add a "
            "labeller with `python -m gdd_keras.label`."
        )
    if generation.hard_share and not has_labeller:
        raise InputError(
            "`--hard-share` needs the labeller of the run. Received: "
            f"{run.path}, which has none. Pass `--hard-share 0`, and favour "
            "hard draws of the export with `python -m gdd_keras.reweight`."
        )


def _check_mixture(run, trained_with):
    """Refuses settings of a mixture for a run without."""
    fitted = {
        "mixture_components",
        "mixture_centres",
        "latent_confidence",
    }
    changed = sorted(fitted & trained_with.keys())
    if changed and run.config.networks.latents == "normal":
        raise InputError(
            "A mixture of latents needs the encoder of the run. Received: "
            f"{', '.join(changed)}, and {run.path} with latents=normal. Leave "
            "them out."
        )


def estimate_cost(config, dataset, started, begun=None):
    """Builds everything and times a few steps.

    Args:
        config: `Config`.
        dataset: `Dataset`.
        started: `time.monotonic()` at which the time budget began.
        begun: What the run begins with, see `adopted_progress`; default:
            nothing.

    Returns:
        List of lines to print: data, then steps and minutes of each stage.
    """
    begun = begun or {}
    stages = build_stages(config, dataset)
    extras = _time_extras(stages, config, dataset, begun)
    affordable = extras.within_budget(config)
    kept = extras.kept
    if affordable.trains_labeller:
        kept += extras.labeller
    plans = plan_training(
        stages, config, dataset, _budget_left(config, started, kept)
    )
    progress = begun.get("stages", {})
    return [
        *_describe_labeller(extras, affordable, dataset, begun),
        *_describe(dataset, stages, plans, config, progress, extras),
    ]


@dataclasses.dataclass(frozen=True)
class _Extras:
    """What a run does beside both stages, in estimated seconds.

    Attributes:
        labeller: Of training it, before all else; 0 if there is one, or it is
            not needed.
        hard_draws: Of choosing them, after all else; 0 if nobody asked.
        left_out: Whether they are left out, for the time budget.
    """

    labeller: float = 0.0
    hard_draws: float = 0.0
    left_out: bool = False

    @property
    def kept(self):
        """Seconds of a time budget to keep for the end."""
        return 0.0 if self.left_out else self.hard_draws

    def of_hard_draws(self, config):
        """Returns the seconds that would be saved without them."""
        labeller = 0.0 if config.generation.soft_labels else self.labeller
        return self.hard_draws + labeller

    def within_budget(self, config):
        """Returns the config, without hard draws if they are left out."""
        if not self.left_out:
            return config
        return make_config(base=config, hard_share=0.0)


def _extras_of(run):
    """Returns the `_Extras` in the state of a run."""
    own = run.state.get("extras", {})
    return _Extras(
        own.get("labeller") or 0.0,
        own.get("hard_draws") or 0.0,
        own.get("left_out") or False,
    )


def _time_extras(stages, config, dataset, begun):
    """Times a few steps of what is done beside both stages.

    Of a short time budget hard draws would take more than they are worth, and
    are left out.

    Args:
        stages: List of `Stage`.
        config: `Config`.
        dataset: `Dataset`.
        begun: What the run begins with, as `RunDirectory.state`.

    Returns:
        `_Extras`.
    """
    precision = training_precision(config)
    labeller = hard_draws = 0.0
    if config.trains_labeller and "labeller" not in begun:
        seconds = time_labeller(dataset, precision)
        labeller = config.labeller.labeller_steps * seconds
    if config.generation.hard_share:
        generator = stages[0].trainer.deployed_generator
        hard_draws = time_hard_draws(
            dataset, *_generate_function(generator), precision
        )
    extras = _Extras(labeller, hard_draws)
    budget = config.run.time_budget
    if budget is None:
        return extras
    most = _MOST_OF_BUDGET * 60.0 * budget
    return dataclasses.replace(
        extras, left_out=extras.of_hard_draws(config) > most
    )


def _describe_labeller(extras, config, dataset, begun):
    """Returns lines that say how the labeller comes about.

    Args:
        extras: `_Extras`.
        config: `Config`, within the time budget.
        dataset: `Dataset`.
        begun: As in `_time_extras`.
    """
    if not config.trains_labeller:
        return []
    if "labeller" in begun:
        accuracy = begun["labeller"]
        return [f"labeller: done, {_held_out(accuracy)}"]
    return [
        f"{describe_labeller(dataset, config.labeller.labeller_steps)}, before "
        f"all else, about {extras.labeller / 60:.1f} minutes"
    ]


def _budget_left(config, started, kept=0.0):
    """Returns a function giving the seconds left, or `None`.

    Args:
        config: `Config`.
        started: As in `estimate_cost`.
        kept: Seconds to keep for something else.
    """
    if config.run.time_budget is None:
        return None
    end = started + 60.0 * config.run.time_budget - kept
    return lambda: end - time.monotonic()


def _plans(run, stages, config, dataset, left):
    """Returns the plans of a run: made once, then kept."""
    if "plan" not in run.state:
        # Timing stage 2 too would delay the first step by many seconds.
        plans = plan_training(stages, config, dataset, left, num_timed=1)
        run.save(plan=[dataclasses.asdict(plan) for plan in plans])
    fields = [field.name for field in dataclasses.fields(Plan)]
    plans = [
        Plan(**{name: values.get(name) for name in fields})
        for values in run.state["plan"]
    ]
    if len(plans) != len(stages):
        raise InputError(
            f"{run.path}: `plan` in its state must have an entry for each of "
            f"{len(stages)} stages. Received: {len(plans)}. Start over with "
            "`--fresh`."
        )
    if left is None:
        return plans
    # After an interruption, what is left is shared as what was planned and is
    # not used yet; so it is where stage 1 is another run's.
    begun = run.state["stages"]
    unused = []
    for stage, plan in zip(stages, plans, strict=True):
        progress = begun.get(stage.name, {"done": False})
        used = progress.get("seconds") or 0.0
        unused.append(0.0 if progress["done"] else plan.seconds - used)
    unused = [max(0.0, seconds) for seconds in unused]
    share = max(0.0, seconds_to_train(left())) / (sum(unused) or 1.0)
    if not begun:
        share = min(1.0, share)
    return [
        dataclasses.replace(plan, seconds=max(1.0, seconds * share))
        for plan, seconds in zip(plans, unused, strict=True)
    ]


def _describe(dataset, stages, plans, config, begun, extras, score=True):
    """Returns lines that say what will be trained, and how long.

    Args:
        dataset: `Dataset`.
        stages: List of `Stage`.
        plans: List of `Plan`.
        config: `Config`, as the user asked.
        begun: Progress of the run, `RunDirectory.state["stages"]`.
        extras: `_Extras`.
        score: Whether it is scored in the end.
    """
    height, width, channels = dataset.image_shape
    sizes = ", ".join(
        f"{len(split):,} {name}" for name, split in dataset.splits.items()
    )
    lines = [
        f"data: {dataset.name}, {height} x {width} x {channels}, "
        f"{dataset.num_classes} classes, {sizes} images",
        *describe_overlaps(dataset),
    ]
    generator = stages[0].trainer.generator
    lines.append(
        f"generator: {generator.count_params():,} weights, trained in "
        f"{training_precision(config)}"
    )
    devices = describe_devices(config.run.strategy, config.cgan.batch_size)
    if devices is not None:
        lines.append(devices)
    for stage, plan in zip(stages, plans, strict=True):
        title = _STAGE_TITLES[stage.name]
        progress = begun.get(stage.name, {})
        done = progress.get("steps", 0)
        if progress.get("done"):
            lines.append(f"{title}: done, {done:,} steps")
            continue
        # Under a time budget the plan is an estimate.
        left = max(0, plan.steps - done)
        rate = stage.batch_size / plan.step_seconds
        lines.append(
            f"{title}: {left:,} {'more ' if done else ''}steps of "
            f"{stage.batch_size} images, {rate:,.0f} images/s"
            f"{' by estimate' if plan.estimated else ''}, about "
            f"{left * plan.step_seconds / 60:.1f} minutes"
        )
    if extras.left_out:
        minutes = extras.of_hard_draws(config) / 60
        lines.append(
            f"hard draws: left out, since about {minutes:.1f} minutes would be "
            f"more than {_MOST_OF_BUDGET:.0%} of the time budget"
        )
    elif config.generation.hard_share:
        lines.append(
            f"{describe_reweighting(config.generation.hard_share)}, about "
            f"{extras.hard_draws / 60:.1f} minutes"
        )
    evaluation = config.evaluation
    if score and evaluation.num_seeds:
        shown = evaluation.ipc * dataset.num_classes
        lines.append(
            f"then scoring: {evaluation.num_seeds} x {evaluation.network}, "
            f"{evaluation.eval_epochs:,} epochs of {shown:,} images each"
        )
    return lines


def _labeller(run, config, dataset, say, verbose):
    """Returns the run's labeller: trained once, then kept."""
    precision = training_precision(config)
    if "labeller" in run.state:
        labeller = build_labeller(dataset, config.run.seed, precision)
        labeller.load_weights(run.labeller / _WEIGHTS)
        return labeller
    started = time.monotonic()
    labeller, accuracy = train_labeller(
        dataset,
        config.labeller.labeller_steps,
        config.run.seed,
        precision,
        verbose,
    )
    # A process that was killed may have written it and not noted it.
    with new_directory(run.labeller, replace=True) as folder:
        labeller.save_weights(folder / _WEIGHTS)
    seconds = time.monotonic() - started
    run.save(
        labeller=accuracy,
        labeller_seconds=seconds,
        seconds=run.state["seconds"] + seconds,
    )
    say(_held_out(accuracy))
    return labeller


def _held_out(accuracy):
    return f"right on {accuracy:.2%} of held-out images"


def _export(run, trainer, labeller, config, dataset, saved_models, verbose):
    """Writes grid and SavedModel, and notes where they are."""
    started = time.monotonic()
    generator = _drawing_generator(trainer, labeller, config, dataset, verbose)
    if config.generation.hard_share:
        # Training, too, unlike the fit alone.
        seconds = time.monotonic() - started
        run.save(seconds=run.state["seconds"] + seconds)
    grid = run.path / "samples.png"
    write_bytes(grid, png_bytes(image_grid(generator, config.run.seed)))
    version = _write_export(
        generator, run, labeller, config, dataset, saved_models
    )
    run.save(export=str(version))


def _drawing_generator(trainer, labeller, config, dataset, verbose):
    """Returns what is exported: see `fitted_generator`, and hard draws."""
    generator = fitted_generator(trainer, dataset.train, config)
    hard_share = config.generation.hard_share
    if not hard_share:
        return generator
    say = printer(verbose)
    say(f"\n{describe_reweighting(hard_share)}")
    precision = training_precision(config)
    seed = config.run.seed
    judges = train_judges(dataset, labeller, seed, precision, verbose)
    layer, wrong = choose_noise(
        *_generate_function(generator),
        dataset.num_classes,
        dataset.image_shape,
        judges,
        hard_share,
        seed,
        verbose,
    )
    say(f"{wrong:.2%} of draws before were of another class")
    return with_chosen_noise(generator, layer)


def _generate_function(generator):
    """Returns a generator as `choose_noise` takes it, and its `noise_dim`."""
    return (
        lambda *inputs: generator(list(inputs), training=False),
        generator.input_shape[0][-1],
    )


def _write_export(
    generator, run, labeller, config, dataset, saved_models, trained_with=None
):
    """Writes the SavedModel; returns its version directory.

    Args:
        generator: As from `fitted_generator`.
        run: `RunDirectory`.
        labeller: As from `_labeller`, or `None`.
        config: `Config` of the export.
        dataset: `Dataset`.
        saved_models: As in `distill_dataset`.
        trained_with: Settings of generation in which the run differed, name
            to value; `None` if this is the run's own export.
    """
    history = _history(run)
    if trained_with is not None:
        history["trained_with"] = trained_with
    metadata = export_metadata(
        config,
        dataset,
        {n: stage["steps"] for n, stage in run.state["stages"].items()},
        run.training_seconds,
        **history,
    )
    if trained_with is not None:
        # Of this machine; the one that trained may compute in another.
        del metadata["training"]["precision"]
    classifier = None
    if config.generation.soft_labels:
        temperature = config.labeller.label_temperature
        classifier = soft_labeller(labeller, temperature)
        metadata["labeller"] = {"held_out_accuracy": run.state["labeller"]}
    return export_generator(
        generator,
        pathlib.Path(saved_models) / dataset.name,
        metadata,
        config.generation.label_mixing,
        config.generation.weights,
        classifier,
    )


def export_metadata(config, dataset, steps, seconds, **training):
    """Returns what is written beside an export of a training.

    Args:
        config: `Config`.
        dataset: `Dataset`.
        steps: Dict from name of a stage to its steps so far.
        seconds: Seconds of training so far.
        **training: What else to say of the training.

    Returns:
        Dict ready for JSON, see `gdd_keras.metadata`.
    """
    chosen = {"num_chosen": NUM_CHOSEN} if config.generation.hard_share else {}
    return {
        **chosen,
        "class_names": list(dataset.class_names),
        "statistics": {"mean": list(dataset.mean), "std": list(dataset.std)},
        "dataset": dataset.describe(),
        "fingerprint": dataset.fingerprint,
        "seed": config.run.seed,
        "config": json.loads(config_to_json(config)),
        "training": {
            "steps": steps,
            "seconds": round(seconds, 1),
            "precision": training_precision(config),
            **training,
        },
        "scores": [],
    }


def _history(run):
    """Returns what the metadata say of changed data and another's stage 1."""
    name = "earlier_fingerprints"
    history = {name: run.state[name]} if name in run.state else {}
    if "stage_1_from" in run.state:
        history["adopted_stage_1"] = True
    return history


def _score(run, dataset, config, step, verbose):
    """Scores the export, each network once, on the test split."""
    # Only sets that come without any test images fall back.
    split = "test" if dataset.test is not None else "validation"
    if verbose and split == "validation":
        print(
            f"{dataset.source} has no test images: scored by the held-out "
            "ones, which flatter what was chosen by them."
        )

    def keep(scores):
        run.save(scores=[dataclasses.asdict(score) for score in scores])

    names = [field.name for field in dataclasses.fields(Score)]
    scores = evaluate_generator(
        load_generator(run.state["export"]),
        dataset,
        config.evaluation,
        seed=config.run.seed,
        split=split,
        verbose=verbose,
        method=method_name(dataclasses.asdict(config)),
        earlier=[
            Score(**{n: entry.get(n, SCORE_DEFAULTS.get(n)) for n in names})
            for entry in run.state.get("scores", ())
        ],
        on_score=keep,
    )
    summary = summarize(scores)
    record_scores(run.state["export"], [summary])
    write_hparams(
        run.score_events,
        hyperparameters(config),
        {f"accuracy/{split}": summary["accuracy_mean"]},
        step,
    )
    run.save(summary=summary)


def _result(run):
    return JobResult(
        run=run.path,
        export=pathlib.Path(run.state["export"]),
        grid=run.path / "samples.png",
        summary=run.state.get("summary"),
    )
