import re

import pytest

from gdd_keras.reporting.accuracy import accuracy_tables
from gdd_keras.reporting.accuracy import architecture_tables
from gdd_keras.reporting.accuracy import full_size_tables


def tables(blocks):
    """Returns the lines of each table, without the rule below its header."""
    return [
        [line for line in block.splitlines() if "---" not in line]
        for block in blocks
        if block.startswith("|")
    ]


def headings(blocks):
    return [block[4:] for block in blocks if block.startswith("### ")]


def test_values_to_the_digit(material, records, record):
    found = material(
        [
            *records("gdd", [0.8, 0.801, 0.803]),
            *records("gdd", [0.7], ipc=1, distinct_images=3_000),
            record("real_stream", 0.88125, distinct_images=250),
            record("real_stream", 0.88135, 1, distinct_images=300),
        ]
    )
    (lines,) = tables(accuracy_tables(found))
    assert lines == [
        "| trained on | IPC 1 | IPC 10 | distinct images |",
        # Mean 80.1333, deviation 0.152753.
        "| gdd | 70.00 (one network) | 80.13 ± 0.15 (n=3) | 3,000 / 30,000 |",
        "| real_stream (ceiling) | – | 88.13 ± 0.01 (n=2) | – / 250–300 |",
    ]


def test_order_of_rows(material, record):
    names = (
        *("full", "other", "real_stream", "gdd", "dm", "dim", "forgetting"),
        *("gan", "k_center", "herding", "random", "another", "mtt"),
    )
    entries = [record(n, 0.5, protocol="fixed") for n in names if n != "full"]
    for selection in ("k_center", "herding"):
        entries.append(
            record("gdd", 0.5, protocol="fixed", selection=selection)
        )
    entries.append(record("dm", 0.5, protocol="fixed", preparation="500 steps"))
    found = material(
        entries,
        methods={
            "another": {"kind": "generator"},
            "other": {"kind": "generator"},
            "mtt": {"kind": "baseline"},
        },
    )
    (lines,) = tables(accuracy_tables(found))
    assert [line.split(" | ")[0][2:] for line in lines[1:]] == [
        *("random", "herding", "k_center", "forgetting", "dm"),
        *("dm (500 steps)", "mtt"),
        *("gan", "dim", "gdd", "gdd, herding selection"),
        *("gdd, k_center selection", "another", "other"),
        "real_stream (ceiling)",
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"protocol": "fixed"}, "fixed"),
        ({"network": "vgg11"}, "vgg11"),
        ({"split": "validation"}, "validation split"),
        ({"epochs": 10}, "10 epochs"),
        ({"augmentation": "dsa"}, "dsa"),
        ({"augmentation": "none"}, "no augmentation"),
        ({"precision": "mixed_bfloat16"}, "mixed_bfloat16"),
        ({"labels": "soft"}, "float32, soft labels"),
        ({"schedule": "step"}, "float32, step schedule"),
        ({"learning_rate": 0.1}, "float32, rate 0.1"),
    ],
)
def test_settings_are_never_mixed(material, record, change, word):
    found = material([record("gdd", 0.5), record("gdd", 0.6, **change)])
    blocks = accuracy_tables(found)
    first, second = tables(blocks)
    assert "50.00" in first[1] and "60.00" not in first[1]
    assert "60.00" in second[1] and "50.00" not in second[1]
    assert word in headings(blocks)[1]


def test_figures_on_other_held_out_images_have_tables_of_their_own(
    material, record
):
    at = {"split": "validation"}
    records = [
        record("gdd", 0.5, held_out="0123456789", **at),
        record("gan", 0.6, held_out="abcdefghij", **at),
    ]
    blocks = accuracy_tables(material(records))
    first, second = tables(blocks)
    assert "50.00" in first[1] and "60.00" in second[1]
    assert headings(blocks)[0].endswith(", held out: 01234567")
    assert headings(blocks)[1].endswith(", held out: abcdefgh")
    # One part needs no name.
    blocks = accuracy_tables(material(records[1:]))
    assert "held out" not in headings(blocks)[0]


def test_other_training_images_are_named_on_the_test_split(material, record):
    found = material(
        [
            record("random", 0.5, protocol="fixed", held_out="0123456789"),
            record("random", 0.6, protocol="fixed", held_out="abcdefghij"),
            record("dm", 0.7, protocol="fixed", held_out="abcdefghij"),
            record("gdd", 0.8, protocol="fixed"),
        ]
    )
    (lines,) = tables(accuracy_tables(found))
    assert [line.split(" | ")[0][2:] for line in lines[1:]] == [
        "random (held out: 01234567)",
        "random (held out: abcdefgh)",
        "dm",
        "gdd",
    ]


def test_caption(material, records):
    found = material(
        [*records("gdd", [0.5, 0.6]), *records("gan", [0.5, 0.6, 0.7])],
        commands=["a", "b"],
    )
    title, text, _ = accuracy_tables(found)
    assert title == "### stream, convnet3, test split, 1,000 epochs, crop, " + (
        "float32"
    )
    assert text == (
        "Accuracy in % on the test split, mean ± sample standard deviation "
        "over n networks. stream: fresh images in every epoch, constant "
        "learning rate 0.01; convnet3, trained from scratch, last of 1,000 "
        "epochs; augmentation crop; float32; seeds 0–2, not all in every "
        "cell. Distinct images are those that each network was shown. Command "
        "[1](#command-1)."
    )


def test_caption_says_another_schedule(material, records):
    found = material(records("gdd", [0.5, 0.6], schedule="step"))
    text = accuracy_tables(found)[1]
    assert "fresh images in every epoch, learning rate 0.01, a tenth" in text
    assert "after half time; convnet3" in text
    assert "constant" not in text


def test_caption_names_all_commands_and_machines(material, record):
    found = material(
        [
            record("gdd", 0.5, 4),
            record("gdd", 0.5, 6, command=2, environment=1),
        ],
        commands=["a", "b", "c"],
        environments=[{}, {"machine": "other"}],
    )
    text = accuracy_tables(found)[1]
    assert "seeds 4 and 6." in text
    assert text.endswith(
        "Commands [1](#command-1) and [3](#command-3). Machines 1 and 2."
    )


def test_full_data_stand_beside_not_inside(material, record):
    found = material(
        [
            record("gdd", 0.5),
            record("full", 0.9, protocol="full_size", epochs=10),
            record("full", 0.1, protocol="full_size", network="vgg11"),
        ]
    )
    blocks = accuracy_tables(found)
    assert "90.00" not in tables(blocks)[0][1]
    assert blocks[-1] == (
        "For reference, under another schedule (full_size, convnet3, test "
        "split, 10 epochs, crop, float32): the full real training data, "
        "90.00 (one network)."
    )


def test_architectures(material, record):
    found = material(
        [
            record("gdd", 0.5),
            record("gdd", 0.6, network="vgg11"),
            record("gdd", 0.7, network="my.nets:small"),
            record("gdd", 0.1, network="resnet18", ipc=1),
            record("gan", 0.4),
            record("dim", 0.3),
            record("dim", 0.2, network="vgg11"),
            record("gdd", 0.9, network="vgg11", protocol="fixed"),
        ]
    )
    blocks = architecture_tables(found)
    assert headings(blocks) == [
        "stream, IPC 10, test split, 1,000 epochs, crop, float32"
    ]
    assert tables(blocks) == [
        [
            "| trained on | convnet3 | vgg11 | my.nets:small | distinct "
            "images |",
            "| dim | 30.00 (one network) | 20.00 (one network) | – | 30,000 |",
            "| gdd | 50.00 (one network) | 60.00 (one network) | 70.00 (one "
            "network) | 30,000 |",
        ]
    ]
    assert "networks as named" in blocks[1]


def test_one_network_is_no_comparison(material, record):
    found = material([record("gdd", 0.5), record("gan", 0.4, network="vgg11")])
    assert architecture_tables(found) == []


def test_full_size(material, record):
    whole = {"protocol": "full_size", "distinct_images": 270}
    found = material(
        [
            record("gdd", 0.8, **whole),
            record("full", 0.9, **whole),
            record("full", 0.95, network="vgg11", **whole),
            record("gdd", 0.5),
        ]
    )
    blocks = full_size_tables(found)
    assert "classification accuracy score" in blocks[0]
    assert tables(blocks) == [
        [
            "| trained on | convnet3 | vgg11 | distinct images |",
            "| gdd | 80.00 (one network) | – | 270 |",
            "| full | 90.00 (one network) | 95.00 (one network) | 270 |",
        ]
    ]
    assert all(
        "full_size" not in title for title in headings(accuracy_tables(found))
    )


def test_nothing_to_show(material):
    empty = material()
    assert accuracy_tables(empty) == []
    assert architecture_tables(empty) == []
    assert full_size_tables(empty) == []


def test_names_are_escaped(material, record):
    name = "a|<b>*"
    found = material([record(name, 0.5, network="x<y")])
    blocks = "\n".join(accuracy_tables(found))
    assert re.search(r"\| a&#124;&lt;b&gt;\\\* \|", blocks)
    assert "x<y" not in blocks
