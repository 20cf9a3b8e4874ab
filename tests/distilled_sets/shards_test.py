import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from gdd_keras.config import InputError
from gdd_keras.distilled_sets import shards
from gdd_keras.distilled_sets.shards import image_chunks
from gdd_keras.distilled_sets.shards import make_plan
from gdd_keras.distilled_sets.shards import write_shard
from gdd_keras.generator_api import load_generator


@pytest.fixture(scope="module")
def generator(tiny_saved_model):
    return load_generator(tiny_saved_model)


def examples(path):
    return [
        tf.train.Example.FromString(record.numpy()).features.feature
        for record in tf.data.TFRecordDataset(str(path))
    ]


@pytest.mark.parametrize(
    ("num_images", "num_shards", "sizes"),
    [
        (21, 1, [21]),
        (21, 3, [7, 7, 7]),
        (21, 4, [5, 5, 5, 6]),
        (3, 3, [1, 1, 1]),
        (10_000, None, [10_000]),
        (10_001, None, [5_000, 5_001]),
    ],
)
def test_plan_covers_every_image_once(num_images, num_shards, sizes):
    plan = make_plan("tfds", num_images, num_shards=num_shards)
    numbers = [plan.numbers(shard) for shard in range(plan.num_shards)]
    assert [len(part) for part in numbers] == sizes
    assert [n for part in numbers for n in part] == list(range(num_images))


@pytest.mark.parametrize(
    ("set_format", "names"),
    [
        (
            "tfds",
            [
                "distilled-train.tfrecord-00000-of-00002",
                "distilled-train.tfrecord-00001-of-00002",
            ],
        ),
        (
            "tfrecord",
            [
                "distilled-00000-of-00002.tfrecord",
                "distilled-00001-of-00002.tfrecord",
            ],
        ),
    ],
)
def test_names(set_format, names):
    assert make_plan(set_format, 9, num_shards=2).names == names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tfds", 5, 0, 0), r"from 1 to the number of images \(5\).* 0 shards"),
        (("tfds", 5, 0, 6), "Received: 6 shards"),
        (("png", 5, 0, 1), "one of tfrecord, tfds to have shards"),
    ],
)
def test_bad_plan(arguments, message):
    with pytest.raises(InputError, match=message):
        make_plan(*arguments)


def test_chunks_are_the_generator_in_aligned_pieces(generator, monkeypatch):
    monkeypatch.setattr(shards, "_CHUNK_SIZE", 8)
    chunks = list(image_chunks(generator, range(5, 21), seed=3))
    assert [len(labels) for _, labels in chunks] == [3, 8, 5]
    images, labels = map(np.concatenate, zip(*chunks, strict=True))
    np.testing.assert_array_equal(labels, np.arange(5, 21) % 3)
    np.testing.assert_array_equal(
        images, generator.generate(labels, seed=3, first_index=5)
    )


def test_images_do_not_depend_on_the_shards(generator, tmp_path):
    images = generator.generate(np.arange(12) % 3, seed=1)
    for num_shards in (1, 5):
        plan = make_plan("tfrecord", 12, 1, num_shards)
        rows = []
        for shard in range(num_shards):
            write_shard(generator, plan, shard, tmp_path / "shard")
            rows += examples(tmp_path / "shard")
        for image, row in zip(images, rows, strict=True):
            (content,) = row["image"].bytes_list.value
            np.testing.assert_array_equal(tf.io.decode_png(content), image)


def test_progress(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "_CHUNK_SIZE", 8)
    seen = []
    plan = make_plan("tfds", 21, num_shards=2)
    write_shard(generator, plan, 0, tmp_path / "shard", seen.append)
    assert seen == [8, 2]


def test_full_disk(generator):
    with pytest.raises(OSError, match="No space left"):
        write_shard(generator, make_plan("tfds", 9), 0, "/dev/full")


MEMORY = """
import json, pathlib, resource, sys
from gdd_keras.distilled_sets import shards
from gdd_keras.distilled_sets import write_distilled_set
from gdd_keras.generator_api import load_generator

model, folder = map(pathlib.Path, sys.argv[1:])
shards._CHUNK_SIZE = 64
generator = load_generator(model)
# The second time all is there that the first one needs once.
write_distilled_set(generator, folder / "small", 100, "tfds", num_shards=2)
status = pathlib.Path("/proc/self/status").read_text()
used = int(status.partition("VmData:")[2].split()[0]) * 1024
headroom = 24 * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (used + headroom, -1))
written = write_distilled_set(
    generator, folder / "big", 4_000, "tfds", num_shards=2
)
try:
    write_distilled_set(generator, folder / "npz", 4_000, "npz")
except MemoryError:
    print(json.dumps([written.num_images, headroom]))
"""


def test_memory_does_not_grow_with_the_images(tmp_path):
    import keras

    from gdd_keras.export import export_generator

    latents = keras.Input((4,))
    one_hot_labels = keras.Input((2,))
    x = keras.layers.Concatenate()([latents, one_hot_labels])
    x = keras.layers.Dense(4 * 4 * 3, activation="tanh")(x)
    x = keras.layers.Reshape((4, 4, 3))(x)
    images = keras.layers.UpSampling2D(16)(x)
    model = export_generator(
        keras.Model([latents, one_hot_labels], images),
        tmp_path / "model",
        {"class_names": ["a", "b"]},
    )
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(model), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    num_images, headroom = json.loads(done.stdout.splitlines()[-1])
    assert num_images * 64 * 64 * 3 > 3 * headroom
