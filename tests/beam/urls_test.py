import pathlib

import pytest
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystem import FileSystem

from gdd_keras.beam import make_pipeline
from gdd_keras.beam import read_model
from gdd_keras.beam import sets
from gdd_keras.beam import write_with_beam
from gdd_keras.beam.urls import UrlSet
from gdd_keras.beam.urls import local_version
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.distilled_sets import write_distilled_set
from gdd_keras.generator_api import load_generator
from gdd_keras.quiet import quiet_logs
from gdd_keras.quiet import quiet_warnings


class StoreFileSystem(FileSystem):
    """An object store: names and contents, no directories, no replacing."""

    objects = {}
    renamed = []

    @classmethod
    def scheme(cls):
        return "store"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        raise AssertionError("object stores have none")

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        for name, content in self.objects.items():
            if name.startswith(dir_or_prefix):
                yield FileMetadata(name, len(content), 0.0)

    def create(self, path, mime_type=None, compression_type=None):
        import io

        class Upload(io.BytesIO):
            def close(upload):
                # An object is there when its upload has ended.
                if not upload.closed:
                    self.objects[path] = upload.getvalue()
                super().close()

        return Upload()

    def open(self, path, mime_type=None, compression_type=None):
        import io

        return io.BytesIO(self.objects[path])

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        for old, new in zip(
            source_file_names, destination_file_names, strict=True
        ):
            if new in self.objects:
                raise BeamIOError(f"{new} exists")
            self.objects[new] = self.objects.pop(old)
            self.renamed.append(new)

    def exists(self, path):
        return path in self.objects

    def size(self, path):
        return len(self.objects[path])

    def last_updated(self, path):
        return 0.0

    def checksum(self, path):
        return ""

    def metadata(self, path):
        return FileMetadata(path, self.size(path), 0.0)

    def delete(self, paths):
        for path in paths:
            del self.objects[path]


@pytest.fixture(autouse=True)
def quiet_beam():
    with quiet_logs(), quiet_warnings():
        yield


@pytest.fixture
def objects(monkeypatch):
    monkeypatch.setattr(StoreFileSystem, "objects", {})
    monkeypatch.setattr(StoreFileSystem, "renamed", [])
    return StoreFileSystem.objects


@pytest.fixture
def model_at_url(objects, tiny_saved_model):
    """URL of a folder with the versions 1 and, nearly empty, 0."""
    for path in tiny_saved_model.rglob("*"):
        if path.is_file():
            name = path.relative_to(tiny_saved_model)
            objects[f"store://b/tiny/10/{name}"] = path.read_bytes()
    objects["store://b/tiny/9/saved_model.pb"] = b"old"
    return "store://b/tiny"


def write(model, directory, **options):
    return write_with_beam(
        make_pipeline("DirectRunner", []), model, directory, 7, **options
    )


def below(objects, url):
    return {
        name.removeprefix(f"{url}/"): content
        for name, content in objects.items()
        if name.startswith(f"{url}/")
    }


@pytest.mark.parametrize("set_format", ["tfds", "tfrecord"])
def test_model_and_set_at_urls(
    objects, model_at_url, tiny_saved_model, tmp_path, set_format
):
    written = write(
        model_at_url, "store://b/set/", set_format=set_format, num_shards=3
    )
    generator = load_generator(tiny_saved_model)
    write_distilled_set(
        generator, tmp_path / "one", 7, set_format, num_shards=3
    )
    own = {
        path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()
    }
    own["distilled_set.json"] = own["distilled_set.json"].replace(
        str(tiny_saved_model).encode(), b"store://b/tiny/10"
    )
    assert below(objects, "store://b/set") == own
    assert written.path == "store://b/set"
    assert written.num_bytes == sum(map(len, own.values()))
    assert "store://b/set" in written.snippet
    # What says that the set is complete comes last.
    last = "dataset_info" if set_format == "tfds" else "distilled_set"
    assert StoreFileSystem.renamed[-1] == f"store://b/set/{last}.json"
    assert below(objects, "store://b/.partial-set") == {}


def test_model_at_url_and_local_set(model_at_url, tmp_path):
    version, metadata = read_model(model_at_url)
    assert version == "store://b/tiny/10"
    assert metadata["num_classes"] == 3
    write(version, tmp_path / "set")
    assert (tmp_path / "set" / "dataset_info.json").exists()


def test_copy_of_a_model_does_not_stay(model_at_url):
    with local_version(f"{model_at_url}/10") as local:
        assert (local / "variables" / "variables.index").exists()
    assert not local.exists()


def test_failed_run_goes_on(objects, tiny_saved_model, monkeypatch):
    real = sets.write_stored_shard
    written = []

    def fail_once(generator, plan, storage, shard):
        if len(written) == 2:
            with storage.new_shard(plan.names[shard]) as path:
                path.write_bytes(b"ha")
                raise OSError("the network is gone")
        real(generator, plan, storage, shard)
        written.append(shard)

    monkeypatch.setattr(sets, "write_stored_shard", fail_once)
    with pytest.raises(RunError, match="ended with the network is gone"):
        write(tiny_saved_model, "store://b/set", num_shards=4)
    assert len(below(objects, "store://b/set")) == 2
    objects["store://b/.partial-set/writing-of-a-dead-worker"] = b"ha"

    def note(generator, plan, storage, shard):
        real(generator, plan, storage, shard)
        written.append(shard)

    monkeypatch.setattr(sets, "write_stored_shard", note)
    write(tiny_saved_model, "store://b/set", num_shards=4)
    assert sorted(written) == [0, 1, 2, 3]
    assert below(objects, "store://b/.partial-set") == {}


def test_other_set_starts_over(objects):
    first = UrlSet("store://b/set", "first")
    first.open()
    with first.new_shard("distilled-0") as path:
        path.write_text("first")
    objects["store://b/set/features.json"] = b"first"
    second = UrlSet("store://b/set", "second")
    second.open()
    assert below(objects, "store://b/set") == {}
    # A worker of the first command that still runs can do no harm.
    with pytest.raises(RunError, match="another command has begun"):
        with first.new_shard("distilled-1") as path:
            path.write_text("first")
    assert below(objects, "store://b/set") == {}
    assert below(objects, "store://b/.partial-set") == {"second": b""}


def test_retry_keeps_the_shard(objects):
    made = UrlSet("store://b/set", "id")
    made.open()
    for _ in range(2):
        with made.new_shard("distilled-0") as path:
            path.write_text("same")
    assert below(objects, "store://b/set") == {"distilled-0": b"same"}
    assert below(objects, "store://b/.partial-set") == {"id": b""}


def test_full_url_is_refused(objects, tiny_saved_model):
    objects["store://b/set/mine"] = b""
    with pytest.raises(InputError, match="must be new or empty"):
        write(tiny_saved_model, "store://b/set")
    assert list(objects) == ["store://b/set/mine"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("store://b/nothing", "nothing, which holds no SavedModel"),
        ("gs://b/model", "Beam can list. Received: gs://b/model"),
    ],
)
def test_bad_model(objects, tmp_path, model, message):
    with pytest.raises(InputError, match=message):
        write(model, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_file_system_with_directories(tmp_path):
    # Beam's own for local paths; a URL of it has no scheme.
    made = UrlSet(str(tmp_path / "set"), "id")
    made.open()
    with made.new_shard("distilled-0") as path:
        path.write_text("four")
    num_bytes = made.finish(
        lambda folder: (folder / "features.json").write_text("five!")
    )
    assert num_bytes == 9
    assert [path.name for path in pathlib.Path(tmp_path).iterdir()] == ["set"]
