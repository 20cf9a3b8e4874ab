"""How a search ends, whoever of chief and workers ends first."""

import os
import types

import grpc
import keras_tuner
import pytest
from keras_tuner.src.distribute.oracle_chief import exit_chief

from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import TuningConfig
from gdd_keras.config import make_config
from gdd_keras.files import take_lock
from gdd_keras.files import write_json
from gdd_keras.tuning import search as module
from gdd_keras.tuning import trials
from gdd_keras.tuning.chiefs import is_over
from gdd_keras.tuning.directory import open_search
from gdd_keras.tuning.search import join
from gdd_keras.tuning.search import make_tuner
from gdd_keras.tuning.search import run_search
from gdd_keras.tuning.search import run_trials
from gdd_keras.tuning.search import serve

# KerasTuner calls threads by names that Python has given up.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.* is deprecated:DeprecationWarning"
)
SPACE = {"omega_l": (0.0, 0.1, 0.2)}


class RequestFailed(grpc.RpcError):
    """As gRPC raises it."""

    def details(self):
        return "Deadline Exceeded"


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens a search whose stage 1 counts as done, and whose server is none.

    KerasTuner's would not go with those of other tests.
    """
    monkeypatch.setattr(module, "_search", lambda tuner: None)
    monkeypatch.setattr(module, "stage_1_is_done", lambda path: True)
    monkeypatch.setattr(module, "check_address", lambda: None)
    for name, value in (
        ("ORACLE_IP", "127.0.0.1"),
        ("ORACLE_PORT", "1"),
        ("TUNER_ID", "chief"),
    ):
        monkeypatch.setenv(f"KERASTUNER_{name}", value)

    def open_it(max_trials=1):
        tuning = TuningConfig(max_trials=max_trials)
        config = make_config("tiny", omega_g=0.1)
        return open_search(config, tuning, SPACE, "toy", tmp_path / "search")

    return open_it


@pytest.fixture
def oracles(monkeypatch):
    """Lists the oracles that were served."""
    made = []
    make = module.make_oracle

    def observed(*arguments):
        made.append(make(*arguments))
        return made[-1]

    monkeypatch.setattr(module, "make_oracle", observed)
    return made


@pytest.fixture
def seconds(monkeypatch):
    """Replaces waiting: a function of each second that passes."""

    def replace(function=lambda passed: None):
        now = types.SimpleNamespace(value=0.0)

        def sleep(duration):
            now.value += duration
            function(now.value)
            assert now.value < 4000.0, "waits for good"

        clock = types.SimpleNamespace(sleep=sleep, monotonic=lambda: now.value)
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr("gdd_keras.tuning.chiefs.time", clock)
        return now

    return replace


def run_trial(oracle, worker):
    """Is a worker: takes a trial and ends it."""
    trial = oracle.create_trial(worker)
    oracle.update_trial(trial.trial_id, {"accuracy": 0.5})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    return trial


def test_chief_waits_for_a_worker_that_is_late(opened, oracles, monkeypatch):
    """KerasTuner's would end, and the worker wait an hour for it."""
    may_exit = []

    def one_after_the_other(self, number, chief):
        (oracle,) = oracles
        run_trial(oracle, "worker-0")
        assert not chief.is_gone()
        for index in range(number):
            trial = oracle.create_trial(f"worker-{index}")
            assert trial.status == "STOPPED"
            may_exit.append(exit_chief(oracle))

    monkeypatch.setattr(module.Workers, "run_trials", one_after_the_other)
    search = opened()
    run_search(search, workers=2)
    assert may_exit == [False, False]
    assert exit_chief(oracles[0])
    # Nothing is left: no process is started, nor a server.
    run_search(search, workers=2)
    serve(search)
    assert len(oracles) == 1


def test_server_that_ends(opened, monkeypatch):
    def fail(tuner):
        raise OSError("port taken")

    def until_it_has(self, number, chief):
        while not chief.is_gone():
            pass

    monkeypatch.setattr(module, "_search", fail)
    monkeypatch.setattr(module.Workers, "run_trials", until_it_has)
    with pytest.raises(RunError, match="the chief ended: OSError.*port taken"):
        run_search(opened())


def test_chief_serves_until_all_were_told(opened, oracles, seconds, capsys):
    def passed(now):
        (oracle,) = oracles
        if now == 3.0:
            run_trial(oracle, "a-0")
        if now == 7.0:
            assert oracle.create_trial("a-0").status == "STOPPED"

    now = seconds(passed)
    search = opened()
    serve(search)
    assert now.value == 7.0
    assert is_over(search) and exit_chief(oracles[0])
    assert capsys.readouterr().out == "waiting for workers\n"


def test_chief_takes_the_trial_of_a_lost_worker_back(
    opened, oracles, seconds, capsys
):
    """The other gets it; the lost one is not waited for at the end."""
    told = []

    def passed(now):
        (oracle,) = oracles
        if now == 1.0:
            told.append(oracle.create_trial("lost-0").trial_id)
        if now < 400.0:
            (search.path / ".worker-other").touch()
            os.utime(search.path / ".worker-other", (now, now))
        if 1.0 <= now < 300.0:
            assert oracle.create_trial("other-0").status == "IDLE"
        if now == 400.0:
            told.append(run_trial(oracle, "other-0").trial_id)

    now = seconds(passed)
    search = opened()
    serve(search)
    assert told == ["0", "0"] and now.value == 460.0
    output = capsys.readouterr().out.splitlines()
    assert output[1:] == ["lost-0 is silent; trial 1 goes to another worker"]


def test_chief_that_cannot_save(opened, oracles, seconds, monkeypatch):
    def passed(now):
        with monkeypatch.context() as patch:
            patch.setattr("gdd_keras.tuning.oracles.write_json", fail)
            with pytest.raises(OSError):
                oracles[0].create_trial("a-0")

    def fail(path, value):
        raise OSError(28, "full", str(path))

    seconds(passed)
    with pytest.raises(RunError, match="No space left.*same command goes on"):
        serve(opened())


def test_address_is_checked_before_stage_1(opened, monkeypatch):
    def refuse():
        raise InputError("taken")

    monkeypatch.setattr(module, "check_address", refuse)
    monkeypatch.setattr(module, "stage_1_is_done", lambda path: False)
    monkeypatch.setattr(module.Workers, "train_stage_1", None)
    with pytest.raises(InputError, match="taken"):
        serve(opened())


def test_worker_waits_for_stage_1(opened, seconds, monkeypatch, capsys):
    """A request to a chief that trains it would fail after an hour."""
    joined = []
    now = seconds()
    monkeypatch.setattr(module, "stage_1_is_done", lambda _: now.value > 3600.0)
    monkeypatch.setattr(
        module.Workers,
        "run_trials",
        lambda self, number, chief, name: joined.append((number, name)),
    )
    search = opened()
    join(search, "a", workers=2)
    assert joined == [(2, "a")] and now.value == 3601.0
    output = capsys.readouterr().out
    assert output == f"waiting for stage 1 in {search.stage_1}\n"


def test_worker_that_comes_after_the_end(opened, monkeypatch, capsys):
    search = opened(max_trials=2)
    write_json(search.path / "oracle.json", {"end_order": ["0", "1"]})
    monkeypatch.setattr(module.Workers, "run_trials", None)
    join(search, "a")
    assert capsys.readouterr().out == "all trials have ended\n"


@pytest.mark.parametrize("request_of", ["create_trial", "update_trial"])
def test_worker_whose_chief_is_gone(request_of, opened, monkeypatch):
    """The trial is not the one that failed."""
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "a-0")
    monkeypatch.setattr(module, "_search", lambda tuner: tuner.search())
    ended = []

    def fail(*_, **__):
        raise RequestFailed

    client = "keras_tuner.src.distribute.oracle_client.OracleClient"
    hyperparameters = keras_tuner.HyperParameters()
    hyperparameters.Choice("omega_l", list(SPACE["omega_l"]))
    trial = keras_tuner.engine.trial.Trial(hyperparameters, "0", "RUNNING")
    replies = {
        "get_space": lambda _: hyperparameters,
        "update_space": lambda *_: None,
        "create_trial": lambda *_: trial,
        "get_trial": lambda *_: trial,
        "end_trial": lambda _, trial: ended.append(trial),
        request_of: fail,
    }
    for name, reply in replies.items():
        monkeypatch.setattr(f"{client}.{name}", reply)
    monkeypatch.setattr(trials.DistillationHyperModel, "fit", lambda *_: [0.5])
    with pytest.raises(RunError, match="chief failed: Deadline Exceeded"):
        run_trials(opened(), verbose=0)
    assert ended == []


def test_a_second_worker_of_a_trial_waits(opened, monkeypatch):
    """One still trains it while a chief that was started anew forgot."""
    search = opened()
    model = make_tuner(search, verbose=0).hypermodel
    file = search.trial("0") / ".lock"
    busy = InputError("busy")

    def fit_once(*_):
        with pytest.raises(InputError, match="^busy$"):
            take_lock(file, busy)
        return [0.5]

    monkeypatch.setattr(model, "_fit_once", fit_once)
    assert model.fit(None, search.config, "0") == [0.5]
    # The second one's turn.
    take_lock(file, busy).close()
