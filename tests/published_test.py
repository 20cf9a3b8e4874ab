"""Figures that README.md and docs/results.md publish, and their records."""

import collections
import json
import pathlib
import re
import statistics

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What tells the networks of one figure apart.
_OF_ONE_NETWORK = {
    "seed",
    "accuracy",
    "seconds",
    "distinct_images",
    "command",
    "environment",
}


@pytest.fixture(scope="module")
def recorded():
    """Every mean, in %, that a record gives: "98.43 ± 0.06", "89.16 (1)".

    Of the first networks, too, where more were trained later.
    """
    texts = set()
    for path in (ROOT / "docs" / "results").rglob("*.json"):
        networks = collections.defaultdict(dict)
        for record in json.loads(path.read_text())["records"]:
            setting = tuple(
                (name, str(value))
                for name, value in sorted(record.items())
                if name not in _OF_ONE_NETWORK
            )
            networks[setting][record["seed"]] = 100 * record["accuracy"]
        for by_seed in networks.values():
            values = [by_seed[seed] for seed in sorted(by_seed)]
            texts.add(f"{values[0]:.2f} (1)")
            for count in range(2, len(values) + 1):
                first = values[:count]
                texts.add(
                    f"{statistics.mean(first):.2f} ± "
                    f"{statistics.stdev(first):.2f}"
                )
    return texts


@pytest.mark.parametrize("name", ["README.md", "docs/results.md"])
def test_every_mean_is_on_record(recorded, name):
    text = (ROOT / name).read_text().replace(" %", "")
    text = text.replace("(one network)", "(1)")
    published = re.findall(r"\b\d\d\.\d\d (?:± \d+\.\d\d\b|\(1\))", text)
    assert len(published) > 20
    assert [figure for figure in published if figure not in recorded] == []
