"""Image classification sets of TensorFlow Datasets."""

import contextlib
import dataclasses
import difflib
import functools
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
import warnings

import numpy as np

from gdd_keras.config import InputError
from gdd_keras.data.raw import CHUNK_BYTES
from gdd_keras.data.raw import RawData
from gdd_keras.data.raw import RawSplit
from gdd_keras.data.raw import files_identity
from gdd_keras.data.raw import safe_name
from gdd_keras.data.registry import preparation_for

__all__ = ["is_tfds_folder", "open_tfds", "open_tfds_folder"]

# name, name/config, either with :version
_NAME = re.compile(r"[A-Za-z]\w*(/[\w.+-]+)?(:\d+\.\d+\.\d+)?", re.ASCII)
# TFDS writes it beside the records of a version.
_INFO = "dataset_info.json"
_STORE = ("storage.googleapis.com", 443)
_PROBE_SECONDS = 4.0

# Run in a process of its own: nothing else can stop a download for certain.
_DOWNLOAD = """
import sys, warnings
warnings.simplefilter("ignore")
import tensorflow_datasets as tfds
name, data_dir = sys.argv[1:]
try:
    tfds.builder(name, data_dir=data_dir).download_and_prepare()
except Exception as error:
    text = str(error).strip() or "no message"
    print(f"{type(error).__name__}: {text.splitlines()[0]}")
    sys.exit(1)
"""


@dataclasses.dataclass(frozen=True)
class _Features:
    """Which features of a data set are the image and its class."""

    image_key: str
    label_key: str
    image_size: tuple[int, int] | None
    channels: int
    class_names: tuple[str, ...]


def open_tfds(name, data_dir=None, download_timeout=1800.0):
    """Opens a data set that TFDS knows, or that was prepared with it.

    Prepared data is used without network; else it is downloaded once. The
    test part is the split `test`, else `validation`, whichever has labels.

    Args:
        name: `name`, `name/config`, or either with `:version`.
        data_dir: Where prepared data lies; `None` takes $TFDS_DATA_DIR, then
            ~/tensorflow_datasets.
        download_timeout: Seconds that a download may take.

    Returns:
        `RawData`.

    Raises:
        InputError: If the name is unknown, the set has no image with one
            class, or its data is missing and cannot be fetched.
    """
    import tensorflow_datasets as tfds

    folder = _data_dir(data_dir)
    with _quiet():
        builder = _prepared(name, folder)
        if builder is None:
            _check_known(tfds, name, folder)
            _check_network(name, folder)
            _download(name, folder, download_timeout)
            builder = _prepared(name, folder)
        if builder is None:
            raise InputError(
                f"The TFDS data of {name!r} must be complete. Received: none "
                f"in {folder} after its download. Remove its folder there "
                "and try again."
            )
        info, path = builder.info, pathlib.Path(builder.data_path)
        return _raw_data(
            tfds,
            builder,
            name,
            safe_name(name.split(":")[0]),
            f"TFDS {info.full_name} in {folder}",
            files_identity(path, sorted(path.iterdir())),
        )


def is_tfds_folder(path):
    """Says whether a folder holds one data set as TFDS prepares it."""
    return (path / _INFO).is_file()


def open_tfds_folder(path):
    """Opens the files of one data set that was prepared with TFDS.

    This is the folder of one version, for instance `mnist/3.0.1`, or what
    `python -m gdd_keras.generate --format tfds` writes.

    Args:
        path: `pathlib.Path` of the folder; see `is_tfds_folder`.

    Returns:
        `RawData`, with the name that the data set gives itself.

    Raises:
        InputError: If its files are damaged, or hold no image with one class.
    """
    import tensorflow_datasets as tfds

    path = path.resolve()
    files = sorted(entry for entry in path.iterdir() if entry.is_file())
    with _quiet():
        try:
            builder = tfds.builder_from_directory(str(path))
            name = builder.name
        except Exception as error:
            raise _damaged(path.name, path.parent, error) from error
        return _raw_data(
            tfds,
            builder,
            name,
            safe_name(name),
            f"TFDS folder {path}",
            files_identity(path, files),
            # Ours to set, where data of another kind was written so.
            (builder.info.metadata or {}).get("cut_test", True),
        )


def _raw_data(tfds, builder, name, short_name, source, identity, cut_test=True):
    """Returns the `RawData` of a builder whose data is there."""
    features = _features(tfds, name, builder)
    splits = builder.info.splits
    if "train" not in splits:
        raise InputError(
            f"A TFDS data set must have a split `train`. Received: "
            f"{name!r} with {', '.join(splits) or 'none'}. Choose "
            "another data set."
        )

    def raw_split(split):
        return RawSplit(
            splits[split].num_examples,
            functools.partial(_read, tfds, builder, split, features),
        )

    candidates = [k for k in ("test", "validation") if k in splits]
    test_name = next(
        (k for k in candidates if _is_labelled(raw_split(k))), None
    )
    return RawData(
        name=short_name,
        source=source,
        identity=identity,
        image_size=features.image_size,
        channels=features.channels,
        class_names=features.class_names,
        train=raw_split("train"),
        test=None if test_name is None else raw_split(test_name),
        cut_test=cut_test,
        preparation=preparation_for(builder.name),
        tfds_directory=str(builder.data_path),
    )


def _data_dir(data_dir):
    """Returns where prepared data is looked for."""
    chosen = (
        data_dir
        or os.environ.get("TFDS_DATA_DIR")
        or os.path.join("~", "tensorflow_datasets")
    )
    return pathlib.Path(chosen).expanduser().resolve()


@contextlib.contextmanager
def _quiet():
    """Silences log lines and warnings that TFDS and absl give users."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


def _prepared(name, folder):
    """Returns the builder of prepared data, or `None`; needs no network."""
    from tensorflow_datasets.core import naming
    from tensorflow_datasets.core import read_only_builder
    from tensorflow_datasets.core import registered

    if not _NAME.fullmatch(name):
        return None
    base, options = naming.parse_builder_name_kwargs(name)
    try:
        return read_only_builder.builder_from_files(
            str(base), data_dir=folder, **options
        )
    except registered.DatasetNotFoundError:
        return None
    except Exception as error:
        raise _damaged(name, folder, error) from error


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _damaged(name, folder, error):
    return InputError(
        f"The TFDS data of {name!r} must be complete. Received: {folder}: "
        f"{_first_line(error)}. Remove its folder there and prepare it again."
    )


def _check_known(tfds, name, folder):
    """Refuses a name that TFDS does not have, or that holds no classes."""
    known = tfds.list_builders(with_community_datasets=False)
    base = re.split("[/:]", name)[0]
    if base not in known or not _NAME.fullmatch(name):
        near = difflib.get_close_matches(base, [*known, "digits"], 3)
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(
            "`dataset` must be `digits`, the name of a TFDS data set, or an "
            "existing folder or .npz file. Received the unknown data set "
            f"{name!r}: no such path, no such name in TFDS, and nothing "
            f"prepared in {folder}.{hint} Correct the name or the path."
        )
    try:
        builder = tfds.builder(name, data_dir=folder)
    except Exception as error:
        # TFDS puts the call before the reason.
        reason = _first_line(error).split('}": ')[-1]
        raise InputError(
            "`dataset` must be a data set that TFDS can build. Received: "
            f"{name!r}: {reason} Correct its config or version."
        ) from error
    _features(tfds, name, builder)


def _features(tfds, name, builder):
    """Finds the image and the class label, or raises `InputError`."""
    features = builder.info.features
    keys = builder.info.supervised_keys
    if not (
        isinstance(keys, tuple)
        and len(keys) == 2
        and all(isinstance(key, str) and key in features for key in keys)
    ):
        keys = [
            next(iter(found)) if len(found) == 1 else None
            for found in (
                [k for k, v in features.items() if isinstance(v, kind)]
                for kind in (tfds.features.Image, tfds.features.ClassLabel)
            )
        ]
    image = features[keys[0]] if keys[0] else None
    label = features[keys[1]] if keys[1] else None
    if not (
        isinstance(image, tfds.features.Image)
        and isinstance(label, tfds.features.ClassLabel)
        and image.np_dtype == np.uint8
        and image.shape[2] in (1, 3)
        and label.num_classes
    ):
        listed = ", ".join(
            f"{k} ({type(v).__name__})" for k, v in features.items()
        )
        raise InputError(
            "A TFDS data set must have one uint8 image of 1 or 3 channels "
            f"and one class label. Received: {name!r} with {listed}. Choose "
            "another data set."
        )
    size = tuple(image.shape[:2])
    return _Features(
        image_key=keys[0],
        label_key=keys[1],
        image_size=None if None in size else size,
        channels=image.shape[2],
        class_names=tuple(label.names),
    )


def _check_network(name, folder):
    """Raises `InputError` within seconds where downloads cannot work."""
    address = _STORE
    proxy = urllib.request.getproxies().get("https")
    if proxy:
        parsed = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
        address = (parsed.hostname, parsed.port or 3128)
    problem = ["no answer"]

    def connect():
        try:
            socket.create_connection(address, _PROBE_SECONDS).close()
            problem.clear()
        except OSError as error:
            problem[0] = str(error)

    # In a thread, because looking up a host name knows no time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_PROBE_SECONDS)
    if problem:
        raise InputError(
            f"The data of {name!r} must be prepared, or the network open. "
            f"Received: missing data and closed network; looked in {folder}, "
            f"then for {address[0]} ({problem[0]}). Name the folder of "
            "prepared data with `--data-dir` or $TFDS_DATA_DIR, or use "
            "`digits`, an image folder or an .npz file."
        )


def _download(name, folder, timeout):
    """Downloads and prepares a data set; its progress bars are shown."""
    command = [sys.executable, "-c", _DOWNLOAD, name, str(folder)]
    print(f"Downloading {name} to {folder} ...", file=sys.stderr)
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"The download of {name!r} must end within `download_timeout`. "
            f"Received: download_timeout={timeout:g} seconds, which passed. "
            "Raise it with `--download-timeout`, or prepare the data with "
            f"`tfds build {name} --data_dir={folder}`."
        ) from error
    if done.returncode:
        lines = done.stdout.strip().splitlines() or ["no message"]
        raise InputError(
            f"The data of {name!r} must be downloadable to {folder}. "
            f"Received: {lines[-1]} Prepare it by hand and name its folder "
            "with `--data-dir`, or choose another data set."
        )


def _is_labelled(split):
    """Whether a split can score: some published test sets hide labels."""
    if not split.num_images:
        return False
    _, labels = next(split.read(lambda images: images))
    return bool((labels >= 0).all())


def _read(tfds, builder, split, features, fit):
    """Yields fitted images and labels in the order of the files."""
    import tensorflow as tf

    # Images of different sizes cannot be batched before they are fitted.
    rows = 1
    if features.image_size is not None:
        pixels = np.prod(features.image_size) * features.channels
        rows = int(max(1, min(1024, CHUNK_BYTES // pixels)))
    with _quiet():
        if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
            batches = _batches_of_records(tf, builder, split, features, rows)
        else:
            batches = _batches_of_examples(tfds, builder, split, features, rows)
        iterator = iter(batches.as_numpy_iterator())
    while True:
        try:
            images, labels = next(iterator)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            place = builder.data_path
            if builder.info.file_format == tfds.core.FileFormat.TFRECORD:
                files = builder.info.splits[split].filepaths
                place = _broken_file(tf, files) or place
            raise _damaged(builder.info.full_name, place, error) from error
        yield fit(images), labels


def _broken_file(tf, files):
    """Returns the first file that is no whole TFRecord file, or `None`."""
    for file in files:
        records = tf.data.TFRecordDataset(str(file))
        try:
            records.reduce(np.int64(0), lambda count, _: count + 1)
        except tf.errors.OpError:
            return file
    return None


def _batches_of_records(tf, builder, split, features, rows):
    """Parses whole batches: a third of the time that TFDS takes."""
    size = features.image_size or (None, None)
    image_spec = tf.TensorSpec((*size, features.channels), tf.uint8)

    def decode(encoded):
        image = tf.io.decode_image(
            encoded, features.channels, expand_animations=False
        )
        return tf.ensure_shape(image, image_spec.shape)

    def parse(records):
        parsed = tf.io.parse_example(
            records,
            {
                features.image_key: tf.io.FixedLenFeature((), tf.string),
                features.label_key: tf.io.FixedLenFeature((), tf.int64),
            },
        )
        images = tf.map_fn(
            decode,
            parsed[features.image_key],
            fn_output_signature=image_spec,
        )
        return images, parsed[features.label_key]

    files = [str(path) for path in builder.info.splits[split].filepaths]
    records = tf.data.TFRecordDataset(files).batch(rows)
    return records.map(parse, tf.data.AUTOTUNE).prefetch(2)


def _batches_of_examples(tfds, builder, split, features, rows):
    """Lets TFDS read, whatever the format of the files is."""
    keys = (features.image_key, features.label_key)
    examples = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding(
            {key: builder.info.features[key] for key in keys}
        ),
        # One file after the other: a stable order. No cache: it would keep
        # every decoded image in memory.
        read_config=tfds.ReadConfig(
            try_autocache=False, interleave_cycle_length=1
        ),
    )
    batches = examples.batch(rows).prefetch(2)
    return batches.map(lambda batch: tuple(batch[key] for key in keys))
