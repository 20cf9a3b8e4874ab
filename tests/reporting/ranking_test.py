import math

from gdd_keras.reporting.ranking import ranking_tables


def score(recovery, improvement):
    exponent = (improvement - recovery) / 2
    return (math.exp(exponent) - math.exp(-1)) / (math.e - math.exp(-1))


def entries(record, protocol="fixed"):
    return [
        record("gdd", 0.8, protocol=protocol),
        record("gdd", 0.7, protocol=protocol, selection="herding"),
        record("herding", 0.6, protocol=protocol),
        record("random", 0.5, protocol=protocol),
        record("gdd", 0.4, protocol=protocol, ipc=1),
        record("full", 0.9, protocol="full_size", command=1),
    ]


def rows(blocks):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for block in blocks
        if block.startswith("|")
        for line in block.splitlines()[2:]
    ]


def test_fixed(material, record):
    blocks = ranking_tables(material(entries(record), commands=["a", "b"]))
    assert rows(blocks) == [
        # No random images at IPC 1.
        [
            "herding",
            "10",
            "0.6000",
            "0.3000",
            "0.1000",
            f"{score(0.3, 0.1):.4f}",
        ],
        ["gdd", "10", "0.8000", "0.1000", "0.3000", f"{score(0.1, 0.3):.4f}"],
        [
            *("gdd, herding selection", "10", "0.7000", "0.2000", "0.2000"),
            f"{score(0.2, 0.2):.4f}",
        ],
    ]
    assert blocks[2] == (
        "Full real data: 0.9000 (full_size, convnet3, test split, 1,000 "
        "epochs, crop, float32). Commands [1](#command-1) and [2](#command-2)."
    )


def test_stream_has_recovery_only(material, record):
    stream = [
        record("gdd", 0.8),
        record("real_stream", 0.85),
        record("full", 0.9, protocol="full_size"),
    ]
    blocks = ranking_tables(material(stream))
    assert rows(blocks) == [["gdd", "10", "0.8000", "0.1000"]]
    assert "under `stream` there is HLR only" in " ".join(blocks[0].split())


def test_needs_the_full_data_of_the_same_network(material, record):
    without = [e for e in entries(record) if e["method"] != "full"]
    assert ranking_tables(material(without)) == []
    other = record("full", 0.9, protocol="full_size", network="vgg11")
    assert ranking_tables(material([*without, other])) == []
    other = record("full", 0.9, protocol="full_size", split="validation")
    assert ranking_tables(material([*without, other])) == []


def test_fixed_needs_random(material, record):
    without = [e for e in entries(record) if e["method"] != "random"]
    found = material(without, commands=["a", "b"])
    assert ranking_tables(found) == []


def test_nearest_full_data(material, record):
    whole = {"protocol": "full_size", "epochs": 10}
    found = material(
        [
            record("gdd", 0.5),
            record("full", 0.6, **whole, augmentation="dsa"),
            record("full", 0.7, **whole, precision="mixed_bfloat16"),
            record("full", 0.8, **whole),
        ]
    )
    assert rows(ranking_tables(found)) == [["gdd", "10", "0.5000", "0.3000"]]


def test_soft_labels_are_not_ranked(material, record):
    soft = [
        {**entry, "labels": "soft"}
        for entry in entries(record)
        if entry["method"] == "gdd"
    ]
    commands = ["a", "b"]
    hard = ranking_tables(material(entries(record), commands=commands))
    both = material([*entries(record), *soft], commands=commands)
    assert ranking_tables(both) == hard
