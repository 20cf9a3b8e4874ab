import os

import pytest

from gdd_keras import schema
from gdd_keras.config import InputError
from gdd_keras.schema import Place
from gdd_keras.schema import read_object
from gdd_keras.schema import read_text


def test_a_file_without_an_end_is_not_read_to_it(monkeypatch):
    monkeypatch.setattr(schema, "_MAX_CHARACTERS", 1000)
    with pytest.raises(InputError, match="`--config` must have at most 1,000"):
        read_text("/dev/zero", "`--config`")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(InputError, match="state.json must be a file. Rec.*Go!"):
        read_object(tmp_path / "state.json", "Go!")


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_without_a_value(tmp_path, number):
    (tmp_path / "a.json").write_text(f'{{"a": [{number}]}}')
    with pytest.raises(
        InputError, match=f"{number}, which is no finite number"
    ):
        read_object(tmp_path / "a.json")


def test_an_integer_beyond_all_floats_is_no_float():
    place = Place({"a": 10**400}, "file", advice="Try another.")
    with pytest.raises(InputError, match="`a` must be a finite.*Try another."):
        place.get("a", float)
    assert place.get("a", int) == 10**400
    assert place.get("b", float, 0.5) == 0.5
