import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import DataConfig
from gdd_keras.data import load_dataset
from pipelines.examples import write_examples


def records_in(folder):
    files = sorted(str(path) for path in folder.iterdir())
    return sum(1 for _ in tf.data.TFRecordDataset(files))


def test_records_of_tfds_are_linked(shared_dir, tmp_path):
    data_dir = (shared_dir / "tensorflow_datasets").resolve()
    config = DataConfig(dataset="fashion_mnist", data_dir=str(data_dir))
    assert write_examples(config, tmp_path) == ["train", "test"]
    records = [p for p in tmp_path.iterdir() if "tfrecord" in p.name]
    assert records
    for record in records:
        assert record.is_symlink()
        assert data_dir in record.resolve().parents
    assert records_in(tmp_path / "Split-test") == 10_000
    by_name = load_dataset(config, seed=0)
    by_artifact = load_dataset(DataConfig(dataset=str(tmp_path)), seed=0)
    assert by_artifact.fingerprint == by_name.fingerprint
    assert by_artifact.name == by_name.name
    assert by_artifact.image_shape == by_name.image_shape
    assert by_artifact.augmentation == by_name.augmentation


@pytest.mark.parametrize("kind", ["digits", "folder", "npz"])
def test_other_data_is_written_as_it_trains(kind, shared_dir, tmp_path):
    source = "digits"
    if kind == "folder":
        source = shared_dir / "image_folders" / "cifar10_subset"
    if kind == "npz":
        source = tmp_path / "toy.npz"
        rng = np.random.default_rng(0)
        np.savez(
            source,
            images=rng.integers(0, 256, (12, 9, 8, 3), np.uint8),
            labels=np.arange(12) % 3,
        )
    config = DataConfig(dataset=str(source), image_size=(10, 9))
    folder = tmp_path / "examples"
    splits = write_examples(config, folder)
    direct = load_dataset(config, seed=3)
    again = load_dataset(
        DataConfig(dataset=str(folder), image_size=(10, 9)), seed=3
    )
    assert set(splits) == {"train"} | ({"test"} if kind == "folder" else set())
    assert again.fingerprint == direct.fingerprint
    assert again.name == direct.name
    assert again.class_names == direct.class_names
    np.testing.assert_array_equal(
        again.validation.labels, direct.validation.labels
    )
    assert (again.test is None) == (direct.test is None)
    written = sum(records_in(folder / f"Split-{name}") for name in splits)
    assert written == sum(len(split) for split in direct.splits.values())
