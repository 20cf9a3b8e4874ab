import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from gdd_keras.config import EvaluationConfig
from gdd_keras.config import InputError
from gdd_keras.evaluation import Score
from gdd_keras.evaluation import baselines
from gdd_keras.evaluation import benchmark
from gdd_keras.evaluation.baselines import generator_source
from gdd_keras.evaluation.benchmark import Benchmark
from gdd_keras.evaluation.benchmark import Row
from gdd_keras.evaluation.benchmark import plan_rows
from gdd_keras.evaluation.protocols import SourceScorer
from gdd_keras.evaluation.protocols import score_fields
from gdd_keras.evaluation.reference import reference_config
from gdd_keras.evaluation.results import Results
from gdd_keras.evaluation.sources import FixedSet
from gdd_keras.evaluation.sources import generated_set

LINEAR = f"{__name__}:linear"
CONFIG = EvaluationConfig(
    ipc=1, num_seeds=2, eval_epochs=3, reference_epochs=2, dm_steps=1
)


def linear(image_shape, num_classes):
    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


class NumberedGenerator:
    """Makes images of one value: number x 3 + seed."""

    num_classes = 3
    image_shape = (8, 8, 1)

    @staticmethod
    def balanced_labels(ipc):
        return np.arange(3 * ipc, dtype=np.int32) % 3

    @staticmethod
    def draw(labels, seed, first_index):
        numbers = first_index + tf.range(tf.size(labels, tf.int64))
        values = tf.cast((3 * numbers + seed) % 256, tf.uint8)
        return tf.tile(values[:, None, None, None], (1, 8, 8, 1))


class PixelReference:
    """Stands for the reference network, with pixels for features."""

    forgetting = np.arange(30, dtype=np.int32)
    digest = "pixels"
    score = None

    @staticmethod
    def features(images):
        return np.reshape(images, (len(images), -1)).astype("float32")


@pytest.fixture
def make(toy_dataset, tmp_path):
    """Function that makes a `Benchmark`, as a process of its own would."""

    def make(dataset=toy_dataset, seed=0, split="test", verbose=0, **settings):
        return Benchmark(
            dataset,
            dataclasses.replace(CONFIG, **settings),
            Results(tmp_path / "results", dataset.describe()),
            {"gan": NumberedGenerator(), "gdd": NumberedGenerator()},
            seed,
            split,
            verbose,
        )

    return make


@pytest.fixture
def pixel_reference(monkeypatch, toy_dataset):
    """Replaces training the reference network; counts how often."""
    loaded = []

    def load(dataset, config, cache, seed, split, progress):
        loaded.append((config, cache, seed, split))
        made = PixelReference()
        made.score = Score(
            **score_fields(
                dataset,
                reference_config(config),
                split,
                "full",
                protocol="full_size",
            ),
            seed=seed,
            distinct_images=30,
            accuracy=0.875,
            seconds=2.0,
        )
        return made

    monkeypatch.setattr(benchmark, "load_reference", load)
    return loaded


def stored(tmp_path):
    return json.loads((tmp_path / "results" / "results.json").read_text())


class TestPlan:
    def test_one_row_by_default(self):
        assert plan_rows(["gdd"]) == [
            Row("gdd", "random", "stream", 10, "convnet3")
        ]
        assert plan_rows([]) == []

    def test_cheap_rows_first_and_whole_sets_last(self):
        rows = plan_rows(
            ["gan", "gdd"],
            ["random", "herding", "real_stream", "full"],
            ["random", "k_center"],
            ["stream", "fixed"],
            [1, 10],
            ["convnet3", "mlp"],
            full_size=True,
        )
        block = [
            ("real_stream", "random", "stream"),
            ("gan", "random", "stream"),
            ("gdd", "random", "stream"),
            ("random", "random", "fixed"),
            ("herding", "random", "fixed"),
            ("gan", "random", "fixed"),
            ("gan", "k_center", "fixed"),
            ("gdd", "random", "fixed"),
            ("gdd", "k_center", "fixed"),
        ]
        expected = [
            Row(*fields, ipc, network)
            for ipc in (1, 10)
            for network in ("convnet3", "mlp")
            for fields in block
        ]
        expected += [
            Row(name, "random", "full_size", None, "convnet3")
            for name in ("full", "gan", "gdd")
        ]
        assert rows == expected
        assert len(set(rows)) == len(rows)

    def test_selection_alone_is_of_the_protocol_fixed(self):
        rows = plan_rows(
            ["gdd"], ["real_stream"], ["herding"], ["fixed", "stream"], [5]
        )
        assert [(r.method, r.selection, r.protocol) for r in rows] == [
            ("gdd", "herding", "fixed"),
            ("real_stream", "random", "stream"),
            ("gdd", "random", "stream"),
        ]

    def test_whole_sets_alone(self):
        assert plan_rows([], ["full"], protocols=["fixed"]) == [
            Row("full", "random", "full_size", None, "convnet3")
        ]

    @pytest.mark.parametrize(
        ("name", "protocol", "wanted"),
        [
            ("random", "stream", "fixed"),
            ("dm", "stream", "fixed"),
            ("real_stream", "fixed", "stream"),
        ],
    )
    def test_baseline_of_another_protocol(self, name, protocol, wanted):
        with pytest.raises(
            InputError,
            match=f"`--baselines {name}` belongs to the protocol `{wanted}`. "
            f"Received: --protocol {protocol}. Add `{wanted}`, or leave",
        ):
            plan_rows(["gdd"], [name], protocols=[protocol])

    @pytest.mark.parametrize(
        "selections", [["herding"], ["random", "k_center"]]
    )
    def test_selection_without_its_protocol(self, selections):
        with pytest.raises(
            InputError,
            match="images of the protocol `fixed`. Received: --protocol stream",
        ):
            plan_rows(["gdd"], selections=selections)

    @pytest.mark.parametrize(
        "asked", [{"full_size": True}, {"selections": ["random", "herding"]}]
    )
    def test_nothing_to_select_from(self, asked):
        with pytest.raises(InputError, match="Received: no `--model`"):
            plan_rows([], ["random"], protocols=["fixed"], **asked)

    @pytest.mark.parametrize(
        ("selection", "most"), [("typical", 500), ("condensed", 100)]
    )
    def test_too_many_chosen_images(self, selection, most):
        with pytest.raises(
            InputError, match=f"up to {most} .* Received: ipc={most + 1}"
        ):
            plan_rows(
                ["gdd"],
                selections=[selection],
                protocols=["fixed"],
                ipcs=[1, most + 1],
            )


def rows_of(network=LINEAR, **settings):
    return plan_rows(
        ["gan"],
        ["random", "real_stream"],
        protocols=["stream", "fixed"],
        ipcs=[1, 2],
        networks=[network],
        **settings,
    )


def test_figures_are_trained_and_written(
    make, tmp_path, toy_dataset, monkeypatch
):
    rows = plan_rows(
        ["gan"],
        ["real_stream"],
        ["random"],
        ["stream", "fixed"],
        [2],
        [LINEAR],
    )
    records = make(seed=5).run(rows)
    assert [
        (r["method"], r["protocol"], r["augmentation"], r["seed"])
        for r in records
    ] == [
        (method, protocol, augmentation, seed)
        for method, protocol, augmentation in (
            ("real_stream", "stream", "crop"),
            ("gan", "stream", "crop"),
            ("gan", "fixed", "dsa_digits"),
        )
        for seed in (5, 6)
    ]
    for record in records:
        assert record["ipc"] == 2 and record["network"] == LINEAR
        # Of nine test images.
        assert round(9 * record["accuracy"], 6) in range(10)
        distinct = {"stream": 18, "fixed": 6}[record["protocol"]]
        assert record["distinct_images"] == distinct
    assert stored(tmp_path)["records"] == records
    assert stored(tmp_path)["dataset"] == toy_dataset.describe()

    monkeypatch.setattr(SourceScorer, "score", pytest.fail)
    assert make(seed=5).run(rows) == records


def test_an_interrupted_run_goes_on(make, tmp_path, pretend_scores):
    rows = rows_of()
    scored = pretend_scores(interrupt_at=3)
    with pytest.raises(KeyboardInterrupt):
        make().run(rows)
    assert len(scored) == len(stored(tmp_path)["records"]) == 3
    rest = pretend_scores()
    records = make().run(rows)
    # Eight rows of two networks, none of them twice.
    assert len(rest) == 13 and len({*scored, *rest}) == 16
    assert len(stored(tmp_path)["records"]) == len(records) == 16
    assert [(r["method"], r["protocol"], r["ipc"]) for r in records] == [
        (row.method, row.protocol, row.ipc) for row in rows for _ in range(2)
    ]
    # More networks: the first two are there.
    more = pretend_scores()
    assert len(make(num_seeds=3).run(rows)) == 24
    assert [seed for *_, seed in more] == [2] * 8


def test_other_settings_are_other_figures(make, pretend_scores):
    rows = plan_rows(["gan"], networks=[LINEAR], ipcs=[1])
    for settings in (
        {},
        {"eval_epochs": 4},
        {"eval_learning_rate": 0.5},
        {"eval_augmentation": "none"},
        {"eval_precision": "mixed_bfloat16"},
        {"split": "validation"},
        {"seed": 7},
    ):
        scored = pretend_scores()
        records = make(**settings).run(rows)
        assert len(scored) == len(records) == 2
        # What does not bear on this row makes no other figure.
        again = make(**{"dm_steps": 9, "candidates": 50, **settings})
        assert again.run(rows) == records and len(scored) == 2


@pytest.mark.parametrize(
    ("method", "selection", "settings", "preparation"),
    [
        ("dm", "random", {"dm_steps": 3}, "3 steps"),
        ("herding", "random", {"reference_epochs": 4}, "reference of 4 epochs"),
        (
            "gan",
            "k_center",
            {"candidates": 20, "reference_epochs": 4},
            "20 candidates, reference of 4 epochs",
        ),
    ],
)
def test_what_images_depend_on_makes_other_figures(
    make,
    pretend_scores,
    pixel_reference,
    method,
    selection,
    settings,
    preparation,
):
    rows = [Row(method, selection, "fixed", 1, LINEAR)]
    few = {"dm_steps": 2, "candidates": 10, "reference_epochs": 2}
    for own in (few, {**few, **settings}):
        scored = pretend_scores()
        records = make(**own).run(rows)
        assert len(scored) == len(records) == 2
        assert make(**own).run(rows) == records and len(scored) == 2
    assert {record["preparation"] for record in records} == {preparation}


@pytest.mark.parametrize(
    ("method", "selection", "split", "depends"),
    [
        ("random", "random", "test", True),
        ("gan", "herding", "test", True),
        ("gan", "random", "validation", True),
        ("gan", "random", "test", False),
    ],
)
def test_what_is_held_out_makes_other_figures(
    make,
    toy_dataset,
    pretend_scores,
    pixel_reference,
    method,
    selection,
    split,
    depends,
):
    rows = [Row(method, selection, "fixed", 1, LINEAR)]
    for held_out in ("one", "other", "other"):
        dataset = dataclasses.replace(toy_dataset, held_out=held_out)
        scored = pretend_scores()
        records = make(dataset=dataset, split=split).run(rows)
        expected = held_out if depends else None
        assert [r["held_out"] for r in records] == [expected] * 2
        if held_out == "other" and not depends:
            assert not scored
    assert not scored


@pytest.mark.parametrize(
    ("method", "selection", "preparation"),
    [
        ("dm", "random", "1 steps, made by seed 1"),
        ("gdd", "condensed", "made by seed 1"),
        ("random", "random", None),
    ],
)
def test_sets_made_by_another_seed_are_other_sets(
    make,
    toy_dataset,
    pretend_scores,
    monkeypatch,
    method,
    selection,
    preparation,
):
    train = toy_dataset.train
    source = FixedSet(lambda seed: (train.images[:3], train.labels[:3]), 3)
    monkeypatch.setattr(Benchmark, "_source", lambda *arguments: source)
    rows = [Row(method, selection, "fixed", 1, LINEAR)]
    scored = pretend_scores()
    (record,) = make(seed=1, num_seeds=1).run(rows)
    assert record["preparation"] == preparation and len(scored) == 1
    # Seeds 0 and 1; the latter's set is another one where sets are made once.
    make(num_seeds=2).run(rows)
    assert len(scored) == (2 if preparation is None else 3)


def test_figures_of_another_process_are_not_made_again(
    make, tmp_path, monkeypatch, pretend_scores
):
    scored = pretend_scores()
    score = SourceScorer.score

    def slow_score(self, seed, progress=None, on_epoch_end=None):
        made = score(self, seed, progress, on_epoch_end)
        if seed == 0:
            # Meanwhile, another process makes the next figure.
            other = dataclasses.replace(made, seed=1, accuracy=0.125)
            make()._results.add_record(dataclasses.asdict(other))
        return made

    monkeypatch.setattr(SourceScorer, "score", slow_score)
    rows = plan_rows(["gan"], networks=[LINEAR], ipcs=[1])
    records = make(num_seeds=3).run(rows)
    assert [seed for *_, seed in scored] == [0, 2]
    assert [r["seed"] for r in records] == [0, 1, 2]
    assert records[1]["accuracy"] == 0.125


def test_condensed_images_are_made_once_before_networks_train(
    make, pretend_scores, monkeypatch
):
    scored = pretend_scores()
    asked = []

    def condensed_images(generator, ipc, seed, progress):
        asked.append((ipc, seed, list(scored)))
        for done in (1, 2, 3):
            progress(done, 3)
        return np.zeros((3 * ipc, 8, 8, 1), np.uint8)

    monkeypatch.setattr(baselines, "condensed_images", condensed_images)
    rows = plan_rows(["gan"], (), ["condensed"], ["fixed"], [2], [LINEAR])
    records = make(seed=5).run(rows)
    assert asked == [(2, 5, [])]
    assert [(r["selection"], r["seed"]) for r in records] == [
        ("condensed", 5),
        ("condensed", 6),
    ]
    assert make(seed=5).run(rows) == records
    assert len(asked) == 1


def test_every_row_has_its_images(
    make, tmp_path, pretend_scores, pixel_reference
):
    scored = pretend_scores()
    rows = plan_rows(
        ["gan"],
        ["random", "herding", "k_center", "forgetting", "dm", "real_stream"],
        ["random", "herding", "k_center"],
        ["stream", "fixed"],
        [1],
        [LINEAR],
        full_size=True,
    )
    made = make(num_seeds=1)
    made.run(rows)
    assert scored == [
        (row.method, row.selection, row.protocol, row.ipc, row.network, 0)
        for row in rows
    ]
    # One reference network for all rows, in the folder of the results.
    assert pixel_reference == [(made._config, tmp_path / "results", 0, "test")]
    names = ["gan", "random", "herding", "k_center", "forgetting", "dm"]
    found = stored(tmp_path)["images"]
    assert found == {name: f"images/{name}.png" for name in names}
    for name in names:
        with Image.open(tmp_path / "results" / found[name]) as grid:
            # A row per class; ten of a generator, else what there is.
            columns = 10 if name == "gan" else 1
            assert grid.size == (8 * columns, 24)


def test_grid_shows_the_images_of_a_class_in_a_row(
    make, tmp_path, pretend_scores
):
    pretend_scores()
    make(seed=4).run(plan_rows(["gan"], networks=[LINEAR], ipcs=[1]))
    with Image.open(tmp_path / "results" / "images" / "gan.png") as grid:
        values = np.asarray(grid)[::8, ::8]
    # Image i of seed 4 has the value 3 i + 4 and the label i % 3.
    np.testing.assert_array_equal(
        values, 4 + 3 * np.arange(30).reshape(10, 3).T
    )


def test_grid_of_uneven_classes_has_black_places():
    images = np.arange(1, 6, dtype=np.uint8)[:, None, None, None]
    images = np.tile(images, (1, 2, 3, 1))
    grid = benchmark._grid(images, np.array([1, 0, 1, 2, 1]))
    assert grid.shape == (6, 9, 1) and grid.dtype == np.uint8
    np.testing.assert_array_equal(
        grid[::2, ::3, 0], [[2, 0, 0], [1, 3, 5], [4, 0, 0]]
    )
    many = np.zeros((300, 2, 2, 3), np.uint8)
    assert benchmark._grid(many, np.arange(300) % 25).shape == (40, 20, 3)


def test_whole_training_split_is_the_reference_network(
    make, tmp_path, monkeypatch, pixel_reference
):
    monkeypatch.setattr(SourceScorer, "score", pytest.fail)
    rows = plan_rows([], ["full"], protocols=["fixed"])
    (record,) = make(seed=3).run(rows)
    assert record["accuracy"] == 0.875 and record["method"] == "full"
    assert record["epochs"] == 2 and record["ipc"] is None
    assert record["seed"] == 3
    # One network, however many the others have, and never again.
    assert make(seed=3, num_seeds=9).run(rows) == [record]
    assert len(pixel_reference) == 1


def test_full_size_rows_are_scored_once_by_the_reference_network(
    make, pretend_scores
):
    scored = pretend_scores()
    rows = plan_rows(["gan"], networks=[LINEAR], ipcs=[1], full_size=True)
    records = make().run(rows)
    assert scored == [
        ("gan", "random", "stream", 1, LINEAR, 0),
        ("gan", "random", "stream", 1, LINEAR, 1),
        ("gan", "random", "full_size", None, "convnet3", 0),
    ]
    assert records[-1]["epochs"] == 2


def test_seeds_stay_in_range(make, pretend_scores):
    scored = pretend_scores()
    rows = plan_rows(["gan"], networks=[LINEAR], ipcs=[1])
    make(seed=2**31 - 1).run(rows)
    assert [seed for *_, seed in scored] == [2**31 - 1, 0]


def test_what_is_told(make, pretend_scores, capsys):
    pretend_scores()
    rows = plan_rows(
        ["gan"], [], ["herding"], ["fixed"], networks=[LINEAR], ipcs=[1]
    )
    quiet = make()
    quiet._reference = PixelReference()
    quiet.run(rows)
    assert capsys.readouterr().out == ""
    told = make(num_seeds=3, verbose=1)
    told._reference = PixelReference()
    told.run(rows)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "2 of 3 figures are there already"
    assert second.startswith(
        f"gan, herding selection, fixed, IPC 1, {LINEAR}, seed 2: "
    )
    assert second.endswith("% on test (0 s)")


@pytest.mark.parametrize("split", ["train", "test"])
def test_split_is_checked_at_once(make, toy_dataset, split):
    dataset = dataclasses.replace(toy_dataset, test=None)
    with pytest.raises(InputError, match="`(split|test)`"):
        make(dataset=dataset, split=split)


def test_quality(make, tmp_path, toy_dataset, monkeypatch, pixel_reference):
    calls = []

    def quality_scores(real, other, neighbours):
        calls.append((real, other, neighbours))
        return {"coverage": len(calls) / 10}

    monkeypatch.setattr(
        "gdd_keras.evaluation.quality.quality_scores", quality_scores
    )
    monkeypatch.setattr(benchmark, "_QUALITY_IMAGES", 7)
    make(seed=2).compare(["gan", "random"])
    test = PixelReference.features(toy_dataset.test.images)
    train = PixelReference.features(toy_dataset.train.images)
    for real, _, neighbours in calls:
        # Seven different ones of nine test images, the same for all.
        assert len(np.unique(real, axis=0)) == 7 and neighbours == 5
        assert {row.tobytes() for row in real} <= {r.tobytes() for r in test}
        np.testing.assert_array_equal(real, calls[0][0])
    generated = generated_set(NumberedGenerator(), 3)(2)[0][:7]
    np.testing.assert_array_equal(
        calls[0][1], PixelReference.features(generated)
    )
    assert len(calls[1][1]) == 7
    assert {r.tobytes() for r in calls[1][1]} <= {r.tobytes() for r in train}
    assert [
        (q["method"], q["split"], q["num_images"], q["coverage"])
        for q in stored(tmp_path)["quality"]
    ] == [("gan", "test", 7, 0.1), ("random", "test", 7, 0.2)]
    # Only what is new is compared.
    make(seed=2).compare(["gan", "gdd"])
    assert len(calls) == 3 and len(stored(tmp_path)["quality"]) == 3
    # Another reference network is another ruler.
    make(seed=3).compare(["gan"])
    make(seed=2, reference_epochs=9).compare(["gan"])
    make(seed=2, eval_augmentation="none").compare(["gan"])
    assert len(calls) == 6
    quality = stored(tmp_path)["quality"]
    assert len({q["reference"] for q in quality}) == 4
    assert [q["reference_weights"] for q in quality] == ["pixels"] * 6


def test_quality_needs_more_images_than_neighbours(toy_dataset):
    benchmark.check_quality(toy_dataset, "test")
    images, labels = toy_dataset.test.images, toy_dataset.test.labels
    few = dataclasses.replace(
        toy_dataset.test, images=images[:5], labels=labels[:5]
    )
    dataset = dataclasses.replace(toy_dataset, test=few)
    message = "more than 5 images .* Received: 30 of train, 5 of test. Leave"
    with pytest.raises(InputError, match=message):
        benchmark.check_quality(dataset, "test")


def test_audit(make, tmp_path, toy_dataset, monkeypatch, pixel_reference):
    calls = []

    def audit(images, train, held_out, seed):
        calls.append((images, train, held_out, seed))
        return {"number": len(calls)}

    monkeypatch.setattr("gdd_keras.evaluation.audit.audit_memorisation", audit)
    monkeypatch.setattr(benchmark, "_AUDIT_IMAGES", 8)
    made = make(seed=2)
    made.audit(["gan"])
    generated = generated_set(NumberedGenerator(), 3)(2)[0][:8]
    # Pixels and features of the generator come first, controls after them.
    for call, scale in zip(calls[:2], (255.0, 1.0), strict=True):
        for got, images in zip(
            call,
            (
                generated,
                toy_dataset.train.images,
                toy_dataset.validation.images,
            ),
            strict=False,
        ):
            assert got.dtype == np.float32
            np.testing.assert_allclose(
                got, images.reshape(len(images), 64) / scale, rtol=1e-6
            )
        assert call[3] == 2
    training = {r.tobytes() for r in calls[3][1]}
    unseen = {
        r.tobytes() for r in PixelReference.features(toy_dataset.test.images)
    }
    assert {r.tobytes() for r in calls[3][0]} <= training
    assert {r.tobytes() for r in calls[5][0]} <= unseen
    entries = stored(tmp_path)["audit"]
    assert [entry["method"] for entry in entries] == ["gan", "random", "unseen"]
    assert entries[0]["spaces"] == {
        "pixels": {"number": 1},
        "features": {"number": 2},
    }
    made.audit(["gan"])
    assert len(calls) == 6
    make(seed=2, reference_epochs=9).audit(["gan"])
    make(seed=2, eval_augmentation="none").audit(["gan"])
    assert len(calls) == 18
    audit = stored(tmp_path)["audit"]
    assert len({a["reference"] for a in audit}) == 3
    assert [a["reference_weights"] for a in audit] == ["pixels"] * 9


def test_audit_has_no_unseen_images_where_they_are_the_held_out_ones(
    make, tmp_path, monkeypatch, pixel_reference
):
    monkeypatch.setattr(
        "gdd_keras.evaluation.audit.audit_memorisation",
        lambda *arguments: {"number": 1},
    )
    make(split="validation").audit(["gan"])
    assert [e["method"] for e in stored(tmp_path)["audit"]] == ["gan", "random"]


def test_labels_of_a_full_size_row(make, pretend_scores, monkeypatch):
    pretend_scores()
    asked = []

    def source(generator, dataset, config, protocol, *others):
        asked.append((protocol, config.eval_labels))
        return generator_source(
            generator,
            dataset,
            dataclasses.replace(config, eval_labels="hard"),
            protocol,
            *others,
        )

    monkeypatch.setattr(benchmark, "generator_source", source)
    rows = plan_rows(["gan"], networks=[LINEAR], ipcs=[1], full_size=True)
    records = make(eval_labels="soft").run(rows)
    assert asked == [("stream", "soft"), ("full_size", "soft")]
    assert {record["labels"] for record in records} == {"soft"}
