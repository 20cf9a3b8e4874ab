"""Every folder and every archive of images loads, or is refused by its name."""

import io
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
import zlib

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from gdd_keras.config import DataConfig
from gdd_keras.config import InputError
from gdd_keras.data import load_dataset


def encoded(mode="L", size=(8, 8), kind="png", frames=1, value=7):
    """Returns the bytes of an image file."""
    image = Image.new(mode, size)
    if mode in ("L", "RGB", "P"):
        image.paste(value % 256, (0, 0, 4, 4))
    file = io.BytesIO()
    more = {"save_all": True, "append_images": [image] * 2}
    image.save(file, kind, **(more if frames > 1 else {}))
    return file.getvalue()


def png_header(width, height):
    """Returns a PNG that claims a size and holds no pixels."""
    content = b"\x89PNG\r\n\x1a\n"
    fields = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    for name, body in ((b"IHDR", fields), (b"IDAT", b"")):
        crc = zlib.crc32(name + body)
        content += struct.pack(">I", len(body)) + name + body
        content += struct.pack(">I", crc)
    return content


GOOD = st.integers(0, 255).map(lambda value: encoded(value=value))
ODD = st.one_of(
    st.sampled_from(
        [(m, k) for m in ("RGB", "L") for k in ("jpeg", "bmp")]
    ).map(lambda pair: encoded(pair[0], kind=pair[1])),
    st.sampled_from(["1", "P", "LA", "RGBA", "I;16"]).map(encoded),
    st.just(encoded("CMYK", kind="jpeg")),
    st.sampled_from(["gif", "png", "webp"]).map(
        lambda kind: encoded("RGB", kind=kind, frames=3)
    ),
    st.tuples(st.integers(1, 40), st.integers(1, 40)).map(
        lambda size: encoded(size=size)
    ),
)
BAD = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda content, end: content[: int(end * len(content))],
        st.sampled_from([encoded(), encoded("RGB", (40, 40), "jpeg")]),
        st.floats(0.0, 1.0),
    ),
    st.builds(
        lambda old, at, byte: old[:at] + bytes([byte]) + old[at + 1 :],
        st.sampled_from([encoded(), encoded("P"), encoded("RGB", kind="jpeg")]),
        st.integers(0, 80),
        st.integers(0, 255),
    ),
    st.builds(png_header, st.integers(0, 2**31), st.integers(0, 2**31)),
    st.just(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"),
    # Links: inside, out of the folder, nowhere, round about; and a pipe.
    st.sampled_from(["0.png", "../../outside.png", "none.png", "loop", "pipe"]),
)
NAMES = st.one_of(
    st.integers(0, 3).map(lambda number: f"{number}.png"),
    st.sampled_from(
        ["é.png", "a\nb.png", "\udcff.png", ".hidden.png", "x.txt"]
    ),
    st.sampled_from(["y.JPG", "z.jpeg", "w.bmp"]),
)
CLASSES = st.sampled_from(
    ["cat", "dog", "é", ".hidden", "a\nb", "\udcff", " ", "<b>", "x" * 200]
)
TREES = st.dictionaries(
    CLASSES,
    st.dictionaries(NAMES, GOOD | GOOD | ODD | BAD, max_size=4),
    max_size=3,
)


def plant(folder, tree):
    """Writes a tree of files, links and pipes."""
    for label, files in tree.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            path = folder / label / name
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content == "pipe":
                os.mkfifo(path)
            else:
                target = name if content == "loop" else content
                path.symlink_to(target)


@hypothesis.given(
    tree=TREES,
    part=st.sampled_from(["", "train"]),
    sound=st.booleans(),
    sized=st.booleans(),
)
def test_a_folder_loads_or_names_what_is_wrong(tree, part, sound, sized, fresh):
    if sound:
        # Else random trees seldom have two whole classes.
        for label in ("cat", "dog"):
            known = tree.setdefault(label, {})
            known.update({f"{n}.png": encoded(value=n) for n in range(3)})
    with fresh() as folder:
        (folder / "outside.png").write_bytes(encoded())
        root = folder / "images"
        root.mkdir()
        plant(root / part, tree)
        config = DataConfig(
            dataset=str(root), image_size=(8, 8) if sized else None
        )
        try:
            dataset = load_dataset(config, 0)
        except InputError as error:
            assert "dataset" in str(error) or "image" in str(error)
            assert str(folder) in str(error)
            return
    assert dataset.num_classes >= 2
    assert dataset.train.images.dtype == np.uint8


@hypothesis.given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
@hypothesis.example(100_000, 100_000)
def test_claimed_sizes_are_refused_before_decoding(width, height):
    hypothesis.assume(width * height > 64 * 10**6)
    with tempfile.TemporaryDirectory() as folder:
        for label in ("a", "b"):
            os.mkdir(f"{folder}/{label}")
            with open(f"{folder}/{label}/1.png", "wb") as file:
                file.write(png_header(width, height))
        with pytest.raises(InputError, match="at most 64 megapixels.*1.png"):
            load_dataset(DataConfig(dataset=folder), 0)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


DTYPES = st.sampled_from(
    ["u1", "u1", "u1", "f4", ">f8", "f2", "i8", ">i4", "?", "c8", "U3", "S2"]
)
SHAPES = st.one_of(
    st.just((12, 8, 8)),
    st.just((12, 8, 8)),
    st.sampled_from([(12, 8, 8, 1), (12, 8, 9, 3), (12, 8, 8, 4), (0, 8, 8)]),
    st.lists(st.integers(0, 12), max_size=5).map(tuple),
)


@st.composite
def arrays(draw):
    """Draws an array of any kind, in any order."""
    shape, dtype = draw(SHAPES), np.dtype(draw(DTYPES))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    top = draw(st.sampled_from([1, 1, 2, 256]))
    if dtype.kind == "f" and top == 1:
        values = rng.random(shape)
    else:
        values = rng.integers(-(top == 2), top + 1, shape)
    values = values.astype(dtype)
    if dtype.kind == "f" and draw(st.booleans()) and values.size:
        values.flat[0] = draw(st.sampled_from([np.nan, np.inf, -1.0, 0.5]))
    return np.asfortranarray(values) if draw(st.booleans()) else values


LABELS = st.one_of(
    st.lists(st.integers(-2, 3), min_size=12, max_size=12).map(np.array),
    st.lists(
        st.sampled_from(["a", "b", "a\nb", "", "\0", "é"]),
        min_size=12,
        max_size=12,
    ).map(np.array),
    st.sampled_from([np.uint64(2**64 - 1), np.int64(-(2**63)), np.True_]).map(
        lambda value: np.array([value] * 11 + [0], type(value))
    ),
    arrays(),
)


def npy(array, **claims):
    """Returns the bytes of an .npy file, with another header if asked for."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    if not claims:
        return file.getvalue()
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {
            "descr": array.dtype.str,
            "fortran_order": False,
            "shape": array.shape,
            **claims,
        },
    )
    return header.getvalue() + array.tobytes()


@st.composite
def archives(draw, payload):
    """Draws the bytes of an archive: whole, odd, cut or wrong."""
    images = draw(arrays() | st.just(np.zeros((12, 8, 8), np.uint8)))
    members = {"images": npy(images), "labels": npy(draw(LABELS))}
    if draw(st.booleans()):
        members["class_names"] = npy(draw(LABELS))
    if draw(st.booleans()):
        members["test_images"] = npy(draw(arrays()))
    if draw(st.booleans()):
        members["test_labels"] = npy(draw(LABELS))
    wrong = draw(st.sampled_from(["", "", "gone", "huge", "pickle", "noise"]))
    key = draw(st.sampled_from(list(members)))
    if wrong == "gone":
        del members[key]
    if wrong == "huge":
        shape = (draw(st.sampled_from([-1, 2**40, 2**62])), 8, 8)[
            : draw(st.integers(1, 3))
        ]
        members[key] = npy(images, shape=shape)
    if wrong == "pickle":
        objects = np.array([Payload(payload)] * 12, object)
        members[key] = draw(
            st.sampled_from([npy(objects), pickle.dumps(Payload(payload))])
        )
    if wrong == "noise":
        start = draw(st.integers(0, 130))
        noise = draw(st.binary(min_size=1, max_size=9))
        old = members[key]
        members[key] = old[:start] + noise + old[start + len(noise) :]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    content = file.getvalue()
    if draw(st.integers(0, 5)) == 0:
        content = content[: draw(st.integers(0, len(content)))]
    return content


def test_an_archive_loads_or_names_what_is_wrong(tmp_path):
    payload = tmp_path / "unpickled"
    path = tmp_path / "set.npz"

    @hypothesis.given(archives(payload))
    def check(content):
        path.write_bytes(content)
        try:
            dataset = load_dataset(DataConfig(dataset=str(path)), 0)
        except InputError as error:
            assert str(path) in str(error)
        else:
            assert dataset.num_classes >= 2
            assert dataset.train.labels.max() < dataset.num_classes
        assert not payload.exists()

    check()
    # The test could not fail if unpickling did nothing.
    pickle.loads(pickle.dumps(Payload(payload)))
    assert payload.exists()


def test_a_small_archive_of_many_zeros_is_refused(tmp_path, monkeypatch):
    """One that would fill memory and disk when it is unpacked."""
    zeros = bytes(2**20)
    with zipfile.ZipFile(
        tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED
    ) as archive:
        for key, shape in (("images", (2**16, 64, 64)), ("labels", (2**16,))):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header,
                {"descr": "|u1", "fortran_order": False, "shape": shape},
            )
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                file.write(header.getvalue())
                if key == "labels":
                    file.write(np.arange(2**16, dtype=np.int64).astype("u1"))
                else:
                    for _ in range(2**8):
                        file.write(zeros)
    assert (tmp_path / "bomb.npz").stat().st_size < 2**20
    config = DataConfig(
        dataset=str(tmp_path / "bomb.npz"),
        memory_limit_mb=1,
        cache_dir=str(tmp_path / "cache"),
    )
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(InputError, match="must fit on the disk.*0.2 GB"):
        load_dataset(config, 0)
    assert not (tmp_path / "cache").exists()
