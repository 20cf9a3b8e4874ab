import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from gdd_keras import distill


@pytest.fixture(scope="package")
def flags(own_networks):
    """Flags of the cheapest run that has both stages, of two epochs each."""
    return [
        *("--preset", "tiny", "--pool", f"{own_networks}:narrow"),
        *("--local-layer", "inner", "--num-seeds", "0", "--quiet"),
        *("--cgan-steps", "8", "--distill-steps", "8"),
    ]


@pytest.fixture(scope="package")
def brief_timing():
    """Makes the timing of steps before training as short as it can be."""
    from gdd_keras import training

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_TIMED_SECONDS", 0.0)
        yield


@pytest.fixture(scope="package")
def run_unbroken(brief_timing, tmp_path_factory):
    """Function of flags: the folder of a run that nothing interrupted."""

    def run(flags):
        folder = tmp_path_factory.mktemp("unbroken")
        with contextlib.chdir(folder):
            with contextlib.redirect_stdout(io.StringIO()):
                assert distill.main(flags) == 0
        return folder

    return run


@pytest.fixture(scope="package")
def unbroken(flags, run_unbroken):
    """Folder of a run with the flags of most tests."""
    return run_unbroken(flags)


@pytest.fixture(scope="package")
def weights():
    """Function of folder and stage: variables of the last checkpoint."""
    import tensorflow as tf

    def read(folder, stage="distill"):
        path = folder / "runs" / "digits" / "checkpoints" / stage
        last = max(path.glob("*.index"), key=lambda p: int(p.stem[5:]))
        reader = tf.train.load_checkpoint(str(last.with_suffix("")))
        return {
            name: reader.get_tensor(name)
            for name in reader.get_variable_to_shape_map()
            if name.endswith("VARIABLE_VALUE")
            # It counts checkpoints, which an interruption adds to.
            and not name.startswith("save_counter")
        }

    return read


@pytest.fixture(scope="package")
def assert_same(weights):
    """Function of two folders: their runs ended with the same bits."""

    def check(folder, other, stage="distill"):
        ours, theirs = weights(folder, stage), weights(other, stage)
        assert list(ours) == list(theirs)
        assert len(ours) > 50
        for name, value in theirs.items():
            np.testing.assert_array_equal(ours[name], value, err_msg=name)

    return check


@pytest.fixture(scope="package")
def start(own_networks):
    """Function that starts a command in a process of its own."""
    paths = [path for path in sys.path if path]

    def popen(command, *arguments, cwd, **options):
        return subprocess.Popen(
            [
                *(sys.executable, "-m", f"gdd_keras.{command}"),
                *map(str, arguments),
            ],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            # Shells let what they start in the background ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(
                signal.SIGINT, signal.default_int_handler
            ),
            **options,
        )

    return popen


@pytest.fixture
def entries():
    """Function of a folder: the paths of all that is below it."""

    def list_entries(folder):
        folder = pathlib.Path(folder)
        return sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*")
        )

    return list_entries
