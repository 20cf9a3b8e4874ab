import contextlib
import io
import json
import pathlib
import re
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from gdd_keras import distill
from gdd_keras.config import config_from_json
from gdd_keras.export import read_metadata
from gdd_keras.generator_api import load_generator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_timing")]


@pytest.fixture(scope="module")
def fast(own_networks):
    """Flags of the cheapest run that has both stages; no scores."""
    return [
        *("--preset", "tiny", "--pool", f"{own_networks}:narrow"),
        *("--local-layer", "inner", "--num-seeds", "0"),
    ]


@pytest.fixture(scope="module")
def digits_flags(own_networks):
    return [
        *("--preset", "tiny", "--pool", "convnet3", f"{own_networks}:narrow"),
        *("--local-layer", "block_2", "inner"),
    ]


@pytest.fixture(scope="module")
def finished(digits_flags, tmp_path_factory):
    """Folder and output of a finished run on digits."""
    folder = tmp_path_factory.mktemp("finished")
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        assert distill.main(digits_flags) == 0
    return folder, printed.getvalue()


def entries(folder):
    return sorted(
        str(path.relative_to(folder))
        for path in pathlib.Path(folder).rglob("*")
    )


def test_last_screen(finished):
    _, printed = finished
    screen = printed.rpartition("\ndone\n")[2].splitlines()
    assert re.fullmatch(
        r"  accuracy \d+\.\d\d% .*test split.*stream.*IPC 1.*convnet3.*100 "
        r"distinct images.*",
        screen[0],
    )
    assert screen[1:] == [
        "  model   saved_models/digits/1",
        "  samples runs/digits/samples.png",
        "  run     runs/digits (tensorboard --logdir runs/digits)",
        "next",
        "  python -m gdd_keras.generate --model saved_models/digits --ipc 10 "
        "--format npz --output distilled",
        "  python -m gdd_keras.evaluate --model saved_models/digits "
        "--protocol fixed --ipc 10",
    ]
    assert "data: digits, 8 x 8 x 1, 10 classes" in printed
    assert "stage 1, conditional GAN: 8 steps of 16 images" in printed
    assert "stage 2, matching: 4 steps of 16 images" in printed


def test_files_of_a_run(finished, digits_flags):
    folder, _ = finished
    run = folder / "runs" / "digits"
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.json",
        "images",
        "samples.png",
        "state.json",
        "tensorboard",
    ]
    config = config_from_json((run / "config.json").read_text())
    assert config.run.preset == "tiny"
    assert list(config.matching.pool) == digits_flags[3:5]
    assert sorted(path.name for path in (run / "images").iterdir()) == [
        "cgan_001.png",
        "cgan_002.png",
        "distill_001.png",
    ]
    for path in (run / "images").iterdir():
        with Image.open(path) as image:
            # Ten classes by ten images.
            assert image.size == (80, 80)
    state = json.loads((run / "state.json").read_text())
    assert state["done"] is True
    assert state["stages"]["cgan"]["steps"] == 8
    assert state["stages"]["distill"]["steps"] == 4
    for stage in ("cgan", "distill"):
        assert tf.train.latest_checkpoint(run / "checkpoints" / stage)


def test_everything_is_in_tensorboard(finished):
    gan = {
        "losses/discriminator_loss",
        "losses/adversarial_loss",
        "losses/classification_loss",
        "losses/real_classification_loss",
        "losses/reconstruction_loss",
        "losses/kl_loss",
        "weighted/adversarial",
        "weighted/classification",
        "weighted/reconstruction",
        "weighted/kl",
        "weighted/total",
        "gradient_norm/generator",
        "gradient_norm/discriminator",
        "learning_rate/generator",
        "learning_rate/discriminator",
        "speed/images_per_second",
    }
    matching = {
        "losses/global_loss",
        "losses/local_loss",
        "losses/pool_loss",
        "losses/total_loss",
        "weighted/global",
        "weighted/local",
        "pool/index",
    }
    others = {"images/real_and_generated", "pool/network"}
    for stage, tags in (("cgan", gan), ("distill", gan | matching)):
        path = finished[0] / "runs" / "digits" / "tensorboard" / stage
        events = EventAccumulator(str(path), size_guidance={"tensors": 0})
        events.Reload()
        assert set(events.Tags()["tensors"]) - others == tags
        assert "images/real_and_generated" in events.Tags()["tensors"]
        # The networks of a run are the same in both stages.
        assert events.Tags()["graph"] == (stage == "cgan")
        for tag in tags:
            points = events.Tensors(tag)
            steps = [point.step for point in points]
            # A stage of four steps is timed once.
            assert len(steps) >= (1 if tag.startswith("speed") else 2)
            assert steps == sorted(set(steps))
            for point in points:
                assert np.isfinite(tf.make_ndarray(point.tensor_proto))


def test_score_is_in_tensorboard(finished):
    path = finished[0] / "runs" / "digits" / "tensorboard" / "score"
    events = EventAccumulator(str(path)).Reload()
    (point,) = events.Tensors("accuracy/test")
    metadata = read_metadata(finished[0] / "saved_models" / "digits" / "1")
    assert point.step == 12
    assert tf.make_ndarray(point.tensor_proto) == pytest.approx(
        metadata["scores"][0]["accuracy_mean"]
    )


def test_export_and_its_metadata(finished):
    folder = finished[0] / "saved_models" / "digits"
    assert [path.name for path in folder.iterdir()] == ["1"]
    metadata = read_metadata(folder / "1")
    assert metadata["class_names"] == [str(digit) for digit in range(10)]
    (score,) = metadata["scores"]
    assert score["protocol"] == "stream"
    assert score["split"] == "test"
    assert score["network"] == "convnet3"
    assert 0 <= score["accuracy_mean"] <= 1
    images = load_generator(folder).generate(np.arange(10), seed=0)
    assert images.shape == (10, 8, 8, 1)
    assert len(np.unique(images)) > 50


@pytest.fixture
def in_finished(finished, monkeypatch):
    monkeypatch.chdir(finished[0])
    return finished[0]


def test_second_call_says_finished(digits_flags, command, in_finished):
    before = entries(in_finished)
    code, out, err = command(*digits_flags)
    assert (code, err) == (0, "")
    assert "runs/digits is finished; `--fresh` starts over." in out
    assert "  model   saved_models/digits/1\n" in out
    assert "Epoch" not in out
    assert entries(in_finished) == before


def test_second_call_wants_the_export_elsewhere(
    digits_flags, command, in_finished
):
    code, out, err = command(*digits_flags, "--saved-models", "other")
    assert (code, out) == (2, "")
    assert (
        "runs/digits has exported its generator, and does so once. Received: "
        "saved_models/digits/1, which is not in other/digits. `python -m "
        "gdd_keras.refit --run runs/digits --saved-models other` exports"
    ) in err
    assert not pathlib.Path("other").exists()


def test_second_call_after_the_export_is_gone(
    digits_flags, command, in_finished, tmp_path
):
    export = pathlib.Path("saved_models/digits/1")
    export.rename(tmp_path / "1")
    try:
        code, _, err = command(*digits_flags)
    finally:
        (tmp_path / "1").rename(export)
    assert code == 2
    assert "saved_models/digits/1, which is not there any more. `pyth" in err


def test_versions_are_of_the_same_classes(digits_flags, command, in_finished):
    path = pathlib.Path("saved_models/digits/1/metadata.json")
    text = path.read_text()
    names = ["cat", "dog", "owl", "hen", *json.loads(text)["class_names"][4:]]
    path.write_text(json.dumps({**json.loads(text), "class_names": names}))
    try:
        code, out, err = command(*digits_flags, "--fresh")
    finally:
        path.write_text(text)
    assert (code, out) == (2, "")
    assert (
        "of the same classes. Received: saved_models/digits/1 of 10 (cat, "
        "dog, owl, ...), digits of scikit-learn of 10 (0, 1, 2, ...). Choose "
        "another `--saved-models`."
    ) in err


def test_config_file_replays(command, in_finished):
    before = entries(in_finished)
    code, out, _ = command("--config", "runs/digits/config.json", "--quiet")
    assert code == 0
    # The same settings: the same run, and it is finished.
    assert out.startswith("\ndone\n  accuracy ")
    assert entries(in_finished) == before


def test_dry_run_prints_and_writes_nothing(command, finished, tmp_path):
    file = finished[0] / "runs" / "digits" / "config.json"
    code, out, err = command("--config", file, "--seed", 5, "--dry-run")
    assert (code, err) == (0, "")
    text, _, estimate = out.partition("\n}\n")
    config = config_from_json(text + "\n}")
    expected = config_from_json(file.read_text())
    assert config.run.seed == 5
    assert config.matching == expected.matching
    assert estimate.splitlines()[0].startswith("data: digits, 8 x 8 x 1")
    assert "stage 1, conditional GAN: 8 steps of 16 images" in estimate
    assert "stage 2, matching: 4 steps" in estimate
    assert entries(tmp_path) == []


def test_fresh_makes_a_new_run_and_version(command, fast, tmp_path):
    fast = [*fast, "--distill-steps", "0", "--quiet"]
    assert command(*fast)[0] == 0
    code, out, _ = command(*fast, "--fresh")
    assert code == 0
    assert "  model   saved_models/digits/2\n" in out
    assert "  run     runs/digits-2 (" in out
    assert "accuracy" not in out
    # The same seed: the same generator.
    first, second = (
        (tmp_path / "runs" / name / "samples.png").read_bytes()
        for name in ("digits", "digits-2")
    )
    assert first == second


@pytest.mark.parametrize(
    ("steps_per_epoch", "message"),
    [
        (4, r"`\w+` became (nan|inf|-inf) at step \d of stage cgan"),
        # The first step has finite losses, but spoils the generator.
        (1, "Latents became NaN"),
    ],
)
def test_nan_fails_and_saves_no_spoiled_checkpoint(
    steps_per_epoch, message, command, fast, tmp_path
):
    code, out, err = command(
        *fast,
        *("--generator-learning-rate", "1e30", "--distill-steps", 0),
        *("--steps-per-epoch", steps_per_epoch, "--quiet", "--run-dir", "run"),
    )
    assert (code, out) == (1, "")
    assert re.fullmatch(
        rf"\nfailed: {message}\. The last good checkpoint is kept\. Lower "
        r"`--generator-learning-rate` .*\n",
        err,
    )
    assert tf.train.latest_checkpoint(tmp_path / "run/checkpoints/cgan") is None
    assert not (tmp_path / "saved_models").exists()


def test_time_budget_ends_with_an_export(command, fast, tmp_path):
    code, _, err = command(
        *fast, "--time-budget", 0.05, "--saved-models", "out/models"
    )
    assert (code, err) == (0, "")
    images = load_generator(tmp_path / "out" / "models" / "digits").generate(
        [3, 7], seed=0
    )
    assert images.shape == (2, 8, 8, 1)
    assert images.std() > 0
    # A fraction of what the step counts would take.
    state = json.loads((tmp_path / "runs/digits/state.json").read_text())
    assert all(plan["seconds"] is not None for plan in state["plan"])


def check_export(folder, name, shape, num_classes):
    generator = load_generator(folder / "saved_models" / name)
    assert generator.num_classes == num_classes
    images = generator.generate(np.arange(num_classes), seed=0)
    assert images.shape == (num_classes, *shape)
    assert images.std() > 0


def test_rgb_folder_that_is_not_square(command, fast, tmp_path, shared_dir):
    source = shared_dir / "image_folders" / "cifar10_subset"
    target = tmp_path / "pets"
    for split, count in (("train", 9), ("test", 3)):
        for name in ("cat", "dog", "horse"):
            folder = target / split / name
            folder.mkdir(parents=True)
            files = sorted((source / split / name).iterdir())[:count]
            for file in files:
                with Image.open(file) as image:
                    image.resize((24, 40)).save(folder / file.name)
    code, _, err = command("--dataset", target, *fast, "--quiet")
    assert (code, err) == (0, "")
    check_export(tmp_path, "pets", (40, 24, 3), 3)
    config = (tmp_path / "runs/pets/config.json").read_text()
    assert config_from_json(config).data.dataset == str(target)


def test_whole_rgb_folder(command, fast, tmp_path, shared_dir):
    code, _, err = command(
        *("--dataset", shared_dir / "image_folders" / "cifar10_subset"),
        *fast,
        *("--cgan-steps", 2, "--distill-steps", 2, "--steps-per-epoch", 2),
        "--quiet",
    )
    assert (code, err) == (0, "")
    check_export(tmp_path, "cifar10_subset", (32, 32, 3), 10)


def test_fashion_mnist(command, fast, tmp_path, shared_dir):
    code, _, err = command(
        *("--dataset", "fashion_mnist"),
        *("--data-dir", shared_dir / "tensorflow_datasets"),
        *fast,
        *("--cgan-steps", 2, "--distill-steps", 2, "--steps-per-epoch", 2),
        "--quiet",
    )
    assert (code, err) == (0, "")
    # The size of the paper.
    check_export(tmp_path, "fashion_mnist", (32, 32, 1), 10)
    metadata = read_metadata(tmp_path / "saved_models" / "fashion_mnist" / "1")
    assert "Sneaker" in metadata["class_names"]


def refused(command, *arguments):
    code, out, err = command("--preset", "tiny", *arguments)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--omega-g", "-0.1"], "`omega_g` must be a number >= 0.0"),
        (["--omega-l", "nan"], "`omega_l` must be a finite number"),
        (
            ["--ipc", "0"],
            "`ipc` must be an integer >= 1 and <= 1000000. Received: ipc=0.",
        ),
        (["--image-size", "4"], "`image_size` must be an integer >= 8"),
        (["--dataset", "./absent"], "`dataset` must be an existing path"),
    ],
)
def test_wrong_settings(arguments, message, command, tmp_path):
    assert message in refused(command, *arguments)
    assert entries(tmp_path) == []


def test_unknown_data_set(command, tmp_path):
    assert "no_such_set" in refused(command, "--dataset", "no_such_set")
    assert entries(tmp_path) == []


def test_one_class(command, tmp_path):
    folder = tmp_path / "only"
    (folder / "train" / "cat").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(
            folder / "train" / "cat" / f"{number}.png"
        )
    message = refused(command, "--dataset", folder)
    assert "one folder of images per class, two or more" in message
    assert not (tmp_path / "runs").exists()


def test_layer_that_the_network_does_not_have(command, tmp_path):
    message = refused(command, "--pool", "convnet3", "--local-layer", "block_4")
    assert "local_layer=block_4. It has: block_1, block_2, block_3." in message
    assert not (tmp_path / "saved_models").exists()


def test_network_that_does_not_exist(command, own_networks):
    for name in ("convnet4", f"{own_networks}:absent"):
        assert name in refused(command, "--pool", name)


def test_folders_that_hold_something_else(command, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").touch()
    message = refused(command, "--run-dir", "notes")
    assert "`--run-dir` must be new, empty, or a run's folder." in message
    (tmp_path / "models" / "digits" / "mine").mkdir(parents=True)
    message = refused(command, "--saved-models", "models")
    assert "must hold only numbered versions" in message
    assert not (tmp_path / "runs").exists()


def test_saved_models_that_is_a_file(command, tmp_path):
    (tmp_path / "file").touch()
    for path in ("file", "file/below"):
        message = refused(command, "--saved-models", path)
        assert "`--saved-models` must be a folder, or one that" in message
    assert entries(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        (
            "--local-layer",
            "nosuch",
            "`local_layer` must be a layer of convnet3",
        ),
        ("--network", "nosuch", "`network`: The network must be one of"),
        ("--generator-width", 4096, "generator_width=4096"),
        ("--batch-size", 10**12, "`batch_size` must be an integer >= 2 and <="),
        ("--image-size", 10**6, "`image_size` must be an integer >= 8 and <="),
        ("--latent-dim", 10**9, "`latent_dim` must be an integer >= 1 and <="),
        ("--generator-width", 10**9, "`generator_width` must be an integer"),
        ("--dataset", "a" * 300, "`--dataset` must have at most 255 bytes"),
    ],
)
def test_refusals_leave_no_run(
    command, tmp_path, monkeypatch, flag, value, message
):
    # The corrected command would else start the next number.
    monkeypatch.setattr("gdd_keras.memory.total_memory", lambda: 2**32)
    assert message in refused(command, flag, value)
    assert entries(tmp_path) == []


def test_config_file_that_is_not_there(command):
    code, _, err = command("--config", "absent.json")
    assert code == 2
    assert "`--config` must be a file that can be read. Received: absent" in err


def test_unknown_key_in_a_config_file(command, tmp_path):
    (tmp_path / "config.json").write_text('{"run": {"sed": 1}}')
    code, _, err = command("--config", "config.json")
    assert code == 2
    assert err == (
        "error: `--config`: config.json, section `run`: unknown key `sed` "
        "(did you mean seed?). Remove it or correct its name.\n"
    )


def test_preset_and_config_exclude_each_other(command, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    message = refused(command, "--config", "config.json")
    assert "`--preset` and `--config` exclude each other." in message


def test_unknown_flag(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command("--omega-q", "1")
    assert stop.value.code == 2
    assert "unrecognized arguments: --omega-q" in capsys.readouterr().err


def test_help_is_quick_and_loads_no_tensorflow():
    def child_seconds():
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = child_seconds()
    done = subprocess.run(
        [
            *(sys.executable, "-X", "importtime"),
            *("-m", "gdd_keras.distill", "--help"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    # Processor time: a busy machine must not fail the test.
    assert child_seconds() - before < 1.5
    assert "tensorflow" not in done.stderr
    words = " ".join(done.stdout.split())
    assert (
        "--omega-l X Weight of the local (feature) loss of eq. 7. Default: "
        "50.0." in words
    )


@pytest.fixture(scope="module")
def trained(fast, quick_timing, tmp_path_factory):
    """Folder of a finished run and its export, to copy."""
    folder = tmp_path_factory.mktemp("trained")
    with contextlib.chdir(folder):
        assert distill.main([*fast, "--run-dir", "first", "--quiet"]) == 0
    return folder


class TestStage1From:
    @pytest.fixture
    def first(self, trained, command, fast, tmp_path):
        shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
        return [*fast, "--stage-1-from", "first"]

    def test_stage_1_is_taken_over_and_stage_2_trained(
        self, command, first, tmp_path
    ):
        code, out, err = command(
            *first, "--omega-l", 1000, "--run-dir", "second"
        )
        assert code == 0, err
        assert "stage 1, conditional GAN: done, 8 steps\n" in out
        runs = [tmp_path / "first", tmp_path / "second"]
        states = [json.loads((run / "state.json").read_text()) for run in runs]
        assert states[1]["stage_1_from"] == "first"
        stages = [state["stages"] for state in states]
        # The card says what the generator took, wherever stage 1 was run.
        metadata = tmp_path / "saved_models" / "digits" / "2" / "metadata.json"
        training = json.loads(metadata.read_text())["training"]
        assert training["adopted_stage_1"]
        assert training["seconds"] == round(
            sum(stage["seconds"] for stage in stages[1].values()), 1
        )
        assert states[1]["seconds"] < training["seconds"]
        for stage in stages:
            del stage["distill"]["seconds"]
        assert stages[0] == stages[1]
        # No epoch of stage 1 was trained, so none drew its images.
        drawn = [entries(run / "images") for run in runs]
        assert {n for n in drawn[0] if "cgan" not in str(n)} == set(drawn[1])
        weights = [
            tf.train.load_checkpoint(str(run / "checkpoints" / "cgan"))
            for run in runs
        ]
        for name in weights[0].get_variable_to_shape_map():
            np.testing.assert_array_equal(
                *(reader.get_tensor(name) for reader in weights)
            )
        # Another weight of the local loss, another generator.
        images = [
            load_generator(tmp_path / "saved_models" / "digits" / version)
            .generate(np.arange(10))
            .astype(int)
            for version in ("1", "2")
        ]
        assert (images[0] != images[1]).any()

    def test_dry_run_tells_what_is_left(self, command, first, tmp_path):
        before = entries(tmp_path)
        for flags, expected in (
            ([], "done, 8 steps\n"),
            (
                ["--extend-stage-1", "--cgan-steps", 12],
                "4 more steps of 16 images",
            ),
        ):
            code, out, err = command(*first, *flags, "--dry-run")
            assert (code, err) == (0, "")
            assert f"stage 1, conditional GAN: {expected}" in out
            assert "stage 2, matching: 4 steps" in out
        code, out, err = command(*first, "--batch-size", 8, "--dry-run")
        assert (code, out) == (2, "")
        assert "must be a run with the same settings of stage 1" in err
        assert entries(tmp_path) == before

    @pytest.mark.filterwarnings("ignore:__array__ implementation")
    def test_the_same_labeller_is_taken_over(self, command, first, tmp_path):
        soft = ["--soft-labels", "--labeller-steps", 2, "--num-seeds", 0]
        plain = first[: first.index("--stage-1-from")]
        alone = ["--distill-steps", 0]
        code, _, err = command(*plain, *soft, *alone, "--run-dir", "labelled")
        assert code == 0, err
        soft += ["--stage-1-from", "labelled", "--omega-l", 1000]

        earlier = json.loads((tmp_path / "labelled/state.json").read_text())
        done = f"labeller: done, right on {earlier['labeller']:.2%}"
        code, out, err = command(*plain, *soft, "--dry-run")
        assert (code, err) == (0, "") and done in out
        (weights,) = (tmp_path / "labelled" / "labeller").iterdir()
        code, out, err = command(*plain, *soft, "--run-dir", "second")
        assert code == 0, err
        assert done in out
        (copied,) = (tmp_path / "second" / "labeller").iterdir()
        assert copied.read_bytes() == weights.read_bytes()
        state = json.loads((tmp_path / "second/state.json").read_text())
        own = sum(stage["seconds"] for stage in state["stages"].values())
        metadata = pathlib.Path(state["export"]) / "metadata.json"
        training = json.loads(metadata.read_text())["training"]
        assert training["seconds"] == pytest.approx(
            own + earlier["labeller_seconds"], abs=0.06
        )
        # Of another seed are the images that are held out, too.
        code, out, err = command(*plain, *soft, "--seed", 1, "--dry-run")
        assert (code, out) == (2, "")
        assert "Received: labelled with seed=0 there, 1 here." in err
        # Of other steps it is another one.
        soft += ["--labeller-steps", 3]
        code, out, err = command(*plain, *soft, "--run-dir", "third")
        assert code == 0, err
        assert "before all else" in out and "labeller: done" not in out
        (other,) = (tmp_path / "third" / "labeller").iterdir()
        assert other.read_bytes() != weights.read_bytes()
        state = json.loads((tmp_path / "third/state.json").read_text())
        assert state["seconds"] > state["labeller_seconds"]

    def test_other_settings_of_stage_1(self, command, first):
        code, out, err = command(*first, "--batch-size", 8, "--run-dir", "b")
        assert (code, out) == (2, "")
        assert "with batch_size=16 there, 8 here. Change them" in err

    def test_no_run(self, command, first, tmp_path):
        (tmp_path / "empty").mkdir()
        first[first.index("first")] = "empty"
        code, out, err = command(*first, "--run-dir", "b")
        assert (code, out) == (2, "")
        assert "empty, which has no config.json" in err
        assert not (tmp_path / "b").exists()

    def test_unfinished_run(self, command, first, tmp_path):
        file = tmp_path / "first" / "state.json"
        state = json.loads(file.read_text())
        state["stages"]["cgan"]["done"] = False
        file.write_text(json.dumps(state))
        code, out, err = command(*first, "--run-dir", "b")
        assert (code, out) == (2, "")
        assert "whose stage 1 is finished. Received: first" in err
        assert not (tmp_path / "b").exists()

    def test_stage_1_is_trained_on(self, command, fast, tmp_path):
        # Rates that do not fall leave no trace of where the first part ended.
        flags = [*fast, "--decay-fraction", 0]
        longer = ["--stage-1-from", "first", "--extend-stage-1"]
        shown = []
        alone = ["--distill-steps", 0]
        for arguments in (
            [*alone, "--run-dir", "first"],
            [*longer, "--cgan-steps", 12, "--run-dir", "longer"],
            [*alone, "--cgan-steps", 12, "--run-dir", "whole"],
        ):
            code, out, err = command(*flags, *arguments)
            assert code == 0, err
            shown.append(out)
        title = "stage 1, conditional GAN"
        assert f"{title}: 8 steps of 16 images" in shown[0]
        assert f"{title}: 4 more steps of 16 images" in shown[1]
        runs = [tmp_path / name for name in ("first", "longer", "whole")]
        states = [json.loads((run / "state.json").read_text()) for run in runs]
        stages = [state["stages"]["cgan"] for state in states]
        assert [stage["steps"] for stage in stages] == [8, 12, 12]
        assert [stage["first_step"] for stage in stages] == [0, 0, 0]
        readers = [
            tf.train.load_checkpoint(str(run / "checkpoints" / "cgan"))
            for run in runs[1:]
        ]
        names = readers[0].get_variable_to_shape_map()
        assert names == readers[1].get_variable_to_shape_map()
        for name in names:
            # The rest names objects, which are numbered through the process.
            if name.endswith("VARIABLE_VALUE"):
                np.testing.assert_array_equal(
                    *(reader.get_tensor(name) for reader in readers)
                )
        exported = tmp_path / "saved_models" / "digits" / "2" / "metadata.json"
        training = json.loads(exported.read_text())["training"]
        assert training["steps"] == {"cgan": 12, "distill": 4}
        assert training["adopted_stage_1"]
        # Both parts of stage 1, and stage 2, each once.
        own = states[1]["stages"]["distill"]["seconds"] + stages[1]["seconds"]
        assert training["seconds"] == pytest.approx(own, abs=0.2)
        assert stages[1]["seconds"] > stages[0]["seconds"]
        # The same command finds nothing left to do.
        code, out, err = command(
            *flags, *longer, "--cgan-steps", 12, "--run-dir", "longer"
        )
        assert code == 0, err
        assert "longer is finished" in out

    @pytest.mark.parametrize(
        ("flags", "message"),
        [
            ([], "cgan_steps=8, first with 8. Ask for more, or"),
            (["--time-budget", 5], "Received: time_budget=5. Give `--cgan-st"),
        ],
    )
    def test_nothing_to_train_on_by(
        self, flags, message, command, first, tmp_path
    ):
        code, out, err = command(
            *first, "--extend-stage-1", *flags, "--run-dir", "b"
        )
        assert (code, out) == (2, "")
        assert message in err
        assert not (tmp_path / "b").exists()


def test_only_a_stage_1_can_be_extended(command, fast):
    code, out, err = command(*fast, "--extend-stage-1")
    assert (code, out) == (2, "")
    assert "Received: no `--stage-1-from`. Name the run" in err
