import json
import types

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import InputError
from gdd_keras.distilled_sets import shards
from gdd_keras.distilled_sets import writing
from gdd_keras.distilled_sets.formats import FORMATS
from gdd_keras.distilled_sets.writing import write_distilled_set
from gdd_keras.generator_api import load_generator
from gdd_keras.quiet import quiet_warnings

IPC = 7


@pytest.fixture(scope="module")
def generator(tiny_saved_model):
    return load_generator(tiny_saved_model)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several chunks and shards, as in a large set."""
    monkeypatch.setattr(shards, "_CHUNK_SIZE", 8)
    monkeypatch.setattr(shards, "_IMAGES_PER_SHARD", 9)


def sorted_rows(images, labels):
    """Returns an order-free view of a set."""
    return sorted(
        (int(label), image.tobytes())
        for image, label in zip(images, labels, strict=True)
    )


def read_npz(path):
    with np.load(path / "distilled.npz", allow_pickle=False) as arrays:
        assert arrays["images"].dtype == np.uint8
        assert arrays["class_names"].tolist() == ["cat", "dog/wolf", "bird"]
        return arrays["images"], arrays["labels"]


def read_png(path):
    import tensorflow_datasets as tfds

    builder = tfds.ImageFolder(str(path))
    names = builder.info.features["label"].names
    assert names == ["0_cat", "1_dog_wolf", "2_bird"]
    dataset = builder.as_dataset(split="train", shuffle_files=False)
    return _stacked((e["image"], e["label"]) for e in tfds.as_numpy(dataset))


def read_tfds(path):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(path))
    names = builder.info.features["label"].names
    assert names == ["cat", "dog/wolf", "bird"]
    assert builder.info.features["image"].shape == (6, 10, 3)
    assert builder.info.splits["train"].num_examples == 3 * IPC
    assert builder.info.splits["train"].num_shards == 3
    dataset = builder.as_dataset(split="train", as_supervised=True)
    return _stacked(tfds.as_numpy(dataset))


def read_tfrecord(path):
    found = sorted(path.glob("*.tfrecord"))
    assert [shard.name for shard in found] == [
        f"distilled-{shard:05d}-of-00003.tfrecord" for shard in range(3)
    ]
    integer = tf.io.FixedLenFeature((), tf.int64)
    features = {
        "image": tf.io.FixedLenFeature((), tf.string),
        "label": integer,
        "height": integer,
        "width": integer,
        "channels": integer,
    }
    rows = []
    for record in tf.data.TFRecordDataset([str(shard) for shard in found]):
        row = tf.io.parse_single_example(record, features)
        image = tf.io.decode_png(row["image"]).numpy()
        shape = tuple(int(row[k]) for k in ("height", "width", "channels"))
        assert image.shape == shape
        rows.append((image, int(row["label"])))
    return _stacked(rows)


def _stacked(rows):
    images, labels = zip(*rows, strict=True)
    return np.stack(images), np.stack(labels)


READERS = {
    "npz": read_npz,
    "png": read_png,
    "tfrecord": read_tfrecord,
    "tfds": read_tfds,
}


@pytest.mark.parametrize("set_format", FORMATS)
def test_format_opens_again(generator, tmp_path, set_format):
    target = tmp_path / "deep" / "set"
    written = write_distilled_set(generator, target, IPC, set_format, seed=3)
    labels = generator.balanced_labels(IPC)
    images = generator.generate(labels, seed=3)
    with quiet_warnings():
        read_images, read_labels = READERS[set_format](target)
    if set_format != "png":  # tfds.ImageFolder shuffles.
        np.testing.assert_array_equal(read_images, images)
        np.testing.assert_array_equal(read_labels, labels)
    assert sorted_rows(read_images, read_labels) == sorted_rows(images, labels)
    np.testing.assert_array_equal(np.bincount(read_labels), [IPC] * 3)
    assert written.path == target
    assert (written.num_images, written.ipc) == (3 * IPC, IPC)
    assert written.num_bytes == sum(
        path.stat().st_size for path in target.rglob("*") if path.is_file()
    )
    assert str(target) in written.snippet
    description = json.loads((target / "distilled_set.json").read_text())
    assert description["class_names"] == ["cat", "dog/wolf", "bird"]
    assert description["seed"] == 3
    assert description["fingerprint"] == "abc"
    assert description["soft_labels"] is False
    assert description["selection"] == "random"
    assert [path.name for path in target.parent.iterdir()] == ["set"]


@pytest.mark.parametrize("set_format", FORMATS)
def test_snippet_runs(generator, tmp_path, set_format):
    import glob

    import tensorflow_datasets as tfds

    written = write_distilled_set(generator, tmp_path / "set", 1, set_format)
    names = {"numpy": np, "tfds": tfds, "tf": tf, "glob": glob}
    with quiet_warnings():
        opened = eval(written.snippet, names)
        assert len(list(opened)) == 3


def test_png_files_are_named_by_image_number(generator, tmp_path):
    write_distilled_set(generator, tmp_path / "set", 2, "png")
    found = sorted(
        str(path.relative_to(tmp_path / "set"))
        for path in tmp_path.rglob("*.png")
    )
    assert found == [
        "train/0_cat/00000.png",
        "train/0_cat/00003.png",
        "train/1_dog_wolf/00001.png",
        "train/1_dog_wolf/00004.png",
        "train/2_bird/00002.png",
        "train/2_bird/00005.png",
    ]


@pytest.mark.parametrize(
    ("class_names", "folders"),
    [
        (["bird", "cat", "dog"], ["bird", "cat", "dog"]),
        ([str(i) for i in range(10)], [str(i) for i in range(10)]),
        (["a b", "c:d"], ["a_b", "c_d"]),
        (["b", "a"], ["0_b", "1_a"]),
        (["a/b", "a:b"], ["0_a_b", "1_a_b"]),
        (["A", "a"], ["0_A", "1_a"]),
        (["..", "a"], ["0", "1_a"]),
        (["Käse", "Zoë"], ["Käse", "Zoë"]),
        (["x" * 300], ["x" * 60]),
    ],
)
def test_folder_names(class_names, folders):
    assert writing._folder_names(class_names) == folders


def test_folder_names_of_many_classes_sort_in_label_order():
    names = writing._folder_names([str(i) for i in range(100)])
    assert names == sorted(names)
    assert names[7] == "07_7"


def test_progress_reaches_the_end(generator, tmp_path):
    seen = []
    write_distilled_set(
        generator,
        tmp_path / "set",
        IPC,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(8, 21), (16, 21), (21, 21)]


def test_empty_directory_is_used(generator, tmp_path):
    write_distilled_set(generator, tmp_path, 1)
    assert (tmp_path / "distilled.npz").exists()


@pytest.mark.parametrize("set_format", FORMATS)
def test_full_directory_is_refused(generator, tmp_path, set_format):
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="must be new or empty"):
        write_distilled_set(generator, tmp_path, 1, set_format)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("set_format", FORMATS)
def test_failure_leaves_nothing(generator, tmp_path, set_format):
    def fail(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_distilled_set(
            generator, tmp_path / "set", IPC, set_format, progress=fail
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ipc": 0}, "`ipc` must be an integer >= 1"),
        ({"ipc": None}, "`ipc` must be an integer"),
        ({"ipc": 1, "seed": -1}, "`seed` must be an integer >= 0"),
        (
            {"ipc": 1, "set_format": "zip"},
            "`set_format` must be one of npz, png, tfrecord, tfds",
        ),
    ],
)
def test_bad_arguments(generator, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        write_distilled_set(generator, tmp_path / "set", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("set_format", ["png", "tfrecord", "tfds"])
def test_two_channels_are_no_png(tmp_path, set_format):
    generator = types.SimpleNamespace(image_shape=(8, 8, 2))
    with pytest.raises(InputError, match="of 2 channels. Write `npz`"):
        write_distilled_set(generator, tmp_path / "set", 1, set_format)


def test_npz_with_soft_labels(soft_saved_model, tmp_path):
    generator = load_generator(soft_saved_model)
    written = write_distilled_set(
        generator, tmp_path / "set", IPC, soft_labels=True
    )
    images, labels = read_npz(written.path)
    with np.load(written.path / "distilled.npz") as arrays:
        soft_labels = arrays["soft_labels"]
    np.testing.assert_array_equal(labels, generator.balanced_labels(IPC))
    np.testing.assert_array_equal(soft_labels, generator.soft_labels(images))
    description = json.loads((written.path / "distilled_set.json").read_text())
    assert description["soft_labels"] is True


def test_without_being_asked_there_are_no_soft_labels(
    soft_saved_model, tmp_path
):
    written = write_distilled_set(
        load_generator(soft_saved_model), tmp_path / "set", IPC
    )
    with np.load(written.path / "distilled.npz") as arrays:
        assert set(arrays) == {"images", "labels", "class_names"}


@pytest.mark.parametrize("set_format", ["png", "tfrecord", "tfds"])
def test_soft_labels_need_npz(soft_saved_model, tmp_path, set_format):
    generator = load_generator(soft_saved_model)
    message = f"`npz` alone. Received: format={set_format}. Choose `npz`"
    with pytest.raises(InputError, match=message):
        write_distilled_set(
            generator, tmp_path / "set", IPC, set_format, soft_labels=True
        )
    assert not (tmp_path / "set").exists()


def test_soft_labels_of_a_generator_without(generator, tmp_path):
    message = "exported with them. Received: .* from_latents. Distil with"
    with pytest.raises(InputError, match=message):
        write_distilled_set(generator, tmp_path / "set", 1, soft_labels=True)
    assert not (tmp_path / "set").exists()
