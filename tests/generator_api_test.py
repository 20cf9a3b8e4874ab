import gc
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import gdd_keras
from gdd_keras.config import InputError
from gdd_keras.export import export_generator
from gdd_keras.generator_api import load_generator


@pytest.fixture(scope="module")
def generator(tiny_saved_model):
    return load_generator(tiny_saved_model)


def test_attributes(generator, tiny_saved_model):
    assert generator.class_names == ["cat", "dog/wolf", "bird"]
    assert generator.image_shape == (6, 10, 3)
    assert generator.num_classes == 3
    assert generator.metadata["fingerprint"] == "abc"
    assert generator.path == tiny_saved_model
    assert "image_shape=(6, 10, 3)" in repr(generator)


def test_generate_is_the_same_however_it_is_split(generator):
    labels = generator.balanced_labels(200)
    whole = generator.generate(labels, seed=2, first_index=3)
    assert whole.shape == (600, 6, 10, 3)
    assert whole.dtype == np.uint8
    for start, stop in ((0, 1), (1, 8), (250, 514), (253, 254), (599, 600)):
        np.testing.assert_array_equal(
            generator.generate(labels[start:stop], 2, 3 + start),
            whole[start:stop],
        )


def test_generate_equals_the_signature(generator, tiny_saved_model):
    loaded = tf.saved_model.load(str(tiny_saved_model))
    images = loaded.signatures["serving_default"](
        labels=tf.constant([2, 1, 0]),
        seed=tf.constant(9, tf.int64),
        first_index=tf.constant(4, tf.int64),
    )["images"]
    np.testing.assert_array_equal(generator.generate([2, 1, 0], 9, 4), images)


def test_seeds_differ(generator):
    labels = [0] * 4
    first, again = generator.generate(labels, 1), generator.generate(labels, 1)
    np.testing.assert_array_equal(first, again)
    assert (first != generator.generate(labels, 2)).any(axis=(1, 2, 3)).all()


def test_no_labels_give_no_images(generator):
    assert generator.generate([]).shape == (0, 6, 10, 3)


def test_balanced_labels(generator):
    labels = generator.balanced_labels(2)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("batch_size", [None, 7, 300])
def test_finite_dataset(generator, batch_size):
    dataset = generator.as_dataset(100, seed=5, batch_size=batch_size)
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    assert len(images) == len(dataset)
    if batch_size is None:
        images, labels = np.stack(images), np.stack(labels)
    else:
        assert len(images[0]) == batch_size
        images, labels = np.concatenate(images), np.concatenate(labels)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, generator.balanced_labels(100))
    np.testing.assert_array_equal(images, generator.generate(labels, 5))
    np.testing.assert_array_equal(np.bincount(labels), [100, 100, 100])


def test_larger_set_begins_with_the_smaller(generator):
    small = list(generator.as_dataset(3).as_numpy_iterator())
    large = list(generator.as_dataset(90).take(9).as_numpy_iterator())
    for (image, label), (other, other_label) in zip(small, large, strict=True):
        np.testing.assert_array_equal(image, other)
        assert label == other_label


def test_endless_dataset(generator):
    dataset = generator.as_dataset(seed=5)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY
    images, labels = zip(*dataset.take(600).as_numpy_iterator(), strict=True)
    np.testing.assert_array_equal(labels, generator.balanced_labels(200))
    np.testing.assert_array_equal(
        np.stack(images), generator.generate(labels, seed=5)
    )


def test_dataset_has_static_shapes(generator):
    assert generator.as_dataset().element_spec == (
        tf.TensorSpec((6, 10, 3), tf.uint8),
        tf.TensorSpec((), tf.int32),
    )
    image_spec, _ = generator.as_dataset(batch_size=4).element_spec
    assert image_spec.shape.as_list() == [None, 6, 10, 3]


@pytest.mark.parametrize("weights", ["float32", "float16"])
def test_native_code_logs_no_errors(weights, tiny_generator, tmp_path):
    names = {"class_names": ["cat", "dog", "bird"]}
    version = export_generator(tiny_generator, tmp_path, names, weights=weights)
    script = (
        "import os, sys, tensorflow as tf, gdd_keras\n"
        "tf.config.list_physical_devices()\n"
        "os.write(2, b'loaded\\n')\n"
        "generator = gdd_keras.load_generator(sys.argv[1])\n"
        "batches = list(generator.as_dataset(ipc=99, batch_size=100))\n"
        "print(len(batches))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, version],
        # Without what keeps the tests' own screen clean.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "3\n"
    assert done.stderr.split("loaded\n")[1] == ""


def test_dataset_outlives_the_generator(tiny_saved_model):
    dataset = load_generator(tiny_saved_model).as_dataset(1)
    gc.collect()
    assert len(list(dataset)) == 3


def test_parent_means_its_highest_version(tiny_saved_model, tmp_path):
    for version in ("9", "10"):
        shutil.copytree(tiny_saved_model, tmp_path / version)
    (tmp_path / "11").mkdir()
    (tmp_path / ".writing-12-x").mkdir()
    assert load_generator(tmp_path).path == tmp_path / "10"
    assert load_generator(str(tmp_path / "9")).path == tmp_path / "9"


def test_package_attribute_is_lazy(tiny_saved_model):
    assert gdd_keras.load_generator is load_generator
    assert set(gdd_keras.__all__) <= set(dir(gdd_keras))
    # Every other name is where it is said to be, too.
    assert all(getattr(gdd_keras, name) for name in gdd_keras.__all__)
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        _ = gdd_keras.load
    script = (
        "import sys, gdd_keras; assert gdd_keras.__version__ == '0.1.0'; "
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_version_is_that_of_pyproject():
    import pathlib
    import tomllib

    root = pathlib.Path(gdd_keras.__file__).parent.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert project.get("version", gdd_keras.__version__) == (
        gdd_keras.__version__
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": [0, 3]}, r"`labels` must be in 0\.\.2\. Received: 3"),
        ({"labels": [-1]}, r"`labels` must be in 0\.\.2\. Received: -1"),
        ({"labels": [0.5]}, "sequence of integers.*float64"),
        ({"labels": [[0]]}, r"sequence of integers.*shape \(1, 1\)"),
        ({"labels": 0}, r"sequence of integers.*shape \(\)"),
        ({"labels": [0], "seed": -1}, "`seed` must be an integer >= 0"),
        ({"labels": [0], "seed": 1.5}, "`seed` must be an integer. Rec"),
        ({"labels": [0], "seed": True}, "`seed` must be an integer. Rec"),
        ({"labels": [0], "seed": 2**63}, "`seed` must be at most"),
        ({"labels": [0], "first_index": -1}, "`first_index` must be .* >= 0"),
        ({"labels": [0], "first_index": 2**48}, "`first_index` must be at mo"),
    ],
)
def test_generate_refuses(generator, arguments, message):
    with pytest.raises(InputError, match=message):
        generator.generate(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ipc": 0}, "`ipc` must be an integer >= 1. Received: ipc=0"),
        ({"ipc": "10"}, "`ipc` must be an integer. Received: ipc='10'"),
        ({"ipc": 2**48}, "`ipc` must be at most"),
        ({"seed": -1}, "`seed` must be an integer >= 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
    ],
)
def test_as_dataset_refuses(generator, arguments, message):
    with pytest.raises(InputError, match=message):
        generator.as_dataset(**arguments)


def test_balanced_labels_refuses(generator):
    with pytest.raises(InputError, match="`ipc` must be an integer >= 1"):
        generator.balanced_labels(0)


def test_no_such_path(tmp_path):
    with pytest.raises(InputError, match="absent, which does not exist"):
        load_generator(tmp_path / "absent")


def test_path_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file, a file"):
        load_generator(tmp_path / "file")


def test_path_without_saved_model(tmp_path):
    with pytest.raises(InputError, match="which holds no SavedModel"):
        load_generator(tmp_path)


def test_path_one_level_too_high(tiny_saved_model):
    above = tiny_saved_model.parent.parent
    with pytest.raises(InputError, match=f"Did you mean {above}/tiny\\?"):
        load_generator(above)


def copied(tiny_saved_model, tmp_path):
    return shutil.copytree(tiny_saved_model, tmp_path / "1")


def test_metadata_without_saved_model(tiny_saved_model, tmp_path):
    copy = copied(tiny_saved_model, tmp_path)
    (copy / "saved_model.pb").unlink()
    with pytest.raises(InputError, match="but no saved_model.pb"):
        load_generator(copy)


def test_broken_saved_model(tiny_saved_model, tmp_path):
    copy = copied(tiny_saved_model, tmp_path)
    (copy / "saved_model.pb").write_bytes(b"\xff not a protobuf")
    with pytest.raises(InputError, match="must hold a SavedModel with"):
        load_generator(copy)


def test_lost_variables(tiny_saved_model, tmp_path):
    copy = copied(tiny_saved_model, tmp_path)
    shutil.rmtree(copy / "variables")
    with pytest.raises(InputError, match="must hold a SavedModel with"):
        load_generator(copy)


def test_broken_metadata(tiny_saved_model, tmp_path):
    copy = copied(tiny_saved_model, tmp_path)
    (copy / "metadata.json").write_text("{}")
    with pytest.raises(InputError, match="`class_names` must be a list"):
        load_generator(copy)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_classes": 4, "class_names": list("abcd")}, "num_classes"),
        ({"num_classes": 2, "class_names": list("ab")}, "num_classes"),
        ({"latent_dim": 7}, "latent_dim"),
        ({"image_shape": [6, 11, 3]}, "image_shape"),
    ],
)
def test_metadata_of_another_model(tiny_saved_model, tmp_path, changes, field):
    copy = copied(tiny_saved_model, tmp_path)
    metadata = json.loads((copy / "metadata.json").read_text())
    (copy / "metadata.json").write_text(json.dumps({**metadata, **changes}))
    with pytest.raises(
        InputError, match=f"metadata.json: `{field}` must be that of the Sav"
    ):
        load_generator(copy)


def test_another_saved_model(tiny_saved_model, tmp_path):
    copy = copied(tiny_saved_model, tmp_path)
    module = tf.Module()
    module.double = tf.function(
        lambda x: x * 2, input_signature=[tf.TensorSpec((), tf.float32)]
    )
    tf.saved_model.save(module, copy, signatures=module.double)
    with pytest.raises(InputError, match="takes first_index, labels, seed"):
        load_generator(copy)


@pytest.fixture(scope="module")
def soft_generator(soft_saved_model):
    return load_generator(soft_saved_model)


def test_soft_labels(soft_generator, tiny_classifier):
    assert soft_generator.has_soft_labels
    # More than one chunk.
    images = soft_generator.generate(soft_generator.balanced_labels(100))
    labels = soft_generator.soft_labels(images)
    assert labels.shape == (300, 3)
    assert labels.dtype == np.float32
    np.testing.assert_allclose(labels.sum(1), 1.0, rtol=1e-5)
    expected = tiny_classifier(images.astype("float32"))
    np.testing.assert_allclose(labels, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("ipc", [2, None])
def test_dataset_with_soft_labels(soft_generator, ipc):
    dataset = soft_generator.as_dataset(
        ipc=ipc, seed=4, batch_size=6, soft_labels=True
    )
    images, labels = next(iter(dataset))
    hard = soft_generator.balanced_labels(2)
    np.testing.assert_array_equal(images, soft_generator.generate(hard, seed=4))
    np.testing.assert_allclose(
        labels, soft_generator.soft_labels(images), rtol=1e-5, atol=1e-6
    )
    assert dataset.element_spec[1].shape == (None, 3)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 6, 10, 3), np.float32),
        np.zeros((2, 6, 10, 1), np.uint8),
        np.zeros((6, 10, 3), np.uint8),
    ],
)
def test_soft_labels_refuse_other_images(soft_generator, images):
    message = r"`images` must be uint8 \(n, 6, 10, 3\). Received: "
    with pytest.raises(InputError, match=message):
        soft_generator.soft_labels(images)


def test_no_soft_labels(generator):
    assert not generator.has_soft_labels
    message = "exported with them. Received: .*tiny/1. Distil with `--soft-lab"
    with pytest.raises(InputError, match=message):
        generator.soft_labels(generator.generate([0]))
    with pytest.raises(InputError, match=message):
        generator.as_dataset(ipc=1, soft_labels=True)
