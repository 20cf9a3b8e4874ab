import concurrent.futures
import itertools
import json

import keras_tuner
import pytest
from keras_tuner.engine.trial import Trial
from keras_tuner.src.distribute.oracle_chief import exit_chief

from gdd_keras.config import TuningConfig
from gdd_keras.config import make_config
from gdd_keras.files import write_json
from gdd_keras.tuning import trials
from gdd_keras.tuning.directory import open_search
from gdd_keras.tuning.outcome import read_trials
from gdd_keras.tuning.search import make_tuner
from gdd_keras.tuning.search import run_trials

SPACE = {
    "omega_g": (0.0, 0.01, 0.1, 1.0),
    "omega_l": (0.0, 0.001, 0.01, 0.1, 1.0),
}
# KerasTuner calls threads by names that Python has given up.
THREADS = pytest.mark.filterwarnings(
    "ignore:.* is deprecated:DeprecationWarning"
)


def accuracy(point):
    """Best at omega_g = 0.1, omega_l = 0.01."""
    values = zip(SPACE.values(), point[:2], strict=True)
    return 0.9 - 0.1 * sum(abs(axis.index(v) - 2) for axis, v in values)


@pytest.fixture
def pretend(monkeypatch):
    """Replaces training; lists the trials that were trained.

    The keyword `interrupt_at` stops the search like `kill -9` within the
    trial of that number.
    """

    def replace(interrupt_at=None):
        fitted = []

        def fit(self, hp, config, trial_id, epochs=None):
            if len(fitted) == interrupt_at:
                raise KeyboardInterrupt
            point = config.matching.omega_g, config.matching.omega_l
            fitted.append((*point, trial_id, epochs))
            return [accuracy(point)]

        monkeypatch.setattr(trials.DistillationHyperModel, "fit", fit)
        return fitted

    return replace


def opened(tmp_path, tuner, space=SPACE, **tuning):
    tuning = TuningConfig(tuner=tuner, **tuning)
    # What is not searched has a value of `SPACE`, too.
    config = make_config("tiny", omega_g=0.1, omega_l=0.01)
    return open_search(config, tuning, space, "toy", tmp_path / "search")


@pytest.mark.parametrize(("tuner", "count"), [("random", 12), ("grid", 20)])
def test_every_trial_is_another_point(tuner, count, tmp_path, pretend):
    fitted = pretend()
    search = opened(tmp_path, tuner)
    run_trials(search, verbose=0)
    assert len(fitted) == len({point[:2] for point in fitted}) == count
    done = read_trials(search)
    assert [trial.status for trial in done] == ["COMPLETED"] * count
    assert [tuple(t.values.values()) for t in done] == [p[:2] for p in fitted]
    # Nothing is left to do.
    run_trials(search, verbose=0)
    assert len(fitted) == count


def test_random_values_that_are_all_taken(tmp_path, pretend, monkeypatch):
    # KerasTuner gives up after 21 of them, though others may be left.
    monkeypatch.setattr(
        keras_tuner.engine.oracle.Oracle, "_random_values", lambda self: None
    )
    fitted = pretend()
    run_trials(opened(tmp_path, "random"), verbose=0)
    assert len({point[:2] for point in fitted}) == len(fitted) == 12


def test_grid_goes_in_order(tmp_path, pretend):
    fitted = pretend()
    run_trials(opened(tmp_path, "grid"), verbose=0)
    assert [p[:2] for p in fitted] == list(itertools.product(*SPACE.values()))


def test_bayesian_finds_the_best_point(tmp_path, pretend):
    fitted = pretend()
    search = opened(tmp_path, "bayesian", max_trials=15)
    run_trials(search, verbose=0)
    assert len({point[:2] for point in fitted}) == len(fitted) == 15
    best = max(read_trials(search), key=lambda trial: trial.mean)
    assert best.values == {"omega_g": 0.1, "omega_l": 0.01}


def test_search_that_is_given_more_trials(tmp_path, pretend):
    fitted = pretend()
    run_trials(opened(tmp_path, "random", max_trials=5), verbose=0)
    search = opened(tmp_path, "random", max_trials=12)
    run_trials(search, verbose=0)
    assert len(fitted) == len({point[:2] for point in fitted}) == 12
    done = read_trials(search)
    assert [tuple(t.values.values()) for t in done] == [p[:2] for p in fitted]


def test_a_space_smaller_than_the_search(tmp_path, pretend):
    fitted = pretend()
    space = {"omega_l": (0.0, 0.001)}
    run_trials(opened(tmp_path, "random", space), verbose=0)
    assert sorted(point[1] for point in fitted) == [0.0, 0.001]


def test_seeds_decide_what_is_tried(tmp_path, pretend):
    points = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fitted = pretend()
        config = make_config("tiny", seed=seed)
        search = open_search(
            config, TuningConfig(max_trials=4), SPACE, "toy", tmp_path / name
        )
        run_trials(search, verbose=0)
        points.append([point[:2] for point in fitted])
    assert points[0] == points[1] != points[2]


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband", "grid"])
def test_interrupted_search_goes_on(tuner, tmp_path, pretend):
    whole = pretend()
    run_trials(opened(tmp_path / "whole", tuner, max_trials=8), verbose=0)
    first = pretend(interrupt_at=7)
    search = opened(tmp_path, tuner, max_trials=8)
    with pytest.raises(KeyboardInterrupt):
        run_trials(search, verbose=0)
    assert len(read_trials(search)) == len(first) == 7
    second = pretend()
    run_trials(search, verbose=0)
    # The interrupted trial comes first, none twice, none is left out.
    assert second[0][2] == whole[7][2]
    if tuner == "bayesian":
        # Its own random state is not kept: other points, as many.
        assert len(first + second) == len(whole)
        assert len({p[:2] for p in first + second}) == len(whole)
    else:
        assert first + second == whole


def test_hyperband_continues_the_best(tmp_path, pretend):
    fitted = pretend()
    run_trials(opened(tmp_path, "hyperband"), verbose=0)
    rungs = [epochs for *_, epochs in fitted]
    assert {e: rungs.count(e) for e in (1, 3, 9)} == {1: 9, 3: 8, 9: 6}
    # Nine short trials; the three best of them go on in their own folders.
    short = sorted(fitted[:9], key=lambda p: -accuracy(p))
    longer = fitted[9:12]
    assert sorted(map(accuracy, longer)) == sorted(map(accuracy, short[:3]))
    assert {p[2] for p in longer} < {p[2] for p in fitted[:9]}
    assert len({p[2] for p in fitted}) == 17


@pytest.mark.parametrize(
    ("tuner", "space", "stride"),
    [
        ("random", SPACE, 1),
        ("grid", {"omega_l": (0.0, 0.01, 1.0)}, 1),
        # It has many trials; the fifth write is another one each time.
        ("hyperband", SPACE, 11),
    ],
)
def test_kill_before_any_write(
    tuner, space, stride, tmp_path, pretend, monkeypatch
):
    """Whichever of KerasTuner's files was the last, none is left out."""
    whole = pretend()
    run_trials(opened(tmp_path / "whole", tuner, space, max_trials=3), 0)
    for number in itertools.count(step=stride):
        writes = iter(range(number))

        def write(*arguments, writes=writes):
            if next(writes, None) is None:
                raise KeyboardInterrupt
            write_json(*arguments)

        search = opened(tmp_path / str(number), tuner, space, max_trials=3)
        first = pretend()
        with monkeypatch.context() as patch:
            patch.setattr("gdd_keras.tuning.oracles.write_json", write)
            try:
                run_trials(search, verbose=0)
            except KeyboardInterrupt:
                interrupted = True
            else:
                interrupted = False
        ended = _ended(search)
        second = pretend()
        run_trials(search, verbose=0)
        # What had ended is not done again; what had not, in its turn.
        assert first[: len(ended)] + second == whole
        assert {t.status for t in read_trials(search)} == {"COMPLETED"}
        if not interrupted:
            break
    # Begin and end of a trial take several writes.
    assert number > 3 * len(whole) and second == []


def _ended(search):
    file = search.path / "oracle.json"
    return json.loads(file.read_text())["end_order"] if file.exists() else []


def test_files_are_written_aside(tmp_path, pretend, monkeypatch):
    pretend()
    search = opened(tmp_path, "random", max_trials=1)
    tuner = make_tuner(search, verbose=0)
    tuner.save()
    before = (search.path / "oracle.json").read_text()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("gdd_keras.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        tuner.save()
    assert (search.path / "oracle.json").read_text() == before


def proposed(tmp_path, *workers):
    """Returns the oracle of a search, and a trial for each worker."""
    search = opened(tmp_path, "random", max_trials=len(workers))
    oracle = make_tuner(search, verbose=0).oracle
    return oracle, [oracle.create_trial(name) for name in workers]


def end(oracle, trial, status="COMPLETED"):
    oracle.update_trial(trial.trial_id, {"accuracy": 0.5})
    trial.status = status
    oracle.end_trial(trial)


@THREADS
@pytest.mark.parametrize(
    "request_of", ["create_trial", "update_trial", "end_trial", "take_back"]
)
def test_a_failed_request_locks_no_other_out(request_of, tmp_path, monkeypatch):
    """KerasTuner's lock would stay taken, and the search never end."""
    oracle, (trial,) = proposed(tmp_path, "a-0")
    trial.status = "FAILED"
    oracle.max_trials = 3
    arguments = {
        "create_trial": ("b-0",),
        "update_trial": (trial.trial_id, {"accuracy": 0.5}),
        "end_trial": (trial,),
        "take_back": ("a-0",),
    }

    def fail(*_):
        raise OSError(28, "No space left on device")

    def other_thread(function, *arguments):
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            return executor.submit(function, *arguments).result(30.0)

    with monkeypatch.context() as patch:
        patch.setattr("gdd_keras.tuning.oracles.write_json", fail)
        with pytest.raises(OSError, match="No space"):
            other_thread(getattr(oracle, request_of), *arguments[request_of])
    assert [error.errno for error in oracle.failures] == [28]
    # Both ask for the lock.
    assert other_thread(exit_chief, oracle) in (False, True)
    assert oracle.create_trial("c-0").trial_id in oracle.start_order


@THREADS
def test_trial_of_a_worker_that_is_gone(tmp_path):
    oracle, (lost, kept) = proposed(tmp_path, "a-0", "b-0")
    assert oracle.take_back("a-0") == lost.trial_id
    assert oracle.take_back("never-came") is None
    assert oracle.tuner_ids == {"b-0"}
    assert oracle._retry_queue == [lost.trial_id]
    # A chief that is started anew knows it, too, but not who has the other.
    search = opened(tmp_path, "random", max_trials=2)
    anew = make_tuner(search, verbose=0).oracle
    assert anew._retry_queue == [kept.trial_id, lost.trial_id]
    end(oracle, kept)
    again = oracle.create_trial("b-0")
    assert again.trial_id == lost.trial_id
    assert again.hyperparameters.values == lost.hyperparameters.values
    end(oracle, again)
    assert oracle.create_trial("b-0").status == "STOPPED"
    assert exit_chief(oracle)


@THREADS
@pytest.mark.parametrize("first", ["old", "new"])
def test_trial_that_two_workers_had(first, tmp_path):
    """The one that was taken for gone is back, before or after the other."""
    oracle, (lost,) = proposed(tmp_path, "old")
    oracle.take_back("old")
    if first == "new":
        oracle.create_trial("new")
    # Each has a copy, as gRPC makes them.
    one, other = (Trial.from_state(lost.get_state()) for _ in range(2))
    end(oracle, one)
    # No third one gets it.
    assert oracle.create_trial("new").status == "STOPPED"
    end(oracle, other, "FAILED")
    assert oracle.end_order == [lost.trial_id]
    assert oracle.trials[lost.trial_id].status == "COMPLETED"
    assert exit_chief(oracle)
