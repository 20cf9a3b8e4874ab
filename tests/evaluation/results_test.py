import concurrent.futures
import json

import pytest

from gdd_keras.config import InputError
from gdd_keras.evaluation.results import Results

DATASET = {"name": "toy", "source": "a test", "fingerprint": "0123"}


def record(accuracy=0.5, **settings):
    return {
        "method": "gdd",
        "selection": "random",
        "protocol": "stream",
        "ipc": 1,
        "network": "n",
        "seed": 0,
        "epochs": 2,
        "learning_rate": 0.01,
        "augmentation": "none",
        "precision": "float32",
        "split": "test",
        "accuracy": accuracy,
        **settings,
    }


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results" / "toy"


def content(folder):
    return json.loads((folder / "results.json").read_text())


def test_nothing_is_written_before_the_first_figure(folder):
    results = Results(folder, DATASET)
    results.begin("command", {"cores": 2})
    assert results.find(record()) is None
    assert not folder.parent.exists()
    results.add_record(record())
    assert content(folder) == {
        "kind": "gdd_keras results",
        "format": 1,
        "dataset": DATASET,
        "methods": {},
        "records": [{**record(), "command": 0, "environment": 0}],
        "quality": [],
        "audit": [],
        "commands": ["command"],
        "environments": [{"cores": 2}],
        "images": {},
    }


def test_a_record_is_found_by_what_it_measures(folder):
    results = Results(folder, DATASET)
    results.add_record(record(0.25))
    # Another object, as in another process.
    for reader in (results, Results(folder, DATASET)):
        assert reader.find(record(0.75))["accuracy"] == 0.25
        for name in set(record()) - {"accuracy"}:
            assert reader.find(record(**{name: "other"})) is None


def test_a_record_of_before_is_taken_to_have_held_the_same_out(folder):
    results = Results(folder, DATASET)
    results.add_record(record(0.25))
    assert results.find(record(held_out="0123"))["accuracy"] == 0.25
    results.add_record(record(0.5, seed=1, held_out="0123"))
    assert results.find(record(seed=1, held_out="0123"))["accuracy"] == 0.5
    assert results.find(record(seed=1, held_out="4567")) is None
    assert results.find(record(seed=1)) is None


def test_a_record_is_never_replaced(folder):
    results = Results(folder, DATASET)
    for accuracy in (0.25, 0.75):
        results.add_record(record(accuracy))
    results.add_record(record(0.5, seed=1))
    assert [r["accuracy"] for r in content(folder)["records"]] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("section", "entry"),
    [
        (
            "quality",
            {
                "method": "gdd",
                "split": "test",
                "num_images": 9,
                "neighbours": 5,
                "reference_epochs": 10,
                "seed": 0,
            },
        ),
        (
            "audit",
            {
                "method": "gdd",
                "num_generated": 9,
                "reference_epochs": 10,
                "seed": 0,
            },
        ),
    ],
)
def test_comparisons_are_replaced_by_newer_ones(folder, section, entry):
    results = Results(folder, DATASET)
    add = getattr(results, f"add_{section}")
    has = getattr(results, f"has_{section}")
    assert not has(entry)
    add({**entry, "value": 1})
    add({**entry, "method": "gan", "value": 2})
    add({**entry, "value": 3})
    values = {e["method"]: e["value"] for e in content(folder)[section]}
    assert values == {"gan": 2, "gdd": 3}
    assert len(content(folder)[section]) == 2
    assert has(entry)
    for name in entry:
        assert not has({**entry, name: "other"})


def test_figures_name_their_command_and_machine(folder):
    for command, cores, seed in (
        ("first", 2, 0),
        ("second", 2, 1),
        ("first", 4, 2),
        ("unused", 8, 0),
    ):
        results = Results(folder, DATASET)
        results.begin(command, {"cores": cores})
        results.add_record(record(seed=seed))
    found = content(folder)
    assert found["commands"] == ["first", "second"]
    assert found["environments"] == [{"cores": 2}, {"cores": 4}]
    assert [(r["command"], r["environment"]) for r in found["records"]] == [
        (0, 0),
        (1, 0),
        (0, 1),
    ]


def test_two_writers_lose_nothing(folder):
    def write(number):
        results = Results(folder, DATASET)
        for seed in range(10):
            results.add_record(record(seed=seed, method=f"m{number}"))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    records = content(folder)["records"]
    assert {(r["method"], r["seed"]) for r in records} == {
        (f"m{number}", seed) for number in range(4) for seed in range(10)
    }
    assert len(records) == 40


def test_methods(folder):
    results = Results(folder, DATASET)
    results.set_method("random", kind="baseline")
    results.set_method("gdd", kind="generator", model="a/1", digest="1")
    # Moved, but the same.
    results.set_method("gdd", kind="generator", model="b/1", digest="1")
    results.set_method("random", kind="baseline")
    assert content(folder)["methods"] == {
        "random": {"kind": "baseline"},
        "gdd": {"kind": "generator", "model": "b/1", "digest": "1"},
    }
    before = (folder / "results.json").read_text()
    with pytest.raises(
        InputError,
        match="`gdd` in .*results.json is another generator, b/1. Received: "
        "c/1. Give it a name of its own, `--model NAME=c/1`",
    ):
        results.set_method("gdd", kind="generator", model="c/1", digest="2")
    assert (folder / "results.json").read_text() == before
    assert {p.name for p in folder.iterdir()} == {"results.json", ".lock"}


def test_images(folder):
    results = Results(folder, DATASET)
    results.add_image("my model/2", b"png")
    results.add_image("gdd-1.0_b", b"first")
    results.add_image("gdd-1.0_b", b"again")
    assert content(folder)["images"] == {
        "my model/2": "images/my_model_2.png",
        "gdd-1.0_b": "images/gdd-1.0_b.png",
    }
    assert (folder / "images/my_model_2.png").read_bytes() == b"png"
    assert (folder / "images/gdd-1.0_b.png").read_bytes() == b"again"
    assert len(list((folder / "images").iterdir())) == 2


def test_other_data(folder):
    Results(folder, DATASET).add_record(record())
    other = {"name": "b", "source": "other data", "fingerprint": "4567"}
    with pytest.raises(
        InputError,
        match="must hold figures of other data, fingerprint 4567. Received: "
        ".*results.json, fingerprint 0123. Choose another folder.",
    ):
        Results(folder, other)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "gdd_keras res', "must hold JSON. Received: "),
        ("\x00\x80", "must be UTF-8 text. Received: "),
        ("[1]", "must be an object. Received: .*Move it away."),
        ('{"kind": "other"}', "a results file of gdd_keras"),
        (
            '{"kind": "gdd_keras results", "format": 9}',
            "must have the format 1. Received: 9. Use the version",
        ),
        (
            '{"kind": "gdd_keras results", "format": 1}',
            "must be whole. Received: no `dataset`",
        ),
        (
            '{"kind": "gdd_keras results", "format": 1, "dataset": 7}',
            "must be whole. Received: no `dataset`",
        ),
    ],
)
def test_damaged_or_foreign_results(folder, text, message):
    folder.mkdir(parents=True)
    file = folder / "results.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        Results(folder, DATASET)
    assert file.read_bytes() == text.encode("latin-1")
    assert list(folder.iterdir()) == [file]


def test_folder_of_something_else(folder):
    folder.mkdir(parents=True)
    # Left by an interrupted write; `ls` does not show it either.
    (folder / ".lock").touch()
    Results(folder, DATASET)
    (folder / "thesis.tex").write_text("precious")
    with pytest.raises(
        InputError, match="new, empty, or a folder of results.*something else"
    ):
        Results(folder, DATASET)


def test_no_folder(folder):
    folder.parent.mkdir()
    folder.write_text("precious")
    with pytest.raises(InputError, match="must be a folder. Received: .*file"):
        Results(folder, DATASET)
    results = Results(folder / "below", DATASET)
    with pytest.raises(
        InputError, match="`--results` must be a folder that can be written"
    ):
        results.add_record(record())
    assert folder.read_text() == "precious"


def test_records_that_name_no_labels_have_hard_ones(folder):
    results = Results(folder, DATASET)
    results.add_record(record())
    assert results.find(record(labels="hard")) is not None
    assert results.find(record(labels="soft")) is None
    results.add_record(record(0.9, labels="hard"))
    results.add_record(record(0.8, labels="soft"))
    accuracies = [entry["accuracy"] for entry in content(folder)["records"]]
    assert accuracies == [0.5, 0.8]
