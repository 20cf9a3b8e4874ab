import csv
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import psutil
import pytest

from gdd_keras import tune
from gdd_keras.config import config_from_json
from gdd_keras.tuning.space import DEFAULT_VALUES

# The least of everything, on real digits.
SMALL = [
    *("--dataset", "digits", "--preset", "tiny", "--cgan-steps", "4"),
    *("--trial-networks", "2", "--trial-ipc", "1", "--trial-epochs", "4"),
    *("--pool", "networks_of_a_user:narrow", "--local-layer", "inner"),
    *("--network", "networks_of_a_user:wide"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--workers", "0"],
            "`--workers` must be an integer >= 1. Received: --workers=0",
        ),
        (["--time-budget", "5"], "`--time-budget` has no meaning in a search"),
        (["--distill-steps", "0"], "`distill_steps` must be an integer >= 1"),
        (["--max-trials", "0"], "`max_trials` must be an integer >= 1"),
        (["--omega-l", "0", "-1"], "`omega_l` must be a number >= 0"),
        (["--omega-l", "0", "--omega-g", "0"], "something to search"),
        (
            ["--tuner", "hyperband", "--omega-g", "0"],
            "`--tuner hyperband` needs 17 or more combinations. Received: 8",
        ),
        (
            ["--config", "none.json"],
            "`--config` must be a file that can be",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_loads(
    arguments, message, folder, capsys, monkeypatch
):
    monkeypatch.setattr(tune, "quiet_import", None)
    assert tune.main(arguments) == 2
    assert message in capsys.readouterr().err
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("given", ["ORACLE_IP", "TUNER_ID"])
def test_half_an_address(given, folder, capsys, monkeypatch):
    monkeypatch.setenv(f"KERASTUNER_{given}", "chief")
    assert tune.main([]) == 2
    error = capsys.readouterr().err
    assert "needs all of" in error and "no KERASTUNER_ORACLE_PORT" in error
    assert list(folder.iterdir()) == []


def test_help_names_every_searchable_setting(capsys):
    with pytest.raises(SystemExit):
        tune.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for name in DEFAULT_VALUES:
        assert name in text
    assert "--trial-repeats" in text and "--cgan-steps" in text


@pytest.fixture
def start(own_networks):
    """Function that starts the command in a process, as a user does."""
    processes = []

    def start(arguments, **environment):
        processes.append(_start(own_networks, arguments, environment))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def _start(own_networks, arguments, environment):
    module = importlib.import_module(own_networks)
    paths = [pathlib.Path(tune.__file__).parents[1]]
    paths.append(pathlib.Path(module.__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-m", "gdd_keras.tune", *SMALL, *arguments],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process, code=0):
    output, _ = process.communicate(timeout=600)
    assert process.returncode == code, output
    return output


def rows():
    with open("runs/digits-search/trials.csv", newline="") as file:
        return list(csv.DictReader(file))


def wait_for(condition, process):
    for _ in range(6000):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("nothing happened for ten minutes")


@pytest.mark.slow
def test_search_survives_the_end_of_its_chief(
    folder, start, monkeypatch, capsys
):
    arguments = [
        *("--workers", "2", "--tuner", "grid", "--omega-g", "0.01"),
        *("--omega-l", "0", "0.1"),
        # The second of these lets training diverge.
        *("--distill-learning-rate", "1e-4", "1e30"),
    ]
    process = start(arguments)
    search = folder / "runs" / "digits-search"
    wait_for(lambda: any(search.glob("trial_*/result.json")), process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # Nobody is left to write into trials that others will take up.
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
    # A trial that ended after its state was last saved is done again.
    state = json.loads((search / "oracle.json").read_text())
    before = {
        file: file.read_bytes()
        for file in (
            search / f"trial_{number}" / "result.json"
            for number in state["end_order"]
        )
    }

    output = finish(start(arguments))
    assert "done: 4 trials, 2 of them failed" in output, output
    assert "stage 1" not in output.split("trial ")[0]
    assert "Traceback" not in output and "Warning" not in output
    # What had ended was left alone, the rest was done.
    assert before == {file: file.read_bytes() for file in before}
    table = rows()
    tried = {(r["omega_l"], r["distill_learning_rate"]) for r in table}
    assert len(tried) == len(table) == 4
    for row in table:
        failed = row["distill_learning_rate"] == "1e+30"
        assert row["status"] == ("FAILED" if failed else "COMPLETED")
        assert ("became" in row["failure"]) == failed
    best = config_from_json((search / "best_config.json").read_text())
    assert best.matching.distill_learning_rate == 1e-4
    assert (search / "omega_l.png").read_bytes().startswith(b"\x89PNG")

    # Once more: nothing is left to do, so that no process is started.
    monkeypatch.setattr("gdd_keras.tuning.search.Workers.run_trials", None)
    assert tune.main([*SMALL, *arguments]) == 0
    output = capsys.readouterr().out
    assert " of 4: " not in output and "done: 4 trials" in output
    # Its best config is one that `distill` takes.
    from gdd_keras import distill

    code = distill.main(
        [
            *("--config", str(search / "best_config.json"), "--num-seeds", "0"),
            *("--stage-1-from", str(search / "stage_1"), "--quiet"),
        ]
    )
    assert code == 0
    assert (folder / "saved_models" / "digits" / "1").is_dir()


@pytest.mark.slow
def test_chief_and_worker_of_two_machines(folder, start):
    from gdd_keras.tuning.workers import local_address

    address = local_address()
    arguments = ["--omega-g", "0.01", "--max-trials", "1"]
    chief = start(arguments, **address, KERASTUNER_TUNER_ID="chief")
    worker = start(arguments, **address, KERASTUNER_TUNER_ID="other")
    output = finish(worker)
    assert "trial 1 of 1" in output
    output = finish(chief)
    assert "waiting for workers" in output and "done: 1 trials" in output
    assert [row["status"] for row in rows()] == ["COMPLETED"]


@pytest.mark.slow
def test_wrong_setting_stops_a_search_at_once(folder, start):
    output = finish(start(["--search", "local_layer"]), 2)
    assert "error: " in output and "block_1" in output
    assert "Traceback" not in output
