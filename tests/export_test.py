import collections
import json
import math
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from gdd_keras import export
from gdd_keras import files
from gdd_keras import saved_model
from gdd_keras.config import InputError
from gdd_keras.export import export_generator
from gdd_keras.export import read_metadata
from gdd_keras.generator_api import load_generator
from gdd_keras.inference import exported_classifier
from gdd_keras.inference import exported_network
from gdd_keras.metadata import update_metadata
from gdd_keras.networks.normalization import InstanceNormalization
from gdd_keras.sampling import BLOCK_SIZE
from gdd_keras.sampling import MAX_FIRST_INDEX
from gdd_keras.sampling import latents_for
from gdd_keras.sampling import to_uint8

NAMES = {"class_names": ["a", "b", "c"]}


@pytest.fixture(scope="module")
def signatures(tiny_saved_model):
    loaded = tf.saved_model.load(str(tiny_saved_model))
    # Signatures alone do not keep the variables alive.
    yield loaded.signatures
    del loaded


def generate(signatures, labels, seed=0, first_index=0, name="serving_default"):
    outputs = signatures[name](
        labels=tf.constant(labels, tf.int32),
        seed=tf.constant(seed, tf.int64),
        first_index=tf.constant(first_index, tf.int64),
    )
    assert list(outputs) == ["images"]
    return outputs["images"].numpy()


def by_row(signatures, labels, seeds, indices):
    return signatures["by_row"](
        labels=tf.constant(labels, tf.int32),
        seeds=tf.constant(seeds, tf.int64),
        indices=tf.constant(indices, tf.int64),
    )["images"].numpy()


def by_name(signatures, names, seed=0, first_index=0):
    return signatures["by_name"](
        class_names=tf.constant(names, tf.string),
        seed=tf.constant(seed, tf.int64),
        first_index=tf.constant(first_index, tf.int64),
    )["images"].numpy()


def draw(seed, first_index, count, latent_dim=6):
    return latents_for(seed, first_index, count, latent_dim).numpy()


@pytest.mark.parametrize("latent_dim", [1, 4, 6, 90])
@pytest.mark.parametrize("base", [0, 7, 2**32 // 2 - 100, 2**40 + 3])
def test_latents_do_not_depend_on_the_split(latent_dim, base):
    # Large enough that TensorFlow fills it with several threads.
    whole = draw(5, base, 20_000, latent_dim)
    for start, count in ((0, 1), (1, 7), (999, 64), (3, 19_997), (19_999, 1)):
        np.testing.assert_array_equal(
            draw(5, base + start, count, latent_dim),
            whole[start : start + count],
        )


def test_latents_are_standard_normal():
    values = draw(3, 0, 20_000, 6)
    assert values.dtype == np.float32
    # Five standard errors of 20,000 values.
    np.testing.assert_allclose(values.mean(axis=0), 0.0, atol=0.036)
    np.testing.assert_allclose(values.std(axis=0), 1.0, atol=0.025)
    np.testing.assert_allclose(np.corrcoef(values.T), np.eye(6), atol=0.036)
    np.testing.assert_allclose((values**4).mean(), 3.0, atol=0.15)


def test_latents_differ_between_rows_and_seeds():
    first, second = draw(0, 0, 5_000), draw(1, 0, 5_000)
    assert len(np.unique(np.concatenate([first, second]))) > 59_000
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_latents_take_tensors_in_a_graph():
    @tf.function
    def in_graph(seed, first_index, count):
        return latents_for(seed, first_index, count, 6)

    values = in_graph(
        tf.constant(2, tf.int64), tf.constant(9, tf.int64), tf.constant(4)
    )
    np.testing.assert_array_equal(values, draw(2, 9, 4))


def test_to_uint8_equals_numpy():
    images = np.linspace(-1.2, 1.2, 20_001, dtype=np.float32)
    expected = np.clip(np.round((images + 1) * np.float32(127.5)), 0, 255)
    converted = to_uint8(images)
    assert converted.dtype == tf.uint8
    np.testing.assert_array_equal(converted, expected.astype(np.uint8))
    np.testing.assert_array_equal(to_uint8([-1.0, 0.0, 1.0]), [0, 128, 255])


def test_every_grey_level_survives_the_round_trip():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(
        to_uint8(levels.astype(np.float32) / 127.5 - 1), levels
    )


@pytest.mark.parametrize("batch", [1, 5])
def test_from_latents_equals_the_keras_model(signatures, tiny_generator, batch):
    latents = np.random.default_rng(1).normal(size=(batch, 6)).astype("float32")
    labels = np.arange(batch, dtype=np.int32) % 3
    images = signatures["from_latents"](
        latents=tf.constant(latents), labels=tf.constant(labels)
    )["images"]
    one_hot_labels = np.eye(3, dtype=np.float32)[labels]
    expected = tiny_generator([latents, one_hot_labels], training=False)
    assert images.dtype == tf.float32
    np.testing.assert_allclose(images, expected, rtol=1e-6, atol=1e-6)
    assert np.abs(images).max() <= 1.0


def test_generate_equals_model_of_latents(signatures, tiny_generator):
    labels = np.arange(50) % 3
    one_hot_labels = np.eye(3, dtype=np.float32)[labels]
    expected = to_uint8(
        tiny_generator([draw(4, 7, 50), one_hot_labels], training=False)
    )
    images = generate(signatures, labels, seed=4, first_index=7)
    assert images.dtype == np.uint8
    assert images.shape == (50, 6, 10, 3)
    # Another batch size may round a value at the edge of a level otherwise.
    difference = np.abs(images.astype(int) - expected.numpy().astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


def test_serving_default_is_generate(signatures, tiny_saved_model):
    assert set(signatures) == {
        "by_name",
        "by_row",
        "from_latents",
        "generate",
        "serving_default",
    }
    assert set(read_metadata(tiny_saved_model)["signatures"]) == set(signatures)
    np.testing.assert_array_equal(
        generate(signatures, [0, 1, 2]),
        generate(signatures, [0, 1, 2], name="generate"),
    )


def test_image_does_not_depend_on_the_batch(signatures):
    labels = np.arange(300) % 3
    whole = generate(signatures, labels, seed=8, first_index=5)
    for start, count in (
        (0, 1),
        (3, 3),
        (20, 7),
        (26, 64),
        (27, 256),
        (299, 1),
    ):
        part = slice(start, start + count)
        np.testing.assert_array_equal(
            generate(signatures, labels[part], 8, 5 + start), whole[part]
        )


def test_image_depends_on_seed_index_and_label(signatures):
    reference = generate(signatures, [0])
    for other in (
        generate(signatures, [0], seed=1),
        generate(signatures, [0], first_index=1),
        generate(signatures, [1]),
    ):
        assert (other != reference).any()


@pytest.mark.parametrize("first_index", [0, 1, BLOCK_SIZE])
def test_no_labels_give_no_images(signatures, first_index):
    images = generate(signatures, [], first_index=first_index)
    assert images.shape == (0, 6, 10, 3)


@pytest.mark.parametrize("labels", [[-1], [0, 3], [2**31 - 1]])
def test_label_out_of_range(signatures, labels):
    calls = (
        lambda: generate(signatures, labels),
        lambda: by_row(signatures, labels, [0] * len(labels), labels),
        lambda: signatures["from_latents"](
            latents=tf.zeros((len(labels), 6)), labels=tf.constant(labels)
        ),
    )
    for call in calls:
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"labels must be in 0\.\.2"
        ) as caught:
            call()
        assert f"[{max(labels)}]" in caught.value.message


@pytest.mark.parametrize("index", [-1, MAX_FIRST_INDEX + 1])
def test_image_number_out_of_range(signatures, index):
    refused = tf.errors.InvalidArgumentError
    with pytest.raises(refused, match=r"first_index must be in 0\.\.2\^48"):
        generate(signatures, [0], first_index=index)
    with pytest.raises(refused, match=r"first_index must be in 0\.\.2\^48"):
        by_name(signatures, ["cat"], first_index=index)
    with pytest.raises(refused, match=r"indices must be in 0\.\.2\^48"):
        by_row(signatures, [0, 1], [0, 0], [5, index])


def test_inputs_of_different_sizes(signatures):
    refused = tf.errors.InvalidArgumentError
    # Often: after some hundred calls, TensorFlow reorders what may run at once.
    for _ in range(200):
        with pytest.raises(
            refused, match="labels, seeds, indices must have one row per"
        ):
            by_row(signatures, [0, 1], [0, 0], [5])
        with pytest.raises(
            refused, match="latents, labels must have one row per"
        ):
            signatures["from_latents"](
                latents=tf.zeros((2, 6)), labels=tf.constant([0, 1, 2])
            )


def test_rows_are_the_images_of_generate(signatures):
    # Two seeds; numbers in all orders, twice, in several blocks, far away.
    rows = [
        (2, 7, 0),
        (1, 7, 32),
        (0, 7, 31),
        (0, 7, 31),
        (1, 8, 31),
        (0, -3, 2**40 + 5),
        (2, 7, 64),
        *((i % 3, 7, 100 - i) for i in range(40)),
    ]
    labels, seeds, indices = map(list, zip(*rows, strict=True))
    images = by_row(signatures, labels, seeds, indices)
    assert images.dtype == np.uint8
    assert images.shape == (len(rows), 6, 10, 3)
    for image, (label, seed, index) in zip(images, rows, strict=True):
        np.testing.assert_array_equal(
            image, generate(signatures, [label], seed, index)[0]
        )
    np.testing.assert_array_equal(
        by_row(signatures, labels[:1], seeds[:1], indices[:1]), images[:1]
    )


def test_no_rows_give_no_images(signatures):
    assert by_row(signatures, [], [], []).shape == (0, 6, 10, 3)
    assert by_name(signatures, []).shape == (0, 6, 10, 3)


def test_names_are_labels(signatures):
    names = ["bird", "cat", "dog/wolf", "cat"] * 10
    np.testing.assert_array_equal(
        by_name(signatures, names, 3, 20),
        generate(signatures, [2, 0, 1, 0] * 10, 3, 20),
    )


@pytest.mark.parametrize("name", ["", "Cat", "dog", "horse"])
def test_unknown_name(signatures, name):
    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match="class_names must be of: cat, dog/wolf, bird. Received",
    ) as caught:
        by_name(signatures, ["cat", name])
    assert f"[{name}]" in caught.value.message


def test_names_of_any_script(tiny_generator, tmp_path):
    names = ["\u043a\u043e\u0442", "\u72d7, big", 'a "b"']
    version = export_generator(
        tiny_generator, tmp_path / "set", {"class_names": names}
    )
    loaded = tf.saved_model.load(str(version))
    np.testing.assert_array_equal(
        by_name(loaded.signatures, names), generate(loaded.signatures, range(3))
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=names[0]):
        by_name(loaded.signatures, ["?"])


def test_network_is_stored_once(tiny_saved_model):
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((tiny_saved_model / "saved_model.pb").read_bytes())
    (graph,) = model.meta_graphs
    operations = collections.Counter(
        node.op
        for function in graph.graph_def.library.function
        for node in function.node_def
    )
    assert operations["Conv2D"] == 1
    assert operations["Conv2DBackpropInput"] == 1
    assert operations["StatelessRandomNormalV2"] == 2


@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_signatures_of_a_real_generator_agree(
    weights, compact_generator, tmp_path
):
    names = [f"class {i}" for i in range(10)]
    version = export_generator(
        compact_generator,
        tmp_path / "set",
        {"class_names": names},
        0.4,
        weights,
    )
    loaded = tf.saved_model.load(str(version))
    labels = np.arange(80) % 10
    images = generate(loaded.signatures, labels, 4, 20)
    assert images.std() > 10
    order = np.random.default_rng(0).permutation(80)[:45]
    np.testing.assert_array_equal(
        by_row(loaded.signatures, labels[order], [4] * 45, 20 + order),
        images[order],
    )
    np.testing.assert_array_equal(
        by_name(loaded.signatures, [names[i] for i in labels[:9]], 4, 20),
        images[:9],
    )
    stored = sum(path.stat().st_size for path in version.rglob("variables/*"))
    assert stored < 1.01 * compact_generator.count_params() * (
        2 if weights == "float16" else 4
    )


def test_half_weights(tiny_generator, tmp_path, signatures):
    version = export_generator(
        tiny_generator, tmp_path / "set", NAMES, weights="float16"
    )
    assert read_metadata(version)["weights"] == "float16"
    reader = tf.train.load_checkpoint(str(version / "variables/variables"))
    types = {
        (len(shape), reader.get_variable_to_dtype_map()[name])
        for name, shape in reader.get_variable_to_shape_map().items()
        if "weights" in name
    }
    assert types == {(1, tf.float32), (2, tf.float16), (4, tf.float16)}
    loaded = tf.saved_model.load(str(version))
    labels = np.arange(50) % 3
    images = generate(loaded.signatures, labels)
    difference = np.abs(images.astype(int) - generate(signatures, labels))
    # Weights change by 2^-11 at most, images by about as much of a level.
    assert 0 < difference.max() <= 2
    np.testing.assert_array_equal(
        images[7:], generate(loaded.signatures, labels[7:], first_index=7)
    )


def test_weights_of_an_export_are_recorded(tiny_saved_model):
    assert read_metadata(tiny_saved_model)["weights"] == "float32"


def test_saved_model_cli_runs_a_signature(
    tiny_saved_model, signatures, tmp_path
):
    rows = "labels=[2, 0];seeds=[0, 5];indices=[9, 40]"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tensorflow.python.tools.saved_model_cli"),
            *("run", "--dir", tiny_saved_model, "--tag_set", "serve"),
            *("--signature_def", "by_row", "--input_exprs", rows),
            *("--outdir", tmp_path),
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Result for output key images:" in done.stdout
    np.testing.assert_array_equal(
        np.load(tmp_path / "images.npy"),
        by_row(signatures, [2, 0], [0, 5], [9, 40]),
    )


def test_loads_with_tensorflow_alone(tiny_saved_model, signatures, tmp_path):
    script = """
import sys

# What `import` takes for a package that is not installed.
sys.modules["keras"] = sys.modules["gdd_keras"] = None
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
images = loaded.signatures["serving_default"](
    labels=tf.constant([2, 0, 1]),
    seed=tf.constant(6, tf.int64),
    first_index=tf.constant(40, tf.int64),
)["images"]
rows = loaded.signatures["by_row"](
    labels=tf.constant([2, 0, 1]),
    seeds=tf.constant([6, 6, 6], tf.int64),
    indices=tf.constant([40, 41, 42], tf.int64),
)["images"]
np.testing.assert_array_equal(rows, images)
np.save(sys.argv[2], images.numpy())
assert sys.modules["keras"] is None and sys.modules["gdd_keras"] is None
"""
    saved = tmp_path / "images.npy"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tiny_saved_model), str(saved)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(
        np.load(saved), generate(signatures, [2, 0, 1], 6, 40)
    )


def test_metadata_of_an_export(tiny_saved_model, tiny_generator):
    metadata = read_metadata(tiny_saved_model)
    assert metadata["class_names"] == ["cat", "dog/wolf", "bird"]
    assert metadata["fingerprint"] == "abc"
    assert metadata["image_shape"] == [6, 10, 3]
    assert metadata["latent_dim"] == 6
    assert metadata["num_classes"] == 3
    assert metadata["num_parameters"] == tiny_generator.count_params()
    assert metadata["value_range"] == [-1.0, 1.0]
    assert metadata["versions"]["keras"] == keras.__version__
    assert metadata["versions"]["tensorflow"] == tf.__version__
    on_disk = sum(
        path.stat().st_size
        for path in tiny_saved_model.rglob("*")
        if path.is_file() and path.name != "metadata.json"
    )
    assert metadata["num_bytes"] == on_disk


def test_versions_count_up_and_nothing_else_stays(tiny_generator, tmp_path):
    directory = tmp_path / "tiny"
    (directory / "9").mkdir(parents=True)
    first = export_generator(tiny_generator, directory, NAMES)
    second = export_generator(
        tiny_generator, directory, {"class_names": ("a", "b", "c")}
    )
    assert (first, second) == (directory / "10", directory / "11")
    assert {path.name for path in directory.iterdir()} == {"9", "10", "11"}
    assert read_metadata(second)["class_names"] == ["a", "b", "c"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_failing_export_leaves_nothing(
    tiny_generator, tmp_path, monkeypatch, error
):
    def fail(path, value):
        assert (pathlib.Path(path).parent / "saved_model.pb").exists()
        raise error

    monkeypatch.setattr(files, "write_json", fail)
    with pytest.raises(type(error)):
        export_generator(tiny_generator, tmp_path / "tiny", NAMES)
    assert list((tmp_path / "tiny").iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "`class_names` must be a list"),
        ({"class_names": ["a", "b"]}, "2 names for num_classes=3"),
        ({"class_names": ["a", "a", "b"]}, "all different"),
        ({"class_names": ["a", "b", ""]}, "non-empty strings"),
        ({"class_names": ["a", "b", "c\nd"]}, "of one line"),
        ({**NAMES, "seed": "1"}, "`seed` must be an integer"),
        ({**NAMES, "scores": 1.0}, "`scores` must be a list"),
        ({**NAMES, "versions": []}, "`versions` must be an object"),
    ],
)
def test_export_refuses_wrong_metadata(
    tiny_generator, tmp_path, metadata, message
):
    with pytest.raises(InputError, match=message):
        export_generator(tiny_generator, tmp_path / "tiny", metadata)
    assert not (tmp_path / "tiny").exists()


def test_export_refuses_another_model(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match="`generator` must map"):
        export_generator(model, tmp_path / "tiny", NAMES)


def test_export_refuses_a_folder_of_other_things(tiny_generator, tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(InputError, match="only numbered versions"):
        export_generator(tiny_generator, tmp_path, NAMES)


def metadata_file(tiny_saved_model, tmp_path, **changes):
    metadata = read_metadata(tiny_saved_model)
    for name, value in changes.items():
        if value is None:
            del metadata[name]
        else:
            metadata[name] = value
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata))
    return path


def test_update_metadata(tiny_saved_model, tmp_path):
    path = metadata_file(tiny_saved_model, tmp_path)
    before = read_metadata(tmp_path)
    after = update_metadata(tmp_path, scores={"stream": 0.5}, note="kept")
    assert after == {**before, "scores": {"stream": 0.5}, "note": "kept"}
    assert read_metadata(path) == after
    assert [entry.name for entry in tmp_path.iterdir()] == ["metadata.json"]


def test_update_metadata_refuses_a_wrong_type(tiny_saved_model, tmp_path):
    path = metadata_file(tiny_saved_model, tmp_path)
    before = path.read_text()
    with pytest.raises(InputError, match="`latent_dim` must be an integer"):
        update_metadata(tmp_path, latent_dim="6")
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"class_names": None},
            "`class_names` must be a list",
        ),
        (
            {"num_classes": None},
            "`num_classes` must be an integer >= 1",
        ),
        ({"num_classes": True}, "`num_classes` must be an integer"),
        (
            {"num_classes": 0},
            "`num_classes` must be an integer >= 1",
        ),
        ({"image_shape": [6, 10]}, "`image_shape` must be"),
        ({"image_shape": [6, 10, "3"]}, "`image_shape` must be"),
        ({"class_names": [1, 2, 3]}, r"`class_names\[0\]` must be a string"),
        ({"statistics": []}, "`statistics` must be an object"),
        ({"created": 5}, "`created` must be a string"),
    ],
)
def test_read_metadata_names_the_field(
    tiny_saved_model, tmp_path, changes, message
):
    path = metadata_file(tiny_saved_model, tmp_path, **changes)
    with pytest.raises(InputError, match=message) as caught:
        read_metadata(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "which does not exist"),
        (b"{", "must hold JSON"),
        (b"[]", "must be an object"),
        (b"\xff", "must be UTF-8"),
    ],
)
def test_read_metadata_of_a_broken_file(tmp_path, content, message):
    if content is not None:
        (tmp_path / "metadata.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_metadata(tmp_path)


def test_public_names():
    assert set(export.__all__) == {
        "export_generator",
        "read_metadata",
    }


def test_every_weight_is_stored_once(tiny_generator, tmp_path):
    version = export_generator(tiny_generator, tmp_path / "set", NAMES)
    stored = sum(
        math.prod(shape)
        for _, shape in tf.train.list_variables(
            str(version / "variables" / "variables")
        )
        if shape
    )
    assert stored == tiny_generator.count_params()


def test_soft_labels_come_from_half_weights(
    tiny_generator, tiny_classifier, tmp_path
):
    """Whatever the generator's are; the labels differ by half's rounding."""
    rng = np.random.default_rng(2)
    classifier = keras.models.clone_model(tiny_classifier)
    classifier.set_weights(
        [rng.normal(0.0, 0.1, w.shape) for w in classifier.get_weights()]
    )
    version = export_generator(
        tiny_generator,
        tmp_path / "tiny",
        {"class_names": ["cat", "dog", "bird"], "fingerprint": "abc"},
        classifier=classifier,
    )
    assert read_metadata(version)["weights"] == "float32"
    loaded = tf.saved_model.load(str(version))
    halves = [v.shape for v in loaded.weights if v.dtype == tf.float16]
    assert halves == [(180, 3)]
    images = rng.integers(0, 256, (5, 6, 10, 3))
    labels = loaded.signatures["soft_labels"](
        images=tf.constant(images, tf.uint8)
    )["soft_labels"]
    expected = classifier(images.astype("float32"))
    # Half has eleven digits: 5e-4 of each of 180 products.
    np.testing.assert_allclose(labels, expected, atol=2e-3)
    assert np.abs(labels - expected).max() > 1e-6


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_soft_labels_equal_the_keras_model(
    soft_saved_model, tiny_classifier, batch
):
    images = np.random.default_rng(0).integers(0, 256, (batch, 6, 10, 3))
    loaded = tf.saved_model.load(str(soft_saved_model))
    labels = loaded.signatures["soft_labels"](
        images=tf.constant(images, tf.uint8)
    )["soft_labels"]
    assert labels.shape == (batch, 3)
    expected = tiny_classifier(images.astype("float32"))
    np.testing.assert_allclose(labels, expected, rtol=1e-5, atol=1e-6)


def test_soft_labels_leave_the_images_as_they_are(soft_saved_model, signatures):
    loaded = tf.saved_model.load(str(soft_saved_model))
    np.testing.assert_array_equal(
        generate(loaded.signatures, [0, 1, 2]), generate(signatures, [0, 1, 2])
    )


def test_soft_labels_are_named_in_the_metadata(
    soft_saved_model, tiny_saved_model
):
    named = read_metadata(soft_saved_model)["signatures"]
    assert named == [
        *read_metadata(tiny_saved_model)["signatures"],
        "soft_labels",
    ]
    loaded = tf.saved_model.load(str(soft_saved_model))
    assert set(loaded.signatures) == set(named)


def test_soft_labels_need_no_xla_once_they_are_written_again(
    tiny_generator, tmp_path
):
    """A model server has it off; earlier exports' labellers need it."""
    inputs = keras.Input((6, 10, 3))
    maps = keras.layers.Flatten()(InstanceNormalization("relu")(inputs))
    outputs = keras.layers.Dense(3, "softmax")(maps)
    version = export_generator(
        tiny_generator,
        tmp_path / "1",
        NAMES,
        classifier=keras.Model(inputs, outputs),
    )
    metadata = read_metadata(version)
    versions = [version]
    for number in ("2", "3"):
        versions.append(
            saved_model.write_version(
                exported_network(versions[-1], metadata),
                tmp_path / number,
                metadata,
                "float32",
                exported_classifier(versions[-1], metadata),
            )
        )
    needs = [
        b"_XlaMustCompile" in (folder / "saved_model.pb").read_bytes()
        for folder in versions
    ]
    assert needs == [True, False, False]
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 10, 3))
    first, *others = (
        tf.saved_model.load(str(folder)).signatures["soft_labels"](
            images=tf.constant(images, tf.uint8)
        )["soft_labels"]
        for folder in versions
    )
    for other in others:
        np.testing.assert_allclose(first, other, atol=1e-6)


def test_version_that_is_taken_while_it_is_written(
    tiny_generator, tmp_path, monkeypatch
):
    save, calls = saved_model.save_network, []

    def save_beside_another(*arguments):
        save(*arguments)
        calls.append(arguments)
        if len(calls) == 1:
            (tmp_path / "1").mkdir()
            (tmp_path / "1" / "another").touch()

    monkeypatch.setattr(saved_model, "save_network", save_beside_another)
    names = {"class_names": ["cat", "dog", "bird"]}
    assert export_generator(tiny_generator, tmp_path, names) == tmp_path / "2"
    assert len(calls) == 2
    assert [path.name for path in (tmp_path / "1").iterdir()] == ["another"]
    load_generator(tmp_path / "2").generate([0])
    # Whoever names a folder wants that one.
    network = calls[0][0]
    monkeypatch.setattr(saved_model, "save_network", save)
    metadata = read_metadata(tmp_path / "2")
    with pytest.raises(InputError, match="must be new or empty"):
        saved_model.write_version(network, tmp_path / "1", metadata, "float32")
