import dataclasses
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from gdd_keras import evaluate
from gdd_keras import memory
from gdd_keras.config import DataConfig
from gdd_keras.config import make_config

NETWORK = f"{__name__}:linear"
OTHER_NETWORK = f"{__name__}:tanh"
BASELINES = (
    "random",
    "herding",
    "k_center",
    "forgetting",
    "dm",
    "real_stream",
    "full",
)


def linear(image_shape, num_classes):
    import keras

    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes),
        ]
    )


def tanh(image_shape, num_classes):
    import keras

    return keras.Sequential(
        [
            keras.Input(image_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(num_classes, activation="tanh"),
        ]
    )


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No command writes into the repository."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def digits():
    from gdd_keras.data import load_dataset

    return load_dataset(DataConfig(), 0)


@pytest.fixture(scope="module")
def exported(digits, tmp_path_factory):
    """An untrained generator of the digits; tests put its metadata back."""
    from gdd_keras.export import export_generator
    from gdd_keras.networks.generator import build_generator

    config = make_config("tiny", network=NETWORK, num_seeds=2)
    return export_generator(
        build_generator(digits.image_shape, 10, latent_dim=4, width=2),
        tmp_path_factory.mktemp("saved_models") / "digits",
        {
            "class_names": list(digits.class_names),
            "fingerprint": digits.fingerprint,
            "config": dataclasses.asdict(config),
        },
    )


@pytest.fixture
def model(exported):
    path = exported / "metadata.json"
    text = path.read_text()
    yield exported
    path.write_text(text)


@pytest.fixture
def copied(exported, tmp_path):
    """Function that copies the generator, under settings of its own."""

    def copy(name, changed_weights=False, **settings):
        folder = tmp_path / "copies" / name / "1"
        shutil.copytree(exported, folder)
        config = make_config(
            "tiny", **{"network": NETWORK, "num_seeds": 2, **settings}
        )
        change(folder, config=dataclasses.asdict(config))
        if changed_weights:
            (file,) = (folder / "variables").glob("variables.data-*")
            file.write_bytes(file.read_bytes() + b"\x00")
        return folder

    return copy


@pytest.fixture
def planned(monkeypatch):
    """Scores nothing; lists the rows of each command."""
    import gdd_keras.generator_api
    from gdd_keras.evaluation.benchmark import Benchmark

    commands = []

    def run(self, rows):
        commands.append(rows)
        return []

    monkeypatch.setattr(Benchmark, "run", run)
    monkeypatch.setattr(gdd_keras.generator_api, "load_generator", str)
    return commands


def change(model, **changes):
    path = model / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata.update(changes)
    path.write_text(
        json.dumps({k: v for k, v in metadata.items() if v is not None})
    )


def scores_of(model):
    return json.loads((model / "metadata.json").read_text()).get("scores", [])


def content(folder="results/digits"):
    return json.loads((pathlib.Path(folder) / "results.json").read_text())


def in_a_process(*arguments):
    """Runs Python on the package, wherever the test is."""
    root = str(pathlib.Path(evaluate.__file__).parents[1])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": root},
    )


def run(*arguments):
    return evaluate.main(list(map(str, arguments)))


def last_screen(capsys):
    shown = capsys.readouterr().out
    return shown[shown.index("\ndata  ") :]


def test_help_is_quick_and_needs_no_tensorflow():
    code = (
        "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None;"
        "from gdd_keras import evaluate; sys.exit(evaluate.main(['--help']))"
    )
    started = time.monotonic()
    done = in_a_process("-c", code)
    assert done.returncode == 0, done.stderr
    # 0.15 s on an idle machine; loads of other tests may slow it.
    assert time.monotonic() - started < 5
    for flag in ("--model", "--protocol", "--baselines", "--results"):
        assert flag in done.stdout


def test_last_screen_results_and_metadata(model, monkeypatch, capsys):
    arguments = [
        *("--model", str(model.parent), "--baselines", "real_stream"),
        *("random", "--protocol", "stream", "fixed", "--ipc", "3"),
    ]
    assert run(*arguments) == 0
    screen = last_screen(capsys)
    stream, fixed = screen.split("\n\n")[1:3]
    for block, lines in (
        (
            stream,
            (
                "stream, IPC 3 (fresh per class and epoch); 10 epochs, "
                f"augmentation crop, float32; {NETWORK}, last epoch, on 359 "
                "images of the split test",
                "  real_stream  ",
                "  gdd  ",
            ),
        ),
        (
            fixed,
            (
                "fixed, IPC 3 (stored per class); 10 epochs, augmentation "
                f"dsa_digits, float32; {NETWORK}, last epoch, on 359 images "
                "of the split test",
                "  random  ",
                "  gdd  ",
            ),
        ),
    ):
        assert len(block.splitlines()) == 3
        for line, beginning in zip(block.splitlines(), lines, strict=True):
            assert line.startswith(beginning)
            distinct = 300 if block == stream else 30
            assert line == lines[0] or line.endswith(
                "(mean and sample deviation of 2 networks); "
                f"{distinct} distinct images each"
            )
    for text in (
        f"gdd          {model}, ",
        "stored images per class\n",
        f"recorded in  {model}/metadata.json\n",
        "results in   results/digits/results.json\n",
        "next         python -m gdd_keras.report results/digits\n",
    ):
        assert text in screen

    found = content()
    assert found["kind"] == "gdd_keras results" and found["format"] == 1
    assert found["dataset"]["num_images"]["test"] == 359
    assert found["commands"] == [
        shlex.join(["python", "-m", "gdd_keras.evaluate", *arguments])
    ]
    (environment,) = found["environments"]
    assert set(environment["versions"]) == {
        "gdd_keras",
        "keras",
        "numpy",
        "tensorflow",
    }
    assert set(found["methods"]) == {"gdd", "real_stream", "random"}
    assert found["methods"]["random"] == {"kind": "baseline"}
    generator = found["methods"]["gdd"]
    assert generator["kind"] == "generator"
    assert generator["model"] == str(model)
    assert generator["num_bytes"] > 0 and len(generator["digest"]) == 16
    assert generator["config"]["evaluation"]["network"] == NETWORK
    assert [
        (r["protocol"], r["method"], r["ipc"], r["seed"])
        for r in found["records"]
    ] == [
        (protocol, method, 3, seed)
        for protocol, method in (
            ("stream", "real_stream"),
            ("stream", "gdd"),
            ("fixed", "random"),
            ("fixed", "gdd"),
        )
        for seed in (0, 1)
    ]
    assert set(found["images"]) == {"gdd", "random"}

    # Only the generator's own scores belong beside the generator.
    scores = scores_of(model)
    assert [(s["method"], s["protocol"]) for s in scores] == [
        ("gdd", "stream"),
        ("gdd", "fixed"),
    ]
    for score in scores:
        accuracies = [
            r["accuracy"]
            for r in found["records"]
            if (r["method"], r["protocol"]) == ("gdd", score["protocol"])
        ]
        assert score["accuracies"] == accuracies
        assert score["seeds"] == [0, 1]
        assert score["accuracy_mean"] == pytest.approx(np.mean(accuracies))
        assert score["accuracy_std"] == pytest.approx(
            np.std(accuracies, ddof=1)
        )

    # Again: nothing is trained, and the same is said and recorded.
    from gdd_keras.evaluation.protocols import SourceScorer

    monkeypatch.setattr(SourceScorer, "score", pytest.fail)
    assert run(*arguments) == 0
    assert last_screen(capsys) == screen
    assert content() == found
    assert scores_of(model) == scores


def test_an_interrupted_command_goes_on(model, pretend_scores, capsys):
    arguments = [
        *("--model", model, "--protocol", "stream", "fixed"),
        *("--ipc", "1", "2", "--results"),
    ]
    scored = pretend_scores(interrupt_at=2)
    assert run(*arguments, "broken") == 130
    assert (
        "interrupted; the same command goes on with the next network."
        in capsys.readouterr().err
    )
    assert len(scored) == 2 == len(content("broken")["records"])
    assert scores_of(model) == []

    rest = pretend_scores()
    assert run(*arguments, "broken") == 0
    shown = capsys.readouterr().out
    assert "2 of 8 figures are there already" in shown
    assert len(rest) == 6 and len({*scored, *rest}) == 8
    after = shown[shown.index("\ndata  ") :]

    # It ends where one that was not interrupted ends.
    scores = scores_of(model)
    change(model, scores=[])
    whole = pretend_scores()
    assert run(*arguments, "whole") == 0
    assert last_screen(capsys) == after.replace("broken", "whole")
    assert whole == [*scored, *rest]
    assert scores_of(model) == scores
    assert content("whole")["records"] == content("broken")["records"]


def test_more_networks_add_to_those_there(model, pretend_scores):
    pretend_scores()
    assert run("--model", model, "--num-seeds", "1") == 0
    added = pretend_scores()
    assert run("--model", model, "--num-seeds", "3") == 0
    assert [seed for *_, seed in added] == [1, 2]
    (score,) = scores_of(model)
    assert score["seeds"] == [0, 1, 2]
    assert len(content()["commands"]) == 2
    assert [r["command"] for r in content()["records"]] == [0, 1, 1]


def test_fewer_networks_leave_the_entry_of_more(model, pretend_scores):
    pretend_scores()
    assert run("--model", model, "--num-seeds", "3") == 0
    scores = scores_of(model)
    assert run("--model", model, "--num-seeds", "1", "--ipc", "1", "2") == 0
    assert scores_of(model)[0] == scores[0]
    assert [s["num_seeds"] for s in scores_of(model)] == [3, 1]
    # What does not say how many is replaced.
    change(model, scores=[{**scores[0], "num_seeds": "many"}])
    assert run("--model", model, "--num-seeds", "1") == 0
    assert [s["num_seeds"] for s in scores_of(model)] == [1]


def test_scores_in_the_metadata(model, pretend_scores):
    # One of another method stays, and so does one of an older version.
    old = {"protocol": "stream", "accuracy_mean": 0.1}
    change(model, scores=old)
    pretend_scores()
    assert run("--model", model) == 0
    assert scores_of(model)[0] == old
    assert len(scores_of(model)) == 2
    # Scored elsewhere, with other figures: the entry is replaced.
    scores = scores_of(model)
    changed = {**scores[1], "accuracy_mean": 0.0}
    change(model, scores=[changed, old])
    assert run("--model", model, "--results", "other") == 0
    assert scores_of(model) == [old, scores[1]]
    # Another protocol or precision is another entry.
    assert run("--model", model, "--protocol", "fixed") == 0
    assert run("--model", model, "--eval-precision", "mixed_bfloat16") == 0
    assert [
        (s.get("protocol"), s.get("precision")) for s in scores_of(model)[1:]
    ] == [
        ("stream", "float32"),
        ("fixed", "float32"),
        ("stream", "mixed_bfloat16"),
    ]


def test_another_schedule_is_another_entry(model, pretend_scores, capsys):
    # As it was written before there was a choice.
    pretend_scores()
    assert run("--model", model) == 0
    (old,) = scores_of(model)
    del old["schedule"]
    change(model, scores=[old])
    found = content()
    for record in found["records"]:
        del record["schedule"]
    pathlib.Path("results/digits/results.json").write_text(json.dumps(found))
    scored = pretend_scores()
    assert run("--model", model) == 0
    assert not scored
    (same,) = scores_of(model)
    assert same.get("schedule", "protocol") == "protocol"
    assert "schedule" not in last_screen(capsys)
    both = "--protocol", "stream", "fixed", "--eval-schedule", "step"
    assert run("--model", model, *both) == 0
    assert [(s["protocol"], s["schedule"]) for s in scores_of(model)[1:]] == [
        ("stream", "step"),
        # There it is the protocol's own.
        ("fixed", "protocol"),
    ]
    stream, fixed = last_screen(capsys).split("\n\n")[1:3]
    assert f"float32, step schedule; {NETWORK}" in stream
    assert "schedule" not in fixed


def test_validation_is_not_recorded(model, pretend_scores, capsys):
    pretend_scores()
    assert run("--model", model, "--split", "validation") == 0
    screen = last_screen(capsys)
    assert "on 143 images of the split validation" in screen
    assert "recorded in" not in screen
    assert scores_of(model) == []
    assert {r["split"] for r in content()["records"]} == {"validation"}


def test_training_images_among_the_scored_ones_are_told(
    model, pretend_scores, capsys, monkeypatch
):
    from gdd_keras.data import load_dataset

    def loaded(*arguments):
        dataset = load_dataset(*arguments)
        return dataclasses.replace(dataset, test=dataset.train)

    monkeypatch.setattr("gdd_keras.data.load_dataset", loaded)
    pretend_scores()
    assert run("--model", model) == 0
    assert "images, too: 1,295 of 1,295; scores" in capsys.readouterr().out


def test_eval_seed_is_the_first_networks(model, pretend_scores, capsys):
    pretend_scores()
    arguments = ["--model", model, "--num-seeds", "1", "--eval-seed", "7"]
    assert run(*arguments) == 0
    assert scores_of(model)[0]["seeds"] == [7]
    assert "(one network, no deviation)" in last_screen(capsys)


def test_default_seed_is_that_of_the_distillation(copied, pretend_scores):
    scored = pretend_scores()
    assert run("--model", copied("seeded", seed=11)) == 0
    assert [seed for *_, seed in scored] == [11, 12]


def test_metadata_that_cannot_be_written_is_a_note(
    model, capsys, monkeypatch, pretend_scores
):
    def refuse(*arguments, **changes):
        raise PermissionError(13, "Permission denied")

    pretend_scores()
    monkeypatch.setattr(evaluate, "record_scores", refuse)
    assert run("--model", model) == 0
    shown = capsys.readouterr()
    assert "are not recorded" in shown.err and "Permission" in shown.err
    assert "recorded in" not in shown.out


def test_names_of_generators(copied, planned, capsys):
    names = {
        "gdd": {},
        "dim": {"omega_l": 0.0},
        "gan": {"distill_steps": 0},
        "mine": {"omega_g": 0.0, "omega_l": 0.0},
    }
    folders = {
        name: copied(name, **settings) for name, settings in names.items()
    }
    unknown = copied("unknown")
    change(unknown, config=None)
    assert (
        run(
            "--model",
            *(folders[name] for name in ("gdd", "dim", "gan")),
            unknown.parent,
            f"mine={folders['mine'].parent}",
        )
        == 0
    )
    assert [row.method for row in planned[0]] == [
        *("gdd", "dim", "gan", "generator", "mine")
    ]
    methods = content()["methods"]
    assert {name: entry["model"] for name, entry in methods.items()} == {
        **{name: str(folder) for name, folder in folders.items()},
        "generator": str(unknown),
    }
    screen = last_screen(capsys)
    for name, folder in folders.items():
        assert f"{name:12} {folder}, " in screen
    # Neither weight: only the losses of the GAN were trained with.
    assert run("--model", folders["mine"], "--results", "b") == 0
    assert list(content("b")["methods"]) == ["gan"]


def test_a_path_may_hold_an_equals_sign(copied, planned):
    folder = copied("lr=0.1")
    assert run("--model", folder) == 0
    assert run("--model", f"a={folder}", "--results", "b") == 0
    assert [row.method for row in planned[0] + planned[1]] == ["gdd", "a"]


def test_a_flag_given_again_adds_to_its_list(model, copied, planned):
    other = copied("other")
    flags = ["--model", model, "--baselines", "random", "--protocol", "fixed"]
    flags += ["--model", f"b={other}", "--baselines", "herding"]
    assert run(*flags) == 0
    assert {row.method for row in planned[0]} == {
        *("gdd", "b", "random", "herding")
    }


def test_lists(model, planned):
    arguments = ["--model", model, "--ipc", "10", "1", "--network"]
    arguments += [NETWORK, OTHER_NETWORK, "--protocol", "fixed", "stream"]
    assert (
        run(*arguments, "--selection", "random", "herding", "--full-size") == 0
    )
    expected = [
        ("gdd", selection, protocol, ipc, network)
        for ipc in (1, 10)
        for network in (NETWORK, OTHER_NETWORK)
        for selection, protocol in (
            ("random", "fixed"),
            ("herding", "fixed"),
            ("random", "stream"),
        )
    ]
    assert [dataclasses.astuple(row) for row in planned[0]] == [
        *expected,
        ("gdd", "random", "full_size", None, "convnet3"),
    ]


def test_values_given_twice_count_once(model, pretend_scores, capsys):
    scored = pretend_scores()
    arguments = ["--model", model, "--ipc", "1", "1", "--protocol", "fixed"]
    arguments += ["fixed", "--selection", "random", "random", "--network"]
    arguments += [NETWORK, NETWORK, "--baselines", "random", "random"]
    assert run(*arguments) == 0
    assert len(scored) == len(content()["records"]) == 4
    (score,) = scores_of(model)
    assert score["seeds"] == [0, 1]
    assert last_screen(capsys).count("of 2 networks") == 2


@pytest.mark.parametrize(
    ("protocols", "expected"),
    [
        (["stream"], ("real_stream", "full")),
        (["fixed"], BASELINES[:5] + ("full",)),
        (["stream", "fixed"], BASELINES),
    ],
)
def test_all_baselines_of_the_protocols(planned, protocols, expected):
    # No generator: data and settings come from the flags.
    arguments = ["--baselines", "all", "--network", NETWORK, "--ipc", "1"]
    assert run(*arguments, "--protocol", *protocols) == 0
    assert {row.method for row in planned[0]} == set(expected)
    assert len(planned[0]) == len(expected)
    assert content()["methods"] == {
        name: {"kind": "baseline"} for name in expected
    }


def test_quality_and_audit(model, monkeypatch, planned):
    from gdd_keras.evaluation.benchmark import Benchmark

    asked = []
    for name in ("compare", "audit"):
        monkeypatch.setattr(
            Benchmark,
            name,
            lambda self, methods, name=name: asked.append((name, methods)),
        )
    assert run("--model", model) == 0
    assert asked == []
    assert run("--model", model, "--quality", "--audit") == 0
    assert asked == [("compare", ["gdd", "random"]), ("audit", ["gdd"])]


def test_the_same_generator_elsewhere_is_known(copied, pretend_scores):
    first = copied("first")
    pretend_scores()
    assert run("--model", first) == 0
    scored = pretend_scores()
    assert run("--model", copied("second")) == 0
    assert scored == []


def refused(capsys, *arguments):
    """Returns the error of a command that must end before any training."""
    assert run(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    assert not pathlib.Path("results").exists()
    return shown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ipc", "0"), "1 and <= 1000000. Received: ipc=0."),
        (("--ipc", "1", "0"), "`ipc` must be an integer >= 1"),
        (("--num-seeds", "0"), "`num_seeds` must be an integer >= 1 to score"),
        (("--eval-epochs", "0"), "`eval_epochs` must be"),
        (("--protocol", "stream", "live"), "`protocol` must be one of stream"),
        (("--eval-seed", "-1"), "`--eval-seed` must be"),
        (("--eval-seed", str(2**31)), "`--eval-seed` must be"),
        (("--eval-precision", "float16"), "`eval_precision` must be one of"),
        (("--eval-augmentation", "flip"), "`eval_augmentation` must be one"),
        (("--network", NETWORK, "convnet99"), "one of convnet3"),
        (("--network", "no.module:f"), "cannot be imported"),
        (("--dataset", "/nowhere"), "/nowhere"),
        (("--image-size", "16"), "(16, 16, 1). Received: a generator of (8,"),
        (
            ("--baselines", "herding"),
            "`--baselines herding` belongs to the protocol `fixed`. Received: "
            "--protocol stream. Add `fixed`",
        ),
        (
            ("--protocol", "fixed", "--baselines", "random", "real_stream"),
            "`--baselines real_stream` belongs to the protocol `stream`",
        ),
        (
            ("--selection", "random", "herding"),
            "`--selection` chooses the images of the protocol `fixed`",
        ),
        (("--eval-labels", "warm"), "`eval_labels` must be one of hard, soft"),
        (
            ("--eval-labels", "soft"),
            "for an export that gives soft labels. Received: eval_labels=soft",
        ),
        (
            ("--eval-labels", "soft", "--baselines", "full", "real_stream"),
            "real images have hard labels. Received: eval_labels=soft, "
            "--baselines real_stream. Pass `--eval-labels hard`, or",
        ),
    ],
)
def test_bad_settings(model, capsys, arguments, message):
    assert message in refused(capsys, "--model", model, *arguments)


@pytest.mark.parametrize("arguments", [("--split", "validation"), ("--audit",)])
def test_generators_hold_out_the_same_images(
    model, copied, planned, capsys, arguments, monkeypatch
):
    other = copied("other", seed=1)
    both = ("--model", f"a={model}", "--model", f"b={other}")
    error = refused(capsys, *both, *arguments)
    assert "images that no generator was trained on" in error
    assert f"Received: {other}" in error
    assert "with seed=1 there, 0 here. Score it by a command" in error
    more = ("--validation-fraction", "0.3")
    error = refused(capsys, "--model", model, *arguments, *more)
    assert "with validation_fraction=0.1 there, 0.3 here" in error
    assert planned == []
    # Nobody was trained on the test split, and alone it has its own part.
    assert run(*both) == 0
    monkeypatch.setattr(
        "gdd_keras.evaluation.benchmark.Benchmark.audit", lambda *_: None
    )
    assert run("--model", f"b={other}", *arguments) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--full-size",), "`--full-size` and `--selection` are for generated"),
        (("--selection", "typical"), "Received: no `--model`"),
    ],
)
def test_choices_of_generated_images_need_some(capsys, arguments, message):
    baseline = ("--baselines", "random", "--protocol", "fixed")
    assert message in refused(capsys, *baseline, *arguments)


@pytest.mark.parametrize(
    ("total", "arguments", "message"),
    [
        (
            2**24,
            ("--protocol", "fixed", "--baselines", "dm"),
            "A step of the baseline `dm` of 10 classes (ipc=1 of 8 x 8 pixels)",
        ),
        (2**17, ("--quality",), "as the training split has, twice, must fit"),
        (2**17, ("--full-size",), "Leave `--quality`, `--audit`, `--full-size"),
        (4 * 10**5, ("--audit",), "training images, to be compared with, must"),
    ],
)
def test_real_images_fit_into_the_memory(
    model, planned, capsys, monkeypatch, total, arguments, message
):
    from gdd_keras.data import load_dataset

    # The data themselves are there already.
    dataset = load_dataset(DataConfig(), 0)
    monkeypatch.setattr("gdd_keras.data.load_dataset", lambda *_: dataset)
    monkeypatch.setattr(memory, "total_memory", lambda: total)
    # The network that scores needs more than any of these.
    monkeypatch.setattr("gdd_keras.feasibility.check_memory", lambda *_: None)
    assert message in refused(capsys, "--model", model, *arguments)
    assert run("--model", model) == 0


def test_condensed_images_fit_into_the_memory(
    model, planned, capsys, monkeypatch
):
    arguments = ("--model", model, "--protocol", "fixed", "--selection")
    monkeypatch.setattr(memory, "total_memory", lambda: 2**24)
    error = refused(capsys, *arguments, "typical", "condensed")
    assert "A step of condensed images (ipc=1 of 8 x 8 pixels)" in error
    assert planned == []
    assert run(*arguments, "typical") == 0


def test_networks_fit_into_the_memory(model, planned, capsys, monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda: 2**22)
    arguments = ("--model", model, "--network", "convnet3", "--ipc", 1)
    error = refused(capsys, *arguments, 50)
    assert "(network=convnet3) and a batch of its images (ipc=50, im" in error
    assert run(*arguments) == 0


def test_nothing_to_score(capsys):
    error = refused(capsys, "--dataset", "digits")
    assert "neither `--model` nor `--baselines`" in error


def test_wrong_network_of_baselines_alone(capsys):
    arguments = ["--baselines", "random", "--protocol", "fixed", "--network"]
    error = refused(capsys, *arguments, NETWORK, "convnet99")
    assert "one of convnet3" in error


@pytest.mark.parametrize(
    "arguments",
    [
        ("--baselines", "randon"),
        ("--selection", "best"),
        ("--split", "train"),
        ("--real",),
        ("--output", "x.json"),
    ],
)
def test_flags_that_are_none(capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        run("--model", "m", *arguments)
    shown = capsys.readouterr()
    assert shown.out == "" and arguments[-1] in shown.err


def test_no_model(tmp_path, capsys):
    error = refused(capsys, "--model", tmp_path / "absent")
    assert "absent, which does not exist" in error
    error = refused(capsys, "--model", f"mine={tmp_path / 'absent'}")
    assert "absent, which does not exist" in error


def test_names_that_clash(copied, capsys):
    first, second = copied("first"), copied("second")
    error = refused(capsys, "--model", first, second)
    assert (
        f"Received: `gdd` for {second}, which is the name of {first}. Choose "
        f"one: `--model NAME={second}`."
    ) in error
    error = refused(capsys, "--model", first, f"gdd={second}")
    assert "`gdd`" in error
    error = refused(capsys, "--model", f"herding={first}")
    assert "the name of a baseline" in error
    error = refused(capsys, "--model", f"unseen={first}")
    assert "the name of a baseline" in error


@pytest.mark.parametrize("name", ["a b", "a|b", "*"])
def test_names_that_no_file_can_have(model, capsys, name):
    error = refused(capsys, "--model", f"{name}={model}")
    assert f"letters, digits and `_.+-`. Received: {name!r}" in error


def test_results_of_other_data(model, capsys, planned):
    assert run("--model", model, "--results", "mine") == 0
    capsys.readouterr()
    file = pathlib.Path("mine/results.json")
    found = content("mine")
    found["dataset"]["fingerprint"] = "0123"
    file.write_text(json.dumps(found))
    error = refused(capsys, "--model", model, "--results", "mine")
    assert "mine/results.json, fingerprint 0123. Choose another" in error
    assert content("mine") == found


def test_results_are_never_something_else(model, tmp_path, capsys):
    folder = tmp_path / "notes"
    folder.mkdir()
    file = folder / "results.json"
    for text, message in (
        ("precious", "must hold JSON. Received: "),
        ('{"kind": "gdd_keras results", "form', "must hold JSON."),
        ("[1]", "must be an object. Received"),
        (
            '{"kind": "gdd_keras results", "format": 2}',
            "must have the format 1. Received: 2.",
        ),
    ):
        file.write_text(text)
        error = refused(capsys, "--model", model, "--results", folder)
        assert message in error
        assert file.read_text() == text
    file.rename(folder / "thesis.tex")
    error = refused(capsys, "--model", model, "--results", folder)
    assert "which holds something else" in error
    taken = folder / "thesis.tex"
    error = refused(capsys, "--model", model, "--results", taken)
    assert "must be a folder" in error
    error = refused(capsys, "--model", model, "--results", taken / "below")
    assert "a folder that can be written" in error
    assert [path.name for path in folder.iterdir()] == ["thesis.tex"]


def test_another_generator_of_a_known_name(model, copied, capsys, planned):
    assert run("--model", model, "--results", "mine") == 0
    capsys.readouterr()
    other = copied("other", changed_weights=True)
    error = refused(capsys, "--model", other, "--results", "mine")
    assert (
        f"`gdd` in mine/results.json is another generator, {model}. Received: "
        f"{other}. Give it a name of its own, `--model NAME={other}`"
    ) in error
    assert len(planned) == 1
    assert run("--model", f"b={other}", "--results", "mine") == 0
    assert set(content("mine")["methods"]) == {"gdd", "b"}


def test_other_fingerprint(model, capsys):
    change(model, fingerprint="0123")
    error = refused(capsys, "--model", model)
    assert "fingerprint 0123. Received: digits of scikit-learn" in error


def test_other_class_names(model, capsys):
    change(model, class_names=[*"0123456798"])
    error = refused(capsys, "--model", model)
    assert "label 8 is '9' in the generator and '8' in the data" in error


def test_metadata_without_config_needs_a_dataset(model, capsys, pretend_scores):
    change(model, config=None)
    assert "Pass `--dataset`" in refused(capsys, "--model", model)
    scored = pretend_scores()
    assert (
        run(
            *("--model", model, "--dataset", "digits", "--network", NETWORK),
            *("--num-seeds", "1", "--ipc", "1", "--eval-epochs", "2"),
        )
        == 0
    )
    assert scored == [("generator", "random", "stream", 1, NETWORK, 0)]


def test_broken_config_in_metadata(model, capsys):
    change(model, config={"evaluation": {"icp": 3}})
    error = refused(capsys, "--model", model)
    assert "`config` in the metadata" in error and "did you mean ipc" in error


@pytest.mark.slow
def test_command_in_a_process_of_its_own(model, elsewhere):
    done = in_a_process(
        *("-m", "gdd_keras.evaluate", "--model", str(model)),
        *("--num-seeds", "1", "--network", "convnet3", "--eval-epochs", "2"),
    )
    assert done.returncode == 0, done.stderr
    assert "convnet3, last epoch, on 359 images" in done.stdout
    assert (elsewhere / "results" / "digits" / "results.json").exists()
    assert scores_of(model)[0]["network"] == "convnet3"
