import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gdd_keras.config import InputError


def grey(value=0, shape=(8, 10)):
    return np.full(shape, value, np.uint8)


def colour(value=0, shape=(8, 10)):
    return np.full((*shape, 3), value, np.uint8)


def two_classes(prefix="", **extra):
    files = {
        f"{prefix}{name}/{i}.png": grey(10 * i + j)
        for j, name in enumerate(("cat", "dog"))
        for i in range(4)
    }
    return {**files, **extra}


def png_header(width, height):
    """A PNG that claims a size and holds no pixels."""
    fields = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = b"IHDR" + fields
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 0)
        + b"IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


def test_real_colour_images(shared_dir, load):
    folder = shared_dir / "image_folders" / "cifar10_subset"
    dataset = load(folder)
    assert dataset.name == "cifar10_subset"
    assert dataset.image_shape == (32, 32, 3)
    assert dataset.class_names[:3] == ("airplane", "automobile", "bird")
    assert dataset.class_counts == {
        "train": (450,) * 10,
        "validation": (50,) * 10,
        "test": (200,) * 10,
    }
    assert dataset.augmentation == "color_crop"
    first = sorted((folder / "test" / "airplane").iterdir())[0]
    np.testing.assert_array_equal(
        dataset.test.images[0], np.asarray(Image.open(first))
    )
    scaled = dataset.train.images / 127.5 - 1
    np.testing.assert_allclose(dataset.mean, scaled.mean((0, 1, 2)))
    np.testing.assert_allclose(dataset.std, scaled.std((0, 1, 2)))


@pytest.mark.parametrize("prefix", ["", "train/"])
def test_both_layouts(make_folder, load, prefix):
    files = two_classes(prefix)
    files[f"{prefix}cat/notes.txt"] = b"not an image"
    files[f"{prefix}.hidden/x.png"] = grey()
    files["README.png"] = grey()
    dataset = load(make_folder(files))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.image_shape == (8, 10, 1)
    assert dataset.test is None
    np.testing.assert_array_equal(
        dataset.train.images[:, 0, 0, 0] % 10, dataset.train.labels
    )


@pytest.mark.parametrize("others", [("val",), ("valid", "val")])
def test_a_validation_folder_is_the_test_part(make_folder, load, others):
    files = two_classes("train/")
    for value, folder in enumerate(others, 200):
        files |= {f"{folder}/cat/1.png": grey(value)}
    dataset = load(make_folder(files))
    assert dataset.test.images.ravel().tolist() == 80 * [200]
    assert (
        load(make_folder(files | {"test/dog/1.png": grey(7)})).test.images.max()
        == 7
    )


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_other_formats(make_folder, load, suffix):
    folder = make_folder(two_classes())
    before = load(folder)
    for file in list(folder.glob("*/*.png")):
        image = Image.open(file)
        image.save(file.with_suffix(f".{suffix}"), lossless=True)
        file.unlink()
    after = load(folder)
    count = len(before.train) + len(before.validation)
    assert len(after.train) + len(after.validation) == count
    np.testing.assert_array_equal(
        after.train.images.max(-1), before.train.images.max(-1)
    )


def test_size_of_most_training_images_wins_and_image_size_overrides(
    make_folder, load
):
    tests = {f"test/cat/{i}.png": grey(i, (40, 30)) for i in range(20)}
    files = two_classes("train/", **{"train/cat/big.png": grey(5, (30, 20))})
    folder = make_folder({**files, **tests})
    dataset = load(folder)
    assert dataset.image_shape == (8, 10, 1)
    assert len(dataset.train) + len(dataset.validation) == 9
    assert load(folder, image_size=(16, 12)).image_shape == (16, 12, 1)


def test_images_of_many_sizes_need_one(make_folder, load):
    sizes = {f"cat/{i}.png": grey(i, (20, 10 + i)) for i in range(9)}
    folder = make_folder(two_classes(**sizes))
    with pytest.raises(InputError, match="`image_size` must be given for im"):
        load(folder)
    assert load(folder, image_size=(16, 12)).image_shape == (16, 12, 1)


def test_photographs_stand_as_the_camera_was_held(make_folder, load):
    """Top row white, stored lying on its side."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = make_folder({f"{name}/0.png": colour(9) for name in "ab"})
    for name in "ab":
        (folder / name / "0.png").unlink()
        for i, suffix in enumerate(("jpg", "jfif", "jpe")):
            Image.fromarray(pixels).save(
                folder / name / f"{i}.{suffix}", "JPEG", quality=95, exif=exif
            )
    images = load(folder).train.images
    assert images.shape[1:] == (16, 8, 3)
    assert len(images) > 2
    assert images[:, 0].min() > 200 and images[:, 8:].max() < 40


def test_transparent_pixels_are_white(make_folder, load):
    """Once an icon, whose shape is in alpha alone, was black all over."""
    for mode, black in (("RGBA", (0, 0, 0)), ("LA", (0,))):
        folder = make_folder(two_classes())
        for file in folder.glob("*/*.png"):
            icon = Image.new(mode, (10, 8), (*black, 0))
            icon.paste((*black, 255), (0, 0, 5, 8))
            icon.save(file)
        images = load(folder).train.images
        assert images.shape[-1] == len(black)
        assert (images[:, :, :5] == 0).all() and (images[:, :, 5:] == 255).all()


def test_images_below_a_class_folder_are_not_missed(make_folder, load):
    folder = make_folder(two_classes(**{"cat/more/1.png": grey()}))
    with pytest.raises(InputError, match="of their class itself. .*cat/more"):
        load(folder)


def test_modes_become_grey_or_colour(make_folder, load):
    folder = make_folder({"a/1.png": colour(9), "b/1.jpg": colour(9)})
    palette = Image.new("P", (10, 8), 1)
    palette.putpalette([0, 0, 0, 9, 9, 9])
    palette.save(folder / "a" / "palette.png", transparency=b"\x00\xff")
    Image.new("RGBA", (10, 8), (9, 9, 9, 255)).save(folder / "b" / "alpha.png")
    Image.new("CMYK", (10, 8), (246, 246, 246, 0)).save(folder / "b" / "c.jpg")
    images = load(folder).train.images
    assert images.shape[1:] == (8, 10, 3)
    np.testing.assert_allclose(images, 9, atol=2)  # JPEG is lossy


def test_sixteen_bit_grey_keeps_its_range(make_folder, load):
    folder = make_folder(two_classes())
    deep = np.full((8, 10), 0x8080, np.uint16)
    for name in ("cat/5.png", "cat/6.png", "cat/7.png"):
        Image.fromarray(deep).save(folder / name)
    assert 0x80 in load(folder).train.images


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": b"x"}, r"one folder of images per class.*with no such"),
        ({"cat/1.png": grey()}, r"two or more.*with 1 such folder"),
        (two_classes(**{"owl/x.txt": b""}), r"must hold images.*owl"),
        (
            two_classes(**{"dog/bad.png": b"no image"}),
            r"must be readable.*dog/bad\.png",
        ),
        (
            two_classes(**{"dog/rgb.png": colour()}),
            r"same number of channels.*cat/0\.png.*dog/rgb\.png",
        ),
        (
            two_classes("train/", **{"test/owl/1.png": grey()}),
            r"Classes of test/ must also be in train/.*test/owl",
        ),
        (
            two_classes("train/", **{"test/x.txt": b""}),
            r"test/ must hold test/<class>/",
        ),
        ({"test/cat/1.png": grey()}, r"train/<class>/ beside its test/"),
        (
            two_classes("train/", **{"val/owl/1.png": grey()}),
            r"Classes of val/ must also be in train/.*val/owl",
        ),
        (
            two_classes(**{"dog/5.TIF": b""}),
            r"\.png, \.webp\. Rece.*dog/5\.TIF",
        ),
        (
            two_classes(**{"dog/huge.png": png_header(9000, 9000)}),
            r"at most 64 megapixels.*dog/huge\.png: 9000x9000",
        ),
        (
            two_classes(**{"dog/bomb.png": png_header(60000, 60000)}),
            r"at most 64 megapixels.*dog/bomb\.png",
        ),
        (
            {"a/1.png": grey(0, (7, 8)), "b/1.png": grey(0, (7, 8))},
            r"8 to 1024 pixels.*7x8.*--image-size",
        ),
        (
            {"a/1.png": grey(), "b/1.png": grey()},
            r"two or more training images.*one image per class",
        ),
    ],
)
def test_bad_folders_are_named(make_folder, load, files, message):
    with pytest.raises(InputError, match=message):
        load(make_folder(files))


def test_truncated_image_is_named(make_folder, load):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    folder = make_folder({"a/1.png": noise, "a/2.png": noise, "b/1.png": noise})
    content = (folder / "a/2.png").read_bytes()
    (folder / "a/2.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"must be readable.*a/2\.png"):
        load(folder)


def test_links_inside_the_folder_are_followed(make_folder, load):
    folder = make_folder(two_classes("train/"))
    (folder / "train/cat/link.png").symlink_to("0.png")
    (folder / "train/cat/again.png").symlink_to(folder / "train/cat/link.png")
    dataset = load(folder)
    assert len(dataset.train) + len(dataset.validation) == 10


@pytest.mark.parametrize("link", ["train/cat/9.png", "train/owl", "test"])
def test_links_that_leave_the_folder_are_named(make_folder, load, link):
    outside = make_folder(two_classes(), "outside")
    folder = make_folder(two_classes("train/"))
    target = {"9.png": "cat/0.png", "owl": "cat", "test": "."}
    (folder / link).symlink_to(outside / target[link.split("/")[-1]])
    with pytest.raises(
        InputError, match=rf"must stay inside it.*/{link}, a li"
    ):
        load(folder)


def test_what_is_no_plain_file_is_named(make_folder, load):
    folder = make_folder(two_classes())
    for name, reason in (
        ("pipe.png", "no plain file"),
        ("loop.png", "Too many levels"),
        ("dangling.png", "No such file"),
        ("folder.png", "no plain file"),
    ):
        path = folder / "cat" / name
        if name == "pipe.png":
            os.mkfifo(path)
        elif name == "folder.png":
            path.mkdir()
        else:
            path.symlink_to(name if name == "loop.png" else "none.png")
        with pytest.raises(InputError, match=rf"cat/{name}: {reason}"):
            load(folder)
        path.rmdir() if name == "folder.png" else path.unlink()


def test_a_format_that_starts_a_program_is_refused(make_folder, load):
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n"
    folder = make_folder(two_classes(**{"cat/9.png": postscript}))
    with pytest.raises(InputError, match="must be readable.*cat/9.png"):
        load(folder)


@pytest.mark.parametrize("name", ["a\nb", "\udcff"])
def test_class_names_that_no_export_takes_are_refused(make_folder, load, name):
    folder = make_folder(two_classes())
    (folder / "cat").rename(folder / name)
    with pytest.raises(InputError, match="`class_names` must hold non-empty"):
        load(folder)
