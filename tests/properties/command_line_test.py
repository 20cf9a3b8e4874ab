"""Every command line either runs or is refused by the name of its argument."""

import argparse
import importlib

import hypothesis
import pytest
from hypothesis import strategies as st

COMMANDS = {
    "gdd_keras.distill": "--config {world}/config.json",
    "gdd_keras.refit": "--run {world}/finished",
    "gdd_keras.generate": "--model {world}/model --output out --ipc 2",
    "gdd_keras.evaluate": (
        "--model {world}/model --dataset {world}/set.npz --num-seeds 1"
    ),
    "gdd_keras.tune": "--config {world}/config.json",
    "gdd_keras.report": "{world}/results --output out",
    "gdd_keras.convert": "--model {world}/model --to saved_model --output out",
    "pipelines.local_runner": (
        "--dataset {world}/set.npz --preset tiny --pool convnet3"
    ),
}

NUMBERS = st.one_of(
    st.sampled_from(
        ["0", "1", "-1", "2", "", "x", "1.5", "8x8", "8x", "10000000x8", "0x1"]
    ),
    st.sampled_from(["nan", "inf", "-inf", "1e308", "1e39", "-1e39"]),
    st.sampled_from(["1" + n * "0" for n in (3, 6, 9, 12, 30, 5000)]),
    st.integers().map(str),
    st.floats().map(repr),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", " ", ".", "..", "../x", "new/../x", "/", "~", "a\nb", "a\0b"]
    ),
    st.sampled_from(["/dev/null", "/dev/zero", "/proc/self/mem", "/none/x"]),
    st.sampled_from(["\ud800", "\udcff", "ü" * 150, "x" * 5000, "d/" * 3000]),
    st.sampled_from(["{world}/set.npz", "{world}/set.npz/x", "{world}/model"]),
    st.sampled_from(["{world}/model/1", "{world}/results", "{world}/run"]),
    st.sampled_from(["os:getcwd", "os.:x", ":", "block_9", "a=b", "<b>", "²"]),
    st.text(max_size=12),
)


def flags_of(module):
    """Returns the flags that a command's parser knows."""
    parser = argparse.ArgumentParser()
    module._add_arguments(parser)
    return [
        action
        for action in parser._actions
        if action.option_strings and action.dest != "help"
    ]


def values(action):
    """Returns a strategy of lists of values for a flag."""
    one = TEXTS if action.type in (None, str) else NUMBERS
    if action.choices is not None:
        one = st.sampled_from(list(action.choices)) | TEXTS
    if action.nargs == 0:
        return st.just([])
    if action.nargs == "+":
        return st.lists(one, max_size=3)
    return one.map(lambda value: [value])


@st.composite
def flags(draw, module):
    """Draws some flags, as `(name, dest, words)`."""
    actions = draw(
        st.lists(
            st.sampled_from(flags_of(module)),
            min_size=1,
            max_size=3,
            unique_by=lambda action: action.dest,
        )
    )
    chosen = []
    for action in actions:
        name = draw(st.sampled_from(action.option_strings))
        words = draw(values(action))
        # One word after `=` may begin with a dash.
        joined = [f"{name}={words[0]}"] if len(words) == 1 else [name, *words]
        chosen.append((name, action.dest, joined))
    return chosen


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_or_names_its_argument(
    name, world, fresh, answer, reached, monkeypatch
):
    module = importlib.import_module(name)
    monkeypatch.setenv("HOME", str(world))

    @hypothesis.given(flags(module))
    def check(chosen):
        words = COMMANDS[name].split()
        for _, _, more in chosen:
            words += more
        words = [word.replace("{world}", str(world)) for word in words]
        with fresh() as folder:
            code, text = answer(module.main, words, folder)
        assert code in (0, 2), (code, text)
        if code == 2:
            # What looks like a flag and is none is named itself.
            names = [dest for _, dest, _ in chosen]
            names += [w for _, _, more in chosen for w in more if w[:1] == "-"]
            # Above it argparse lists all flags.
            message = text.rpartition("error: ")[2]
            message = message.replace("-", "_")
            assert any(n.replace("-", "_") in message for n in names), text

    check()
