"""What TFX's `Tuner` and `Trainer` call: `tuner_fn`, `pretrain_fn`, `run_fn`.

A component that was killed starts anew in another folder of artifacts.
Training therefore lies in a folder of work beside them and continues there;
artifacts are copied from it when they are whole.
"""

import shutil

import keras_tuner
from tfx.components.trainer import fn_args_utils
from tfx.components.tuner.component import TunerFnResult

from gdd_keras.config import make_config
from gdd_keras.data import load_dataset
from gdd_keras.job import distill_dataset
from gdd_keras.run_directory import RunDirectory
from gdd_keras.run_directory import open_run
from gdd_keras.tuning.directory import open_search
from gdd_keras.tuning.outcome import write_outcome
from gdd_keras.tuning.search import make_tuner
from pipelines.configs import RUN_FOLDER
from pipelines.configs import Settings
from pipelines.paths import local_path

__all__ = ["pretrain_fn", "run_fn", "tuner_fn"]

FnArgs = fn_args_utils.FnArgs


def pretrain_fn(fn_args: FnArgs):
    """Trains stage 1: a plain GAN, from which the others start.

    Args:
        fn_args: TFX's; `custom_config` as from `Settings.custom_config`.

    Raises:
        RunError: If a loss becomes NaN.
    """
    settings, work_dir, dataset = _prepare(fn_args)
    # No hard draws: of all models only the last one needs them.
    config = make_config(base=settings.config, distill_steps=0, hard_share=0.0)
    run = _train(fn_args, config, work_dir, dataset)
    model = local_path(fn_args.serving_model_dir).parent
    shutil.copytree(
        run.path, model / RUN_FOLDER, ignore=shutil.ignore_patterns(".lock")
    )


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Returns the search over stage 2, which starts from stage 1.

    Args:
        fn_args: As in `pretrain_fn`; `base_model` is its model.
    """
    settings, work_dir, dataset = _prepare(fn_args)
    search = open_search(
        settings.config,
        settings.tuning,
        settings.space,
        dataset.name,
        parent=work_dir,
        # TFX gives the same stage 1 another place whenever it runs.
        any_stage_1=True,
    )
    RunDirectory(search.stage_1, search.config).adopt_stage_1(_stage_1(fn_args))
    tuner = _Search(make_tuner(search, dataset), search)
    return TunerFnResult(tuner=tuner, fit_kwargs={})


def run_fn(fn_args: FnArgs):
    """Trains stage 2 with the best values of the search.

    Args:
        fn_args: As in `tuner_fn`; `hyperparameters` are those of the search,
            or `None`.

    Raises:
        RunError: If a loss becomes NaN.
    """
    settings, work_dir, dataset = _prepare(fn_args)
    config = settings.config
    if fn_args.hyperparameters is not None:
        best = keras_tuner.HyperParameters.from_config(fn_args.hyperparameters)
        values = {name: best.get(name) for name in settings.space}
        config = make_config(base=config, **values)
    _train(fn_args, config, work_dir, dataset, _stage_1(fn_args))


class _Search:
    """A tuner that keeps quiet, and leaves its outcome behind.

    TFX prints KerasTuner's summaries before and after the search.
    """

    def __init__(self, tuner, search):
        self._tuner = tuner
        self._search = search

    def __getattr__(self, name):
        return getattr(self._tuner, name)

    def search(self):
        try:
            self._tuner.search()
        finally:
            write_outcome(self._search)

    def search_space_summary(self):
        """Prints nothing."""

    def results_summary(self):
        """Prints nothing."""


def _prepare(fn_args):
    """Returns the settings, the folder of work and the data.

    The config goes on naming the data as the user did: runs and models say
    what they were made of, and do not depend on where TFX puts its artifacts.
    """
    settings, work_dir = Settings.from_custom_config(fn_args.custom_config)
    # .../<examples>/Split-train/*
    examples = local_path(fn_args.train_files[0]).parent.parent
    here = make_config(base=settings.config, dataset=str(examples))
    dataset = load_dataset(here.data, here.run.seed)
    return settings, local_path(work_dir), dataset


def _stage_1(fn_args):
    """Returns the folder of the run of stage 1."""
    return local_path(fn_args.base_model).parent / RUN_FOLDER


def _train(fn_args, config, work_dir, dataset, stage_1=None):
    """Trains, and copies the export and the run to their artifacts."""
    run = open_run(config, dataset.name, parent=work_dir, any_stage_1=True)
    if stage_1 is not None:
        run.adopt_stage_1(stage_1)
    # The evaluator scores, on held-out images.
    result = distill_dataset(
        config, run, work_dir / "exports", dataset, score=False
    )
    model = local_path(fn_args.serving_model_dir)
    shutil.copytree(result.export, model)
    shutil.copytree(
        run.path,
        local_path(fn_args.model_run_dir),
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("checkpoints", ".lock"),
    )
    return run
