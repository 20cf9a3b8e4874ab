import pytest

from gdd_keras.config import TuningConfig
from gdd_keras.config import make_config
from gdd_keras.files import write_json
from gdd_keras.reporting.document import build_document
from gdd_keras.reporting.inputs import read_inputs
from gdd_keras.tuning.directory import open_search
from gdd_keras.tuning.outcome import TrialResult


@pytest.fixture
def search(tmp_path, request):
    space = {"omega_l": (0.0, 0.001, 0.1), "local_layer": ("block_1", "x|y")}
    tuning = TuningConfig(tuner="grid", trial_repeats=2, trial_ipc=4)
    settings = getattr(request, "param", {})
    config = make_config("tiny", dataset="toy", **settings)
    return open_search(config, tuning, space, "toy", tmp_path / "toy-search")


def add(search, trial_id, values, **result):
    folder = search.trial(trial_id)
    status = "FAILED" if "failure" in result else "COMPLETED"
    values = dict(zip(search.space, values, strict=True))
    write_json(
        folder / "trial.json",
        {"trial_id": trial_id, "status": status, "message": None},
    )
    TrialResult(values, seconds=90.0, **result).write(folder)


def test_search_that_has_not_begun(search):
    text = build_document(read_inputs([search.path])).markdown
    assert "# Distilling toy" in text
    assert "## Search toy-search" in text
    assert "grid search, 4 steps of stage 2" in text
    assert "2 x 3 networks (convnet3) for each trial" in text


def test_trials_and_curve(search):
    add(search, "0", (0.0, "block_1"), accuracies=[0.5, 0.6])
    add(search, "1", (0.001, "block_1"), accuracies=[0.7, 0.7])
    add(search, "2", (0.1, "x|y"), failure="`total` became nan")
    material = read_inputs([search.path, search.path])
    assert len(material.searches) == 1
    document = build_document(material)
    rows = [r for r in document.markdown.splitlines() if r.startswith("| ")]
    assert rows[-3:] == [
        "| 1 | 0.001 | block_1 | 70.00 ± 0.00 | – | 1.5 |",
        "| 0 | 0 | block_1 | 55.00 ± 7.07 | – | 1.5 |",
        "| 2 | 0.1 | x&#124;y | failed: \\`total\\` became nan | – | 1.5 |",
    ]
    assert "figures/toy-search-omega_l.svg" in document.markdown
    svg = document.files["toy-search-omega_l.svg"].decode()
    for text in ("omega_l", "stream, IPC 4, convnet3", "0.001"):
        assert text in svg


@pytest.mark.parametrize("search", [{"eval_schedule": "step"}], indirect=True)
def test_another_schedule_is_said(search):
    add(search, "0", (0.0, "block_1"), accuracies=[0.5])
    add(search, "1", (0.001, "block_1"), accuracies=[0.7])
    document = build_document(read_inputs([search.path]))
    assert "epochs, float32, step schedule. Accuracies" in document.markdown
    svg = document.files["toy-search-omega_l.svg"].decode()
    assert "float32, step schedule" in svg


def test_search_beside_its_stage_1(search, run_folder):
    run = run_folder(fingerprint="1")
    write_json(search.stage_1 / "state.json", {"fingerprint": "2"})
    write_json(search.stage_1 / "config.json", {"data": {"dataset": "toy"}})
    with pytest.raises(ValueError, match="must be of the same data"):
        read_inputs([run, search.path])
