import json

import pytest

from gdd_keras.config import InputError
from gdd_keras.reporting.merging import merge_results
from gdd_keras.reporting.results import read_results


def read(folder):
    return read_results(folder / "results.json")


def test_reads_records(results, records, results_folder):
    content = results(records("gdd", [0.5, 0.75]))
    found = read(results_folder(content))
    assert [r.accuracy for r in found.records] == [0.5, 0.75]
    assert [r.seed for r in found.records] == [0, 1]
    first = found.records[0]
    assert first.row.name == "gdd"
    assert first.setting.network == "convnet3"
    assert (first.ipc, first.command, first.environment) == (10, 0, 0)


def test_optional_parts_may_be_missing(results, record, results_folder):
    content = results([record("gdd", 0.5), record("random", 1)])
    for name in ("methods", "commands", "environments"):
        del content[name]
    for entry in content["records"]:
        del entry["command"], entry["environment"], entry["selection"]
    found = read(results_folder(content))
    assert [r.command for r in found.records] == [None, None]
    assert found.methods == {
        "gdd": {"kind": "generator"},
        "random": {"kind": "baseline"},
    }
    empty = results(quality=None, audit=[], images=None)
    assert read(results_folder(empty)).records == []


def test_damaged_json_names_the_place(tmp_path):
    file = tmp_path / "results.json"
    for text, place in (
        ('{\n"kind": "gdd', "line 2 column 9"),
        ("", "line 1 column 1"),
        ('{"kind": NaN}', "NaN, which is no finite number"),
        ("[" * 100_000, "recursion"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=f"results.json must.*{place}"):
            read_results(file)
    file.write_bytes(b"\xff")
    with pytest.raises(InputError, match="must be UTF-8"):
        read_results(file)
    file.write_text("[]")
    with pytest.raises(InputError, match=r"`the file` must be an object.*\[\]"):
        read_results(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "kind 'gdd_keras results'.*Received: kind 'other'"),
        ({"format": 2}, "format 1. Received: format=2. Report it with"),
        ({"dataset": 3}, "`dataset` must be an object. Received: 3. Mend"),
        ({"dataset": {}}, "`dataset.name` must be a string. Received: nothing"),
        ({"commands": [1]}, r"`commands\[0\]` must be a string. Received: 1"),
        ({"records": {}}, "`records` must be a list. Received: {}"),
        ({"records": [3]}, r"`records\[0\]` must be an object"),
        ({"methods": {"gdd": 1}}, "`methods.gdd` must be an object"),
        (
            {"methods": {"gdd": {"num_bytes": 0}}},
            "`methods.gdd.num_bytes` must be an integer >= 1. Received: 0",
        ),
        (
            {"methods": {"gdd": {"config": {"matching": 1}}}},
            "`methods.gdd.config.matching` must be an object",
        ),
        (
            {"methods": {"gdd": {"training": {"seconds": "1"}}}},
            "`methods.gdd.training.seconds` must be a finite number",
        ),
        ({"quality": [{}]}, r"`quality\[0\].method` must be a string"),
        (
            {"audit": [{"method": "a", "spaces": {"pixels": 1}}]},
            r"`audit\[0\].spaces.pixels` must be an object",
        ),
    ],
)
def test_wrong_parts(results, results_folder, change, message):
    with pytest.raises(InputError, match=f"results.json.*{message}"):
        read(results_folder({**results(), **change}))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("accuracy", 80.1, "a finite number >= 0 and <= 1"),
        ("accuracy", True, "a finite number"),
        ("accuracy", None, "a finite number"),
        ("ipc", None, "an integer >= 1"),
        ("ipc", 1.5, "an integer >= 1"),
        ("network", 3, "a string"),
        ("seed", -1, "an integer >= 0"),
        ("epochs", "10", "an integer >= 1"),
        ("command", 7, "an index into 1 commands"),
        ("environment", 1, "an index into 1 environments"),
    ],
)
def test_wrong_records(results, record, results_folder, name, value, expected):
    wrong = {**record("gdd", 0.5, 1), name: value}
    content = results([record("gdd", 0.5), wrong])
    with pytest.raises(InputError) as error:
        read(results_folder(content))
    message = str(error.value)
    assert f"`records[1].{name}` must be {expected}" in message
    assert f"Received: {json.dumps(value)}. Mend the file" in message


def test_wrong_shape(results, results_folder):
    content = results()
    content["dataset"]["image_shape"] = [8, 8]
    with pytest.raises(InputError, match=r"image_shape.*Received: \[8, 8\]"):
        read(results_folder(content))


def test_unreadable_file(tmp_path):
    (tmp_path / "results.json").mkdir()
    with pytest.raises(InputError, match="must be a file. Received"):
        read(tmp_path)


def merged(results_folder, *contents):
    return merge_results(
        [
            read(results_folder(content, f"part{index}"))
            for index, content in enumerate(contents)
        ]
    )


def test_merging_counts_repeated_records_once(
    results, records, record, results_folder
):
    first = results(records("gdd", [0.5, 0.6]))
    second = results([record("gdd", 0.6, 1), record("gdd", 0.7, 2)])
    found = merged(results_folder, first, second)
    assert [(r.seed, r.accuracy) for r in found.records] == [
        (0, 0.5),
        (1, 0.6),
        (2, 0.7),
    ]
    assert found.notes == []


def test_of_two_outcomes_the_later_counts(results, record, results_folder):
    twice = results([record("gdd", 0.5), record("gdd", 0.25, seconds=3)])
    found = merged(results_folder, twice)
    assert [r.accuracy for r in found.records] == [0.25]
    assert found.notes == [
        "1 accuracies were measured twice with different outcomes; the later "
        "ones count."
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"selection": "herding"},
        {"protocol": "fixed"},
        {"ipc": 1},
        {"network": "vgg11"},
        {"seed": 5},
        {"epochs": 10},
        {"learning_rate": 0.1},
        {"augmentation": "dsa"},
        {"precision": "mixed_bfloat16"},
        {"labels": "soft"},
        {"schedule": "step"},
        {"split": "validation"},
        {"held_out": "0123"},
    ],
)
def test_other_settings_are_other_records(
    results, record, results_folder, change
):
    base = {"held_out": "abcd"}
    content = results(
        [record("gdd", 0.5, **base), record("gdd", 0.5, **{**base, **change})]
    )
    assert len(merged(results_folder, content).records) == 2


def test_records_of_before_are_those_that_say_what_was_held_out(
    results, record, results_folder
):
    first = results([record("random", 0.5), record("random", 0.6, 1)])
    second = results([record("random", 0.5, held_out="abcd")])
    for parts in ((first, second), (second, first)):
        found = merged(results_folder, *parts).records
        assert {(r.seed, r.held_out) for r in found} == {(0, "abcd"), (1, None)}


def test_merging_renumbers_commands_and_machines(
    results, record, results_folder
):
    first = results([record("gdd", 0.5)], commands=["a"])
    second = results(
        [record("gan", 0.5, command=1), record("gan", 0.6, 1, command=0)],
        commands=["a", "b"],
        environments=[{"machine": "other"}],
        quality=[{"method": "gan", "precision": 0.5, "command": 1}],
        audit=[{"method": "gan"}],
    )
    found = merged(results_folder, first, second)
    assert found.commands == ["a", "b"]
    assert [r.command for r in found.records] == [0, 1, 0]
    assert [r.environment for r in found.records] == [0, 1, 1]
    assert found.quality[0]["commands"] == [1]
    # Any command of its own file.
    assert found.audit[0]["commands"] == [0, 1]


def test_repeated_quality_counts_once(results, results_folder):
    entry = {"method": "gdd", "split": "test", "neighbours": 5}
    content = results(
        quality=[
            {**entry, "precision": 0.5},
            {**entry, "split": "validation", "precision": 0.6},
            {**entry, "precision": 0.7},
        ]
    )
    found = merged(results_folder, content)
    assert [e["precision"] for e in found.quality] == [0.7, 0.6]


def test_comparisons_by_two_networks_are_kept_apart(results, results_folder):
    # Of one identity, but of two machines, or of files that do not say.
    entry = {"method": "random", "split": "test", "reference": "one"}
    ours = {**entry, "reference_weights": "ours"}
    theirs = {**entry, "reference_weights": "theirs"}
    for first, second in ((entry, entry), (ours, theirs), (entry, ours)):
        found = merged(
            results_folder,
            results(quality=[first], audit=[first]),
            results(quality=[second], audit=[second]),
        )
        assert len(found.quality) == len(found.audit) == 2
    both = results(quality=[ours], audit=[ours])
    found = merged(results_folder, both, both)
    assert len(found.quality) == len(found.audit) == 1


def test_a_name_means_one_generator(results, results_folder):
    other = results()
    other["methods"]["gdd"]["digest"] = "else"
    message = "`gdd` must be one generator.*digest of gdd and else. Give one"
    with pytest.raises(InputError, match=message):
        merged(results_folder, results(), other)
    del other["methods"]["gdd"]["digest"]
    assert merged(results_folder, results(), other).methods["gdd"]["digest"]


def test_images_are_relative_to_their_file(results, results_folder):
    folder = results_folder(results(images={"gdd": "images/gdd.png"}))
    found = merge_results([read(folder)])
    assert found.images == {"gdd": folder / "images" / "gdd.png"}
