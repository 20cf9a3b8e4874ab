import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from gdd_keras import generate
from gdd_keras import memory
from gdd_keras.distilled_sets import write_distilled_set
from gdd_keras.generator_api import load_generator
from gdd_keras.selection import distribution_matching
from gdd_keras.selection import typical

# Fails in a fresh process if the command loads TensorFlow for an answer that
# does not need it.
WITHOUT_TENSORFLOW = """
import sys

sys.modules["tensorflow"] = sys.modules["keras"] = None
from gdd_keras import generate

sys.exit(generate.main(sys.argv[1:]))
"""


def run_alone(*arguments):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_TENSORFLOW, *map(str, arguments)],
        capture_output=True,
        text=True,
    )


def test_help_needs_no_tensorflow():
    done = run_alone("--help")
    assert done.returncode == 0, done.stderr
    for word in ("--model", "--ipc", "--format", "--seed", "Example:"):
        assert word in done.stdout
    for word in ("--runner", "--shards", "--direct_num_workers 2"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ipc", "0"), "`--ipc` must be an integer >= 1. Received: --ipc=0"),
        (("--seed", "-1"), "`--seed` must be an integer >= 0"),
        (
            ("--shards", "0", "--format", "tfds"),
            "`--shards` must be an integer >= 1. Received: --shards=0",
        ),
        (
            ("--shards", "2"),
            "`--shards` needs `--format` tfrecord or tfds. Received: shards=2 "
            "with format=npz",
        ),
        (
            ("--runner", "DirectRunner", "--format", "png"),
            "`--runner` needs `--format` tfrecord or tfds",
        ),
        (
            ("--output", "gs://bucket/set"),
            "`--output` may be a URL only with `--runner`",
        ),
        (
            ("--model", "gs://bucket/model"),
            "`--model` may be a URL only with `--runner`",
        ),
        (
            ("--runner=DirectRunner", "--format=tfds", "--workers", "2"),
            "one of this command or of Beam. Received: --workers",
        ),
        (
            ("--runner=NoRunner", "--format=tfds"),
            "`--runner` must be a runner of Beam",
        ),
        (("--ipc", "1"), "absent, which does not exist"),
        (("--soft-labels",), "absent, which does not exist"),
    ],
)
def test_bad_input_is_refused_without_tensorflow(tmp_path, arguments, message):
    done = run_alone(
        "--model", tmp_path / "absent", "--output", tmp_path / "o", *arguments
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_other_flags_are_refused_without_runner(tmp_path):
    done = run_alone(
        *("--model", tmp_path, "--output", tmp_path / "o"),
        *("--format", "tfds", "--direct_num_workers", "2"),
    )
    assert done.returncode == 2
    assert "unrecognized arguments: --direct_num_workers 2" in done.stderr


def test_more_shards_than_images(tiny_saved_model, tmp_path):
    done = run_alone(
        *("--model", tiny_saved_model, "--output", tmp_path / "o", "--ipc=2"),
        *("--format", "tfds", "--shards", "7"),
    )
    assert done.returncode == 2
    assert (
        "number of images (6) and at most 100,000. Received: 7 shards"
        in done.stderr
    )
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--format", "tfds"),
            "`--selection SELECTION` is written to `npz` or `png` alone. "
            "Received: format=tfds. Choose one of them, or random images.",
        ),
        (
            ("--format=tfrecord", "--runner=DirectRunner"),
            "written to `npz` or `png` alone. Received: format=tfrecord",
        ),
        (
            ("--ipc", "501"),
            "`--selection SELECTION` gives up to MOST images per class. "
            "Received: ipc=501. Lower it, or choose random ones.",
        ),
    ],
)
@pytest.mark.parametrize(
    ("selection", "most"), [("typical", "500"), ("condensed", "100")]
)
def test_chosen_images_are_few(
    selection, most, arguments, message, tiny_saved_model, tmp_path
):
    done = run_alone(
        *("--model", tiny_saved_model, "--output", tmp_path / "o"),
        *("--selection", selection, *arguments),
    )
    assert (done.returncode, done.stdout) == (2, "")
    message = message.replace("SELECTION", selection).replace("MOST", most)
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_condensed_images_fit_into_the_memory(
    tiny_saved_model, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(memory, "total_memory", lambda: 2**20)
    code = generate.main(
        [
            *("--model", str(tiny_saved_model), "--ipc", "2"),
            *("--selection", "condensed", "--output", str(tmp_path / "o")),
        ]
    )
    printed = capfd.readouterr()
    assert (code, printed.out) == (2, "")
    assert "A step of condensed images (ipc=2 of 6 x 10 pixels)" in printed.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("set_format", ["npz", "png", "tfrecord", "tfds"])
def test_command(tiny_saved_model, tmp_path, capfd, set_format):
    code = generate.main(
        [
            f"--model={tiny_saved_model.parent}",
            "--ipc=2",
            f"--format={set_format}",
            f"--output={tmp_path / 'set'}",
        ]
    )
    printed = capfd.readouterr()
    assert code == 0
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("Generating 6 images (2 for each of 3 classes)")
    assert lines[1].startswith(f"Wrote 6 images (2 per class, {set_format}, ")
    assert lines[1].endswith(str(tmp_path / "set"))
    assert lines[2].startswith("Open them with: ")


@pytest.mark.parametrize(
    ("selection", "make"),
    [
        ("typical", typical.typical_images),
        ("condensed", distribution_matching.condensed_images),
    ],
)
def test_chosen_images(
    selection, make, compact_saved_model, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(typical, "_CANDIDATES", 40)
    monkeypatch.setattr(distribution_matching, "IMAGES_PER_CLASS", 4)
    monkeypatch.setattr(distribution_matching, "_DRAWS_PER_CLASS", 8)
    monkeypatch.setattr(distribution_matching, "_STEPS", 1)
    output = tmp_path / "set"
    code = generate.main(
        [
            *("--model", str(compact_saved_model), "--output", str(output)),
            *("--ipc", "2", "--selection", selection, "--seed", "3"),
        ]
    )
    printed = capfd.readouterr()
    assert (code, printed.err) == (0, "")
    assert "Wrote 20 images (2 per class, npz" in printed.out
    generator = load_generator(compact_saved_model)
    with np.load(output / "distilled.npz") as arrays:
        np.testing.assert_array_equal(
            arrays["labels"], generator.balanced_labels(2)
        )
        np.testing.assert_array_equal(
            arrays["images"], make(generator, 2, seed=3)
        )
    description = json.loads((output / "distilled_set.json").read_text())
    assert description["selection"] == selection


def test_quiet_and_seed(tiny_saved_model, tmp_path, capfd):
    output = tmp_path / "set"
    code = generate.main(
        [
            f"--model={tiny_saved_model}",
            "--ipc=2",
            "--seed=7",
            "--quiet",
            f"--output={output}",
        ]
    )
    assert code == 0
    assert capfd.readouterr() == ("", "")
    generator = load_generator(tiny_saved_model)
    with np.load(output / "distilled.npz") as arrays:
        np.testing.assert_array_equal(
            arrays["images"], generator.generate(arrays["labels"], seed=7)
        )


def test_process_prints_no_noise(tiny_saved_model, tmp_path):
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "TF_CPP_MIN_LOG_LEVEL"
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "gdd_keras.generate", "--ipc=1"),
            *("--format=tfds", f"--model={tiny_saved_model}"),
            f"--output={tmp_path / 'set'}",
        ],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.slow
def test_beam_prints_no_noise(tiny_saved_model, tmp_path, capsys):
    arguments = ["--ipc=2", "--shards=3", "--format=tfds"]
    arguments += [f"--model={tiny_saved_model}"]
    with_beam = [
        *("--runner=DirectRunner", "--direct_num_workers", "2"),
        *("--direct_running_mode=multi_processing", f"--output={tmp_path}/a"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "gdd_keras.generate", *arguments, *with_beam],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3
    assert generate.main([*arguments, f"--output={tmp_path}/b"]) == 0
    out = capsys.readouterr().out
    assert done.stdout.replace(f"{tmp_path}/a", f"{tmp_path}/b") == out
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_killed_command_goes_on(tiny_saved_model, tmp_path, capsys):
    arguments = [
        *(f"--model={tiny_saved_model}", "--format=tfrecord", "--ipc=10000"),
        *("--shards=40", f"--output={tmp_path / 'set'}"),
    ]
    command = subprocess.Popen(
        [sys.executable, "-m", "gdd_keras.generate", *arguments],
        stdout=subprocess.DEVNULL,
    )
    done = []
    while not done:
        assert command.poll() is None
        time.sleep(0.01)
        done = list(tmp_path.glob(".partial-set/*/shards/*"))
    command.kill()
    command.wait()
    done = list(tmp_path.glob(".partial-set/*/shards/*"))
    assert len(done) < 40
    numbers = {path.name: path.stat().st_ino for path in done}
    assert [path.name for path in tmp_path.iterdir()] == [".partial-set"]
    assert generate.main(arguments) == 0
    assert "Wrote 30,000 images" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    for name, number in numbers.items():
        assert (tmp_path / "set" / name).stat().st_ino == number
    # 40 shards and the description: nothing half written, nothing twice.
    assert len(list((tmp_path / "set").iterdir())) == 41
    write_distilled_set(
        load_generator(tiny_saved_model),
        tmp_path / "again",
        10_000,
        "tfrecord",
        num_shards=40,
    )
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (tmp_path / "set" / path.name).read_bytes()


def test_full_output_directory(tiny_saved_model, tmp_path, capsys):
    (tmp_path / "mine").touch()
    code = generate.main(
        [f"--model={tiny_saved_model}", f"--output={tmp_path}", "--ipc=1"]
    )
    assert code == 2
    assert "must be new or empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_output_that_cannot_be_written(tiny_saved_model, tmp_path, capsys):
    (tmp_path / "file").touch()
    code = generate.main(
        [
            f"--model={tiny_saved_model}",
            f"--output={tmp_path / 'file' / 'set'}",
            "--ipc=1",
        ]
    )
    assert code == 2
    assert "file is no folder. Choose another." in capsys.readouterr().err


def test_progress_on_a_terminal(monkeypatch, capsys):
    assert generate._progress(quiet=False) is None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert generate._progress(quiet=True) is None
    show = generate._progress(quiet=False)
    show(1024, 2000)
    show(2000, 2000)
    assert capsys.readouterr().out == (
        "\r1,024 of 2,000 images\r2,000 of 2,000 images\n"
    )
