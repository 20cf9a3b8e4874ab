import pytest

from gdd_keras.reporting.summary import dataset_line
from gdd_keras.reporting.summary import summary

START = (
    "Accuracies in %, mean ± sample standard deviation over n networks; the "
    "ceiling is that of fresh real images under the same schedule. "
)


def test_dataset_line(material):
    assert dataset_line(material().results.dataset) == (
        "Data: a test, images of 8 x 8 x 1, 3 classes, 300 train / 30 "
        "validation / 90 test images, fingerprint 0123."
    )
    assert dataset_line({"name": "a_*", "fingerprint": None}) == r"Data: a\_\*."


def test_clear_best(material, records):
    found = material(
        [
            *records("gdd", [0.800, 0.802]),
            *records("dim", [0.700, 0.702]),
            *records("gan", [0.600, 0.602]),
            *records("real_stream", [0.880, 0.882]),
            *records("full", [0.9], protocol="full_size"),
        ],
        generators=("gan", "dim", "gdd"),
    )
    assert summary(found) == (
        START
        + "**stream, convnet3, test split, 1,000 epochs, crop, float32:** best "
        "generator at IPC 10 gdd 80.10 ± 0.14 (n=2), ceiling 88.10 ± 0.14 "
        "(n=2). The full real data give 90.00 (one network) (full_size, "
        "convnet3, test split, 1,000 epochs, crop, float32). The best of "
        "several was found by these very figures, which favours it a little."
    )


def test_within_the_spread(material, records):
    found = material(
        [*records("gdd", [0.70, 0.80]), *records("dim", [0.69, 0.79])]
    )
    text = summary(found)
    assert (
        "gdd 75.00 ± 7.07 (n=2) (not told apart from dim), ceiling not measured"
    ) in text


def test_one_network_each(material, record):
    found = material([record("gdd", 0.8), record("dim", 0.2)])
    assert (
        "gdd 80.00 (one network) (too few networks to tell it from dim)"
    ) in summary(found)


def test_fixed_names_random_and_the_best_baseline(material, record):
    def at(method, accuracy, ipc, **changes):
        return record(method, accuracy, protocol="fixed", ipc=ipc, **changes)

    found = material(
        [
            at("gdd", 0.5, 1, selection="herding"),
            at("random", 0.25, 1),
            at("gdd", 0.5, 10),
            at("random", 0.25, 10),
            at("dm", 0.75, 10, preparation="500 steps"),
            # The last of one method is not its best.
            at("dm", 0.625, 10, preparation="90 steps"),
            at("gdd", 0.5, 50),
        ]
    )
    assert (
        "at IPC 1 gdd, herding selection 50.00 (one network) (the only one "
        "measured), random real images 25.00 (one network); at IPC 10 gdd "
        "50.00 (one network) (the only one measured), random real images 25.00 "
        "(one network), best baseline dm (500 steps) 75.00 (one network); at "
        "IPC 50 gdd 50.00 (one network) (the only one measured), random real "
        "images not measured."
    ) in summary(found)


def test_test_split_before_validation(material, records):
    found = material(
        [
            *records("gdd", [0.9, 0.9, 0.9], split="validation"),
            *records("gdd", [0.5]),
        ]
    )
    assert "50.00" in summary(found) and "90.00" not in summary(found)
    only = material(records("gdd", [0.9], split="validation"))
    assert "validation split" in summary(only)


def test_nothing_measured(material, record):
    expected = "No accuracy of a generator was measured."
    assert summary(material()) == expected
    assert summary(material([record("random", 0.5)], generators=())) == expected


@pytest.mark.parametrize("change", [{"labels": "soft"}, {"schedule": "step"}])
def test_what_is_as_usual_comes_first(material, records, change):
    other = records("gdd", [0.9, 0.9, 0.9], **change)
    text = summary(
        material([*records("gdd", [0.5]), *other], generators=("gdd",))
    )
    assert "gdd 50.00 (one network)" in text
    assert "90.00" not in text


def test_soft_labels_alone(material, records):
    soft = records("gdd", [0.9, 0.9, 0.9], labels="soft")
    alone = summary(material(soft, generators=("gdd",)))
    assert "gdd 90.00" in alone
    assert "soft labels, which real images have not" in alone
    assert "not measured" not in alone
