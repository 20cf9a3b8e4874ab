import argparse
import os
import signal

import pytest

from gdd_keras.cli import add_config_flags
from gdd_keras.cli import given_settings
from gdd_keras.cli import run_command
from gdd_keras.config import InputError
from gdd_keras.config import RunError
from gdd_keras.config import section_fields


def parse(arguments, sections=None, lists=()):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_config_flags(parser, sections, lists)
    return given_settings(parser.parse_args(arguments))


def run(action, argv=(), capsys=None):
    code = run_command("toy", "A toy.", lambda parser: None, action, argv)
    return code, capsys.readouterr()


def test_flags_that_are_not_given_leave_nothing():
    assert parse([]) == {}


def test_given_flags_become_settings():
    settings = parse(
        [
            *("--dataset", "digits", "--image-size", "40x24"),
            *("--pool", "convnet3", "resnet10", "--omega-l=0.5"),
            *("--no-class-balance", "--time-budget", "2"),
        ]
    )
    assert settings == {
        "dataset": "digits",
        "image_size": (40, 24),
        "pool": ("convnet3", "resnet10"),
        "omega_l": 0.5,
        "class_balance": False,
        "time_budget": 2.0,
    }


def test_none_unsets_what_a_config_file_may_set(capsys):
    flags = ["--time-budget", "none", "--image-size", "None"]
    assert parse(flags) == {"time_budget": None, "image_size": None}
    # A folder may be called so.
    assert parse(["--data-dir", "none"]) == {"data_dir": "none"}
    with pytest.raises(SystemExit):
        parse(["--image-size", "32x"])
    assert "invalid number or HEIGHTxWIDTH value: '32x'" in (
        capsys.readouterr().err
    )


def test_every_field_has_a_flag_with_its_default():
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_config_flags(parser)
    actions = {
        action.dest: action
        for group in parser._action_groups
        for action in group._group_actions
    }
    for _, _, field, _ in section_fields():
        action = actions[field.name]
        assert f"--{field.name.replace('_', '-')}" in action.option_strings
        if isinstance(field.default, int | float | str):
            assert action.help.endswith(f"Default: {field.default}.")
    # Percent signs of help texts must survive argparse.
    assert "--omega-g" in parser.format_help()


def test_sections_can_be_chosen():
    assert parse(["--ipc", "3"], ["evaluation"]) == {"ipc": 3}
    with pytest.raises(SystemExit):
        parse(["--omega-g", "3"], ["evaluation"])


def test_flags_can_take_lists():
    lists = ("ipc", "network")
    assert parse(["--ipc", "3", "1"], lists=lists) == {"ipc": (3, 1)}
    assert parse(["--ipc", "3"], lists=lists) == {"ipc": (3,)}
    arguments = ["--network", "a", "b:c", "--num-seeds", "2"]
    assert parse(arguments, lists=lists) == {
        "network": ("a", "b:c"),
        "num_seeds": 2,
    }
    for wrong in (["--ipc"], ["--ipc", "3", "x"], ["--num-seeds", "2", "3"]):
        with pytest.raises(SystemExit):
            parse(wrong, lists=lists)
    # Elsewhere the same fields take one value.
    with pytest.raises(SystemExit):
        parse(["--ipc", "3", "1"])


def test_other_attributes_are_no_settings():
    assert given_settings(argparse.Namespace(seed=3, quiet=True)) == {"seed": 3}


def test_success(capsys):
    code, printed = run(lambda arguments: print("hello"), (), capsys)
    assert (code, printed.out, printed.err) == (0, "hello\n", "")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("Wrong."), 2, "error: Wrong.\n"),
        (RunError("Broken."), 1, "\nfailed: Broken.\n"),
        (
            KeyboardInterrupt(),
            130,
            "\ninterrupted; nothing is left half written.\n",
        ),
    ],
)
def test_expected_failures_are_one_line(error, code, message, capsys):
    def action(arguments):
        raise error

    assert run(action, (), capsys) == (code, ("", message))


def test_interruption_says_what_the_command_says(capsys):
    def action(arguments):
        raise KeyboardInterrupt

    run_command("toy", "A.", lambda _: None, action, [], "type it again")
    assert capsys.readouterr().err == "\ninterrupted; type it again.\n"


@pytest.mark.parametrize("wrapped", [False, True])
def test_termination(wrapped, capsys):
    def action(arguments):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as error:
            if not wrapped:
                raise
            # As TensorFlow does where it calls Python.
            raise RuntimeError("wrapped") from error

    told = ("", "\nterminated; nothing is left half written.\n")
    assert run(action, (), capsys) == (143, told)


def test_bugs_are_not_hidden(capsys):
    def action(arguments):
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        run(action, (), capsys)


@pytest.mark.parametrize("argv", [["--walk"], ["--hel"], ["word"]])
def test_wrong_flags_exit_2_without_running(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        run_command("toy", "A toy.", lambda parser: None, pytest.fail, argv)
    assert stop.value.code == 2
    assert "python -m gdd_keras.toy" in capsys.readouterr().err


def test_help_keeps_the_lines_of_the_description(capsys):
    with pytest.raises(SystemExit) as stop:
        run_command("toy", "One.\n\n  two", lambda parser: None, None, ["-h"])
    assert stop.value.code == 0
    assert "One.\n\n  two" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "`--some-path` must be text, not empty and without NUL"),
        ("a\0b", "`--some-path` must be text, not empty and without NUL"),
        ("\ud800", "`--some-path` must be Unicode text"),
        ("x" * 256, "`--some-path` must have at most 255 bytes between"),
        ("xy/" * 2000, "4095 in all. Received: 6000 bytes"),
    ],
)
def test_text_that_can_be_no_path_is_refused(text, message, capsys):
    for nargs, argv in ((None, f"--some-path={text}"), ("+", "--some-path")):

        def add_flag(parser, nargs=nargs):
            parser.add_argument("--some-path", nargs=nargs)

        argv = [argv] if nargs is None else [argv, "fine", text]
        assert run_command("toy", "A.", add_flag, pytest.fail, argv) == 2
        assert message in capsys.readouterr().err


def test_paths_that_are_no_unicode_are_taken(capsys):
    def add_flag(parser):
        parser.add_argument("--path")

    argv = ["--path", "caf\udce9"]
    assert run_command("toy", "A.", add_flag, lambda _: None, argv) == 0
