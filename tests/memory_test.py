import ctypes

import numpy as np
import psutil
import pytest

from gdd_keras import memory
from gdd_keras.config import InputError
from gdd_keras.memory import check_memory
from gdd_keras.memory import check_stored_set
from gdd_keras.memory import release_free_memory
from gdd_keras.memory import total_memory


@pytest.mark.parametrize(
    ("content", "limit"), [("5000\n", 5000), ("max\n", None)]
)
def test_a_container_may_have_less(monkeypatch, tmp_path, content, limit):
    machine = memory.psutil.virtual_memory().total
    (tmp_path / "limit").write_text(content)
    names = (str(tmp_path / "limit"), str(tmp_path / "absent"))
    monkeypatch.setattr(memory, "_CONTAINER_LIMITS", names)
    assert total_memory() == (limit or machine)


def test_what_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda: 2 * 2**30)
    check_memory(2 * 2**30, "Toys", "Lower `toys`.")
    with pytest.raises(
        InputError,
        match=r"^Toys must fit into the memory, 2.0 GB here. Received: 3.0 GB "
        "or more. Lower `toys`.$",
    ):
        check_memory(3 * 2**30, "Toys", "Lower `toys`.")


def test_a_stored_set_is_counted_in_bytes(monkeypatch):
    monkeypatch.setattr(memory, "total_memory", lambda: 7 * 3 * 8 * 9)
    check_stored_set(7, (8, 9, 1), 3)
    with pytest.raises(InputError, match=r"ipc=8 of 3 classes.*`--ipc`"):
        check_stored_set(8, (8, 9, 1), 3)


def test_free_pages_between_blocks_in_use_go_back_to_the_system():
    process = psutil.Process()
    # Small enough for the heap, 256 MB in all; the last one ends the heap.
    blocks = [np.ones(8_000) for _ in range(4_000)]
    del blocks[:-1]
    before = process.memory_info().rss
    release_free_memory()
    assert before - process.memory_info().rss > 128 * 2**20
    assert blocks[0].sum() == 8_000


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_other_c_libraries_are_left_alone(error, monkeypatch):
    asked = []

    def library(name):
        asked.append(name)
        raise error

    monkeypatch.setattr(ctypes, "CDLL", library)
    release_free_memory()
    assert asked == [None]
