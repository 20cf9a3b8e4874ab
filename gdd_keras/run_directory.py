"""The folder of a run: its config, its progress, and how to find it again."""

import contextlib
import dataclasses
import pathlib
import re
import shutil

from gdd_keras.config import Config
from gdd_keras.config import InputError
from gdd_keras.config import RunConfig
from gdd_keras.config import config_from_json
from gdd_keras.config import config_to_json
from gdd_keras.config import describe_differences
from gdd_keras.files import new_directory
from gdd_keras.files import take_lock
from gdd_keras.files import write_json
from gdd_keras.files import write_text
from gdd_keras.schema import read_object
from gdd_keras.schema import read_text

__all__ = [
    "RunDirectory",
    "adopted_progress",
    "check_origin_of_stage_1",
    "check_stage_1",
    "finished_run",
    "has_stage_1_of",
    "numbered_folders",
    "open_run",
    "stage_1_is_done",
]

_CONFIG = "config.json"
_STATE = "state.json"
_LOCK = ".lock"
_STAGE_1 = "cgan"
_ADVICE = "Mend the file, or start over with `--fresh`."

# Where the data are and how they are kept; their fingerprint says which.
_STORAGE = ("data_dir", "cache_dir", "memory_limit_mb", "download_timeout")
# What makes a run another run; on which devices it trains does not.
_RUN_SECTIONS = {
    **{field.name: () for field in dataclasses.fields(Config)},
    "data": _STORAGE,
    "run": ("strategy",),
}
_LABELLER = "labeller"
# What stage 1 depends on, and what of it does not matter once it is over.
_STAGE_1_SECTIONS = {
    "data": _STORAGE,
    "networks": (),
    "cgan": ("cgan_steps", "decay_fraction"),
    # The seed alone: it says which images are held out, too.
    "run": tuple(
        f.name for f in dataclasses.fields(RunConfig) if f.name != "seed"
    ),
}


class RunDirectory:
    """Paths and progress of one run.

    Args:
        path: The folder; created if absent.
        config: `Config`, written as `config.json` if none is there.
        stage_1_from: Folder of the run that `adopt_stage_1` will get, or
            `None`: refused here, before there is a folder.
        extend_stage_1: Likewise, whether it will train that stage 1 on.

    Attributes:
        path: `pathlib.Path`.
        state: Dict of progress, as last saved: `stages` (name to `steps` done
            and whether it is `done`), `extras` (estimated seconds of
            `labeller` and `hard_draws`, and whether these are
            `left_out`), `plan`, `seconds`, `fingerprint`,
            `labeller` (its accuracy on held-out images) and
            `labeller_seconds`, `export`, `scores` (of single networks),
            `summary` (of all), `done`.
    """

    def __init__(self, path, config, stage_1_from=None, extend_stage_1=False):
        self.path = pathlib.Path(path)
        self.state = _read_state(self.path)
        if stage_1_from is not None:
            check_stage_1(stage_1_from, config, self.path, extend_stage_1)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                "The run's folder must be one that can be made. Received: "
                f"{path} ({error.strerror}). Choose another with `--run-dir`."
            ) from error
        self.config = config
        if not self.config_file.exists():
            write_text(self.config_file, config_to_json(config))
        self._config_text = _text_of_config(self.path)

    @property
    def config_file(self):
        """The run's `config.json`, which `--config` replays."""
        return self.path / _CONFIG

    @property
    def labeller(self):
        """Folder of the labeller's weights."""
        return self.path / _LABELLER

    @property
    def images(self):
        """Folder of the image grids."""
        return self.path / "images"

    def tensorboard(self, stage):
        """Returns the folder of a stage's event files."""
        return self.path / "tensorboard" / stage

    @property
    def score_events(self):
        """Folder of event files of no stage: the settings and accuracies."""
        return self.tensorboard("score")

    def checkpoints(self, stage):
        """Returns the folder of a stage's checkpoints."""
        return _checkpoints(self.path, stage)

    @contextlib.contextmanager
    def locked(self):
        """Keeps a second process from continuing the same run.

        A finished run is only read, and not locked.

        Raises:
            InputError: If one does.
        """
        if self.state["done"]:
            yield
            return
        with take_lock(
            self.path / _LOCK,
            InputError(
                f"The run in {self.path} must not be going on already. "
                "Received: another process trains it. Wait for it, stop it, "
                "or choose another folder with `--run-dir`."
            ),
        ):
            # The other process may have ended only now, or begun another run
            # here while this one did.
            if _text_of_config(self.path) != self._config_text:
                raise InputError(
                    f"The run in {self.path} must have the settings with which "
                    "it was begun. Received: those of another command, which "
                    "was begun at the same time. Enter this one again."
                )
            self.state = _read_state(self.path)
            yield

    def save(self, **changes):
        """Merges changes into the state and writes it."""
        self.state.update(changes)
        write_json(self.path / _STATE, self.state)

    @property
    def training_seconds(self):
        """What the generator took, float: what is another run's included.

        `state["seconds"]`, which a time budget counts, leaves that out.
        """
        seconds = self.state["seconds"]
        if "stage_1_from" in self.state:
            # Runs of before never trained it on.
            whole = self.state["stages"][_STAGE_1].get("seconds", 0.0)
            seconds += self.state.get("adopted_seconds", whole)
        return seconds

    def adopt_stage_1(self, path, extend=False):
        """Starts from the finished stage 1 of another run.

        Copies it, and the labeller where this run would train the same;
        does nothing where this run has begun its own.

        Args:
            path: Folder of the other run.
            extend: Whether to train it on, up to this run's `cgan_steps` in
                all: rates rise again to where such a training would have
                them, and fall over the last part of it.

        Raises:
            InputError: See `check_stage_1`.
        """
        state = check_stage_1(path, self.config, self.path, extend)
        if state is None:
            return
        path = pathlib.Path(path)
        with_labeller = _LABELLER not in self.state
        progress = _adopted(path, state, self.config, extend, with_labeller)
        if _LABELLER in progress:
            # A process that was killed may have copied it and not noted it.
            with new_directory(self.labeller, replace=True) as folder:
                shutil.copytree(path / _LABELLER, folder, dirs_exist_ok=True)
        source = _checkpoints(path, _STAGE_1)
        # Nor was this one noted, if the process was killed before `save`.
        checkpoints = self.checkpoints(_STAGE_1)
        with new_directory(checkpoints, replace=True) as folder:
            shutil.copytree(source, folder, dirs_exist_ok=True)
        self.save(**progress)


def adopted_progress(path, config, extend=False):
    """Returns what a new run has after `RunDirectory.adopt_stage_1`.

    Args:
        path: Folder of the run that has the stage 1.
        config: `Config` of the new run.
        extend: As in `RunDirectory.adopt_stage_1`.

    Returns:
        Dict, the part of `RunDirectory.state` that comes from there.

    Raises:
        InputError: See `check_stage_1`.
    """
    state = check_stage_1(path, config, None, extend)
    return _adopted(pathlib.Path(path), state, config, extend)


def _adopted(path, state, config, extend, with_labeller=True):
    """Returns what the state of another run gives to one with this config."""
    stage = state["stages"][_STAGE_1]
    seconds = stage.get("seconds", 0.0)
    labeller = {}
    if with_labeller and _has_labeller_of(config, path, state):
        took = state.get("labeller_seconds", 0.0)
        labeller = {_LABELLER: state[_LABELLER], "labeller_seconds": took}
        seconds += took
    return {
        "stages": {_STAGE_1: {**stage, "done": not extend}},
        "fingerprint": state["fingerprint"],
        "stage_1_from": str(path),
        "extended": extend,
        "adopted_seconds": seconds,
        **labeller,
    }


def _has_labeller_of(config, path, state):
    """Says whether a run has the labeller that this config would train."""
    earlier = _config_of(path)
    return (
        config.trains_labeller
        and _LABELLER in state
        and (path / _LABELLER).is_dir()
        and config.labeller.labeller_steps == earlier.labeller.labeller_steps
    )


def check_stage_1(path, config, target, extend=False):
    """Refuses a run whose stage 1 another run cannot start from.

    Args:
        path: Folder of the run that may have it.
        config: `Config` of the other run.
        target: Folder of the other run, which may be absent; `None` if it
            has no folder yet.
        extend: As in `RunDirectory.adopt_stage_1`.

    Returns:
        State of the run at `path`; `None` if the other has begun its own.

    Raises:
        InputError: If the folder has no such finished stage, or was trained
            with other settings; or if there is nothing to extend it by.
    """
    begun = {} if target is None else _read_state(pathlib.Path(target))
    if _STAGE_1 in begun.get("stages", {}):
        return None
    path = pathlib.Path(path)
    earlier = _known_config(path, "--stage-1-from")
    state = _read_state(path)
    if not _has_stage_1(state) or not _checkpoints(path, _STAGE_1).is_dir():
        raise InputError(
            f"`--stage-1-from` must be a run whose stage 1 is finished. "
            f"Received: {path}, where it is not. Continue that run first."
        )
    different = _difference(earlier, config, _STAGE_1_SECTIONS)
    if different:
        raise InputError(
            f"`--stage-1-from` must be a run with the same settings of "
            f"stage 1. Received: {path} with {different}. "
            "Change them, or leave `--stage-1-from` out."
        )
    if extend:
        _check_extension(path, state["stages"][_STAGE_1]["steps"], config)
    return state


def _check_extension(path, steps, config):
    """Refuses to train a stage 1 of so many steps on to no more of them."""
    if config.run.time_budget is not None:
        raise InputError(
            "`--extend-stage-1` counts steps, not time. Received: "
            f"time_budget={config.run.time_budget:g}. Give `--cgan-steps`, "
            "and, where a config file sets it, `--time-budget none`."
        )
    if config.cgan.cgan_steps <= steps:
        raise InputError(
            "`--extend-stage-1` needs `--cgan-steps` above those that are "
            f"done. Received: cgan_steps={config.cgan.cgan_steps}, {path} "
            f"with {steps}. Ask for more, or leave `--extend-stage-1` out."
        )


def open_run(
    config,
    name,
    run_dir=None,
    fresh=False,
    parent="runs",
    stage_1_from=None,
    extend_stage_1=False,
    any_stage_1=False,
):
    """Finds the run that these settings belong to, or makes a new one.

    Without `run_dir`, runs of a data set are `runs/<name>`, `runs/<name>-2`
    and so on; the latest whose config is equal, and whose stage 1 is from the
    same place, is continued; others get the next number.

    Args:
        config: Resolved `Config`.
        name: Data set's name.
        run_dir: Folder to use, or `None`.
        fresh: Start over in a new folder even if a run with these settings
            exists.
        parent: Where numbered runs lie.
        stage_1_from: As in `RunDirectory`.
        extend_stage_1: Likewise.
        any_stage_1: Whether a run is continued wherever its stage 1 is from.

    Returns:
        `RunDirectory`.

    Raises:
        InputError: If `run_dir` holds something else, a run with other
            settings, or (with `fresh`) a run; or on the run of stage 1.
    """
    if run_dir is not None:
        path = pathlib.Path(run_dir)
        _check_given(config, path, fresh)
        if stage_1_from is not None:
            check_origin_of_stage_1(path, stage_1_from, extend_stage_1)
    else:
        existing, path = numbered_folders(pathlib.Path(parent), name)
        if not fresh:
            fitting = (
                found
                for found in existing
                if _holds(found, config)
                and (
                    any_stage_1
                    or has_stage_1_of(found, stage_1_from, extend_stage_1)
                )
            )
            path = next(fitting, path)
    return RunDirectory(path, config, stage_1_from, extend_stage_1)


def stage_1_is_done(path):
    """Says whether the run of a folder, which may be absent, has its stage 1.

    Args:
        path: Folder of the run.
    """
    return _has_stage_1(_read_state(pathlib.Path(path)))


def has_stage_1_of(path, origin, extend=False):
    """Says whether a run has its stage 1 from a place, or may get it yet.

    Args:
        path: Folder of the run.
        origin: Folder of the run that it should be from; `None` for a stage 1
            of its own.
        extend: As in `RunDirectory.adopt_stage_1`.
    """
    state = _read_state(pathlib.Path(path))
    if _STAGE_1 not in state["stages"]:
        return True
    own = state.get("stage_1_from")
    if origin is None or own is None:
        return origin is own
    same = pathlib.Path(own).resolve() == pathlib.Path(origin).resolve()
    # Runs of before do not say whether they trained it on.
    return same and state.get("extended", extend) == extend


def check_origin_of_stage_1(path, origin, extend=False):
    """Refuses a run whose stage 1 is from somewhere else.

    Args:
        path: As in `has_stage_1_of`, as are the others.
        origin: Folder of the run that it should be from.
        extend: As in `RunDirectory.adopt_stage_1`.

    Raises:
        InputError: If it is.
    """
    if has_stage_1_of(path, origin, extend):
        return
    state = _read_state(pathlib.Path(path))
    own = state.get("stage_1_from", "its own")
    if state.get("extended"):
        own += ", trained on"
    raise InputError(
        f"`--stage-1-from` must be where the run has its stage 1 from, {own}. "
        f"Received: {origin}{', to be trained on' if extend else ''}, for "
        f"{path}. Choose another folder for another run."
    )


def finished_run(path):
    """Returns the `RunDirectory` of a run that has been trained.

    It may lack its export, if that or the hard draws in it failed.

    Args:
        path: Its folder.

    Raises:
        InputError: If there is no run, or one whose training is not finished.
    """
    path = pathlib.Path(path)
    run = RunDirectory(path, _known_config(path, "--run"))
    done = [stage["done"] for stage in run.state["stages"].values()]
    expected = 1 if run.config.matching.distill_steps == 0 else 2
    if len(done) < expected or not all(done):
        raise InputError(
            f"`--run` must be a run that is finished. Received: {path}, which "
            "is not. Continue it first: `python -m gdd_keras.distill --config "
            f"{path / _CONFIG} --run-dir {path}`."
        )
    return run


def numbered_folders(parent, name):
    """Finds `<name>`, `<name>-2`, `<name>-3` and so on.

    Args:
        parent: `pathlib.Path` of the folder that may hold them.
        name: Common start of their names.

    Returns:
        List of those that exist, latest first, and the next unused one.
    """
    numbers = sorted(_run_numbers(parent, name), reverse=True)
    unused = max(numbers, default=0) + 1
    return (
        [_run_path(parent, name, number) for number in numbers],
        _run_path(parent, name, unused),
    )


def _check_given(config, path, fresh):
    """Refuses a folder of `--run-dir` that is no such run's."""
    if path.is_file():
        raise InputError(
            f"`--run-dir` must be a folder. Received: {path}, a file."
        )
    occupied = path.is_dir() and any(path.iterdir())
    if not occupied:
        return
    if not (path / _CONFIG).exists():
        raise InputError(
            f"`--run-dir` must be new, empty, or a run's folder. Received: "
            f"{path}, which holds something else. Choose another."
        )
    if fresh:
        raise InputError(
            f"`--fresh` needs a new folder. Received: --run-dir {path}, which "
            "holds a run. Choose another, or leave `--run-dir` out."
        )
    different = _difference(_config_of(path), config, _RUN_SECTIONS)
    if different:
        raise InputError(
            f"`--run-dir` {path} holds a run with other settings: "
            f"{different}. Choose another folder, or "
            f"continue that run with `--config {path / _CONFIG} --run-dir "
            f"{path}`."
        )


def _checkpoints(path, stage):
    return path / "checkpoints" / stage


def _run_path(parent, name, number):
    return parent / (name if number == 1 else f"{name}-{number}")


def _run_numbers(parent, name):
    """Returns the numbers of the existing folders for a data set."""
    pattern = re.compile(re.escape(name) + r"(?:-(\d+))?")
    numbers = []
    if parent.is_dir():
        for entry in parent.iterdir():
            match = pattern.fullmatch(entry.name)
            if match:
                numbers.append(int(match[1] or 1))
    return numbers


def _text_of_config(path):
    """Returns what a run's folder says of its settings, unread."""
    file = path / _CONFIG
    return file.read_bytes() if file.is_file() else None


def _holds(path, config):
    """Says whether a folder is a run with these settings."""
    try:
        earlier = _config_of(path)
    except InputError:
        # Of another version, or damaged: no reason to refuse a new run.
        return False
    return earlier is not None and not _difference(
        earlier, config, _RUN_SECTIONS
    )


def _config_of(path):
    """Returns the config of a run's folder, or `None` for another folder."""
    file = path / _CONFIG
    if not file.is_file():
        return None
    return config_from_json(read_text(file, file, _ADVICE), file)


def _known_config(path, flag):
    """Returns the config of a run's folder, or refuses another folder."""
    config = _config_of(path)
    if config is None:
        raise InputError(
            f"`{flag}` must be the folder of a run. Received: {path}, which "
            f"has no {_CONFIG}."
        )
    return config


def _difference(earlier, config, sections):
    """Names the fields that differ, with both values.

    Args:
        earlier: `Config` of a run.
        config: `Config` wanted now.
        sections: Dict from the sections to compare to the fields of each
            that do not count.
    """
    found = {}
    for name, uncounted in sections.items():
        there, here = getattr(earlier, name), getattr(config, name)
        found |= there.differences(here, uncounted)
    return describe_differences(found)


def _has_stage_1(state):
    return state["stages"].get(_STAGE_1, {"done": False})["done"]


def _read_state(path):
    """Returns the progress of a run's folder, checked where it is used."""
    file = path / _STATE
    if not file.exists():
        return {"stages": {}, "seconds": 0.0, "done": False}
    state = read_object(file, _ADVICE)
    state.get("seconds", float, minimum=0)
    state.get("adopted_seconds", float, None, minimum=0)
    state.get("labeller", float, None, minimum=0, maximum=1)
    state.get("labeller_seconds", float, None, minimum=0)
    state.get("stages", dict)
    for name in ("fingerprint", "export", "stage_1_from"):
        state.get(name, str, None)
    extras = state.object("extras", {})
    extras.get("labeller", float, 0.0, minimum=0)
    extras.get("hard_draws", float, 0.0, minimum=0)
    extras.get("left_out", bool, False)
    for stage in state.named("stages").values():
        if stage.get("done", bool):
            stage.get("steps", int, minimum=0)
        stage.get("steps", int, None, minimum=0)
        stage.get("first_step", int, minimum=0)
        stage.get("seconds", float, None, minimum=0)
    for plan in state.objects("plan"):
        plan.get("epochs", int, minimum=1)
        plan.get("steps_per_epoch", int, minimum=1)
        plan.get("step_seconds", float, None, minimum=0)
        plan.get("seconds", float, None, minimum=0)
    if state.get("done", bool):
        state.get("export", str)
    for score in state.objects("scores"):
        score.get("seed", int, minimum=0)
        score.get("distinct_images", int, minimum=1)
        score.get("accuracy", float, minimum=0, maximum=1)
        score.get("seconds", float, minimum=0)
    summary = state.object("summary", {})
    if summary.value:
        for name in ("network", "protocol", "split"):
            summary.get(name, str)
        for name in ("distinct_images", "num_seeds"):
            summary.get(name, int, minimum=1)
        summary.get("accuracy_mean", float, minimum=0, maximum=1)
        summary.get("accuracy_std", float, None, minimum=0)
    # An empty entry is one that is not there yet.
    return {k: v for k, v in state.value.items() if v is not None}
