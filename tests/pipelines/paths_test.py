import pathlib

import pytest

from gdd_keras.config import InputError
from pipelines.paths import local_path
from pipelines.paths import shown


def test_uri_becomes_a_path():
    assert local_path("/a/b") == pathlib.Path("/a/b")
    assert local_path("gs://bucket/a") == pathlib.Path("/gcs/bucket/a")
    with pytest.raises(InputError, match="Received: hdfs://a/b"):
        local_path("hdfs://a/b")


def test_paths_below_the_working_folder_are_said_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(shown(tmp_path / "a" / "b")) == "a/b"
    assert str(shown("/elsewhere/b")) == "/elsewhere/b"
