import json

import pytest

from benchmarks import time_to_accuracy
from gdd_keras.metadata import read_metadata


def run(output, *extra):
    return time_to_accuracy.main(
        ["--dataset", "digits", "--recipes", "tiny", "--output", str(output)]
        + ["--num-seeds", "1", "--eval-epochs", "2"]
        + ["--eval-precision", "mixed_bfloat16", *extra]
    )


def test_exports_and_scores(tmp_path, capsys, quick_timing):
    output = tmp_path / "out"
    assert run(output, "--minutes", "0.08", "0.04") == 0
    folders = sorted(path.name for path in (output / "tiny").iterdir())
    assert folders == ["0.04", "0.08"]
    training = [
        read_metadata(output / "tiny" / name / "1")["training"]
        for name in folders
    ]
    seconds = [entry["seconds"] for entry in training]
    assert seconds == pytest.approx([2.4, 4.8])
    steps = [entry["steps"]["all"] for entry in training]
    assert 0 < steps[0] < steps[1]
    results = json.loads((output / "results" / "results.json").read_text())
    assert [
        (record["method"], record["split"], record["precision"])
        for record in results["records"]
    ] == [
        ("tiny-0.04-minutes", "validation", "mixed_bfloat16"),
        ("tiny-0.08-minutes", "validation", "mixed_bfloat16"),
    ]
    # The weights went on changing between the two.
    digests = {method["digest"] for method in results["methods"].values()}
    assert len(digests) == 2
    # Again: nothing is trained, nothing is scored twice.
    capsys.readouterr()
    assert run(output, "--minutes", "0.08", "0.04") == 0
    assert "training for" not in capsys.readouterr().out
    again = json.loads((output / "results" / "results.json").read_text())
    assert again["records"] == results["records"]
    # Other minutes would need another run.
    assert run(output, "--minutes", "0.08", "0.06") == 2
    assert "Received: 0.06" in capsys.readouterr().err


def test_output_is_a_file(tmp_path, capsys):
    file = tmp_path / "file"
    file.touch()
    assert run(file) == 2
    assert "`--output` must be a folder" in capsys.readouterr().err


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "1e9", "x"])
def test_minutes_out_of_range(minutes, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "out", "--minutes", minutes)
    assert stop.value.code == 2
    assert "--minutes" in capsys.readouterr().err
