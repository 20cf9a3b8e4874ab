import csv
import json
import statistics

import pytest
from PIL import Image

from gdd_keras.config import InputError
from gdd_keras.config import TuningConfig
from gdd_keras.config import config_from_json
from gdd_keras.config import make_config
from gdd_keras.files import write_json
from gdd_keras.tuning.curves import describe_values
from gdd_keras.tuning.directory import open_search
from gdd_keras.tuning.outcome import TrialResult
from gdd_keras.tuning.outcome import read_trials
from gdd_keras.tuning.outcome import write_outcome

SPACE = {"omega_g": (0.0, 0.01), "omega_l": (0.0, 0.001)}


@pytest.fixture
def search(tmp_path):
    config = make_config("tiny", seed=3)
    return open_search(config, TuningConfig(), SPACE, "toy", tmp_path / "s")


def add(search, trial_id, values, status="COMPLETED", message=None, **result):
    folder = search.trial(trial_id)
    values = dict(zip(SPACE, values, strict=True))
    write_json(
        folder / "trial.json",
        {
            "trial_id": trial_id,
            "status": status,
            "message": message,
            "hyperparameters": {"values": {**values, "tuner/round": 0}},
        },
    )
    if result:
        TrialResult(values, **result).write(folder)


def test_outcome(search):
    add(search, "00", (0.0, 0.0), accuracies=[0.5, 0.6], seconds=2.5)
    add(search, "01", (0.01, 0.0), accuracies=[0.7, 0.9], memory_mb=800)
    add(search, "02", (0.0, 0.001), "FAILED", failure="`total` became nan")
    add(search, "03", (0.01, 0.001), "FAILED", message="its process ended")
    add(search, "04", (0.0, 0.001), "RUNNING")
    best = write_outcome(search)
    assert (best.trial_id, best.values) == (
        "01",
        {"omega_g": 0.01, "omega_l": 0.0},
    )
    assert best.mean == pytest.approx(0.8)
    assert best.std == pytest.approx(statistics.stdev([0.7, 0.9]))
    text = (search.path / "best_config.json").read_text()
    assert config_from_json(text) == make_config(
        base=search.config, omega_g=0.01, omega_l=0.0
    )
    with open(search.path / "trials.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == ["00", "01", "02", "03"]
    assert rows[1]["accuracies"] == "0.7 0.9"
    assert float(rows[1]["accuracy_mean"]) == best.mean
    assert rows[1]["memory_mb"] == "800"
    assert rows[2]["failure"] == "`total` became nan"
    assert rows[2]["accuracy_mean"] == ""
    assert rows[3]["failure"] == "its process ended"
    for name in SPACE:
        with Image.open(search.path / f"{name}.png") as image:
            assert image.size == (960, 600)


def test_nothing_was_completed(search):
    assert write_outcome(search) is None
    add(search, "00", (0.0, 0.0), "FAILED")
    assert write_outcome(search) is None
    assert read_trials(search)[0].failure == "unknown"
    assert not (search.path / "best_config.json").exists()


def test_shorter_trials_of_hyperband_do_not_compete(search):
    add(search, "00", (0.0, 0.0), accuracies=[0.9], epochs=1)
    add(search, "01", (0.01, 0.0), accuracies=[0.4], epochs=9)
    add(search, "02", (0.01, 0.001), accuracies=[0.5], epochs=9)
    assert write_outcome(search).trial_id == "02"


def test_damaged_trial(search):
    add(search, "00", (0.0, 0.0), accuracies=[0.5])
    (search.trial("00") / "result.json").write_text("{")
    with pytest.raises(InputError, match="trial_00 must hold a trial"):
        read_trials(search)


def test_results_as_text(tmp_path):
    result = TrialResult({"omega_l": 1e-4, "local_layer": "block_1"})
    assert describe_values(result.values) == (
        "omega_l 0.0001, local_layer block_1"
    )
    assert (result.mean, result.std) == (None, None)
    result.accuracies = [0.5]
    assert result.accuracy_text == "50.00% (one network)"
    result.accuracies = [0.5, 0.6]
    assert result.accuracy_text == "55.00% ± 7.07%"
    result.write(tmp_path)
    assert "status" not in json.loads((tmp_path / "result.json").read_text())
