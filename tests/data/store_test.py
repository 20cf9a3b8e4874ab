import numpy as np
import pytest

from gdd_keras.config import InputError
from gdd_keras.data import ImageRows
from gdd_keras.data import evaluation_batches
from gdd_keras.data import store
from gdd_keras.data import training_batches


def with_test(make_npz, **arrays):
    return make_npz(
        counts=(9, 5),
        test_images=np.full((3, 8, 9, 3), 4, np.uint8),
        test_labels=np.array([1, 0, 1]),
        **arrays,
    )


def test_disk_equals_memory(make_npz, load, tmp_path):
    path = with_test(make_npz)
    cache = tmp_path / "cache"
    memory = load(path, seed=5)
    disk = load(path, seed=5, memory_limit_mb=0, cache_dir=str(cache))
    assert memory.describe() == disk.describe()
    assert isinstance(memory.train.images, np.ndarray)
    assert isinstance(disk.train.images, ImageRows)
    assert isinstance(disk.test.images, np.memmap)
    for name, split in memory.splits.items():
        other = disk.splits[name]
        np.testing.assert_array_equal(split.images, np.asarray(other.images))
        np.testing.assert_array_equal(split.labels, other.labels)
    for batches in (
        lambda split: training_batches(split, 4, 0, extra_batches=2).take(3),
        lambda split: evaluation_batches(split, 4),
    ):
        pairs = zip(
            batches(memory.train).as_numpy_iterator(),
            batches(disk.train).as_numpy_iterator(),
            strict=True,
        )
        for expected, batch in pairs:
            if isinstance(batch, dict):
                expected, batch = expected.values(), batch.values()
            for left, right in zip(expected, batch, strict=True):
                np.testing.assert_array_equal(left, right)


def test_cache_is_written_once_for_all_seeds(
    make_npz, load, tmp_path, monkeypatch
):
    path = with_test(make_npz)
    settings = {"memory_limit_mb": 0, "cache_dir": str(tmp_path / "cache")}
    first = load(path, **settings)

    def fail(*_):
        raise AssertionError("written again")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_write_cache", fail)
        again = load(path, seed=1, **settings)
        assert again.fingerprint == first.fingerprint
        with pytest.raises(AssertionError, match="written again"):
            load(path, image_size=16, **settings)
    (folder,) = (tmp_path / "cache").iterdir()
    assert folder.name.startswith("toy-8x9-")


def test_changed_data_gets_another_cache(make_npz, load, tmp_path):
    settings = {"memory_limit_mb": 0, "cache_dir": str(tmp_path / "cache")}
    first = load(make_npz(counts=(9, 5)), **settings)
    second = load(make_npz(counts=(9, 6)), **settings)
    assert first.fingerprint != second.fingerprint
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_failed_reading_leaves_no_cache(make_npz, load, tmp_path):
    path = make_npz(images=np.full((10, 8, 8), 1.5))
    cache = tmp_path / "cache"
    with pytest.raises(InputError, match=r"must lie in \[0, 1\]"):
        load(path, memory_limit_mb=0, cache_dir=str(cache))
    assert not list(cache.iterdir())


def test_incomplete_cache_is_explained(make_npz, load, tmp_path):
    settings = {"memory_limit_mb": 0, "cache_dir": str(tmp_path / "cache")}
    path = make_npz()
    load(path, **settings)
    next(tmp_path.glob("cache/*/train_labels.npy")).unlink()
    with pytest.raises(InputError, match="cache must be complete.*Remove"):
        load(path, **settings)


def test_unwritable_cache_is_explained(make_npz, load, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be writable.*--cache-dir"):
        load(
            make_npz(),
            memory_limit_mb=0,
            cache_dir=str(tmp_path / "file" / "cache"),
        )


def test_fingerprint_depends_on_data_alone(make_npz, load, tmp_path):
    base = load(make_npz()).fingerprint
    assert len(base) == 16
    assert load(make_npz(name="elsewhere"), seed=9).fingerprint == base
    held_out = [load(make_npz(), seed=seed).held_out for seed in (0, 0, 9)]
    assert held_out[0] == held_out[1] != held_out[2]
    images = np.load(make_npz())["images"]
    images[3, 2, 1, 0] ^= 1
    labels = np.repeat([0, 1], [5, 5])
    names = np.array(["0", "one"])
    changed = [
        load(make_npz(images=images)).fingerprint,
        load(make_npz(labels=labels)).fingerprint,
        load(make_npz(class_names=names)).fingerprint,
        load(make_npz(counts=(6, 5))).fingerprint,
    ]
    assert len({base, *changed}) == 5
