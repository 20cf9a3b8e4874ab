"""The pipeline in TFX's own environment, and what refuses to begin."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import types

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
PYTHON = ROOT / ".venv-pipeline" / "bin" / "python"
LOCAL = "pipelines.local_runner"
VERTEX = "pipelines.vertex_runner"
COMPONENTS = {
    "DatasetGen",
    "Pretrainer",
    "Tuner",
    "Trainer",
    "GeneratorEvaluator",
    "Pusher",
    "BulkGenerator",
}

TINY = (
    "--preset tiny --cgan-steps 48 --num-seeds 1 --eval-epochs 20 "
    "--tuner grid --omega-g 0.01 --omega-l 0 0.01 --trial-networks 1 "
    "--trial-epochs 2"
).split()


@pytest.fixture(scope="module")
def tfx_python():
    """The interpreter of TFX's environment."""
    if sys.platform != "linux":
        pytest.skip("TFX runs on Linux")
    if not PYTHON.exists():
        pytest.fail(f"The tests need {PYTHON}; `make test` makes it.")
    return str(PYTHON)


PRETRAINED = str(ROOT / "saved_models")
WRITTEN = ("--distilled-ipc", "7", "--runner")


def command(python, module, *arguments):
    return [str(python), "-m", module, *map(str, arguments)]


def run(python, module, *arguments):
    return subprocess.run(
        command(python, module, *arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


def steps(printed):
    """Returns a dict from each step of the last screen to its state."""
    screen = printed.rpartition("\ndone\n")[2]
    return dict(re.findall(r"^  (\w+) +(cached|\d+ s)$", screen, re.M))


def artifact(root, step, name, file):
    """Returns the newest artifact's file of a step."""
    (*_, newest) = sorted(
        (root / "artifacts" / step / name).iterdir(),
        key=lambda path: int(path.name),
    )
    return newest / file


@pytest.fixture(scope="module")
def finished(tfx_python, tmp_path_factory):
    """A pipeline that was killed in stage 1 and then ran to its end."""
    folder = tmp_path_factory.mktemp("pipeline")
    places = (
        *("--pipeline-root", folder / "out"),
        *("--saved-models", folder / "models"),
    )
    beam = "--runner DirectRunner --direct_num_workers 2".split()
    arguments = (*TINY, "--distilled-ipc", 7, *places, *beam)
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            command(tfx_python, LOCAL, *arguments),
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        end = time.monotonic() + 300
        # Written once a checkpoint is whole.
        while not list(folder.glob("out/**/checkpoints/cgan/checkpoint")):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = run(tfx_python, LOCAL, *arguments)
    assert done.returncode == 0, done.stderr
    return folder, arguments, done


@pytest.mark.slow
def test_pipeline_pushes_a_generator(finished):
    folder, _, done = finished
    assert set(steps(done.stdout)) == COMPONENTS
    assert done.stderr == ""
    root = folder / "out" / "digits"
    evaluation = json.loads(
        artifact(
            root, "GeneratorEvaluator", "evaluation", "evaluation.json"
        ).read_text()
    )
    assert evaluation["blessed"] is True
    assert evaluation["in_use"] is None
    assert evaluation["candidate"]["split"] == "validation"
    (version,) = (folder / "models" / "digits").iterdir()
    assert version.name == "1"
    metadata = json.loads((version / "metadata.json").read_text())
    best = json.loads(
        artifact(
            root, "Tuner", "best_hyperparameters", "best_hyperparameters.txt"
        ).read_text()
    )
    assert (
        metadata["config"]["matching"]["omega_l"] == (best["values"]["omega_l"])
    )
    assert metadata["config"]["matching"]["omega_g"] == 0.01
    # As the user named it, so that `evaluate` finds data and settings.
    assert metadata["config"]["data"]["dataset"] == "digits"
    assert metadata["config"]["evaluation"]["num_seeds"] == 1
    assert metadata["scores"] == []


@pytest.mark.slow
def test_killed_step_continues_from_its_checkpoint(finished):
    _, _, done = finished
    first = re.search(r"Epoch (\d+)/12", done.stdout)
    assert int(first[1]) > 1


@pytest.mark.slow
def test_distilled_set_is_an_examples_artifact(finished):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from gdd_keras import load_generator

    folder, _, _ = finished
    path = artifact(
        folder / "out" / "digits", "BulkGenerator", "distilled", "Split-train"
    )
    files = sorted(str(file) for file in path.iterdir())
    assert sum(1 for _ in tf.data.TFRecordDataset(files)) == 70
    builder = tfds.builder_from_directory(str(path.parent))
    read = [
        (example["image"], example["label"])
        for example in tfds.as_numpy(
            builder.as_dataset(split="train", shuffle_files=False)
        )
    ]
    generator = load_generator(folder / "models" / "digits")
    labels = np.arange(70) % 10
    np.testing.assert_array_equal([label for _, label in read], labels)
    np.testing.assert_array_equal(
        np.stack([image for image, _ in read]), generator.generate(labels)
    )


@pytest.mark.slow
def test_second_run_is_answered_from_the_cache(tfx_python, finished):
    folder, arguments, _ = finished
    again = run(tfx_python, LOCAL, *arguments)
    assert again.returncode == 0, again.stderr
    assert set(steps(again.stdout).values()) == {"cached"}
    assert len(list((folder / "models" / "digits").iterdir())) == 1


@pytest.mark.slow
def test_worse_generator_is_not_pushed(tfx_python, finished):
    import keras
    from sklearn.datasets import load_digits

    from gdd_keras.export import export_generator

    folder, arguments, _ = finished
    # In use: the mean image of each class, which teaches much more than
    # seconds of training.
    digits = load_digits()
    means = np.stack(
        [digits.images[digits.target == label].mean(0) for label in range(10)]
    )
    latents = keras.Input((4,))
    one_hot_labels = keras.Input((10,))
    pixels = keras.layers.Dense(64, use_bias=False, name="means")
    image = keras.layers.Reshape((8, 8, 1))(pixels(one_hot_labels))
    generator = keras.Model([latents, one_hot_labels], image)
    pixels.set_weights([means.reshape(10, 64) / 8 - 1])
    names = [str(label) for label in range(10)]
    models = folder / "better"
    served = export_generator(
        generator, models / "digits", {"class_names": names}
    )
    before = {p.name: p.stat().st_mtime_ns for p in served.rglob("*")}
    arguments = [
        models if value == folder / "models" else value for value in arguments
    ]
    done = run(tfx_python, LOCAL, *arguments)
    assert done.returncode == 0, done.stderr
    # Nothing but the judgement depends on what is in use.
    state = steps(done.stdout)
    assert state["Trainer"] == "cached"
    assert state["GeneratorEvaluator"] != "cached"
    # Without a blessing there is no set either.
    assert "BulkGenerator" not in state
    assert "\nnot blessed; " in done.stdout
    assert list((models / "digits").iterdir()) == [served]
    assert {p.name: p.stat().st_mtime_ns for p in served.rglob("*")} == before
    evaluation = json.loads(
        artifact(
            folder / "out" / "digits",
            "GeneratorEvaluator",
            "evaluation",
            "evaluation.json",
        ).read_text()
    )
    assert evaluation["in_use_version"] == 1
    assert (
        evaluation["in_use"]["accuracy_mean"]
        > evaluation["candidate"]["accuracy_mean"]
    )


@pytest.mark.slow
def test_emptied_models_are_pushed_again(tfx_python, finished):
    import shutil

    folder, arguments, _ = finished
    shutil.rmtree(folder / "models")
    cached = run(tfx_python, LOCAL, *arguments)
    assert "none: " in cached.stdout
    again = run(tfx_python, LOCAL, *arguments, "--no-cache")
    assert again.returncode == 0, again.stderr
    assert "cached" not in steps(again.stdout).values()
    assert [p.name for p in (folder / "models" / "digits").iterdir()] == ["1"]
    # What was trained was kept.
    assert "Epoch" not in again.stdout


@pytest.mark.slow
def test_compiles_for_vertex(tfx_python, tmp_path):
    file = tmp_path / "job.json"
    done = run(
        tfx_python,
        VERTEX,
        *TINY,
        *("--bucket", "gs://bucket/folder/"),
        *("--image", "registry/image"),
        *("--distilled-ipc", 10),
        *("--output", file),
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == (f"wrote {file}\n", "")
    job = json.loads(file.read_text())
    root = job["runtimeConfig"]["gcsOutputDirectory"]
    assert root == "gs://bucket/folder/artifacts/digits"
    executors = job["pipelineSpec"]["deploymentSpec"]["executors"]
    assert set(executors) == {f"{name}_executor" for name in COMPONENTS}
    for executor in executors.values():
        assert executor["container"]["image"] == "registry/image"
    assert str(ROOT) not in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", "1.5"], "`--threshold` must be an accuracy"),
        (["--time-budget", "1"], "no meaning in a pipeline"),
        (["--distill-steps", "0"], "`distill_steps` must be an integer >= 1"),
        (["--num-seeds", "0"], "`num_seeds` must be an integer >= 1"),
        (["--distilled-ipc", "-1"], "`--distilled-ipc` must be an integer"),
        (
            ["--soft-labels", "--eval-labels", "soft"],
            "`eval_labels` must be hard in a pipeline",
        ),
        (
            ["--omega-g", "0", "--omega-l", "0"],
            "There must be something to search",
        ),
        (
            ["--no-search", "--omega-l", "0", "1", "--search", "local_layer"],
            "values to search for omega_l, local_layer",
        ),
        (["--dataset", "/no/such"], "`dataset` must be an existing path"),
        (
            [*WRITTEN, "DirectRunner", "--direct_nun_workers", "2"],
            "Did you mean --direct_num_workers?",
        ),
        ([*WRITTEN, "NoRunner"], "`--runner` must be a runner of Beam"),
        (["--runner", "DirectRunner"], "Received: no `--distilled-ipc`"),
        (["--saved-models", "/dev/null/x"], "/dev/null is no folder"),
        (
            ["--saved-models", PRETRAINED, "--seed", "1", "--image-size", "9"],
            " with seed=0 there, 1 here; image_size=None there, (9, 9) here",
        ),
    ],
)
def test_wrong_setting_is_explained(arguments, message, capsys, tmp_path):
    from pipelines.local_runner import main

    places = ["--pipeline-root", str(tmp_path / "out")]
    assert main([*arguments, *places]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_tfx_is_explained(capsys, tmp_path):
    from pipelines.local_runner import main

    places = ["--pipeline-root", str(tmp_path / "out")]
    assert main(places) == 2
    assert "`make pipeline` makes an environment" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_second_pipeline_is_refused(capsys, tmp_path, monkeypatch):
    from pipelines import local_runner

    places = ["--pipeline-root", str(tmp_path / "out")]
    places += ["--saved-models", str(tmp_path / "models")]
    codes = []

    def run_pipeline(*_, **__):
        # While the first one runs.
        codes.append(local_runner.main(places))
        return []

    # TFX itself plays no part.
    fake = types.SimpleNamespace(run_pipeline=run_pipeline)
    monkeypatch.setattr(local_runner, "import_tfx", lambda: fake)
    assert local_runner.main(places) == 0
    assert codes == [2]
    assert "digits must not be running already. Received: it is. " in (
        capsys.readouterr().err
    )


def test_variables_of_a_search_over_machines(capsys, tmp_path, monkeypatch):
    """The pipeline's own search would serve it, and wait for workers."""
    from pipelines.local_runner import main

    for name in ("ORACLE_IP", "ORACLE_PORT", "TUNER_ID"):
        monkeypatch.setenv(f"KERASTUNER_{name}", "1")
    assert main(["--pipeline-root", str(tmp_path / "out")]) == 2
    assert "must search alone. Received: KerasTuner's" in (
        capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_models_of_another_kind_are_not_touched(capsys, tmp_path):
    from pipelines.local_runner import main

    (tmp_path / "digits" / "mine").mkdir(parents=True)
    assert main(["--saved-models", str(tmp_path)]) == 2
    assert "must hold only numbered versions" in capsys.readouterr().err


def test_bucket_must_be_one(capsys):
    from pipelines.vertex_runner import main

    assert main(["--bucket", "/home", "--image", "image"]) == 2
    assert "`--bucket` must be a URI" in capsys.readouterr().err
