import pytest

from gdd_keras.config import InputError
from gdd_keras.config import TuningConfig
from gdd_keras.config import make_config
from gdd_keras.tuning.space import DEFAULT_VALUES
from gdd_keras.tuning.space import LISTS
from gdd_keras.tuning.space import num_trials
from gdd_keras.tuning.space import search_space

BASE = make_config("tiny")


def test_both_weights_unless_one_value_fixes_them():
    space = search_space(BASE, {})
    assert list(space) == ["omega_g", "omega_l"]
    assert space["omega_l"] == DEFAULT_VALUES["omega_l"]
    assert 0.0 in space["omega_g"] and 0.0 in space["omega_l"]
    space = search_space(BASE, {"omega_g": (0.01,)})
    assert list(space) == ["omega_l"]


def test_given_values_keep_their_order_and_count_once():
    space = search_space(
        BASE,
        {"omega_l": (0.1, 0.0, 0.1), "pool_train_steps": (0, 4)},
        ["local_layer"],
    )
    assert space == {
        "omega_g": DEFAULT_VALUES["omega_g"],
        "omega_l": (0.1, 0.0),
        "local_layer": ("block_1", "block_2", "block_3"),
        "pool_train_steps": (0, 4),
    }


@pytest.mark.parametrize("latents", ["encoded", "normal"])
def test_values_lie_around_the_default(latents):
    base = make_config(latents=latents)
    for name, values in search_space(base, {}).items():
        default = getattr(base.matching, name)
        assert min(value for value in values if value > 0) < default / 5
        assert max(values) >= 2 * default


def test_every_default_value_is_a_valid_setting():
    for name, values in DEFAULT_VALUES.items():
        assert search_space(BASE, {}, [name])[name] == values
    assert set(DEFAULT_VALUES) - set(LISTS) == {"local_layer"}


@pytest.mark.parametrize(
    ("lists", "also", "message"),
    [
        ({"omega_l": (0.1, -1.0)}, (), r"`omega_l` must be a number >= 0.*-1"),
        ({"omega_g": (0.0,), "omega_l": (0.1,)}, (), "something to search"),
        (
            {"pool_train_steps": (2,)},
            ["pool_train_steps"],
            "`--search pool_train_steps` needs values.*Received: "
            "--pool-train-steps 2.*two or more",
        ),
    ],
)
def test_what_cannot_be_searched(lists, also, message):
    with pytest.raises(InputError, match=message):
        search_space(BASE, lists, also)


def test_number_of_trials():
    space = {"omega_g": (0.0, 0.1, 1.0), "omega_l": tuple(range(6))}
    for tuner, expected in (
        ("random", 12),
        ("bayesian", 12),
        ("grid", 18),
        ("hyperband", 23),
    ):
        assert num_trials(TuningConfig(tuner=tuner), space) == expected
    small = {"omega_l": (0.0, 0.1)}
    assert num_trials(TuningConfig(), small) == 2
    with pytest.raises(InputError, match="17 or more.*Received: 2.*grid"):
        num_trials(TuningConfig(tuner="hyperband"), small)
