"""Ctrl-C and SIGTERM: real signals, to this process or to another."""

import os
import signal
import time

import psutil
import pytest

from gdd_keras import callbacks
from gdd_keras import convert
from gdd_keras import evaluate
from gdd_keras import files
from gdd_keras import generate
from gdd_keras import report
from gdd_keras.evaluation import protocols
from gdd_keras.reporting import output
from pipelines import local_runner

pytestmark = pytest.mark.slow

CONTINUES = "the same command continues from the last checkpoint.\n"
TOLD = {
    signal.SIGTERM: (143, f"\nterminated; {CONTINUES}"),
    signal.SIGINT: (130, f"\ninterrupted; {CONTINUES}"),
}


@pytest.fixture
def send_at(monkeypatch):
    """Function that has a signal sent while a step is on its way."""
    plain = callbacks.LearningRateDecay.on_train_batch_begin

    def prepare(number, step):
        def send(self, batch, logs=None):
            plain(self, batch)
            if int(self.model.step) == step:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(
            callbacks.LearningRateDecay, "on_train_batch_begin", send
        )

    yield prepare


def checkpoints(folder, stage):
    found = folder.glob(f"runs/digits/checkpoints/{stage}/*.index")
    return sorted(int(path.stem.removeprefix("ckpt-")) for path in found)


def test_training_saves_what_it_has_and_goes_on(
    command, flags, send_at, unbroken, assert_same, entries, tmp_path
):
    for number, step, stage, expected in (
        # In the middle of an epoch, at its end, and soon after a resumption.
        (signal.SIGTERM, 1, "cgan", [2]),
        (signal.SIGINT, 3, "cgan", [2, 4]),
        (signal.SIGINT, 8, "distill", [9]),
        (signal.SIGTERM, 10, "distill", [9, 11]),
    ):
        send_at(number, step)
        code, out, err = command(*flags)
        assert (code, err) == TOLD[number]
        assert out == ""
        assert checkpoints(tmp_path, stage) == expected
    send_at(signal.SIGTERM, -1)
    code, _, err = command(*flags)
    assert (code, err) == (0, "")
    assert_same(tmp_path, unbroken)
    # Epochs that were cut in two have their image, and only one.
    assert entries("runs/digits/images") == entries(
        unbroken / "runs" / "digits" / "images"
    )
    assert entries("saved_models") == entries(unbroken / "saved_models")


def test_second_signal_ends_at_once(command, flags, monkeypatch, tmp_path):
    def send(self, batch, logs=None):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("must not go on")

    monkeypatch.setattr(
        callbacks.LearningRateDecay, "on_train_batch_begin", send
    )
    code, _, err = command(*flags)
    assert (code, err) == TOLD[signal.SIGINT]
    assert checkpoints(tmp_path, "cgan") == []


def test_spoiled_weights_are_not_saved(
    command, flags, send_at, monkeypatch, tmp_path
):
    send_at(signal.SIGTERM, 0)
    # The first step has finite losses, but spoils the generator.
    code, _, err = command(*flags, "--generator-learning-rate", "1e30")
    assert code == 1
    assert "Generated images became NaN" in err
    assert checkpoints(tmp_path, "cgan") == []


def test_a_process_that_is_terminated(start, command, flags, tmp_path):
    flags = [*flags, "--cgan-steps", 100000]
    process = start("distill", *flags, cwd=tmp_path)
    try:
        folder = tmp_path / "runs" / "digits" / "checkpoints" / "cgan"
        while not (folder / "checkpoint").exists():
            assert process.poll() is None
            time.sleep(0.01)
        # A second one in the same folder.
        code, _, err = command(*flags)
        assert code == 2
        assert err.startswith("error: The run in runs/digits must not be going")
        process.terminate()
        out, err = process.communicate()
    finally:
        process.kill()
    assert (process.returncode, err) == TOLD[signal.SIGTERM]
    assert out == ""
    assert not (tmp_path / "saved_models").exists()


@pytest.fixture
def end_in(monkeypatch, capsys):
    """Function that runs a command which gets SIGTERM in one of its parts."""

    def run(command, arguments, where, name):
        def send(*_, **__):
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("must not go on")

        with monkeypatch.context() as patch:
            patch.setattr(where, name, send)
            code = command.main([str(argument) for argument in arguments])
        return code, capsys.readouterr().err

    return run


def test_commands_that_make_sets_end(end_in, unbroken, tmp_path, entries):
    model = ["--model", unbroken / "saved_models" / "digits", "--quiet"]
    model += ["--output", tmp_path / "set"]
    for set_format, name in (("npz", "write_json"), ("tfrecord", "publish")):
        # When most of it is written.
        code, err = end_in(
            generate, [*model, "--format", set_format], files, name
        )
        assert code == 143
        assert err.startswith("\nterminated; nothing is left half written; ")
        assert err.count("\n") == 2
        assert entries(tmp_path) == []


def test_convert_and_report_end(end_in, unbroken, tmp_path, entries):
    told = (143, "\nterminated; nothing is left half written.\n")
    model = ["--model", unbroken / "saved_models" / "digits"]
    model += ["--to", "saved_model", "--output", tmp_path / "converted"]
    assert end_in(convert, model, files, "write_json") == told
    run = [unbroken / "runs" / "digits", "--output", tmp_path / "report"]
    assert end_in(report, run, output, "write_bytes") == told
    assert entries(tmp_path) == []


def test_evaluate_ends(end_in, unbroken, tmp_path):
    arguments = ["--model", unbroken / "saved_models" / "digits"]
    arguments += ["--results", tmp_path, "--num-seeds", 1]
    code, err = end_in(evaluate, arguments, protocols.SourceScorer, "score")
    assert (code, err) == (
        143,
        "\nterminated; the same command goes on with the next network.\n",
    )


def test_pipeline_ends(end_in):
    code, err = end_in(local_runner, [], local_runner, "open_data")
    assert (code, err) == (
        143,
        "\nterminated; the same command goes on with the pipeline.\n",
    )


def test_search_ends_with_its_workers(start, flags, tmp_path):
    arguments = [flag for flag in flags if flag != "0"]
    arguments.remove("--num-seeds")
    process = start("tune", *arguments, "--cgan-steps", 100000, cwd=tmp_path)
    try:
        folder = tmp_path / "runs" / "digits-search" / "stage_1"
        while not (folder / "checkpoints" / "cgan" / "checkpoint").exists():
            assert process.poll() is None
            time.sleep(0.01)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.terminate()
        out, err = process.communicate()
    finally:
        process.kill()
    assert (process.returncode, err) == (
        143,
        "\nterminated; the same command goes on with the search.\n",
    )
    gone, alive = psutil.wait_procs(workers, timeout=120)
    assert alive == []
    assert not list(tmp_path.rglob(".writing-*"))
