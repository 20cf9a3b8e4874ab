import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras import strategy
from gdd_keras.generator_api import load_generator
from gdd_keras.strategy import batch_rows
from gdd_keras.strategy import describe_devices
from gdd_keras.strategy import draw_rows
from gdd_keras.strategy import gradient_norm
from gdd_keras.strategy import mean_over_replicas
from gdd_keras.strategy import open_strategy
from gdd_keras.strategy import scalar

pytestmark = pytest.mark.slow

CASES = ("hinge", "wgan_gp")
STAGES = ("cgan", "distill")
# Two devices add float32 numbers in another order; differences of 2e-7 were
# seen, of weights and of losses around 1.
TOLERANCE = {"rtol": 1e-5, "atol": 2e-6}


def start(*arguments):
    """Starts a process that may import the package and users' networks."""
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory, own_networks):
    """Folder of what two devices and one made of the same settings."""
    folder = tmp_path_factory.mktemp("runs")
    script = pathlib.Path(__file__).with_name("strategy_cases.py")
    ended = start(script, folder, own_networks)
    assert ended.returncode == 0, ended.stderr
    return folder


def report(runs, case):
    got = json.loads((runs / case / "report.json").read_text())
    return got["none"], got["mirrored"]


def assert_close(got, expected):
    assert sorted(got) == sorted(expected)
    for name in expected:
        np.testing.assert_allclose(
            got[name], expected[name], **TOLERANCE, err_msg=name
        )


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradient_norms_are_those_of_one_device(runs, case, stage):
    one, two = report(runs, case)
    assert (one["n"], two["n"]) == (1, 2)
    assert len(one["logs"][stage]) == 4
    for step, expected in zip(
        two["logs"][stage], one["logs"][stage], strict=True
    ):
        assert_close(step, expected)
    expected = {"generator_norm", "discriminator_loss", "adversarial_loss"}
    expected |= {"classification_loss"} if case == "hinge" else set()
    expected |= {"gradient_penalty"} if case == "wgan_gp" else set()
    expected |= {"global_loss", "pool_loss"} if stage == "distill" else set()
    assert expected <= set(step)


@pytest.mark.parametrize("case", CASES)
def test_state_is_that_of_one_device(runs, case):
    one = np.load(runs / case / "none.npz")
    two = np.load(runs / case / "mirrored.npz")
    # Momenta are sums of gradients, so that a wrong factor shows.
    assert any(name.startswith("pool_optimizer") for name in one)
    assert any(np.abs(one[f"generator_optimizer/{i}"]).max() for i in (2, 3))
    assert_close(two, one)
    assert one["step/0"] == 8
    assert one["pool_draw_count/0"] == 3


@pytest.mark.parametrize("case", CASES)
def test_all_replicas_hold_the_same(runs, case):
    assert report(runs, case)[1]["differ"] == []


def test_export_is_that_of_one_device(runs):
    images = [
        load_generator(runs / "hinge" / "models" / name).generate([0, 1, 2, 0])
        for name in ("none", "mirrored")
    ]
    # Four steps do not make pictures, but something must be there to compare.
    assert np.ptp(images[0]) >= 3
    # A value at the edge of two levels may fall on either.
    difference = images[0].astype(int) - images[1]
    assert np.abs(difference).max() <= 1
    assert (difference != 0).mean() < 0.01


def test_run_moves_between_one_device_and_two(runs):
    assert_close(np.load(runs / "moved.npz"), np.load(runs / "whole.npz"))


def test_shares_make_the_batch_and_nothing_is_read_ahead(runs):
    counts, equal = json.loads((runs / "batches.json").read_text())
    assert equal == [True] * 8
    # Two devices, one batch and three of the pool: threads that work ahead
    # can stop the process for ever.
    assert counts == [8, 16]


def test_devices_are_told_and_unequal_shares_refused(runs):
    line, refusal = json.loads((runs / "devices.json").read_text())
    assert line.startswith("devices: CPU:0, CPU:1, each with 3 of the 6 images")
    assert refusal == (
        "`batch_size` must be a multiple of the number of devices under "
        "`--strategy mirrored`. Received: batch_size=7 for 2 devices (CPU:0, "
        "CPU:1). Choose 6 or 8, or fewer devices (for GPUs: "
        "CUDA_VISIBLE_DEVICES)."
    )


def test_command_prints_nothing_of_its_machinery():
    code = (
        "import sys\n"
        "from gdd_keras.machine import prepare_tensorflow\n"
        "prepare_tensorflow()\n"
        "from gdd_keras.quiet import quiet_import\n"
        "with quiet_import():\n"
        "    import tensorflow as tf\n"
        "tf.config.set_visible_devices([], 'GPU')\n"
        "tf.config.set_logical_device_configuration(\n"
        "    tf.config.list_physical_devices('CPU')[0],\n"
        "    [tf.config.LogicalDeviceConfiguration()] * 2,\n"
        ")\n"
        "from gdd_keras.distill import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    flags = "--preset tiny --distill-steps 0 --strategy mirrored --dry-run"
    ended = start("-c", code, *flags.split())
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    config, _, lines = ended.stdout.partition("\n}\n")
    assert '"strategy": "mirrored"' in config
    lines = lines.splitlines()
    assert lines[2] == (
        "devices: CPU:0, CPU:1, each with 8 of the 16 images of a step"
    )
    assert [line.split(":")[0] for line in lines] == [
        "data",
        "generator",
        "devices",
        "stage 1, conditional GAN",
        "then scoring",
    ]


def test_single_device_trains_as_without_a_strategy(monkeypatch):
    monkeypatch.setattr(strategy, "_devices", lambda: ["GPU:0"])
    assert open_strategy("mirrored", 7) is tf.distribute.get_strategy()
    assert describe_devices("mirrored", 7) == (
        "devices: only GPU:0, so that `--strategy mirrored` changes nothing"
    )
    assert describe_devices("none", 7) is None


def test_helpers_leave_a_single_device_alone():
    numbers = tf.constant([3.0, 4.0])
    assert batch_rows(5) == (5, None)
    assert draw_rows(lambda count: (count, numbers), 5) == (5, numbers)
    assert mean_over_replicas(numbers) is numbers
    assert float(gradient_norm([numbers, None])) == 5.0
    assert scalar(tf.Variable(3)) == 3
