import json
import subprocess
import sys

import pytest

from gdd_keras import report

CONFIG = {"data": {"dataset": "toy"}, "matching": {"omega_l": 0.5}}


@pytest.fixture
def results(tmp_path):
    """Folder of results of one method."""
    record = {
        "method": "gdd",
        "protocol": "stream",
        "ipc": 10,
        "network": "convnet3",
        "epochs": 1000,
        "learning_rate": 0.01,
        "augmentation": "crop",
        "precision": "float32",
        "split": "test",
        "distinct_images": 30_000,
    }
    content = {
        "kind": "gdd_keras results",
        "format": 1,
        "dataset": {
            "name": "toy",
            "image_shape": [8, 8, 1],
            "num_classes": 3,
            "fingerprint": "0123",
        },
        "records": [
            {**record, "seed": 0, "accuracy": 0.801},
            {**record, "seed": 1, "accuracy": 0.803},
        ],
    }
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def run(tmp_path):
    """Folder of a run with curves."""
    import tensorflow as tf

    folder = tmp_path / "runs" / "toy"
    stage = folder / "tensorboard" / "cgan"
    with tf.summary.create_file_writer(str(stage)).as_default():
        for step in range(3):
            tf.summary.scalar("losses/generator_loss", 1.0 / (step + 1), step)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    state = {"fingerprint": "0123", "export": "saved_models/gone/1"}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_help(capsys):
    with pytest.raises(SystemExit) as stop:
        report.main(["--help"])
    assert stop.value.code == 0
    assert "RUN_OR_RESULTS" in capsys.readouterr().out


def test_report_of_results_and_run(results, run, capsys):
    assert report.main([str(results), str(run)]) == 0
    folder = results / "report"
    printed = capsys.readouterr()
    assert printed.out == (
        f"report       {folder}/report.html\n"
        f"markdown     {folder}/report.md\n"
        f"figures      {folder}/figures\n"
    )
    assert printed.err == (
        "note: The generator of the run toy, saved_models/gone/1, is not there "
        "any more: its size and scores are not shown.\n"
    )
    text = (folder / "report.md").read_text()
    assert "| gdd | 80.20 ± 0.14 (n=2) | 30,000 |" in text
    assert "| matching.omega_l | 50.0 | 0.5 |" in text
    assert sorted(files(folder)) == [
        "figures/curves-toy-cgan.svg",
        "report.html",
        "report.md",
    ]
    page = (folder / "report.html").read_text()
    assert "generator_loss" in page and "<script" not in page


def test_second_run_changes_nothing(results, capsys):
    assert report.main([str(results / "results.json")]) == 0
    first = files(results / "report")
    assert report.main([str(results)]) == 0
    assert files(results / "report") == first
    assert capsys.readouterr().err == ""


def test_output(results, tmp_path, capsys):
    target = tmp_path / "a" / "b"
    assert report.main([str(results), "--output", str(target)]) == 0
    assert (target / "report.html").exists()
    assert not (results / "report").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "results.json").unlink(), "holds none of them"),
        (lambda r: (r / "results.json").write_text("{"), "line 1 column 2"),
        (lambda r: (r / "report").touch(), "`--output` must be a folder"),
    ],
)
def test_errors_come_before_anything_is_written(
    results, spoil, message, capsys
):
    spoil(results)
    before = files(results)
    assert report.main([str(results)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ") and message in printed.err
    assert files(results) == before


def test_occupied_folder_is_refused(results, capsys):
    assert report.main([str(results), "--output", str(results)]) == 2
    assert "which holds something else" in capsys.readouterr().err
    assert sorted(files(results)) == ["results.json"]


def test_needs_no_tensorflow(results, run):
    code = (
        "import sys\n"
        "from gdd_keras.report import main\n"
        f"assert main([{str(results)!r}, {str(run)!r}]) == 0\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))\n"
    )
    printed = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.endswith("\n[]\n")
    assert printed.stderr.startswith("note: ")
    assert printed.stderr.count("\n") == 1
