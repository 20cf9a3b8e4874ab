import pytest

from gdd_keras.config import RunError
from gdd_keras.distilled_sets.partial import PartialSet
from gdd_keras.distilled_sets.sharded import ShardedSet
from gdd_keras.distilled_sets.sharded import write_stored_shard
from gdd_keras.generator_api import load_generator


@pytest.fixture(scope="module")
def generator(tiny_saved_model):
    return load_generator(tiny_saved_model)


def sharded_set(generator, directory, **changes):
    options = {"ipc": 7, "set_format": "tfds", "seed": 1, "num_shards": 4}
    return ShardedSet(
        generator.path,
        generator.metadata,
        lambda identity: PartialSet(directory, identity),
        **{**options, **changes},
    )


def test_only_what_is_missing_is_written(generator, tmp_path):
    with sharded_set(generator, tmp_path / "set") as made:
        assert made.missing() == [0, 1, 2, 3]
        write_stored_shard(generator, made.plan, made.storage, 2)
    seen = []
    with sharded_set(generator, tmp_path / "set") as made:
        assert made.missing() == [0, 1, 3]
        assert made.num_complete() == 5
        made.write_missing(generator, lambda *counts: seen.append(counts))
        written = made.finish()
    assert seen == [(10, 21), (15, 21), (21, 21)]
    assert (written.num_images, written.ipc) == (21, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(
    "changes",
    [{"seed": 2}, {"ipc": 8}, {"num_shards": 5}, {"set_format": "tfrecord"}],
)
def test_shards_of_another_set_are_not_used(generator, tmp_path, changes):
    with sharded_set(generator, tmp_path / "set") as made:
        write_stored_shard(generator, made.plan, made.storage, 0)
    with sharded_set(generator, tmp_path / "set", **changes) as made:
        assert made.num_complete() == 0
    assert list(tmp_path.iterdir()) == []


def test_another_model_starts_over(generator, tmp_path):
    for digest in ("one", "other"):
        with sharded_set(generator, tmp_path / "set", digest=digest) as made:
            assert made.num_complete() == 0
            write_stored_shard(generator, made.plan, made.storage, 0)


def test_incomplete_set_is_not_finished(generator, tmp_path):
    with sharded_set(generator, tmp_path / "set") as made:
        write_stored_shard(generator, made.plan, made.storage, 0)
        with pytest.raises(RunError, match="3 of 4 shards are missing"):
            made.finish()
    assert not (tmp_path / "set").exists()
