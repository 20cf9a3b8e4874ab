"""What the property tests share: how many examples, and how to run commands.

`HYPOTHESIS_PROFILE=thorough` runs 25 times as many examples, new ones each
time.
"""

import contextlib
import io
import os
import pathlib
import shutil

import hypothesis
import numpy as np
import pytest

# Benchmarks beside the tests may pause this process for a minute.
_PATIENT = {
    "deadline": None,
    "suppress_health_check": list(hypothesis.HealthCheck),
    "database": None,
}
hypothesis.settings.register_profile(
    "ci", max_examples=80, derandomize=True, **_PATIENT
)
hypothesis.settings.register_profile(
    "thorough", max_examples=2000, print_blob=True, **_PATIENT
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


class Reached(BaseException):
    """Raised where a command, past all checks, would begin to work."""


def reach(*_, **__):
    """Stands for the function that does the work of a command."""
    raise Reached


def entries(folder):
    """Returns all paths below a folder, with the content of files."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in pathlib.Path(folder).rglob("*")
        if not path.is_fifo()
    }


@pytest.fixture(scope="session")
def answer():
    """Function that runs a command where it may write; returns its answer.

    The answer is the exit code, 0 where the work would begin, and all that
    was printed. Bad input must leave nothing behind. Any other exception than
    `SystemExit` passes through: it would have been a traceback.
    """

    def run(main, argv, folder):
        before = entries(folder)
        printed = io.StringIO()
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            try:
                code = main([str(word) for word in argv])
            except Reached:
                code = 0
            except SystemExit as stop:
                code = stop.code
        text = printed.getvalue()
        assert "Traceback" not in text
        if code == 2:
            assert entries(folder) == before
        return code, text

    return run


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Folder with data, a generator of them, a run, and results; read it."""
    from gdd_keras.config import config_to_json
    from gdd_keras.config import make_config
    from gdd_keras.data import load_dataset
    from gdd_keras.evaluation.results import Results
    from gdd_keras.export import export_generator
    from gdd_keras.networks import build_generator
    from gdd_keras.run_directory import RunDirectory

    folder = tmp_path_factory.mktemp("world")
    labels = np.arange(40) % 2
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8)
    np.savez(folder / "set.npz", images=images, labels=labels)
    config = make_config(
        "tiny", dataset=str(folder / "set.npz"), pool=("convnet3",)
    )
    dataset = load_dataset(config.data, 0)
    (folder / "config.json").write_text(config_to_json(config))
    export_generator(
        build_generator((8, 8, 1), 2, latent_dim=4, width=2),
        folder / "model",
        {"class_names": list(dataset.class_names), "statistics": {}},
    )
    Results(folder / "results", dataset.describe()).set_method(
        "random", kind="baseline"
    )
    RunDirectory(folder / "run", config).save(fingerprint="0")
    RunDirectory(folder / "finished", config).save(
        fingerprint=dataset.fingerprint,
        stages={
            "cgan": {"first_step": 0, "steps": 8, "done": True},
            "distill": {"first_step": 8, "steps": 4, "done": True},
        },
        export="model/1",
    )
    return folder


@pytest.fixture
def reached(monkeypatch):
    """Replaces the work of all commands by `Reached`."""
    import gdd_keras.conversion
    import gdd_keras.evaluation.benchmark
    import gdd_keras.generate
    import gdd_keras.job
    import gdd_keras.reporting
    import gdd_keras.tuning.search
    import pipelines.local_runner

    for place, name in (
        (gdd_keras.job, "distill_dataset"),
        (gdd_keras.job, "estimate_cost"),
        (gdd_keras.job, "build_stages"),
        (gdd_keras.generate, "write_distilled_set"),
        (gdd_keras.evaluation.benchmark, "Benchmark"),
        (gdd_keras.conversion, "exported_network"),
        (gdd_keras.tuning.search, "run_search"),
        (gdd_keras.reporting, "write_report"),
        (pipelines.local_runner, "import_tfx"),
    ):
        monkeypatch.setattr(place, name, reach)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory):
    """Function that makes an empty folder and empties it again."""
    folder = tmp_path_factory.mktemp("fresh") / "here"

    @contextlib.contextmanager
    def make():
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)

    return make
