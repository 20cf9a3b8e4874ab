import json
import pathlib

import pytest

from gdd_keras.config import InputError
from gdd_keras.metadata import model_digest
from gdd_keras.reporting.inputs import read_inputs


def summary(**changes):
    return {
        "method": "generator",
        "selection": "random",
        "protocol": "stream",
        "ipc": 10,
        "network": "convnet3",
        "epochs": 1000,
        "learning_rate": 0.01,
        "augmentation": "crop",
        "precision": "float32",
        "split": "test",
        "seeds": [0, 1],
        "accuracies": [0.5, 0.75],
        "distinct_images": 30_000,
        "command": 3,
        **changes,
    }


def test_run_alone(run_folder, export, config):
    scored = export(config(), scores=[summary()])
    run = run_folder(export=str(scored))
    found = read_inputs([run])
    assert found.results.dataset["name"] == "toy"
    entry = found.results.methods["toy"]
    assert entry["num_bytes"] == 4_800
    assert entry["training"] == {
        "steps": {"cgan": 40, "distill": 20},
        "seconds": 90.0,
        "finished": True,
    }
    assert [(r.row.name, r.accuracy) for r in found.results.records] == [
        ("toy", 0.5),
        ("toy", 0.75),
    ]
    assert found.results.environments == [{"versions": {"keras": "3.15.1"}}]
    assert found.results.notes == []


def test_export_is_found_above_runs(run_folder, export, config, monkeypatch):
    export(config())
    run = run_folder(export="saved_models/toy/1")
    assert read_inputs([run]).results.methods["toy"]["num_bytes"] == 4_800
    monkeypatch.chdir(run.parents[1])
    relative = pathlib.Path("runs/toy")
    assert read_inputs([relative]).results.methods["toy"]["num_bytes"] == 4_800


def test_export_of_a_later_version_is_found(run_folder, export, config):
    export(config())
    run = run_folder(export="saved_models/toy/1")
    file = run / "config.json"
    old = json.loads(file.read_text())
    del old["generation"]["soft_labels"], old["evaluation"]["eval_labels"]
    file.write_text(json.dumps(old))
    assert read_inputs([run]).results.methods["toy"]["num_bytes"] == 4_800


@pytest.mark.parametrize("other", [True, False])
def test_missing_export_is_noted(run_folder, export, config, other):
    if other:
        export(config(run={"seed": 7}))
    found = read_inputs([run_folder(export="saved_models/toy/1")])
    assert found.results.methods["toy"]["num_bytes"] is None
    assert found.results.notes == [
        "The generator of the run toy, saved_models/toy/1, is not there any "
        "more: its size and scores are not shown."
    ]
    assert found.results.dataset == {"name": "digits", "fingerprint": "0123"}


def test_run_that_has_just_begun(run_folder):
    run = run_folder()
    (run / "state.json").unlink()
    found = read_inputs([run])
    assert found.results.notes == ["The run toy has exported no generator yet."]
    assert not found.results.methods["toy"]["training"]["finished"]


@pytest.mark.parametrize(
    "changes",
    [{"num_bytes": "many"}, {"scores": [summary(accuracies=[2.0])]}],
)
def test_damaged_metadata_are_noted(run_folder, export, config, changes):
    broken = export(config(), **changes)
    (note,) = read_inputs([run_folder(export=str(broken))]).results.notes
    assert note.startswith("The export of the run toy: ")
    assert "metadata.json" in note


def test_scores_of_earlier_versions(run_folder, export, config):
    old = summary()
    del old["precision"], old["selection"], old["method"]
    found = read_inputs(
        [run_folder(export=str(export(config(), scores=old)))]
    ).results
    assert found.records[0].setting.precision == "unstated precision"


def test_run_takes_its_name_from_results(
    run_folder, export, config, results, record, results_folder
):
    scored = export(config(), scores=[summary(seeds=[0], accuracies=[0.5])])
    run = run_folder(export=str(scored))
    (run / "samples.png").touch()
    content = results([record("gdd", 0.5, distinct_images=30_000)])
    content["methods"]["gdd"]["digest"] = model_digest(scored)
    found = read_inputs([results_folder(content), run])
    assert list(found.results.methods) == ["gdd"]
    # The size of the results, the training of both, the score once.
    assert found.results.methods["gdd"]["num_bytes"] == 9_600
    assert [r.row.name for r in found.results.records] == ["gdd"]
    assert found.results.images == {"gdd": run / "samples.png"}
    assert found.runs[0].name == "gdd"


def test_runs_of_one_name_are_kept_apart(run_folder, results, results_folder):
    runs = [run_folder("gdd"), run_folder("../other/gdd")]
    found = read_inputs([results_folder(results()), *runs, runs[0]])
    assert list(found.results.methods) == ["gdd", "gdd (run 2)", "gdd (run 3)"]


def test_folder_and_file_of_results_count_once(results, record, results_folder):
    folder = results_folder(results([record("gdd", 0.5)]))
    found = read_inputs([folder, folder / "results.json", f"{folder}/."])
    assert len(found.results.records) == 1


def test_run_folder_with_results(run_folder, results, record):
    run = run_folder()
    content = results([record("gdd", 0.5)])
    (run / "results.json").write_text(json.dumps(content))
    found = read_inputs([run])
    assert list(found.results.methods) == ["gdd", "toy"]


def test_missing_path(tmp_path):
    with pytest.raises(InputError, match="absent, which does not exist. Pass"):
        read_inputs([tmp_path / "absent"])


def test_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="which holds none of them. Pass"):
        read_inputs([tmp_path])


def test_config_of_something_else(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": []}')
    message = "must have a run's sections .*Received: architectures. Pass"
    with pytest.raises(InputError, match=message):
        read_inputs([tmp_path])


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", "{", "config.json must hold JSON.*line 1 column 2"),
        ("state.json", "{]", "state.json must hold JSON.*line 1 column 2"),
        ("config.json", '{"matching": 3}', "config.json: `matching` must be"),
        ("state.json", '{"seconds": "a"}', "state.json: `seconds` must be"),
        ("state.json", '{"stages": {"a": 1}}', "`stages.a` must be an object"),
    ],
)
def test_damaged_run(run_folder, file, text, message):
    run = run_folder()
    (run / file).write_text(text)
    with pytest.raises(InputError, match=message):
        read_inputs([run])


def test_other_data(run_folder, results, results_folder):
    first = results_folder(results())
    content = results()
    content["dataset"]["fingerprint"] = "4567"
    second = results_folder(content, "second")
    message = "of the same data.*fingerprint 0123, and .*fingerprint 4567. Make"
    with pytest.raises(InputError, match=message):
        read_inputs([first, second])
    with pytest.raises(InputError, match=message):
        read_inputs([first, run_folder(fingerprint="4567")])
    with pytest.raises(InputError, match="fingerprint 4567, and .*0123"):
        read_inputs([second, run_folder("again")])
