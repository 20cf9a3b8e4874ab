"""`kill -9` at random moments: the same command goes on, to the same result.

`GDD_KERAS_KILLS` is the number of kills of each kind, by default one;
`make faults` does more. Every chain of kills prints its seed; to repeat it,
set `GDD_KERAS_KILL_SEED` to that and `GDD_KERAS_KILLS` to 1.
"""

import collections
import json
import os
import random
import re
import time

import numpy as np
import pytest

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("GDD_KERAS_KILLS", "1"))
RANDOM_SEED = random.SystemRandom().randrange(10**6)
FIRST_SEED = int(os.environ.get("GDD_KERAS_KILL_SEED") or RANDOM_SEED)
# Names of tests must not be random: several processes may share them out.
SEEDS = [
    pytest.param(FIRST_SEED + number, id=str(number)) for number in range(KILLS)
]
# Kinds in the order in which a run comes by them.
TRAINING_KINDS = ("stage 1", "checkpoint", "stage 2", "export")
# On a CPU, a run that goes on computes the very same numbers.
TOLERANCE = 0.0
TEMPORARY = re.compile(r"\.writing-|\.partial-|_temp|tempstate|\.tmp").search
IPC, SHARDS = 1000, 20

kills = collections.Counter()


@pytest.fixture(scope="module", autouse=True)
def summary():
    yield
    text = ", ".join(f"{kind}: {kills[kind]}" for kind in sorted(kills))
    print(f"\n{sum(kills.values())} kills ({text})")
    # A command may come to its end before it is killed, but not each time.
    if len(SEEDS) >= 10:
        assert set(kills) == {*TRAINING_KINDS, "scoring", "shards"}


@pytest.fixture(scope="module")
def flags(own_networks):
    """Two stages of short epochs, so that moments differ."""
    return [
        *("--preset", "tiny", "--pool", f"{own_networks}:narrow"),
        *("--local-layer", "inner", "--num-seeds", "0", "--quiet"),
        *("--cgan-steps", "12", "--distill-steps", "12"),
    ]


@pytest.fixture
def say(capsys):
    """Function that prints, though the output of commands is kept."""

    def show(text):
        with capsys.disabled():
            print(text, flush=True)

    return show


@pytest.fixture
def kill(start, tmp_path, say):
    """Function that starts a command and kills it at a moment.

    `appears` is a pattern of paths; when `number` new ones were there, the
    process has `delay` seconds left. Says whether it was still alive, and
    prints what it left half written.
    """

    def run(kind, command, arguments, appears, delay, number=1):
        before = set(tmp_path.glob(appears))
        seen = set(before)
        process = start(command, *arguments, cwd=tmp_path)
        try:
            while len(seen) < len(before) + number:
                seen.update(tmp_path.glob(appears))
                if process.poll() is not None:
                    break
                # Less than it takes to write anything.
                time.sleep(0.0005)
            time.sleep(delay)
            process.kill()
            printed = process.communicate()
        finally:
            process.kill()
        if process.returncode != -9:
            # It was faster; anything but an end in peace is a fault.
            assert process.returncode == 0, printed
            return False
        kills[kind] += 1
        say(
            f"  killed in {kind}, {delay:.4f} s after {max(seen - before).name}"
            f"; left {leftovers(tmp_path)}"
        )
        return True

    return run


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def leftovers(folder):
    return [path.name for path in folder.rglob("*") if TEMPORARY(path.name)]


def read_checkpoint(prefix):
    import tensorflow as tf

    # Reading a tensor checks its bytes.
    reader = tf.train.load_checkpoint(str(prefix))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def images_of(version):
    from gdd_keras.generator_api import load_generator

    return load_generator(version).generate(np.arange(20) % 10, seed=0)


def records_in(path):
    import tensorflow as tf

    return sum(1 for _ in tf.data.TFRecordDataset(str(path)))


def check_run(folder):
    """Raises unless all that looks whole is whole."""
    for state in folder.glob("runs/digits/*.json"):
        json.loads(state.read_text())
    for index in folder.glob("runs/digits/checkpoints/*/ckpt-*.index"):
        read_checkpoint(index.with_suffix(""))
    for version in folder.glob("saved_models/digits/[0-9]*"):
        assert images_of(version).std() > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_training(
    seed, kill, say, command, flags, unbroken_run, weights, tmp_path
):
    rng = random.Random(seed)
    say(f"\nchain of kills of training, seed {seed}")
    run = "runs/digits"
    moments = {
        # From the first trace of TensorFlow to the middle of an epoch.
        "stage 1": (f"{run}/tensorboard/cgan/events*", rng.uniform(0.0, 2.0)),
        # Three or more names come up for each, some for milliseconds.
        "checkpoint": (
            f"{run}/checkpoints/*/ckpt-*",
            rng.uniform(0.0, 0.004),
            rng.randrange(1, 10),
        ),
        "stage 2": (
            f"{run}/tensorboard/distill/events*",
            rng.uniform(0.0, 2.0),
        ),
        "export": (
            "saved_models/digits/.writing-*",
            rng.uniform(0.0, 0.3),
        ),
    }
    for kind in TRAINING_KINDS:
        kill(kind, "distill", flags, *moments[kind])
        check_run(tmp_path)
    code, _, err = command(*flags)
    assert (code, err) == (0, "")
    check_run(tmp_path)
    ours, theirs = weights(tmp_path), weights(unbroken_run)
    assert list(ours) == list(theirs)
    difference = max(
        np.abs(ours[name] - theirs[name]).max(initial=0.0)
        for name in ours
        if np.issubdtype(ours[name].dtype, np.number)
    )
    say(f"  largest difference of a final weight: {difference}")
    assert difference <= TOLERANCE
    # A kill between an export and its note makes another, of the same images.
    for version in tmp_path.glob("saved_models/digits/*"):
        np.testing.assert_array_equal(
            images_of(version), images_of(unbroken_run / "saved_models/digits")
        )
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_scoring(
    seed, start, command, flags, own_networks, say, tmp_path
):
    rng = random.Random(seed)
    say(f"\nkill while networks are scored, seed {seed}")
    flags = [
        *(*flags, "--network", f"{own_networks}:wide"),
        *("--distill-steps", "0", "--num-seeds", "8", "--eval-epochs", "40"),
    ]
    state = tmp_path / "runs/digits/state.json"

    def scores():
        if not state.exists():
            return []
        return json.loads(state.read_text()).get("scores", [])

    number, delay = rng.randrange(1, 6), rng.uniform(0.0, 0.2)
    process = start("distill", *flags, cwd=tmp_path)
    try:
        while process.poll() is None and len(scores()) < number:
            time.sleep(0.0005)
        time.sleep(delay)
    finally:
        process.kill()
    printed = process.communicate()
    assert process.returncode in (0, -9), printed
    if process.returncode == -9:
        kills["scoring"] += 1
    before = scores()
    say(f"  killed {delay:.4f} s after {number} networks; {len(before)} kept")
    assert len(before) >= number
    code, _, err = command(*flags)
    assert (code, err) == (0, "")
    # Their seconds too, so that none was trained again.
    assert scores()[: len(before)] == before
    assert [score["seed"] for score in scores()] == list(range(8))
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_killed_shards(seed, kill, say, unbroken_run, whole_set, tmp_path):
    from gdd_keras import generate

    rng = random.Random(seed)
    say(f"\nkill while shards are written, seed {seed}")
    arguments = set_arguments(unbroken_run, tmp_path / "set")
    number = rng.randrange(SHARDS)
    kill(
        "shards",
        "generate",
        arguments,
        f".partial-set/*/writing/distilled-{number:05d}*",
        rng.uniform(0.0, 0.1),
    )
    # Otherwise it came to its end, and what is there must be whole.
    if not (tmp_path / "set").exists():
        complete = list(tmp_path.glob(".partial-set/*/shards/*.tfrecord"))
        # At least those before the one that was on its way.
        assert len(complete) >= number
        for path in complete:
            ours = path.read_bytes()
            assert ours == (whole_set / path.name).read_bytes()
        written = [path.stat().st_mtime_ns for path in complete]
        assert generate.main(arguments) == 0
        finished = [tmp_path / "set" / path.name for path in complete]
        assert [path.stat().st_mtime_ns for path in finished] == written
    assert names(tmp_path / "set") == names(whole_set)
    for path in whole_set.glob("*.tfrecord"):
        assert records_in(path) == 10 * IPC // SHARDS
        ours = (tmp_path / "set" / path.name).read_bytes()
        assert ours == path.read_bytes()
    assert leftovers(tmp_path) == []


def set_arguments(folder, output):
    return [
        *("--model", str(folder / "saved_models" / "digits")),
        *("--output", str(output), "--ipc", str(IPC), "--quiet"),
        *("--format", "tfrecord", "--shards", str(SHARDS)),
    ]


@pytest.fixture(scope="module")
def unbroken_run(flags, run_unbroken):
    return run_unbroken(flags)


@pytest.fixture(scope="module")
def whole_set(unbroken_run, tmp_path_factory):
    from gdd_keras import generate

    folder = tmp_path_factory.mktemp("whole") / "set"
    assert generate.main(set_arguments(unbroken_run, folder)) == 0
    return folder
