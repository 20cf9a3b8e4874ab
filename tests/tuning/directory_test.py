import json

import pytest

from gdd_keras.config import InputError
from gdd_keras.config import TuningConfig
from gdd_keras.config import make_config
from gdd_keras.run_directory import RunDirectory
from gdd_keras.tuning.directory import is_search
from gdd_keras.tuning.directory import open_search
from gdd_keras.tuning.directory import read_search

CONFIG = make_config("tiny")
DONE = {"cgan": {"done": True, "steps": 8, "first_step": 0, "seconds": 1.0}}
SPACE = {"omega_l": (0.0, 0.1), "local_layer": ("block_1", "block_2")}


def opened(tmp_path, config=CONFIG, space=SPACE, tuning=None, **arguments):
    arguments.setdefault("parent", tmp_path)
    tuning = tuning or TuningConfig()
    return open_search(config, tuning, space, "toy", **arguments)


def test_settings_come_back(tmp_path):
    search = opened(tmp_path)
    assert search.path == tmp_path / "toy-search"
    assert is_search(search.path) and not is_search(tmp_path)
    assert read_search(search.path) == search
    assert search.trial("03") == search.path / "trial_03"


def test_equal_settings_find_their_search_and_others_get_a_number(tmp_path):
    opened(tmp_path)
    other = opened(tmp_path, config=make_config("tiny", seed=1))
    assert other.path.name == "toy-search-2"
    assert opened(tmp_path).path.name == "toy-search"
    assert opened(tmp_path, fresh=True).path.name == "toy-search-3"
    # More trials are the same search, gone on.
    more = TuningConfig(max_trials=40)
    assert opened(tmp_path, tuning=more).path.name == "toy-search-3"
    assert read_search(tmp_path / "toy-search-3").tuning == more
    turned = dict(reversed(SPACE.items()))
    assert opened(tmp_path, space=turned).path.name == "toy-search-4"


def test_damaged_search_is_passed_over(tmp_path):
    file = opened(tmp_path).path / "search.json"
    file.write_text("{")
    assert opened(tmp_path).path.name == "toy-search-2"
    with pytest.raises(InputError, match=r"search.json must be the settings"):
        read_search(file.parent)
    file.write_text(json.dumps({"kind": "gdd_keras.search", "format": 9}))
    with pytest.raises(InputError, match="another kind or format"):
        read_search(file.parent)


def test_given_folder(tmp_path):
    folder = tmp_path / "mine"
    assert opened(tmp_path, search_dir=folder).path == folder
    assert opened(tmp_path, search_dir=folder).path == folder
    with pytest.raises(InputError, match="`--fresh` needs a new folder"):
        opened(tmp_path, search_dir=folder, fresh=True)
    with pytest.raises(InputError, match="differs in trial_ipc, seed, the v"):
        opened(
            tmp_path,
            make_config("tiny", seed=1),
            {"omega_l": (0.0, 0.2)},
            TuningConfig(trial_ipc=3),
            search_dir=folder,
        )
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("")
    with pytest.raises(InputError, match="holds something else"):
        opened(tmp_path, search_dir=tmp_path / "other")


def test_folder_that_another_machine_is_setting_up(tmp_path):
    folder = tmp_path / "toy-search"
    folder.mkdir()
    (folder / ".writing-search.json").write_text("")
    assert opened(tmp_path).path == folder
    assert opened(tmp_path, search_dir=folder).path == folder
    (tmp_path / "toy-search-2").write_text("a file")
    changed = make_config("tiny", seed=1)
    assert opened(tmp_path, changed).path.name == "toy-search-3"


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="must be one that can be made"):
        opened(tmp_path, search_dir=tmp_path / "file" / "search")


def test_one_process_at_a_time(tmp_path):
    search = opened(tmp_path)
    with search.locked():
        with pytest.raises(InputError, match="must not be running already"):
            with search.locked():
                pass
    with search.locked():
        pass


def test_searches_from_another_stage_1_are_other_searches(tmp_path):
    search = opened(tmp_path)
    run = RunDirectory(search.stage_1, CONFIG)
    run.save(stages=DONE)
    # Its own stage 1, and not that of a run.
    assert opened(tmp_path).path == search.path
    run.save(stage_1_from=str(tmp_path / "a"))
    other = opened(tmp_path)
    assert other.path.name == "toy-search-2"
    assert opened(tmp_path, any_stage_1=True).path == other.path
    with pytest.raises(
        InputError, match="stage 1 from, .*a. Received: .*b, fo"
    ):
        opened(
            tmp_path,
            search_dir=search.path,
            stage_1_from=tmp_path / "b",
        )
