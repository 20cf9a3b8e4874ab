import socket
import time

import numpy as np
import pytest

from gdd_keras.config import DataConfig
from gdd_keras.config import InputError
from gdd_keras.data import open_raw
from gdd_keras.data import tfds as tfds_source

COPY = """
import pathlib, shutil, sys
name, data_dir = sys.argv[1:]
shutil.copytree({source!r}, pathlib.Path(data_dir) / name)
"""


def images_of(count, height, width, labelled=True):
    for index in range(count):
        pixels = np.full((height + index % 2, width, 3), index, np.uint8)
        kind = index % 2 if labelled else -1
        yield index, {"picture": pixels, "kind": kind, "other": "text"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folder of small sets, written by TFDS itself: no network."""
    with tfds_source._quiet():
        import tensorflow_datasets as tfds

        folder = tmp_path_factory.mktemp("tfds")

        class GddTiny(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(
                        {
                            "picture": tfds.features.Image(),
                            "kind": tfds.features.ClassLabel(
                                names=["a", "b", "never"]
                            ),
                            "other": tfds.features.Text(),
                        }
                    ),
                )

            def _split_generators(self, dl_manager):
                return {
                    "train": images_of(10, 12, 9),
                    "test": images_of(3, 12, 9, labelled=False),
                    "validation": images_of(4, 12, 9),
                }

            def _generate_examples(self):
                raise NotImplementedError

        class GddNoLabel(GddTiny):
            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(
                        {
                            "picture": tfds.features.Image(),
                            "kind": np.int64,
                            "other": tfds.features.Text(),
                        }
                    ),
                )

        class GddNoTrain(GddTiny):
            def _split_generators(self, dl_manager):
                return {"everything": images_of(4, 12, 9)}

        for kind in (GddTiny, GddNoLabel, GddNoTrain):
            kind(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture
def closed_network(monkeypatch):
    def refuse(*_):
        raise OSError("it is closed")

    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def open_network(monkeypatch):
    monkeypatch.setattr(tfds_source, "_check_network", lambda *_: None)


def test_fashion_mnist(shared_dir, load, capfd):
    data_dir = shared_dir / "tensorflow_datasets"
    dataset = load("fashion_mnist", data_dir=str(data_dir))
    assert dataset.name == "fashion_mnist"
    assert dataset.image_shape == (32, 32, 1)
    assert dataset.class_names[0] == "T-shirt/top"
    assert dataset.class_names[9] == "Ankle boot"
    assert dataset.class_counts == {
        "train": (5400,) * 10,
        "validation": (600,) * 10,
        "test": (1000,) * 10,
    }
    border = dataset.train.images.copy()
    border[:, 2:30, 2:30] = 0
    assert not border.any()
    # Published mean and deviation of all 60,000, over 28x28, in [0, 1].
    inner = [
        split.images[:, 2:30, 2:30]
        for split in (dataset.train, dataset.validation)
    ]
    counts = sum(np.bincount(part.ravel(), minlength=256) for part in inner)
    levels = np.arange(256) / 255
    mean = (counts * levels).sum() / counts.sum()
    square = (counts * levels**2).sum() / counts.sum()
    assert mean == pytest.approx(0.2860, abs=5e-5)
    assert np.sqrt(square - mean**2) == pytest.approx(0.3530, abs=5e-5)
    assert capfd.readouterr() == ("", "")


def test_prepared_set_without_code(prepared, load):
    dataset = load("gdd_tiny", data_dir=str(prepared), image_size=(13, 9))
    assert dataset.image_shape == (13, 9, 3)
    # The class that no image has is dropped, and so is the unlabelled test.
    assert dataset.class_names == ("a", "b")
    assert dataset.class_counts == {
        "train": (4, 4),
        "validation": (1, 1),
        "test": (2, 2),
    }
    assert dataset.source.startswith("TFDS gdd_tiny/1.0.0 in ")
    for split in dataset.splits.values():
        np.testing.assert_array_equal(
            split.images[:, 6, 4, 0] % 2, split.labels
        )


def test_records_are_read_as_tfds_reads_them(prepared, load, monkeypatch):
    fast = load("gdd_tiny", data_dir=str(prepared), image_size=8)
    monkeypatch.setattr(
        tfds_source, "_batches_of_records", tfds_batches_of_examples
    )
    slow = load("gdd_tiny", data_dir=str(prepared), image_size=8)
    assert fast.fingerprint == slow.fingerprint


def tfds_batches_of_examples(tf, *arguments):
    import tensorflow_datasets as tfds

    return tfds_source._batches_of_examples(tfds, *arguments)


def test_environment_names_the_folder(prepared, load, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert load("gdd_tiny:1.0.0", image_size=8).name == "gdd_tiny"


def test_folder_of_a_version_is_read_as_the_name_is(prepared, load):
    by_name = load("gdd_tiny", data_dir=str(prepared), image_size=8)
    by_path = load(prepared / "gdd_tiny" / "1.0.0", image_size=8)
    assert by_path.fingerprint == by_name.fingerprint
    assert by_path.name == by_name.name
    assert by_path.class_counts == by_name.class_counts


def test_folder_takes_the_preparation_of_its_data(shared_dir, load):
    (folder,) = (shared_dir / "tensorflow_datasets" / "mnist").iterdir()
    dataset = load(folder)
    assert dataset.name == "mnist"
    assert dataset.image_shape == (32, 32, 1)
    assert dataset.augmentation == "crop"


def test_folder_that_changed_is_other_data(prepared, tmp_path):
    import os
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(prepared / "gdd_tiny" / "1.0.0", folder)
    before = tfds_source.open_tfds_folder(folder)
    assert before.tfds_directory == str(folder)
    (record,) = folder.glob("*train*")
    os.utime(record, (1, 1))
    after = tfds_source.open_tfds_folder(folder)
    assert before.identity != after.identity


def test_set_that_was_prepared_again_is_other_data(prepared, tmp_path):
    import os
    import shutil

    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    config = DataConfig(dataset="gdd_tiny", data_dir=str(tmp_path))
    before = open_raw(config)
    assert open_raw(config).identity == before.identity
    (record,) = tmp_path.glob("gdd_tiny/1.0.0/*train*")
    os.utime(record, (1, 1))
    assert open_raw(config).identity != before.identity


def test_damaged_folder_is_explained(prepared, load, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(prepared / "gdd_tiny" / "1.0.0", folder)
    (folder / "features.json").write_text("{")
    with pytest.raises(InputError, match="'copy' must be complete"):
        load(folder, image_size=8)


def test_images_of_different_sizes_need_a_size(prepared, load):
    with pytest.raises(InputError, match="`image_size` must be given"):
        load("gdd_tiny", data_dir=str(prepared))


def test_set_without_class_label_is_explained(prepared, load):
    with pytest.raises(InputError, match=r"one class label.*kind \(Tensor\)"):
        load("gdd_no_label", data_dir=str(prepared))
    with pytest.raises(InputError, match=r"one class label.*'coco'"):
        load("coco", data_dir=str(prepared))


def test_set_without_training_split_is_explained(prepared, load):
    with pytest.raises(
        InputError, match="must have a split `train`.*everything"
    ):
        load("gdd_no_train", data_dir=str(prepared))


def test_damaged_data_is_explained(prepared, load, tmp_path):
    import shutil

    shutil.copytree(prepared / "gdd_tiny", tmp_path / "gdd_tiny")
    (record,) = tmp_path.glob("gdd_tiny/1.0.0/*train*")
    record.write_bytes(record.read_bytes()[:-20])
    with pytest.raises(InputError, match="must be complete.*prepare it again"):
        load("gdd_tiny", data_dir=str(tmp_path), image_size=8)


@pytest.mark.parametrize("name", ["fashion_mnst", "fashion-mnist", "a b"])
def test_unknown_name_is_explained(load, tmp_path, name):
    with pytest.raises(InputError, match="unknown data set.*no such path") as e:
        load(name, data_dir=str(tmp_path))
    assert ("Did you mean fashion_mnist" in str(e.value)) == (name != "a b")


def test_unknown_config_is_explained(load, tmp_path):
    with pytest.raises(InputError, match="'mnist/3d': BuilderConfig 3d not"):
        load("mnist/3d", data_dir=str(tmp_path))


def test_closed_network_is_explained(load, tmp_path, closed_network, capfd):
    with pytest.raises(
        InputError, match="missing data and closed network"
    ) as e:
        load("cifar10", data_dir=str(tmp_path))
    assert str(tmp_path) in str(e.value)
    assert "it is closed" in str(e.value)
    assert "--data-dir" in str(e.value)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_silent_network_does_not_hang(load, tmp_path, monkeypatch):
    def hang(*_):
        time.sleep(0.3)
        raise OSError("too late")

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(tfds_source, "_PROBE_SECONDS", 0.05)
    with pytest.raises(InputError, match=r"closed network.*no answer"):
        load("cifar10", data_dir=str(tmp_path))


def test_proxy_is_probed_instead(load, tmp_path, monkeypatch):
    asked = []

    def connect(address, _):
        asked.append(address)
        raise OSError("refused")

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setenv("https_proxy", "http://proxy.example:8080")
    with pytest.raises(InputError, match="proxy.example"):
        load("cifar10", data_dir=str(tmp_path))
    assert asked == [("proxy.example", 8080)]


def test_slow_download_is_stopped(load, tmp_path, monkeypatch, open_network):
    monkeypatch.setattr(tfds_source, "_DOWNLOAD", "import time; time.sleep(60)")
    with pytest.raises(InputError, match=r"must end within `download_timeout`"):
        load("cifar10", data_dir=str(tmp_path), download_timeout=0.2)


def test_failed_download_is_explained(
    load, tmp_path, monkeypatch, open_network
):
    monkeypatch.setattr(
        tfds_source, "_DOWNLOAD", "print('NoSpace: full.'); raise SystemExit(1)"
    )
    with pytest.raises(InputError, match="downloadable.*NoSpace: full"):
        load("cifar10", data_dir=str(tmp_path))
    monkeypatch.setattr(tfds_source, "_DOWNLOAD", "pass")
    with pytest.raises(InputError, match="none in .* after its download"):
        load("cifar10", data_dir=str(tmp_path))


def test_download_is_used(prepared, load, tmp_path, monkeypatch, open_network):
    monkeypatch.setattr(
        tfds_source, "_DOWNLOAD", COPY.format(source=str(prepared / "gdd_tiny"))
    )
    dataset = load("gdd_tiny", data_dir=str(tmp_path / "new"), image_size=8)
    assert dataset.num_classes == 2
