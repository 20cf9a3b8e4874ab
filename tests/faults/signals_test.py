"""Ctrl-C and SIGTERM: real signals, to this process or to another."""

import os
import signal
import time

import pytest

from gdd_keras import callbacks

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


def test_a_process_that_is_terminated(start, flags, tmp_path):
    process = start("distill", *flags, "--cgan-steps", 100000, cwd=tmp_path)
    try:
        folder = tmp_path / "runs" / "digits" / "checkpoints" / "cgan"
        while not (folder / "checkpoint").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.terminate()
        out, err = process.communicate()
    finally:
        process.kill()
    assert (process.returncode, err) == TOLD[signal.SIGTERM]
    assert out == ""
    assert not (tmp_path / "saved_models").exists()
