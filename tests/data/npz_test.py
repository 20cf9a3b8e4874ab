import io
import zipfile

import numpy as np
import pytest

from gdd_keras.config import InputError
from gdd_keras.data import npz

NOISE = np.random.default_rng(0).integers(0, 256, (10, 8, 9), np.uint8)


def all_pixels(dataset):
    parts = [dataset.train, dataset.validation]
    images = np.concatenate([part.images for part in parts])
    return np.sort(images.reshape(len(images), -1), axis=0)


def test_bytes_and_floats_agree(make_npz, load, monkeypatch):
    expected = load(make_npz(images=NOISE))
    assert expected.image_shape == (8, 9, 1)
    assert expected.fingerprint
    monkeypatch.setattr(npz, "CHUNK_BYTES", 700)
    variants = [
        NOISE[..., None],
        np.asfortranarray(NOISE),
        NOISE / 255,
        (NOISE / 255).astype(">f4"),
    ]
    for images in variants:
        dataset = load(make_npz(images=images))
        assert dataset.fingerprint == expected.fingerprint
        np.testing.assert_array_equal(
            dataset.train.images, expected.train.images
        )
    np.testing.assert_array_equal(
        all_pixels(expected), np.sort(NOISE.reshape(10, -1), axis=0)
    )


@pytest.mark.parametrize(
    ("labels", "class_names", "expected"),
    [
        ([5, 5, 5, -1, -1], None, ("-1", "5")),
        (["dog", "dog", "cat", "cat", "cat"], None, ("cat", "dog")),
        ([b"b", b"b", b"a", b"a", b"a"], None, ("a", "b")),
        ([0, 0, 1, 1, 1], ["x", "y"], ("x", "y")),
        ([7, 7, 9, 9, 9], ["x", "y"], ("x", "y")),
        ([0, 0, 2, 2, 2], ["x", "unused", "z"], ("x", "z")),
        (["b", "b", "a", "a", "a"], ["b", "a"], ("b", "a")),
    ],
)
def test_classes(make_npz, load, labels, class_names, expected):
    labels = np.array(labels)
    images = np.repeat(np.unique(labels, return_inverse=True)[1], 64)
    path = make_npz(
        images=images.reshape(-1, 8, 8).astype(np.uint8),
        labels=labels,
        class_names=None if class_names is None else np.array(class_names),
    )
    dataset = load(path)
    assert dataset.class_names == expected
    # Pixels tell the rank of the label, class names its place.
    values = [v.decode() if isinstance(v, bytes) else v for v in labels]
    ranked = sorted(set(values))
    for split in (dataset.train, dataset.validation):
        for pixel, label in zip(
            split.images[:, 0, 0, 0], split.labels, strict=True
        ):
            value = str(ranked[pixel])
            names = (
                dict(zip(map(str, ranked), expected, strict=True))
                if values[0] not in expected
                else {v: v for v in expected}
            )
            assert dataset.class_names[label] == names[value]
    assert dataset.train.labels.dtype == np.int32


def test_test_part(make_npz, load):
    path = make_npz(
        test_images=np.full((3, 8, 9, 3), 4, np.uint8),
        test_labels=np.array([1, 0, 1]),
    )
    dataset = load(path)
    assert dataset.test.labels.tolist() == [1, 0, 1]
    assert (dataset.test.images == 4).all()


def objects():
    array = np.empty(10, object)
    array[:] = "cat"
    return array


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"labels": None},
            r"must hold `images` and `labels`.*`labels` is miss",
        ),
        ({"images": None}, r"`images` is missing"),
        ({"test_images": NOISE}, r"`test_labels` is missing"),
        (
            {"images": NOISE.astype(np.int64)},
            r"must be uint8, or floats.*dtype int64",
        ),
        ({"images": NOISE / 254.0}, r"must lie in \[0, 1\]"),
        ({"images": NOISE * np.nan}, r"hold no NaN"),
        ({"images": NOISE[:4]}, r"equal lengths.*4 and 10"),
        ({"images": NOISE[:, 0]}, r"must have the shape \(n, height, width\)"),
        (
            {"images": np.zeros((10, 8, 8, 4), np.uint8)},
            r"width, 1 or 3\).*\(10, 8, 8, 4\)",
        ),
        ({"images": NOISE[:0], "labels": np.zeros(0, int)}, r"shape \(n, heig"),
        ({"images": NOISE[:, :7]}, r"8 to 1024 pixels.*7x9"),
        ({"labels": np.eye(10)}, r"integers or strings of shape.*\(10, 10\)"),
        ({"labels": np.zeros(10)}, r"dtype float64"),
        ({"labels": np.zeros(10, int)}, r"two or more classes.*only '0'"),
        ({"labels": objects()}, r"`labels` must be a plain array.*pickle"),
        ({"class_names": np.array(["a"])}, r"one name of its own.*1 names"),
        ({"class_names": np.array(["a", "a"])}, r"one name of its own"),
        ({"class_names": np.array([1, 2])}, r"`class_names` must be strings"),
        (
            {
                "test_images": np.zeros((1, 8, 9, 3), np.uint8),
                "test_labels": np.array([7]),
            },
            r"must also occur in training.*7.*`test_labels`",
        ),
        (
            {
                "test_images": np.zeros((1, 8, 8, 3), np.uint8),
                "test_labels": np.array([0]),
            },
            r"same image shape",
        ),
        (
            {
                "class_names": np.array(["a", "b", "c"]),
                "test_images": np.zeros((1, 8, 9, 3), np.uint8),
                "test_labels": np.array([2]),
            },
            r"must also occur in training.*'c' in split `test`",
        ),
    ],
)
def test_bad_arrays_are_explained(make_npz, load, arrays, message):
    with pytest.raises(InputError, match=message):
        load(make_npz(**arrays))


def test_labels_may_be_a_column(make_npz, load):
    """As Keras loads CIFAR-10."""
    labels = np.arange(10) % 2
    one = load(make_npz(labels=labels))
    other = load(make_npz(labels=labels[:, None]))
    np.testing.assert_array_equal(one.train.labels, other.train.labels)


def test_damaged_archives_are_explained(tmp_path, make_npz, load):
    bad = tmp_path / "bad.npz"
    bad.write_bytes(b"no archive")
    with pytest.raises(InputError, match="must be a readable archive"):
        load(bad)
    content = bytearray(make_npz().read_bytes())
    content[500] ^= 255  # a pixel; the checksum tells
    bad.write_bytes(content)
    with pytest.raises(InputError, match="readable archive.*CRC"):
        load(bad)


def test_an_array_shorter_than_it_claims_is_explained(tmp_path, load):
    claimed = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        claimed,
        {"descr": "|u1", "fortran_order": False, "shape": (10, 8, 8)},
    )
    labels = io.BytesIO()
    np.save(labels, np.arange(10) % 2)
    path = tmp_path / "short.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", claimed.getvalue() + bytes(100))
        archive.writestr("labels.npy", labels.getvalue())
    message = r"`images` must have as many.*640 bytes, with 100 bytes"
    with pytest.raises(InputError, match=message):
        load(path)


@pytest.mark.parametrize("key", ["images", "labels"])
@pytest.mark.parametrize("shape", [(2**62,), (2**40, 8, 8), (-1, 8, 8)])
def test_claimed_shapes_are_refused_before_allocating(
    tmp_path, load, key, shape
):
    members = {"images": NOISE, "labels": np.arange(10) % 2}
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name, array in members.items():
            file = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                file,
                {
                    "descr": array.dtype.str,
                    "fortran_order": False,
                    "shape": shape if name == key else array.shape,
                },
            )
            archive.writestr(f"{name}.npy", file.getvalue() + array.tobytes())
    with pytest.raises(InputError, match=f"`{key}` must have as many values"):
        load(tmp_path / "x.npz")


def test_images_beyond_the_limit_are_refused(make_npz, load):
    images = np.broadcast_to(np.uint8(0), (2, 1, 64_000_001))
    path = make_npz(images=images, labels=np.array([0, 1]))
    with pytest.raises(InputError, match="at most 64 megapixels.*1x64000001"):
        load(path)


def test_labels_beyond_the_limit_are_refused(make_npz, load, monkeypatch):
    monkeypatch.setattr(npz, "_MAX_LABEL_BYTES", 79)
    with pytest.raises(InputError, match="`labels` must have at most 79 bytes"):
        load(make_npz())


def test_fortran_order_must_fit_into_the_memory(make_npz, load, monkeypatch):
    monkeypatch.setattr("gdd_keras.memory.total_memory", lambda: 100)
    path = make_npz(images=np.asfortranarray(NOISE))
    with pytest.raises(InputError, match="Fortran order.*ascontiguousarray"):
        load(path)
