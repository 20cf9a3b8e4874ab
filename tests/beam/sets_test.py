import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import apache_beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from gdd_keras.beam import BeamSet
from gdd_keras.beam import make_pipeline
from gdd_keras.beam import sets
from gdd_keras.beam import write_with_beam
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.distilled_sets import write_distilled_set
from gdd_keras.distilled_sets import write_stored_shard
from gdd_keras.generator_api import load_generator
from gdd_keras.quiet import quiet_logs
from gdd_keras.quiet import quiet_warnings

TWO_PROCESSES = (
    "--direct_num_workers=2",
    "--direct_running_mode=multi_processing",
)


@pytest.fixture(autouse=True)
def quiet_beam():
    with quiet_logs(), quiet_warnings():
        yield


@pytest.fixture(scope="module")
def generator(tiny_saved_model):
    return load_generator(tiny_saved_model)


def write(model, directory, *flags, ipc=7, **options):
    pipeline = make_pipeline("DirectRunner", list(flags))
    return write_with_beam(pipeline, model, directory, ipc, **options)


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("num_shards", [1, 3, 7])
@pytest.mark.parametrize("set_format", ["tfrecord", "tfds"])
def test_files_are_those_of_one_process(
    generator, tiny_saved_model, tmp_path, set_format, num_shards
):
    options = {"set_format": set_format, "seed": 5, "num_shards": num_shards}
    one = write_distilled_set(generator, tmp_path / "one", 7, **options)
    written = write(tiny_saved_model, tmp_path / "beam", **options)
    assert contents(tmp_path / "beam") == contents(tmp_path / "one")
    assert written.num_bytes == one.num_bytes
    assert (written.num_images, written.ipc) == (21, 7)
    assert written.path == tmp_path / "beam"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["beam", "one"]


# Processes of TensorFlow cost seconds; generate_test.py has 3 shards of tfds.
def test_one_file_of_two_processes_is_that_of_one(
    generator, tiny_saved_model, tmp_path, capfd
):
    options = {"set_format": "tfrecord", "seed": 5, "num_shards": 1}
    write_distilled_set(generator, tmp_path / "one", 7, **options)
    write(tiny_saved_model, tmp_path / "beam", *TWO_PROCESSES, **options)
    assert contents(tmp_path / "beam") == contents(tmp_path / "one")


def test_tfds_opens_it_with_the_images_of_npz(
    generator, tiny_saved_model, tmp_path
):
    import tensorflow_datasets as tfds

    write_distilled_set(generator, tmp_path / "npz", 7, "npz", seed=2)
    write(tiny_saved_model, tmp_path / "set", seed=2, num_shards=4)
    builder = tfds.builder_from_directory(str(tmp_path / "set"))
    assert builder.info.splits["train"].shard_lengths == [5, 5, 5, 6]
    names = builder.info.features["label"].names
    assert names == ["cat", "dog/wolf", "bird"]
    read = tfds.as_numpy(builder.as_dataset(split="train", as_supervised=True))
    images, labels = map(np.stack, zip(*read, strict=True))
    with np.load(tmp_path / "npz" / "distilled.npz") as arrays:
        np.testing.assert_array_equal(images, arrays["images"])
        np.testing.assert_array_equal(labels, arrays["labels"])
    np.testing.assert_array_equal(np.bincount(labels), [7, 7, 7])
    # The readers of TFDS take slices by the lengths of the shards.
    assert len(list(builder.as_dataset(split="train[3:17]"))) == 14


def test_pipeline_of_the_caller(generator, tiny_saved_model, tmp_path):
    # As in a TFX component, which gets a pipeline that is yet to run.
    with BeamSet(tiny_saved_model, tmp_path / "beam", 7, num_shards=3) as made:
        with apache_beam.Pipeline(options=PipelineOptions([])) as pipeline:
            made.attach(pipeline)
        written = made.finish()
    write_distilled_set(generator, tmp_path / "one", 7, "tfds", num_shards=3)
    assert contents(written.path) == contents(tmp_path / "one")


def test_finish_before_the_pipeline_ran(tiny_saved_model, tmp_path):
    with BeamSet(tiny_saved_model, tmp_path / "set", 7, num_shards=3) as made:
        with pytest.raises(RunError, match="3 of 3 shards are missing"):
            made.finish()
    assert list(tmp_path.iterdir()) == []


def test_failed_pipeline_goes_on_later(
    generator, tiny_saved_model, tmp_path, monkeypatch
):
    real = sets.write_stored_shard
    written = []

    def fail_on_the_third(generator, plan, storage, shard):
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        real(generator, plan, storage, shard)
        written.append(shard)

    options = {"num_shards": 5, "seed": 1}
    monkeypatch.setattr(sets, "write_stored_shard", fail_on_the_third)
    with pytest.raises(RunError) as raised:
        write(tiny_saved_model, tmp_path / "set", **options)
    assert str(raised.value) == (
        "the Beam pipeline ended with OSError: [Errno 28] No space left on "
        "device. Complete shards stay; the same command makes the missing ones."
    )
    assert [path.name for path in tmp_path.iterdir()] == [".partial-set"]

    def note(generator, plan, storage, shard):
        real(generator, plan, storage, shard)
        written.append(shard)

    monkeypatch.setattr(sets, "write_stored_shard", note)
    write(tiny_saved_model, tmp_path / "set", **options)
    assert sorted(written) == [0, 1, 2, 3, 4]
    write_distilled_set(
        generator, tmp_path / "one", 7, "tfds", seed=1, num_shards=5
    )
    assert contents(tmp_path / "set") == contents(tmp_path / "one")


@pytest.mark.parametrize("where", ["worker", "runner"])
def test_interrupt_stays_one(tiny_saved_model, tmp_path, monkeypatch, where):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    if where == "worker":
        monkeypatch.setattr(sets, "write_stored_shard", interrupt)
    else:
        monkeypatch.setattr(apache_beam.Pipeline, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write(tiny_saved_model, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_two_attempts_at_the_same_shards(
    generator, tiny_saved_model, tmp_path, monkeypatch
):
    real = sets.write_stored_shard

    def twice(*arguments):
        real(*arguments)
        real(*arguments)

    monkeypatch.setattr(sets, "write_stored_shard", twice)
    write(tiny_saved_model, tmp_path / "set", num_shards=2)
    write_distilled_set(generator, tmp_path / "one", 7, "tfds", num_shards=2)
    assert contents(tmp_path / "set") == contents(tmp_path / "one")


@pytest.mark.parametrize("flags", [(), TWO_PROCESSES], ids=["one", "two"])
def test_killed_run_goes_on(generator, tiny_saved_model, tmp_path, flags):
    output = tmp_path / "set"
    arguments = {"ipc": 10_000, "set_format": "tfds", "num_shards": 40}
    command = subprocess.Popen(
        [
            *(sys.executable, "-m", "gdd_keras.generate", "--format=tfds"),
            *("--runner=DirectRunner", *flags, f"--output={output}"),
            *(f"--model={tiny_saved_model}", "--ipc=10000", "--shards=40"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not (done := list(tmp_path.glob(".partial-set/*/shards/*"))):
            assert command.poll() is None, command.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        command.kill()
        command.wait()
        done = list(tmp_path.glob(".partial-set/*/shards/*"))
        assert not output.exists()
        assert len(done) < 40
        numbers = {path.name: path.stat().st_ino for path in done}
        # Its workers outlive it by seconds, and go on writing meanwhile.
        write(tiny_saved_model, output, **arguments)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        command.communicate()
    for name, number in numbers.items():
        assert (output / name).stat().st_ino == number, "written again"
    write_distilled_set(generator, tmp_path / "one", **arguments)
    assert contents(output) == contents(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "set"]


def test_other_set_starts_over(tiny_saved_model, generator, tmp_path):
    for seed in (1, 2):
        with BeamSet(
            tiny_saved_model, tmp_path / "set", 7, seed=seed, num_shards=2
        ) as made:
            assert made.missing() == [0, 1]
            write_stored_shard(generator, made.plan, made.storage, 0)
            assert made.missing() == [1]
    (folder,) = (tmp_path / ".partial-set").glob("tfds-*")
    assert folder.name.startswith("tfds-ipc7-seed2-shards2-model")


def test_progress(tiny_saved_model, tmp_path, monkeypatch):
    monkeypatch.setattr(sets, "_WATCH_SECONDS", 0.001)
    real = sets.write_stored_shard

    def slowly(*arguments):
        time.sleep(0.1)
        real(*arguments)

    monkeypatch.setattr(sets, "write_stored_shard", slowly)
    seen = []
    write_with_beam(
        *(make_pipeline("DirectRunner", []), tiny_saved_model),
        *(tmp_path / "set", 7, "tfds", 0, 3),
        lambda *counts: seen.append(counts),
    )
    assert seen == [(0, 21), (7, 21), (14, 21), (21, 21)]


def test_description(tiny_saved_model, tmp_path):
    write(tiny_saved_model.parent, tmp_path / "set", seed=4)
    text = (tmp_path / "set" / "distilled_set.json").read_text()
    description = json.loads(text)
    assert description["generator"] == str(tiny_saved_model)
    assert description["seed"] == 4
    assert description["num_images"] == 21


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipc": 0}, "`ipc` must be an integer >= 1"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"num_shards": 22}, r"number of images \(21\) .* Received: 22 shards"),
        ({"set_format": "npz"}, "one of tfrecord, tfds to have shards"),
        ({"set_format": "zip"}, "must be one of npz, png, tfrecord, tfds"),
    ],
)
def test_bad_arguments(tiny_saved_model, tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        write(tiny_saved_model, tmp_path / "set", **options)
    assert list(tmp_path.iterdir()) == []


def test_full_directory_is_refused(tiny_saved_model, tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="must be new or empty"):
        write(tiny_saved_model, tmp_path)


@pytest.mark.parametrize(
    ("flags", "threads"),
    [
        ([], None),
        (["--direct_num_workers=2", "--direct_running_mode=in_memory"], None),
        (TWO_PROCESSES, 4),
        ([*TWO_PROCESSES, "--direct_num_workers=99"], 1),
        ([*TWO_PROCESSES, "--direct_num_workers=0"], 2),
    ],
)
def test_threads_of_workers(monkeypatch, flags, threads):
    monkeypatch.setattr(sets.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(sets.os, "cpu_count", lambda: 4)
    assert sets._threads(PipelineOptions(flags)) == threads


def test_worker_limits_its_threads(tiny_saved_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with BeamSet(tiny_saved_model, tmp_path / "set", 1) as made:
        sets._WriteShard(tiny_saved_model, made.plan, made.storage, 3).setup()
    assert os.environ.pop("OMP_NUM_THREADS") == "3"
    # The user's own choice.
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "5"
