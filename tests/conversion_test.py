import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras import conversion
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.conversion import convert_model
from gdd_keras.generator_api import load_generator
from gdd_keras.metadata import model_digest
from gdd_keras.metadata import read_metadata
from gdd_keras.sampling import image_drawer
from gdd_keras.sampling import latents_for

FORMATS = ("litert", "onnx")
# Rounding in another order: a hundredth of a grey level of images in [-1, 1].
# LiteRT also rounds vectors to half, which the others keep: three levels.
TOLERANCES = {
    ("litert", "float32"): 1e-4,
    ("litert", "float16"): 0.025,
    ("onnx", "float32"): 1e-4,
    ("onnx", "float16"): 1e-4,
}


def run_litert(path, latents, labels):
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path)).get_signature_runner()
    return runner(latents=latents, labels=labels)["images"]


def run_onnx(path, latents, labels):
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return session.run(None, {"latents": latents, "labels": labels})[0]


RUN = {
    "litert": ("model.tflite", run_litert),
    "onnx": ("model.onnx", run_onnx),
}


def run(folder, to, latents, labels):
    name, function = RUN[to]
    assert {path.name for path in folder.iterdir()} == {name, "metadata.json"}
    return function(folder / name, latents, np.array(labels, np.int32))


def copied(saved_model, folder, **changes):
    """A copy of an export whose metadata has other fields."""
    shutil.copytree(saved_model, folder)
    metadata = {**read_metadata(folder), **changes}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


@pytest.fixture(scope="module")
def old_export(tiny_generator, tiny_saved_model, tmp_path_factory):
    """What exports were before they had `by_row`, `by_name` and `weights`."""
    module = tf.Module()
    module.weights = [v.value for v in tiny_generator.variables]
    draw = image_drawer(tiny_generator)

    @tf.function(
        input_signature=[
            tf.TensorSpec((None,), tf.int32, name="labels"),
            tf.TensorSpec((), tf.int64, name="seed"),
            tf.TensorSpec((), tf.int64, name="first_index"),
        ]
    )
    def generate(labels, seed, first_index):
        return {"images": draw(labels, seed, first_index)}

    @tf.function(
        input_signature=[
            tf.TensorSpec((None, 6), tf.float32, name="latents"),
            tf.TensorSpec((None,), tf.int32, name="labels"),
        ]
    )
    def from_latents(latents, labels):
        tf.debugging.Assert(tf.reduce_all(labels < 3), ["labels"])
        vectors = tf.one_hot(labels, 3)
        return {"images": tiny_generator([latents, vectors], training=False)}

    folder = tmp_path_factory.mktemp("old") / "1"
    tf.saved_model.save(
        module,
        str(folder),
        signatures={
            "serving_default": generate,
            "generate": generate,
            "from_latents": from_latents,
        },
    )
    metadata = read_metadata(tiny_saved_model)
    metadata["signatures"] = ["serving_default", "generate", "from_latents"]
    del metadata["weights"], metadata["label_mixing"]
    (folder / "metadata.json").write_text(json.dumps(metadata))
    return folder


def test_old_export_loads_and_converts(old_export, tiny_saved_model, tmp_path):
    labels = np.arange(70) % 3
    expected = load_generator(tiny_saved_model).generate(labels, 3, 5)
    old = load_generator(old_export)
    np.testing.assert_array_equal(old.generate(labels, 3, 5), expected)
    version = convert_model(old_export, "saved_model", tmp_path / "new")
    np.testing.assert_array_equal(
        load_generator(version).generate(labels, 3, 5), expected
    )
    metadata = read_metadata(version)
    assert "by_row" in metadata["signatures"]
    assert metadata["weights"] == "float32"


def test_half_copy(compact_saved_model, tmp_path):
    model = copied(compact_saved_model, tmp_path / "set" / "4")
    version = convert_model(tmp_path / "set", "saved_model", weights="float16")
    assert version == tmp_path / "set" / "5"
    before, after = read_metadata(model), read_metadata(version)
    assert after["num_bytes"] < 0.55 * before["num_bytes"]
    assert after["scores"] == [] != before["scores"]
    assert after["weights"] == "float16"
    assert after["label_mixing"] == 0.4
    assert after["converted_from"] == {
        "model": str(model),
        "digest": model_digest(model),
    }
    changed = {"num_bytes", "scores", "weights", "created", "converted_from"}
    assert {k: v for k, v in before.items() if k not in changed} == {
        k: v for k, v in after.items() if k not in changed
    }
    labels = np.arange(80) % 10
    whole, half = load_generator(model), load_generator(version)
    difference = np.abs(
        whole.generate(labels).astype(int) - half.generate(labels)
    )
    assert 0 < difference.max() <= 8 and difference.mean() < 0.2
    np.testing.assert_array_equal(
        half.generate(labels)[33:], half.generate(labels[33:], 0, 33)
    )
    # A copy of the copy is the copy: neither weights nor graph change again.
    again = convert_model(version, "saved_model")
    np.testing.assert_array_equal(
        load_generator(again).generate(labels), half.generate(labels)
    )
    after = read_metadata(again)
    assert after["weights"] == "float16"
    assert after["num_bytes"] < 1.01 * read_metadata(version)["num_bytes"]


def test_copy_of_whole_weights_has_the_same_bits(tiny_saved_model, tmp_path):
    version = convert_model(tiny_saved_model, "saved_model", tmp_path / "copy")
    labels = np.arange(80) % 3
    np.testing.assert_array_equal(
        load_generator(version).generate(labels, 2, 3),
        load_generator(tiny_saved_model).generate(labels, 2, 3),
    )


@pytest.mark.parametrize("weights", ["float32", "float16"])
@pytest.mark.parametrize("to", FORMATS)
def test_file_of_a_real_generator(compact_saved_model, tmp_path, to, weights):
    folder = convert_model(compact_saved_model, to, tmp_path / "x", weights)
    if weights == "float16":
        reference = convert_model(
            compact_saved_model, "saved_model", tmp_path / "half", "float16"
        )
    else:
        reference = compact_saved_model
    loaded = tf.saved_model.load(str(reference))
    # Enough of them for one to fall between the bounds of two centres, if
    # these were rounded.
    latents = latents_for(1, 0, 500, 65).numpy()
    labels = np.arange(500, dtype=np.int32) % 10
    expected = loaded.signatures["from_latents"](
        latents=tf.constant(latents), labels=tf.constant(labels)
    )["images"]
    images = run(folder, to, latents, labels)
    assert images.dtype == np.float32
    assert np.std(expected) > 0.1
    tolerance = TOLERANCES[to, weights]
    np.testing.assert_allclose(
        images[:40], expected[:40], rtol=0, atol=tolerance
    )
    # A draw of another centre would be another image.
    assert np.mean(np.abs(images - expected) > tolerance) < 1e-4
    one = run(folder, to, latents[:1], labels[:1])
    np.testing.assert_allclose(one, images[:1], rtol=0, atol=1e-4)
    metadata = read_metadata(folder)
    assert metadata["format"] == to
    assert metadata["weights"] == weights
    assert metadata["scores"] == []
    bytes_per_weight = 4 if weights == "float32" else 2
    assert metadata["num_bytes"] == pytest.approx(
        bytes_per_weight * metadata["num_parameters"], rel=0.02
    )


@pytest.mark.parametrize("to", FORMATS)
def test_wrong_labels_give_nan(tiny_saved_model, tmp_path, to):
    folder = convert_model(tiny_saved_model, to, tmp_path / "file")
    latents = np.zeros((5, 6), np.float32)
    images = run(folder, to, latents, [0, -1, 3, 2**31 - 1, 2])
    wrong = np.isnan(images)
    assert wrong[[1, 2, 3]].all() and not wrong[[0, 4]].any()
    assert "NaN" in read_metadata(folder)["label_out_of_range"]


@pytest.mark.parametrize("to", FORMATS)
def test_half_model_stays_half(tiny_saved_model, tmp_path, to):
    half = convert_model(
        tiny_saved_model, "saved_model", tmp_path / "half", "float16"
    )
    folder = convert_model(half, to, tmp_path / "file")
    assert read_metadata(folder)["weights"] == "float16"
    direct = convert_model(tiny_saved_model, to, tmp_path / "d", "float16")
    latents = latents_for(1, 0, 9, 6).numpy()
    labels = np.arange(9) % 3
    np.testing.assert_allclose(
        run(folder, to, latents, labels),
        run(direct, to, latents, labels),
        rtol=0,
        atol=1e-6,
    )


def test_litert_needs_built_in_operations_only(tiny_saved_model, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    folder = convert_model(tiny_saved_model, "litert", tmp_path / "file")
    interpreter = Interpreter(model_path=str(folder / "model.tflite"))
    names = {entry["op_name"] for entry in interpreter._get_ops_details()}
    assert not [name for name in names if name.startswith("Flex")]
    (signature,) = interpreter.get_signature_list().values()
    assert sorted(signature["inputs"]) == ["labels", "latents"]


def test_onnx_has_named_inputs_and_a_free_batch(tiny_saved_model, tmp_path):
    import onnx

    folder = convert_model(tiny_saved_model, "onnx", tmp_path / "file")
    graph = onnx.load(folder / "model.onnx").graph
    shapes = {
        value.name: [
            dim.dim_param or dim.dim_value
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "latents": ["batch", 6],
        "labels": ["batch"],
        "images": ["batch", 6, 10, 3],
    }


def test_converters_are_silent(tiny_saved_model, tmp_path, capfd):
    for to in FORMATS:
        convert_model(tiny_saved_model, to, tmp_path / to)
    assert capfd.readouterr() == ("", "")


def test_config_in_the_metadata_follows(tiny_saved_model, tmp_path):
    config = {"generation": {"label_mixing": 0.0}, "run": {"seed": 3}}
    model = copied(
        tiny_saved_model,
        tmp_path / "1",
        config=config,
        labelled_from={"model": "m", "digest": "0"},
    )
    folder = convert_model(model, "saved_model", weights="float16")
    assert read_metadata(folder)["config"] == {
        "generation": {"label_mixing": 0.0, "weights": "float16"},
        "run": {"seed": 3},
    }
    # Whose images it had, it has no longer.
    assert "labelled_from" not in read_metadata(folder)


@pytest.mark.parametrize("to", FORMATS)
def test_file_that_differs_is_refused(
    tiny_saved_model, tmp_path, monkeypatch, to
):
    build, reached, name = conversion._FORMATS[to]

    def wrong(*arguments):
        return reached(*arguments) + 0.01

    monkeypatch.setitem(conversion._FORMATS, to, (build, wrong, name))
    with pytest.raises(RunError, match=f"images of the {to} file must be"):
        convert_model(tiny_saved_model, to, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
def test_output_is_needed_for_files(tiny_saved_model, to):
    with pytest.raises(InputError, match=f"`output` must be .*to become `{to}"):
        convert_model(tiny_saved_model, to)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"to": "h5"}, "`to` must be one of saved_model, litert, onnx. Rec"),
        ({"weights": "int8"}, "`weights` must be one of float32, float16. Rec"),
    ],
)
def test_unknown_choice(tiny_saved_model, tmp_path, arguments, message):
    arguments = {"to": "onnx", "output": tmp_path / "x", **arguments}
    with pytest.raises(InputError, match=message):
        convert_model(tiny_saved_model, **arguments)


def test_output_is_needed_without_a_version(tiny_saved_model, tmp_path):
    model = copied(tiny_saved_model, tmp_path / "best")
    with pytest.raises(InputError, match="`output` must be .*numbered version"):
        convert_model(model, "saved_model")


@pytest.mark.parametrize("to", ["saved_model", *FORMATS])
def test_output_must_be_new(tiny_saved_model, tmp_path, to):
    (tmp_path / "note").touch()
    with pytest.raises(InputError, match="must be new or empty"):
        convert_model(tiny_saved_model, to, tmp_path)


def test_another_saved_model(tiny_saved_model, tmp_path):
    model = copied(tiny_saved_model, tmp_path / "1")
    module = tf.Module()
    module.double = tf.function(
        lambda latents: {"images": latents * 2},
        input_signature=[tf.TensorSpec((), tf.float32)],
    )
    tf.saved_model.save(module, str(model), {"from_latents": module.double})
    with pytest.raises(InputError, match="another graph, with 0 one-hot"):
        convert_model(model, "saved_model")
    tf.saved_model.save(module, str(model), {"other": module.double})
    with pytest.raises(InputError, match="with the signature `from_latents`"):
        convert_model(model, "saved_model")


@pytest.mark.parametrize("missing", ["tf2onnx", "onnx", "onnxruntime"])
def test_missing_extra(tiny_saved_model, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=f"{missing}.*pip install tf2onnx=="):
        convert_model(tiny_saved_model, "onnx", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_named_packages_are_those_of_the_tests():
    root = pathlib.Path(conversion.__file__).parents[1]
    pinned = (root / "requirements-dev.txt").read_text().splitlines()
    assert set(conversion.ONNX_PACKAGES.split()) <= set(pinned)


@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_soft_labels_go_along(soft_saved_model, tmp_path, weights):
    before = load_generator(soft_saved_model)
    images = before.generate([0, 1, 2] * 20)
    # Twice, since the second time the graph is one that was cut out.
    first = convert_model(
        soft_saved_model, "saved_model", tmp_path / "1", weights
    )
    again = convert_model(first, "saved_model", tmp_path / "2", weights)
    for path in (first, again):
        labels = load_generator(path).soft_labels(images)
        np.testing.assert_array_equal(labels, before.soft_labels(images))


def test_soft_labels_that_are_not_there(tiny_saved_model, tmp_path):
    signatures = [*read_metadata(tiny_saved_model)["signatures"], "soft_labels"]
    model = copied(tiny_saved_model, tmp_path / "1", signatures=signatures)
    message = "must hold a SavedModel with the signature `soft_labels`"
    with pytest.raises(InputError, match=message):
        convert_model(model, "saved_model", tmp_path / "2")
    assert not (tmp_path / "2").exists()
