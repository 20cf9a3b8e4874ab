"""Every config, state and description is refused by its field, or used."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from gdd_keras.config import Config
from gdd_keras.config import InputError
from gdd_keras.config import config_from_json
from gdd_keras.config import config_to_json
from gdd_keras.config import make_config
from gdd_keras.config import section_fields
from gdd_keras.reporting import build_document
from gdd_keras.reporting import build_page
from gdd_keras.reporting import read_inputs
from gdd_keras.run_directory import open_run

NAMES = [field.name for _, _, field, _ in section_fields()]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**30, -(10**400), 2**31, 0.5, -1.5, 1e308]),
    st.floats(),
    st.sampled_from(["", "a\nb", "a\0b", "\ud800", "x" * 5000, "block_2"]),
    st.sampled_from(["<script>alert(1)</script>", "| a |", "![a](b)", "`"]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=4), inner)
    ),
    max_leaves=6,
)


@st.composite
def damaged(draw, value):
    """Draws a JSON value with one to three places replaced or removed."""
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        place = value
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                place = inner
                continue
            if isinstance(place, dict) and draw(st.booleans()):
                del place[key]
                if draw(st.booleans()):
                    place[draw(st.text(max_size=4))] = inner
            else:
                place[key] = draw(VALUES)
            break
    return value


@st.composite
def damaged_text(draw, value):
    """Draws the bytes of a damaged JSON file."""
    text = json.dumps(draw(damaged(value)))
    kind = draw(st.sampled_from(["whole"] * 6 + ["cut", "bytes", "twice"]))
    if kind == "twice":
        text = '{"config": {}, "run": {}, "run": {}, ' + text[1:]
    content = text.encode()
    if kind == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    if kind == "bytes":
        content = content[:5] + draw(st.binary(max_size=4)) + content[5:]
    return content


@hypothesis.given(VALUES)
def test_every_value_of_a_field_is_used_or_refused(value):
    for name in NAMES:
        try:
            config = make_config(**{name: value})
        except InputError as error:
            assert f"`{name}`" in str(error)
        else:
            assert config_from_json(config_to_json(config)) == config


@hypothesis.given(damaged_text(json.loads(config_to_json(Config()))))
def test_a_config_file_round_trips_or_is_refused(content):
    try:
        config = config_from_json(content.decode(errors="replace"), "a.json")
    except InputError as error:
        assert "a.json" in str(error)
    else:
        assert config_from_json(config_to_json(config)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "must hold JSON. Received: maximum recursion"),
        ("[" * 17 + "]" * 17, "more than 16 levels of nesting"),
        ('{"run": {"seed": 1, "seed": 2}}', "the key `seed` twice"),
        ('{"run": {"seed": 1e999}}', "`seed` must be of type int"),
        ('{"cgan": {"batch_size": ' + "9" * 5000 + "}}", "must hold JSON"),
    ],
)
def test_json_that_python_would_take_or_choke_on(text, message):
    with pytest.raises(InputError, match=message):
        config_from_json(text, "a.json")


def test_a_damaged_state_is_refused_by_its_field(tmp_path):
    config = make_config("tiny")
    run = open_run(config, "a", tmp_path / "run")
    run.save(
        stages={"cgan": {"done": True, "first_step": 0, "steps": 4}},
        plan=[{"epochs": 1, "steps_per_epoch": 4, "step_seconds": 0.1}],
        fingerprint="0",
        export="saved_models/a/1",
        scores=[
            {
                "seed": 0,
                "distinct_images": 10,
                "accuracy": 0.5,
                "seconds": 1.5,
            }
        ],
    )
    file = run.path / "state.json"

    @hypothesis.given(damaged_text(run.state))
    def check(content):
        file.write_bytes(content)
        try:
            state = open_run(config, "a", run.path).state
        except InputError as error:
            assert str(file) in str(error)
            assert "start over with `--fresh`" in str(error)
            return
        # What is done with a state that was taken.
        assert state["seconds"] >= 0.0 and state["done"] in (True, False)
        for stage in state["stages"].values():
            assert not stage["done"] or stage["steps"] >= 0
        for plan in state.get("plan", []):
            assert plan["epochs"] * plan["steps_per_epoch"] >= 1
        for score in state.get("scores", []):
            assert 0.0 <= score["accuracy"] <= 1.0
            assert score["seconds"] + score["distinct_images"] >= 1

    check()


def test_damaged_metadata_are_refused_by_their_field(
    world, tmp_path, fresh, answer, reached
):
    from gdd_keras import evaluate
    from gdd_keras import generate

    file = next((world / "model").glob("*/metadata.json"))
    before = file.read_bytes()
    metadata = {
        **json.loads(before),
        "config": json.loads((world / "config.json").read_text()),
        "scores": [{"accuracy_mean": 0.5}],
    }

    @hypothesis.given(damaged_text(metadata))
    def check(content):
        file.write_bytes(content)
        words = ["--model", world / "model"]
        scoring = ["--dataset", world / "set.npz", "--num-seeds", 1]
        with fresh() as folder:
            answers = [
                answer(generate.main, [*words, "--output", "out"], folder),
                answer(evaluate.main, [*words, *scoring], folder),
            ]
        for code, text in answers:
            assert code in (0, 2)
            assert code == 0 or str(world) in text, text

    try:
        check()
    finally:
        file.write_bytes(before)


def test_damaged_results_are_refused_or_shown_as_text(
    world, tmp_path, monkeypatch
):
    hostile = "<script>alert(1)</script>"
    record = {
        "method": "random",
        "selection": "random",
        "protocol": "fixed",
        "ipc": 10,
        "network": "convnet3",
        "seed": 0,
        "epochs": 10,
        "learning_rate": 0.01,
        "augmentation": "crop",
        "precision": "float32",
        "split": "test",
        "distinct_images": 30,
        "accuracy": 0.5,
        "command": 0,
        "environment": 0,
    }
    results = json.loads((world / "results" / "results.json").read_text())
    results["dataset"]["class_names"] = [hostile, "b"]
    results["records"] = [record, {**record, "method": hostile}]
    results["commands"] = [hostile]
    results["environments"] = [{"machine": hostile, "versions": {"a": "1"}}]
    results["audit"] = [{"method": hostile, "spaces": {}}]
    results["quality"] = [{"method": hostile, "fid": 1.0}]
    file = tmp_path / "results.json"

    @hypothesis.given(damaged_text(results))
    def check(content):
        file.write_bytes(content)
        try:
            material = read_inputs([file])
        except InputError as error:
            assert str(file) in str(error)
        else:
            assert "<script" not in build_page(build_document(material))

    check()
